"""PyTorch's ``.pth``: read without torch or running anything, written for ``torch.load``."""
