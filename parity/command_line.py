"""``parity``: the command line. No logic lives here."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_spec.command_line import Commands, parse_image_size, say, show_progress

if TYPE_CHECKING:
    from parity.inputs import Sample
    from parity.run import Options, Result
    from pvt_spec import Preprocessing


@click.group(cls=Commands)
def main() -> None:
    """Prove that a PVT answers the same in every runtime."""


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


image_options = _options(
    click.option("--images", multiple=True, help="Files, folders or glob patterns; repeatable."),
    click.option(
        "--limit",
        default=32,
        show_default=True,
        type=click.IntRange(0),
        help="Of --images at most, evenly spaced over those found; 0 for all.",
    ),
    click.option("--random", type=click.IntRange(1), help="So many images of noise instead."),
    click.option("--seed", default=0, show_default=True, help="Of generated images."),
    click.option("--image-size", help="Pixels, S or HxW, in place of the model's own."),
    click.option(
        *("--batch-size", "--batch"), default=4, show_default=True, type=click.IntRange(1)
    ),
)
"""What is run."""

judging_options = _options(
    click.option(
        "--taps",
        "detail",
        type=click.Choice(["all", "stages", "logits"]),
        default="all",
        show_default=True,
        help="Which intermediate results are compared.",
    ),
    click.option(
        "--precision",
        help="Tolerance class (fp32, tf32, hf32, hf32-conv, fp16, fp16-graph, bf16, bf16-graph, "
        "int8); default: that of what ran.",
    ),
    click.option("--atol", type=click.FloatRange(0), help="Judge by |difference| instead, …"),
    click.option("--rtol", type=click.FloatRange(0), help="… at most atol + rtol |reference|."),
)
"""How it is judged."""

report_options = _options(
    click.option("-v", "--verbose", is_flag=True, help="A line per tap, with every metric."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML."),
    click.option("--html", type=click.Path(path_type=Path), help="Write a page to look at."),
    click.option("--force", is_flag=True, help="Replace files that exist."),
)
"""How it is told."""


@main.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--runtime", multiple=True, help="Repeatable; default: all that are installed of …")
@click.option(
    "--emulate",
    multiple=True,
    help="Also run the reference with this precision's rounding at every operation; repeatable.",
)
@image_options
@judging_options
@report_options
def run(
    models: tuple[Path, ...],
    runtime: tuple[str, ...],
    emulate: tuple[str, ...],
    images: tuple[str, ...],
    limit: int,
    random: int | None,
    seed: int,
    image_size: str | None,
    batch_size: int,
    detail: str,
    precision: str | None,
    atol: float | None,
    rtol: float | None,
    **told: Any,
) -> None:
    """The same images through every runtime, tap by tap, against PyTorch in float64.

    MODELS are .ckpt, .pth, .safetensors or .onnx files, or folders of Hugging Face. One is run
    in every runtime; several are taken to be one model, each run in its own (.ckpt in MindSpore,
    .onnx in onnxruntime, the others in PyTorch), all against the first one's weights and maths.
    Without --images or --random, eight generated ones are run: natural-looking, constant, of low
    and of high contrast, and ones that a shift by a pixel changes.

    An error is judged in units of what rounding alone does at that tap, on these images, to this
    model. Exit code 0 if all are the same, 1 if not.
    """
    from parity import run as parity

    _refuse_existing(told)
    pairs = parity.pair_up(models, runtime)
    read = parity.read_models(models)
    first = read[models[0]].info
    options = _make_options(detail, precision, atol, rtol, image_size, batch_size)
    samples = _choose_samples(first.preprocessing, images, limit, random, seed, options)
    pairs += [(models[0], f"{parity.EMULATED}{name}") for name in emulate]
    name = first.variant or "PVT"
    say(f"{name}, profile {first.profile}; reference: {models[0]} in PyTorch, float64")
    result = parity.run(pairs, read, samples, options, show_progress)
    _tell(result, **told)


def _make_options(
    detail: str,
    precision: str | None,
    atol: float | None,
    rtol: float | None,
    image_size: str | None,
    batch_size: int,
) -> "Options":
    from parity.run import Options
    from parity.tolerance import FixedTolerance, find_tolerance

    if precision:
        find_tolerance(precision)
    fixed = None if atol is rtol is None else FixedTolerance(atol or 0.0, rtol or 0.0)
    size = parse_image_size(image_size) if image_size else None
    return Options(detail, precision, fixed, size, batch_size)


def _choose_samples(
    preprocessing: "Preprocessing",
    images: tuple[str, ...],
    limit: int,
    random: int | None,
    seed: int,
    options: "Options",
) -> "list[Sample]":
    import dataclasses

    from parity.inputs import default_samples, evenly_spaced, file_samples, noise_samples
    from pvt_spec.images import list_images

    if images and random:
        raise click.UsageError("--images and --random exclude each other")
    if images:
        paths = list_images(images)
        return file_samples(evenly_spaced(paths, limit or len(paths)))
    if random:
        return noise_samples(random, seed)
    size = options.image_size or preprocessing.image_size
    return default_samples(dataclasses.replace(preprocessing, image_size=size), seed)


def _refuse_existing(told: dict[str, Any]) -> None:
    from convert.replacing import refuse_existing

    for target in filter(None, (told["junit"], told["html"])):
        refuse_existing(target, told["force"])


def _tell(
    result: "Result",
    verbose: bool,
    as_json: bool,
    junit: Path | None,
    html: Path | None,
    force: bool,
) -> None:
    """Prints and writes a result, and ends with exit code 1 where it is *different*."""
    import json

    from convert.replacing import replacing
    from parity import documents, report

    for target, make in ((junit, documents.as_junit),):
        if target:
            with replacing(target, force) as stream:
                stream.write(make(result).encode())
            say(f"wrote {target}")
    if as_json:
        click.echo(json.dumps(documents.as_data(result), indent=1))
    else:
        click.echo("\n".join(report.table(result, verbose)))
    if not result.same:
        raise click.exceptions.Exit(1)
