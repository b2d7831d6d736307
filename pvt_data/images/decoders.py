"""What Pillow's decoders would take in time and memory beside an image's pixels, once it is open.

The limits are those of :mod:`pvt_spec.files.limits`.
"""

from math import prod
from typing import Any

from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import (
    IMAGELENGTH,
    IMAGEWIDTH,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from pvt_data.images.cost import check_most
from pvt_spec.files.limits import (
    JPEG_GROWTH,
    MAX_BANDS,
    MAX_LOOPED,
    MAX_PIXELS,
    MAX_TIFF_JPEG,
    MAX_TILE,
    MAX_WEBP,
    WEBP_GROWTH,
)

_LOOPED = {"PPM": "with 8 bits, in binary", "BMP": "without runs"}
"""Format with a decoder in Python -> how its images are saved without need of that."""


def check_decoder(image: ImageFile, length: int) -> None:
    """Refuses an open image that would take its decoder much time or memory.

    Args:
        image: The image, of which no pixel is decoded yet.
        length: The bytes of its file.

    Raises:
        ImageError: It would.
    """
    pixels = prod(image.size)
    if (how := _LOOPED.get(image.format or "")) and image.tile[0][0] != "raw":
        numbers = pixels * len(image.getbands())
        check_most(numbers, MAX_LOOPED, "numbers that are read one by one", how)
    if image.format == "WEBP":
        most = MAX_WEBP + WEBP_GROWTH * length
        check_most(pixels, most, "pixels for a WebP of so few bytes", "as a PNG")
    if isinstance(image, TiffImageFile):
        _check_tiff(image, pixels, length)


def _check_tiff(image: TiffImageFile, pixels: int, length: int) -> None:
    if image.info["compression"] in ("jpeg", "tiff_jpeg"):
        most = MAX_TIFF_JPEG + JPEG_GROWTH * length
        check_most(pixels, most, "pixels for a TIFF in JPEG of so few bytes", "as a PNG")
    told: Any = [image.tag_v2.get(tag, 0) for tag in (IMAGEWIDTH, IMAGELENGTH)]
    tile: Any = [image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH)]
    check_most(prod(tile), max(MAX_TILE, pixels), "pixels in each of its tiles")
    if all(tile):
        tiles = prod(-(-side // own) for side, own in zip(told, tile, strict=True))
        most = max(MAX_PIXELS, 2 * pixels)
        check_most(tiles * prod(tile), most, "pixels in all of its tiles")
    boxes = (box for _, box, *_ in image.tile if box)
    strips = sum((right - left) * (below - top) for left, top, right, below in boxes)
    check_most(strips, MAX_BANDS * pixels, "pixels in all of its strips")
