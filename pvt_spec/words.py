"""How numbers of things, long lists and long values are said, in every message."""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from reprlib import Repr
from typing import Any
from unicodedata import combining, east_asian_width

from pvt_spec.files.limits import MAX_KNOWN, MAX_LINE, MAX_MESSAGE, MAX_NEAR


def counted(number: int, noun: str) -> str:
    """Returns ``1 image``, ``2,000 epochs``, ``3 classes``, ``4 batches``."""
    ending = "es" if noun.endswith(("s", "tch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def listed(
    items: Sequence[Any], most: int, show: Callable[[Any], str] = str, separator: str = ", "
) -> str:
    """Returns ``a, b and 3 more``: the first of some items, and how many there are beside.

    Args:
        items: The items; of none it is "".
        most: How many are shown.
        show: The function that returns the words for one; it is asked for those alone.
        separator: What stands between them.
    """
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(map(show, items[:most])) + more


def shortened(text: str, most: int = 60) -> str:
    """Returns a text of so many characters at most, its end left out where it is longer."""
    return text if len(text) <= most else f"{text[: most - 3]}…"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a line for each row, each column as wide as its widest cell.

    Columns of numbers, with what belongs to them (``12 %``, ``1.8×``), end together, others begin
    together; so does a column's head, in the first row.
    """
    numeric = [_is_numbers(column[1:]) for column in zip(*rows, strict=True)]
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            padded(cell, width, before=number)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]


def _is_numbers(cells: Sequence[str]) -> bool:
    """Returns whether the cells of a column, as far as they are filled, are numbers."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(re.fullmatch(r"-?[\d,.]+(e[+-]\d+)?( ?[%×])?", c) for c in filled)


def padded(text: str, width: int, *, before: bool = False) -> str:
    """Returns a text with spaces behind it, or before, so many columns wide on a terminal."""
    spaces = " " * (width - display_width(text))
    return spaces + text if before else text + spaces


def display_width(text: str) -> int:
    """Returns the columns that a text takes on a terminal: two for a wide character."""
    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def printable(text: str, keep: str = "") -> str:
    """Returns a text from outside, fit for a terminal: its control characters as escapes.

    Args:
        text: The text.
        keep: The characters that are none of them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def is_unicode(text: object) -> bool:
    """Returns whether a value is a text that can be encoded: without lone surrogates."""
    return isinstance(text, str) and (
        text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
    )


def presentable(text: str) -> str:
    """Returns a message as it is shown: no control characters, and of what is long the two ends.

    What a file or a library put into it does neither move a cursor nor fill the screen, nor does
    it begin a line: our own go on with spaces.
    """
    text = re.sub(r"\n(?! )", r"\\n", _ends(text, MAX_MESSAGE))
    if len(text) > MAX_LINE:
        text = "\n".join(_ends(line, MAX_LINE) for line in text.split("\n"))
    return printable(text, keep="\n")


def _ends(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 3 // 4]} … {text[-most // 5 :]}"


class _Shown(Repr):
    def repr1(self, x: Any, level: int) -> str:
        """Returns what is inside a collection of a kind of its own as of any other."""
        kind = next((kind for kind in (dict, list, tuple) if isinstance(x, kind)), type(x))
        shown: str = getattr(self, f"repr_{kind.__name__}", super().repr1)(x, level)
        return shown

    def repr_ndarray(self, value: Any, level: int) -> str:
        """Returns what an array is: to write out its numbers takes long."""
        return f"{value.dtype} {value.shape}"

    def repr_str(self, value: str, level: int) -> str:
        """Returns a text in quotes, of which 150 characters are looked at."""
        return repr(shortened(value, 150))

    def repr_int(self, value: int, level: int) -> str:
        """Returns a number; of a very long one how long it is, as Python writes out none."""
        return (
            repr(value) if value.bit_length() <= 200 else f"an integer of {value.bit_length()} bits"
        )


_shown = _Shown()


def show(value: Any) -> str:
    """Returns a value from outside in some 200 characters at most, fit for a terminal."""
    return shortened(printable(_shown.repr(value)), 200)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known name that is the most like another, or None; a long one is like none."""
    if len(name) > MAX_NEAR:
        return None
    return next(iter(get_close_matches(name, islice(known, MAX_KNOWN), 1, cutoff)), None)


def reason(error: BaseException) -> str:
    """Returns what an error says: the system's words, its own, or the name of its class."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return shortened(said, 200) or type(error).__name__
