"""The one evaluation preprocessing: image file to float32 array."""

import dataclasses
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pvt_data.listing import SUFFIXES
from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError
from pvt_spec.model_info import INTERPOLATIONS, Preprocessing

MODES = {1: "L", 3: "RGB"}
"""Pillow's image mode for a model's number of input channels."""


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


def turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what brings an image upright by its EXIF orientation, or None where it is."""
    try:
        return _TURN.get(image.getexif().get(_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        # Damaged EXIF data say nothing; the pixels may be whole.
        return None


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
        ImageError: It is not an image that Pillow can read, or ``channels`` is another number.
    """
    name = name or str(source)
    if channels not in MODES:
        raise ImageError(
            f"{name}: the model takes {channels} channels, but an image file gives 1 or 3: "
            "call the model with arrays instead"
        )
    try:
        with Image.open(source) as image:
            # Some formats keep their EXIF data behind the pixels, and Pillow turns a TIFF itself.
            image.load()
            how = turn(image)
            converted = convert_mode(image, channels)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(
            f"{name}: cannot be read as an image ({why_not(error)}); expected one of "
            f"{', '.join(SUFFIXES)}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {error}; resize the image first") from error
    if how is None:
        return converted
    if sideways is not None:
        sideways.add(name)
    return converted.transpose(how) if orientation == "exif" else converted


def why_not(error: Exception) -> str:
    """Says why Pillow could not read an image; its own words may name an object in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "it is empty, or of no known format"
    return str(error)


def convert_mode(image: Image.Image, channels: int) -> Image.Image:
    """Returns an image of any mode as 8-bit grey (1 channel) or RGB (3).

    Raises:
        ValueError: Its mode has no largest value that would be white.
    """
    return _eight_bits(image).convert(MODES[channels])


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


def pixel_mean(preprocessing: Preprocessing) -> Array:
    """Returns what is subtracted of pixels of 0 to 255, float32 (C,)."""
    mean = preprocessing.mean if preprocessing.normalise else (0.0,) * len(preprocessing.mean)
    return np.asarray(mean, np.float32) * np.float32(1 / preprocessing.rescale)


def pixel_std(preprocessing: Preprocessing) -> Array:
    """Returns what that is divided by, float32 (C,)."""
    std = preprocessing.std if preprocessing.normalise else (1.0,) * len(preprocessing.std)
    return np.asarray(std, np.float32) * np.float32(1 / preprocessing.rescale)


def normalise(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Normalises pixels uint8 (H, W, C) of the model's size: float32 (C, H, W)."""
    mean, std = pixel_mean(preprocessing), pixel_std(preprocessing)
    return np.ascontiguousarray(((pixels.astype(np.float32) - mean) / std).transpose(2, 0, 1))


def to_pixels(array: Array, preprocessing: Preprocessing) -> Array:
    """Returns the nearest pixels uint8 (H, W, C) of a normalised array (C, H, W)."""
    pixels = array.transpose(1, 2, 0) * pixel_std(preprocessing).astype(np.float64)
    pixels += pixel_mean(preprocessing)
    return np.asarray(np.rint(pixels).clip(0, 255), np.uint8)


def say_sideways(sideways: set[str], total: int, orientation: str) -> str:
    """Returns what is said of images that are to be turned, of so many in all."""
    are = "turned upright" if orientation == "exif" else "left as stored"
    other = "stored leaves" if orientation == "exif" else "exif turns"
    return (
        f"orientation {orientation}: {len(sideways)} of {total} images have an EXIF orientation "
        f"and are {are} (--orientation {other} them)"
    )


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resizes and crops an image to the model's size, as ``preprocessing`` says.

    Resizing is Pillow's (its bicubic filter is bit-identical to MindSpore's ``Inter.PILCUBIC``).
    By default it is done to the smallest size of the same aspect that covers ``floor(image_size /
    crop_pct)``, and the crop's corner is rounded half to even, as in torchvision. MindCV itself
    resizes with OpenCV's bicubic (up to 6/255 away) and rounds the corner down, so its pixels are
    not reproduced exactly.

    Raises:
        ImageError: Nothing may be cropped, and the image has another size.
    """
    size = _resized_size(image.width, image.height, preprocessing)
    filter = Image.Resampling(INTERPOLATIONS.index(preprocessing.interpolation))
    # Rows, then columns, each rounded to 8 bits: Pillow's releases differ in which they do first.
    # The other rules are of code that leaves it to Pillow.
    steps = ((size[0], image.height), size) if preprocessing.resize == "cover" else (size,)
    for step in steps:
        if step != image.size:
            image = image.resize(step, filter)
    return _crop(image, preprocessing)


def _resized_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Returns the (width, height) that an image of this size gets before it is cropped."""
    H, W = preprocessing.resized
    rule = preprocessing.resize
    if rule == "none":
        return width, height
    if rule == "squash":
        return W, H
    if rule in ("inside", "cover_nearest"):
        # As in timm's ResizeKeepRatio, whose arithmetic decides what is rounded up.
        ratio = (max if rule == "inside" else min)(height / H, width / W)
        return max(round(width / ratio), 1), max(round(height / ratio), 1)
    if rule == "shortest":
        H = W = min(H, W)
    if H * width >= W * height:
        return max(H * width // height, W), H
    return W, max(W * height // width, H)


def _crop(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Crops an image from its centre; what it lacks is filled."""
    H, W = preprocessing.image_size
    mode = preprocessing.crop_mode
    if mode == "none" and (image.width, image.height) != (W, H):
        raise ImageError(
            f"the image has {image.height}x{image.width} pixels, the model takes {H}x{W}, and its "
            "preprocessing crops nothing: give images of this shape, or crop them: "
            "convert MODEL DST --preprocessing crop_mode=center"
        )
    floor = mode == "center_floor"
    left, top = (
        # Of what is missing, torchvision puts the larger half at the end.
        margin // 2 if floor else round(margin / 2) if margin > 0 else -(-margin // 2)
        for margin in (image.width - W, image.height - H)
    )
    if mode == "border" and (left < 0 or top < 0):
        fill = tuple(round(float(mean)) for mean in pixel_mean(preprocessing))
        canvas = Image.new(image.mode, (W, H), fill if len(fill) > 1 else fill[0])
        canvas.paste(image, (-left, -top))
        return canvas
    return image.crop((left, top, left + W, top + H))


def load_image(
    source: Path | BytesIO,
    preprocessing: Preprocessing,
    name: str = "",
    sideways: set[str] | None = None,
) -> Array:
    """Returns an image as the model's input: turned, resized, cropped, normalised.

    Args:
        source: An image file, or its bytes.
        preprocessing: What the model expects; see :func:`fit` for how images are resized.
        name: What to call it in messages; the path by default.
        sideways: What the name is added to if the image is to be turned, whether it is or not.

    Returns:
        float32 (C, H, W), normalised.

    Raises:
        ImageError: The image cannot be used.
    """
    name, channels = name or str(source), len(preprocessing.mean)
    image = open_image(source, channels, name, preprocessing.orientation, sideways)
    try:
        image = fit(image, preprocessing)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    return normalise(pixels, preprocessing)


def load_pixels(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Prepares pixels as :func:`load_image` does a file with these pixels.

    Args:
        pixels: uint8 (height, width, C), of any number of channels and any size.
        preprocessing: What the model expects.

    Returns:
        float32 (C, H, W), normalised.

    Raises:
        ImageError: The model takes another number of channels, or the size is none that it takes.
    """
    mean, std = preprocessing.mean, preprocessing.std
    if pixels.shape[2] != len(mean):
        raise ImageError(f"the model takes {len(mean)} channels, the pixels have {pixels.shape[2]}")
    # Pillow resizes each channel by itself, so that they may as well be as many images.
    fitted = [
        np.asarray(
            fit(
                Image.fromarray(np.ascontiguousarray(plane)),
                dataclasses.replace(preprocessing, mean=mean[i : i + 1], std=std[i : i + 1]),
            )
        )
        for i, plane in enumerate(pixels.transpose(2, 0, 1))
    ]
    return normalise(np.stack(fitted, axis=2), preprocessing)


def encode_png(pixels: Array, side: int) -> bytes:
    """Returns pixels as a PNG file whose longer side is at most ``side`` pixels.

    Args:
        pixels: uint8 (height, width, C), shown as colours if C is 3, else the first as grey.
        side: Pixels; a smaller image is not enlarged.
    """
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else np.copy(pixels[:, :, 0]))
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
