"""Protobuf's wire format, as much of it as weight files use: fields in a mapped file, and back.

A field is a key (number * 8 + kind, as a varint: 7 bits a byte, lowest first), then for kind 0 a
varint, for kind 1 eight bytes, for kind 2 a varint length and that many bytes, for kind 5 four
bytes. Other kinds are refused: groups, which nobody writes.

In a message, the fields come in any order. Of one that is there several times, a repeated field
has all of its values, another the last.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_FIELDS, MAX_NAME

NUMBER = 0x08
"""Key of field 1 as a varint."""

FIRST, SECOND, THIRD = 0x0A, 0x12, 0x1A
"""Keys of fields 1, 2 and 3 as bytes."""

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of the value, by the kind of a field."""


@dataclass(frozen=True)
class FieldReader:
    """Fields of a mapped file, as spans of it. Every complaint names the file and the byte.

    Attributes:
        path: The file's path, for complaints.
        data: The file's bytes.
        again: What the file is if it cannot be read, and what to do next; ends complaints.
        looked_at: How many fields were read so far, as the one item.
    """

    path: Path
    data: memoryview
    again: str
    looked_at: list[int] = field(default_factory=lambda: [0], repr=False)

    def error(self, at: int, problem: str) -> ConvertError:
        """Returns the error to raise for a problem at byte ``at``."""
        return ConvertError(f"{self.path}: at byte {at}: {problem}")

    def damaged(self, at: int, problem: str) -> ConvertError:
        """Returns the error to raise for what no sound file has at byte ``at``."""
        return self.error(at, f"{problem}; {self.again}")

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yields the key, start and stop of every field in data[at:end].

        Raises:
            ConvertError: Something else is there. So do all methods here.
        """
        while at < end:
            key, start, at = self.field(at, end)
            yield key, start, at

    def field(self, at: int, end: int) -> tuple[int, int, int]:
        """Returns the key of the field at ``at``, and where its value starts and stops."""
        self.looked_at[0] += 1
        if self.looked_at[0] > MAX_FIELDS:
            raise self.error(at, f"more than {MAX_FIELDS} fields, expected those of a PVT")
        key, start = self.number(at, end)
        kind = key & 7
        if not 0 < key >> 3 < 1 << 29:  # the numbers that protobuf has for fields
            raise self.unexpected(at)
        if kind == _VARINT:
            return key, start, self.number(start, end)[1]
        if kind == _BYTES:
            length, start = self.number(start, end)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise self.unexpected(at)
        if length > end - start:
            raise self.damaged(at, f"a field of {length} bytes where {end - start} are left")
        return key, start, start + length

    def unexpected(self, at: int) -> ConvertError:
        """Returns the error to raise for a byte that starts no field."""
        got = self.data[at]
        return self.damaged(at, f"got 0x{got:02x}, expected the key of a field")

    def number(self, at: int, end: int) -> tuple[int, int]:
        """Returns the varint at ``at``, and where it stops."""
        value = shift = 0
        for position in range(at, min(at + 10, end)):
            byte = self.data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position + 1
            shift += 7
        raise self.damaged(at, "expected a number of up to 10 bytes")

    def numbers(self, at: int, end: int) -> Iterator[int]:
        """Returns the varints that fill data[at:end]."""
        while at < end:
            value, at = self.number(at, end)
            yield value

    def name(self, span: tuple[int, int]) -> str:
        """Returns data[start:stop] as a name in UTF-8, where span is (start, stop)."""
        start, stop = span
        if stop - start > MAX_NAME:
            raise self.error(start, f"a name of {stop - start} bytes, expected at most {MAX_NAME}")
        return self.text(span, "utf-8")

    def text(self, span: tuple[int, int], encoding: str) -> str:
        """Returns data[start:stop] as text, where span is (start, stop)."""
        start, stop = span
        try:
            return str(self.data[start:stop], encoding)
        except UnicodeDecodeError as error:
            raise self.damaged(start, f"expected text in {encoding} ({error.reason})") from None


def encode_field(key: int, value: bytes) -> bytes:
    """Returns a field of bytes."""
    return encode_header(key, len(value)) + value


def encode_header(key: int, number: int) -> bytes:
    """Returns a field of kind 0 with its number, or the start of a field of ``number`` bytes."""
    groups = [key]
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
