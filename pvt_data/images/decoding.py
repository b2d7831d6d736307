"""Image files to pixels: the one place where files of strangers are decoded.

Only the formats of :data:`pvt_data.sources.listing.FORMATS` are, whatever else Pillow knows.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from pvt_data.sources.listing import FORMATS
from pvt_spec.errors import ImageError
from pvt_spec.files.limits import (
    MAX_IMAGE_BYTES,
    MAX_PACKED_TEXTS,
    MAX_PADDING,
    MAX_PIXELS,
    MAX_ROWS,
    MAX_SCANNED,
    MAX_SCANS,
    MAX_TILE,
    MAX_WEBP,
    WEBP_GROWTH,
)
from pvt_spec.files.reading import open_regular
from pvt_spec.words import reason

MODES = {1: "L", 3: "RGB"}
"""Pillow's image mode for a model's number of input channels."""

MAY_RAISE = (Exception,)
"""What decoding may raise for bytes that are no image: anything.

Pillow's readers raise OSError, ValueError, SyntaxError, EOFError, RuntimeError, OverflowError,
NotImplementedError, AttributeError, MemoryError, struct.error and classes of their own.
"""

_FORMATS = tuple(dict.fromkeys(FORMATS.values()))
_CHUNK = 1 << 20
_SEQUENTIAL, _PROGRESSIVE, _SCAN = (0xC0, 0xC1, 0xC9), (0xC2, 0xC6, 0xCA, 0xCE), 0xDA
"""Markers within a JPEG."""

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings an image upright; 1 is upright."""

_ORIENTATION = 0x0112


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Makes whatever decoding raises in the block an error that names the image.

    Raises:
        ImageError: Something was raised.
    """
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {error}; resize the image first") from error
    except MAY_RAISE as error:
        raise ImageError(f"{name}: cannot be read as an image ({_why_not(error)})") from error


@contextmanager
def opened(source: Path | BytesIO) -> Iterator[Image.Image]:
    """Opens an image file, or its bytes, within :func:`decoding`; no pixel is decoded yet.

    Raises:
        ImageError: It would take much time or memory; see :func:`check_cost`.
        Exception: Pillow cannot open it; see :data:`MAY_RAISE`.
    """
    own = nullcontext(source) if isinstance(source, BytesIO) else open_regular(source)
    with own as stream:
        scans = count_scans(stream)
        with Image.open(stream, formats=_FORMATS) as image:
            width, height = image.size
            check_size(width, height, scans)
            if image.format == "WEBP":
                most = MAX_WEBP + WEBP_GROWTH * stream.seek(0, 2)
                _check(width * height, most, "pixels for a WebP of so few bytes", "as a PNG")
            if isinstance(image, TiffImageFile):
                tile = [image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH)]
                most = max(MAX_TILE, width * height)
                _check(tile[0] * tile[1], most, "pixels in each of its tiles")
            yield image


def count_scans(stream: BinaryIO) -> int:
    """Returns how often an image's pixels are gone through; the stream is at its start then.

    Raises:
        ImageError: Reading its header would already take too much memory.
    """
    length = stream.seek(0, 2)
    _check(length, MAX_IMAGE_BYTES, "bytes")
    stream.seek(0)
    start = stream.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        beyond = length - 8 - int.from_bytes(start[4:8], "little")
        _check(beyond, MAX_PADDING, "bytes behind its end")
    scans = _count_scans(stream) if start.startswith(b"\xff\xd8") else 1
    texts = _count_packed_texts(stream) if start[:8] == b"\x89PNG\r\n\x1a\n" else 0
    stream.seek(0)
    _check(texts, MAX_PACKED_TEXTS, "compressed texts")
    return scans


def check_size(width: int, height: int, scans: int) -> None:
    """Refuses an image whose pixels would take much time or memory.

    Raises:
        ImageError: It is above one of the limits of :mod:`pvt_spec.files.limits`.
    """
    size = f"{width} x {height} pixels"
    _check(width * height, MAX_PIXELS, f"pixels ({size})")
    _check(height, MAX_ROWS, f"rows ({size})")
    _check(scans, MAX_SCANS, "scans")
    _check(scans * width * height, MAX_SCANNED, f"pixels in all its scans ({scans} of {size})")


def _check(number: int, most: int, what: str, how: str = "anew") -> None:
    if number > most:
        raise ImageError(
            f"has {number:,} {what}, more than the {most:,} that are decoded: make it smaller, or "
            f"save it {how}"
        )


def _count_scans(stream: BinaryIO) -> int:
    if _is_one_scan(stream):
        return 1
    stream.seek(0)
    scans, last = 0, b""
    while chunk := stream.read(_CHUNK):
        # Within a scan's data no byte 255 stands before any but 0 and eight others.
        scans += chunk.count(b"\xff\xda") + (last == b"\xff" and chunk[:1] == b"\xda")
        last = chunk[-1:]
    return scans


def _is_one_scan(stream: BinaryIO) -> bool:
    """Returns whether a JPEG's first scan has all of its pixels, after which decoders stop."""
    stream.seek(2)
    components = 0
    while len(head := stream.read(4)) == 4 and head[0] == 255:
        if head[1] in _PROGRESSIVE:
            return False
        if head[1] in _SEQUENTIAL:
            components = stream.read(6)[-1]
            stream.seek(-6, 1)
        elif head[1] == _SCAN:
            return stream.read(1) >= bytes([components])
        stream.seek(int.from_bytes(head[2:], "big") - 2, 1)
    return False


def _count_packed_texts(stream: BinaryIO) -> int:
    texts = 0
    stream.seek(8)
    # Behind the last part, or damage, no decoder goes on.
    while len(head := stream.read(8)) == 8 and head[4:].isalpha() and head[4:] != b"IEND":
        texts += head[4:] in (b"zTXt", b"iTXt")
        # Past the data, and their sum.
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return texts


def _why_not(error: Exception) -> str:
    """Says why Pillow could not read an image; its own words may name an object in memory."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is empty, or none of {', '.join(_FORMATS)}"
    return reason(error)


def check_channels(channels: int) -> None:
    """Refuses a number of channels that no image file gives.

    Raises:
        ImageError: It is neither 1 nor 3.
    """
    if channels not in MODES:
        raise ImageError(
            f"the model takes {channels} channels, but an image file gives 1 or 3: "
            "call the model with arrays instead"
        )


def open_image(
    source: Path | BytesIO,
    channels: int,
    name: str = "",
    orientation: str = "exif",
    sideways: set[str] | None = None,
) -> Image.Image:
    """Returns an image, turned as its EXIF orientation says, or as it is stored.

    Args:
        source: An image file, or its bytes.
        channels: 1 (grey) or 3 (RGB); any image is converted.
        name: What to call it in messages; the path by default.
        orientation: One of :data:`pvt_spec.model_info.ORIENTATIONS`.
        sideways: What the name is added to if the image is to be turned, whether it is or not.

    Raises:
        ImageError: It is not an image that can be read, or ``channels`` is another number.
    """
    name = name or str(source)
    with decoding(name):
        check_channels(channels)
        with opened(source) as image:
            # Some formats keep their EXIF data behind the pixels, and Pillow turns a TIFF itself.
            image.load()
            how = turn(image)
            converted = convert_mode(image, channels)
        if how is not None and sideways is not None:
            sideways.add(name)
        return converted.transpose(how) if how is not None and orientation == "exif" else converted


def turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what brings an image upright by its EXIF orientation, or None where it is."""
    try:
        return _TURN.get(image.getexif().get(_ORIENTATION, 1))
    except MAY_RAISE:
        # Damaged EXIF data say nothing; the pixels may be whole.
        return None


def convert_mode(image: Image.Image, channels: int) -> Image.Image:
    """Returns an image of any mode as 8-bit grey (1 channel) or RGB (3).

    Raises:
        ValueError: Its mode has no largest value that would be white.
    """
    if image.mode == MODES[channels]:
        return image
    whole = _eight_bits(image)
    if whole is not image:
        # Three of them at a time would be more than two of four bytes a pixel.
        image.close()
    return whole.convert(MODES[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as one that converts to grey or RGB without loss."""
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no largest value: save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        # As OpenCV and with it MindSpore's decoder do; Pillow would clip.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":
        # Colours under transparency are kept, as for RGBA.
        rgba: Image.Image = image.convert("RGBA")
        return rgba
    return image
