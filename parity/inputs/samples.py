"""What a parity run sees: image files, noise, or generated images that show small errors."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from parity.inputs.drawing import SCENES, Stream, cloud, dots, edges, scene, with_channels
from pvt_data.answers.accuracy import batched
from pvt_data.images.pixels import pixel_mean, to_pixels
from pvt_data.images.preprocessing import encode_png, load_image, load_pixels
from pvt_spec import ImageError
from pvt_spec.arrays import Array
from pvt_spec.files.stamps import Stamp, stamp
from pvt_spec.model_info import Preprocessing


@dataclass(frozen=True)
class Sample:
    """One input of a run.

    Attributes:
        name: What a reader is shown: a file's path, or what was generated.
        group: Samples of one group are judged together.
        load: The function that makes the model's input, float32 (C, H, W), normalised, by the
            preprocessing of the model that it is for. It raises :class:`pvt_spec.ImageError` where
            that cannot be done.
        label: Index of its class; None where that is not known.
    """

    name: str
    group: str
    load: Callable[[Preprocessing], Array]
    label: int | None = None


def file_samples(
    paths: Sequence[Path],
    labels: Sequence[int] | None = None,
    sideways: set[str] | None = None,
) -> list[Sample]:
    """Returns image files, read anew at every ``load``, which refuses them once they change.

    Args:
        paths: The files.
        labels: The indices of their classes, if they are known.
        sideways: What is told the names of those that have an EXIF orientation.
    """
    known: Sequence[int | None] = [None] * len(paths) if labels is None else labels
    return [
        Sample(str(path), "images", _ImageFile(path, sideways), label)
        for path, label in zip(paths, known, strict=True)
    ]


@dataclass
class _ImageFile:
    """Loads an image file, the same one every time."""

    path: Path
    sideways: set[str] | None
    first: Stamp | None = None

    def __call__(self, preprocessing: Preprocessing) -> Array:
        now = stamp(self.path)
        if now != (self.first or now):
            raise ImageError(f"{self.path}: was written to since it was read: try again after that")
        self.first = now
        return load_image(self.path, preprocessing, sideways=self.sideways)


def noise_samples(count: int, seed: int) -> list[Sample]:
    """Returns standard normal noise in place of normalised images, of any size.

    Args:
        count: How many; the first ones are the same whatever it is.
        seed: The seed, 0 or more. Releases of numpy may draw other normals from it.
    """

    def draw(index: int, preprocessing: Preprocessing) -> Array:
        shape = (len(preprocessing.mean), *preprocessing.image_size)
        return np.random.default_rng((seed, index)).standard_normal(shape, np.float32)

    return [Sample(f"noise {i + 1}", "noise", partial(draw, i)) for i in range(count)]


def default_samples(preprocessing: Preprocessing, seed: int = 0) -> list[Sample]:
    """Returns eight generated images: four that look natural, and four that small errors show in.

    They are larger than the model's input and of another aspect, so that all of the preprocessing
    is at work, unless it takes images of that size alone.

    Args:
        preprocessing: What decides the pixels, by its size and mean. ``load`` with another one
            begins with the same pixels.
        seed: The seed, 0 or more.
    """
    H, W = preprocessing.image_size
    height, width = H * 13 // 10, W * 16 // 10
    if preprocessing.crop_mode == "none" and preprocessing.resize != "squash":
        height, width = H, W
    mean = np.rint(pixel_mean(preprocessing)).astype(int).clip(2, 253)
    drawn = [
        (f"natural {i}", "natural", scene(Stream(seed, i), height, width, *SCENES[i - 1]))
        for i in range(1, len(SCENES) + 1)
    ]
    low = cloud(Stream(seed, 0), len(mean), height, width).transpose(1, 2, 0)
    drawn += [
        ("constant grey", "constant", np.full((height, width, 3), 128)),
        ("low contrast 2/255", "low contrast", mean + (low >> 10).clip(-2, 2)),
        ("high contrast edges", "high contrast", edges(height, width)),
        ("dots one pixel wide", "shift", dots(preprocessing)),
    ]
    return [
        Sample(name, group, partial(load_pixels, with_channels(pixels, len(mean))))
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
        orientation: What is done with a photo's EXIF orientation, in place of what a model says.
        sideways: The names of the photos loaded so far that have one.
        source: Where they come from, one of :data:`convert.certificates.record.SOURCES`.
        seed: The seed of what was generated.
    """

    samples: Sequence[Sample]
    image_size: tuple[int, int]
    batch_size: int = 4
    orientation: str = "stored"
    sideways: set[str] = field(default_factory=set)
    source: str = "generated"
    seed: int = 0

    def batches(self) -> list[Sequence[Sample]]:
        """Returns the samples in batches."""
        return list(batched(self.samples, self.batch_size))

    def resized(self, preprocessing: Preprocessing) -> Preprocessing:
        """Returns a model's preprocessing for images of this size, turned in this way."""
        return dataclasses.replace(
            preprocessing, image_size=self.image_size, orientation=self.orientation
        )


def labels_of(samples: Sequence[Sample]) -> Array | None:
    """Returns class indices int64 (B,), or None unless all are known."""
    labels = [sample.label for sample in samples if sample.label is not None]
    return np.array(labels, np.int64) if len(labels) == len(samples) else None


def hash_input(array: Array) -> str:
    """Returns SHA-256 in hex of one input: ``CxHxW`` in ASCII, then little-endian float32."""
    digest = hashlib.sha256("x".join(map(str, array.shape)).encode())
    digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def thumbnail(sample: Sample, preprocessing: Preprocessing, side: int = 96) -> bytes:
    """Returns a PNG file of what the preprocessing makes of a sample.

    Colours if it has three channels, else the first as grey; values beyond those of pixels (noise
    has them) are clipped.

    Args:
        sample: The sample.
        preprocessing: What the model expects.
        side: Pixels of the longer side, at most.

    Raises:
        ImageError: The sample cannot be loaded.
    """
    return encode_png(to_pixels(sample.load(preprocessing), preprocessing), side)
