"""``convert``: the command line. No logic lives here."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import click

from convert.formats.table import FORMATS, SUFFIXES, check_format, find_format
from convert.names.dialects import NAMES
from convert.options import Changes, Given, OnnxOptions, Options
from pvt_data.command_line import Commands, parse_image_size, say
from pvt_spec import PROFILES
from pvt_spec.errors import ConvertError

_DIRECT = "any-to-any"


class ConvertCommands(Commands):
    """A group in which ``convert SRC DST`` is a command too: the file names say which one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments; those that start with no command's name are files to convert."""
        if args and args[0] not in self.commands and not _asks_for_a_command(args):
            args = [_DIRECT, *args]
        return super().parse_args(ctx, args)


def _asks_for_a_command(args: list[str]) -> bool:
    """Whether arguments that start with no command's name are meant to: ``ckpt-to-onx a b``."""
    if args[0].startswith("-"):
        return args[0] in ("-h", "--help")
    # A folder that is not there can be told from a mistyped command by what comes after it.
    named = args[:1] if "-to-" in args[0] else args[:2]
    return not any(Path(name).suffix or "/" in name or Path(name).exists() for name in named)


@click.group(
    cls=ConvertCommands,
    help=f"""
    Move PVT weights between MindSpore, PyTorch, Hugging Face and ONNX without losing a digit.

    convert SRC DST goes by the endings of the names ({", ".join(SUFFIXES)};
    a folder is one of Hugging Face); convert ckpt-to-onnx SRC DST and so on take no other. The
    options are the same: convert any-to-any --help lists all of them.

    What a file is (dialect, variant, maths) is detected and printed; it then travels in the
    target's metadata.
    """,
)
def main() -> None:
    """Runs the command ``convert``."""


def _read_labels(_: click.Context, __: click.Parameter, path: Path | None) -> tuple[str, ...]:
    """The class names in a file, one on each line."""
    if path is None:
        return ()
    try:
        names = tuple(path.read_text("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: is not UTF-8 text: save it as such") from error
    if not names:
        raise ConvertError(f"{path}: is empty, expected a class name on each line")
    return names


def _image_size(*names: str, help: str) -> Callable[[Any], Any]:
    return click.option(
        *names,
        metavar="S|HxW",
        callback=lambda _, __, text: parse_image_size(text) if text else None,
        help=help,
    )


# Each is called as the dataclass of convert.options and the field of it that it sets.
_FIRST_OPTIONS = [
    click.option("--model", "given_model", help="The variant, where it is not to be detected."),
    click.option(
        "--from-dialect", "given_dialect", type=click.Choice(NAMES), help="The names used in SRC."
    ),
    click.option(
        "--profile", "given_profile", type=click.Choice(list(PROFILES)), help="The maths of SRC."
    ),
    _image_size(
        "--from-image-size",
        "given_image_size",
        help="Image that SRC was made for: what v1's position embeddings are laid out for.",
    ),
    click.option(
        "--labels",
        "given_labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_read_labels,
        help="Class names, one per line in the order of the logits.",
    ),
    click.option(
        "--weights",
        "given_weights",
        type=click.Choice(("raw", "ema")),
        default="raw",
        show_default=True,
        help="Which weights of a training checkpoint: as trained, or averaged.",
    ),
    _image_size(
        "--image-size",
        "changes_image_size",
        help="Image that DST is to take; v1's position embeddings are resized.",
    ),
    click.option("--num-classes", "changes_num_classes", type=int, help="0 drops the head."),
    click.option(
        "--features",
        "changes_features_only",
        is_flag=True,
        help="Keep the backbone alone: four maps at strides 4, 8, 16, 32.",
    ),
    click.option(
        "--dtype",
        "changes_dtype",
        type=click.Choice(("float32", "float16", "bfloat16")),
        help="Store all weights so; otherwise each stays as it is.",
    ),
]
_FORMAT_OPTIONS = {
    "dialect": click.option(
        "--to-dialect",
        "options_dialect",
        type=click.Choice(NAMES),
        help="Names to write, for the code that uses them. Without, those of our own twins, "
        "which compute any maths.",
    ),
    "allow_different_maths": click.option(
        "--allow-different-maths",
        "options_allow_different_maths",
        is_flag=True,
        help="Write although the code behind --to-dialect would answer otherwise.",
    ),
    "opset": click.option("--opset", "onnx_opset", type=int, help="Of 17 to 23; 20 by default."),
    "dynamic_size": click.option(
        "--dynamic-size", "onnx_dynamic_size", is_flag=True, help="Leave height and width open."
    ),
    "external_data": click.option(
        "--external-data", "onnx_external_data", is_flag=True, help="Weights go to DST.data."
    ),
}
_LAST_OPTIONS = [
    click.option(
        "--allow-nonfinite",
        "options_allow_nonfinite",
        is_flag=True,
        help="Convert NaN and infinite weights too.",
    ),
    click.option(
        "--report",
        "options_report",
        type=click.Path(path_type=Path),
        help="Write what was done as JSON.",
    ),
    click.option("--force", "options_force", is_flag=True, help="Replace DST if it exists."),
]


def _add(name: str, source: str, target: str, options: Iterable[str], description: str) -> None:
    """Adds a command that takes these formats, or any where they are "", with these options."""

    def command(src: Path, dst: Path, **asked: Any) -> None:
        for path, expected in ((src, source), (dst, target)):
            if expected:
                check_format(path, expected)
        _convert(src, dst, asked)

    command.__doc__ = description
    decorated: Callable[..., None] = command
    ours = [*_FIRST_OPTIONS, *(_FORMAT_OPTIONS[option] for option in options), *_LAST_OPTIONS]
    for option in reversed(ours):
        decorated = option(decorated)
    for argument in ("dst", "src"):
        decorated = click.argument(argument, type=click.Path(path_type=Path))(decorated)
    main.command(name)(decorated)


for _source, _target in permutations((row for row in FORMATS if not row.command), 2):
    _text = f"{_source.description} SRC to {_target.description} DST."
    _add(f"{_source.name}-to-{_target.name}", _source.name, _target.name, _target.options, _text)
_text = "SRC to DST, by the endings of their names: what convert SRC DST does."
_add(_DIRECT, "", "", _FORMAT_OPTIONS, _text)


def _convert(src: Path, dst: Path, asked: Mapping[str, Any]) -> None:
    from convert.conversion import convert_file

    def part(kind: str) -> dict[str, Any]:
        return {n.removeprefix(kind): value for n, value in asked.items() if n.startswith(kind)}

    onnx = part("onnx_")
    unfit = [name for name, value in onnx.items() if value and name not in find_format(dst).options]
    if unfit:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unfit)
        able = next(row for row in FORMATS if unfit[0] in row.options)
        raise click.UsageError(
            f"{flags}: {dst} is no {able.suffixes[0]}, which alone can be written so"
        )
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
    from convert.findings import as_facts
    from convert.inspection import compare_files, inspect_file, is_good

    findings = list(compare_files(file, other) if other else inspect_file(file))
    if as_json:
        click.echo(json.dumps(as_facts(findings), indent=1))
    else:
        for finding in findings:
            click.echo(str(finding))
    if not is_good(findings):
        raise click.exceptions.Exit(1)
