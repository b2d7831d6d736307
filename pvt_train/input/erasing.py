"""Random erasing (Zhong et al., AAAI 2020): a box of a training image is painted over.

Boxes are drawn as MindSpore's ``RandomErasing``, and with it MindCV, draws them.
"""

from math import sqrt

import numpy as np

from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_spec import ConfigError, Preprocessing
from pvt_spec.arrays import Array
from pvt_train.input.decoding import Box
from pvt_train.recipe.keys import Recipe

PER_PIXEL = {"random": True, "pixel": True, "rand": False}
"""Name of a random fill -> whether each pixel has its own, or the whole box one.

``random`` is MindSpore's and so MindCV's name, ``pixel`` and ``rand`` are timm's.
"""


def erase(
    pixels: Array, recipe: Recipe, preprocessing: Preprocessing, rng: np.random.Generator
) -> None:
    """Paints over a box of the pixels, in place, with probability ``re_prob``.

    Args:
        pixels: uint8 (H, W, C).
        recipe: The keys that begin with ``re_`` are read.
        preprocessing: What normalised units are.
        rng: The source of the box and of what it is filled with.
    """
    if rng.random() >= recipe.re_prob:
        return
    H, W, C = pixels.shape
    box = erased_box(W, H, recipe.re_scale, recipe.re_ratio, recipe.re_max_attempts, rng)
    if box is None:
        return
    left, top, right, bottom = box
    shape = (bottom - top, right - left, C)
    pixels[top:bottom, left:right] = fill(shape, recipe.re_value, preprocessing, rng)


def erased_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    attempts: int,
    rng: np.random.Generator,
) -> Box | None:
    """Draws a box that is smaller than the image both ways.

    Its area is uniform in ``scale`` of the image's, its width over height uniform in ``ratio``
    (MindSpore ``py_transforms_util.get_erase_params``; timm draws the latter's logarithm
    uniformly), its place uniform.

    Returns:
        (left, top, right, bottom) in pixels, or None where no attempt fits.
    """
    for _ in range(attempts):
        area = width * height * rng.uniform(*scale)
        shape = rng.uniform(*ratio)
        w = round(sqrt(area * shape))
        h = round(w / shape)
        if w < width and h < height:
            left = int(rng.integers(width - w + 1))
            top = int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return None


def fill(
    shape: tuple[int, int, int],
    value: float | str,
    preprocessing: Preprocessing,
    rng: np.random.Generator,
) -> Array:
    """Returns what fills a box: the pixels nearest to values in normalised units.

    Args:
        shape: (h, w, C) of the box.
        value: The number, the same for all, so that 0 is the mean colour; or the name of standard
            normal ones, see :data:`PER_PIXEL`.
        preprocessing: Mean and deviation of each channel.
        rng: The source of random values.

    Returns:
        uint8, ``shape`` or what broadcasts to it.
    """
    if isinstance(value, str):
        drawn = rng.standard_normal(shape if PER_PIXEL[value] else (1, 1, shape[2]))
    else:
        drawn = np.full((1, 1, shape[2]), value)
    filled = drawn * pixel_std(preprocessing) + pixel_mean(preprocessing)
    return np.asarray(np.rint(filled).clip(0, 255), np.uint8)


def check_fill(value: float | str) -> None:
    """Refuses a ``re_value`` that fills nothing.

    Raises:
        ConfigError: It is neither a finite number nor the name of a random fill.
    """
    known = value in PER_PIXEL if isinstance(value, str) else bool(np.isfinite(value))
    if not known:
        raise ConfigError(
            f"re_value is {value!r}, expected {', '.join(PER_PIXEL)} or a number in normalised "
            "units (0 is the mean colour)"
        )
