"""``convert``: the command line. No logic lives here."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, fields
from itertools import permutations
from pathlib import Path
from typing import Any

import click

from convert.formats.table import FORMATS, SUFFIXES, check_format, find_format, find_source
from convert.hub import find_model
from convert.hub.command_line import add_hub
from convert.options import Changes, Given, OnnxOptions, Options
from pvt_data.command_line import PATH, Commands, say
from pvt_data.options import as_option
from pvt_spec.files.json_text import encode_json
from pvt_spec.published import published_name
from pvt_spec.words import nearest

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
        if Path(first).suffix or "/" in first or os.path.exists(first) or published_name(first):
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
    target's metadata. SRC may be published weights by name, hub:pvt_tiny: convert hub lists them.
    """,
)
def main() -> None:
    """Runs the command ``convert``."""


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
        decorated = as_option(row, f"{part}_{row.name}")(decorated)
    for argument in ("dst", "src"):
        decorated = click.argument(argument, type=PATH)(decorated)
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


def _variant_of(path: Path) -> str | None:
    from convert.model.read import read_model

    return read_model(path, keep_head=False).info.variant


add_hub(main, _variant_of)


@main.command()
@click.argument("file", type=PATH)
@click.option("--diff", "other", type=PATH, help="How OTHER differs.")
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
