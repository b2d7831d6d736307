"""The entries of a zip file: texts, and arrays in numpy's format; what any may cost is bounded.

numpy reads the same files, but trusts what they say: of shapes, of the size of what is compressed,
and of dtypes, which are programs of a kind.
"""

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from parity.errors import ParityError
from pvt_spec.arrays import Array
from pvt_spec.files.limits import MAX_DIMS
from pvt_spec.words import shortened

MAX_GROWTH, SMALL = 4, 8 << 20
"""How many times the size of a file its entries may have unpacked, beside so many bytes.

What a runtime answers hardly gets smaller by compression, images by half or so: what unpacks to
more holds zeros, which a short file could have any number of.
"""

_MAX_HEADER = 10_000  # numpy's own limit
_CHUNK = 1 << 20  # bytes that are read at a time
_ENDING = ".npy"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The compressions that numpy writes, both of which are unpacked a chunk at a time."""

_MAGIC = re.compile(rb"\x93NUMPY([\x01-\x03])\x00")
_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([^']{1,40})',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(([\d,\s]*)\),?\s*\}\s*"
)
_FLOATS = re.compile(r"[<>=|]?f[248]")
_AGAIN = (
    "it is cut off, damaged or something else; copy it again, or make it again with parity capture"
)


_Header = tuple[np.dtype[Any], tuple[int, ...], bool]


class Entries:
    """What is in a zip file, which stays open.

    Attributes:
        path: The file.
        names: The names of its arrays, in the file's order.

    Raises:
        ParityError: It is no zip file, or a damaged one, or unpacks to far more than it has.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            raise ParityError(f"{path}: no such file")
        if not path.is_file():  # to open a pipe would wait for its other end
            raise ParityError(
                f"{path}: a folder, a pipe or a device, expected a bundle or another .npz"
            )
        with self._unpacking("cannot be read as a bundle"):
            self._file = zipfile.ZipFile(path)
            infos = self._file.infolist()
            size = path.stat().st_size
        self._by_name = {info.filename: info for info in infos}
        self.names = [n.removesuffix(_ENDING) for n in self._by_name if n.endswith(_ENDING)]
        held, most = sum(info.file_size for info in infos), MAX_GROWTH * size + SMALL
        if held > most:
            raise ParityError(
                f"{path}: its entries have {held:,} bytes in a file of {size:,}, expected at most "
                f"{most:,}: it is damaged, or holds little but zeros; write it again without "
                "compression, with numpy.savez"
            )

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def has(self, array: str) -> bool:
        """Whether there is an array of this name."""
        return array + _ENDING in self._by_name

    @contextmanager
    def _unpacking(self, problem: str) -> Iterator[None]:
        """Tells what goes wrong: zipfile and zlib say nowhere what they raise on damaged files."""
        try:
            yield
        except ParityError:
            raise
        except Exception as error:
            reason = shortened(str(error) or type(error).__name__, 200)
            raise ParityError(f"{self.path}: {problem} ({reason}): {_AGAIN}") from error

    def _open(self, name: str) -> IO[bytes]:
        info = self._by_name[name]
        if info.compress_type not in _METHODS:
            raise ValueError(f"compression method {info.compress_type}, expected none or deflate")
        return self._file.open(info)

    def text(self, name: str) -> str:
        """Returns an entry that is a text.

        Raises:
            ParityError: It is damaged, or not in UTF-8.
        """
        with self._unpacking(f"{name} cannot be read"), self._open(name) as stream:
            return stream.read().decode()

    def array(self, name: str) -> Array:
        """Returns an array of floating-point numbers.

        Raises:
            ParityError: It is damaged, or of something else.
        """
        shown = shortened(repr(name + _ENDING))
        with self._unpacking(f"{shown} cannot be read"), self._open(name + _ENDING) as stream:
            dtype, shape, columns = self._read_header(stream, shown)
            info = self._by_name[name + _ENDING]
            count = math.prod(shape)
            if count * dtype.itemsize != info.file_size - stream.tell():
                raise ValueError(f"{dtype} {shape} in an entry of {info.file_size} bytes")
            values = np.empty(count, dtype)
            room, at = values.view(np.uint8).data, 0
            while read := stream.readinto(room[at : at + _CHUNK]):  # type: ignore[attr-defined]
                at += read
            if at != len(room):
                raise EOFError(f"{at} bytes of values, expected {len(room)}")
            return values.reshape(shape, order="F" if columns else "C")

    def _read_header(self, stream: IO[bytes], shown: str) -> _Header:
        """Returns dtype, shape and whether columns come first, of an array at its beginning."""
        version = _MAGIC.fullmatch(stream.read(8))
        if version is None:
            raise ValueError("not in numpy's format")
        length = int.from_bytes(stream.read(2 if version[1] == b"\x01" else 4), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"a header of {length} bytes, expected at most {_MAX_HEADER}")
        header = stream.read(length)
        match = _HEADER.fullmatch(header)
        if match is None or not _FLOATS.fullmatch(match[1].decode("latin-1")):
            kind = repr(match[1].decode("latin-1")) if match else shortened(repr(header), 100)
            raise ParityError(
                f"{self.path}: {shown} is of dtype {kind}, expected numbers of float16, float32 or "
                "float64 ('<f2', '<f4', '<f8'): write it again as one of these"
            )
        shape = tuple(int(side) for side in match[3].replace(b" ", b"").split(b",") if side)
        if len(shape) > MAX_DIMS or max(shape, default=0) >= 1 << 63:
            raise ValueError("a shape that no array has")
        return np.dtype(match[1].decode()), shape, match[2] == b"True"
