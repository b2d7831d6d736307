"""List files: an image and its class on each line.

That is what Caffe's, MMPretrain's and many others' ``val.txt`` of ImageNet are, and tables of two
columns.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pvt_data.sources.listing import SUFFIXES, LeftOut
from pvt_data.sources.source import Files, are_numbers, number_classes
from pvt_spec.errors import ConvertError, ImageError
from pvt_spec.files.models import read_text
from pvt_spec.words import listed, show

_EXPECTED = "expected an image and its class on each line, as in cat/1.jpg 3"

_SHOWN = 3


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
    fields = list(_split(path))
    if len(fields) > 1 and not _is_image(fields[0]) and _is_image(fields[1]):
        number, words = fields.pop(0)
        left_out.add("header", f"{path}:{number}: {' '.join(words)}")
    wrong = [(number, words) for number, words in fields if len(words) != 2 or not all(words)]
    if wrong or not fields:
        shown = listed(wrong, _SHOWN, lambda line: f"line {line[0]}: {show(' '.join(line[1]))}")
        what = f"{len(wrong)} of its {len(fields)} lines are of another form ({shown})"
        raise ImageError(f"{path}: {what if wrong else 'is empty'}; {_EXPECTED}")
    return _once(path, [Line(number, *words) for number, words in fields], left_out)


def _split(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line that is not empty, and its fields."""
    try:
        text = read_text(path)
    except ConvertError as error:
        raise ImageError(f"{error}; expected a folder, a tar file or a list of images") from error
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    between = next((sign for sign in "\t," if all(sign in line for _, line in lines)), None)
    for number, line in lines:
        fields = _columns(line, between) if between else line.strip().rsplit(None, 1)
        yield number, [field.strip() for field in fields]


def _columns(line: str, between: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=between, skipinitialspace=True))
    except csv.Error:  # a NUL, or a field without an end
        return [line]


def _is_image(fields: tuple[int, list[str]]) -> bool:
    return fields[1][0].lower().endswith(SUFFIXES)


def _once(path: Path, lines: list[Line], left_out: LeftOut) -> list[Line]:
    """Returns the lines less those that say again what one before them says.

    Raises:
        ImageError: Another line says something else.
    """
    first: dict[str, Line] = {}
    others: list[str] = []
    for line in lines:
        before = first.setdefault(os.path.normpath(line.image), line)
        if before.label != line.label:
            said = f"line {before.number} says {show(before.label)}"
            others.append(f"{line.image}: {said}, line {line.number} {show(line.label)}")
        elif before is not line:
            left_out.add("listed twice", f"{line.image} on line {line.number}")
    if others:
        raise ImageError(
            f"{path}: images with two classes: {listed(others, _SHOWN, separator='; ')}; expected "
            "one for each: take the wrong lines out"
        )
    return list(first.values())
