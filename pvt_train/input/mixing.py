"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019), and the targets that go with them.

One step's images are all mixed alike, each with its neighbour in the batch, so that the mixture
of an image is the same however many workers share the batch. Shares and boxes are drawn as in
timm (``timm/data/mixup.py``) and MindCV (``mindcv/data/mixup.py``), which mix image i with image
B - 1 - i.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from pvt_spec.arrays import Array
from pvt_train.input.decoding import Box
from pvt_train.recipe.keys import Recipe


@dataclass(frozen=True)
class Mix:
    """How the images of a step are mixed.

    Attributes:
        share: What an image keeps of itself, 0 to 1; the rest is its partner's. 1 is no mixing.
        box: CutMix: what the partner fills, whose area is the rest exactly. None: mixup.
    """

    share: float
    box: Box | None = None


def partners(count: int) -> Array:
    """Returns which image each is mixed with: its neighbour, and an odd last one with itself.

    Args:
        count: Number of images, B.

    Returns:
        int64 (B,): 1, 0, 3, 2, …
    """
    return np.minimum(np.arange(count, dtype=np.int64) ^ 1, count - 1)


def draw_mix(recipe: Recipe, size: tuple[int, int], rng: np.random.Generator) -> Mix:
    """Draws how one step's images are mixed.

    Args:
        recipe: ``mixup``, ``cutmix``, ``cutmix_prob`` and ``mixup_switch_prob``.
        size: (H, W) of the images.
        rng: The step's.
    """
    if not (recipe.mixup or recipe.cutmix) or rng.random() >= recipe.cutmix_prob:
        return Mix(1.0)
    both = recipe.mixup and recipe.cutmix
    if rng.random() < recipe.mixup_switch_prob if both else recipe.cutmix:
        box = cut_box(size, float(rng.beta(recipe.cutmix, recipe.cutmix)), rng)
        return Mix(1 - _area(box) / (size[0] * size[1]), box)
    return Mix(float(rng.beta(recipe.mixup, recipe.mixup)))


def cut_box(size: tuple[int, int], share: float, rng: np.random.Generator) -> Box:
    """Draws a box of the image's aspect and 1 - ``share`` of its area, cut off at the border.

    Its centre is uniform over the image's pixels; its sides are rounded down to even numbers.

    Args:
        size: (H, W).
        share: What it leaves, 0 to 1, before it is cut off.
        rng: The step's.
    """
    H, W = size
    half_h, half_w = (int(side * sqrt(1 - share) / 2) for side in size)
    y, x = int(rng.integers(H)), int(rng.integers(W))
    return max(x - half_w, 0), max(y - half_h, 0), min(x + half_w, W), min(y + half_h, H)


def apply(mix: Mix, pixels: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Mixes a batch, but for mixup's pixels, which the device mixes.

    Args:
        mix: How to mix.
        pixels: uint8 (B, H, W, C); CutMix changes them in place.
        targets: float32 (B, num_classes), each row summing to 1; not changed.

    Returns:
        The pixels; float32 (B, num_classes), the mixed targets; float32 (B,), the share that each
        normalised image still is to keep of itself.
    """
    others = partners(len(pixels))
    mixing = np.full(len(pixels), mix.share if mix.box is None else 1, np.float32)
    if mix.box is not None:
        left, top, right, bottom = mix.box
        pixels[:, top:bottom, left:right] = pixels[others, top:bottom, left:right]
    share = np.float32(mix.share)
    return pixels, share * targets + (1 - share) * targets[others], mixing


def smooth_labels(labels: Array, num_classes: int, smoothing: float) -> Array:
    """Returns targets: the label's class, ``smoothing`` of which is spread over all classes.

    Mixing them is the same as smoothing mixed labels, as MindCV does in its loss: both are
    linear. Source: Szegedy et al., CVPR 2016, section 7.

    Args:
        labels: int64 (B,).
        num_classes: The number of classes, C.
        smoothing: A share in [0, 1).

    Returns:
        float32 (B, C); each row sums to 1.
    """
    targets = np.full((len(labels), num_classes), smoothing / num_classes)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return targets.astype(np.float32)


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
