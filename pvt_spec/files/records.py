"""Values from a file, checked against the types of the record that they are to make.

What a field admits is its type in the dataclass: whole numbers, numbers, true or false, texts,
lists of a length or of any, objects of texts, None, other records. What of these it may be is the
record's own to say. So no schema is written beside the dataclass.
"""

import dataclasses
from collections.abc import Collection, Mapping
from functools import cache
from sys import float_info
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pvt_spec.errors import ConfigError
from pvt_spec.words import listed, show

_Record = TypeVar("_Record")

_SHOWN = 10
"""Problems that are listed."""

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    dict: "an object",
}


_ADMITTED = {float: (float, int)}
"""The types of values that a type takes as they are, where these are others than its own."""


def read_record(
    kind: type[_Record],
    data: object,
    where: str,
    *,
    whole: Collection[type] = (),
    others: bool = False,
) -> _Record:
    """Returns the record that an object of JSON says.

    Args:
        kind: A dataclass whose fields have the types of this module's first lines.
        data: The object's value.
        where: What to call it in a complaint.
        whole: The dataclasses of which no field may be left to its default.
        others: Whether names that are no fields are passed over, and null stands for a default.

    Raises:
        ConfigError: It says no such record: all problems with its types, or what the record itself
            refuses.
    """
    reader = _Reader(frozenset(whole), others)
    made: _Record = reader.read(kind, data, where)
    reader.finish()
    return made


def read_value(kind: Any, value: object, where: str) -> Any:
    """Returns a value as a type has it: a list as a tuple, 4.0 as a whole number.

    Raises:
        ConfigError: It has it not.
    """
    reader = _Reader()
    made = reader.read(kind, value, where)
    reader.finish()
    return made


def read_values(kinds: Mapping[str, Any], data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the values of some names as the names' types have them; others are passed over.

    Args:
        kinds: The types.
        data: Values by name, in which each of these is.
        where: What to call them in a complaint.

    Raises:
        ConfigError: Some are of another type: all of them.
    """
    reader = _Reader()
    made = {name: reader.read(kind, data[name], f"{where}{name}") for name, kind in kinds.items()}
    reader.finish()
    return made


def kind_like(value: Any) -> Any:
    """Returns the type of what may stand in the place of a value."""
    if isinstance(value, list | tuple):
        return tuple[tuple(map(kind_like, value))]  # type: ignore[misc]  # as many
    return type(value)


@cache
def kinds_of(kind: type) -> dict[str, Any]:
    """Returns the types of a dataclass's fields, by name."""
    return get_type_hints(kind)


class _Reader:
    def __init__(self, whole: Collection[type] = (), others: bool = False):
        self.whole, self.others = whole, others
        self.problems: list[str] = []

    def finish(self) -> None:
        if self.problems:
            raise ConfigError("; ".join(self.problems[:_SHOWN]))

    def read(self, kind: Any, value: Any, where: str) -> Any:
        """Returns a value as its type has it; what is wrong with it is noted."""
        origin, inner = get_origin(kind), get_args(kind)
        if dataclasses.is_dataclass(kind):
            return self.record(kind, value, where)
        if origin in (Union, UnionType):
            return self.one_of(inner, value, where)
        made = self.several(origin, inner, value, where)
        if made is not None:
            return made
        if kind is int and type(value) is float and value.is_integer():
            return int(value)
        fits = type(value) in _ADMITTED.get(kind, (kind,))
        if fits and (kind is not float or abs(value) <= float_info.max):  # an int may be beyond it
            return value
        self.problems.append(f"{where} is {show(value)}, expected {_words(kind)}")
        return value

    def several(self, origin: Any, inner: tuple[Any, ...], value: Any, where: str) -> Any:
        """Returns a list or an object of a type; None where it is of another."""
        trial = _Reader(self.whole, self.others)
        if origin is dict and isinstance(value, dict):
            made: Any = {}
            for name, each in value.items():
                made[name] = trial.read(inner[1], each, f"{where}[{show(name)}]")
        elif origin is tuple and isinstance(value, list | tuple):
            kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
            if len(kinds) != len(value):
                return None
            pairs = zip(kinds, value, strict=True)
            made = tuple(trial.read(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
        else:
            return None
        return None if trial.problems else made

    def one_of(self, kinds: tuple[Any, ...], value: Any, where: str) -> Any:
        others = [kind for kind in kinds if kind is not NoneType]
        if len(others) == 1 and value is not None:
            return self.read(others[0], value, where)
        for kind in kinds:
            trial = _Reader(self.whole, self.others)
            made = trial.read(kind, value, where)
            if not trial.problems:
                return made
        self.problems.append(f"{where} is {show(value)}, expected {_either(kinds)}")
        return value

    def record(self, kind: Any, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            self.problems.append(f"{where} is {show(value)}, expected an object")
            return value
        kinds, before = kinds_of(kind), len(self.problems)
        if self.others:
            value = {
                field.name: value[field.name]
                for field in dataclasses.fields(kind)
                if field.name in value and (value[field.name] is not None or _needed(field))
            }
        if unknown := [name for name in value if name not in kinds]:
            self.problems.append(f"{where} has {listed(unknown, 4, show)}, which it does not know")
        needed = [
            field.name for field in dataclasses.fields(kind) if kind in self.whole or _needed(field)
        ]
        if missing := [name for name in needed if name not in value]:
            self.problems.append(f"{where} is without {', '.join(missing)}")
        made = {
            name: self.read(kinds[name], each, f"{where}: {name}")
            for name, each in value.items()
            if name in kinds
        }
        if len(self.problems) != before:
            return value
        try:
            return kind(**made)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _either(kinds: tuple[Any, ...]) -> str:
    return " or ".join(map(_words, kinds))


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _either(inner)
    if origin is tuple:
        if inner[1:] == (...,):
            return f"a list, each {_words(inner[0])}"
        return f"a list of {len(inner)}, each {_words(inner[0])}"
    if origin is dict:
        return f"an object, each {_words(inner[1])}"
    return "an object" if dataclasses.is_dataclass(kind) else _WORDS[kind]
