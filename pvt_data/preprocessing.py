"""The one evaluation preprocessing: image file to float32 array; and folders of images."""

from collections.abc import Iterable
from glob import glob
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError
from pvt_spec.model_info import Preprocessing

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""File name endings that count as images where a folder is given."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's image mode for a model's number of input channels."""


def open_image(source: Path | BytesIO, channels: int, name: str = "") -> Image.Image:
    """Returns an image, decoded as stored (EXIF orientation is not applied, as in training).

    Args:
        source: An image file, or its bytes.
        channels: 1 (grey) or 3 (RGB); any image is converted.
        name: What to call it in messages; the path by default.

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
            return convert_mode(image, channels)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(
            f"{name}: cannot be read as an image ({why_not(error)}); expected one of "
            f"{', '.join(SUFFIXES)}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {error}; resize the image first") from error


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


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resizes an image and crops it from the centre to the model's size.

    Resizing is Pillow's bicubic filter (bit-identical to MindSpore's ``Inter.PILCUBIC``), to the
    smallest size of the same aspect that covers ``floor(image_size / crop_pct)``; the crop's
    corner is rounded half to even, as in torchvision. MindCV itself resizes with OpenCV's bicubic
    (up to 6/255 away) and rounds the corner down, so its pixels are not reproduced exactly.
    """
    H, W = preprocessing.image_size
    cover_h, cover_w = int(H / preprocessing.crop_pct), int(W / preprocessing.crop_pct)
    if cover_h * image.width >= cover_w * image.height:
        size = (max(cover_h * image.width // image.height, cover_w), cover_h)
    else:
        size = (cover_w, max(cover_w * image.height // image.width, cover_h))
    # Rows, then columns, each rounded to 8 bits: Pillow's releases differ in which they do first.
    for step in ((size[0], image.height), size):
        if step != image.size:
            image = image.resize(step, Image.Resampling.BICUBIC)
    top, left = round((image.height - H) / 2), round((image.width - W) / 2)
    return image.crop((left, top, left + W, top + H))


def load_image(source: Path | BytesIO, preprocessing: Preprocessing, name: str = "") -> Array:
    """Returns an image as the model's input: resized, cropped from the centre, normalised.

    Args:
        source: An image file, or its bytes.
        preprocessing: What the model expects; see :func:`fit` for how images are resized.
        name: What to call it in messages; the path by default.

    Returns:
        float32 (C, H, W), normalised.

    Raises:
        ImageError: The image cannot be used.
    """
    image = fit(open_image(source, len(preprocessing.mean), name), preprocessing)
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
        ImageError: The model takes another number of channels.
    """
    channels = len(preprocessing.mean)
    if pixels.shape[2] != channels:
        raise ImageError(f"the model takes {channels} channels, the pixels have {pixels.shape[2]}")
    # Pillow resizes each channel by itself, so that they may as well be as many images.
    fitted = [
        np.asarray(fit(Image.fromarray(np.ascontiguousarray(plane)), preprocessing))
        for plane in pixels.transpose(2, 0, 1)
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


def list_images(sources: Iterable[str | Path]) -> list[Path]:
    """Lists the images that files, folders (searched through) and glob patterns name, in order.

    Raises:
        ImageError: A source names nothing, or a folder holds no image.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if _is_image(p))
        elif path.exists():
            matches = [path]
        else:
            matches = sorted(
                p for p in map(Path, glob(str(source), recursive=True)) if _is_image(p)
            )
        if not matches:
            what = "holds no image" if path.is_dir() else "no such file, and no image matches it"
            raise ImageError(f"{source}: {what}; images end in {', '.join(SUFFIXES)}")
        found += matches
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def list_labelled(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """Lists the images of an ImageNet-style folder ``CLASS/*.png`` and its class names.

    Returns:
        (image file, class index) in order of class and name; the class names, sorted.

    Raises:
        ImageError: The folder is missing, holds no class folders, or a class holds no image.
    """
    if not folder.is_dir():
        raise ImageError(
            f"{folder}: no such folder; expected one with a folder of images per class"
        )
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise ImageError(f"{folder}: holds no class folders; expected {folder}/CLASS/*.png")
    samples = [
        (path, index) for index, name in enumerate(classes) for path in list_images([folder / name])
    ]
    return samples, classes
