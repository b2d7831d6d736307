"""From a recipe to a run: what is checked, read and opened before the first step.

What can be found wrong is found before the framework is started.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert import ConvertError, read_model
from convert.hub import find_model
from convert.training.state import EPOCHS, read_training
from pvt_data.sources.folders import count_sideways, open_source
from pvt_data.sources.labels import open_labelled
from pvt_data.sources.source import Source
from pvt_spec import ConfigError, ModelInfo, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.files.replacing import AnyPath
from pvt_spec.initial import initial_weights
from pvt_spec.words import counted, show
from pvt_train.input.loader import TrainingBatches
from pvt_train.optim.counters import with_loss_scale
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import model_info
from pvt_train.run.checkpoints import Checkpoints
from pvt_train.run.fine_tuning import fit_weights, read_pretrained
from pvt_train.run.folder import (
    check_output,
    check_own_files,
    clear,
    is_state,
    model_files,
    output_folder,
    sole_run,
    state_file,
)
from pvt_train.run.log import check_log
from pvt_train.run.loop import Outcome, Run, train
from pvt_train.run.reporter import Reporter
from pvt_train.run.standing import HandedOver, Standing
from pvt_train.twin import TrainingError, Twin

Say = Callable[[str], None]

LOOKED_AT = 1000
"""Training images whose EXIF orientation is looked at before a run: all would take long."""


OpenTwin = Callable[[ModelInfo, Recipe, Mapping[str, Array]], Twin]
"""A function that starts the framework and joins the other workers."""


@dataclass(frozen=True)
class Resumed:
    """A run to go on with.

    Attributes:
        path: The state file.
        tensors: The twin's state.
        info: What travels with the weights.
        recipe: The recipe of the run so far, as JSON values; of another program's run, as much of
            it as its file shows.
        run: Where the run stands.
        changed: When the state file was written, in nanoseconds.
        notes: What is to be said of another program's file, a line each.
    """

    path: Path
    tensors: dict[str, Array]
    info: ModelInfo
    recipe: dict[str, Any]
    run: Standing | HandedOver
    changed: int
    notes: tuple[str, ...] = ()


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def load_resumed(path: AnyPath) -> Resumed:
    """Reads a state file, or that of a run's folder; another program's too.

    Raises:
        PvtError: It cannot be read, is damaged, or holds no state.
    """
    file = state_file(Path(path))
    changed = _changed(file)
    state = read_training(file)
    try:
        recipe, said = dict(state.facts["recipe"]), state.facts["run"]
        if state.handed_over:
            run: Standing | HandedOver = HandedOver(
                int(said[EPOCHS]), int(state.tensors["updates"])
            )
        else:
            run = Standing.from_dict(said)
    except (KeyError, TypeError, ValueError, TrainingError) as error:
        raise TrainingError(f"{file}: its state is not one of a run: {error}") from error
    notes = tuple(map(str, state.findings)) if state.handed_over else ()
    return Resumed(file, state.tensors, state.info, recipe, run, changed, notes)


def train_recipe(
    recipe: Recipe,
    resumed: Resumed | None,
    force: bool,
    open_twin: OpenTwin,
    report: Say,
    say: Say,
) -> Outcome:
    """Trains as a recipe says; checkpoints and the log are in its ``ckpt_save_dir``.

    Args:
        recipe: The recipe, which names the folders too.
        resumed: The run to go on with, or None.
        force: Whether a run that is in the output folder may be replaced.
        open_twin: The function that starts the framework.
        report: The function that is told one line per epoch, by the first worker.
        say: The function that is told everything else.

    Raises:
        ConfigError: No data folder is named, or the model cannot be.
        FileExists: The output folder holds another run, and not ``force``.
        PvtError: Something of the recipe, the images or files cannot be used, or training failed.
    """
    if not recipe.data_dir:
        raise ConfigError("data_dir is missing: give --data-dir, a folder with train and val in it")
    data, output = Path(recipe.data_dir), Path(recipe.ckpt_save_dir)
    # What is beside a run's state is another state, by which that one is not to be replaced.
    begins = resumed is None or not is_state(resumed.path, output)
    if begins:
        check_output(output, force)
        if not force:
            check_log(output)
        _check_pretrained(recipe, output)
    check_own_files(output)
    if not os.path.exists(data / recipe.train_split):
        raise ConfigError(
            f"{data / recipe.train_split}: there is no such folder or file: give --data-dir, a "
            f"folder with {recipe.train_split} and {recipe.val_split} in it"
        )
    images = open_source(data / recipe.train_split)
    if len(images.classes) < 2:
        raise ConfigError(
            f"{data / recipe.train_split}: all images are of one class, {show(images.classes[0])}: "
            "expected two or more"
        )
    weights, info, notes = starting_point(recipe, images.classes, resumed)
    notes += _beside(images, data / recipe.train_split)
    validation = None
    if recipe.val_while_train:
        validation = open_labelled(info, data / recipe.val_split, notes.append)
    with ExitStack() as stack:
        stack.enter_context(output_folder(output))
        twin = open_twin(info, recipe, weights)
        batches = stack.enter_context(TrainingBatches(images, recipe, info, twin.rank, twin.ranks))
        start = _take_up(resumed, batches, recipe, twin)
        if begins:
            # What was kept so far is in another folder, and stays there.
            start = dataclasses.replace(start, best=None, kept=())
        elif start.best and (lost := _lost(output / start.best.file)):
            notes.append(f"{lost}: the best from here on is kept")
            start = dataclasses.replace(start, best=None)
        run = Run(twin, recipe, batches, validation, start, say)
        if twin.rank == 0:
            stack.enter_context(sole_run(output))
            # Another run may have ended here since we looked.
            if begins:
                check_output(output, force)
            elif resumed and resumed.changed != _changed(resumed.path):
                raise TrainingError(
                    f"{resumed.path}: another run has gone on from it meanwhile: give the same "
                    "command again to go on from where that one is"
                )
            for line in (*notes, _describe(run, info)):
                say(line)
            if begins:
                clear(output)
            steps = batches.steps_per_epoch
            reporter = Reporter(recipe, start, steps, report, say)
            stack.callback(reporter.log.close)
            checkpoints = Checkpoints(recipe, info, steps, start.step, twin.ending)
            run = dataclasses.replace(run, reporter=reporter, checkpoints=checkpoints)
        return train(run)


def _lost(best: Path) -> str:
    """Returns why a run has its best model no more, "" where it has."""
    if not best.is_file():
        return f"{best} is not there any more"
    try:
        read_model(best)
    except ConvertError as error:
        return str(error)
    return ""


def _beside(images: Source, folder: Path) -> Iterator[str]:
    """Yields what is said of the images to train on, beside how many there are."""
    if images.left_out:
        yield f"{folder}: {images.left_out}"
    sideways, seen = count_sideways(images, LOOKED_AT)
    if sideways:
        yield (
            f"{folder}: orientation stored: {sideways} of {seen} images that were looked at have "
            "an EXIF orientation; training and its validation take pixels as they are stored"
        )


def _check_pretrained(recipe: Recipe, output: Path) -> None:
    """Refuses weights to start from that would go with the run that is replaced.

    Raises:
        TrainingError: They would.
    """
    if not recipe.pretrained:
        return
    pretrained, _ = find_model(Path(recipe.pretrained))
    if any(os.path.exists(path) and path.samefile(pretrained) for path in model_files(output)):
        raise TrainingError(
            f"{recipe.pretrained} is of the run that --force would replace: copy it elsewhere, or "
            "name another --output"
        )


def starting_point(
    recipe: Recipe, classes: Sequence[str], resumed: Resumed | None
) -> tuple[Mapping[str, Array], ModelInfo, list[str]]:
    """Returns the weights to start with, what travels with them, and what is to be said of them.

    Raises:
        PvtError: They cannot be, or are of other classes.
    """
    if resumed is not None:
        info = model_info(recipe, classes, resumed.info)
        if resumed.info.labels and info.labels != resumed.info.labels:
            raise TrainingError(
                f"{resumed.path}: its run has the classes {_some(resumed.info.labels)}, the images "
                f"{_some(info.labels)}: give the --data-dir of that run, or take its weights alone "
                "with --pretrained"
            )
        names = [spec.name for spec in tensor_specs(info.config)]
        weights = {name: resumed.tensors[name] for name in names if name in resumed.tensors}
        return weights, info, [*resumed.notes]
    if not recipe.pretrained:
        info = model_info(recipe, classes)
        return initial_weights(info.config, recipe.seed), info, []
    path, taken = find_model(Path(recipe.pretrained))
    model = read_pretrained(path, recipe.pretrained_weights)
    info = model_info(recipe, classes, model.info)
    weights, notes = fit_weights(model, info, initial_weights(info.config, recipe.seed))
    model.check_unchanged()
    return weights, info, [*filter(None, [taken]), *model.remarks(), *notes]


def _take_up(
    resumed: Resumed | None, batches: TrainingBatches, recipe: Recipe, twin: Twin
) -> Standing:
    """Returns where the run stands; the twin then stands there too."""
    fresh = Standing(0, batches.images, batches.global_batch)
    if resumed is None:
        return fresh
    run = _placed(resumed, fresh, batches.steps_per_epoch)
    found, expected = (run.images, run.global_batch), (fresh.images, fresh.global_batch)
    if found != expected:
        raise TrainingError(
            f"{resumed.path}: its run has {counted(found[0], 'image')} and {found[1]:,} per "
            f"update, this one {expected[0]:,} and {expected[1]:,}: an epoch would be another; "
            "take the same images and batch size times workers, or take its weights alone with "
            "--pretrained"
        )
    done = run.step // batches.steps_per_epoch
    if run.to_validate and not (done and run.step % batches.steps_per_epoch == 0):
        raise TrainingError(
            f"{resumed.path}: an epoch of its run is to be validated, but step {run.step} ends none"
        )
    if done >= recipe.epoch_size + run.to_validate:
        raise TrainingError(
            f"{resumed.path}: its run has finished {counted(done, 'epoch')}, of "
            f"{recipe.epoch_size} that are asked for: give a larger --epoch-size"
        )
    twin.load_state(with_loss_scale(resumed.tensors, recipe))
    return run


def _placed(resumed: Resumed, fresh: Standing, steps_per_epoch: int) -> Standing:
    """Returns where a run stands among the images of this one.

    Raises:
        TrainingError: Another program's run has made more updates than its epochs have here.
    """
    run = resumed.run
    if isinstance(run, Standing):
        return run
    step = run.epochs * steps_per_epoch
    if run.updates > step:
        raise TrainingError(
            f"{resumed.path}: its run has made {counted(run.updates, 'update')} in "
            f"{counted(run.epochs, 'epoch')}, which would have {step} here, with {fresh.images} "
            f"images and {fresh.global_batch} per update: take the images and the batch size times "
            "workers of that run, or take its weights alone with --pretrained"
        )
    return dataclasses.replace(fresh, step=step)


def _describe(run: Run, info: ModelInfo) -> str:
    twin, recipe, batches, start = run.twin, run.recipe, run.batches, run.start
    steps, size = batches.steps_per_epoch, batches.global_batch
    validated = len(run.validation.labels) if run.validation else 0
    line = (
        f"{recipe.model} ({info.profile}): {counted(batches.images, 'image')} of "
        f"{counted(len(info.labels), 'class')}, {validated} to validate; "
        f"{counted(recipe.epoch_size, 'epoch')} of {counted(steps, 'step')} of "
        f"{counted(size, 'image')}"
    )
    wanted = recipe.batch_size * recipe.gradient_accumulation_steps * twin.ranks
    if size < wanted:
        line += f" (all there are: fewer than the batch size of {wanted})"
    if twin.ranks > 1:
        line += f", shared by {twin.ranks} workers"
    if start.step:
        epoch, step = divmod(start.step, steps)
        more = f" and {counted(step, 'step')}" if step else ""
        line += f"; going on after epoch {epoch}{more}"
    return line


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")
