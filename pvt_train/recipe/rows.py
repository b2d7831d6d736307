"""What a row of the recipe's table says, and all that derives from it: reading, checks, words."""

import dataclasses
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar

from pvt_spec.files.limits import MAX_INTEGER
from pvt_spec.words import show

_Value = TypeVar("_Value")


class Check(NamedTuple):
    """What a key's value may be; null needs no check.

    Attributes:
        holds: Whether a value may be; false for NaN, which is in no range.
        expected: What it should be, in words.
    """

    holds: Callable[[Any], bool]
    expected: str


REQUIRED: Any = dataclasses.MISSING
"""Default of a key that must be given."""

FOLLOWS = ""
"""``on_resume`` of a key that may change in a run; the new value holds from there on."""


@dataclass(frozen=True)
class Row:
    """What the table says of one key.

    Attributes:
        meaning: One sentence; what ``--help`` prints.
        check: What its values may be, beside the type.
        on_resume: Why a run cannot go on with another value; :data:`FOLLOWS` where it can.
        also: Other spellings of its option.
        words: Other words, in files and options, that stand for a value.
        takes: What it takes, in words, where the type does not say it.
        alone: The framework that alone can train with a value, by value; the others need none.
        section: Title of the section of the help that it is in.
        name: The key.
        default: The value where nothing is said; REQUIRED where something must be.
        kinds: What its values are: str, int, float, bool, None, or a generic tuple of them.
    """

    meaning: str
    check: Check | None
    on_resume: str
    also: tuple[str, ...]
    words: Mapping[Any, Any]
    takes: str
    alone: Mapping[Any, str]
    section: str
    name: str = ""
    default: Any = None
    kinds: tuple[Any, ...] = ()

    def read(self, value: Any) -> Any:
        """Returns the key's value that a YAML file or an option says.

        As MindCV's parser does, it takes text for a number or a boolean (YAML reads ``1e-3``,
        without a point, as text); a list may also be text with commas.

        Raises:
            ValueError: It says none.
        """
        if isinstance(value, str | bool | None) and value in self.words:
            value = self.words[value]
        # Null first, so that the text null is no text.
        for kind in sorted(self.kinds, key=lambda kind: kind is not NoneType):
            try:
                return _read(value, kind)
            except (ValueError, OverflowError):  # a whole number may be too large for a float
                continue
        raise ValueError(value)

    @property
    def expected(self) -> str:
        """What the key takes, in words, as in ``a whole number or null``."""
        return self.takes or " or ".join(KINDS[kind][0] for kind in self.kinds)

    @property
    def metavar(self) -> str:
        """What stands for a value in the help of the key's option."""
        return "|".join(KINDS[kind][1] for kind in self.kinds if kind is not NoneType)

    def problem(self, value: Any) -> str | None:
        """Returns what is wrong with a value of the right type; None where nothing is."""
        if any(map(_is_too_large, value if isinstance(value, tuple) else (value,))):
            return f"{self.name} is {show(value)}, expected {self.expected} in 64 bits or float32"
        if value is None or self.check is None or self.check.holds(value):
            return None
        return f"{self.name} is {show(value)}, expected {self.check.expected}"


_LARGEST = 3.4e38
"""No more than float32 holds, in which frameworks compute."""


def _is_too_large(value: Any) -> bool:
    """Returns whether a value is a finite number that no state, or no framework, can hold."""
    if isinstance(value, float):
        return _LARGEST < abs(value) < inf
    return isinstance(value, int) and abs(value) >= MAX_INTEGER


def key(
    default: _Value,
    meaning: str,
    *,
    check: Check | None = None,
    on_resume: str = FOLLOWS,
    also: tuple[str, ...] = (),
    words: Mapping[Any, Any] | None = None,
    takes: str = "",
    alone: Mapping[Any, str] | None = None,
    section: str = "",
) -> _Value:
    """Makes a row of the table: a key with its default and what :class:`Row` says of it.

    ``section`` begins one, which lasts until another begins. A ``Literal`` type is its own check.
    """
    row = Row(meaning, check, on_resume, also, words or {}, takes, alone or {}, section)
    # A field to dataclass, a value of the key's type to everybody else.
    made: Any = field(default=default, metadata={"row": row})
    return made  # type: ignore[no-any-return]


def read_rows(table: type) -> dict[str, Row]:
    """Returns the whole rows of a table, a dataclass whose fields are made by :func:`key`."""
    hints, rows, section = typing.get_type_hints(table), {}, ""
    for each in dataclasses.fields(table):
        row: Row = each.metadata["row"]
        hint, check, section = hints[each.name], row.check, row.section or section
        union = typing.get_origin(hint) in (UnionType, typing.Union)
        kinds = typing.get_args(hint) if union else (hint,)
        for kind in kinds:
            if typing.get_origin(kind) is Literal:
                check = _one_of(typing.get_args(kind))
        rows[each.name] = dataclasses.replace(
            row,
            name=each.name,
            default=each.default,
            kinds=tuple(str if typing.get_origin(k) is Literal else k for k in kinds),
            check=check,
            section=section,
        )
    return rows


def _one_of(names: tuple[str, ...]) -> Check:
    listed = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
    return Check(lambda value: value in names, listed)


_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_NULLS = (None, "None", "none", "null")
_TAKEN: dict[Any, tuple[type, ...]] = {float: (int, str), int: (str,)}

KINDS: dict[Any, tuple[str, str]] = {
    str: ("text", "TEXT"),
    int: ("a whole number", "INTEGER"),
    float: ("a number", "NUMBER"),
    bool: ("True or False", "[True|False]"),
    NoneType: ("null", ""),
    tuple[str, ...]: ("a list of texts", "TEXT,…"),
    tuple[int, ...]: ("a list of whole numbers", "INTEGER,…"),
    tuple[float, ...]: ("a list of numbers", "NUMBER,…"),
    tuple[float, float]: ("two numbers", "NUMBER NUMBER"),
}
"""A kind of value -> what it is in words, and in the help of its option."""


def _read(value: Any, kind: Any) -> Any:
    if items := typing.get_args(kind):
        return _read_items(value, items)
    if kind is NoneType and value in _NULLS:
        return None
    if kind is bool and isinstance(value, bool | int | str) and str(value).lower() in _BOOLEANS:
        return _BOOLEANS[str(value).lower()]
    if type(value) is kind:
        if kind is str and "\0" in os.fsdecode(os.fsencode(value)):
            raise ValueError(value)
        return value
    if type(value) in _TAKEN.get(kind, ()):
        return kind(value)
    raise ValueError(value)


def _read_items(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = value.strip()
        if (value[:1], value[-1:]) in (("[", "]"), ("(", ")")):
            value = value[1:-1]
        value = [item.strip() for item in value.split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(value)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    return tuple(_read(item, kind) for item, kind in zip(value, kinds, strict=True))
