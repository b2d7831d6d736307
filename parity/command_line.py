"""``parity``: the command line. No logic lives here."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.asked import emulate_option, run_asked, tell_remarks
from parity.certificates.command import certify, verify
from parity.options import (
    INPUTS,
    JUDGING,
    REPORT,
    Chosen,
    NameIn,
    choose_inputs,
    introduce,
    model_argument,
    precision_name,
    runtime_name,
    takes,
    tell_sideways,
)
from parity.published.command import published
from parity.training.command import train_step
from pvt_data.command_line import PATH, Commands, say
from pvt_data.progress import progress_bar
from pvt_spec.files.json_text import encode_json

if TYPE_CHECKING:
    pass


@click.group(cls=Commands)
def main() -> None:
    """Prove that a PVT answers the same in every runtime."""


for _command in (train_step, certify, verify, published):
    main.add_command(_command)


@main.command()
@click.argument("models", nargs=-1, required=True, type=model_argument)
@takes("runtime")
@emulate_option
@takes(*INPUTS, "detail", *JUDGING, *REPORT)
def run(models: tuple[Path, ...], emulate: tuple[str, ...], chosen: Chosen) -> None:
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
    _run(models, emulate, chosen)


@main.command()
@click.argument("bundle", type=PATH)
@click.argument("model", type=model_argument)
@takes("runtime", "detail", *JUDGING, *REPORT)
def check(bundle: Path, model: Path, chosen: Chosen) -> None:
    """Judge a BUNDLE that was made on another machine.

    MODEL, its file, is run here on the bundle's own inputs. Both the bundle and what the
    runtimes here answer are judged by PyTorch in float64. A plain
    .npz of "input" and "logits" (and other taps), as numpy.savez writes it, will do for a bundle.
    """
    _run((model, bundle), (), chosen)


def _run(paths: tuple[Path, ...], emulate: tuple[str, ...], chosen: Chosen) -> None:
    from parity import selection
    from parity.bundles.bundle import open_bundles

    chosen.check_files()
    files, bundles = open_bundles(paths)
    pairs = selection.pair_up(files, chosen.runtime)
    read = selection.read_models(files, chosen.size)
    result, _ = run_asked(pairs, read, bundles, emulate, chosen)
    chosen.tell(result)


@main.command()
@click.argument("model", type=model_argument)
@click.option(
    "--runtime",
    required=True,
    type=NameIn("RUNTIME", "parity.runtimes.table:RUNTIMES", ("reference",)),
    help="Where to run it; 'reference' is PyTorch in float64 with what rounding does, by which "
    "parity compare judges others where there is no torch.",
)
@click.option("-o", "--output", required=True, type=PATH, help="The bundle, .npz.")
@click.option(
    "--precision",
    multiple=True,
    type=precision_name,
    help="With --runtime reference: tolerance classes to measure rounding for; default: all.",
)
@click.option("--without-inputs", is_flag=True, help="Keep only hashes of the inputs.")
@takes(*INPUTS, "detail", "force")
def capture(
    model: Path,
    runtime: str,
    output: Path,
    precision: tuple[str, ...],
    without_inputs: bool,
    chosen: Chosen,
) -> None:
    """Write what MODEL answers in one runtime to a bundle.

    It can be judged on another machine. The inputs are those of parity run, or with --images
    BUNDLE those of another bundle.
    """
    from convert.model.read import read_model
    from parity import selection
    from parity.bundles.capture import Shot, capture as write_answers
    from parity.bundles.record import REFERENCE
    from pvt_spec.files.replacing import check_target, replacing

    check_target(output, chosen.force)
    read = read_model(model)
    tell_remarks({model: read})
    inputs = choose_inputs(chosen, read.info)
    names = selection.wanted_taps(read.info.config, chosen.detail)
    if runtime != REFERENCE:
        selection.choose_runtimes([runtime], reference=False)
    introduce(model, read.info)
    with replacing(output, chosen.force) as stream, progress_bar("images") as show:
        if precision and runtime != REFERENCE:
            raise click.UsageError("--precision goes with --runtime reference")
        shot = Shot(model, read, names, inputs, runtime, precision)
        write_answers(shot, stream, not without_inputs, show)
    tell_sideways(inputs)
    say(f"wrote {output} ({output.stat().st_size:,} bytes)")


@main.command()
@click.argument("first", type=PATH)
@click.argument("others", nargs=-1, required=True, type=PATH)
@takes(*JUDGING, *REPORT)
def compare(first: Path, others: tuple[Path, ...], chosen: Chosen) -> None:
    """Compare bundles with each other; no framework is needed.

    A bundle of --runtime reference judges the others in units of rounding that were measured when
    it was made. Without one the FIRST judges, and rounding is taken from a table.
    """
    from parity.bundles.bundle import Bundle
    from parity.bundles.capture import compare_bundles

    chosen.check_files()
    bundles = [Bundle(path) for path in others]
    with progress_bar("images") as show:
        result = compare_bundles(Bundle(first), bundles, chosen.terms, show)
    say(f"judged by {result.reference}: {result.computed_in}")
    chosen.tell(result)


@main.command()
@click.argument("models", nargs=-1, required=True, type=model_argument)
@click.option(
    *("--images", "--data-dir", "folder"),
    required=True,
    type=PATH,
    metavar="DIR",
    help="A folder of images per class: DIR/CLASS/*.",
)
@takes("runtime")
@click.option("--limit", default=0, type=click.IntRange(0), help="Of the images at most.")
@takes("orientation", "image_size", "batch_size", *JUDGING, *REPORT)
def validate(
    models: tuple[Path, ...],
    folder: Path,
    limit: int,
    chosen: Chosen,
) -> None:
    """Compare accuracy over labelled images in every runtime.

    Side by side, with paired statistics. MODELS are as for parity run. "only here" and "only
    there" count images that a runtime, or the
    float64 reference, alone has right; p is that of McNemar's test of the two. Exit code 0 if all
    runtimes compute the same function, 1 if not.
    """
    from parity import selection
    from parity.inputs.samples import Inputs, file_samples
    from parity.report.text import accuracy_table
    from parity.run import run as run_all
    from pvt_data.sources.labels import check_single_label, labelled_for
    from pvt_data.sources.listing import evenly_spaced

    chosen.check_files()
    pairs = selection.pair_up(models, chosen.runtime)
    read = selection.read_models(models)
    tell_remarks(read)
    first = read[models[0]].info
    check_single_label(first)
    labelled = list(zip(*labelled_for(first, folder, say), strict=True))
    shown = evenly_spaced(labelled, limit or len(labelled))
    paths, labels = [path for path, _ in shown], [int(label) for _, label in shown]
    sideways: set[str] = set()
    samples = file_samples(paths, labels, sideways)
    introduce(models[0], first)
    size = chosen.size or first.preprocessing.image_size
    inputs = Inputs(samples, size, chosen.batch_size, chosen.orientation, sideways, "files")
    terms = replace(chosen, detail="logits").terms
    with progress_bar("images") as show:
        result = run_all(pairs, read, inputs, terms, show)
    tell_sideways(inputs)
    if not chosen.as_json:
        click.echo("\n".join([*accuracy_table(result), ""]))
    chosen.tell(result)


@main.command()
@click.argument("trusted", type=model_argument)
@click.argument("other", type=model_argument)
@click.option(
    "--runtime", type=runtime_name, help="Where to run OTHER; default: as parity run does."
)
@takes(*INPUTS)
@click.option(
    "--precision",
    type=precision_name,
    help="Tolerance class of what OTHER ran in; default: what it says.",
)
@takes("as_json", "html", "force")
def diagnose(
    trusted: Path,
    other: Path,
    runtime: str | None,
    precision: str | None,
    chosen: Chosen,
) -> None:
    """Find what makes OTHER differ from TRUSTED, and how much.

    TRUSTED is a model's file; OTHER is a file that is run, or a bundle (then they may stand in
    any order; a plain .npz of "input" and "logits" will do). TRUSTED runs in float64 with every
    hypothesis that is known to make ports differ - epsilons, GELU, padding, resizing, dtypes, keys
    and values, transposed or shifted weights, averaged weights, preprocessing - until it answers
    what OTHER did. Exit code 0 if there is no difference beyond rounding and parity run finds none,
    1 if there is one.
    """

    from parity import selection
    from parity.bundles.bundle import open_bundles
    from parity.diagnosis import sides
    from parity.report.html.diagnosis import diagnosis_to_html

    chosen.check_files()
    files, bundles = open_bundles((trusted, other))
    if bundles and runtime:
        raise click.UsageError("--runtime is for a file, and the other side is a bundle")
    read = selection.read_models(files)
    tell_remarks(read)
    model = read[files[0]]
    side = sides.Trusted(files[0], model, choose_inputs(chosen, model.info, bundles))
    if bundles:
        found = sides.observe_bundle(side, bundles[0], precision)
    else:
        found = sides.observe_file(side, files[1], read[files[1]], runtime, precision)
    introduce(files[0], model.info, bundles)
    say(f"explaining {found.comparison.name}; each pass tries one hypothesis")
    with progress_bar("passes") as show:
        diagnosis = sides.explain(side, found, partial(show, total=None))
    tell_sideways(side.inputs)
    says = [str(difference) for difference in found.comparison.differences]
    if chosen.html:
        name = found.comparison.name
        chosen.write(chosen.html, diagnosis_to_html(diagnosis.to_dict(), str(files[0]), name, says))
    if chosen.as_json:
        click.echo(encode_json({**diagnosis.to_dict(), "says_of_itself": says}, indent=1))
    else:
        shown = [f"says of itself: {difference}" for difference in says[:5]]
        more = len(says) - len(shown)
        shown += [f"and {more} more such differences"] if more else []
        click.echo("\n".join([*shown, *diagnosis.describe()]))
    if not diagnosis.same:
        raise click.exceptions.Exit(1)
