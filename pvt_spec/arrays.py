"""Numpy arrays: the type of those whose shape and dtype are said in words, and batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pvt_spec.errors import ConfigError
from pvt_spec.words import reason, show

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of any shape and dtype; bfloat16 is ``ml_dtypes.bfloat16``."""


def as_arrays(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Returns weights as numpy's arrays, in this machine's order of bytes.

    Args:
        weights: Arrays, or what numpy makes arrays of: tensors on the CPU that need no gradient.

    Raises:
        ConfigError: Of one it can make none.
    """
    made: dict[str, Array] = {}
    for name, given in weights.items():
        try:
            array = np.asarray(given)
        except Exception as error:  # a tensor's own, whatever framework's
            raise ConfigError(
                f"{show(name)} is a {type(given).__name__}, expected an array of numpy's: "
                f"{reason(error)}"
            ) from error
        made[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return made


def fill_up(images: Array, count: int) -> Array:
    """Returns a batch with its last image repeated until there are ``count``."""
    return np.concatenate([images, images[-1:].repeat(max(0, count - len(images)), axis=0)])
