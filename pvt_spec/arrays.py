"""Numpy arrays: the type of those whose shape and dtype are said in words, and batches."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of any shape and dtype; bfloat16 is ``ml_dtypes.bfloat16``."""


def fill_up(images: Array, count: int) -> Array:
    """Returns a batch with its last image repeated until there are ``count``."""
    return np.concatenate([images, images[-1:].repeat(max(0, count - len(images)), axis=0)])
