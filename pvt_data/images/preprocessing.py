"""The one evaluation preprocessing: image file to float32 array."""

import dataclasses
import os
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from pvt_data.images.decoding import convert_mode, decoding, open_image, turn
from pvt_data.images.pixels import as_taken, mean_colour
from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.model_info import INTERPOLATIONS, Preprocessing, Untouched

MOST_RESIZED = 32
"""The most pixels that an image is resized to whole, in crops; of more the crop alone is made."""

REACH = 4
"""Pixels about a box that its pixels are made of, at their own scale: Lanczos's three, and one."""

MOST_SHRUNK = 1024
"""How many times a side may be shrunk at once, as Pillow keeps a number for each pixel that goes
into each; beyond it means are taken first, of blocks of up to a 64th of a new pixel."""


def say_sideways(sideways: int, total: int, orientation: str) -> str:
    """Returns what is said of images that are to be turned, of so many in all."""
    are = "turned upright" if orientation == "exif" else "left as stored"
    other = "stored leaves" if orientation == "exif" else "exif turns"
    return (
        f"orientation {orientation}: {sideways} of {total} images have an EXIF orientation "
        f"and are {are} (--orientation {other} them)"
    )


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resizes and crops an image to the model's size, as ``preprocessing`` says.

    Resizing is Pillow's (its bicubic filter is bit-identical to MindSpore's ``Inter.PILCUBIC``).
    By default it is done to the smallest size of the same aspect that covers ``floor(image_size /
    crop_pct)``, and the crop's corner is rounded half to even, as in torchvision. MindCV itself
    resizes with OpenCV's bicubic (up to 6/255 away) and rounds the corner down, so its pixels are
    not reproduced exactly.

    Where all of the image would be resized to more than :data:`MOST_RESIZED` times the pixels of
    the crop (if it is some 24 times as long as wide), the crop's box alone is: then a pixel in a
    thousand differs by 1 of 255 (``nearest`` and ``box`` take a pixel's neighbour for one in 100).

    Raises:
        ImageError: Nothing may be cropped, and the image has another size; or it is left to a graph
            to resize, and too long for that.
    """
    W, H = size = _resized_size(image.width, image.height, preprocessing)
    left, top, right, bottom = _crop_box(W, H, preprocessing)
    if isinstance(preprocessing, Untouched):
        if MOST_RESIZED * (right - left) * (bottom - top) < W * H:
            raise ImageError(
                f"{image.width}x{image.height} is too long for a graph that resizes all of it "
                f"(to {W}x{H}): take a model without --embed-preprocess, or cut it"
            )
        return image
    filter = Image.Resampling(INTERPOLATIONS.index(preprocessing.interpolation))
    # Rows, then columns, each rounded to 8 bits: Pillow's releases differ in which they do first.
    # The other rules are of code that leaves it to Pillow.
    rows_first = preprocessing.resize == "cover"
    if size != image.size and MOST_RESIZED * (right - left) * (bottom - top) < W * H:
        part = (max(left, 0), max(top, 0), min(right, W), min(bottom, H))
        image = _resized_part(image, size, part, filter, rows_first)
        left, top = min(left, 0), min(top, 0)
    else:
        if rows_first:
            image = resize(image, (W, image.height), filter)
            if left > 0:  # of the columns those that stay are enough
                image, W, left = image.crop((left, 0, right, image.height)), right - left, 0
        image = resize(image, (W, H), filter)
    return _crop(image, left, top, preprocessing)


def _resized_part(
    image: Image.Image,
    size: tuple[int, int],
    part: tuple[int, int, int, int],
    filter: Image.Resampling,
    rows_first: bool,
) -> Image.Image:
    """Returns a box of what an image would be resized to, made from what lies about it alone."""
    box: list[float] = []
    about: list[int] = []
    for side, resized, start, end in (
        (image.width, size[0], part[0], part[2]), (image.height, size[1], part[1], part[3]),
    ):  # fmt: skip
        scale = side / resized
        reach = REACH * max(scale, 1)
        first = max(int(start * scale - reach), 0)
        about += [first, min(int(end * scale + reach) + 1, side)]
        # Of the pixels about it: Pillow counts in 24 bits, too few for a long side.
        box += [start * scale - first, min(end * scale - first, about[-1] - first)]
    left, right, top, bottom = box
    image = image.crop((about[0], about[2], about[1], about[3]))
    W, H = part[2] - part[0], part[3] - part[1]
    if rows_first:
        image = resize(image, (W, image.height), filter, (left, 0, right, image.height))
        left, right = 0, W
    return resize(image, (W, H), filter, (left, top, right, bottom))


def resize(
    image: Image.Image,
    size: tuple[int, int],
    filter: Image.Resampling,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Resizes a box of an image, or all of it, in memory that is in proportion to it."""
    if box is None:
        if size == image.size:
            return image
        box = (0, 0, *image.size)
    shrunk = max((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    return image.resize(size, filter, box, 64.0 if shrunk > MOST_SHRUNK else None)


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


def _crop_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) of the crop of an image resized to this size.

    Raises:
        ImageError: Nothing may be cropped, and it is of another size.
    """
    H, W = preprocessing.image_size
    mode = preprocessing.crop_mode
    if mode == "none" and (width, height) != (W, H):
        raise ImageError(
            f"the image has {height}x{width} pixels, the model takes {H}x{W}, and its "
            "preprocessing crops nothing: give images of this shape, or crop them: "
            "convert MODEL DST --preprocessing crop_mode=center"
        )
    left, top = (
        # Of what is missing, torchvision puts the larger half at the end.
        margin // 2
        if mode == "center_floor"
        else round(margin / 2)
        if margin > 0
        else -(-margin // 2)
        for margin in (width - W, height - H)
    )
    return left, top, left + W, top + H


def _crop(image: Image.Image, left: int, top: int, preprocessing: Preprocessing) -> Image.Image:
    """Crops an image; what it lacks is filled."""
    H, W = preprocessing.image_size
    if preprocessing.crop_mode == "border" and (left < 0 or top < 0):
        canvas = Image.new(image.mode, (W, H), mean_colour(preprocessing))
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
        (C, H, W), float32 and normalised, or uint8 for a graph that does that; see
        :func:`pvt_data.images.pixels.as_taken`.

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
    return as_taken(pixels, preprocessing)


_LOADING = Lock()
"""What a thread holds while it loads an image of Pillow's."""


def prepare(
    source: AnyPath | bytes | Array | Image.Image,
    preprocessing: Preprocessing,
    sideways: set[str] | None = None,
) -> Array:
    """Returns an image of any kind as the model's input, as :func:`load_image` does a file.

    Args:
        source: A file's path or its bytes, uint8 pixels (height, width, C) or grey ones (height,
            width), or an image of Pillow's.
        preprocessing: What the model expects.
        sideways: What a name is added to if the image is to be turned, whether it is or not.

    Returns:
        What :func:`load_image` does.

    Raises:
        ImageError: It cannot be used.
    """
    if isinstance(source, str) and not source:
        raise ImageError("the name of an image is empty")
    if isinstance(source, Image.Image):
        if not all(source.size):
            raise ImageError(f"an image of {source.height} x {source.width} has no pixels")
        with decoding("the image"):
            with _LOADING:  # it may be another thread's too, and reads its file once
                source.load()
            stored = preprocessing.orientation == "stored"
            how = turn(source)
            image = convert_mode(source, len(preprocessing.mean))
            image = fit(image if how is None or stored else image.transpose(how), preprocessing)
        if how is not None and sideways is not None:
            sideways.add("the image")
        return as_taken(np.asarray(image).reshape(image.height, image.width, -1), preprocessing)
    if isinstance(source, str | os.PathLike):
        return load_image(Path(source), preprocessing, sideways=sideways)
    if isinstance(source, bytes):
        return load_image(BytesIO(source), preprocessing, "the image", sideways)
    if not isinstance(source, np.ndarray):
        raise ImageError(
            f"{type(source).__name__}: expected a path, a file's bytes, an array or an image of "
            "Pillow's"
        )
    if source.dtype != np.uint8 or source.ndim not in (2, 3) or not source.size:
        raise ImageError(
            f"an array of {source.dtype} {source.shape}: expected pixels, uint8 (H, W, C), or grey "
            "(H, W)"
        )
    if source.ndim == 2:
        source = source[..., None]
    if source.shape[2] == 1:  # grey, as of a file: each colour alike
        source = source.repeat(len(preprocessing.mean), 2)
    return load_pixels(source, preprocessing)


def load_pixels(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Prepares pixels as :func:`load_image` does a file with these pixels.

    Args:
        pixels: uint8 (height, width, C), of any number of channels and any size but none.
        preprocessing: What the model expects.

    Returns:
        What :func:`load_image` does.

    Raises:
        ImageError: The model takes another number of channels, or the size is none that it takes.
    """
    if not pixels.size:
        raise ImageError(f"an image of {pixels.shape[0]} x {pixels.shape[1]} has no pixels")
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
    return as_taken(np.stack(fitted, axis=2), preprocessing)


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
