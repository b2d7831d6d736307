"""Parameter groups, learning rates and loss scales, without a framework."""
