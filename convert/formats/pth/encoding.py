"""The pickle of a ``.pth`` that we write: tensors by torch's own names, without torch."""

import math
import struct
from collections.abc import Mapping
from itertools import count
from typing import Any

from convert.formats.pth.tensors import DTYPES, STORAGES
from convert.formats.weight_file import dtype_name, encode_text
from pvt_spec.arrays import Array


def encode_checkpoint(
    places: Mapping[str, Mapping[str, Array]], metadata: Mapping[str, str]
) -> bytes:
    """Returns the pickle of ``{place: OrderedDict(tensors), …, **metadata}``.

    If the one place is ``""``, it is that of the OrderedDict alone, with the texts where torch
    keeps a module's version: ``state_dict._metadata[""]``. Storages are numbered from 0.

    Raises:
        ConvertError: A tensor is of a dtype that torch has not.
    """
    keys = count()
    dicts = {
        place: _ORDERED_DICT
        + b"("
        + b"".join(_text(name) + _tensor(name, a, next(keys)) for name, a in tensors.items())
        + b"u"
        for place, tensors in places.items()
    }
    texts = b"".join(_text(key) + _text(text) for key, text in metadata.items())
    if "" not in dicts:
        held = b"".join(_text(place) + encoded for place, encoded in dicts.items())
        return b"\x80\x02}(" + held + texts + b"u."
    state_dict, local = dicts[""], b"}(" + texts + b"u"
    attributes = b"}" + _text("_metadata") + _ORDERED_DICT + _text("") + local + b"ss"
    return b"\x80\x02" + state_dict + attributes + b"b."


def _tensor(name: str, array: Array, key: int) -> bytes:
    """Returns a call of ``_rebuild_tensor_v2``, or ``_v3`` where no typed storage has the dtype."""
    dtype = dtype_name(name, array, DTYPES)
    typed = {known: storage for storage, known in STORAGES.items()}.get(dtype)
    storage_type = _global("torch", typed) if typed else _global("torch.storage", "UntypedStorage")
    size = array.size if typed else array.nbytes
    identity = _text("storage") + storage_type + _text(str(key)) + _text("cpu") + _number(size)
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
