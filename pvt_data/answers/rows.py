"""How records of :func:`pvt_data.answers.predict.predict` are written: the formats, a row each.

Each writes records as they come, whatever their number; some can be read again to go on.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain, islice
from typing import Any, BinaryIO

from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.words import display_width, padded, printable, shortened

_LONGEST = 200
"""Characters of a class's name that are shown in a table."""

_BLOCK = 100
"""Rows of a table that are held back to know how wide its columns are."""

Row = Mapping[str, Any]
Place = tuple[int, dict[str, Any] | None]
"""The byte where a line ends in a file, and the record that it is, if it is one."""


@dataclass(frozen=True)
class Head:
    """What is the same for all records.

    Attributes:
        model: The model's file.
        facts: What runs it.
        classes: How many classes a record has.
        value: What their numbers are called.
        begun: Whether there are records before these.
    """

    model: str
    facts: Mapping[str, str]
    classes: int
    value: str
    begun: bool = False

    @property
    def columns(self) -> list[str]:
        """The names of a table's columns, with an image in each line."""
        keys = ("index", "label", self.value)
        named = [f"{key}_{number}" for number in range(1, self.classes + 1) for key in keys]
        return ["image", *named, "error"]


@dataclass(frozen=True)
class Format:
    """One way to write records.

    Attributes:
        ending: What the names of files in it end in.
        about: What it is, for the help.
        write: The function that yields the text of records, line by line.
        read: The function that yields what a file has of whole records, and raises an error where
            something else is in it; None where one cannot go on with such a file.
        opening: What every such file begins with.
    """

    ending: str
    about: str
    write: Callable[[Head, Iterable[Row]], Iterator[str]]
    read: Callable[[Head, BinaryIO], Iterator[Place]] | None = None
    opening: bytes = b""


def write_table(head: Head, records: Iterable[Row]) -> Iterator[str]:
    """Yields a line for each record that has classes, in columns which only become wider."""
    rows = iter(record for record in records if "classes" in record)
    widths: list[int] = []
    for first in rows:
        block = [first, *islice(rows, _BLOCK - 1)]
        lines = [
            [printable(row["image"]), *(_cell(found["label"]) for found in row["classes"])]
            for row in block
        ]
        wide = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
        widths = [max(pair) for pair in zip(wide, widths or wide, strict=True)]
        for row, line in zip(block, lines, strict=True):
            name, *labels = (padded(text, width) for text, width in zip(line, widths, strict=True))
            shares = map(_share, row["classes"])
            cells = (f"{label} {share}" for label, share in zip(labels, shares, strict=True))
            yield "  ".join([name, *cells]) + "\n"


def _cell(label: str) -> str:
    """Returns a class's name, which a file may have said, fit for a terminal."""
    return shortened(printable(label), _LONGEST)


def _share(found: Row) -> str:
    return f"{found['value']:9.6g}" if "value" in found else f"{found['probability']:6.2%}"


def write_json(head: Head, records: Iterable[Row]) -> Iterator[str]:
    """Yields one document, which says what ran; a record is a line."""
    about = encode_json({"model": head.model, "engine": dict(head.facts)})
    start = before = f'{about[:-1]}, "images": [\n'
    for record in records:  # nothing is written where there is an error in place of the first
        yield before + encode_json(record)
        before = ",\n"
    yield f"{start if before is start else ''}\n]}}\n"


def write_jsonl(head: Head, records: Iterable[Row]) -> Iterator[str]:
    """Yields a JSON object in a line for each record."""
    for record in records:
        yield encode_json(record) + "\n"


def read_jsonl(head: Head, stream: BinaryIO) -> Iterator[Place]:
    """Yields the records of a file that :func:`write_jsonl` wrote; see :class:`Format`.

    Raises:
        PvtError: A line is no record.
    """
    end = 0
    for number, line in enumerate(_whole_lines(stream), 1):
        try:
            record = parse_json(line, names=True)
        except ValueError as error:
            raise PvtError(f"line {number}: {error}") from None
        if not isinstance(record, dict) or not isinstance(record.get("image"), str):
            raise PvtError(f"line {number}: expected an object with an image")
        end += len(line)
        yield end, record


def write_csv(head: Head, records: Iterable[Row]) -> Iterator[str]:
    """Yields comma-separated values; texts are quoted, numbers have all their digits."""
    text = StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    rows = (_flat(record, head) for record in records)
    for row in chain([] if head.begun else [head.columns], rows):
        text.seek(0)
        text.truncate()
        writer.writerow(row)
        yield text.getvalue()


def _flat(record: Row, head: Head) -> list[Any]:
    if "error" in record:
        return [record["image"], *[""] * (3 * head.classes), record["error"]]
    values = [value for found in record["classes"] for value in found.values()]
    return [record["image"], *values, ""]


def read_csv(head: Head, stream: BinaryIO) -> Iterator[Place]:
    """Yields the records of a file that :func:`write_csv` wrote; see :class:`Format`.

    Raises:
        PvtError: It has other columns, or a row that is none.
    """
    end, number = 0, 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in _whole_lines(stream):
            end += len(line)
            yield line.decode("utf-8", "surrogateescape")

    rows = csv.reader(lines(), strict=True)
    while True:
        number += 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            if stream.read(1):
                raise PvtError(f"row {number}: {error}") from None
            return  # within quotes, where writing was stopped
        if row is None:
            return
        if len(row) != len(head.columns) or (number == 1 and row != head.columns):
            raise PvtError(
                f"row {number}: {shortened(', '.join(row), 200)}, expected the columns "
                f"{shortened(', '.join(head.columns), 200)}"
            )
        yield end, _record(row, head, number) if number > 1 else None


def _record(row: Sequence[str], head: Head, number: int) -> dict[str, Any]:
    if row[-1]:
        return {"image": row[0], "error": row[-1]}
    try:
        classes = [
            {"index": int(index), "label": label, head.value: float(share)}
            for index, label, share in zip(row[1:-1:3], row[2:-1:3], row[3:-1:3], strict=True)
        ]
    except ValueError as error:
        raise PvtError(f"row {number}: {error}") from None
    return {"image": row[0], "classes": classes}


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yields the lines of a file but the last one if it has no end, as writing was stopped."""
    for line in stream:
        if line.endswith(b"\n"):
            yield line


FORMATS = {
    "table": Format(".txt", "columns for people", write_table),
    "json": Format(".json", "one JSON document", write_json),
    "jsonl": Format(
        ".jsonl", "a JSON object in each line", write_jsonl, read_jsonl, b'{"image": "'
    ),
    "csv": Format(".csv", "comma-separated values", write_csv, read_csv, b'"image",'),
}
"""The formats by name; the first is the default."""
