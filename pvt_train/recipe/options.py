"""Command-line options from the recipe's keys, in MindCV's spelling too."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pvt_data.command_line import Command
from pvt_spec.words import show
from pvt_train.recipe.keys import ROWS
from pvt_train.recipe.mindcv import OTHER_KEYS
from pvt_train.recipe.rows import REQUIRED, Row
from pvt_train.recipe.synonyms import nearest_key

_Callback = TypeVar("_Callback", bound=Callable[..., Any])


class KeyType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """The type of one key: takes on the command line what the key takes in YAML."""

    def __init__(self, row: Row):
        self.row, self.name = row, row.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the key's value."""
        try:
            return self.row.read(value)
        except ValueError:
            self.fail(f"{show(value)}, expected {self.row.expected}", param, ctx)


class RecipeCommand(Command):
    """A command whose help has the recipe's keys in their sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options; of one that is none, the key is named that it means elsewhere."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            meant = nearest_key(error.option_name, ROWS, cutoff=0.8)
            if meant is None:
                raise
            option = (*ROWS[meant].also, _dashed(meant))[0]
            message = f"No such option {error.option_name!r}. Did you mean {option!r}?"
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command's own options, then the recipe's by section."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                row = ROWS.get(parameter.name or "")
                sections.setdefault(row.section if row else "Options", []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def recipe_options(callback: _Callback) -> _Callback:
    """Adds an option for every key; ``keys`` is then given those of the command line, as values.

    A pair takes two values (``--scale 0.2 1``), a list one with commas (``--mean 124,116,104``);
    a boolean takes ``True`` or ``False``, and alone is True. Keys of MindCV's that decide nothing
    here are taken too, and not shown.
    """
    for row in reversed(ROWS.values()):
        callback = _option(row)(callback)
    for key in OTHER_KEYS:
        callback = click.option(
            _dashed(key), key, hidden=True, expose_value=False, callback=_keep_given
        )(callback)
    return callback


def _keep_given(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Collects what was given, which null may be too, apart from what was not."""
    keys = ctx.params.setdefault("keys", {})
    if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
        keys[param.name] = value


def _option(row: Row) -> Callable[[_Callback], _Callback]:
    extra: dict[str, Any] = {"type": KeyType(row)}
    if row.kinds == (tuple[float, float],):
        extra = {"nargs": 2, "type": float, "metavar": row.metavar}
    elif row.kinds == (bool,):
        extra |= {"is_flag": False, "flag_value": "True"}
    return click.option(
        _dashed(row.name),
        *row.also,
        row.name,
        help=row.meaning + _default(row.default),
        expose_value=False,
        callback=_keep_given,
        **extra,
    )


def _dashed(key: str) -> str:
    return "--" + key.replace("_", "-")


def _default(value: Any) -> str:
    if value in (None, "", (), REQUIRED):
        return ""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"  [{shown}]"
