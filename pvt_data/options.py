"""Options of command lines that are fields of frozen dataclasses, and how their values are read."""

import math
import re
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from pvt_data.command_line import PATH, READ, parse_image_size
from pvt_data.sources.label_files import read_labels
from pvt_spec import NUM_STAGES, Preprocessing
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import parse_json
from pvt_spec.files.limits import MAX_CLASSES
from pvt_spec.files.records import kinds_of, read_value
from pvt_spec.words import show


class Finite(click.FloatRange):
    """A finite number between two, of which NaN is not beyond either."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def _read_labels(ctx: click.Context, _: click.Parameter, path: Path | None) -> tuple[str, ...]:
    """Reads the class names in a file."""
    ctx.meta.setdefault(READ, []).extend([path] if path else [])
    return read_labels(path) if path else ()


def _read_preprocessing(_: Any, __: Any, texts: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """Reads KEY=VALUE of the preprocessing, values as JSON or as plain words."""
    known = sorted({row.name for row in fields(Preprocessing)} - {"image_size"})
    found: dict[str, Any] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value:
            raise ConvertError(
                f"--preprocessing {show(text)}: expected KEY=VALUE, as in crop_pct=0.9 or "
                f"mean=[0.5,0.5,0.5]; keys are {', '.join(known)}"
            )
        try:
            read = parse_json(value)
        except ValueError:
            read = value
        found[key] = read_value(kinds_of(Preprocessing)[key], read, f"--preprocessing {key}")
    return tuple(found.items())


def _read_size(_: Any, __: Any, text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_image_size(text)


def _read_heads(_: Any, __: Any, text: str | None) -> tuple[int, ...]:
    """Reads the heads of each stage: "1,2,5,8"."""
    words = text.replace(" ", "").split(",") if text else []
    if len(words) not in (0, NUM_STAGES) or not all(re.fullmatch("[0-9]{1,6}", w) for w in words):
        raise ConvertError(f"num_heads {show(text)}: expected one number a stage, as in 1,2,5,8")
    return tuple(map(int, words))


KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "number": {"type": click.IntRange(0, MAX_CLASSES)},
    "file": {"type": PATH},
    "heads": {"metavar": "A,B,C,D", "callback": _read_heads},
    "patterns": {"metavar": "PATTERN", "multiple": True},
    "labels": {"type": PATH, "callback": _read_labels},
    "preprocessing": {"metavar": "KEY=VALUE", "multiple": True, "callback": _read_preprocessing},
    "size": {"metavar": "S|HxW", "callback": _read_size},
}
"""What click is told of an option, by the kind of its value."""


def as_option(row: Field[Any], name: str, about: str = "") -> Callable[[Any], Any]:
    """Returns the option of a field of :func:`pvt_data.description.option`.

    Args:
        row: The field.
        name: The name of its value.
        about: What the help says before the field's own text.
    """
    settings = {**KINDS[row.metadata["kind"]], "help": about + row.metadata["help"]}
    if row.metadata["choices"]:
        settings["type"] = click.Choice(row.metadata["choices"])
    if row.metadata["within"]:
        least, most = row.metadata["within"]
        of = click.IntRange if isinstance(least, int) else Finite
        settings |= {"type": of(least, most), "metavar": row.metadata["unit"]}
    if row.default is False:
        settings["is_flag"] = True
    elif isinstance(row.default, str) or row.metadata["within"]:
        settings |= {"default": row.default, "show_default": True}
    return click.option(row.metadata["flag"], name, **settings)
