"""A weight file before any of its names is understood, and how bytes get in and out of it.

Every format module (``ckpt``, ``pth``, …) answers a :class:`WeightFile` from ``read`` and takes
the same arrays in ``write``.
"""

import mmap
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

MAX_ENTRIES = 10_000
"""Most entries that a file may have: a training checkpoint of the largest PVT has fewer.

(1,054 tensors, at most eight of each: the weight, moments, averages, gradients.) Entries cost
many times their bytes in memory, so a file of nothing but tiny ones is refused.
"""


@dataclass(frozen=True)
class WeightFile:
    """What a file holds, under the file's own names.

    Attributes:
        tensors: The arrays of the container, in the file's order. Read-only, and usually views
            of the mapped file: not aligned in memory where the file does not align them.
        metadata: Text entries beside the tensors.
        extras: Everything else beside the tensors: numbers, dicts, lists, other containers. As
            nested and as self-referential as the file makes it: show it with :mod:`reprlib`.
        container: Key of the dict that the tensors came from; "" for the top level.
        averaged_container: Key of the dict that averaged tensors are kept in; "" for none.
        averaged: The tensors of that dict.
        described: What a file beside it (``config.json``) says of the model; None for nothing.
        files: All files that were read; () for the named one alone.
    """

    tensors: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    container: str = ""
    averaged_container: str = ""
    averaged: dict[str, Array] = field(default_factory=dict)
    described: ModelInfo | None = None
    files: tuple[Path, ...] = ()


def map_file(path: Path) -> mmap.mmap:
    """The bytes of a file, read from disk as they are touched. Slices of its memoryview are views.

    Raises:
        ConvertError: There is no such file, it is empty, no regular file, or not for us to read.
    """
    try:
        # Before opening: a pipe would keep us waiting for its other end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConvertError(f"{path}: a folder or a device, expected a file of weights")
        with path.open("rb") as stream:
            if not stream.seek(0, 2):
                raise ConvertError(f"{path}: the file is empty: copy or download it again")
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ConvertError(f"{path}: there is no such file") from None
    except PermissionError as error:
        raise ConvertError(
            f"{path}: no permission to read it (MindSpore lets only the owner read what it "
            "writes): run chmod +r on it as its owner"
        ) from error
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read: {error}") from error


def dtype_name(array: Array, names: Mapping[str, np.dtype[Any]]) -> str | None:
    """A format's name of an array's dtype, in any byte order; None where it has none.

    Args:
        array: Any array.
        names: numpy's dtype of each name, little-endian.
    """
    dtype = array.dtype.newbyteorder("<")
    return next((name for name, known in names.items() if known == dtype), None)


def contents(array: Array) -> memoryview:
    """The bytes of an array, little-endian and in C order; a copy only where it has to be one."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    # As uint8: bfloat16 has no buffer of its own.
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data
