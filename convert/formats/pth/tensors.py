"""Tensors in the pickle of a ``.pth``, by torch's own names, read without torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.formats.pth.values import Known, OfAnotherKind, Placeholder, numbers
from convert.formats.weight_file import little_endian
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_NAME, MAX_PARTS

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
_DEVICES = ("torch", "torch.cuda", "torch.npu")  # where old files have typed storages from

OTHER_STORAGES = {
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "QInt32Storage": 4,
}
"""Bytes of an element of each typed storage that numpy has no dtype for."""


_VALUES = ("data", "real", "imag")
"""Attributes of a tensor that are its values."""

_MOST_ARGUMENTS = 16
"""More than any of torch's functions that make a tensor takes."""


_EXPANDED = 1 << 16
"""Elements that a tensor may have whose storage has fewer: one that was expanded is saved so."""


@dataclass(frozen=True)
class Storage:
    """Bytes that tensors are views of, and their dtype; None where each tensor says its own."""

    key: str
    values: memoryview
    dtype: np.dtype[Any] | None


class TensorReader:
    """Makes read-only arrays of what a pickle says about tensors, as views of a file's bytes.

    Args:
        path: The file, for complaints.
        read: A function that returns the bytes of the storage of a key.
        big_endian: Whether these are so.
    """

    def __init__(self, path: Path, read: Callable[[str], memoryview], big_endian: bool = False):
        self._path, self._read, self._swap = path, read, big_endian
        self._values: dict[str, memoryview] = {}
        self._asked_for: dict[str, tuple[Any, ...]] = {}
        self._swapped: dict[tuple[str, int], memoryview] = {}

    def names(self) -> dict[str, Known]:
        """Returns torch's names that a pickle may hold, by "module.name"."""
        tensors: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": partial(self._rebuild, 0),
            "torch._utils._rebuild_tensor_v2": partial(self._rebuild, 2),
            "torch._utils._rebuild_tensor_v3": partial(self._rebuild, 3),
            "torch_npu.utils.storage._rebuild_npu_tensor": self._rebuild_npu,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
            "torch._utils._rebuild_device_tensor_from_cpu_tensor": _rebuild_on_device,
            "torch._utils._rebuild_device_tensor_from_numpy": _rebuild_on_device,
            "torch._utils._rebuild_xla_tensor": _rebuild_on_device,
            "torch._tensor._rebuild_from_type": _rebuild_from_type,
            "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
        }
        others: dict[str, Callable[..., Any]] = {"torch.Size": _size, "torch.device": _device}
        values = [f"torch.{name}" for name in DTYPES]
        return {
            **{name: Known(name, make, tensor=True) for name, make in tensors.items()},
            **{name: Known(name, make) for name, make in others.items()},
            **{name: Known(name) for name in values},
            **storage_types(),
        }

    def load_storage(self, identity: Any) -> Any:
        """Returns the storage of an id ``("storage", type, key, device, number of elements)``.

        Files before torch 1.6 have one item more: None, or ``(key, offset, number of elements)``
        of the part of the storage that is meant.

        Raises:
            OfAnotherKind: It is of a type that numpy has no dtype for.
            ConvertError: Its bytes are missing or damaged, or of another number, or it was asked
                for as another one before.
        """
        if identity[0] == "module":  # before torch 1.6: a class, and its source
            return identity[1]
        _check_identity(identity)
        self._check_asked_once(*identity[1:3], *identity[4:])
        key, dtype, count = storage_of(identity)
        if key not in self._values:
            self._values[key] = self._read(key)
        values = self._values[key]
        width = dtype.itemsize if dtype else 1
        if len(values) != count * width:
            raise ConvertError(
                f"{self._path}: the storage {key} has {len(values)} bytes, expected "
                f"{count * width} for {identity[1].name} of {count}: copy or download the file "
                "again"
            )
        if identity[5:] not in ((), (None,)):
            _, start, length = identity[5]
            values = values[start * width : (start + length) * width]
            key = f"{key}, {start}, {length}"
        return Storage(key, values, dtype)

    def _check_asked_once(self, kind: Any, key: Any, count: Any, part: Any = None) -> None:
        """Refuses a storage that was another one before: torch gives the first one then, too.

        Raises:
            ConvertError: It was of another type or size, or another part of its storage.
        """
        asked = (kind.name.rpartition(".")[2], key, count, *(part or ()))
        if asked != (first := self._asked_for.setdefault(part[0] if part else key, asked)):
            raise ConvertError(
                f"{self._path}: the storage {key:.100} is {asked[0]} of {count} here and "
                f"{first[0]} of {first[2]} before, expected one of them for all its tensors: "
                "copy or download the file again"
            )

    def _rebuild(
        self, more: int, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any
    ) -> Array:
        """Returns a tensor of torch's ``_rebuild_tensor``, with as many arguments more.

        These are requires_grad, hooks, in ``_v3`` a dtype, and perhaps metadata.
        """
        if len(rest) not in (more, more + bool(more)):
            raise TypeError(f"{len(rest)} arguments beside a view")
        if isinstance(storage, Placeholder) or any(rest[more:]):  # lazily conjugated or negated
            raise OfAnotherKind
        dtype = _dtype(rest[2]) if more == 3 else storage.dtype
        return self._view(storage, dtype, offset, size, stride)

    def _rebuild_npu(self, *parts: Any) -> Array:
        """Returns a tensor that torch_npu saved: as ``_v2``, and the layout it had on the NPU.

        The bytes are laid out as anywhere (``torch_npu/utils/storage.py``).
        """
        return self._rebuild(2, *parts[:6])

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
        if count > max(held, _EXPANDED) or (count and last >= held):
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


def _dtype(known: Any) -> np.dtype[Any]:
    if isinstance(known, Placeholder):
        raise OfAnotherKind
    return DTYPES[known.name.removeprefix("torch.")]


def _rebuild_parameter(tensor: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Any:
    if not isinstance(tensor, np.ndarray | Placeholder):
        raise TypeError("a parameter without a tensor")
    _check_attributes(state)
    return tensor


def _check_attributes(state: Any) -> None:
    """Refuses attributes of a tensor that torch would set its values by: ``data``, say.

    Args:
        state: A dict of them, or a pair of those: the second is of slots.
    """
    pair = state if isinstance(state, tuple) else (state,)
    if len(pair) > 2:
        raise TypeError("a tensor's state")
    for attributes in pair:
        if isinstance(attributes, dict) and any(name in attributes for name in _VALUES):
            raise OfAnotherKind


def _rebuild_on_device(values: Any, dtype: Any, device: Any, requires_grad: Any) -> Array:
    """Returns a tensor that a device without storages of its own keeps: its values, as they are."""
    if not isinstance(values, np.ndarray) or values.dtype != _dtype(dtype):
        raise OfAnotherKind
    return values


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """Returns a tensor of a class of its own, or with attributes, as the plain one."""
    if not isinstance(function, Known) or not function.make or not function.tensor:
        raise OfAnotherKind
    if len(arguments) > _MOST_ARGUMENTS:  # which were not counted, within those of this call
        raise TypeError("a tensor's arguments")
    _check_attributes(state)
    return function.make(*arguments)


def storage_types() -> dict[str, Known]:
    """Returns the names of the types of storages, by "module.name"."""
    typed = [f"{home}.{name}" for home in _DEVICES for name in (*STORAGES, *OTHER_STORAGES)]
    return {name: Known(name) for name in (*typed, _UNTYPED)}


def _check_identity(identity: Any) -> None:
    """Refuses a persistent id that torch does not write, before any of it is hashed: a tuple that
    has another twice, which has another twice … takes forever."""
    kind, _, key, _, count, *part = identity
    named = [(key, (count,)), *((each[0], each[1:]) for each in part if each is not None)]
    for name, counts in named:
        if kind != "storage" or not isinstance(name, str):
            raise TypeError("a persistent id")
        if not name.isprintable() or len(name) > 100:  # torch counts
            raise ValueError(f"a storage named {name!r:.100}")
        numbers(counts)


def storage_of(identity: Any) -> tuple[str, np.dtype[Any] | None, int]:
    """Returns the key, dtype and number of elements of a storage, of its persistent id.

    Without a dtype elements are bytes.

    Raises:
        OfAnotherKind: It is of a type that numpy has no dtype for.
    """
    _check_identity(identity)
    _, storage_type, key, _, count = identity[:5]
    name = storage_type.name.rpartition(".")[2]
    if isinstance(storage_type, Placeholder) or name in OTHER_STORAGES:
        raise OfAnotherKind(storage_type.name)
    return key, None if storage_type.name == _UNTYPED else DTYPES[STORAGES[name]], count


def state_dict(module: Placeholder, most: int) -> tuple[dict[str, Array], int]:
    """Returns the tensors of a ``torch.nn.Module`` that was pickled whole; none of another object.

    Args:
        module: The object.
        most: How many modules, parameters and buffers it may have; what is left of these is the
            second of what is returned.

    Raises:
        ConvertError: It has more parts than any model, or they have no end.
    """
    tensors: dict[str, Array] = {}
    waiting: list[tuple[str, Any]] = [("", module)]
    left = most
    while waiting:
        prefix, module = waiting.pop()
        parts = [_dict_in(module, key) for key in ("_parameters", "_buffers", "_modules")]
        left -= 1 + sum(map(len, parts))
        if left < 0 or len(prefix) > MAX_NAME:
            raise ConvertError(f"{module!r} has over {MAX_PARTS} parts, more than any model")
        left_out = module.get("_non_persistent_buffers_set") if any(parts) else None
        unkept = left_out if isinstance(left_out, set) else set()
        *own, children = (
            {n: v for n, v in held.items() if isinstance(n, str) and n not in unkept}
            for held in parts
        )
        # Many modules may share a long name, which each has behind its own prefix.
        room = MAX_NAME - len(prefix)
        for held in own:
            arrays = {n: a for n, a in held.items() if isinstance(a, np.ndarray)}
            tensors |= {f"{prefix}{n}": a for n, a in arrays.items() if len(n) <= room}
        waiting += [(f"{prefix}{name}.", child) for name, child in [*children.items()][::-1]]
    return tensors, left


def _dict_in(module: Any, key: str) -> dict[Any, Any]:
    held = module.get(key) if isinstance(module, Placeholder) else None
    return held if isinstance(held, dict) else {}
