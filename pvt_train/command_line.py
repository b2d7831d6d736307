"""What the twins' ``train`` commands share, and ``pvt-train``, which needs no framework.

Everything heavier than click is imported inside the functions, so that ``--help`` stays quick.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pvt_data.command_line import PATH, Commands, say, show_result
from pvt_packages import require
from pvt_train.recipe.options import recipe_options

if TYPE_CHECKING:
    from pvt_train.recipe.keys import Recipe
    from pvt_train.run.launch import OpenTwin, Resumed
    from pvt_train.run.loop import Outcome

_Command = TypeVar("_Command", bound=Callable[..., Any])


def train_options(command: _Command) -> _Command:
    """Adds the options of every ``train``; those of the recipe come in together, as ``keys``."""
    for option in (
        click.option("--plot", is_flag=True, help="Draw the curves into curves.png at the end."),
        click.option("--force", is_flag=True, help="Replace the run that is in --output."),
    ):
        command = option(command)
    command = recipe_options(command)
    return click.option(
        "--config",
        type=PATH,
        metavar="YAML",
        help="The recipe, MindCV's or ours; every key of it is an option here.",
    )(command)


def train_command(
    config: Path | None,
    keys: dict[str, Any],
    framework: str,
    *,
    force: bool,
    plot: bool,
    open_twin: "OpenTwin",
) -> None:
    """Trains as the command line says; a run that was asked to stop ends with 128 + the signal.

    Args:
        config: The recipe's file.
        keys: The recipe's keys that are given, and their values.
        framework: MindSpore or PyTorch: whose keys are taken.
        force: Whether a run that is in the output folder may be replaced.
        plot: Whether to draw the curves at the end.
        open_twin: The function that starts the framework.

    Raises:
        LibraryMissing: A library that training needs is not installed.
        PvtError: It cannot.
    """
    # Before hours of work that would end for want of one.
    require("yaml", "simplejpeg", "tensorboardX", *(["matplotlib"] if plot else []))
    from pvt_spec.files.replacing import check_target
    from pvt_train.recipe.checks import check_framework
    from pvt_train.run.folder import CURVES, is_state
    from pvt_train.run.launch import train_recipe

    config = config and find_recipe(config)
    recipe, resumed = read_recipe(config, keys)
    check_framework(recipe, framework)
    output = Path(recipe.ckpt_save_dir)
    if plot and not (resumed and is_state(resumed.path, output)):
        check_target(output / CURVES, force)
    outcome = train_recipe(recipe, resumed, force, open_twin, click.echo, say)
    _say_end(recipe, outcome, plot)


def find_recipe(path: Path) -> Path:
    """Returns the path, or where the project's recipe of this name is if it is no file here.

    Installed, ``configs/`` is inside this package; in the repository it is beside it.
    """
    if path.parts[:1] == ("configs",) and not path.exists():
        package = Path(__file__).parent
        for found in (package / path, package.parent / path):
            if found.exists():
                say(f"--config: no {path} here, taking {found}")
                return found
    return path


def read_recipe(config: Path | None, keys: dict[str, Any]) -> "tuple[Recipe, Resumed | None]":
    """Returns the recipe of a command line, and the run to go on with, whose recipe is its base.

    Raises:
        PvtError: Something of it cannot be.
    """
    from pvt_train.recipe.checks import recipe_warnings
    from pvt_train.recipe.read import make_recipe, read_values
    from pvt_train.run.launch import load_resumed
    from pvt_train.run.standing import HandedOver

    values = read_values(config, keys)
    path = values.get("ckpt_path")
    if not path:
        values = _with_model(values)
        recipe = make_recipe(values, str(config or "recipe"))
        for line in recipe_warnings(recipe, values):
            say(f"warning: {line}")
        _say_warm_up(recipe)
        return recipe, None
    resumed = load_resumed(Path(str(path)))
    if isinstance(resumed.run, HandedOver):
        base = _of_another_program(resumed, config, values)
    else:
        folder = {"ckpt_save_dir": str(resumed.path.parent)}
        base = {**resumed.recipe, **folder, **values} if config is None else {**folder, **values}
    recipe = make_recipe(base, str(config or resumed.path))
    _compare(resumed, recipe)
    _say_warm_up(recipe)
    return recipe, resumed


def _of_another_program(
    resumed: "Resumed", config: Path | None, values: dict[str, Any]
) -> dict[str, Any]:
    """Returns the values of a recipe, with what the file of another program's run shows of it.

    Raises:
        TrainingError: There is no recipe.
    """
    from pvt_train.twin import TrainingError

    if config is None:
        raise TrainingError(
            f"{resumed.path}: the state of another program's run, which does not say its recipe: "
            "give --config, and --output for what this run writes"
        )
    for key, value in resumed.recipe.items():
        if key not in values:
            say(f"{key}: {value}, as {resumed.path} shows")
    return {**resumed.recipe, **values}


def _with_model(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a recipe's values, with the pretrained file's variant where they name no model."""
    from pvt_train.recipe.keys import ROWS
    from pvt_train.run.fine_tuning import read_variant

    try:
        pretrained = ROWS["pretrained"].read(values.get("pretrained"))
    except ValueError:
        return values  # which is said with all else that is wrong
    if "model" in values or not isinstance(pretrained, str) or not pretrained:
        return values
    model = read_variant(Path(pretrained))
    say(f"model: {model}, as {pretrained} holds it")
    return {**values, "model": model}


def _say_warm_up(recipe: "Recipe") -> None:
    """Says how long a short run warms up where the recipe leaves it open."""
    from pvt_train.optim.schedule import warmup_epochs

    if recipe.warmup_epochs is None and recipe.epoch_size < 100:
        epochs = f"{warmup_epochs(recipe)}, a tenth of epoch_size {recipe.epoch_size}"
        say(f"warmup_epochs: {epochs}; --warmup-epochs overrules it")


def _compare(resumed: "Resumed", recipe: "Recipe") -> None:
    """Says what changes in a run that goes on.

    Raises:
        TrainingError: Something does that may not.
    """
    from pvt_train.recipe.changes import list_changes
    from pvt_train.recipe.read import make_recipe, to_dict
    from pvt_train.run.standing import HandedOver
    from pvt_train.twin import TrainingError

    old = resumed.recipe
    if isinstance(resumed.run, HandedOver):  # what its file does not show is as it is here
        old = {**to_dict(recipe), **old}
    changes = list_changes(make_recipe(old, str(resumed.path)), recipe)
    refused = [str(change) for change in changes if change.why_not]
    if refused:
        raise TrainingError(
            f"{resumed.path}: its run cannot go on with another recipe: {'; '.join(refused)}; "
            "give the old values, or take its weights alone with --pretrained"
        )
    for change in changes:
        if change.key in ("pretrained", "pretrained_weights"):
            say(f"{change.key} {change.new!r} is not used: a run goes on with its own weights")
        elif change.key not in ("ckpt_path", "ckpt_save_dir"):
            say(f"from here on: {change}")


def _say_end(recipe: "Recipe", outcome: "Outcome", plot: bool) -> None:
    from pvt_train.run.folder import CURVES

    output, best = Path(recipe.ckpt_save_dir), outcome.standing.best
    if outcome.stopped is not None:
        say(f"stopped by {outcome.stopped.name}; to go on: --resume {output}")
        raise click.exceptions.Exit(128 + outcome.stopped)
    if outcome.rank:
        return
    if best is not None:
        show_result(f"best: epoch {best.epoch}, Top-1 {best.top1:.2f} %: {output / best.file}")
    else:
        say(f"not validated; the last model: {output / outcome.standing.kept[-1].file}")
    if plot:
        from pvt_train.run.plot import plot_run

        curves = output / CURVES
        replaced = " (in place of the one that was there)" if curves.exists() else ""
        plot_run(output, curves, force=True)
        say(f"curves: {curves}{replaced}")


@click.group(cls=Commands)
def main() -> None:
    """What training leaves behind, without a framework."""


@main.command()
@click.argument("run", type=PATH)
@click.option(
    "--output",
    "-o",
    type=PATH,
    metavar="FILE",
    help="The picture, .png, .svg or .pdf; by default curves.png in RUN.",
)
@click.option("--force", is_flag=True, help="Replace FILE.")
def plot(run: Path, output: Path | None, force: bool) -> None:
    """Draw loss, accuracy, learning rate and gradient norm of the run in the folder RUN."""
    from pvt_train.run.folder import CURVES
    from pvt_train.run.plot import plot_run

    target = output or run / CURVES
    plot_run(run, target, force=force)
    show_result(str(target))
