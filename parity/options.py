"""Options that the commands of ``parity`` share, and what is made of them.

Everything heavier than click is imported inside functions, so that ``--help`` stays quick.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_data.command_line import parse_image_size, say

if TYPE_CHECKING:
    from parity.bundles.bundle import Bundle
    from parity.inputs.samples import Sample
    from parity.measure.tolerance import FixedTolerance
    from parity.run import Options, Result
    from pvt_spec import ModelInfo

Given = dict[str, Any]
"""Options as click hands them over, by name."""


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in this order in the help."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class NameIn(click.ParamType):  # type: ignore[type-arg]
    """One of a table's keys, which is imported when it is needed.

    Args:
        name: What the help calls it.
        table: ``"module:attribute"``.
        also: Further names.
    """

    def __init__(self, name: str, table: str, also: tuple[str, ...] = ()):
        self.name, self.table, self.also = name, table, also

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The name, if there is one like it."""
        module, _, attribute = self.table.partition(":")
        try:
            names = [*getattr(importlib.import_module(module), attribute), *self.also]
        except ImportError as error:
            raise click.ClickException(f"{value}: {error}") from error
        if value not in names:
            self.fail(f"{value!r} is none: there are {', '.join(names)}", param, ctx)
        return str(value)


runtime_name = NameIn("RUNTIME", "parity.runtimes.table:RUNTIMES")
precision_name = NameIn("PRECISION", "pvt_spec.precisions:PRECISIONS")

limit_option = click.option(
    "--limit",
    default=32,
    show_default=True,
    type=click.IntRange(0),
    help="Of --images at most, evenly spaced over those found; 0 for all.",
)
size_options = together(
    click.option("--image-size", help="Pixels, S or HxW, in place of the model's own."),
    click.option(
        *("--batch-size", "--batch"), default=4, show_default=True, type=click.IntRange(1)
    ),
)
image_options = together(
    click.option(
        "--images",
        multiple=True,
        help="Files, folders or glob patterns, repeatable; or a bundle, for its inputs.",
    ),
    limit_option,
    click.option("--random", type=click.IntRange(1), help="So many images of noise instead."),
    click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Of generated images.",
    ),
    size_options,
)
"""What is run."""

taps_option = click.option(
    "--taps",
    "detail",
    type=click.Choice(["all", "stages", "logits"]),
    default="all",
    show_default=True,
    help="Which intermediate results are compared.",
)
judging_options = together(
    click.option(
        "--precision",
        type=precision_name,
        help="Tolerance class (fp32, tf32, hf32, hf32-conv, fp16, fp16-graph, fp16-saturating, "
        "bf16, bf16-graph, int8); default: that of what ran.",
    ),
    click.option("--atol", type=click.FloatRange(0), help="Judge by |difference| instead, …"),
    click.option("--rtol", type=click.FloatRange(0), help="… at most atol + rtol |reference|."),
)
"""How it is judged."""

force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
report_options = together(
    click.option("-v", "--verbose", is_flag=True, help="A line per tap, with every metric."),
    json_option,
    click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML."),
    click.option("--html", type=click.Path(path_type=Path), help="Write a page to look at."),
    force_option,
)
"""How it is told."""

runtime_option = click.option(
    "--runtime",
    multiple=True,
    type=runtime_name,
    help="Repeatable; default: mindspore, torch and onnxruntime, as far as they are installed. "
    "Also mindspore-graph, -o2, -graph-o2, -hf32, -graph-hf32; torch-compile, cuda; "
    "onnxruntime-extended, -basic, -disabled, -cuda; onnx-reference.",
)
path_argument = click.Path(path_type=Path)


def introduce(path: Path, info: "ModelInfo") -> None:
    """Says on stderr what a model's file is."""
    say(f"{info.variant or 'PVT'}, profile {info.profile}, from {path}")


def show_passes(passes: int) -> None:
    """A counter of forward passes on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        click.echo(f"\r{passes} passes", err=True, nl=False)


def tell_what_is_left_out(info: "ModelInfo", bundles: "list[Bundle]") -> None:
    """Says on stderr which arrays of bundles are not compared."""
    for bundle in bundles:
        unknown = bundle.unknown_to(info.config)
        if unknown:
            say(f"{bundle.path}: not compared, as no tap has that name: {', '.join(unknown)}")


def options_of(given: Given) -> "Options":
    """How to compare.

    Raises:
        PvtError: The image size is none.
    """
    from parity.run import Options

    # Of a capture it is several, for what is measured.
    precision = given["precision"] if isinstance(given.get("precision"), str) else None
    text = given["image_size"]
    size = parse_image_size(text) if text else None
    return Options(given["detail"], precision, fixed_tolerance(given), size, given["batch_size"])


def fixed_tolerance(given: Given) -> "FixedTolerance | None":
    """What ``--atol`` and ``--rtol`` say, if either does."""
    from parity.measure.tolerance import FixedTolerance

    atol, rtol = given.get("atol"), given.get("rtol")
    return None if atol is rtol is None else FixedTolerance(atol or 0.0, rtol or 0.0)


def choose_inputs(
    given: Given, info: "ModelInfo", bundles: "list[Bundle]"
) -> "tuple[Options, list[Sample]]":
    """How to compare, and what is run: a bundle's inputs, files, noise or the generated images."""
    import dataclasses

    from parity.bundles.bundle import SUFFIX, Bundle
    from parity.inputs.samples import default_samples, evenly_spaced, file_samples, noise_samples
    from pvt_data.preprocessing import list_images

    images, random, seed = given["images"], given["random"], given["seed"]
    options = options_of({"detail": "all", **given})
    if images and random:
        raise click.UsageError("--images and --random exclude each other")
    sources = [Bundle(Path(image)) for image in images if image.lower().endswith(SUFFIX)]
    if sources and len(images) > 1:
        raise click.UsageError("--images takes one bundle, or files and folders, not both")
    if bundles and not sources and not images and not random:
        sources = [bundle for bundle in bundles if bundle.record.inputs_kept][:1]
    if sources:
        size = sources[0].require_size(options.image_size)
        return dataclasses.replace(options, image_size=size), sources[0].samples()
    if images:
        paths = list_images(images)
        return options, file_samples(evenly_spaced(paths, given["limit"] or len(paths)))
    if random:
        return options, noise_samples(random, seed)
    size = options.image_size or info.preprocessing.image_size
    preprocessing = dataclasses.replace(info.preprocessing, image_size=size)
    return options, default_samples(preprocessing, seed)


def refuse_reports(given: Given) -> None:
    """Ends before any work where a report's file exists and may not be replaced.

    Raises:
        FileExists: One does.
    """
    from pvt_spec.files import refuse_existing

    for target in filter(None, (given["junit"], given["html"])):
        refuse_existing(target, given["force"])


def tell(result: "Result", given: Given) -> None:
    """Prints and writes a result, and ends with exit code 1 where it is *different*."""
    import json

    from parity.report import data as documents
    from parity.report import text as report
    from parity.report.html import page
    from pvt_spec.files import replacing

    written = ((given["junit"], documents.to_junit), (given["html"], page.to_html))
    for target, make in written:
        if target:
            with replacing(target, given["force"]) as stream:
                # A file's name that is not UTF-8 is in a str, too.
                stream.write(make(result).encode(errors="replace"))
            say(f"wrote {target}")
    if given["as_json"]:
        click.echo(json.dumps(documents.to_dict(result), indent=1))
    else:
        click.echo("\n".join(report.table(result, given["verbose"])))
    if not result.same:
        raise click.exceptions.Exit(1)
