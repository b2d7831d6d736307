"""``convert``: the command line. No logic lives here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.names.dialects import NAMES
from pvt_data.command_line import Commands, parse_image_size, say
from pvt_spec import PROFILES

if TYPE_CHECKING:
    from convert.findings import Finding

DESCRIPTION = {
    "ckpt": "MindSpore checkpoint",
    "pth": "PyTorch file",
    "safetensors": "safetensors file, or folder of Hugging Face,",
    "onnx": "ONNX model",
}
_ANY = "any"
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


@click.group(cls=ConvertCommands)
def main() -> None:
    """Move PVT weights between MindSpore, PyTorch, Hugging Face and ONNX without losing a digit.

    convert SRC DST goes by the endings of the names (.ckpt, .pth, .pt, .bin, .safetensors, .onnx;
    a folder is one of Hugging Face); convert ckpt-to-onnx SRC DST and so on take no other. The
    options are the same: convert any-to-any --help lists all of them.

    What a file is (dialect, variant, maths) is detected and printed; it then travels in the
    target's metadata.
    """


_SOURCE_OPTIONS = [
    click.option("--model", help="The variant, where it is not to be detected."),
    click.option("--from-dialect", type=click.Choice(NAMES), help="The names used in SRC."),
    click.option("--profile", type=click.Choice(list(PROFILES)), help="The maths of SRC."),
    click.option(
        "--from-image-size",
        metavar="S|HxW",
        help="Image that SRC was made for: what v1's position embeddings are laid out for.",
    ),
    click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Class names, one per line in the order of the logits.",
    ),
    click.option(
        "--weights",
        type=click.Choice(("raw", "ema")),
        default="raw",
        show_default=True,
        help="Which weights of a training checkpoint: as trained, or averaged.",
    ),
]
_CHANGE_OPTIONS = [
    click.option(
        "--image-size",
        metavar="S|HxW",
        help="Image that DST is to take; v1's position embeddings are resized.",
    ),
    click.option("--num-classes", type=int, help="0 drops the head."),
    click.option(
        "--features",
        is_flag=True,
        help="Keep the backbone alone: four maps at strides 4, 8, 16, 32.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(("float32", "float16", "bfloat16")),
        help="Store all weights so; otherwise each stays as it is.",
    ),
]
_NAMES_OPTIONS = [
    click.option(
        "--to-dialect",
        type=click.Choice(NAMES),
        help="Names to write, for the code that uses them. Without, those of our own twins, "
        "which compute any maths.",
    ),
    click.option(
        "--allow-different-maths",
        is_flag=True,
        help="Write although the code behind --to-dialect would answer otherwise.",
    ),
]
_ONNX_OPTIONS = [
    click.option("--opset", type=int, help="Of 17 to 23; 20 by default."),
    click.option("--dynamic-size", is_flag=True, help="Leave height and width open."),
    click.option("--external-data", is_flag=True, help="Weights go to DST.data."),
]
_LAST_OPTIONS = [
    click.option("--allow-nonfinite", is_flag=True, help="Convert NaN and infinite weights too."),
    click.option("--report", type=click.Path(path_type=Path), help="Write what was done as JSON."),
    click.option("--force", is_flag=True, help="Replace DST if it exists."),
]
_TARGET_OPTIONS = {
    "ckpt": _NAMES_OPTIONS,
    "pth": _NAMES_OPTIONS,
    "safetensors": _NAMES_OPTIONS,
    "onnx": _ONNX_OPTIONS,
    _ANY: [*_NAMES_OPTIONS, *_ONNX_OPTIONS],
}


def _add(name: str, source: str, target: str, description: str) -> None:
    def command(src: Path, dst: Path, **options: Any) -> None:
        _convert(src, dst, source, target, options)

    command.__doc__ = description
    decorated: Callable[..., None] = command
    ours = [*_SOURCE_OPTIONS, *_CHANGE_OPTIONS, *_TARGET_OPTIONS[target], *_LAST_OPTIONS]
    for option in reversed(ours):
        decorated = option(decorated)
    for argument in ("dst", "src"):
        decorated = click.argument(argument, type=click.Path(path_type=Path))(decorated)
    main.command(name)(decorated)


for _source in DESCRIPTION:
    for _target in DESCRIPTION:
        if _source != _target:
            _text = f"{DESCRIPTION[_source]} SRC to {DESCRIPTION[_target]} DST."
            _add(f"{_source}-to-{_target}", _source, _target, _text)
_add(_DIRECT, _ANY, _ANY, "SRC to DST, by the endings of their names: what convert SRC DST does.")


def _convert(src: Path, dst: Path, source: str, target: str, options: dict[str, Any]) -> None:
    from convert.conversion import convert_file
    from convert.formats.table import check_format, file_format

    for path, expected in ((src, source), (dst, target)):
        if expected != _ANY:
            check_format(path, expected)
    given = [name for name in ("opset", "dynamic_size", "external_data") if options.get(name)]
    if given and file_format(dst) != "onnx":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{flags}: {dst} is no .onnx, which alone can be written so")
    convert_file(
        src,
        dst,
        given=_given(options),
        changes=_changes(options),
        options=_options_of(options),
        tell=_tell,
    )


def _tell(finding: "Finding") -> None:
    say(str(finding))


def _size(text: str | None) -> tuple[int, int] | None:
    return parse_image_size(text) if text else None


def _given(options: dict[str, Any]) -> Any:
    from convert.model.read import Given

    labels = options["labels"]
    return Given(
        model=options["model"],
        dialect=options["from_dialect"],
        profile=options["profile"],
        image_size=_size(options["from_image_size"]),
        labels=_read_labels(labels) if labels else (),
        weights=options["weights"],
    )


def _read_labels(path: Path) -> tuple[str, ...]:
    from pvt_spec.errors import ConvertError

    try:
        names = tuple(path.read_text("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: is not UTF-8 text: save it as such") from error
    if not names:
        raise ConvertError(f"{path}: is empty, expected a class name on each line")
    return names


def _changes(options: dict[str, Any]) -> Any:
    from convert.model.changes import Changes

    return Changes(
        num_classes=options["num_classes"],
        image_size=_size(options["image_size"]),
        features_only=options["features"],
        dtype=options["dtype"],
    )


def _options_of(options: dict[str, Any]) -> Any:
    from convert.conversion import Options
    from convert.model.write import OnnxOptions

    return Options(
        dialect=options.get("to_dialect"),
        onnx=OnnxOptions(
            options.get("opset"),
            options.get("dynamic_size", False),
            options.get("external_data", False),
        ),
        force=options["force"],
        allow_different_maths=options.get("allow_different_maths", False),
        allow_nonfinite=options["allow_nonfinite"],
        report=options["report"],
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
