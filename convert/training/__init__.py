"""Training states: our own, and those that other programs have left."""
