"""JSON in and out: all that is read or written as JSON goes through these two functions.

What JSON itself has no words for (NaN, infinities) is neither read nor written, and what is read
is bounded by :mod:`pvt_spec.files.limits`.
"""

import json
import re
from collections import Counter
from math import isfinite
from typing import Any, NoReturn

from pvt_spec.files.limits import (
    MAX_INTEGER,
    MAX_NESTING,
    MAX_TEXT_BYTES,
    MAX_VALUES,
    VALUE_CHARACTERS,
)
from pvt_spec.words import show

_MARKS = ",[{"
_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
"""A text in a JSON text, quotes and all."""

_MAY_BE_LONE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(
    text: str | bytes, *, nulls: bool = False, names: bool = False, most_values: int = MAX_VALUES
) -> Any:
    """Returns the value of a JSON text: objects as dicts, in which no name is twice.

    Integers fit 64 bits, other numbers are finite, texts are Unicode.

    Args:
        text: The text; bytes are UTF-8.
        nulls: Whether NaN and infinities, which were written before, are None instead of refused.
        names: Whether texts may be names of files, which are not always Unicode.
        most_values: How many commas and brackets it may have, as of ``MAX_VALUES``.

    Raises:
        ValueError: It is none, or one that asks for too much: what is wrong, in words.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"{len(text)} bytes, expected at most {MAX_TEXT_BYTES}")
    if not isinstance(text, str):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"it is no UTF-8 ({error.reason})") from None
    # Before parsing: what JSON makes of a comma or a bracket takes many times its byte.
    most = max(most_values, len(text) // VALUE_CHARACTERS)
    if (values := count_values(text, most)) > most:
        raise ValueError(f"{values} values, expected at most {most}")
    try:
        value = (_lenient if nulls else _decoder).decode(text)
    except RecursionError:
        raise ValueError("it is nested without end") from None
    if _nesting(value) > MAX_NESTING:
        raise ValueError(f"it is nested over {MAX_NESTING} times")
    if not names and _MAY_BE_LONE.search(text) and not _is_unicode(value):
        raise ValueError("a text in it has a lone surrogate, expected Unicode")
    return value


def count_values(text: str, most: int) -> int:
    """Returns how many commas and brackets a JSON text has, or that they are more than ``most``.

    Within its texts they make nothing, which is looked at where it matters.
    """
    values = sum(map(text.count, _MARKS))
    if values <= most:
        return values
    found = at = 0
    for piece in _TEXT.finditer(text):
        found += sum(text.count(mark, at, piece.start()) for mark in _MARKS)
        at = piece.end()
        if found > most:
            return found
    return found + sum(text.count(mark, at) for mark in _MARKS)


def encode_json(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    """Returns the JSON text of a value, in ASCII; a number that is not finite becomes null.

    Args:
        value: Dicts, lists, tuples, texts, numbers, bools and None.
        indent: The spaces by which each level is set in; None for one line.
        compact: Whether no space stands between values.
    """
    separators = (",", ":") if compact else None
    try:
        return json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    except ValueError:
        finite = _with_nulls(value)
        return json.dumps(finite, indent=indent, separators=separators, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nulls(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _nesting(value: Any) -> int:
    """Returns how many lists and objects lie in each other; counted as far as it matters."""
    level, depth = [value], 0
    while depth <= MAX_NESTING:
        level = [each for each in level if type(each) in (dict, list)]
        if not level:
            break
        depth += 1
        level = [v for each in level for v in (each.values() if type(each) is dict else each)]
    return depth


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object, in which no name hides another of the same."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{show(twice)} is there twice, expected once")
    return found


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) < 25 else MAX_INTEGER
    if not -MAX_INTEGER <= number < MAX_INTEGER:
        raise ValueError(f"the integer {digits[:25]}… is of over 64 bits")
    return number


def _float(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"the number {text[:25]} is too large")
    return number


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_decoder, _lenient = (
    json.JSONDecoder(
        object_pairs_hook=_without_twins,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=constant,
    )
    for constant in (_refuse_constant, lambda _: None)
)
