"""Command-line options from the recipe's keys, in MindCV's spelling too."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pvt_data.command_line import Command
from pvt_train.recipe.keys import SECTIONS, Recipe
from pvt_train.recipe.mindcv import OTHER_KEYS
from pvt_train.recipe.values import expected, key_types, key_value

_Callback = TypeVar("_Callback", bound=Callable[..., Any])

_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", bool: "[True|False]"}


class KeyType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """The type of one key: takes on the command line what the key takes in YAML."""

    def __init__(self, key: str):
        self.key, self.name = key, _metavar(key_types()[key])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The key's value, but null as text, because None is an option that was not given."""
        try:
            converted = key_value(self.key, value)
        except ValueError:
            self.fail(f"{value!r}, expected {expected(self.key)}", param, ctx)
        return "null" if converted is None else converted


class RecipeCommand(Command):
    """A command whose help has the recipe's keys in their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command's own options, then the recipe's by section."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        title_of = {name: title for name, title in _titles()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = title_of.get(parameter.name or "", "Options")
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def recipe_options(callback: _Callback) -> _Callback:
    """Adds an option for every key; those that are given come in as keyword arguments, else None.

    A pair takes two values (``--scale 0.2 1``), a list one with commas (``--mean 124,116,104``);
    a boolean takes ``True`` or ``False``, and alone is True. Keys of MindCV's that decide nothing
    here are taken too, and not shown.
    """
    for field in reversed(dataclasses.fields(Recipe)):
        callback = _option(field)(callback)
    for key in OTHER_KEYS:
        callback = click.option(_dashed(key), key, hidden=True)(callback)
    return callback


def _option(field: "dataclasses.Field[Any]") -> Callable[[_Callback], _Callback]:
    kind, meaning = key_types()[field.name], field.metadata["meaning"]
    spellings = (_dashed(field.name), *field.metadata["also"], field.name)
    extra: dict[str, Any] = {"help": meaning + _default(field)}
    if typing.get_args(kind) == (float, float):
        return click.option(*spellings, nargs=2, type=float, metavar="NUMBER NUMBER", **extra)
    if kind is bool:
        extra |= {"is_flag": False, "flag_value": "True"}
    return click.option(*spellings, type=KeyType(field.name), **extra)


def _titles() -> list[tuple[str, str]]:
    """Every key with the title of its section."""
    titles, title = [], ""
    for key in key_types():
        title = SECTIONS.get(key, title)
        titles.append((key, title))
    return titles


def _dashed(key: str) -> str:
    return "--" + key.replace("_", "-")


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if value in (None, "", ()) or value is dataclasses.MISSING:
        return ""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"  [{shown}]"


def _metavar(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        shown = [_metavar(one) for one in typing.get_args(kind) if one is not type(None)]
        return "|".join(shown)
    items = typing.get_args(kind)
    return f"{_METAVARS[items[0]]},…" if items else _METAVARS[kind]
