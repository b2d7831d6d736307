"""Labelled images by number, from folders of files or from tar files: bytes, label and name.

Pictures are not decoded here, but what a camera noted beside one may be read.
"""

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pvt_data.images.decoding import MAY_RAISE, opened, turn
from pvt_data.sources.listing import LeftOut, class_folders, is_hidden, list_labelled, listing
from pvt_data.sources.tars import CLASS_SUFFIX, Member, index_tar, sample_key
from pvt_spec import ImageError
from pvt_spec.arrays import Array
from pvt_spec.files.limits import MAX_CLASS_NAME, MAX_IMAGE_BYTES
from pvt_spec.files.reading import open_regular
from pvt_spec.files.replacing import AnyPath
from pvt_spec.words import reason

OPEN_FILES = 64
"""How many tar files a process keeps open at most; ImageNet has 1000."""

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


def open_source(folder: AnyPath) -> Source:
    """Opens the images of one split: ``CLASS/*.jpg``, or tar files.

    Tar files are either shards, where ``NAME.jpg`` lies beside ``NAME.cls`` with the class's name
    or number (as webdataset writes them), or one per class and named after it, as ImageNet's
    ``n01440764.tar``. They are not unpacked. Numbers as classes name the classes "0", "1", ….

    Raises:
        ImageError: The folder is missing, or cannot be told to be one of these; a tar file is
            damaged or compressed, or an image has no class.
    """
    folder = Path(folder)
    with listing(folder):
        tars = sorted(path for path in folder.glob("*.tar") if not is_hidden(path.name))
        folders = [*class_folders(folder, LeftOut())] if tars else []
    if not tars:
        return ClassFolders(folder)
    if folders:
        raise ImageError(
            f"{folder}: holds both tar files ({tars[0].name}, …) and folders ({folders[0]}, …); "
            "expected one or the other: move one of them elsewhere"
        )
    return TarFiles(tars)


def count_sideways(source: Source, most: int) -> tuple[int, int]:
    """Counts images whose EXIF orientation says that they are to be turned.

    Returns:
        How many there are, of how many that were looked at: evenly spaced, ``most`` at most.
    """
    count = min(most, len(source))
    return sum(_is_sideways(source, i * len(source) // count) for i in range(count)), count


def _is_sideways(source: Source, index: int) -> bool:
    try:
        with opened(BytesIO(source.read(index))) as image:
            # A PNG's would be looked for behind its pixels.
            return (image.format != "PNG" or "exif" in image.info) and turn(image) is not None
    except MAY_RAISE:
        # What cannot be read is told where it is needed.
        return False


class Texts:
    """Many short texts in little memory, quick to send to another process."""

    def __init__(self, names: Iterable[str]):
        encoded = [os.fsencode(name) for name in names]
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index : index + 2]
        return os.fsdecode(self._text[start:end])


class ClassFolders(Source):
    """The images of ``CLASS/*.jpg``, a :class:`Source`."""

    def __init__(self, folder: Path):
        """Lists the folder.

        Raises:
            ImageError: It is missing, holds no class folders, or a class holds no image.
        """
        self.left_out = LeftOut()
        samples, classes = list_labelled(folder, self.left_out)
        self.classes = tuple(classes)
        self.labels = np.array([label for _, label in samples], np.int64)
        self._folder = str(folder)
        self._names = Texts(str(path.relative_to(folder)) for path, _ in samples)

    def _read(self, index: int) -> bytes:
        with open_regular(self.name(index)) as file:
            return file.read()

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return os.path.join(self._folder, self._names[index])


class TarFiles(Source):
    """The images of tar files, a :class:`Source`; only their headers are read at first."""

    def __init__(self, paths: Sequence[Path]):
        """Indexes the files.

        Args:
            paths: Shards, or one file per class; see :func:`open_source`.

        Raises:
            ImageError: A file is damaged or compressed, or an image has no class.
        """
        # Those that are open and not in use, the one that was used longest ago first.
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        indexes = [index_tar(path) for path in paths]
        images = [image for index in indexes for image in index.images]
        counts = [len(index.images) for index in indexes]
        self._paths = tuple(map(str, paths))
        self._tar = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
        self._offset = np.array([image.offset for image in images], np.int64)
        self._size = np.array([image.size for image in images], np.int64)
        self._names = Texts(image.name for image in images)
        classes = [index.classes for index in indexes]
        if any(classes):
            names = [self._shard_class(image, classes) for image in range(len(images))]
        else:
            names = [paths[tar].stem for tar in self._tar]
        self.classes, self.labels = _numbered(names)
        self.numbered = any(classes) and _are_numbers(names)
        self.left_out = LeftOut.of(index.left_out for index in indexes)

    def _shard_class(self, index: int, classes: Sequence[dict[str, Member]]) -> str:
        """Returns the text of the ``.cls`` beside an image."""
        tar, key = int(self._tar[index]), sample_key(self._names[index])
        if key not in classes[tar]:
            raise ImageError(
                f"{self.name(index)}: {key}{CLASS_SUFFIX} is not in the same tar file, but other "
                "images have theirs; expected one for each"
            )
        name, offset, size = classes[tar][key]
        if size > MAX_CLASS_NAME:
            raise ImageError(
                f"{self._paths[tar]}/{name}: has {size} bytes, expected a class's name of up to "
                f"{MAX_CLASS_NAME}"
            )
        text = self._part(tar, offset, size).decode(errors="replace").strip()
        if not text:
            raise ImageError(f"{self._paths[tar]}/{name}: is empty; expected a class's name")
        return text

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()

    def _read(self, index: int) -> bytes:
        size = int(self._size[index])
        if size > MAX_IMAGE_BYTES:
            raise ImageError(
                f"{self.name(index)}: has {size:,} bytes, expected an image of {MAX_IMAGE_BYTES:,} "
                "at most"
            )
        encoded = self._part(int(self._tar[index]), int(self._offset[index]), size)
        if len(encoded) < size:
            raise ImageError(
                f"{self.name(index)}: has {len(encoded)} of the {size} bytes that it had when "
                "training started"
            )
        return encoded

    def name(self, index: int) -> str:
        """Returns the tar file's path, and the member's name in it."""
        return f"{self._paths[self._tar[index]]}/{self._names[index]}"

    def _part(self, tar: int, offset: int, size: int) -> bytes:
        # A file that is read is nobody else's: its place is this thread's alone, where a system
        # has no way to read at a place, and nobody closes it.
        file = self._files.pop(tar, None) or open_regular(self._paths[tar])
        file.seek(offset)
        part = file.read(size)
        if other := self._files.pop(tar, None):
            other.close()
        self._files[tar] = file
        while len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return part


def _numbered(names: Sequence[str]) -> tuple[tuple[str, ...], Array]:
    """Returns the class names and labels int64 (N,) of images whose classes are these texts."""
    distinct = sorted(set(names))
    if _are_numbers(distinct):
        # Numbers count from 0, whether or not there is an image of each.
        numbers = np.array([int(name) for name in names], np.int64)
        return tuple(map(str, range(int(numbers.max()) + 1))), numbers
    number = {name: index for index, name in enumerate(distinct)}
    return tuple(distinct), np.array([number[name] for name in names], np.int64)


def _are_numbers(names: Iterable[str]) -> bool:
    return all(name.isdecimal() and len(name) <= MOST_DIGITS for name in names)
