"""Training without a framework: what goes into a step, and what is done with what comes out."""
