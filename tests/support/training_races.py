"""Two trainings into one folder, and one that is killed and gone on with: so many times.

``python -m tests.support.training_races ROUNDS KILLED [KIND…]`` prints what came of each kind. Runs
are forked from a process that has imported everything, and their twin takes no time.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorboardX.summary  # noqa: F401, as no fork is to import it
from PIL import Image

from convert import load_model
from convert.training.checkpoint import load_training
from pvt_spec import PvtError
from pvt_train.command_line import read_recipe
from pvt_train.run.launch import train_recipe
from pvt_train.run.log import read_log
from pvt_train.twin import StepResult
from tests.support.scripted_run import AddingTwin

STEPS, SIZE = 2, 32

EPOCHS = {"new": 1, "force": 1, "resume": 2, "killed": 3}
"""How long the runs of each kind are."""


class SeedTwin(AddingTwin):
    """A twin whose losses are its seed, and whose head adds that and the images at each step."""

    def __init__(self, recipe: Any, weights: Any):
        super().__init__(weights)
        self.seed = recipe.seed

    def step(self, batches: Any, learning_rate: float) -> StepResult:
        self.steps += 1
        seen = float(batches[0].pixels.mean()) / 1000
        self.own["head.bias"] += np.float32([self.seed, seen])
        return StepResult(float(self.seed), seen, 1.0, True)

    def forward(self, images: np.ndarray) -> np.ndarray:
        return super().forward(images) * np.float32(self.steps % 3 + 0.5)


def write_images(folder: Path) -> Path:
    """Two classes of four images to train on and two to validate with; returns the folder."""
    for split, count in (("train", 2 * STEPS), ("val", 2)):
        for name, value in (("black", 20), ("white", 230)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                path = folder / split / name / f"{i}.png"
                Image.new("RGB", (SIZE, SIZE), (value + i,) * 3).save(path)
    return folder


def train(data: Path, output: Path, kind: str, seed: int = 1, resume: bool = False) -> str:
    """Trains into a folder, or goes on there; says how that ended."""
    keys: dict[str, Any] = {"ckpt_path": str(output)}
    if not resume:
        keys = {
            "model": "pvt_nano", "image_resize": SIZE, "warmup_epochs": 0, "batch_size": 4,
            "num_parallel_workers": 0, "epoch_size": EPOCHS[kind], "auto_augment": None,
            "keep_checkpoint_max": 2, "log_interval": 1, "seed": seed,
            "data_dir": str(data), "ckpt_save_dir": str(output),
        }  # fmt: skip
    quiet: Callable[[str], None] = lambda line: None  # noqa: E731
    try:
        recipe, resumed = read_recipe(None, keys)
        twin = lambda info, recipe, weights: SeedTwin(recipe, weights)  # noqa: E731
        train_recipe(recipe, resumed, kind == "force", twin, quiet, quiet)
    except PvtError as error:
        return type(error).__name__
    return "trained"


def fork(work: Callable[[], str]) -> tuple[int, int]:
    """Starts a process that does this; returns its number and where it says how that ended."""
    there, here = os.pipe()
    if child := os.fork():
        os.close(here)
        return child, there
    said = "FAULT"
    try:
        said = work()
    except BaseException as error:
        said = f"FAULT {error!r}"
    finally:
        os.write(here, said.encode())
        os._exit(0)


def said_by(process: tuple[int, int]) -> str:
    """Returns how a process ended, once it has."""
    child, there = process
    with os.fdopen(there) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


def whose(output: Path, epochs: int) -> set[int]:
    """The seeds of the runs of which anything is in a folder; 0 is of no run."""
    state, _, facts = load_training(output / "last.ckpt")
    found = {facts["recipe"]["seed"], state["head.bias"][0] / (epochs * STEPS)}
    for path in output.glob("pvt_nano-*.ckpt"):
        epoch = int(path.stem.rpartition("-")[2])
        found.add(load_model(path)[0]["head.bias"][0] / (epoch * STEPS))
    best, info = load_model(output / "best.ckpt")
    found.add(best["head.bias"][0] / (int(info.provenance["epoch"]) * STEPS))
    records = [*read_log(output)]
    found |= {record["loss"] for record in records}
    if [record["step"] for record in records if record["kind"] == "step"] != [
        *range(1, epochs * STEPS + 1)
    ]:
        found.add(0)
    return found


def race(folder: Path, rounds: int, kind: str, choose: random.Random) -> Counter[str]:
    """What came of so many rounds in which two train into one folder at once.

    Args:
        folder: An empty folder.
        rounds: How many.
        kind: ``"new"``, ``"force"``, or ``"resume"``, where both go on with one run.
        choose: What chooses how much later one of them starts.
    """
    seen: Counter[str] = Counter()
    data = write_images(folder / "data")
    begun = folder / "begun"
    if kind == "resume":
        stop_after(data, begun)
    for number in range(rounds):
        output = folder / f"run{number}"
        if kind == "resume":
            shutil.copytree(begun, output)
        elif kind == "force":
            output.mkdir()
        late = choose.choice([0, 0, choose.uniform(0, 0.1)])

        def work(seed: int, late: float, output: Path = output) -> str:
            time.sleep(late)
            return train(data, output, kind, seed, kind == "resume")

        two = [fork(lambda seed=seed, wait=wait: work(seed, wait))  # type: ignore[misc]
               for seed, wait in ((1, 0), (2, late))]  # fmt: skip
        said = [said_by(process) for process in two]
        seen["+".join(sorted(said))] += 1
        winners = whose(output, EPOCHS[kind])
        seen["MIXED"] += len(winners) != 1
        if kind == "new" and said[int(winners.pop()) - 1] != "trained":
            seen["OVERWRITTEN"] += 1
        seen["LEFT"] += any(".tmp" in path.name or ".lock" in path.name
                            for path in output.iterdir())  # fmt: skip
        shutil.rmtree(output)
    return +seen


def stop_after(data: Path, output: Path) -> None:
    """Trains until some state is saved, and is killed then."""
    child, there = fork(lambda: train(data, output, "resume"))
    while not (output / "last.ckpt").exists():
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    said_by((child, there))


def kill(folder: Path, rounds: int, choose: random.Random) -> Counter[str]:
    """What came of runs that were killed up to three times each and gone on with."""
    seen: Counter[str] = Counter()
    data = write_images(folder / "data")
    straight = folder / "straight"
    began = time.perf_counter()
    assert said_by(fork(lambda: train(data, straight, "killed"))) == "trained"
    long = time.perf_counter() - began
    expected = contents(straight)
    for number in range(rounds):
        output, said = folder / f"run{number}", ""
        for _ in range(choose.randint(1, 3)):
            if not said:
                said = some_of(data, output, choose.uniform(0, long))
                seen[said or "killed"] += 1
        if not finished(output):
            resume = (output / "last.ckpt").exists()
            ended = said_by(fork(lambda: train(data, output, "killed", resume=resume)))  # noqa: B023
            seen[f"{'gone on' if resume else 'begun again'}: {ended}"] += 1
        found = contents(output)
        seen["same" if expected.items() <= found.items() else "OTHER"] += 1
        for name in found.keys() - expected.keys():
            seen[f"{name} beside"] += 1
        shutil.rmtree(output)
    return seen


def finished(output: Path) -> bool:
    """Whether a run's state says that nothing is left of it."""
    if not (output / "last.ckpt").exists():
        return False
    run = load_training(output / "last.ckpt")[2]["run"]
    return bool(run["step"] == EPOCHS["killed"] * STEPS and not run["to_validate"])


def some_of(data: Path, output: Path, seconds: float) -> str:
    """Trains, or goes on, for so long, and is killed; returns how it ended if it was quicker."""
    resume = (output / "last.ckpt").exists()
    process = fork(lambda: train(data, output, "killed", resume=resume))
    time.sleep(seconds)
    os.kill(process[0], signal.SIGKILL)
    return said_by(process)


def contents(output: Path) -> dict[str, Any]:
    """What is in a run's folder, but for times and places."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in output.iterdir()
                             if not path.name.startswith("events.")}  # fmt: skip
    state, _, facts = load_training(output / "last.ckpt")
    own = {key: value for key, value in facts["recipe"].items() if not key.startswith("ckpt_")}
    found["last.ckpt"] = {name: array.tobytes() for name, array in state.items()}, facts["run"], own
    times = ("images_per_second", "seconds")
    found["log.jsonl"] = [
        {key: value for key, value in record.items() if key not in times}
        for record in read_log(output)
    ]
    return found


def main() -> None:
    rounds, kills = map(int, sys.argv[1:3])
    for kind in sys.argv[3:] or ("new", "force", "resume"):
        with tempfile.TemporaryDirectory() as folder:
            print(kind, dict(race(Path(folder), rounds, kind, random.Random(0))), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print("killed", dict(kill(Path(folder), kills, random.Random(0))), flush=True)


if __name__ == "__main__":
    main()
