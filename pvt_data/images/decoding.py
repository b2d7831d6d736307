"""Image files to pixels: the one place where files of strangers are decoded.

Only the formats of :data:`pvt_data.sources.listing.FORMATS` are, whatever else Pillow knows.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pvt_data.images.cost import check_numbers, check_size, count_scans
from pvt_data.images.decoders import check_decoder
from pvt_data.sources.listing import FORMATS
from pvt_spec.errors import ImageError
from pvt_spec.files.reading import TargetRead, open_regular
from pvt_spec.words import reason

MODES = {1: "L", 3: "RGB"}
"""Pillow's image mode for a model's number of input channels."""

MAY_RAISE = (Exception,)
"""What decoding may raise for bytes that are no image: anything.

Pillow's readers raise OSError, ValueError, SyntaxError, EOFError, RuntimeError, OverflowError,
NotImplementedError, AttributeError, MemoryError, struct.error and classes of their own.
"""

_FORMATS = tuple(dict.fromkeys(FORMATS.values()))

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
        TargetRead: The image is to be written; see :func:`pvt_spec.files.reading.to_be_written`.
    """
    try:
        yield
    except TargetRead:
        raise  # it is nothing that the image has
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {error}; resize the image first") from error
    except MAY_RAISE as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # the system's want, not the image's
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
            check_size(image.width, image.height, scans)
            check_mode(image)
            check_decoder(image, stream.seek(0, 2))
            yield image


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
            # Some formats keep their EXIF data behind the pixels.
            image.load()
            how = turn(image)
            converted = convert_mode(image, channels, own=True)
        if how is not None and sideways is not None:
            sideways.add(name)
        return converted.transpose(how) if how is not None and orientation == "exif" else converted


def turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what brings an image upright by its EXIF orientation, or None where it is."""
    if image.format == "TIFF":  # Pillow turns it as it loads it, by its tag or else by its XMP data
        return None
    try:
        check_numbers(BytesIO(_exif(image).removeprefix(b"Exif\0\0")))
        return _TURN.get(image.getexif().get(_ORIENTATION, 1))
    except MAY_RAISE:
        # Damaged EXIF data say nothing; the pixels may be whole.
        return None


def _exif(image: Image.Image) -> bytes:
    """Returns an image's EXIF data where Pillow looks for them."""
    exif = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:
        # What ImageMagick makes of them: hexadecimal digits, below what they are and how many.
        exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return exif if isinstance(exif, bytes) else b""


def convert_mode(image: Image.Image, channels: int, own: bool = False) -> Image.Image:
    """Returns an image of any mode as 8-bit grey (1 channel) or RGB (3).

    Args:
        image: The image.
        channels: 1 or 3.
        own: Whether nobody else needs the image, which goes then as soon as it can: three of four
            bytes a pixel would be in memory otherwise, with the one that is turned.

    Raises:
        ValueError: Its mode has no largest value that would be white.
    """
    if image.mode == MODES[channels]:
        return image
    whole = _eight_bits(image)
    if whole is not image and own:
        image.close()
    converted = whole.convert(MODES[channels])
    if own:
        whole.close()
    return converted


def check_mode(image: Image.Image) -> None:
    """Refuses an image of numbers without an end.

    Raises:
        ValueError: Its mode has no largest value that would be white.
    """
    # Of 16 bits in a PGM, which Pillow makes of its numbers, whatever their largest one is.
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise ValueError(f"mode {image.mode} has no largest value: save it with 8 or 16 bits")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as one that converts to grey or RGB without loss."""
    check_mode(image)
    if image.mode.startswith("I;16"):
        # As OpenCV and with it MindSpore's decoder do; Pillow would clip.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I":
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "P":
        # Colours under transparency are kept, as for RGBA.
        rgba: Image.Image = image.convert("RGBA")
        return rgba
    return image
