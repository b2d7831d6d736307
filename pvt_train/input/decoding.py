"""The bytes of an image file to one resized crop of it, decoding no more than that needs.

A JPEG holds each 8 × 8 block of pixels as frequencies, from which its decoder makes 4 × 4, 2 × 2 or
1 × 1 pixels with less work than all 64. JPEGs in grey or YCbCr are decoded by libjpeg-turbo, which
is in simplejpeg; all else, and what that finds fault with, by Pillow.
"""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from math import ceil, inf

import simplejpeg
from PIL import Image

from pvt_data.images.cost import check_size, count_scans, is_lossless
from pvt_data.images.decoding import (
    MAY_RAISE,
    MODES,
    check_channels,
    convert_mode,
    decoding,
    opened,
)
from pvt_data.images.preprocessing import resize

SPARE = 1.25
"""Least pixels of a crop that is decoded at a fraction, over the pixels that are asked for.

What the decoder leaves out is then finer than nearly all that resizing would keep. On sharp
photographs of 2000 × 1500, pixels are off by 0.56 in 255 on average; with 1 they are by 0.73, with
1.5 by 0.33. Saving the result as a JPEG of quality 95 changes it by 1.6.
"""

FRACTIONS = (8, 4, 2)
"""1 / the shares of its width and height that a JPEG is decoded at."""

COLOURS = {"YCbCr": ("RGB", 3), "Gray": ("GRAY", 1)}
"""simplejpeg's name of a JPEG's colour space -> that of what it is decoded to, and its channels."""

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""

_Part = tuple[Image.Image, tuple[float, float, float, float]]
"""Some of an image, and the box in it."""


def decode_crop(
    encoded: bytes,
    name: str,
    choose: Callable[[int, int], Box],
    size: tuple[int, int],
    channels: int,
    resampling: Image.Resampling,
) -> Image.Image:
    """Returns a crop of an image file, resized; EXIF orientation is not applied, as in evaluation.

    Where a crop is so large that a JPEG is decoded at a fraction, pixels are near those of the
    whole image decoded, cropped and resized by Pillow; otherwise they are the same.

    Args:
        encoded: What the file holds.
        name: The file's name, for messages.
        choose: The box to crop, given the image's width and height; called once.
        size: (H, W) of the result.
        channels: 1 (grey) or 3 (RGB); any image is converted.
        resampling: Pillow's filter; one that averages, not NEAREST.

    Returns:
        An image of mode L or RGB.

    Raises:
        ImageError: The bytes are not an image that can be read whole, or there are other than 1
            or 3 channels.
    """
    chosen = cache(choose)
    with decoding(name):
        check_channels(channels)
        crop, box = _fast_part(encoded, chosen, size) or _part(encoded, chosen, size)
        return resize(convert_mode(crop, channels), (size[1], size[0]), resampling, box)


def _fast_part(
    encoded: bytes, choose: Callable[[int, int], Box], size: tuple[int, int]
) -> _Part | None:
    """Returns the crop of a JPEG; None where simplejpeg cannot read it without a complaint."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(encoded)
        # What is larger is Pillow's to warn of, or to refuse.
        if space not in COLOURS or width * height > (Image.MAX_IMAGE_PIXELS or inf):
            return None
        check_size(width, height, count_scans(BytesIO(encoded)))
        box = choose(width, height)
        fraction, (colours, channels) = _fraction(encoded, box, size), COLOURS[space]
        W, H = ceil(width / fraction), ceil(height / fraction)
        pixels = simplejpeg.decode_jpeg(encoded, colours, min_height=H, min_width=W)
    except MAY_RAISE:
        return None
    if pixels.shape != (H, W, channels):
        return None
    (left, top, right, bottom), inner = _within(box, fraction, W, H)
    # From the first pixel of the crop to its last, with what lies between its rows.
    rows = pixels.reshape(-1)[(top * W + left) * channels : ((bottom - 1) * W + right) * channels]
    mode = MODES[channels]
    crop = Image.frombytes(mode, (right - left, bottom - top), rows, "raw", mode, W * channels, 1)
    return crop, inner


def _part(encoded: bytes, choose: Callable[[int, int], Box], size: tuple[int, int]) -> _Part:
    """Returns the crop of any image, decoded by Pillow."""
    with opened(BytesIO(encoded)) as image:
        width, height = image.size
        box = choose(width, height)
        fraction = _fraction(encoded, box, size)
        if fraction > 1:
            # None for the formats that know no fractions.
            drafted = image.draft(None, (width // fraction, height // fraction))
            fraction = round(width / drafted[1][2]) if drafted else 1
        whole, inner = _within(box, fraction, *image.size)
        # Cropped before it is resized: what lies outside must not be mixed into its border.
        crop = image.crop(whole)
        crop.format = image.format  # by which its mode's largest value is known
        return crop, inner


def _fraction(encoded: bytes, box: Box, size: tuple[int, int]) -> int:
    """Returns 1 / the smallest fraction that a box can be decoded at for a result of ``size``."""
    left, top, right, bottom = box
    room = min((right - left) / size[1], (bottom - top) / size[0]) / SPARE
    fraction = next((fraction for fraction in FRACTIONS if fraction <= room), 1)
    # simplejpeg, asked for one of a lossless JPEG, writes beyond the end of its memory.
    is_jpeg = encoded.startswith(b"\xff\xd8")
    return 1 if fraction > 1 and is_jpeg and is_lossless(BytesIO(encoded)) else fraction


def _within(
    box: Box, fraction: int, width: int, height: int
) -> tuple[Box, tuple[float, float, float, float]]:
    """Returns the pixels to cut from an image decoded at a fraction, and the box within them."""
    left, top, right, bottom = (edge / fraction for edge in box)
    cut = (int(left), int(top), min(ceil(right), width), min(ceil(bottom), height))
    return cut, (left - cut[0], top - cut[1], right - cut[0], bottom - cut[1])
