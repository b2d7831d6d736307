"""``.safetensors``: read without a copy, written as the reference implementation writes it.

The file is a header and the bytes of the tensors, one after the other, little-endian and in C
order (https://github.com/huggingface/safetensors, ``safetensors/src/tensor.rs``)::

    8 bytes     length of the header, little-endian, at most 100 MB
    header      JSON in UTF-8, padded with spaces to a multiple of 8 bytes:
                {"__metadata__": {"KEY": "text", …},
                 "NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
    the rest    every byte of it belongs to one tensor; offsets count from its start

The reference writes by dtype, widest first, and by name among those. We write in the caller's
order, and so read∘write is the identity; only where that would put a tensor at an offset that is
no multiple of its items (an odd number of float16 before a float32), wider items go first. Header
and bytes have the same order, which MindSpore's reader asks for.

MindSpore's variant (``save_checkpoint(…, format="safetensors")`` of 2.10,
``mindspore/train/serialization.py``) is the reference's own writer with metadata
``{"format": "ms"}``. The file has mode 0400. Scalars have shape []; Python numbers in
``append_dict`` become such; texts in it, encryption and map parameters are refused, and
``crc_check`` adds a ``crc_num`` over sorted names and values, which is not verified here. A
metadata key that is a tensor's name gives its type, which can only be Int4: two values in a byte,
not read here. Of the other keys, MindSpore's own reader takes notice of ``crc_num`` and
``remove_redundancy`` alone; it loads no F8 and no complex numbers.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from convert.formats.weight_file import (
    WeightFile,
    as_array,
    check_texts,
    contents,
    dtype_name,
    map_file,
)
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import count_values, parse_json
from pvt_spec.files.limits import MAX_DIMS, MAX_ENTRIES, MAX_NAME, MAX_TEXT_BYTES
from pvt_spec.words import show

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "C64": np.dtype("<c8"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
"""numpy's dtype of each ``dtype`` that it has one for, in the reference's order.

Without F4 and F6, which share bytes, and F8_E8M0, the scales of such.
"""

_METADATA = "__metadata__"
_MARKS = 12
"""Commas and brackets in a tensor's entry: of a map's four dims eleven."""

_LENGTH_BYTES = 8
_MAX_COUNT = 1 << 63
_AGAIN = "the file is cut off, damaged or no safetensors file: copy or download it again"


def read(path: Path) -> WeightFile:
    """Reads what a ``.safetensors`` holds: tensors in its header's order, and its metadata.

    The arrays are read-only views of the mapped file.

    Raises:
        ConvertError: The file cannot be read, is damaged or something else, has a name twice, or
            holds what numpy has no array for.
    """
    data = memoryview(map_file(path))
    try:
        header, values = _split(data)
        metadata = _metadata(header.pop(_METADATA, {}))
        entries = {name: _entry(name, value) for name, value in header.items()}
        _check_layout(entries, len(values))
        if packed := sorted(metadata.keys() & entries.keys()):
            raise ConvertError(
                f"{show(packed[0])} is {show(metadata[packed[0]])} by MindSpore's metadata, "
                "packed values that numpy has no dtype for; save it as another type"
            )
        tensors = {
            name: as_array(
                show(name), at.type, values[at.start : at.stop], at.shape, DTYPES[at.type], _damaged
            )
            for name, at in entries.items()
        }
        return WeightFile({"": tensors}, metadata)
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}") from error.__cause__


def write(stream: BinaryIO, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes a file that safetensors, PyTorch and, but for F8 and complex, MindSpore load.

    The same tensors and metadata give the same bytes; those that the reference implementation
    writes, if they come in its order. One tensor at a time is copied, if any.

    Args:
        stream: A file open for writing; nothing but ``write`` is called.
        tensors: Arrays of the dtypes of :data:`DTYPES`, of any byte order and memory layout.
        metadata: Texts. ``{"format": "pt"}`` and ``{"format": "ms"}`` tell some readers whose
            parameters these are.

    Raises:
        ConvertError: A tensor or text that the format, or MindSpore's loader, cannot hold.
    """
    check_texts(tensors, metadata)
    if _METADATA in tensors:
        raise ConvertError(f"a tensor cannot be named {_METADATA}: metadata is kept there")
    problem = "which a .safetensors cannot hold: "
    types = {name: dtype_name(name, array, DTYPES, problem) for name, array in tensors.items()}
    ordered = _aligned_order(tensors)
    stream.write(_encode_header(ordered, types, metadata))
    for array in ordered.values():
        stream.write(contents(array))


@dataclass(frozen=True)
class _Place:
    """What the header says of a tensor, whose bytes are values[start:stop]."""

    type: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _damaged(problem: str) -> ConvertError:
    return ConvertError(f"{problem}; {_AGAIN}")


def _split(data: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Returns the header, as it is in the file, and everything after it."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    begin = bytes(data[_LENGTH_BYTES : _LENGTH_BYTES + 1])
    if begin != b"{":
        raise _damaged(f"at byte {_LENGTH_BYTES}: got {begin!r}, expected b'{{'")
    most = min(MAX_TEXT_BYTES, len(data) - _LENGTH_BYTES)
    if length > most:
        raise _damaged(f"a header of {length} bytes, expected at most {most}")
    end = _LENGTH_BYTES + length
    return _parse(data[_LENGTH_BYTES:end]), data[end:]


def _parse(text: memoryview) -> dict[str, Any]:
    encoded, most = bytes(text), _MARKS * MAX_ENTRIES
    # Before parsing: what JSON makes of a comma or a bracket takes many times its byte.
    if (marks := count_values(encoded.decode(errors="replace"), most)) > most:
        raise ConvertError(
            f"a header of {marks} values, expected those of {MAX_ENTRIES} tensors at most; {_AGAIN}"
        )
    try:
        header: dict[str, Any] = parse_json(encoded)
    except ValueError as error:
        raise _damaged(f"its header is no JSON: {error}") from None
    return header


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _damaged(f"{_METADATA} is {show(value)}, expected texts by name")
    for key, text in value.items():
        if not isinstance(text, str):
            raise ConvertError(
                f"{_METADATA}: {show(key)} is {show(text)}, expected a text; {_AGAIN}"
            )
    return value


def _entry(name: str, value: Any) -> _Place:
    if len(name) > MAX_NAME:
        raise _damaged(f"a name of {len(name)} characters, expected at most {MAX_NAME}")
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(value, dict) or value.keys() != keys:
        raise ConvertError(
            f"{show(name)} is {show(value)}, expected dtype, shape and data_offsets; {_AGAIN}"
        )
    key, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(key, str) or key not in DTYPES:
        raise ConvertError(
            f"{show(name)} is of dtype {show(key)}, expected one of {', '.join(DTYPES)}"
        )
    if not _are_counts(shape):
        raise _damaged(f"{show(name)} has shape {show(shape)}, expected up to {MAX_DIMS} counts")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ConvertError(
            f"{show(name)} has data_offsets {show(offsets)}, expected [start, stop]; {_AGAIN}"
        )
    size = math.prod(shape) * DTYPES[key].itemsize
    if offsets[1] - offsets[0] != size:
        raise ConvertError(
            f"{show(name)} has {offsets[1] - offsets[0]} bytes, "
            f"expected {size} for {key} {show(shape)}; {_AGAIN}"
        )
    return _Place(key, tuple(shape), *offsets)


def _are_counts(value: Any) -> bool:
    # Not isinstance: True is an int, too. A product of very many numbers takes long.
    plain = isinstance(value, list) and len(value) <= MAX_DIMS
    return plain and all(type(n) is int and 0 <= n < _MAX_COUNT for n in value)


def _check_layout(entries: Mapping[str, _Place], size: int) -> None:
    """Refuses a file unless every byte belongs to one tensor: none is hidden, none missing."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != at:
            raise ConvertError(
                f"{show(name)} starts at {entry.start}, expected {at}, where the tensor before "
                f"it stops; {_AGAIN}"
            )
        at = entry.stop
    if at != size:
        raise _damaged(f"{size} bytes of tensors, expected {at} by the header")


def _aligned_order(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the tensors in their order if it aligns them all, else those of wider items first."""
    at = 0
    for array in tensors.values():
        if at % array.itemsize:
            return dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
        at += array.nbytes
    return dict(tensors)


def _encode_header(
    tensors: Mapping[str, Array], types: Mapping[str, str], metadata: Mapping[str, str]
) -> bytes:
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, array in tensors.items():
        stop = at + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": types[name], "shape": shape, "data_offsets": [at, stop]}
        at = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        around = text[max(error.start - 20, 0) : error.end + 20]
        raise ConvertError(f"{around!a} has a lone surrogate, expected Unicode") from None
    encoded += b" " * (-len(encoded) % _LENGTH_BYTES)
    if len(encoded) > MAX_TEXT_BYTES:
        raise ConvertError(
            f"names and metadata take {len(encoded)} bytes: a .safetensors holds at most "
            f"{MAX_TEXT_BYTES}"
        )
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded
