"""The images that calibrate, or are answered to see what quantising changes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pvt_data.images.decoding import check_channels
from pvt_data.images.preprocessing import load_image
from pvt_data.sources.labels import LabelledImages, Tell, check_some_readable, open_labelled
from pvt_data.sources.listing import LeftOut, class_folders, list_images, listing
from pvt_spec import ImageError, ModelInfo
from pvt_spec.arrays import Array

FEW = 16
"""Fewer images than this hardly show the range of anything."""


@dataclass(frozen=True)
class Samples:
    """Some images of a folder.

    Attributes:
        images: All of the folder's.
        numbers: Which of them.
        labelled: Whether their classes are known.
        where: What to call them.
        unreadable: Those that could not be read so far, and why.
    """

    images: LabelledImages
    numbers: tuple[int, ...]
    labelled: bool
    where: str
    unreadable: dict[str, str] = field(default_factory=dict)

    def batches(self, size: int) -> Iterator[tuple[Array, Array]]:
        """Yields images float32 (B, C, H, W) and labels int64 (B,), B at most ``size``.

        Raises:
            ImageError: None of the images can be read.
        """
        read = 0
        for numbers, images in self.images.batches(self.numbers, size, self.unreadable):
            read += len(numbers)
            yield images, self.images.labels[numbers]
        check_some_readable(read, self.unreadable, self.where)

    def some(self, count: int) -> "Samples":
        """Returns as many of them, evenly spaced."""
        return Samples(
            self.images, spaced(self.numbers, count), self.labelled, self.where, self.unreadable
        )

    def others(self) -> "Samples":
        """Returns the folder's other images; all where there are no others."""
        rest = sorted({*range(len(self.images.labels))} - {*self.numbers})
        return Samples(self.images, tuple(rest), self.labelled, self.where, self.unreadable)


def spaced(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Returns at most ``count`` of some numbers, evenly spaced."""
    count = min(count, len(numbers))
    return tuple(numbers[i * len(numbers) // count] for i in range(count))


def open_calibration(info: ModelInfo, folder: Path, unlabelled: bool, tell: Tell) -> Samples:
    """Lists the images that calibrate; none is read yet.

    Args:
        info: The model's.
        folder: ``CLASS/*.png``, tar files, or images without classes. Where it holds the folders
            train and val, the first is meant.
        unlabelled: Whether its folders are none of classes.
        tell: What is told what was chosen, guessed and left out.

    Raises:
        ImageError: The folder cannot be used, or its classes are not the model's.
    """
    folder = _split(folder, "train", tell)
    single = info.config.num_classes > 0 and info.task == "single_label"
    labelled = single and not unlabelled and _has_classes(folder)
    if not labelled:
        images = _unlabelled(info, folder, tell)
        return Samples(images, tuple(range(len(images.labels))), labelled, str(folder))
    try:
        return open_measured(info, folder, tell)
    except ImageError as error:
        raise ImageError(
            f"{error}; or, if its folders are none of classes, give --unlabelled"
        ) from error


def open_measured(info: ModelInfo, folder: Path, tell: Tell) -> Samples:
    """Lists labelled images; none is read yet.

    Args:
        info: The model's.
        folder: ``CLASS/*.png`` or tar files. Where it holds the folders train and val, the second
            is meant.
        tell: What is told what was chosen, guessed and left out.

    Raises:
        ConfigError: The model has no classes of which one is right.
        ImageError: The folder cannot be used, or its classes are not the model's.
    """
    folder = _split(folder, "val", tell)
    images = open_labelled(info, folder, tell)
    return Samples(images, tuple(range(len(images.labels))), True, str(folder))


def _split(folder: Path, split: str, tell: Tell) -> Path:
    if not all((folder / each).is_dir() for each in ("train", "val")):
        return folder
    tell(f"images of {folder / split}")
    return folder / split


def _has_classes(folder: Path) -> bool:
    with listing(folder):
        if not folder.is_dir():
            raise ImageError(f"{folder}: no such folder, expected one of images")
        return any(folder.glob("*.tar")) or bool([*class_folders(folder, LeftOut())])


def _unlabelled(info: ModelInfo, folder: Path, tell: Tell) -> LabelledImages:
    check_channels(info.config.in_chans)
    left_out = LeftOut()
    paths = list_images([folder], left_out)
    if left_out:
        tell(f"{folder}: {left_out}")

    def load(number: int) -> Array:
        return load_image(paths[number], info.preprocessing)

    labels = np.full(len(paths), -1, np.int64)
    return LabelledImages(load, labels, lambda number: str(paths[number]))
