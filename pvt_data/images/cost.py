"""What decoding an image would take in time and memory, as its first bytes say.

It is asked before Pillow opens the file; the limits are those of :mod:`pvt_spec.files.limits`.
"""

from collections.abc import Iterator
from operator import mul
from typing import BinaryIO

from pvt_spec.errors import ImageError
from pvt_spec.files.limits import (
    MAX_COEFFICIENTS,
    MAX_IMAGE_BYTES,
    MAX_PACKED_TEXTS,
    MAX_PADDING,
    MAX_PIXELS,
    MAX_ROWS,
    MAX_SCANNED,
    MAX_SCANS,
)

_CHUNK = 1 << 20
_SEQUENTIAL, _PROGRESSIVE, _SCAN = (0xC0, 0xC1, 0xC9), (0xC2, 0xC6, 0xCA, 0xCE), 0xDA
"""Markers within a JPEG."""


def count_scans(stream: BinaryIO) -> int:
    """Returns how often an image's pixels are gone through; the stream is at its start then.

    Raises:
        ImageError: Reading its header would already take too much memory.
    """
    length = stream.seek(0, 2)
    check_most(length, MAX_IMAGE_BYTES, "bytes")
    stream.seek(0)
    start = stream.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        beyond = length - 8 - int.from_bytes(start[4:8], "little")
        check_most(beyond, MAX_PADDING, "bytes behind its end")
    scans = _count_scans(stream) if start.startswith(b"\xff\xd8") else 1
    texts = _count_packed_texts(stream) if start[:8] == b"\x89PNG\r\n\x1a\n" else 0
    stream.seek(0)
    check_most(texts, MAX_PACKED_TEXTS, "compressed texts")
    return scans


def check_size(width: int, height: int, scans: int) -> None:
    """Refuses an image whose pixels would take much time or memory.

    Raises:
        ImageError: It is above one of the limits of :mod:`pvt_spec.files.limits`.
    """
    size = f"{width} x {height} pixels"
    check_most(width * height, MAX_PIXELS, f"pixels ({size})")
    check_most(height, MAX_ROWS, f"rows ({size})")
    check_most(scans, MAX_SCANS, "scans")
    check_most(scans * width * height, MAX_SCANNED, f"pixels in all its scans ({scans} of {size})")


def check_most(number: int, most: int, what: str, how: str = "anew") -> None:
    """Refuses an image that has more of something than is decoded.

    Raises:
        ImageError: It has.
    """
    if number > most:
        raise ImageError(
            f"has {number:,} {what}, more than the {most:,} that are decoded: make it smaller, or "
            f"save it {how}"
        )


def _count_scans(stream: BinaryIO) -> int:
    if _is_one_scan(stream):
        return 1
    _check_coefficients(stream)
    stream.seek(0)
    scans, last = 0, b""
    while chunk := stream.read(_CHUNK):
        # Within a scan's data no byte 255 stands before any but 0 and eight others.
        scans += chunk.count(b"\xff\xda") + (last == b"\xff" and chunk[:1] == b"\xda")
        last = chunk[-1:]
    return scans


def _is_one_scan(stream: BinaryIO) -> bool:
    """Returns whether a JPEG's first scan has all of its pixels, after which decoders stop."""
    components = 0
    for marker, data in _segments(stream):
        if marker in _PROGRESSIVE:
            return False
        if marker in _SEQUENTIAL:
            components = int.from_bytes(data[5:6], "big")
        elif marker == _SCAN:
            return data[:1] >= bytes([components])
    return False


def _check_coefficients(stream: BinaryIO) -> None:
    """Refuses a JPEG all of whose coefficients take much memory, beside its pixels.

    Raises:
        ImageError: They do.
    """
    for marker, data in _segments(stream):
        if marker in (*_PROGRESSIVE, *_SEQUENTIAL):
            height, width = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
            across, down = [byte >> 4 for byte in data[7::3]], [byte & 15 for byte in data[7::3]]
            whole = max([1, *across]) * max([1, *down])
            if (beyond := 2 * sum(map(mul, across, down)) / whole + 4 - 8) > 0:
                most = int(MAX_COEFFICIENTS / beyond)
                what = "pixels in full colour and several scans"
                check_most(width * height, most, what, "as a baseline JPEG")
            return


def _segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields the marker of each segment of a JPEG before its pixels, and the data of some."""
    stream.seek(2)
    while len(head := stream.read(4)) == 4 and head[0] == 255:
        length = int.from_bytes(head[2:], "big") - 2
        if head[1] in (*_PROGRESSIVE, *_SEQUENTIAL, _SCAN):
            yield head[1], stream.read(length)
        else:
            stream.seek(length, 1)


def _count_packed_texts(stream: BinaryIO) -> int:
    texts = 0
    stream.seek(8)
    # Behind the last part, or damage, no decoder goes on.
    while len(head := stream.read(8)) == 8 and head[4:].isalpha() and head[4:] != b"IEND":
        texts += head[4:] in (b"zTXt", b"iTXt")
        # Past the data, and their sum.
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return texts
