"""List files: an image and its class on each line.

That is what Caffe's, MMPretrain's and many others' ``val.txt`` of ImageNet are, and tables of two
columns.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

from pvt_data.sources.listing import SUFFIXES, LeftOut
from pvt_data.sources.source import Files, are_numbers, number_classes
from pvt_spec.errors import ConvertError, ImageError
from pvt_spec.files.models import read_text
from pvt_spec.words import listed, show

_EXPECTED = "expected an image and its class on each line, as in cat/1.jpg 3"

_SHOWN = 3

_T = TypeVar("_T")


class Line(NamedTuple):
    """A line of a list.

    Attributes:
        number: Its number in the file, from 1.
        image: The image's path as it stands there.
        label: The class's name or number.
    """

    number: int
    image: str
    label: str


class ListedFiles(Files):
    """The images of a list file, a :class:`Source`; its paths are relative to its own folder."""

    def __init__(self, path: Path):
        """Reads the list.

        Raises:
            ImageError: It is no text, or does not say one class for each of some images.
        """
        self.left_out = LeftOut()
        lines = read_list(path, self.left_out)
        self.classes, self.labels = number_classes([line.label for line in lines])
        self.numbered = are_numbers(line.label for line in lines)
        self._place(path.parent, (line.image for line in lines))


def read_list(path: Path, left_out: LeftOut) -> list[Line]:
    """Reads the lines of a list, each image once.

    A tab on every line is between image and class, or else a comma on every line is (a field with
    either in it stands in double quotes); otherwise the class is a line's last word. A first line
    whose image has not the ending of one, while the second's has, is a table's header.

    Args:
        path: The list, a text in UTF-8.
        left_out: What is to be told of a header, and of lines that say the same again.

    Raises:
        ImageError: It is no text or empty, lines are of another form, or an image has two classes.
    """
    if path.suffix.lower() in SUFFIXES:
        raise ImageError(f"{path}: is an image; expected a folder, a tar file or a list of images")
    fields = _split(path)
    first = [*islice(fields, 2)]
    if len(first) > 1 and not _is_image(first[0]) and _is_image(first[1]):
        number, words = first.pop(0)
        left_out.add("header", f"{path}:{number}: {' '.join(words)}")
    count, wrong, lines = 0, _Counted[tuple[int, list[str]]](), _Once(left_out)
    for number, words in chain(first, fields):
        count += 1
        if len(words) == 2 and all(words):
            lines.add(Line(number, *words))
        else:
            wrong.add((number, words))
    if wrong or not count:
        shown = listed(wrong, _SHOWN, lambda line: f"line {line[0]}: {show(' '.join(line[1]))}")
        what = f"{len(wrong)} of its {count} lines are of another form ({shown})"
        raise ImageError(f"{path}: {what if wrong else 'is empty'}; {_EXPECTED}")
    if lines.others:
        raise ImageError(
            f"{path}: images with two classes: {listed(lines.others, _SHOWN, separator='; ')}; "
            "expected one for each: take the wrong lines out"
        )
    return list(lines.first.values())


def _split(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line that is not empty, and its fields."""
    try:
        text = read_text(path)
    except ConvertError as error:
        raise ImageError(f"{error}; expected a folder, a tar file or a list of images") from error
    some = [sign for sign in "\t," if all(sign in line for line in _lines(text) if line.strip())]
    between = next(iter(some), None)
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        fields = _columns(line, between) if between else line.strip().rsplit(None, 1)
        yield number, [field.strip() for field in fields]


def _lines(text: str) -> Iterator[str]:
    """Yields the lines of a text one by one: all of them at once take many times its bytes."""
    return (line[1] for line in re.finditer(r"([^\r\n]*)(?:\r\n|\r|\n|$)", text))


def _columns(line: str, between: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=between, skipinitialspace=True))
    except csv.Error:  # a NUL, or a field without an end
        return [line]


def _is_image(fields: tuple[int, list[str]]) -> bool:
    return fields[1][0].lower().endswith(SUFFIXES)


class _Counted(Sequence[_T]):
    """Items of which there may be millions: all are counted, those that are shown are kept."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[_T] = []

    def add(self, item: _T) -> None:
        """Adds an item."""
        self._count += 1
        if len(self._first) < _SHOWN:
            self._first.append(item)

    def __len__(self) -> int:
        """Returns how many there are."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> _T: ...

    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...

    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        """Returns some of those that are kept."""
        return self._first[index]


class _Once:
    """Lines, less those that say again what one before them says.

    Attributes:
        first: The first line of each image, by the image's path.
        others: What is wrong with lines that say something else of one, in words.
    """

    def __init__(self, left_out: LeftOut):
        self._left_out = left_out
        self._labels: dict[str, str] = {}
        self.first: dict[str, Line] = {}
        self.others = _Counted[str]()

    def add(self, line: Line) -> None:
        """Adds a line."""
        place = os.path.normpath(line.image)
        if place == line.image:
            place = line.image  # one text for both
        before = self.first.get(place)
        if before is None:
            label = self._labels.setdefault(line.label, line.label)  # one text for all its images
            self.first[place] = Line(line.number, line.image, label)
        elif before.label != line.label:
            said = f"line {before.number} says {show(before.label)}"
            self.others.add(f"{line.image}: {said}, line {line.number} {show(line.label)}")
        else:
            self._left_out.add("listed twice", f"{line.image} on line {line.number}")
