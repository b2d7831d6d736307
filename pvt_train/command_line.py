"""What the twins' ``train`` commands share: the recipe as options, and a run over a folder.

May import click; everything heavier is imported inside the functions, so that ``--help`` stays
quick.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pvt_spec import FileExists, ModelInfo, PvtError
from pvt_spec.command_line import say

if TYPE_CHECKING:
    from pvt_train.loop import Save, Twin
    from pvt_train.recipe import Recipe

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="YAML",
        help="The recipe. What is not in it, nor given here, is as in MindCV's pvt_tiny recipe.",
    ),
    click.option(
        "--data-dir",
        required=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder with train/CLASS/* and val/CLASS/*.",
    ),
    click.option(
        "--output",
        "--ckpt-save-dir",
        required=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder for best.ckpt and last.ckpt.",
    ),
    click.option("--force", is_flag=True, help="Replace best.ckpt and last.ckpt in --output."),
    click.option("--model", help="A variant, as pvt_tiny or pvt_v2_b0."),
    click.option("--profile", help="The maths: official, mindcv or hf."),
    click.option("--image-resize", type=int, help="Side of the square input in pixels."),
    click.option("--epoch-size", type=int, help="Number of epochs."),
    click.option("--batch-size", type=int, help="Images per step."),
    click.option("--lr", type=float, help="Learning rate at the end of the warm-up."),
    click.option("--min-lr", type=float, help="Learning rate that the cosine comes down to."),
    click.option("--warmup-epochs", type=int, help="Epochs in which the rate rises from 0."),
    click.option("--weight-decay", type=float, help="Of all but vectors and the class token."),
    click.option("--label-smoothing", type=float, help="Share of the target for all classes."),
    click.option("--drop-path-rate", type=float, help="Stochastic depth of the last block."),
    click.option(
        "--scale", type=float, nargs=2, help="Smallest and largest share of the area in a crop."
    ),
    click.option(
        "--ratio", type=float, nargs=2, help="Smallest and largest width / height of a crop."
    ),
    click.option("--hflip", type=float, help="Probability that an image is mirrored."),
    click.option("--crop-pct", type=float, help="Share that the evaluation crop keeps."),
    click.option("--seed", type=int, help="Everything random is a function of it."),
)


def train_options(command: _Command) -> _Command:
    """Adds the options of every ``train``; the recipe's keys come in as keyword arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_recipe(config: Path | None, options: dict[str, Any]) -> "Recipe":
    """The recipe of a command line: the file's, with the options that were given.

    Raises:
        ConfigError: It cannot be.
    """
    from pvt_train.recipe import load_recipe

    given = {key: value for key, value in options.items() if value is not None}
    return load_recipe(config, given)


def train_folder(
    recipe: "Recipe",
    data_dir: Path,
    output: Path,
    force: bool,
    open_twin: "Callable[[ModelInfo], Twin]",
    save: "Save",
) -> None:
    """Trains on ``data_dir/train``, validates on ``data_dir/val``, writes into ``output``.

    What can be found wrong is found before the framework is started.

    Raises:
        FileExists: ``output`` has a checkpoint, and not ``force``.
        PvtError: The recipe, the images or the output folder cannot be used, or training failed.
    """
    from pvt_spec.evaluation import labelled_for
    from pvt_train.data import TrainingImages
    from pvt_train.loop import Run, train
    from pvt_train.recipe import model_info

    for name in ("best.ckpt", "last.ckpt"):
        if (output / name).exists() and not force:
            raise FileExists(
                f"{output / name} exists: name another --output, or give --force to replace it"
            )
    images = TrainingImages(data_dir / "train")
    run = Run(recipe, model_info(recipe, images.classes), images, data_dir / "val", output)
    val_paths, _ = labelled_for(run.info, run.val_folder)
    say(_describe(run, len(val_paths)))
    with output_folder(output):
        best = train(open_twin(run.info), run, save, click.echo)
    click.echo(f"best: epoch {best.epoch}, Top-1 {best.accuracy.top1:.2f} %: {output}/best.ckpt")


def _describe(run: Any, val_count: int) -> str:
    recipe, images = run.recipe, run.images
    batch, steps = images.batch_size(recipe), images.steps_per_epoch(recipe)
    line = (
        f"{recipe.model} ({run.info.profile}): {len(images.paths)} images of "
        f"{len(images.classes)} classes, {val_count} to validate; "
        f"{recipe.epoch_size} epochs of {steps} steps of {batch} images"
    )
    if batch < recipe.batch_size:
        line += f" (all there are: fewer than the batch size of {recipe.batch_size})"
    return line


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """A folder to write into while the block lasts; if it was made and is empty, it goes again.

    Raises:
        PvtError: It cannot be made or written to.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PvtError(f"{folder}: cannot be made: {error.strerror}; name another") from error
    if not os.access(folder, os.W_OK):
        raise PvtError(f"{folder}: may not be written to; name another folder")
    try:
        yield
    finally:
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
