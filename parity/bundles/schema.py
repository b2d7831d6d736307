"""What a bundle's description may hold, as data, and the reading of one that is checked by it."""

import json
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from parity.errors import ParityError
from pvt_spec.attributes import UNSEEN
from pvt_spec.config import MIN_IMAGE_SIDE


class RecordError(ParityError):
    """A description that is damaged; which file it is in is for others to say."""


FORMAT = 1
"""The description's version; a change that a reader must know of counts it up."""

MAX_MARKS, _MARK = 100_000, 16
"""A description of more brackets and commas than this needs so many characters for each.

A description of 100,000 images has one to 50 characters.
"""

MAX_SIDE = 1 << 14
"""Most pixels of an image's side."""

_MAX_TEXT = 4096


@dataclass(frozen=True)
class _Check:
    """What a value is.

    Attributes:
        words: The words for it.
        holds: A function that says whether a value is so.
    """

    words: str
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and 0 < value < 1 << 63


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and abs(value) < 1e300


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def is_attribute(value: Any) -> bool:
    """Returns whether a value is what a layer's attribute may be: finite, and short."""
    if isinstance(value, list):
        return len(value) <= 8 and all(map(_is_number, value))
    return value is None or _is_text(value) or _is_number(value)


def _is_spread(value: Any) -> bool:
    """Whether a value has the numbers of a :class:`parity.measure.envelope.Spread`."""
    if not isinstance(value, list) or len(value) != 5:
        return False
    # None, and in files that were written before infinity and NaN, are of what overflowed.
    return _is_count(value[3]) and all(
        each is None or (isinstance(each, float) and not each < 0) or each == 0 or _is_count(each)
        for each in value
    )


_TEXT = _Check(f"a text of at most {_MAX_TEXT} characters", _is_text)
_COUNT = _Check("a number above 0", _is_count)
_SIZE = _Check(
    f"(H, W), each from {MIN_IMAGE_SIDE} to {MAX_SIDE} pixels",
    lambda value: (
        isinstance(value, list)
        and len(value) == 2
        and all(_is_whole(side) and MIN_IMAGE_SIDE <= side <= MAX_SIDE for side in value)
    ),
)

ANY = "*"
"""The key in a schema that stands for any."""

_SCHEMA = {
    "format": _Check(str(FORMAT), lambda value: value == FORMAT),
    "runtime": _TEXT,
    "file": _TEXT,
    "kind": _Check(f"one of {', '.join(UNSEEN)}", lambda value: value in [*UNSEEN]),
    "info": _Check("an object", lambda value: isinstance(value, dict)),
    "image_size": _SIZE,
    "attributes": {ANY: _Check("a number, a text or a few numbers", is_attribute)},
    "hashes": {ANY: _TEXT},
    "facts": {ANY: _TEXT},
    "envelopes": {ANY: {ANY: {ANY: _Check("the five numbers of a spread", _is_spread)}}},
    "batches": [_COUNT],
    "seen": [{"name": _TEXT, "group": _TEXT, "hash": _TEXT}],
    "names": [_TEXT],
    "inputs_kept": _Check("true or false", lambda value: isinstance(value, bool)),
}
"""What a description holds: an object by its keys, lists and other objects by what each is."""


def parse_description(text: str) -> dict[str, Any]:
    """Returns the description that a text is, as :data:`_SCHEMA` has it.

    Raises:
        ParityError: A later version wrote it.
        RecordError: It is none.
    """
    # Before it is parsed: a bracket or comma takes many times its byte in memory.
    marks = sum(map(text.count, "[{,"))
    if marks > MAX_MARKS and marks * _MARK > len(text):
        raise RecordError(f"{marks:,} brackets and commas in {len(text):,} characters")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"no JSON ({error})") from error
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise ParityError(
            "it is of a format that this version does not know: use the version that wrote it, "
            "or a later one"
        )
    if problem := next(_problems(data, _SCHEMA, ""), ""):
        raise RecordError(problem)
    return {key: value if key == "info" else _printable(value) for key, value in data.items()}


def _printable(value: Any) -> Any:
    """Returns a value whose texts may be shown on a terminal: what may not is escaped."""
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value)


def _problems(value: Any, expected: Any, where: str) -> Iterator[str]:
    """Yields what in a value is not as a part of :data:`_SCHEMA` has it."""
    if isinstance(expected, _Check):
        if not expected.holds(value):
            yield f"{where} is {reprlib.repr(value)}, expected {expected.words}"
    elif isinstance(expected, list):
        if not isinstance(value, list):
            yield f"{where} is {reprlib.repr(value)}, expected a list"
            return
        for each in value:
            yield from _problems(each, expected[0], f"each of {where}")
    elif not isinstance(value, dict):
        yield f"{where or 'it'} is {reprlib.repr(value)}, expected an object"
    elif ANY in expected:
        for key, each in value.items():
            yield from _problems(key, _TEXT, f"a name in {where}")
            yield from _problems(each, expected[ANY], f"each of {where}")
    elif value.keys() != expected.keys():
        wrong = sorted(value.keys() ^ expected.keys())
        yield f"{where or 'it'} has, or lacks, {reprlib.repr(wrong)}"
    else:
        for key, part in expected.items():
            yield from _problems(value[key], part, f"{where}.{key}".removeprefix("."))
