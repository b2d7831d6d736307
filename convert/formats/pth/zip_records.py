"""Records in the zip files of PyTorch: stored, not compressed, each starting at 64 bytes.

A record is a file in the zip, under one top folder: ``archive/data.pkl``, ``archive/data/0``, ….
Reading maps the zip and answers views of it; writing streams.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from convert.formats.weight_file import map_file
from pvt_spec.errors import ConvertError

ALIGNMENT = 64
"""Bytes. torch aligns records for vector instructions and memory mapping."""

_LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, …, lengths of the name and of the extra field
_EXTRA_HEADER = struct.Struct("<2sH")
_ZIP64_BYTES = 1 << 30  # well before the 2 GiB where zipfile itself would choose zip64
_ZIP64_EXTRA = 20  # bytes that zipfile adds to the header for it
_AGAIN = "the file is cut off or damaged: copy or download it again"
_RESAVE = "load it with torch and save it again: torch.save(checkpoint, 'weights.pth')"


class Archive:
    """The records of a zip that torch wrote, checked for what a hostile file could hold.

    Attributes:
        path: The zip, for complaints.

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
            held = ", ".join(f"{name!r:.60}" for name in [*entries][:4])
            raise ConvertError(
                f"{path}: a zip without exactly one FOLDER/data.pkl, expected what torch.save "
                f"writes; it holds {held or 'nothing'}"
            )
        self._root = roots[0]
        self._by_name = {
            name.removeprefix(self._root): info
            for name, info in entries.items()
            if name.startswith(self._root)
        }
        if "constants.pkl" in self._by_name:
            raise ConvertError(
                f"{path}: a TorchScript archive, which holds code; save its tensors alone: "
                "torch.save(torch.jit.load(path).state_dict(), 'weights.pth')"
            )

    def _entries(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
        except Exception as error:
            # zipfile fails in many ways on a damaged directory.
            raise ConvertError(
                f"{self.path}: its directory, at the end of the zip, cannot be read ({error}); "
                f"{_AGAIN}"
            ) from error
        entries = {info.filename: info for info in infos}
        # Without overlaps, so that checking all records takes as long as reading the file once.
        total = sum(info.file_size for info in infos)
        if len(entries) < len(infos) or total > len(self._data):
            raise ConvertError(
                f"{self.path}: its {len(infos)} records have {len(entries)} names and {total} "
                f"bytes in a file of {len(self._data)}, expected every record once, not compressed"
            )
        return entries

    def __len__(self) -> int:
        """Bytes of the zip."""
        return len(self._data)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def read(self, name: str) -> memoryview:
        """Returns the bytes of a record, a view of the file. Its CRC-32 is verified.

        Args:
            name: The record's name without the top folder, such as ``data.pkl``.

        Raises:
            ConvertError: There is no such record, it is compressed, encrypted or damaged.
        """
        info = self._by_name.get(name)
        if info is None:
            raise ConvertError(f"{self.path}: record {name:.100} is missing; {_AGAIN}")
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


def _other_format(data: memoryview) -> str:
    start = bytes(data[:300])
    if start.startswith(
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02c", b"\x80\x02}")
    ):
        return f"written by a torch before 1.6, or a bare pickle, expected a zip: {_RESAVE}"
    if b"ustar" in start[257:263]:
        return f"a tar, as torch wrote before 0.2, expected a zip: {_RESAVE}"
    if start.startswith(b"PK"):
        return f"a zip without records, expected what torch.save writes; {_AGAIN}"
    return f"no zip, expected what torch.save writes; another format under this name, or {_AGAIN}"


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
