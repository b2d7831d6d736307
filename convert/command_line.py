"""``convert``: the command line. No logic lives here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from convert.dialects import NAMES
from pvt_spec import PROFILES
from pvt_spec.command_line import Commands, parse_image_size, say

DESCRIPTION = {"ckpt": "MindSpore checkpoint", "pth": "PyTorch file", "onnx": "ONNX model"}


@click.group(cls=Commands)
def main() -> None:
    """Move PVT weights between MindSpore, PyTorch and ONNX without losing a digit.

    What a file is (dialect, variant, maths) is detected and printed; it then travels in the
    target's metadata.
    """


_SOURCE_OPTIONS = [
    click.option("--model", help="The variant, where it is not to be detected."),
    click.option("--from-dialect", type=click.Choice(NAMES), help="The names used in SRC."),
    click.option("--profile", type=click.Choice(list(PROFILES)), help="The maths of SRC."),
    click.option("--image-size", metavar="S|HxW", help="Image that the model is to take."),
    click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Class names, one per line in the order of the logits.",
    ),
]
_TARGET_OPTIONS = {
    "ckpt": [
        click.option(
            "--dialect",
            type=click.Choice(NAMES),
            default="pvt_ms",
            show_default=True,
            help="Names to write.",
        )
    ],
    "pth": [],
    "onnx": [
        click.option("--opset", default=20, show_default=True, type=int),
        click.option("--dynamic-size", is_flag=True, help="Leave height and width open."),
    ],
}


def _add_pair(source: str, target: str) -> None:
    def command(src: Path, dst: Path, force: bool, **options: Any) -> None:
        _convert(src, dst, source, target, force, options)

    command.__doc__ = f"{DESCRIPTION[source]} SRC to {DESCRIPTION[target]} DST."
    decorated: Callable[..., None] = command
    force = click.option("--force", is_flag=True, help="Replace DST if it exists.")
    for option in reversed([*_SOURCE_OPTIONS, *_TARGET_OPTIONS[target], force]):
        decorated = option(decorated)
    for name in ("dst", "src"):
        decorated = click.argument(name, type=click.Path(path_type=Path))(decorated)
    main.command(f"{source}-to-{target}")(decorated)


for _source in DESCRIPTION:
    for _target in DESCRIPTION:
        if _source != _target:
            _add_pair(_source, _target)


def _given(options: dict[str, Any]) -> Any:
    from convert.model_file import Given

    size, labels = options.pop("image_size"), options.pop("labels")
    return Given(
        model=options.pop("model"),
        dialect=options.pop("from_dialect"),
        profile=options.pop("profile"),
        image_size=parse_image_size(size) if size else None,
        labels=tuple(labels.read_text("utf-8").splitlines()) if labels else (),
    )


def _convert(
    src: Path, dst: Path, source: str, target: str, force: bool, options: dict[str, Any]
) -> None:
    from convert.file_formats import check_format
    from convert.model_file import read_model
    from convert.replacing import refuse_existing
    from convert.saving import save_model

    check_format(src, source)
    check_format(dst, target)
    refuse_existing(dst, force)
    model = read_model(src, _given(options))
    for what, finding in model.findings:
        say(f"{what:>16}  {finding}")
    save_model(dst, model.weights, model.info, force=force, **options)
    say(f"{'wrote':>16}  {dst} ({dst.stat().st_size:,} bytes, {len(model.weights)} tensors)")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def inspect(file: Path, as_json: bool) -> None:
    """What FILE is: format, dialect, variant, maths, tensors, extras, metadata."""
    from convert.inspection import inspect_file

    facts = inspect_file(file)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for what, fact in facts.items():
        click.echo(f"{what:>16}  {fact}")
