"""Training in MindSpore: the step, the optimizers, precision and workers."""
