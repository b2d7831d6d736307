"""Pixels of 0 to 255 and what a model takes: normalised, and back."""

from collections.abc import Sequence

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.model_info import Preprocessing, Untouched


def pixel_mean(preprocessing: Preprocessing) -> Array:
    """Returns what is subtracted of pixels of 0 to 255, float32 (C,)."""
    mean = preprocessing.mean if preprocessing.normalise else (0.0,) * len(preprocessing.mean)
    return np.asarray(mean, np.float32) * np.float32(1 / preprocessing.rescale)


def pixel_std(preprocessing: Preprocessing) -> Array:
    """Returns what that is divided by, float32 (C,)."""
    std = preprocessing.std if preprocessing.normalise else (1.0,) * len(preprocessing.std)
    return np.asarray(std, np.float32) * np.float32(1 / preprocessing.rescale)


def mean_colour(preprocessing: Preprocessing) -> int | tuple[int, ...]:
    """Returns the pixel nearest to the mean, as Pillow fills with it: one number of grey images."""
    colour = np.rint(pixel_mean(preprocessing)).clip(0, 255).astype(int).tolist()
    return tuple(colour) if len(colour) > 1 else int(colour[0])


def normalise(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Normalises pixels uint8 (H, W, C) of the model's size: float32 (C, H, W)."""
    # A channel after the other: over the few of a pixel numpy takes ten times as long.
    normalised: Array = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    normalised -= pixel_mean(preprocessing)[:, None, None]
    normalised /= pixel_std(preprocessing)[:, None, None]
    return normalised


def as_taken(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Returns pixels uint8 (H, W, C) as a model takes them: (C, H, W).

    They are float32, normalised; where the graph does that they are these pixels: a view.
    """
    if isinstance(preprocessing, Untouched):
        return pixels.transpose(2, 0, 1)
    return normalise(pixels, preprocessing)


def stacked(images: Sequence[Array]) -> Array:
    """Returns images (C, H, W) as one array (B, C, H, W); of one, which may be large, a view."""
    return images[0][None] if len(images) == 1 else np.stack(images)


def to_pixels(array: Array, preprocessing: Preprocessing) -> Array:
    """Returns the nearest pixels uint8 (H, W, C) of a normalised array (C, H, W)."""
    pixels = array.transpose(1, 2, 0) * pixel_std(preprocessing).astype(np.float64)
    pixels += pixel_mean(preprocessing)
    return np.asarray(np.rint(pixels).clip(0, 255), np.uint8)
