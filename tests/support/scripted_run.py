"""Twins without a framework; and a run whose losses are given and whose files are noted."""

import dataclasses
import json
import os
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pvt_spec import ModelInfo
from pvt_train.recipe.keys import Recipe
from pvt_train.run.checkpoints import rotate
from pvt_train.run.log import RunLog
from pvt_train.run.loop import Outcome
from pvt_train.run.standing import Kept
from pvt_train.twin import Batch, StepResult

STEPS = 2
"""Updates in an epoch of these tests."""


class AddingTwin:
    """Adds 1 to the head's bias at each step; knows black from white by looking."""

    framework = "none"
    ending = ".ckpt"
    last: Any = None

    def __init__(self, weights: Any, rank: int = 0, ranks: int = 1, hook: Any = None):
        self.own = {name: np.array(array) for name, array in weights.items()}
        self.first = dict(weights)
        self.rank, self.ranks, self.hook = rank, ranks, hook
        self.steps = 0
        AddingTwin.last = self

    def step(self, batches: Any, learning_rate: float) -> StepResult:
        self.steps += 1
        self.own["head.bias"] += 1
        if self.hook:
            self.hook(self)
        return StepResult(1.0, 1.0, 1.0, True)

    def forward(self, images: np.ndarray) -> np.ndarray:
        white = images.mean(axis=(1, 2, 3))
        return np.stack([-white, white], axis=1).astype(np.float32)

    def averaged(self) -> Any:
        return nullcontext()

    def weights(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self.own.items()}

    def state(self) -> dict[str, np.ndarray]:
        return {**self.weights(), "updates": np.array(self.steps)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.steps = int(state["updates"])
        self.own = {name: state[name].copy() for name in self.own}

    def total(self, values: np.ndarray) -> np.ndarray:
        return values

    def first_not_finite(self, batch: Any) -> None:
        return None


class ScriptedTwin:
    """A twin whose state is the number of its steps; class 1 is white, once it has learnt it."""

    framework = "none"
    ending = ".ckpt"

    def __init__(self, losses: list[float], learns_at: int = 0, ranks: int = 1, rank: int = 0):
        self.losses, self.learns_at, self.ranks, self.rank = losses, learns_at, ranks, rank
        self.done, self.mean = 0, False
        self.rates: list[float] = []
        self.groups: list[Any] = []
        self.not_finite: str | None = None
        self.scale = 1.0

    def step(self, batches: Any, learning_rate: float) -> StepResult:
        loss = self.losses[self.done]
        self.done += 1
        self.rates.append(learning_rate)
        self.groups.append(batches)
        return StepResult(
            loss, 10 * loss, self.scale, updated=bool(np.isfinite(loss)) and loss >= 0
        )

    def forward(self, images: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(images), 2), np.float32)
        logits[:, 1] = images.mean(axis=(1, 2, 3))
        knows = self.done >= self.learns_at + self.mean * STEPS  # averages learn an epoch later
        return logits if knows else -logits

    @contextmanager
    def averaged(self) -> Any:
        self.mean = True
        yield
        self.mean = False

    def weights(self) -> dict[str, np.ndarray]:
        return {"steps": np.array(self.done), "averaged": np.array(self.mean)}

    def state(self) -> dict[str, np.ndarray]:
        return {"steps": np.array(self.done)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.done = int(state["steps"])

    def total(self, values: np.ndarray) -> np.ndarray:
        return values * self.ranks

    def first_not_finite(self, batch: Batch) -> str | None:
        return self.not_finite


class ScriptedBatches:
    """Batches that say where in the run they are."""

    steps_per_epoch = STEPS
    unreadable: Any = ()

    def epoch(self, epoch: int, start: int) -> Any:
        for step in range(start, STEPS):
            yield [(epoch, step)]


class MemoryStore:
    """Notes what is written, and touches the files."""

    def __init__(self) -> None:
        self.models: list[tuple[str, dict[str, Any], ModelInfo]] = []
        self.states: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def save_model(self, path: Path, weights: Any, info: ModelInfo, force: bool) -> None:
        assert force
        path.touch()
        self.models.append((path.name, weights, info))

    def save_state(self, path: Path, state: Any, info: ModelInfo, facts: Any) -> None:
        path.touch()
        self.states.append((state, json.loads(json.dumps(facts))))


@dataclasses.dataclass
class Done:
    """What a run left."""

    twin: ScriptedTwin
    store: MemoryStore
    lines: list[str]
    said: list[str]
    folder: Path
    recipe: Recipe
    outcome: Outcome | None = None

    def records(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / "log.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["kind"] == kind]


def write_log(folder: Path, *records: Mapping[str, Any], after: int = 0) -> None:
    """A log of these records, in place of what was after a step."""
    log = RunLog(folder, after)
    for record in records:
        log.write(record)
    log.close()


def stopping_at(step: int, number: int) -> ScriptedTwin:
    """A twin whose process gets a signal during a step."""
    twin = ScriptedTwin([1.0] * 8, learns_at=2)
    inner = twin.step

    def step_and_signal(*arguments: Any) -> StepResult:
        if twin.done == step:
            os.kill(os.getpid(), number)
        return inner(*arguments)

    twin.step = step_and_signal
    return twin


def kept_epochs(policy: str, most: int, scores: list[float | None]) -> tuple[list[int], list[int]]:
    """Epochs whose files stay, and epochs in the order that theirs went."""
    kept: tuple[Kept, ...] = ()
    gone: list[int] = []
    for epoch, top1 in enumerate(scores, start=1):
        kept, leaving = rotate(kept, Kept(epoch, top1, f"m-{epoch}.ckpt"), policy, most)
        gone += [one.epoch for one in leaving]
    return [one.epoch for one in kept], gone
