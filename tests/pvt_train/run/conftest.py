"""A run that takes no time."""

import dataclasses
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from pvt_data.sources.labels import LabelledImages
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import model_info
from pvt_train.run import checkpoints, stopping
from pvt_train.run.checkpoints import Checkpoints
from pvt_train.run.loop import Run, train
from pvt_train.run.reporter import Reporter
from pvt_train.run.standing import Standing
from tests.support.scripted_run import (
    STEPS,
    Done,
    MemoryStore,
    ScriptedBatches,
    ScriptedTwin,
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch) -> None:
    """Whoever stops does not wait for a second signal of the same request."""
    monkeypatch.setattr(stopping, "SAME_SECONDS", 0.0)


@pytest.fixture
def go(tmp_path, monkeypatch) -> Any:
    """Runs the loop with a twin that has a loss for each step, in one folder."""
    images = np.stack([np.full((3, 32, 32), white, np.float32) for white in (-1, -1, 1, 1)])

    def run(
        twin: ScriptedTwin,
        start: Standing | None = None,
        batches: Any = None,
        store: MemoryStore | None = None,
        load: Any = lambda number: images[number],
        tell: Any = None,
        **keys: Any,
    ):
        recipe = dataclasses.replace(
            Recipe("pvt_nano", epoch_size=len(twin.losses) // STEPS, batch_size=2, warmup_epochs=0),
            ckpt_save_dir=str(tmp_path),
            **keys,
        )
        info = model_info(recipe, ["0", "1"])
        done = Done(twin, store or MemoryStore(), [], [], tmp_path, recipe)
        start = start or Standing(0, 4, 2)
        labelled = LabelledImages(load, np.array([0, 0, 1, 1]), lambda i: f"{i}.png")
        validation = labelled if recipe.val_while_train else None
        batches = batches or ScriptedBatches()
        monkeypatch.setattr(checkpoints, "save_model", done.store.save_model)
        monkeypatch.setattr(checkpoints, "save_training", done.store.save_state)
        run.done = done  # of a run that raises
        tell = tell or done.said.append
        what = Run(twin, recipe, batches, validation, start, tell)
        with ExitStack() as stack:
            if not twin.rank:
                reporter = Reporter(recipe, start, STEPS, done.lines.append, tell)
                stack.callback(reporter.log.close)
                files = Checkpoints(recipe, info, STEPS, start.step, twin.ending)
                what = dataclasses.replace(what, reporter=reporter, checkpoints=files)
            done.outcome = train(what)
        return done

    return run
