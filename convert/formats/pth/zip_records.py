"""Records in the zip files of PyTorch: stored, not compressed, each starting at 64 bytes.

A record is a file in the zip, under one top folder: ``archive/data.pkl``, ``archive/data/0``, ….
Reading maps the zip and answers views of it; writing streams.

A zip can be made of which two readers see different records. What this module reads is what torch
does, or refused: miniz there takes the directory from where the end says it is, and looks names up
without regard to case, both otherwise than :mod:`zipfile` does.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, BinaryIO

from convert.formats.weight_file import map_file
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_DIRECTORY
from pvt_spec.words import listed, show

ALIGNMENT = 64
"""Bytes. torch aligns records for vector instructions and memory mapping."""

_LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, …, lengths of the name and of the extra field
_END_MAGIC, _END_64_MAGIC = b"PK\x05\x06", b"PK\x06\x06"
_END, _END_64 = struct.Struct("<12xII2x"), struct.Struct("<40xQQ")  # the directory's size and place
_LOCATOR_MAGIC = b"PK\x06\x07"
_LOCATOR = struct.Struct("<8xQ4x")  # between the two: the place of the latter
_END_BYTES = (1 << 16) + 200  # a comment of any length may follow
_EXTRA_HEADER = struct.Struct("<2sH")
_ZIP64_BYTES = 1 << 30  # well before the 2 GiB where zipfile itself would choose zip64
_ZIP64_EXTRA = 20  # bytes that zipfile adds to the header for it
_AGAIN = "the file is cut off or damaged: copy or download it again"
_RESAVE = "load it with torch and save it again: torch.save(checkpoint, 'weights.pth')"


class Archive:
    """The records of a zip that torch wrote, checked for what a hostile file could hold.

    Attributes:
        path: The zip, for complaints.
        big_endian: Whether the storages are so.

    Raises:
        ConvertError: The file is no zip, or not such a one.
    """

    def __init__(self, path: Path):
        self.path = path
        self._data = memoryview(map_file(path))
        if self._data[:4] != _LOCAL_MAGIC:
            raise ConvertError(f"{path}: {_other_format(self._data)}")
        entries = self._entries()
        roots = [name[: -len("data.pkl")] for name in entries if name.endswith("data.pkl")]
        roots = [root for root in roots if root.count("/") == 1 and root.endswith("/")]
        if len(roots) != 1:
            raise ConvertError(f"{path}: {_other_zip(path, entries)}")
        self._by_name = {
            name.removeprefix(roots[0]): info
            for name, info in entries.items()
            if name.startswith(roots[0])
        }
        if "constants.pkl" in self._by_name:
            raise ConvertError(
                f"{path}: a TorchScript archive, which holds a program; save its tensors alone: "
                f"torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pth')"
            )
        self._check_size(entries.values())
        order = bytes(self._read("byteorder")) if "byteorder" in self._by_name else b"little"
        if order not in (b"little", b"big"):
            raise ConvertError(
                f"{path}: record byteorder is {order!r:.60}, expected b'little' or b'big': copy or "
                "download the file again"
            )
        self.big_endian = order == b"big"

    def _entries(self) -> dict[str, zipfile.ZipInfo]:
        size, stop, expected = _directory(self._data)
        if size > MAX_DIRECTORY:
            raise ConvertError(
                f"{self.path}: a zip with a directory of {size} bytes, expected at most "
                f"{MAX_DIRECTORY} for the records of a PVT"
            )
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
        except Exception as error:
            # zipfile fails in many ways on a damaged directory.
            raise ConvertError(
                f"{self.path}: its directory, at the end of the zip, cannot be read ({error}); "
                f"{_AGAIN}"
            ) from error
        if stop != expected:
            raise ConvertError(
                f"{self.path}: its directory is said to end at byte {stop}, expected {expected}, "
                f"where its end begins; {_AGAIN}"
            )
        # Another filename than the original one is by a field that torch does not look at.
        entries = {info.filename: info for info in infos if info.filename == info.orig_filename}
        names = {name.lower() for name in entries}
        if len(names) < len(infos):
            raise ConvertError(
                f"{self.path}: its {len(infos)} records have {len(names)} names, expected every "
                f"record once, by one name, without regard to case; {_AGAIN}"
            )
        return entries

    def _check_size(self, infos: Iterable[zipfile.ZipInfo]) -> None:
        # Without overlaps, so that checking all records takes as long as reading the file once.
        total = sum(info.file_size for info in infos)
        if total > len(self._data):
            raise ConvertError(
                f"{self.path}: its records have {total} bytes in a file of {len(self._data)}, "
                f"expected every record once, not compressed, as torch.save does: {_RESAVE}"
            )

    def __len__(self) -> int:
        """Bytes of the zip."""
        return len(self._data)

    def pickle(self) -> IO[bytes]:
        """Returns the pickle of what was saved.

        Raises:
            ConvertError: It is compressed, encrypted or damaged.
        """
        return io.BytesIO(self._read("data.pkl"))

    def storage(self, key: str) -> memoryview:
        """Returns the bytes of a storage, a view of the file.

        Raises:
            ConvertError: There is no such record, it is compressed, encrypted or damaged.
        """
        return self._read(f"data/{key}")

    def _read(self, name: str) -> memoryview:
        """Returns the bytes of a record, without the top folder. Its CRC-32 is verified."""
        info = self._by_name.get(name)
        if info is None:
            raise ConvertError(f"{self.path}: record {name[:100]} is missing; {_AGAIN}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ConvertError(
                f"{self.path}: record {name} is compressed or encrypted, expected it stored, as "
                f"torch.save does: {_RESAVE}"
            )
        header = bytes(self._data[info.header_offset :][: _LOCAL_HEADER.size])
        magic, *lengths = _LOCAL_HEADER.unpack(header.ljust(_LOCAL_HEADER.size))
        start = info.header_offset + _LOCAL_HEADER.size + sum(lengths)
        values = self._data[start : start + info.file_size]
        if info.header_offset < 0 or magic != _LOCAL_MAGIC or len(values) != info.file_size:
            raise ConvertError(
                f"{self.path}: record {name}, {info.file_size} bytes, is not at byte "
                f"{info.header_offset}; {_AGAIN}"
            )
        # torch writes 0 where set_crc32_options(False) was called.
        if info.CRC and (found := zlib.crc32(values)) != info.CRC:
            raise ConvertError(
                f"{self.path}: record {name}, at byte {start}: CRC-32 is {found}, "
                f"expected {info.CRC}; {_AGAIN}"
            )
        return values


def _directory(data: memoryview) -> tuple[int, int, int]:
    """Returns a zip's directory as its end says: size, where it stops, and where it should.

    It should where the end begins; all are 0 where there is none. The end is where
    :mod:`zipfile` looks for it, which makes much of every entry's few bytes.
    """
    tail = bytes(data[-_END_BYTES:])
    at = len(tail) - _END.size
    if tail[at : at + 4] != _END_MAGIC:
        at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        return 0, 0, 0
    before = len(data) - len(tail)
    size, start = _END.unpack_from(tail, at)
    locator = at - _LOCATOR.size
    if locator < 0 or tail[locator : locator + 4] != _LOCATOR_MAGIC:
        return size, start + size, before + at
    at = locator - _END_64.size
    (said,) = _LOCATOR.unpack_from(tail, locator)
    if at < 0 or tail[at : at + 4] != _END_64_MAGIC or said != before + at:
        return 0, said, before + max(at, 0)
    size, start = _END_64.unpack_from(tail, at)
    return size, start + size, before + at


def _other_format(data: memoryview) -> str:
    start = bytes(data[:300])
    if start[:1] == b"\x80":
        return (
            "a bare pickle, as pickle.dump writes, expected what torch.save writes: save what is "
            "in it with torch: torch.save(pickle.load(open(path, 'rb')), 'weights.pth')"
        )
    if start.startswith(b"PK"):
        return f"a zip without records, expected what torch.save writes; {_AGAIN}"
    return f"no zip, expected what torch.save writes; another format under this name, or {_AGAIN}"


def _other_zip(path: Path, names: Iterable[str]) -> str:
    """Returns what a zip is that has not one ``FOLDER/data.pkl``, and what to do about it."""
    names = [*names]
    if any(name.endswith(("archive_format", "models/model.json")) for name in names):
        return (
            "a program of torch.export, which holds no names of ours; save its tensors alone: "
            f"torch.save(torch.export.load('{path.name}').state_dict, 'weights.pth')"
        )
    if "bundle.json" in names:
        return "a bundle of parity: parity check BUNDLE MODEL, or compare, takes it"
    held = listed(names, 4, lambda name: show(name[:60])) or "nothing"
    return (
        f"a zip without exactly one FOLDER/data.pkl, not what torch.save writes; it holds {held}: "
        f"unpack it, and give the model that is in it: python -m zipfile -e '{path}' ."
    )


def write_record(
    archive: zipfile.ZipFile, stream: BinaryIO, name: str, values: bytes | memoryview
) -> None:
    """Adds a record to a zip, its bytes at a multiple of :data:`ALIGNMENT`.

    Args:
        archive: A zip being written to ``stream``.
        stream: The zip's file, which tells where in it we are.
        name: The record's name with the top folder, in ASCII.
        values: The record's bytes, uncompressed.
    """
    info = zipfile.ZipInfo(name)  # of 1980: the same tensors give the same file
    info.file_size = len(values)
    zip64 = len(values) >= _ZIP64_BYTES
    header = _LOCAL_HEADER.size + len(name) + _EXTRA_HEADER.size + (_ZIP64_EXTRA if zip64 else 0)
    padding = -(stream.tell() + header) % ALIGNMENT
    info.extra = _EXTRA_HEADER.pack(b"FB", padding) + bytes(padding)  # torch's own field
    with archive.open(info, "w", force_zip64=zip64) as record:
        record.write(values)
