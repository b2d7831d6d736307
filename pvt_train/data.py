"""Training images: a labelled folder to augmented, normalised batches with soft targets.

Every image of every epoch is a function of (seed, epoch, its number in the folder), whatever the
batch size. May import numpy, Pillow and pvt_spec.
"""

from collections.abc import Iterator
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
from PIL import Image

from pvt_spec import Preprocessing
from pvt_spec.arrays import Array
from pvt_spec.images import list_labelled, open_image, to_array
from pvt_train.randomness import Stream, epoch_order, generator
from pvt_train.recipe import Recipe

CROP_ATTEMPTS = 10
"""How often a crop is drawn before the centre is taken, as in torchvision and MindSpore."""


class TrainingImages:
    """The images of ``CLASS/*.png``, in their order.

    Attributes:
        paths: The image files.
        labels: int64 (N,): their classes.
        classes: Class names; the index is the label.
    """

    def __init__(self, folder: Path):
        """Lists the folder.

        Raises:
            ImageError: It is missing, holds no class folders, or a class holds no image.
        """
        samples, self.classes = list_labelled(folder)
        self.paths = [path for path, _ in samples]
        self.labels = np.array([label for _, label in samples], np.int64)

    def batch_size(self, recipe: Recipe) -> int:
        """Images per step: the recipe's, or all there are where they are fewer."""
        return min(recipe.batch_size, len(self.paths))

    def steps_per_epoch(self, recipe: Recipe) -> int:
        """Number of full batches; what remains is left out of the epoch."""
        return len(self.paths) // self.batch_size(recipe)

    def batches(
        self, epoch: int, recipe: Recipe, preprocessing: Preprocessing
    ) -> Iterator[tuple[Array, Array]]:
        """The full batches of one epoch, in that epoch's order.

        Args:
            epoch: From 0.
            recipe: Augmentation, label smoothing, batch size and seed.
            preprocessing: Image size and normalisation.

        Yields:
            Images float32 (B, C, H, W), normalised, and targets float32 (B, classes).

        Raises:
            ImageError: An image cannot be read.
        """
        size = self.batch_size(recipe)
        order = epoch_order(recipe.seed, epoch, len(self.paths))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            images = [self.augmented(int(i), epoch, recipe, preprocessing) for i in chosen]
            targets = smooth_labels(self.labels[chosen], len(self.classes), recipe.label_smoothing)
            yield np.stack(images), targets

    def augmented(
        self, index: int, epoch: int, recipe: Recipe, preprocessing: Preprocessing
    ) -> Array:
        """One image as training sees it in one epoch: float32 (C, H, W), normalised.

        Raises:
            ImageError: It cannot be read.
        """
        rng = generator(recipe.seed, Stream.AUGMENTATION, epoch, index)
        image = open_image(self.paths[index], len(preprocessing.mean))
        return to_array(augment(image, preprocessing.image_size, recipe, rng), preprocessing)


def smooth_labels(labels: Array, num_classes: int, smoothing: float) -> Array:
    """Targets of a cross-entropy: the label's class, ``smoothing`` of it spread over all classes.

    Source: Szegedy et al., CVPR 2016, section 7.

    Args:
        labels: int64 (B,).
        num_classes: C.
        smoothing: In [0, 1).

    Returns:
        float32 (B, C); each row sums to 1.
    """
    targets = (1 - smoothing) * np.eye(num_classes)[labels] + smoothing / num_classes
    return targets.astype(np.float32)


def augment(
    image: Image.Image, size: tuple[int, int], recipe: Recipe, rng: np.random.Generator
) -> Image.Image:
    """A random crop of the image, resized (Pillow's bicubic) to ``size`` (H, W), maybe mirrored."""
    box = crop_box(image.width, image.height, recipe.scale, recipe.ratio, rng)
    image = image.crop(box).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    if rng.random() < recipe.hflip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def crop_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """A random box of the image, as Inception-style training crops it (Szegedy et al., 2015).

    Its area is uniform in ``scale`` of the image's, its width over height log-uniform in
    ``ratio``, its place uniform. Where that does not fit in ten attempts, it is the largest box
    in the centre whose shape is in ``ratio``.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    for _ in range(CROP_ATTEMPTS):
        area = width * height * rng.uniform(*scale)
        shape = exp(rng.uniform(log(ratio[0]), log(ratio[1])))
        w, h = round(sqrt(area * shape)), round(sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(width - w + 1))
            top = int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(round(height * ratio[1]), 1))
    h = min(height, max(round(width / ratio[0]), 1))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
