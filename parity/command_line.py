"""``parity``: the command line. No logic lives here."""

import json
from pathlib import Path

import click

from pvt_spec.command_line import Commands, say


@click.group(cls=Commands)
def main() -> None:
    """Prove that a PVT answers the same in every runtime."""


@main.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--images", multiple=True, help="Files, folders or glob patterns; may be repeated.")
@click.option(
    "--limit",
    default=32,
    show_default=True,
    type=click.IntRange(1),
    help="Images at most, evenly spaced over those found.",
)
@click.option(
    "--random",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="Noise images, where no others are given.",
)
@click.option("--seed", default=0, show_default=True, help="Of the noise.")
@click.option("--runtime", multiple=True, help="May be repeated; default: all that are installed.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def run(
    models: tuple[Path, ...],
    images: tuple[str, ...],
    limit: int,
    random: int,
    seed: int,
    runtime: tuple[str, ...],
    batch_size: int,
    as_json: bool,
) -> None:
    """The same images through every runtime, tap by tap, against PyTorch in float64.

    MODELS are .ckpt, .pth, .safetensors or .onnx files, or folders of Hugging Face. One is run
    in every runtime; several are taken to be one model, each run in its own (.ckpt in MindSpore,
    .onnx in onnxruntime, the others in PyTorch), all against the first one's weights and maths.
    Exit code 0 if all hold the same weights and answer the same within float32 rounding, 1 if not.
    """
    from parity import report
    from parity import run as parity
    from pvt_spec.images import list_images

    pairs = parity.pair_up(models, runtime)
    paths = parity.evenly_spaced(list_images(images), limit) if images else []
    read = parity.read_models(models)
    info = read[models[0]].info
    if paths:
        batches = parity.image_batches(info, paths, batch_size)
    else:
        batches = parity.random_batches(info, random, seed, batch_size)
    name = info.variant or "PVT"
    say(f"{name}, profile {info.profile}; reference: {models[0]} in PyTorch, float64")
    comparisons = parity.run(pairs, read, batches)
    if as_json:
        click.echo(json.dumps(report.as_data(comparisons), indent=1))
    else:
        click.echo("\n".join(report.table(comparisons)))
    if not all(comparison.same for comparison in comparisons):
        raise click.exceptions.Exit(1)
