"""What images with labels are, wherever they come from: bytes, label and name by number.

Pictures are not decoded here.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pvt_data.sources.listing import LeftOut
from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError
from pvt_spec.files.limits import MAX_IMAGE_BYTES
from pvt_spec.files.reading import open_regular
from pvt_spec.words import reason

MOST_DIGITS = 5
"""The most digits of a class that is a number; longer ones are taken for names."""


class Source(ABC):
    """Labelled images, each read on its own; can be sent to another process.

    Attributes:
        classes: Class names; the index is the label.
        labels: The images' classes, int64 (N,).
        numbered: Whether the classes are said by number, and so are those of the model.
        left_out: What was found beside them.
    """

    classes: tuple[str, ...]
    labels: Array
    numbered: bool = False
    left_out: LeftOut

    def __len__(self) -> int:
        """Returns N."""
        return len(self.labels)

    def read(self, index: int) -> bytes:
        """Returns an image file's bytes.

        Raises:
            ImageError: They cannot be read.
        """
        try:
            return self._read(index)
        except OSError as error:
            raise ImageError(f"{self.name(index)}: cannot be read: {reason(error)}") from error

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns what to call an image in a message."""

    @abstractmethod
    def _read(self, index: int) -> bytes: ...

    def _check_size(self, index: int, size: int) -> None:
        """Refuses, before it is read, an image file of more bytes than any has.

        Raises:
            ImageError: It has.
        """
        if size > MAX_IMAGE_BYTES:
            raise ImageError(
                f"{self.name(index)}: has {size:,} bytes, expected an image of {MAX_IMAGE_BYTES:,} "
                "at most"
            )


class Files(Source):
    """Images that are files of their own, a :class:`Source`."""

    def _place(self, folder: Path, names: Iterable[str]) -> None:
        """Says where the images lie: in a folder, under these paths."""
        self._folder = str(folder)
        self._names = Texts(names)

    def _read(self, index: int) -> bytes:
        with open_regular(self.name(index)) as file:
            self._check_size(index, os.fstat(file.fileno()).st_size)
            return file.read()

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return os.path.join(self._folder, self._names[index])


class Texts:
    """Many short texts in little memory, quick to send to another process."""

    def __init__(self, names: Iterable[str]):
        # Not as this system's names are: a tar file or a list may have others.
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index : index + 2]
        return self._text[start:end].decode("utf-8", "surrogateescape")


def number_classes(names: Sequence[str]) -> tuple[tuple[str, ...], Array]:
    """Returns the class names and labels int64 (N,) of images whose classes are these texts."""
    distinct = sorted(set(names))
    if are_numbers(distinct):
        # Numbers count from 0, whether or not there is an image of each.
        numbers = np.array([int(name) for name in names], np.int64)
        return tuple(map(str, range(int(numbers.max()) + 1))), numbers
    number = {name: index for index, name in enumerate(distinct)}
    return tuple(distinct), np.array([number[name] for name in names], np.int64)


def are_numbers(names: Iterable[str]) -> bool:
    """Returns whether all classes are said by number."""
    return all(name.isdecimal() and len(name) <= MOST_DIGITS for name in names)
