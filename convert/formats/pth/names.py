"""What a pickle may name: the standard library's and numpy's containers and scalars, as data.

Each name stands for a small function of our own that takes what a pickle gives and makes a plain
value, or fails: a namespace becomes a dict, a path a text, a numpy scalar a number. None of them
imports, opens or runs anything. The names are those of Python 3.6 to 3.13 and numpy 1 and 2.
"""

import math
import re
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from convert.formats.pth.values import (
    Deferred,
    Known,
    Namespace,
    OrderedDict,
    hashable,
    make_dict,
    numbers,
)
from pvt_spec.arrays import Array

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}")
_NUMPY_CORES = ("numpy.core", "numpy._core")


class NumpyDtype(Deferred):
    """A ``numpy.dtype``; its state says the byte order."""

    name = "numpy.dtype"

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        # Not any text: numpy reads a whole language of record types.
        if not _DTYPE.fullmatch(code):
            raise TypeError(f"a numpy dtype {code:.20}")
        self.value = np.dtype("<" + code)

    def set_state(self, state: Any) -> None:
        """Sets the byte order, the state's second item."""
        if state[1] not in ("<", ">", "|", "="):
            raise TypeError("a byte order")
        self.value = self.value.newbyteorder(state[1])


class NumpyArray(Deferred):
    """A ``numpy.ndarray``; all of it is in its state."""

    name = "numpy.ndarray"

    def __init__(self, kind: Known, shape: Any, code: Any):
        pass

    def set_state(self, state: Any) -> None:
        """Makes the array of (version, shape, dtype, whether it is in Fortran order, bytes)."""
        _, shape, dtype, fortran_order, values = state
        if not isinstance(dtype, np.dtype) or dtype.kind in "SU" or not isinstance(values, bytes):
            raise TypeError("an array of objects or texts")
        if len(values) != math.prod(numbers(shape)) * dtype.itemsize:
            raise ValueError("an array's size")
        self.value = np.ndarray(shape, dtype, values, order="F" if fortran_order else "C")


def _numpy_scalar(dtype: Any, values: bytes) -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(values, bytes):
        raise TypeError("a scalar object")
    array: Array = np.frombuffer(values, dtype)
    value = array.reshape(()).item()
    if isinstance(value, str):
        value.encode()  # fails on a lone surrogate, as the machine has it for its own texts
    return value


def _dict_of_pairs(pairs: Any = ()) -> OrderedDict:
    return OrderedDict(make_dict([item for key, value in pairs for item in (key, value)]))


def _bytes(text: str | bytes = b"", encoding: str = "latin1") -> bytes:
    # Protocol 2 has no opcode for bytes; a number in place of the text would be a length.
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str | bytes):
        raise TypeError("bytes of another kind")
    return text.encode(encoding) if isinstance(text, str) else text


_MADE: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _bytes,
    "argparse.Namespace": lambda: Namespace(),
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.complex": lambda real, imaginary: complex(float(real), float(imaginary)),
    "builtins.frozenset": lambda items=(): frozenset(map(hashable, items)),
    "builtins.set": lambda items=(): set(map(hashable, items)),
    "collections.Counter": lambda counts: {**counts},  # fails unless it is a dict
    "collections.OrderedDict": _dict_of_pairs,
    "collections.defaultdict": lambda factory=None: {},
    "collections.deque": lambda items=(), maxlen=None: [*items],
    "numpy.dtype": NumpyDtype,
    "types.SimpleNamespace": lambda: Namespace(),
    **{f"{core}.multiarray.scalar": _numpy_scalar for core in _NUMPY_CORES},
    **{f"{core}.multiarray._reconstruct": NumpyArray for core in _NUMPY_CORES},
    **{
        f"pathlib{local}.{pure}{system}Path": lambda *parts, kind=kind: str(kind(*parts))
        for system, kind in {"Posix": PurePosixPath, "Windows": PureWindowsPath}.items()
        for local in ("", "._local")
        for pure in ("", "Pure")
    },
}
_VALUES = ("bool", "dict", "float", "int", "list", "str", "tuple")

NAMES = {
    **{name: Known(name, make) for name, make in _MADE.items()},
    **{f"builtins.{name}": Known(f"builtins.{name}") for name in _VALUES},
    "numpy.ndarray": Known("numpy.ndarray"),
}
"""What each name stands for, by "module.name"."""
