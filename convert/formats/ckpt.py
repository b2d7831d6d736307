"""MindSpore's ``.ckpt``: read without a copy, written byte for byte as MindSpore writes it.

The file is one protobuf message, written as a row of entries. MindSpore's own description of it
(``mindspore/train/checkpoint_pb2.py``, field numbers after the names)::

    Checkpoint  { repeated Value value = 1 }
    Value       { string tag = 1; oneof { TensorProto tensor = 2; MapTensorProto maptensor = 3 } }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3 }

``tag`` is the parameter's name, ``tensor_content`` its values, little-endian and in C order. A
scalar has no dims or dims [0]. Type ``str`` is a text in UTF-32 with dims [0], padded with NUL.
A parameter of more than 512 MiB is a row of entries with the same tag and the whole shape, whose
contents are to be joined. The file may end in 17 bytes that are no protobuf: ``crc_num`` and the
CRC-32 of everything before, big-endian in 10 bytes. An encrypted file is something else
altogether and starts with a magic number.
"""

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.formats.weight_file import (
    TensorFields,
    WeightFile,
    as_array,
    check_texts,
    contents,
    dtype_name,
    encode_text,
    little_endian,
    map_file,
)
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_ENTRIES
from pvt_spec.files.wire import FIRST, NUMBER, SECOND, THIRD, encode_field, encode_header
from pvt_spec.words import show

_TYPES = """
    Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float16 Float32 Float64 BFloat16 Bool
"""
DTYPES = {kind: little_endian(kind.lower()) for kind in _TYPES.split()}
"""numpy's dtype of each ``tensor_type`` that MindSpore 2.10 can load back.

Without Int4: MindSpore packs two values into a byte whose shape counts bytes, which numpy has no
dtype for.
"""

PIECE_BYTES = 512 * 1024 * 1024
"""Most bytes of a parameter in one entry; ``SLICE_SIZE`` of ``mindspore/train/serialization.py``.

MindSpore cuts at exactly this many bytes (``_write_parameter_bytes_data``).
"""

_AGAIN = "the file is cut off, damaged or no MindSpore checkpoint: copy or download it again"
_KEYS = (NUMBER, FIRST, SECOND, THIRD)
_STEP_BYTES = 1 << 24  # what a pass over a long stretch of the file keeps in memory
_TEXT = "str"
_CRC_MARK, _CRC_BYTES = b"crc_num", 17
_CIPHERS = {
    b"\xd8\x5e\x3a\x7f": "AES-GCM",
    b"\xd9\x5e\x3a\x7f": "AES-CBC",
    b"\xda\x5e\x3a\x7f": "SM4-CBC",
}


def read(path: Path) -> WeightFile:
    """Reads what a ``.ckpt`` holds: parameters as ``tensors``, texts as ``metadata``.

    The arrays are read-only views of the mapped file; only parameters that the file splits are
    copied, their pieces joined. The CRC is verified where the file has one.

    Raises:
        ConvertError: The file cannot be read, is damaged, encrypted or something else, has a
            name twice, or holds what numpy has no array for.
    """
    data = memoryview(map_file(path))
    _check_magic(path, data)
    reader = _EntryReader(path, data, _AGAIN)
    tensors: dict[str, Array] = {}
    metadata: dict[str, str] = {}
    for name, group in itertools.groupby(reader.entries(), key=lambda entry: entry.name):
        pieces = list(group)
        if name in tensors or name in metadata:
            raise reader.error(pieces[0].at, f"{show(name)} is there twice, expected once")
        if pieces[0].type == _TEXT:
            metadata[name] = reader.metadata(pieces)
        else:
            tensors[name] = reader.array(pieces)
    return WeightFile({"": tensors}, metadata)


def write(stream: BinaryIO, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes what ``mindspore.save_checkpoint`` writes for the same parameters in the same order.

    Args:
        stream: A file open for writing; nothing but ``write`` is called.
        tensors: Arrays of the dtypes of :data:`DTYPES`, of any byte order and memory layout.
        metadata: Texts, written after the tensors as ``append_dict`` is.

    Raises:
        ConvertError: A tensor or text that the format, or MindSpore's loader, cannot hold.
    """
    check_texts(tensors, metadata)
    for name, array in tensors.items():
        head = _tensor_head(name, array)
        values = contents(array)
        for start in range(0, len(values), PIECE_BYTES):
            piece = values[start : start + PIECE_BYTES]
            stream.write(_entry_head(name, head, len(piece)))
            stream.write(piece)
    for name, text in metadata.items():
        encoded = encode_text(text, "utf-32-le", f"the text of {name}") or bytes(4)
        if text.endswith("\0"):
            raise ConvertError(f"the text of {name} ends in NUL, which a .ckpt takes for padding")
        head = encode_header(NUMBER, 0) + encode_field(SECOND, _TEXT.encode())
        stream.write(_entry_head(name, head, len(encoded)))
        stream.write(encoded)


def write_training(
    stream: BinaryIO,
    weights: Mapping[str, Array],
    state: Mapping[str, Array],
    metadata: Mapping[str, str],
) -> None:
    """Writes weights and the state of their training, as :func:`write` does: there is one place.

    Raises:
        ConvertError: A tensor or text that the format, or MindSpore's loader, cannot hold.
    """
    write(stream, {**weights, **state}, metadata)


@dataclass(frozen=True)
class _Piece:
    """One ``Value``: a parameter, or a piece of one, with its contents at data[start:stop]."""

    at: int
    name: str
    type: str
    dims: tuple[int, ...]
    start: int
    stop: int


class _EntryReader(TensorFields):
    """Entries of a mapped ``.ckpt``, and what they hold."""

    def entries(self) -> Iterator[_Piece]:
        at, end = 0, len(self.data)
        for _ in range(MAX_ENTRIES):
            if at == end:
                return
            if end - at == _CRC_BYTES and self.data[at : at + len(_CRC_MARK)] == _CRC_MARK:
                self.verify_crc(at)
                return
            if (key := self.data[at]) != FIRST:
                raise self.damaged(at, f"got 0x{key:02x}, expected 0x0a of a parameter")
            _, start, stop = self.field(at, end)
            yield self.entry(at, start, stop)
            at = stop
        if at < end:
            raise self.error(at, f"more than {MAX_ENTRIES} entries, expected those of a PVT")

    def field(self, at: int, end: int) -> tuple[int, int, int]:
        """Reads a field as in any message, if its key is one of those that MindSpore writes."""
        if self.data[at] not in _KEYS:
            raise self.unexpected(at)
        return super().field(at, end)

    def verify_crc(self, at: int) -> None:
        expected = int.from_bytes(self.data[at + len(_CRC_MARK) :], "big")
        found = 0
        for step in self.steps(0, at):
            found = zlib.crc32(step, found)
        if found != expected:
            raise self.damaged(at, f"CRC-32 is {found}, expected {expected}")

    def entry(self, at: int, start: int, stop: int) -> _Piece:
        fields: dict[int, tuple[int, int]] = {}
        for key, begin, end in self.fields(start, stop):
            if key == SECOND and key in fields:  # protobuf makes one tensor of both
                raise self.damaged(begin, "a parameter with two tensors, expected one")
            fields[key] = (begin, end)
        if FIRST not in fields:
            raise self.damaged(at, "a parameter without a name")
        name = self.name(fields.pop(FIRST))
        if THIRD in fields:
            raise self.error(
                at, f"{show(name)} is a map parameter (a hash table), which is not read"
            )
        if set(fields) != {SECOND}:
            raise self.damaged(at, f"{show(name)} has no tensor alone")
        return self.tensor(at, name, *fields[SECOND])

    def tensor(self, at: int, name: str, start: int, stop: int) -> _Piece:
        dims: list[int] = []
        fields = {}
        for key, begin, end in self.fields(start, stop):
            if key in (NUMBER, FIRST):  # one dim, or all of them packed
                self.add_dims(dims, (begin, end), at, f"{show(name)} has")
            else:
                fields[key] = (begin, end)
        if set(fields) != {SECOND, THIRD}:
            raise self.damaged(at, f"{show(name)} has no type and contents alone")
        return _Piece(at, name, self.name(fields[SECOND]), tuple(dims), *fields[THIRD])

    def metadata(self, pieces: list[_Piece]) -> str:
        """Returns the text that an entry of type ``str`` holds."""
        entry = pieces[0]
        if len(pieces) > 1:
            raise self.error(pieces[1].at, f"{show(entry.name)} is there twice, expected once")
        return self.text((entry.start, entry.stop), "utf-32-le").rstrip("\0")

    def array(self, pieces: list[_Piece]) -> Array:
        """Returns the parameter that consecutive entries of one name hold."""
        first, name = pieces[0], show(pieces[0].name)
        dtype = DTYPES.get(first.type)
        if dtype is None:
            raise self.error(
                first.at,
                f"{name} is of type {show(first.type)}, expected one of {', '.join(DTYPES)}",
            )
        for piece in pieces:
            if (piece.type, piece.dims) != (first.type, first.dims):
                raise self.error(piece.at, f"{name} is there twice, with another shape or type")
        shape = () if first.dims == (0,) else first.dims
        held = sum(piece.stop - piece.start for piece in pieces)
        if held != (expected := math.prod(shape) * dtype.itemsize):
            raise self.damaged(
                first.at,
                f"{name} has {held} bytes in {len(pieces)} entries, "
                f"expected {expected} for {first.type} {list(shape)}",
            )
        values = self.data[first.start : first.stop] if len(pieces) == 1 else self.joined(pieces)
        fail = partial(self.damaged, first.at)
        return as_array(name, first.type, values, shape, dtype, fail)

    def joined(self, pieces: list[_Piece]) -> memoryview:
        """Returns the contents of all pieces, copied one after the other."""
        values = np.empty(sum(piece.stop - piece.start for piece in pieces), np.uint8).data
        rest = values
        for piece in pieces:
            for step in self.steps(piece.start, piece.stop, rest):
                rest = rest[len(step) :]
        return values.toreadonly()

    def steps(self, start: int, stop: int, into: memoryview | None = None) -> Iterator[memoryview]:
        """Yields the file from start to stop in pieces: read, as the pages of a map would stay."""
        buffer = memoryview(bytearray(min(_STEP_BYTES, stop - start))) if into is None else into
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(start)
            while start < stop:
                step = buffer[: min(_STEP_BYTES, stop - start)]
                if not (count := stream.readinto(step)):
                    raise self.damaged(start, "the file became shorter")
                yield step[:count]
                start += count
                if into is not None:
                    buffer = buffer[count:]


def _check_magic(path: Path, data: memoryview) -> None:
    magic = bytes(data[:4])
    if magic == b"PK\x03\x04":
        raise ConvertError(
            f"{path}: a zip, expected a MindSpore checkpoint. PyTorch writes zips (PyTorch "
            "Lightning under the ending .ckpt too): convert it as .pth"
        )
    if magic in _CIPHERS:
        raise ConvertError(
            f"{path}: encrypted ({_CIPHERS[magic]}). Decrypt it where MindSpore and the key are: "
            f"params = mindspore.load_checkpoint(path, dec_key=key, dec_mode={_CIPHERS[magic]!r}), "
            "then mindspore.save_checkpoint(params, 'plain.ckpt')"
        )


def _tensor_head(name: str, array: Array) -> bytes:
    """``dims`` and ``tensor_type`` of an array."""
    tensor_type = dtype_name(name, array, DTYPES, "which MindSpore loads from no .ckpt: ")
    if not array.size:
        raise ConvertError(f"{name} has shape {array.shape}: a .ckpt cannot hold an empty tensor")
    dims = b"".join(encode_header(NUMBER, dim) for dim in array.shape)
    return dims + encode_field(SECOND, tensor_type.encode())


def _entry_head(name: str, tensor_head: bytes, length: int) -> bytes:
    """Returns all of an entry but its ``length`` bytes of contents, which come right after."""
    tensor_head += encode_header(THIRD, length)
    tensor = encode_header(SECOND, len(tensor_head) + length) + tensor_head
    value = encode_field(FIRST, encode_text(name, what="the name")) + tensor
    return encode_header(FIRST, len(value) + length) + value
