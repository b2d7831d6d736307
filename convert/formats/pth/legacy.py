"""PyTorch's files before 1.6: pickles one after the other, and the bytes of storages after them.

What ``torch.save(…, _use_new_zipfile_serialization=False)`` still writes, as the models of
OpenMMLab are published::

    a pickle of a magic number
    a pickle of 1001
    a pickle of {"protocol_version": 1001, "little_endian": True, "type_sizes": {…}}
    a pickle of whatever was saved, as in a zip
    a pickle of the keys of its storages
    of each of these, in that order: its number of elements (int64), its bytes, little-endian

Source: ``_legacy_save`` and ``_legacy_load`` in ``torch/serialization.py`` of torch 2.13.
"""

import re
import struct
from pathlib import Path
from typing import IO, Any, cast

from convert.formats.pth import machine
from convert.formats.pth.tensors import OTHER_STORAGES, storage_of, storage_types
from convert.formats.pth.values import OfAnotherKind
from convert.formats.weight_file import map_file
from pvt_spec.errors import ConvertError

_MAGIC = re.compile(rb"\x80.(\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
_COUNT = struct.Struct("<q")


def is_legacy(path: Path) -> bool:
    """Returns whether a file begins with the pickle of the magic number, of any protocol."""
    return _MAGIC.match(map_file(path)) is not None


class LegacyFile:
    """The pickle and the storages of such a file.

    Attributes:
        big_endian: Whether the storages are so; they never are.

    Raises:
        ConvertError: The file is damaged.
    """

    big_endian = False

    def __init__(self, path: Path):
        self.path = path
        mapped = map_file(path)
        # A mapped file reads no more than it has, whatever a damaged length says.
        self._stream, self._data = cast(IO[bytes], mapped), memoryview(mapped)
        for _ in range(3):
            self._load()
        self._start = self._stream.tell()
        self._counts: dict[str, tuple[int, int]] = {}
        self._load()
        keys = self._load()
        self._values = self._storages(keys)

    def __len__(self) -> int:
        """Bytes of the file."""
        return len(self._data)

    def pickle(self) -> IO[bytes]:
        """Returns a stream that stands at the pickle of what was saved."""
        self._stream.seek(self._start)
        return self._stream

    def storage(self, key: str) -> memoryview:
        """Returns the bytes of a storage."""
        if key not in self._values:
            raise self._error(f"storage {key:.100} is missing")
        return self._values[key]

    def _load(self) -> Any:
        """Reads one pickle for the places of the storages alone."""
        source = f"{self.path} (a file of torch before 1.6)"
        return machine.load(self._stream, source, storage_types(), self._note, len(self))[0]

    def _note(self, identity: Any) -> Any:
        """Notes how many elements of how many bytes a storage has."""
        if identity[0] == "module":  # a class, and its source
            return identity[1]
        try:
            key, dtype, count = storage_of(identity)
            width = dtype.itemsize if dtype else 1
        except OfAnotherKind as kind:
            key, count = identity[2], identity[4]
            width = OTHER_STORAGES.get(str(kind).rpartition(".")[2], 0)
        self._counts[key] = count, width
        return None

    def _storages(self, keys: Any) -> dict[str, memoryview]:
        if not isinstance(keys, list):
            raise self._error(f"its storages are a {type(keys).__name__}, expected a list")
        values: dict[str, memoryview] = {}
        at = self._stream.tell()
        for key in keys:
            if not isinstance(key, str) or key in values or key not in self._counts:
                raise self._error(f"storage {key!r:.100} is unknown or there twice")
            count, width = self._counts[key]
            start = at + _COUNT.size
            at = start + count * width
            if at > len(self) or self._data[start - _COUNT.size : start] != _COUNT.pack(count):
                raise self._error(f"storage {key:.100} of {count} elements is not at byte {start}")
            values[key] = self._data[start:at]
        return values

    def _error(self, problem: str) -> ConvertError:
        return ConvertError(
            f"{self.path}: {problem}; the file is cut off or damaged: copy or download it again"
        )
