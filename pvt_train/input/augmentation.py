"""What is done to a training image: a random crop, flips, RandAugment or jitter, and erasing.

Everything is a function of the image and a generator of random numbers. The order is MindCV's
(``mindcv/data/transforms_factory.py``) and timm's: colours are jittered only where there is no
RandAugment. Reading and resizing the crop lies between :meth:`Augmentation.crop` and
:meth:`Augmentation.finish` and draws nothing.
"""

from collections.abc import Callable, Iterator
from math import exp, log, sqrt

import numpy as np
from PIL import Image, ImageEnhance

from pvt_data.images.pixels import mean_colour
from pvt_spec import ConfigError, Preprocessing
from pvt_spec.arrays import Array
from pvt_train.input.decoding import Box
from pvt_train.input.erasing import check_fill, erase
from pvt_train.input.image_operations import Canvas
from pvt_train.input.rand_augment import parse_policy, rand_augment
from pvt_train.recipe.keys import Recipe

CROP_ATTEMPTS = 10
"""How often a crop is drawn before the centre is taken, as in torchvision and MindSpore."""

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
"""``interpolation`` -> how pixels are read between pixels."""


class Augmentation:
    """A recipe's augmentation, its strings read once; can be sent to another process.

    Attributes:
        recipe: The recipe that it is of.
        preprocessing: Mean and deviation, which fill what is uncovered or erased.
    """

    def __init__(self, recipe: Recipe, preprocessing: Preprocessing):
        """Reads the recipe.

        Raises:
            ConfigError: A text of the recipe's cannot be read.
        """
        self.recipe = recipe
        self.preprocessing = preprocessing
        self._policy = None if recipe.auto_augment is None else parse_policy(recipe.auto_augment)
        self._jitter = jitter_strengths(recipe.color_jitter)
        self._canvas = Canvas(mean_colour(preprocessing), RESAMPLING[recipe.interpolation])

    def crop(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Draws the box of an image to train on; it is drawn first, see :func:`crop_box`."""
        return crop_box(width, height, self.recipe.scale, self.recipe.ratio, rng)

    def finish(self, image: Image.Image, rng: np.random.Generator) -> Array:
        """Does all that follows the crop.

        Args:
            image: The crop, L or RGB, already of the model's size.
            rng: The one that the crop was drawn from.

        Returns:
            uint8 (H, W, C), not shared with the image.
        """
        image = flip(image, self.recipe.hflip, self.recipe.vflip, rng)
        if self._policy is not None:
            image = rand_augment(image, self._policy, self._canvas, rng)
        else:
            image = jitter_colours(image, self._jitter, rng)
        pixels = np.array(image, np.uint8).reshape(image.height, image.width, -1)
        erase(pixels, self.recipe, self.preprocessing, rng)
        return pixels


def augmentation_problems(recipe: Recipe) -> Iterator[str]:
    """Yields what is wrong with the augmentation's keys whose values have a syntax."""
    checks: list[Callable[[], object]] = [
        lambda: recipe.auto_augment is None or parse_policy(recipe.auto_augment),
        lambda: jitter_strengths(recipe.color_jitter),
        lambda: check_fill(recipe.re_value),
    ]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            yield str(error)


def crop_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """Draws a box of the image, as Inception-style training crops it (Szegedy et al., 2015).

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


def flip(image: Image.Image, hflip: float, vflip: float, rng: np.random.Generator) -> Image.Image:
    """Mirrors an image left to right and top to bottom with these probabilities."""
    if rng.random() < hflip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < vflip:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return image


Jitter = Callable[[Image.Image, float], Image.Image]
"""A change of a property of colours by a factor: 1 is none, hue's is 1 + turns of the circle."""


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Jitter:
    return lambda image, factor: kind(image).enhance(factor)


def _hue(image: Image.Image, factor: float) -> Image.Image:
    if image.mode == "L":
        return image
    turn = round((factor - 1) * 255)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(angle + turn) % 256 for angle in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


JITTERS: tuple[Jitter, ...] = (
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Color),
    _hue,
)
"""What each strength is for."""


def jitter_colours(
    image: Image.Image, strengths: tuple[float, ...], rng: np.random.Generator
) -> Image.Image:
    """Changes the colours of an image of mode L or RGB, in a random order.

    Each factor is uniform within its strength of 1, and at least 0, as in torchvision's
    ``ColorJitter`` and MindSpore's ``RandomColorAdjust``.

    Args:
        image: The image.
        strengths: The strengths of brightness, contrast, saturation and, if there is a fourth, hue.
        rng: The source of factors and order.
    """
    factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
    for number in rng.permutation(len(strengths)):
        if strengths[number]:
            image = JITTERS[number](image, factors[number])
    return image


def jitter_strengths(jitter: float | tuple[float, ...] | None) -> tuple[float, ...]:
    """Returns ``color_jitter`` as strengths: one number stands for all three, null for none.

    Raises:
        ConfigError: There are other than one, three or four numbers, or they are out of range.
    """
    if jitter is None:
        return ()
    strengths = tuple(jitter) if isinstance(jitter, tuple | list) else (jitter,) * 3
    in_range = all(0 <= strength < float("inf") for strength in strengths)
    if len(strengths) not in (3, 4) or not in_range or max(strengths[3:], default=0) > 0.5:
        raise ConfigError(
            f"color_jitter is {jitter!r}, expected one number from 0 on, or three for brightness, "
            "contrast and saturation, and a fourth for hue of at most 0.5"
        )
    return strengths
