"""Data parallel training on a CPU: two launched workers against one with the same images."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pvt_train.twin import TrainingError
from tests.support import training
from tests.support.messages import naming
from tests.support.processes import ROOT, free_port, launch_environment, run_python
from tests.support.training import FRAMEWORKS, LR, described, largest_difference, recipe

SECONDS = 240


@pytest.fixture(scope="module", params=FRAMEWORKS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker and two workers ended with: ``RANKS_RANK.npz`` and ``.txt``."""
    path = tmp_path_factory.mktemp("workers")
    script = ROOT / "tests/support/parallel_worker.py"
    how = {"env": launch_environment(), "timeout": SECONDS}
    run_python(script, request.param, path, "alone", **how)
    launchers = {
        "mindspore": (
            "msrun", "--worker_num=2", "--local_worker_num=2", f"--master_port={free_port()}",
            "--join=True", f"--log_dir={path}/log",
        ),
        "torch": ("torchrun", "--nproc_per_node=2", f"--master_port={free_port()}"),
    }  # fmt: skip
    launcher, *options = launchers[request.param]
    binary = Path(sys.executable).with_name(launcher)
    run_python(binary, *options, script, request.param, path, **how)
    return path


def ended_with(folder: Path, name: str) -> dict[str, Any]:
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


@pytest.mark.long
def test_two_workers_train_as_one_with_all_images(folder):
    alone, both = ended_with(folder, "1_0"), ended_with(folder, "2_0")
    assert both.pop("results") == pytest.approx(alone.pop("results"), rel=1e-5)
    for ended in (alone, both):
        ended.pop("total")
    assert list(both) == list(alone)
    weights = {n: a for n, a in alone.items() if not n.startswith(("ema.", "moment")) and a.ndim}
    assert largest_difference(weights, both) < 1e-5
    assert int(both["updates"]) == len(LR)


def test_workers_hold_the_same_bits(folder):
    first, second = ended_with(folder, "2_0"), ended_with(folder, "2_1")
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


def test_totals_are_summed_in_float64(folder):
    assert list(ended_with(folder, "1_0")["total"]) == [1e16, 1.0]
    # The next number after 1e16 in float64, and nothing beside it in float32.
    assert list(ended_with(folder, "2_0")["total"]) == [1e16 + 2, 3.0]


def test_states_that_differ_are_refused_by_all(folder):
    for rank in range(2):
        message = (folder / f"2_{rank}.txt").read_text()
        assert message.startswith("states of worker 1 differ from worker 0's in head.bias: ")
    assert (folder / "1_0.txt").read_text() == ""


@pytest.fixture
def started_by_nobody(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without what a launcher leaves in the environment."""
    launched = ("MS_", "RANK", "OMPI_", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    for name in [name for name in os.environ if name.startswith(launched)]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_without_a_launcher_it_says_what_to_do(started_by_nobody, open_twin):
    launcher = {"mindspore": "msrun", "torch": "torchrun"}[open_twin.keywords["framework"]]
    with pytest.raises(TrainingError, match=naming(launcher, "--distribute")):
        open_twin(described("v2"), recipe(distribute=True))


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        ("mindspore", "MS_WORKER_NUM"),
        ("mindspore", "OMPI_COMM_WORLD_SIZE"),
        ("torch", "WORLD_SIZE"),
    ],
)
def test_workers_that_are_not_wanted_are_refused(started_by_nobody, framework, name):
    started_by_nobody.setenv(name, "8")
    with pytest.raises(TrainingError, match=naming("8", "distribute")):
        training.open_twin(described("v2"), recipe(), framework=framework)
