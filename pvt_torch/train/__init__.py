"""Training in PyTorch: the step, the optimizers, precision and workers."""
