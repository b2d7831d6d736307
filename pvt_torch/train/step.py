"""The step as modules that can be compiled and shared by workers: the loss of a batch, answers."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_spec import Preprocessing
from pvt_torch.model import PyramidVisionTransformer
from pvt_train.input.mixing import partners

Computing = Callable[[], AbstractContextManager[object]]
"""A function that returns what makes a block compute in the precision of a level."""


def preparation(preprocessing: Preprocessing) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns what becomes of pixels on the device: normalised, to the bit as
    :func:`pvt_data.images.preprocessing.normalise` does, and then mixed.

    Returns:
        (pixels uint8 (B, H, W, C), mixing float32 (B,)) -> images float32 (B, C, H, W).
    """
    mean, std = (torch.from_numpy(f(preprocessing).copy()) for f in (pixel_mean, pixel_std))

    def prepare(pixels: Tensor, mixing: Tensor) -> Tensor:
        device = pixels.device
        images = (pixels.float() - mean.to(device)) / std.to(device)
        images = images.permute(0, 3, 1, 2)
        share = mixing.reshape(-1, 1, 1, 1)
        others = images[torch.from_numpy(partners(len(pixels))).to(device)]
        return images * share + others * (1 - share)

    return prepare


class EvaluationStep(nn.Module):
    """The forward pass as a function of the images alone."""

    def __init__(self, model: PyramidVisionTransformer, computing: Computing):
        super().__init__()
        self.model, self.computing = model, computing

    def forward(self, images: Tensor) -> Tensor:
        """Maps images to logits, float32 (B, num_classes)."""
        with self.computing():
            logits: Tensor = self.model(images)
        return logits.float()


class LossStep(nn.Module):
    """What computes the loss of a batch; its backward pass, the gradients."""

    def __init__(
        self, model: PyramidVisionTransformer, preprocessing: Preprocessing, computing: Computing
    ):
        super().__init__()
        self.model, self.computing = model, computing
        self.prepare = preparation(preprocessing)

    def forward(
        self, pixels: Tensor, targets: Tensor, mixing: Tensor, drop_path: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns ``scale`` times the mean cross-entropy, float32, and it without.

        The first four are those of :class:`pvt_train.twin.Batch`, the last a float32 scalar.
        """
        images = self.prepare(pixels, mixing)
        with self.computing():
            logits = self.model(images, drop_path)
        loss = F.cross_entropy(logits.float(), targets)
        return loss * scale, loss.detach()
