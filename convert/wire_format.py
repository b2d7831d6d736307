"""Protobuf's wire format, as much of it as a ``.ckpt`` uses: fields in a mapped file, and back.

A field is a key byte (number * 8 + kind), then for kind 0 a varint (7 bits a byte, lowest first),
for kind 2 a varint length and that many bytes. Other kinds are refused. Standard library only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convert.errors import ConvertError

NUMBER = 0x08
"""Key of field 1 as a varint."""

FIRST, SECOND, THIRD = 0x0A, 0x12, 0x1A
"""Keys of fields 1, 2 and 3 as bytes."""

AGAIN = "the file is cut off, damaged or no MindSpore checkpoint: copy or download it again"


@dataclass(frozen=True)
class FieldReader:
    """Fields of a mapped file, as spans of it. Every complaint names the file and the byte.

    Attributes:
        path: Of the file, for complaints.
        data: Its bytes.
    """

    path: Path
    data: memoryview

    def error(self, at: int, problem: str) -> ConvertError:
        """The error to raise for a problem at byte ``at``."""
        return ConvertError(f"{self.path}: at byte {at}: {problem}")

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Key, start and stop of every field in data[at:end].

        Raises:
            ConvertError: Something else is there. So do all methods here.
        """
        while at < end:
            key, start, at = self.field(at, end)
            yield key, start, at

    def field(self, at: int, end: int) -> tuple[int, int, int]:
        """Key of the field at ``at``, and where its value starts and stops (at most ``end``)."""
        key, start = self.data[at], at + 1
        if key & 7 == 2:
            length, start = self.number(start, end)
            if length > end - start:
                raise self.error(
                    at, f"a field of {length} bytes where {end - start} are left; {AGAIN}"
                )
            return key, start, start + length
        if key != NUMBER:
            raise self.error(at, f"got 0x{key:02x}, expected the key of a field; {AGAIN}")
        return key, start, self.number(start, end)[1]

    def number(self, at: int, end: int) -> tuple[int, int]:
        """The varint at ``at``, and where it stops."""
        value = shift = 0
        for position in range(at, min(at + 10, end)):
            byte = self.data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position + 1
            shift += 7
        raise self.error(at, f"expected a number of up to 10 bytes; {AGAIN}")

    def numbers(self, at: int, end: int) -> Iterator[int]:
        """The varints that fill data[at:end]."""
        while at < end:
            value, at = self.number(at, end)
            yield value

    def text(self, span: tuple[int, int], encoding: str) -> str:
        """data[start:stop] as text, where span is (start, stop)."""
        start, stop = span
        try:
            return str(self.data[start:stop], encoding)
        except UnicodeDecodeError as error:
            raise self.error(
                start, f"expected text in {encoding} ({error.reason}); {AGAIN}"
            ) from None


def encode_field(key: int, value: bytes) -> bytes:
    """A field of bytes."""
    return encode_header(key, len(value)) + value


def encode_header(key: int, number: int) -> bytes:
    """A field of kind 0 with its number, or the start of a field of ``number`` bytes."""
    groups = [key]
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
