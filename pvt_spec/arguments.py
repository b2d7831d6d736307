"""Arguments of public functions, and fields of records, checked against their annotations.

What is of another type is told in the words of the call, not by whatever it breaks further in.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from inspect import signature
from numbers import Integral, Real
from operator import is_
from sys import float_info
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pvt_spec.errors import ArgumentError
from pvt_spec.files.records import kinds_of
from pvt_spec.words import show

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

_ADMITTED: dict[Any, Any] = {int: Integral, float: Real}
"""What a type takes beside its own: numbers of numpy's."""

_PLAIN = (str, int, float, bool, type(None))


def checked(function: Callable[_Given, _Answer]) -> Callable[_Given, _Answer]:
    """Has a function refuse arguments of other types than it is annotated with.

    A list may stand for a tuple, and whatever numpy takes for an array for one. An ``Iterable``,
    which can be gone through once, is the function's own to look at.
    """
    parameters, kinds = signature(function), cache(get_type_hints)

    @wraps(function)
    def call(*args: _Given.args, **given: _Given.kwargs) -> _Answer:
        try:
            found = parameters.bind(*args, **given).arguments
        except TypeError:
            return function(*args, **given)  # which says it as every function does
        _refuse(function.__qualname__, kinds(function), found)
        return function(*args, **given)

    return call


class CheckedFields:
    """A dataclass that refuses fields of other types than they are annotated with."""

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(record: Any) -> None:
    """Refuses a dataclass with values of other types than its fields are annotated with.

    Numbers of numpy's become Python's then, and lists tuples.

    Raises:
        ArgumentError: It has some: all of them.
    """
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    kind: Any = type(record)
    _refuse(kind.__name__, kinds_of(kind), values)
    for name, value in values.items():
        if (plain := _plain(value)) is not value:
            object.__setattr__(record, name, plain)


def _refuse(what: str, kinds: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    problems = [
        f"{name} is {show(value)}, expected {_words(kinds[name])}"
        for name, value in values.items()
        if name in kinds and not _fits(kinds[name], value)
    ]
    if problems:
        raise ArgumentError(f"{what}: {'; '.join(problems)}")


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, tuple | list):
        made = tuple(map(_plain, value))
        return value if type(value) is tuple and all(map(is_, made, value)) else made
    kind = next((kind for kind, wide in _ADMITTED.items() if isinstance(value, wide)), None)
    return kind(value) if kind else value


def _words(kind: Any) -> str:
    """Returns an annotation as it is written, without the modules of its types."""
    if get_origin(kind) in (Union, UnionType):  # Python 3.10 writes one as Optional[…]
        return " | ".join("None" if each is type(None) else _words(each) for each in get_args(kind))
    plain = isinstance(kind, type) and not get_args(kind)
    return kind.__name__ if plain else re.sub(r"[\w.]+[.](?=\w)", "", str(kind))


def _fits(kind: Any, value: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(each, value) for each in inner)
    if origin is tuple and isinstance(value, tuple | list):
        kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return len(kinds) == len(value) and all(map(_fits, kinds, value))
    if origin is Sequence:
        several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return several and all(_fits(inner[0], each) for each in value)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and all(
            _fits(inner[0], name) and _fits(inner[1], each) for name, each in value.items()
        )
    if getattr(origin, "__name__", "") == "ndarray":  # numpy is imported by whoever has one
        return hasattr(value, "__array__")
    return _is(origin or kind, value)


def _is(kind: Any, value: Any) -> bool:
    unknown = not isinstance(kind, type) or getattr(kind, "_is_protocol", False)
    if unknown or kind in (Any, Iterable):  # a type's variable among them
        return True
    if kind is float and isinstance(value, int) and abs(value) > float_info.max:
        return False  # there is no such float
    if kind in _ADMITTED:
        return isinstance(value, _ADMITTED[kind]) and not isinstance(value, bool)
    return isinstance(value, kind)
