"""``parity``: the command line. No logic lives here."""

from pathlib import Path
from typing import Any

import click

from parity.options import (
    Given,
    NameIn,
    choose_inputs,
    fixed_tolerance,
    force_option,
    image_options,
    introduce,
    json_option,
    judging_options,
    options_of,
    path_argument,
    precision_name,
    refuse_reports,
    report_options,
    runtime_name,
    runtime_option,
    show_passes,
    size_options,
    taps_option,
    tell,
    tell_what_is_left_out,
)
from pvt_data.command_line import Commands, say
from pvt_data.progress import progress_bar


@click.group(cls=Commands)
def main() -> None:
    """Prove that a PVT answers the same in every runtime."""


@main.command()
@click.argument("models", nargs=-1, required=True, type=path_argument)
@runtime_option
@click.option(
    "--emulate",
    multiple=True,
    type=NameIn("PRECISION", "pvt_torch.emulation:ROUNDINGS"),
    help="Also run the reference with this precision's rounding at every operation; repeatable.",
)
@image_options
@taps_option
@judging_options
@report_options
def run(
    models: tuple[Path, ...], runtime: tuple[str, ...], emulate: tuple[str, ...], **given: Any
) -> None:
    """Compare the answers of every runtime, tap by tap.

    The same images go through each, and through PyTorch in float64, which is the reference.

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
    """Judge a BUNDLE that was made on another machine.

    MODEL, its file, is run here on the bundle's own inputs. Both the bundle and what the
    runtimes here answer are judged by PyTorch in float64. A plain
    .npz of "input" and "logits" (and other taps), as numpy.savez writes it, will do for a bundle.
    """
    generated = {"images": (), "limit": 0, "random": None, "seed": 0}
    _run((model, bundle), runtime, (), {**given, **generated, "image_size": None, "batch_size": 4})


def _run(
    paths: tuple[Path, ...], runtime: tuple[str, ...], emulate: tuple[str, ...], given: Given
) -> None:
    from parity import selection
    from parity.bundles.bundle import open_bundles
    from parity.run import EMULATED
    from parity.run import run as run_all

    refuse_reports(given)
    files, bundles = open_bundles(paths)
    pairs = selection.pair_up(files, runtime)
    read = selection.read_models(files)
    selection.require_finite(files[0], read[files[0]])
    first = read[files[0]].info
    options, samples = choose_inputs(given, first, bundles)
    pairs += [(files[0], f"{EMULATED}{name}") for name in emulate]
    introduce(files[0], first)
    tell_what_is_left_out(first, bundles)
    with progress_bar("images") as show:
        result = run_all(pairs, read, samples, options, show, bundles)
    tell(result, given)


@main.command()
@click.argument("model", type=path_argument)
@click.option(
    "--runtime",
    required=True,
    type=NameIn("RUNTIME", "parity.runtimes.table:RUNTIMES", ("reference",)),
    help="Where to run it; 'reference' is PyTorch in float64 with what rounding does, by which "
    "parity compare judges others where there is no torch.",
)
@click.option("-o", "--output", required=True, type=path_argument, help="The bundle, .npz.")
@click.option(
    "--precision",
    multiple=True,
    type=precision_name,
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
    """Write what MODEL answers in one runtime to a bundle.

    It can be judged on another machine. The inputs are those of parity run, or with --images
    BUNDLE those of another bundle.
    """
    from parity import selection
    from parity.bundles.capture import Shot, capture, capture_reference
    from parity.bundles.record import REFERENCE
    from pvt_spec.files import refuse_existing, replacing

    refuse_existing(output, given["force"])
    (read,) = selection.read_models([model]).values()
    options, samples = choose_inputs(given, read.info, [])
    size = options.image_size or read.info.preprocessing.image_size
    names = selection.wanted_taps(read.info.config, options.detail)
    shot = Shot(model, read, names, samples, size, options.batch_size)
    if runtime != REFERENCE:
        selection.choose_runtimes([runtime], reference=False)
    introduce(model, read.info)
    with replacing(output, given["force"]) as stream, progress_bar("images") as show:
        if runtime == REFERENCE:
            capture_reference(shot, precision, stream, not without_inputs, show)
        elif precision:
            raise click.UsageError("--precision goes with --runtime reference")
        else:
            capture(shot, runtime, stream, not without_inputs, show)
    say(f"wrote {output} ({output.stat().st_size:,} bytes)")


@main.command()
@click.argument("first", type=path_argument)
@click.argument("others", nargs=-1, required=True, type=path_argument)
@judging_options
@report_options
def compare(first: Path, others: tuple[Path, ...], **given: Any) -> None:
    """Compare bundles with each other; no framework is needed.

    A bundle of --runtime reference judges the others in units of rounding that were measured when
    it was made. Without one the FIRST judges, and rounding is taken from a table.
    """
    from parity.bundles.bundle import Bundle
    from parity.bundles.capture import compare_bundles

    refuse_reports(given)
    bundles = [Bundle(path) for path in others]
    with progress_bar("images") as show:
        result = compare_bundles(
            Bundle(first), bundles, given["precision"], fixed_tolerance(given), show
        )
    say(f"judged by {result.reference}: {result.computed_in}")
    tell(result, given)


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
    """Compare accuracy over labelled images in every runtime.

    Side by side, with paired statistics. MODELS are as for parity run. "only here" and "only
    there" count images that a runtime, or the
    float64 reference, alone has right; p is that of McNemar's test of the two. Exit code 0 if all
    runtimes compute the same function, 1 if not.
    """
    from parity import selection
    from parity.inputs.samples import evenly_spaced, file_samples
    from parity.report.text import accuracy_table
    from parity.run import run as run_all
    from pvt_data.labels import labelled_for, require_classes

    refuse_reports(given)
    pairs = selection.pair_up(models, runtime)
    read = selection.read_models(models)
    selection.require_finite(models[0], read[models[0]])
    first = read[models[0]].info
    require_classes(first)
    labelled = list(zip(*labelled_for(first, folder), strict=True))
    chosen = evenly_spaced(labelled, given["limit"] or len(labelled))
    samples = file_samples([path for path, _ in chosen], [int(label) for _, label in chosen])
    introduce(models[0], first)
    options = options_of({**given, "detail": "logits"})
    with progress_bar("images") as show:
        result = run_all(pairs, read, samples, options, show)
    if not given["as_json"]:
        click.echo("\n".join([*accuracy_table(result), ""]))
    tell(result, given)


@main.command()
@click.argument("trusted", type=path_argument)
@click.argument("other", type=path_argument)
@click.option(
    "--runtime", type=runtime_name, help="Where to run OTHER; default: as parity run does."
)
@image_options
@click.option(
    "--precision",
    type=precision_name,
    help="Tolerance class of what OTHER ran in; default: what it says.",
)
@json_option
def diagnose(trusted: Path, other: Path, runtime: str | None, as_json: bool, **given: Any) -> None:
    """Find what makes OTHER differ from TRUSTED, and how much.

    TRUSTED is a model's file; OTHER is a file that is run, or a bundle (then they may stand in
    any order; a plain .npz of "input" and "logits" will do). TRUSTED runs in float64 with every
    hypothesis that is known to make ports differ - epsilons, GELU, padding, resizing, dtypes, keys
    and values, transposed or shifted weights, averaged weights, preprocessing - until it answers
    what OTHER did. Exit code 0 if there is no difference beyond rounding, 1 if there is one.
    """
    import json

    from parity import selection
    from parity.bundles.bundle import open_bundles
    from parity.diagnosis import sides
    from parity.diagnosis.diagnose import as_data, describe

    files, bundles = open_bundles((trusted, other))
    if bundles and runtime:
        raise click.UsageError("--runtime is for a file, and the other side is a bundle")
    read = selection.read_models(files)
    model = read[files[0]]
    selection.require_finite(files[0], model)
    options, samples = choose_inputs(given, model.info, bundles)
    size = options.image_size or model.info.preprocessing.image_size
    side = sides.Trusted(files[0], model, samples, size, options.batch_size)
    if bundles:
        found = sides.observe_bundle(side, bundles[0])
    else:
        found = sides.observe_file(side, files[1], read[files[1]], runtime)
    introduce(files[0], model.info)
    tell_what_is_left_out(model.info, bundles)
    say(f"explaining {found.name}; each pass tries one hypothesis")
    precision = options.precision or found.precision
    diagnosis = sides.explain(side, found, precision, show_passes)
    if as_json:
        says = [str(difference) for difference in found.differences]
        click.echo(json.dumps({**as_data(diagnosis), "says_of_itself": says}, indent=1))
    else:
        shown = [f"says of itself: {difference}" for difference in found.differences[:5]]
        more = len(found.differences) - len(shown)
        shown += [f"and {more} more such differences"] if more else []
        click.echo("\n".join([*shown, *describe(diagnosis)]))
    if not diagnosis.same:
        raise click.exceptions.Exit(1)
