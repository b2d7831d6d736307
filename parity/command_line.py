"""``parity``: the command line. No logic lives here."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_spec.command_line import Commands, parse_image_size, say, show_progress

if TYPE_CHECKING:
    from parity.bundle import Bundle
    from parity.inputs import Sample
    from parity.run import Options, Result
    from parity.tolerance import FixedTolerance
    from pvt_spec import ModelInfo

Given = dict[str, Any]
"""Options as click hands them over, by name."""


@click.group(cls=Commands)
def main() -> None:
    """Prove that a PVT answers the same in every runtime."""


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


limit_option = click.option(
    "--limit",
    default=32,
    show_default=True,
    type=click.IntRange(0),
    help="Of --images at most, evenly spaced over those found; 0 for all.",
)
size_options = _options(
    click.option("--image-size", help="Pixels, S or HxW, in place of the model's own."),
    click.option(
        *("--batch-size", "--batch"), default=4, show_default=True, type=click.IntRange(1)
    ),
)
image_options = _options(
    click.option(
        "--images",
        multiple=True,
        help="Files, folders or glob patterns, repeatable; or a bundle, for its inputs.",
    ),
    limit_option,
    click.option("--random", type=click.IntRange(1), help="So many images of noise instead."),
    click.option("--seed", default=0, show_default=True, help="Of generated images."),
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
judging_options = _options(
    click.option(
        "--precision",
        help="Tolerance class (fp32, tf32, hf32, hf32-conv, fp16, fp16-graph, bf16, bf16-graph, "
        "int8); default: that of what ran.",
    ),
    click.option("--atol", type=click.FloatRange(0), help="Judge by |difference| instead, …"),
    click.option("--rtol", type=click.FloatRange(0), help="… at most atol + rtol |reference|."),
)
"""How it is judged."""

force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
report_options = _options(
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
    help="Repeatable; default: mindspore, torch and onnxruntime, as far as they are installed.",
)
path_argument = click.Path(path_type=Path)


@main.command()
@click.argument("models", nargs=-1, required=True, type=path_argument)
@runtime_option
@click.option(
    "--emulate",
    multiple=True,
    help="Also run the reference with this precision's rounding at every operation; repeatable.",
)
@image_options
@taps_option
@judging_options
@report_options
def run(
    models: tuple[Path, ...], runtime: tuple[str, ...], emulate: tuple[str, ...], **given: Any
) -> None:
    """The same images through every runtime, tap by tap, against PyTorch in float64.

    MODELS are .ckpt, .pth, .safetensors or .onnx files, or folders of Hugging Face. One is run
    in every runtime; several are taken to be one model, each run in its own (.ckpt in MindSpore,
    .onnx in onnxruntime, the others in PyTorch), all against the first one's weights and maths.
    Bundles of parity capture may be among them, and are judged too.
    Without --images or --random, eight generated ones are run: natural-looking, constant, of low
    and of high contrast, and ones that a shift by a pixel changes.

    An error is judged in units of what rounding alone does at that tap, on these images, to this
    model. Exit code 0 if all are the same, 1 if not.
    """
    _run(models, runtime, emulate, given)


@main.command()
@click.argument("bundle", type=path_argument)
@click.argument("model", type=path_argument)
@runtime_option
@taps_option
@judging_options
@report_options
def check(bundle: Path, model: Path, runtime: tuple[str, ...], **given: Any) -> None:
    """A BUNDLE made elsewhere, on an NPU say, against MODEL run here on the bundle's own inputs.

    Both the bundle and what the runtimes here answer are judged by PyTorch in float64. A plain
    .npz of "input" and "logits" (and other taps), as numpy.savez writes it, will do for a bundle.
    """
    generated = {"images": (), "limit": 0, "random": None, "seed": 0}
    _run((model, bundle), runtime, (), {**given, **generated, "image_size": None, "batch_size": 4})


def _run(
    paths: tuple[Path, ...], runtime: tuple[str, ...], emulate: tuple[str, ...], given: Given
) -> None:
    from parity import run as parity
    from parity.bundle import open_bundles

    _refuse_existing(given)
    files, bundles = open_bundles(paths)
    pairs = parity.pair_up(files, runtime)
    read = parity.read_models(files)
    first = read[files[0]].info
    options, samples = _choose_inputs(given, first, bundles)
    pairs += [(files[0], f"{parity.EMULATED}{name}") for name in emulate]
    _introduce(files[0], first)
    _tell(parity.run(pairs, read, samples, options, show_progress, bundles), given)


@main.command()
@click.argument("model", type=path_argument)
@click.option(
    "--runtime",
    required=True,
    help="Where to run it; 'reference' is PyTorch in float64 with what rounding does, by which "
    "parity compare judges others where there is no torch.",
)
@click.option("-o", "--output", required=True, type=path_argument, help="The bundle, .npz.")
@click.option(
    "--precision",
    multiple=True,
    help="With --runtime reference: tolerance classes to measure rounding for; default: all.",
)
@click.option("--without-inputs", is_flag=True, help="Keep only hashes of the inputs.")
@image_options
@taps_option
@force_option
def capture(
    model: Path,
    runtime: str,
    output: Path,
    precision: tuple[str, ...],
    without_inputs: bool,
    **given: Any,
) -> None:
    """Write what MODEL answers in one runtime to a bundle, to be judged on another machine.

    The inputs are those of parity run, or with --images BUNDLE those of another bundle.
    """
    from convert.replacing import refuse_existing, replacing
    from parity import run as parity
    from parity.capture import Shot, capture, capture_reference
    from parity.record import REFERENCE

    refuse_existing(output, given["force"])
    (read,) = parity.read_models([model]).values()
    options, samples = _choose_inputs(given, read.info, [])
    size = options.image_size or read.info.preprocessing.image_size
    names = parity.wanted_taps(read.info.config, options.detail)
    shot = Shot(model, read, names, samples, size, options.batch_size)
    if runtime != REFERENCE:
        parity.choose_runtimes([runtime], reference=False)
    _introduce(model, read.info)
    with replacing(output, given["force"]) as stream:
        if runtime == REFERENCE:
            capture_reference(shot, precision, stream, not without_inputs, show_progress)
        elif precision:
            raise click.UsageError("--precision goes with --runtime reference")
        else:
            capture(shot, runtime, stream, not without_inputs, show_progress)
    say(f"wrote {output} ({output.stat().st_size:,} bytes)")


@main.command()
@click.argument("first", type=path_argument)
@click.argument("others", nargs=-1, required=True, type=path_argument)
@judging_options
@report_options
def compare(first: Path, others: tuple[Path, ...], **given: Any) -> None:
    """Bundles against each other; no framework is needed.

    A bundle of --runtime reference judges the others in units of rounding that were measured when
    it was made. Without one the FIRST judges, and rounding is taken from a table.
    """
    from parity.bundle import Bundle
    from parity.capture import compare_bundles

    _refuse_existing(given)
    bundles = [Bundle(path) for path in others]
    result = compare_bundles(
        Bundle(first), bundles, given["precision"], _fixed(given), show_progress
    )
    say(f"judged by {result.reference}: {result.computed_in}")
    _tell(result, given)


@main.command()
@click.argument("models", nargs=-1, required=True, type=path_argument)
@click.option(
    *("--images", "--data-dir", "folder"),
    required=True,
    type=path_argument,
    metavar="DIR",
    help="A folder of images per class: DIR/CLASS/*.",
)
@runtime_option
@click.option("--limit", default=0, type=click.IntRange(0), help="Of the images at most.")
@size_options
@judging_options
@report_options
def validate(
    models: tuple[Path, ...], folder: Path, runtime: tuple[str, ...], **given: Any
) -> None:
    """Accuracy in every runtime over labelled images, side by side, with paired statistics.

    MODELS are as for parity run. "only here" and "only there" count images that a runtime, or the
    float64 reference, alone has right; p is that of McNemar's test of the two. Exit code 0 if all
    runtimes compute the same function, 1 if not.
    """
    from parity import run as parity
    from parity.inputs import evenly_spaced, file_samples
    from parity.report import accuracy_table
    from pvt_spec.evaluation import labelled_for, require_classes

    _refuse_existing(given)
    pairs = parity.pair_up(models, runtime)
    read = parity.read_models(models)
    first = read[models[0]].info
    require_classes(first)
    labelled = list(zip(*labelled_for(first, folder), strict=True))
    chosen = evenly_spaced(labelled, given["limit"] or len(labelled))
    samples = file_samples([path for path, _ in chosen], [int(label) for _, label in chosen])
    _introduce(models[0], first)
    options = _options_of({**given, "detail": "logits"})
    result = parity.run(pairs, read, samples, options, show_progress)
    if not given["as_json"]:
        click.echo("\n".join([*accuracy_table(result), ""]))
    _tell(result, given)


def _introduce(path: Path, info: "ModelInfo") -> None:
    say(f"{info.variant or 'PVT'}, profile {info.profile}, from {path}")


def _options_of(given: Given) -> "Options":
    from parity.run import Options
    from parity.tolerance import find_tolerance

    precision = given.get("precision")
    if isinstance(precision, str):
        find_tolerance(precision)
    else:
        precision = None
    text = given["image_size"]
    size = parse_image_size(text) if text else None
    return Options(given["detail"], precision, _fixed(given), size, given["batch_size"])


def _fixed(given: Given) -> "FixedTolerance | None":
    from parity.tolerance import FixedTolerance

    atol, rtol = given.get("atol"), given.get("rtol")
    return None if atol is rtol is None else FixedTolerance(atol or 0.0, rtol or 0.0)


def _choose_inputs(
    given: Given, info: "ModelInfo", bundles: "list[Bundle]"
) -> "tuple[Options, list[Sample]]":
    """How to compare, and what is run: a bundle's inputs, files, noise or the generated images."""
    import dataclasses

    from parity.bundle import SUFFIX, Bundle
    from parity.inputs import default_samples, evenly_spaced, file_samples, noise_samples
    from pvt_spec.images import list_images

    images, random, seed = given["images"], given["random"], given["seed"]
    options = _options_of(given)
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


def _refuse_existing(given: Given) -> None:
    from convert.replacing import refuse_existing

    for target in filter(None, (given["junit"], given["html"])):
        refuse_existing(target, given["force"])


def _tell(result: "Result", given: Given) -> None:
    """Prints and writes a result, and ends with exit code 1 where it is *different*."""
    import json

    from convert.replacing import replacing
    from parity import documents, page, report

    written = ((given["junit"], documents.as_junit), (given["html"], page.as_html))
    for target, make in written:
        if target:
            with replacing(target, given["force"]) as stream:
                # A file's name that is not UTF-8 is in a str, too.
                stream.write(make(result).encode(errors="replace"))
            say(f"wrote {target}")
    if given["as_json"]:
        click.echo(json.dumps(documents.as_data(result), indent=1))
    else:
        click.echo("\n".join(report.table(result, given["verbose"])))
    if not result.same:
        raise click.exceptions.Exit(1)
