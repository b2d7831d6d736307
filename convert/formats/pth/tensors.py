"""Tensors in the pickle of a ``.pth``, by torch's own names, read and written without torch."""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from convert.formats.pth.values import Known, numbers
from convert.formats.pth.zip_records import Archive
from convert.formats.weight_file import dtype_name, encode_text, little_endian
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

_NAMES = """
    float64 float32 float16 complex128 complex64 bool int64 int32 int16 int8 uint64 uint32 uint16
    uint8 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz
"""
DTYPES = {name: little_endian(name) for name in _NAMES.split()}
"""numpy's dtype of each of torch's that numpy and ml_dtypes have: ``torch.NAME``."""

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "BoolStorage": "bool",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
}
"""dtype of each typed storage, ``torch.NAME``; the other dtypes have none."""

_UNTYPED = "torch.storage.UntypedStorage"


@dataclass(frozen=True)
class Storage:
    """Bytes that tensors are views of, and their dtype; None where each tensor says its own."""

    key: str
    values: memoryview
    dtype: np.dtype[Any] | None


class TensorReader:
    """Makes read-only arrays of what a pickle says about tensors, as views of the zip's records."""

    def __init__(self, archive: Archive):
        self._archive = archive
        order = bytes(archive.read("byteorder")) if "byteorder" in archive else b"little"
        if order not in (b"little", b"big"):
            raise ConvertError(
                f"{archive.path}: record byteorder is {order!r:.60}, expected b'little' or b'big': "
                "copy or download the file again"
            )
        self._swap = order == b"big"
        self._values: dict[str, memoryview] = {}
        self._swapped: dict[tuple[str, int], memoryview] = {}

    def names(self) -> dict[str, Known]:
        """Returns torch's names that a pickle may hold, by "module.name"."""
        makers: dict[str, Callable[..., Any]] = {
            "torch.Size": _size,
            "torch.device": _device,
            "torch._utils._rebuild_tensor": partial(self._rebuild, 0),
            "torch._utils._rebuild_tensor_v2": partial(self._rebuild, 2),
            "torch._utils._rebuild_tensor_v3": partial(self._rebuild, 3),
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
        }
        values = [f"torch.{name}" for name in (*DTYPES, *STORAGES)]
        return {
            **{name: Known(name, make) for name, make in makers.items()},
            **{name: Known(name) for name in (*values, _UNTYPED)},
        }

    def load_storage(self, identity: Any) -> Storage:
        """Returns the storage of an id ``("storage", type, key, device, number of elements)``.

        Raises:
            ConvertError: Its record is missing or damaged, or has another size.
        """
        kind, storage_type, key, _, count = identity
        numbers((count,))
        if kind != "storage" or not isinstance(key, str):
            raise TypeError("a persistent id")
        if not key.isprintable() or len(key) > 100:  # torch counts
            raise ValueError(f"a storage named {key!r:.100}")
        name = storage_type.name
        dtype = None if name == _UNTYPED else DTYPES[STORAGES[name.removeprefix("torch.")]]
        if key not in self._values:
            self._values[key] = self._archive.read(f"data/{key}")
        values = self._values[key]
        if len(values) != (expected := count * (dtype.itemsize if dtype else 1)):
            raise ConvertError(
                f"{self._archive.path}: record data/{key} has {len(values)} bytes, expected "
                f"{expected} for {name} of {count}: copy or download the file again"
            )
        return Storage(key, values, dtype)

    def _rebuild(
        self, more: int, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any
    ) -> Array:
        """Returns a tensor of torch's ``_rebuild_tensor``, with as many arguments more.

        These are requires_grad, hooks, in ``_v3`` a dtype, and perhaps metadata.
        """
        if len(rest) not in (more, more + bool(more)):
            raise TypeError(f"{len(rest)} arguments beside a view")
        if any(rest[more:]):
            raise TypeError("a lazily conjugated or negated tensor")
        dtype = DTYPES[rest[2].name.removeprefix("torch.")] if more == 3 else storage.dtype
        return self._view(storage, dtype, offset, size, stride)

    def _view(
        self, storage: Storage, dtype: np.dtype[Any], offset: Any, size: Any, stride: Any
    ) -> Array:
        """Returns the array of a tensor, where all of it lies in its storage.

        Args:
            storage: What the tensor is a view of.
            dtype: The tensor's dtype.
            offset: The place of its first element, in elements.
            size: The shape.
            stride: The steps along its axes, in elements.
        """
        size, stride, (offset,) = numbers(size), numbers(stride), numbers((offset,))
        held, count = len(storage.values) // dtype.itemsize, math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # A tensor of more elements than its storage (expanded) could be beyond any memory.
        if count > held or (count and last >= held):
            raise ValueError(f"a tensor {list(size)} in a storage of {held} elements")
        values = self._native(storage, dtype) if self._swap else storage.values
        if not count:
            return np.ndarray(size, dtype, b"")
        steps = [step * dtype.itemsize for step in stride]
        return np.ndarray(size, dtype, values, offset * dtype.itemsize, steps)

    def _native(self, storage: Storage, dtype: np.dtype[Any]) -> memoryview:
        """Returns a big-endian storage's bytes in little-endian order, complex parts apart."""
        width = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        key = (storage.key, width)
        if key not in self._swapped:
            swapped = np.frombuffer(storage.values, f">u{width}").astype(f"<u{width}")
            self._swapped[key] = memoryview(swapped.tobytes())
        return self._swapped[key]


def _size(dims: Any = ()) -> tuple[int, ...]:
    return numbers(tuple(dims))


def _device(kind: str, index: int | None = None) -> str:
    if not isinstance(kind, str) or not isinstance(index, int | None):
        raise TypeError("a device")
    return kind if index is None else f"{kind}:{index}"


def _rebuild_parameter(tensor: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Array:
    if not isinstance(tensor, np.ndarray):
        raise TypeError("a parameter without a tensor")
    return tensor


def encode_checkpoint(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Returns the pickle of ``{"state_dict": OrderedDict(tensors), **metadata}``.

    Storages are numbered from 0.

    Raises:
        ConvertError: A tensor is of a dtype that torch has not.
    """
    items = [
        _text(name) + _tensor(name, array, key) for key, (name, array) in enumerate(tensors.items())
    ]
    state_dict = _ORDERED_DICT + b"(" + b"".join(items) + b"u"
    texts = b"".join(_text(key) + _text(text) for key, text in metadata.items())
    return b"\x80\x02}(" + _text("state_dict") + state_dict + texts + b"u."


def _tensor(name: str, array: Array, key: int) -> bytes:
    """Returns a call of ``_rebuild_tensor_v2``, or ``_v3`` where no typed storage has the dtype."""
    dtype = dtype_name(name, array, DTYPES)
    typed = {known: storage for storage, known in STORAGES.items()}.get(dtype)
    storage_type = _global("torch", typed) if typed else _global("torch.storage", "UntypedStorage")
    count = array.size if typed else array.nbytes
    identity = _text("storage") + storage_type + _text(str(key)) + _text("cpu") + _number(count)
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    view = b"(" + identity + b"tQ" + _number(0) + _numbers(array.shape) + _numbers(strides)
    view += b"\x89" + _ORDERED_DICT + (b"" if typed else _global("torch", dtype))
    return _global("torch._utils", f"_rebuild_tensor_v{2 if typed else 3}") + b"(" + view + b"tR"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


_ORDERED_DICT = _global("collections", "OrderedDict") + b")R"


def _text(text: str) -> bytes:
    encoded = encode_text(text)
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(number: int) -> bytes:
    return b"\x8a\x09" + number.to_bytes(9, "little")


def _numbers(values: Any) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
