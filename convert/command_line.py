"""``convert``: the command line. No logic lives here."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, fields
from itertools import permutations
from pathlib import Path
from typing import Any

import click

from convert.formats.table import FORMATS, SUFFIXES, check_format, find_format, find_source
from convert.labels import read_labels
from convert.options import Changes, Given, OnnxOptions, Options
from pvt_data.command_line import READ, Commands, parse_image_size, say
from pvt_spec import NUM_STAGES, Preprocessing
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.limits import MAX_CLASSES
from pvt_spec.files.models import find_model
from pvt_spec.files.records import kinds_of, read_value
from pvt_spec.words import nearest, show

_DIRECT = "any-to-any"


class ConvertCommands(Commands):
    """A group in which ``convert SRC DST`` is a command too: the file names say which one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments; those that start with no command's name are files to convert."""
        if args and args[0] not in self.commands and not self._asks_for_a_command(args):
            args = [_DIRECT, *args]
        return super().parse_args(ctx, args)

    def _asks_for_a_command(self, args: list[str]) -> bool:
        """Returns whether arguments are meant to start with a command: ``ckpt-to-onx a b``."""
        first, more = args[0], [word for word in args[1:] if not word.startswith("-")]
        if first.startswith("-"):
            return first in ("-h", "--help")
        if Path(first).suffix or "/" in first or os.path.exists(first):
            return False
        # A folder that is not there can be told from a mistyped command by what comes after it.
        return not more or "-to-" in first or nearest(first, self.commands) is not None


@click.group(
    cls=ConvertCommands,
    help=f"""
    Move PVT weights between MindSpore, PyTorch, Hugging Face and ONNX without losing a digit.

    convert SRC DST goes by what is in SRC and by the ending of DST ({", ".join(SUFFIXES)};
    a folder is one of Hugging Face); convert ckpt-to-onnx SRC DST and so on take no other. The
    options are the same: convert any-to-any --help lists all of them.

    What a file is (dialect, variant, maths) is detected and printed; it then travels in the
    target's metadata.
    """,
)
def main() -> None:
    """Runs the command ``convert``."""


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
    return parse_image_size(text) if text else None


def _read_heads(_: Any, __: Any, text: str | None) -> tuple[int, ...]:
    """Reads the heads of each stage: "1,2,5,8"."""
    words = text.replace(" ", "").split(",") if text else []
    if len(words) not in (0, NUM_STAGES) or not all(re.fullmatch("[0-9]{1,6}", w) for w in words):
        raise ConvertError(f"num_heads {show(text)}: expected one number a stage, as in 1,2,5,8")
    return tuple(map(int, words))


KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "number": {"type": click.IntRange(0, MAX_CLASSES)},
    "file": {"type": click.Path(path_type=Path)},
    "heads": {"metavar": "A,B,C,D", "callback": _read_heads},
    "patterns": {"metavar": "PATTERN", "multiple": True},
    "labels": {"type": click.Path(path_type=Path), "callback": _read_labels},
    "preprocessing": {"metavar": "KEY=VALUE", "multiple": True, "callback": _read_preprocessing},
    "size": {"metavar": "S|HxW", "callback": _read_size},
}
"""What click is told of an option, by the kind of its value."""

_SPECIAL = {name for row in FORMATS for name in row.options}
"""The options that are not every format's."""


def _rows(asked: Iterable[str]) -> Iterator[tuple[str, Field[Any]]]:
    """Yields a command's options, with what they are part of: all formats' and those asked for."""
    for part, group in (("given", Given), ("changes", Changes)):
        yield from ((part, row) for row in fields(group))
    for row in fields(Options):
        if row.name == "onnx":
            yield from (("onnx", each) for each in fields(OnnxOptions) if each.name in asked)
        elif row.name in asked or row.name not in _SPECIAL:
            yield "options", row


def _option(part: str, row: Field[Any]) -> Callable[[Any], Any]:
    """Returns what click is told of a field."""
    settings = {**KINDS[row.metadata["kind"]], "help": row.metadata["help"]}
    if row.metadata["choices"]:
        settings["type"] = click.Choice(row.metadata["choices"])
    if row.default is False:
        settings["is_flag"] = True
    elif isinstance(row.default, str):
        settings |= {"default": row.default, "show_default": True}
    return click.option(row.metadata["flag"], f"{part}_{row.name}", **settings)


def _add(name: str, source: str, target: str, asked: Iterable[str], description: str) -> None:
    """Adds a command that takes these formats, or any where they are "", with these options."""

    def command(src: Path, dst: Path, **options: Any) -> None:
        if source:
            check_format(find_source(find_model(src)[0]), src, source)
            check_format(find_format(dst), dst, target)
        _convert(src, dst, options)

    command.__doc__ = description
    decorated: Callable[..., None] = command
    for part, row in reversed([*_rows(asked)]):
        decorated = _option(part, row)(decorated)
    for argument in ("dst", "src"):
        decorated = click.argument(argument, type=click.Path(path_type=Path))(decorated)
    main.command(name)(decorated)


for _source, _target in permutations((row for row in FORMATS if not row.command), 2):
    _text = f"{_source.description} SRC to {_target.description} DST."
    _add(f"{_source.name}-to-{_target.name}", _source.name, _target.name, _target.options, _text)
_text = "SRC to DST, by the content of SRC and the ending of DST: what convert SRC DST does."
_add(_DIRECT, "", "", _SPECIAL, _text)


def _convert(src: Path, dst: Path, options: Mapping[str, Any]) -> None:
    from convert.conversion import convert_file

    def part(kind: str) -> dict[str, Any]:
        return {n.removeprefix(kind): value for n, value in options.items() if n.startswith(kind)}

    onnx = part("onnx_")
    usual = {row.name: row.default for row in fields(OnnxOptions)}
    asked = [name for name, value in onnx.items() if value != usual[name]]
    unfit = [name for name in asked if name not in find_format(dst).options]
    if unfit:
        rows = (row for row in fields(OnnxOptions) if row.name in unfit)
        flags = ", ".join(row.metadata["flag"] for row in rows)
        able = next(row.suffixes[0] for row in FORMATS if unfit[0] in row.options)
        raise click.UsageError(f"{flags}: {dst} is no {able}, which alone can be written so")
    convert_file(
        src,
        dst,
        given=Given(**part("given_")),
        changes=Changes(**part("changes_")),
        options=Options(onnx=OnnxOptions(**onnx), **part("options_")),
        tell=lambda finding: say(str(finding)),
    )


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--diff", "other", type=click.Path(path_type=Path), help="How OTHER differs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def inspect(file: Path, other: Path | None, as_json: bool) -> None:
    """What FILE is: format, dialect, variant, maths, tensors, extras, metadata, sha256.

    With --diff, how OTHER differs from it, whatever their formats and dialects. The exit code is
    1 if it does, or if FILE is no whole PVT.
    """
    from convert.findings import to_dict
    from convert.inspection import compare_files, inspect_file, is_good

    findings = list(compare_files(file, other) if other else inspect_file(file))
    if as_json:
        click.echo(encode_json(to_dict(findings), indent=1))
    else:
        for finding in findings:
            click.echo(str(finding))
    if not is_good(findings):
        raise click.exceptions.Exit(1)
