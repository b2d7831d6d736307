"""What a parity run sees: image files, noise, or generated images that make small errors visible.

The generated images are drawn with integers from the raw output of PCG64 and nothing else, so that
their pixels are the same in every release of numpy and on every machine; what the preprocessing
makes of them is as reproducible as Pillow's bicubic filter. They are larger than the model's input
and of another aspect, so that all of the preprocessing is at work.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from typing import TypeVar

import numpy as np

from pvt_data.accuracy import batched
from pvt_data.preprocessing import encode_png, load_image, load_pixels, to_pixels
from pvt_spec.arrays import Array
from pvt_spec.model_info import Preprocessing

_T = TypeVar("_T")


@dataclass(frozen=True)
class Sample:
    """One input of a run.

    Attributes:
        name: What a reader is shown: a file's path, or what was generated.
        group: Samples of one group are judged together.
        load: Makes the model's input, float32 (C, H, W), normalised, by the preprocessing of the
            model that it is for. Raises :class:`pvt_spec.ImageError` where that cannot be done.
        label: Index of its class; None where that is not known.
    """

    name: str
    group: str
    load: Callable[[Preprocessing], Array]
    label: int | None = None


def file_samples(paths: Sequence[Path], labels: Sequence[int] | None = None) -> list[Sample]:
    """Image files, read anew at every ``load``.

    Args:
        paths: The files.
        labels: Their classes' indices, if they are known.
    """
    known: Sequence[int | None] = [None] * len(paths) if labels is None else labels
    return [
        Sample(str(path), "images", partial(load_image, path), label)
        for path, label in zip(paths, known, strict=True)
    ]


def noise_samples(count: int, seed: int) -> list[Sample]:
    """Standard normal noise in place of normalised images, of any size and number of channels.

    Args:
        count: How many; the first ones are the same whatever it is.
        seed: 0 or more. Releases of numpy may draw other normals from it.
    """

    def draw(index: int, preprocessing: Preprocessing) -> Array:
        shape = (len(preprocessing.mean), *preprocessing.image_size)
        return np.random.default_rng((seed, index)).standard_normal(shape, np.float32)

    return [Sample(f"noise {i + 1}", "noise", partial(draw, i)) for i in range(count)]


def default_samples(preprocessing: Preprocessing, seed: int = 0) -> list[Sample]:
    """Eight generated images: four that look natural, and four that small errors show in.

    Args:
        preprocessing: Whose size and mean decide the pixels. ``load`` with another preprocessing
            begins with the same pixels.
        seed: 0 or more.
    """
    H, W = preprocessing.image_size
    height, width = H * 13 // 10, W * 16 // 10
    mean = np.array([round(255 * value) for value in preprocessing.mean]).clip(2, 253)
    drawn = [
        (f"natural {i}", "natural", _scene(_Stream(seed, i), height, width, *_SCENES[i - 1]))
        for i in range(1, len(_SCENES) + 1)
    ]
    low = _cloud(_Stream(seed, 0), len(mean), height, width).transpose(1, 2, 0)
    drawn += [
        ("constant grey", "constant", np.full((height, width, 3), 128)),
        ("low contrast 2/255", "low contrast", mean + (low >> 10).clip(-2, 2)),
        ("high contrast edges", "high contrast", _edges(height, width)),
        ("dots one pixel wide", "shift", _dots(preprocessing)),
    ]
    return [
        Sample(name, group, partial(load_pixels, _with_channels(pixels, len(mean))))
        for name, group, pixels in drawn
    ]


def load_batch(samples: Sequence[Sample], preprocessing: Preprocessing) -> Array:
    """Returns samples as one float32 array (B, C, H, W), normalised.

    Raises:
        ImageError: A sample cannot be loaded.
    """
    return np.stack([sample.load(preprocessing) for sample in samples])


@dataclass(frozen=True)
class Inputs:
    """What models are given.

    Attributes:
        samples: The inputs, in order; those of one group stand together.
        image_size: (H, W) in pixels, in place of a model's own.
        batch_size: How many go through a model at a time.
    """

    samples: Sequence[Sample]
    image_size: tuple[int, int]
    batch_size: int = 4

    def batches(self) -> list[Sequence[Sample]]:
        """Returns the samples in batches."""
        return list(batched(self.samples, self.batch_size))

    def resized(self, preprocessing: Preprocessing) -> Preprocessing:
        """Returns a model's preprocessing for images of this size."""
        return dataclasses.replace(preprocessing, image_size=self.image_size)


def labels_of(samples: Sequence[Sample]) -> Array | None:
    """Class indices int64 (B,); None unless all are known."""
    labels = [sample.label for sample in samples if sample.label is not None]
    return np.array(labels, np.int64) if len(labels) == len(samples) else None


def hash_input(array: Array) -> str:
    """SHA-256 in hex of one input (C, H, W): ``CxHxW`` in ASCII, then little-endian float32."""
    digest = hashlib.sha256("x".join(map(str, array.shape)).encode())
    digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def thumbnail(sample: Sample, preprocessing: Preprocessing, side: int = 96) -> bytes:
    """A PNG file of what the preprocessing makes of a sample.

    Colours if it has three channels, else the first as grey; values beyond those of pixels (noise
    has them) are clipped.

    Args:
        sample: Any.
        preprocessing: What the model expects.
        side: Pixels of the longer side, at most.

    Raises:
        ImageError: The sample cannot be loaded.
    """
    return encode_png(to_pixels(sample.load(preprocessing), preprocessing), side)


def evenly_spaced(items: Sequence[_T], limit: int) -> list[_T]:
    """At most ``limit`` items, first to last: of a folder of classes, some of each."""
    count = min(limit, len(items))
    return [items[i * len(items) // count] for i in range(count)]


class _Stream:
    """Integers of a seed: raw 64 bits of PCG64, whose stream numpy promises never to change."""

    def __init__(self, seed: int, index: int):
        self._bits = np.random.PCG64(np.random.SeedSequence((seed, index)))

    def draw(self, low: int, high: int) -> int:
        """One integer in low…high - 1."""
        return low + int(self._bits.random_raw()) % (high - low)

    def noise(self, bits: int, *shape: int) -> Array:
        """int32 of a shape, at least -2**(bits - 1) and less than 2**(bits - 1); bits <= 16."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw(-(-count // 4)).astype("<u8").view("<i2")[:count]
        return (raw >> (16 - bits)).reshape(shape).astype(np.int32)


def _cloud(stream: _Stream, planes: int, height: int, width: int) -> Array:
    """Noise with detail at every scale, int32 (planes, height, width), mostly within ±4096.

    Octaves of noise, each twice as fine: its amplitude spectrum falls about as 1/f, as natural
    images' does.
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > 4:
        sizes.append((-(-sizes[-1][0] // 2) + 1, -(-sizes[-1][1] // 2) + 1))
    field = stream.noise(13, planes, *sizes.pop())
    for h, w in reversed(sizes):
        for _ in range(2):  # rows, then columns
            field = _doubled(field).transpose(0, 2, 1)
        field = field[:, :h, :w] + stream.noise(12 if h < height else 10, planes, h, w)
    return field


def _doubled(field: Array) -> Array:
    """Twice as many rows less two, between the given ones by a quadratic spline."""
    above, below = field[:, :-1], field[:, 1:]
    finer = np.stack(((3 * above + below) >> 2, (above + 3 * below) >> 2), axis=2)
    return np.asarray(finer.reshape(field.shape[0], -1, field.shape[2]))


_SCENES = ((4, 0, 1), (0, 120, 24), (0, 14, 7), (3, 50, 16))
"""Ridges of hills, objects, and the share of the height that the smallest object's radius is."""

_COLOURS = np.array(
    [
        *((196, 120, 60), (150, 60, 40), (92, 110, 44), (60, 84, 52), (228, 196, 140)),
        *((70, 50, 40), (206, 160, 50), (90, 104, 130), (170, 150, 120), (214, 92, 62)),
    ]
)
"""RGB of objects: more red than blue, so that exchanged channels show in the mean."""


def _scene(
    stream: _Stream, height: int, width: int, ridges: int, objects: int, smallest: int
) -> Array:
    """A sky or a wall, hills before it, objects before those: int32 (height, width, 3)."""
    light, warm, green = _cloud(stream, 3, height, width)
    # Channels of natural images vary together more than apart.
    texture = np.stack((light + (warm >> 2), light + (green >> 3), light - (warm >> 2)), axis=2)
    y, x = np.ogrid[:height, :width]
    if ridges:
        haze = (y * 110 // height)[:, :, None]
        scene = np.array((110, 150, 205)) + haze * np.array((10, 4, -2)) // 10
        scene = scene + np.maximum(texture + 300, 0) * 3 // 80
    else:
        scene = np.array((140, 118, 92)) + texture // 48
    for i in range(ridges):
        profile = _cloud(stream, 1, 2, width)[0, 0] * (i + 2) * height >> 16
        top = height * (2 * i + 4) // (2 * ridges + 4) + profile
        colour = np.array((150 - 20 * i, 150 - 16 * i, 150 - 38 * i))
        near = colour + texture * (i + 1) // 128
        scene = np.where((y > top)[:, :, None], near, scene)
    for _ in range(objects * min(height, 240) // 240):
        _add_object(stream, scene, texture, height // smallest)
    # Lit from the left and above, and unevenly so.
    lit = 310 - 90 * x // width - 50 * y // height
    return np.asarray(scene * lit[:, :, None] >> 8)


def _add_object(stream: _Stream, scene: Array, texture: Array, smallest: int) -> None:
    """Paints an ellipse or a box with its shadow; radii follow the power law of dead leaves."""
    height, width, _ = scene.shape
    radius = isqrt((max(smallest, 2) << 8) ** 2 // stream.draw(1, 1 << 16))
    radius = min(radius, height // 4)
    cy, cx = stream.draw(0, height), stream.draw(0, width)
    top, left = max(cy - 2 * radius, 0), max(cx - 2 * radius, 0)
    part = np.s_[top : cy + 2 * radius, left : cx + 2 * radius]
    view = scene[part]
    dy = np.arange(top - cy, top - cy + view.shape[0])[:, None]
    dx = np.arange(left - cx, left - cx + view.shape[1])
    turn_x, turn_y, thin = stream.draw(1, 8), stream.draw(-7, 8), stream.draw(4, 9)
    limit = 16 * (turn_x**2 + turn_y**2) * radius**2
    boxed = stream.draw(0, 3) == 0

    def extent(dy: Array, dx: Array) -> Array:
        along = 16 * (turn_x * dx + turn_y * dy) ** 2
        across = (thin * (turn_x * dy - turn_y * dx)) ** 2
        return np.maximum(2 * along, 2 * across) if boxed else along + across

    shadow = extent(dy - radius // 6, dx - radius // 4) <= limit
    view[shadow] = view[shadow] * 5 >> 3
    inside = extent(dy, dx) <= limit
    shade = -(40 * dx + 25 * dy) // radius
    colour = _COLOURS[stream.draw(0, len(_COLOURS))] + stream.draw(-20, 21)
    painted = colour + shade[:, :, None] + texture[part] // stream.draw(40, 200)
    view[inside] = painted[inside]


def _edges(height: int, width: int) -> Array:
    """Black, white and saturated colours in boxes of several sizes, int32 (height, width, 3)."""
    y, x = np.ogrid[:height, :width]
    tall, wide = max(height // 9, 2), max(width // 14, 2)
    box = y // tall * 5 + x // wide * 3 + (y * width > x * height) * 2
    colours = np.array(
        [
            (255, 255, 255),
            (0, 0, 0),
            (255, 0, 0),
            (255, 255, 0),
            (0, 0, 255),
            (0, 255, 0),
            (0, 0, 0),
        ]
    )
    found: Array = colours[box % len(colours)].astype(np.int32)
    # Stripes two pixels wide in one corner: the finest contrast that resizing leaves something of.
    found[: height // 3, : width // 3] = (((x + y) // 2 % 2) * 255)[
        : height // 3, : width // 3, None
    ]
    return found


def _dots(preprocessing: Preprocessing) -> Array:
    """Single bright pixels on dark ones, int32, of a size that is cropped and not resized.

    Each row is unlike those around it, and the outermost pixels are bright on the left and the top
    alone: what pads or samples a pixel to the side gives other numbers.
    """
    H, W = preprocessing.image_size
    height, width = int(H / preprocessing.crop_pct), int(W / preprocessing.crop_pct)
    y, x = np.ogrid[:height, :width]
    bright = (x * 3 + y * 5 + (x * y) // 7) % 11 == 0
    top, left = round((height - H) / 2), round((width - W) / 2)
    bright = bright | (y == top) & (x % 2 == 0) | (x == left) & (y % 3 == 0)
    return np.where(bright[:, :, None], (250, 235, 215), (20, 35, 60)).astype(np.int32)


def _with_channels(pixels: Array, channels: int) -> Array:
    """uint8 (height, width, channels) of colours: one is grey, more than three repeat them."""
    clipped: Array = pixels.clip(0, 255).astype(np.uint8)
    if pixels.shape[2] == channels:
        return clipped
    if channels == 1:
        grey = clipped.astype(np.int32) @ np.array([77, 150, 29])
        return np.asarray(grey[:, :, None] >> 8, np.uint8)
    # Each repetition is moved, so that channels that are exchanged show.
    planes = [np.roll(clipped[:, :, i % 3], i, axis=1) for i in range(channels)]
    return np.stack(planes, axis=2)
