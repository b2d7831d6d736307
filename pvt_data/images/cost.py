"""What decoding an image would take in time and memory, as its first bytes say.

It is asked before Pillow opens the file; the limits are those of :mod:`pvt_spec.files.limits`.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from operator import mul
from typing import BinaryIO, Literal

from pvt_spec.errors import ImageError
from pvt_spec.files.limits import (
    MAX_COEFFICIENTS,
    MAX_COMMENTS,
    MAX_DIRECTORIES,
    MAX_EXIF,
    MAX_IMAGE_BYTES,
    MAX_PACKED_TEXTS,
    MAX_PADDING,
    MAX_PARTS_BEFORE,
    MAX_PIXELS,
    MAX_SCANNED,
    MAX_SCANS,
    MAX_SIDE,
    MAX_TIFF_NUMBERS,
    MAX_TIFF_SHARED,
)

_CHUNK = 1 << 20
_LOSSLESS = 0xC3
_SEQUENTIAL, _PROGRESSIVE, _SCAN = (0xC0, 0xC1, _LOSSLESS, 0xC9), (0xC2, 0xC6, 0xCA, 0xCE), 0xDA
_EXIF, _SEVERAL = (0xE1, b"Exif\0\0"), (0xE2, b"MPF\0")
"""Markers within a JPEG, of data with how they begin: EXIF's, and what tells of several images."""

_FRAMES = {*range(0xC0, 0xD0), 0xDE} - {0xC4, 0xC8, 0xCC}
"""Those of frames, of which a JPEG has one."""

_ALONE = {0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
"""Those that have no length and data behind them, to libjpeg or to Pillow."""

_LEAST_DATA = 64
"""Bytes of a part of a PNG's pixels, as encoders write them, but perhaps for the last."""

_PPM_HEAD = 1 << 16
"""Bytes of the words and comments that a PPM begins with, which Pillow reads one by one."""

_BYTES = (1, 2, 7)
"""TIFF's types of bytes and texts, which stay as they are."""

_WIDTHS = {3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8}
"""Its types of whole numbers -> the bytes of each."""

_DIRECTORIES = (34665, 34853, 40965)
"""Its tags that say where other directories are, all of which Pillow reads."""


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
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        _check_parts(stream)
    if start[:2] in (b"II", b"MM"):
        check_numbers(stream)
    if re.match(rb"P\d", start):
        _check_words(stream)
    stream.seek(0)
    return scans


def is_lossless(stream: BinaryIO) -> bool:
    """Returns whether a JPEG holds pixels, not frequencies, so that it has no fractions."""
    return any(marker == _LOSSLESS for marker, _ in _segments(stream))


def check_size(width: int, height: int, scans: int) -> None:
    """Refuses an image whose pixels would take much time or memory.

    Raises:
        ImageError: It is above one of the limits of :mod:`pvt_spec.files.limits`.
    """
    size = f"{width} x {height} pixels"
    check_most(width * height, MAX_PIXELS, f"pixels ({size})")
    check_most(max(width, height), MAX_SIDE, f"pixels on a side ({size})")
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
    segments = [*_segments(stream)]
    if _is_one_scan(segments):
        return 1
    _check_coefficients(segments)
    stream.seek(0)
    scans, last = 0, b""
    while chunk := stream.read(_CHUNK):
        # Within a scan's data no byte 255 stands before any but 0 and eight others.
        scans += chunk.count(b"\xff\xda") + (last == b"\xff" and chunk[:1] == b"\xda")
        last = chunk[-1:]
    return scans


_Segment = tuple[int, bytes]
"""The marker of a segment of a JPEG, and its data."""


def _is_one_scan(segments: Sequence[_Segment]) -> bool:
    """Returns whether a JPEG's first scan has all of its pixels, after which decoders stop."""
    components = 0
    for marker, data in segments:
        if marker in _PROGRESSIVE:
            return False
        if marker in _SEQUENTIAL:
            components = int.from_bytes(data[5:6], "big")
        elif marker == _SCAN:
            return data[:1] >= bytes([components])
    return False


def _check_coefficients(segments: Sequence[_Segment]) -> None:
    """Refuses a JPEG all of whose coefficients take much memory, beside its pixels.

    Raises:
        ImageError: They do.
    """
    for marker, data in segments:
        if marker in (*_PROGRESSIVE, *_SEQUENTIAL):
            height, width = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
            across, down = [byte >> 4 for byte in data[7::3]], [byte & 15 for byte in data[7::3]]
            whole = max([1, *across]) * max([1, *down])
            if (beyond := 2 * sum(map(mul, across, down)) / whole + 4 - 8) > 0:
                most = int(MAX_COEFFICIENTS / beyond)
                what = "pixels in full colour and several scans"
                check_most(width * height, most, what, "as a baseline JPEG")


def _segments(stream: BinaryIO) -> Iterator[_Segment]:
    """Yields what a JPEG says of its frame and its first scan, behind which decoders read pixels.

    Raises:
        ImageError: There are very many parts before, several frames, or much between them.
    """
    frames, exif = 0, bytearray()
    for number, marker in enumerate(_markers(stream)):
        check_most(number, MAX_PARTS_BEFORE, "parts before its pixels")
        if marker in _ALONE:
            continue
        frames += marker in _FRAMES
        check_most(frames, 1, "frames")
        length = max(int.from_bytes(stream.read(2), "big") - 2, 0)
        data = stream.read(length)
        if (marker, data[:6]) == _EXIF:  # Pillow takes several for one
            exif += data[6:]
            check_most(len(exif), MAX_EXIF, "bytes of EXIF data")
        elif (marker, data[:4]) == _SEVERAL:
            check_numbers(BytesIO(data[4:]))
        elif marker in _FRAMES or marker == _SCAN:
            yield marker, data
        if marker == _SCAN:
            break
    check_numbers(BytesIO(bytes(exif)))


def _markers(stream: BinaryIO) -> Iterator[int]:
    """Yields the markers of a JPEG as decoders find them: whatever is before one is passed over."""
    stream.seek(2)
    passed, last = 0, 0
    while byte := stream.read(1):
        if last == 0xFF and byte[0] not in (0, 0xFF):
            last = 0
            yield byte[0]
        else:
            last = byte[0]
            passed += 1
            check_most(passed, MAX_PADDING, "bytes between its parts")


def _check_parts(stream: BinaryIO) -> None:
    """Refuses a PNG with very many parts, each of which Pillow keeps.

    Raises:
        ImageError: It has.
    """
    texts = parts = 0
    stream.seek(8)
    # Behind the last part, or damage, no decoder goes on.
    while re.fullmatch(rb".{4}\w{4}", head := stream.read(8), re.DOTALL) and head[4:] != b"IEND":
        texts += head[4:] in (b"zTXt", b"iTXt", b"iCCP")
        check_most(texts, MAX_PACKED_TEXTS, "compressed texts and profiles")
        size = int.from_bytes(head[:4], "big")
        parts += head[4:] not in (b"IDAT", b"fcTL", b"fdAT") or size < _LEAST_DATA
        check_most(parts, MAX_PARTS_BEFORE, "parts beside its pixels")
        # Past the data, and their sum.
        stream.seek(size + 4, 1)


def _check_words(stream: BinaryIO) -> None:
    """Refuses a PPM whose head, or comments between its numbers, would be read for long.

    Raises:
        ImageError: They would.
    """
    stream.seek(0)
    start = stream.read(_PPM_HEAD)
    words = re.sub(rb"#[^\r\n]*", b"", start).split(None, 4)
    if len(words) < 3:  # of a bitmap; others have one more
        check_most(len(start), _PPM_HEAD - 1, "bytes before its numbers")
    if start[:2] in (b"P1", b"P2", b"P3"):
        comments = start.count(b"#")
        while chunk := stream.read(_CHUNK):
            comments += chunk.count(b"#")
        check_most(comments, MAX_COMMENTS, "comments")


def check_numbers(stream: BinaryIO) -> None:
    """Refuses a TIFF, or EXIF data, whose directories have what takes much time and memory.

    Raises:
        ImageError: They have.
    """
    length = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    # BigTIFF is what Pillow takes for it.
    word, count, form = (8, 8, "HHQ8s") if head[2:3] == b"+" else (4, 2, "HHL4s")
    entry = struct.Struct(("<" if order == "little" else ">") + form)
    places, seen, numbers, shared = [int.from_bytes(head[word : 2 * word], order)], 0, 0, -length
    while places:
        if (place := places.pop()) >= length:
            continue
        seen += 1
        check_most(seen, MAX_DIRECTORIES, "directories")
        stream.seek(place)
        size = int.from_bytes(stream.read(count), order) * entry.size
        entries = stream.read(min(size, length))
        for tag, kind, many, value in entry.iter_unpack(
            entries[: len(entries) // entry.size * entry.size]
        ):
            if many > length:  # which the file has not
                continue
            if kind in _BYTES:
                shared += many
                continue
            numbers += many
            if tag in _DIRECTORIES and many and (width := _WIDTHS.get(kind)):
                if many * width > word:
                    stream.seek(min(int.from_bytes(value, order), length))
                    value = stream.read(width)
                places.append(int.from_bytes(value[:width], order))
    check_most(numbers, MAX_TIFF_NUMBERS, "numbers in its directories")
    check_most(shared, MAX_TIFF_SHARED, "bytes in its directories, beyond those that it has")
