"""From what a file or an option says to a key's value."""

import dataclasses
import types
import typing
from functools import cache
from typing import Any

from pvt_train.recipe.keys import Recipe

SAME_AS: dict[str, dict[Any, Any]] = {
    "mode": {"graph": 0, "pynative": 1},
    "pretrained": {False: "", None: "", "False": "", "True": True},
    "ckpt_path": {None: ""},
    "loss": {"ce": "CE"},
    # MindCV's create_scheduler takes both; its first PVT files have the longer one.
    "scheduler": {"warmup_cosine_decay": "cosine_decay"},
    "ckpt_save_policy": {None: "all"},
}
"""Other words that a key's value is read from: key -> word -> value."""

EXPECTED: dict[str, str] = {
    "pretrained": "a model file, or False: nothing is downloaded (give --pretrained FILE)",
}
"""What a key takes, where its type does not say it."""

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}
_PLURALS = {str: "texts", int: "whole numbers", float: "numbers"}
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_NULLS = ("None", "none", "null")


@cache
def key_types() -> dict[str, Any]:
    """The type of every key of :class:`Recipe`, in order."""
    hints = typing.get_type_hints(Recipe)
    return {field.name: hints[field.name] for field in dataclasses.fields(Recipe)}


def key_value(name: str, value: Any) -> Any:
    """The value of key ``name`` that ``value`` says, in YAML or on the command line.

    As MindCV's parser does, it takes text for a number or a boolean (YAML reads ``1e-3``, without
    a point, as text); a list may also be text with commas.

    Raises:
        ValueError: It says none.
    """
    same = SAME_AS.get(name, {})
    if isinstance(value, str | bool | None) and value in same:
        value = same[value]
    return convert(value, key_types()[name])


def expected(name: str) -> str:
    """What key ``name`` takes, in words."""
    return EXPECTED.get(name) or describe(key_types()[name])


def convert(value: Any, kind: Any) -> Any:
    """``value`` as a ``kind``: str, int, float, bool, a tuple of them, or a union.

    Raises:
        ValueError: It is not one.
    """
    if isinstance(kind, types.UnionType):
        return _first_of(value, typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return _items(value, typing.get_args(kind))
    if kind is type(None):
        matches = value is None or (isinstance(value, str) and value in _NULLS)
        return None if matches else _refuse(value)
    if kind is bool:
        word = str(value).lower() if isinstance(value, bool | int | str) else ""
        return _WORDS[word] if word in _WORDS else _refuse(value)
    if type(value) is kind:
        return value
    takes = (int, str) if kind is float else (str,) if kind is int else ()
    return kind(value) if type(value) in takes else _refuse(value)


def _refuse(value: Any) -> Any:
    raise ValueError(value)


def _first_of(value: Any, kinds: tuple[Any, ...]) -> Any:
    # Null first, so that the text null is no text.
    for kind in sorted(kinds, key=lambda kind: kind is not type(None)):
        try:
            return convert(value, kind)
        except ValueError:
            continue
    return _refuse(value)


def _items(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [item.strip() for item in value.strip("[]() ").split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        return _refuse(value)  # type: ignore[no-any-return]
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    return tuple(convert(item, kind) for item, kind in zip(value, kinds, strict=True))


def describe(kind: Any) -> str:
    """A type in words, as in ``a whole number or null``."""
    if isinstance(kind, types.UnionType):
        return " or ".join(describe(one) for one in typing.get_args(kind))
    if kind is type(None):
        return "null"
    items = typing.get_args(kind)
    if not items:
        return _NAMES[kind]
    return "two numbers" if items[-1] is not Ellipsis else f"a list of {_PLURALS[items[0]]}"
