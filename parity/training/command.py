"""``parity train-step``: the command line, and what it is given made into a trial.

Everything heavier than click is imported inside functions, so that ``--help`` stays quick.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.options import Chosen, takes
from pvt_data.command_line import PATH, say
from pvt_data.progress import progress_bar
from pvt_packages import require
from pvt_spec.files.json_text import encode_json
from pvt_train.recipe.options import RecipeCommand, recipe_options

if TYPE_CHECKING:
    from parity.training.run import Trial
    from pvt_data.sources.source import Source
    from pvt_spec.arrays import Array
    from pvt_train.recipe.keys import Recipe
    from pvt_train.run.launch import Resumed
    from pvt_train.twin import Twin

BATCH = 4
"""Images of a batch where no number is asked for: float64 takes its time, and its memory."""


@click.command("train-step", cls=RecipeCommand)
@click.argument("file", metavar="[MODEL]", required=False, type=PATH)
@click.option(
    "--recipe",
    type=PATH,
    metavar="YAML",
    help="The recipe, MindCV's or ours; every key of it is an option here.",
)
@click.option(
    "--steps", default=3, show_default=True, type=click.IntRange(1), help="Updates that are made."
)
@takes("verbose", "as_json", "html", "force")
@recipe_options
def train_step(
    file: Path | None, recipe: Path | None, steps: int, keys: dict[str, Any], chosen: Chosen
) -> None:
    """Compare one training step of both twins, tensor by tensor.

    From identical weights, optimizer state and batches both compute the loss, every gradient, and
    the weights after some updates, and so does PyTorch in float64, which is the reference.

    MODEL is a file of weights to begin with, or a run's folder or state file to go on from, whose
    recipe is the default; without one, --model NAME begins with new weights. Images are those of
    --data-dir, or generated; then every update is an epoch.

    An error is judged in units of what rounding alone does to that tensor. Exit code 0 if both
    twins make the reference's steps, 1 if not.
    """
    from parity.training import report
    from parity.training.run import compare_training

    chosen.check_files()
    require("torch", "mindspore", "yaml", *(["simplejpeg"] if keys.get("data_dir") else []))
    trial, twins, what = open_trial(file, recipe, steps, keys)
    model = f"{trial.recipe.model}, profile {trial.info.profile}"
    say(f"{model}: {'; '.join(f'{title} {text}' for title, text in what.items())}")
    with progress_bar("updates") as show:
        found = compare_training(trial, twins, show)
    result = report.TrainingResult(model, what, found)
    if chosen.html:
        chosen.write(chosen.html, report.to_html(result))
    if chosen.as_json:
        click.echo(encode_json(report.to_dict(result), indent=1))
    else:
        click.echo("\n".join(report.table(result, chosen.verbose)))
    if not result.same:
        raise click.exceptions.Exit(1)


def open_trial(
    file: Path | None, config: Path | None, steps: int, keys: Mapping[str, Any]
) -> "tuple[Trial, dict[str, Twin], dict[str, str]]":
    """Returns what both twins are given, the twins, and what says so.

    Args:
        file: The model's or state's file.
        config: The recipe's.
        steps: The number of updates.
        keys: The recipe's keys that are given, and their values.

    Raises:
        PvtError: Something of it cannot be used.
    """
    from parity.training.batches import open_images, read_batches
    from parity.training.run import Trial
    from parity.training.twins import TWINS
    from pvt_train.command_line import find_recipe, read_recipe
    from pvt_train.optim.schedule import learning_rate
    from pvt_train.run.launch import starting_point

    given = dict(keys)
    if file:
        given["ckpt_path" if _holds_state(file) else "pretrained"] = str(file)
    recipe, resumed = read_recipe(config and find_recipe(config), given)
    recipe = _in_float32(recipe, keys)
    source = open_images(recipe)
    weights, info, notes = starting_point(recipe, _classes(recipe, source, resumed), resumed)
    for line in notes:
        say(line)
    twins = {
        row.name: row.open(info, _of(recipe, row.framework), weights) for row in TWINS.values()
    }
    state: dict[str, Array] = next(iter(twins.values())).state()
    if resumed:
        state = {name: resumed.tensors.get(name, array) for name, array in state.items()}
    first = resumed.run.step if resumed else 0
    groups, length = read_batches(source, recipe, info, first, steps)
    rates = [learning_rate(first + step, length, recipe) for step in range(steps)]
    what = {
        "updates": f"{first + 1} to {first + steps}",
        "images": f"{len(groups[0])} x {len(groups[0][0].pixels)} "
        + (f"from {recipe.data_dir}" if source else "generated"),
        "rates": ", ".join(f"{rate:.3g}" for rate in rates),
    }
    return Trial(info, recipe, state, groups, rates), twins, what


def _holds_state(path: Path) -> bool:
    """Returns whether a file, or a run in a folder, has the state of a training to go on from."""
    from convert.formats.table import find_source
    from convert.training.checkpoint import STATE_KEY
    from pvt_spec.files.models import LAST, run_file

    file = run_file(path, LAST) if path.is_dir() else path
    if file is None or file.suffix not in (".ckpt", ".pth"):
        return False
    return STATE_KEY in find_source(file).read(file).metadata


def _in_float32(recipe: "Recipe", keys: Mapping[str, Any]) -> "Recipe":
    """Returns the recipe as it is compared, and says what is not as it says."""
    changes: dict[str, Any] = {"amp_level": "O0", "distribute": False}
    changes["data_dir"] = keys.get("data_dir") or ""
    if "batch_size" not in keys:
        changes["batch_size"] = min(BATCH, recipe.batch_size)
    different = {key: value for key, value in changes.items() if vars(recipe)[key] != value}
    for key, value in different.items():
        way_out = f"; --{key.replace('_', '-')} overrules it" if key in _ASKED else ""
        shown = value if value != "" else "generated images"
        say(f"{key}: {shown} here, in place of {vars(recipe)[key]}{way_out}")
    return dataclasses.replace(recipe, **changes, num_parallel_workers=0)


_ASKED = ("batch_size", "data_dir")
"""Keys that count where they are options alone."""


def _of(recipe: "Recipe", framework: str) -> "Recipe":
    """Returns a recipe less what another framework alone can do."""
    from pvt_train.recipe.keys import ROWS

    others = {
        key: row.default
        for key, row in ROWS.items()
        if row.alone and row.alone.get(vars(recipe)[key], framework) != framework
    }
    return dataclasses.replace(recipe, **others)


def _classes(
    recipe: "Recipe", source: "Source | None", resumed: "Resumed | None"
) -> tuple[str, ...]:
    """Returns the names of the classes: the images', the model's, or as many as the recipe has."""
    from convert.hub import find_model
    from pvt_train.run.fine_tuning import read_pretrained

    if source is not None:
        return source.classes
    if resumed and resumed.info.labels:
        return tuple(resumed.info.labels)
    count = resumed.info.config.num_classes if resumed else recipe.num_classes
    if recipe.pretrained and count is None:
        path, _ = find_model(Path(recipe.pretrained))
        info = read_pretrained(path, recipe.pretrained_weights).info
        if info.labels:
            return tuple(info.labels)
        count = info.config.num_classes
    return tuple(map(str, range(count or 10)))
