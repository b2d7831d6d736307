"""A run that takes no time."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import model_info
from pvt_train.run.loop import Run, train
from pvt_train.run.records import Records
from pvt_train.run.state import RunState
from tests.support.scripted_run import (
    STEPS,
    Done,
    MemoryStore,
    ScriptedBatches,
    ScriptedTwin,
)


@pytest.fixture
def go(tmp_path) -> Any:
    """Runs the loop with a twin that has a loss for each step, in one folder."""
    images = np.stack([np.full((3, 32, 32), white, np.float32) for white in (-1, -1, 1, 1)])

    def run(
        twin: ScriptedTwin,
        start: RunState | None = None,
        batches: Any = None,
        store: MemoryStore | None = None,
        **keys: Any,
    ):
        recipe = dataclasses.replace(
            Recipe("pvt_nano", epoch_size=len(twin.losses) // STEPS, batch_size=2, warmup_epochs=0),
            **keys,
        )
        info = model_info(recipe, ["0", "1"])
        done = Done(twin, store or MemoryStore(), [], [], tmp_path, recipe)
        start = start or RunState(0, 4, 2)
        labelled = SimpleNamespace(load=lambda i: images[i], labels=np.array([0, 0, 1, 1]))
        validation = labelled if recipe.val_while_train else None
        batches = batches or ScriptedBatches()
        what = Run(recipe, info, batches, validation, 1, start, done.said.append)

        def open_records() -> Records:
            return Records(
                tmp_path, recipe, info, start, STEPS, done.store, done.lines.append,
                done.said.append,
            )  # fmt: skip

        run.done = done  # of a run that raises
        done.outcome = train(twin, what, open_records)
        return done

    return run
