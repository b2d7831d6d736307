"""States of other programs that say what no training does: one error, and nothing bare."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert import save_model
from convert.formats.ckpt import write
from convert.formats.pth.file import write as write_pth
from convert.training.state import read_training
from convert.training.theirs import dynamic
from pvt_spec import PvtError
from pvt_spec.errors import ConvertError
from pvt_train.run.launch import load_resumed
from pvt_train.run.standing import HandedOver
from pvt_train.twin import TrainingError
from tests.support.messages import naming
from tests.support.models import SMALL, info_of, random_weights
from tests.support.theirs import OfficialRun

CONFIG = SMALL["v2"]
STRANGE: list[Any] = [None, 10**30, "x", (0.9, torch.zeros(2))]
PLACES = [
    ("epoch",), ("optimizer",), ("optimizer", "state"), ("optimizer", "state", 3),
    ("optimizer", "state", 3, "step"), ("optimizer", "state", 3, "exp_avg"),
    ("optimizer", "param_groups"), ("optimizer", "param_groups", 0),
    *(("optimizer", "param_groups", 0, key) for key in ("betas", "amsgrad", "eps", "params")),
    ("scaler", "scale"), ("scaler", "_growth_tracker"), ("scaler", "growth_interval"), ("model",),
]  # fmt: skip
SCALER = {
    "scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000,
    "_growth_tracker": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    run = OfficialRun(info_of(CONFIG), random_weights(CONFIG))
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    return run.saved(scaler=SCALER)


def read(path: Path) -> None:
    """Reads a state as a run that goes on; whatever is raised is ours."""
    try:
        load_resumed(path)
    except PvtError as error:
        assert path.name in str(error)


@pytest.mark.sampled
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_an_optimizers_state_of_anything(place, official, tmp_path) -> None:
    path = tmp_path / "a.pth"
    for value in STRANGE:
        state = within = copy.deepcopy(official)
        for key in place[:-1]:
            within = within[key]
        within[place[-1]] = value
        torch.save(state, path)
        read(path)


@pytest.mark.parametrize("change", ["twice", "negative", "shifted"])
def test_no_moment_is_left_out_for_its_number(change, official, tmp_path) -> None:
    state = copy.deepcopy(official)
    optimizer = state["optimizer"]
    if change == "shifted":
        optimizer["state"] = {place + 1000: each for place, each in optimizer["state"].items()}
    for group in optimizer["param_groups"] if change != "shifted" else ():
        group["params"] = [-1 if change == "negative" else 0] * len(group["params"])
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ConvertError, match=naming("a.pth", "optimizer", "groups", "once")):
        read_training(tmp_path / "a.pth")


@pytest.mark.parametrize("steps", [1e308, 2**1024 - 1, -1, float("nan")])
def test_updates_are_a_number_of_them(steps, official, tmp_path) -> None:
    state = copy.deepcopy(official)
    for each in state["optimizer"]["state"].values():
        each["step"] = steps
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ConvertError, match=naming("step")):
        read_training(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "name", ["beta2_power", "global_step", "updates", "scale_sense", "current_iterator_step"]
)
def test_counters_of_mindcvs_of_anything(name, tmp_path) -> None:
    save_model(
        tmp_path / "m.ckpt", random_weights(CONFIG), info_of(CONFIG, "mindcv"), dialect="mindcv"
    )
    from convert.formats.ckpt import read as read_ckpt

    weights = read_ckpt(tmp_path / "m.ckpt").tensors
    held = {f"{part}{n}": a for part in ("", "adam_m.", "adam_v.") for n, a in weights.items()}
    counters = {
        "beta2_power": 0.999, "global_step": 1, "updates": 1, "scale_sense": 1024,
        "current_iterator_step": 2,
    }  # fmt: skip
    path = tmp_path / "a-1_1.ckpt"
    for value in (-1.0, 1e38, np.nan, 0.0):
        said = {n: np.array([v], np.float32) for n, v in {**counters, name: value}.items()}
        with path.open("wb") as stream:
            write(stream, {**held, **said}, {})
        read(path)
        if not 0 <= value < 1e30:
            with pytest.raises(ConvertError, match=naming(name)):
                read_training(path)


def test_what_no_run_stands_at() -> None:
    for epochs, updates in ((-1, 0), (1, -1), (10**20, 1), (1, 10**20)):
        with pytest.raises(TrainingError):
            HandedOver(epochs, updates)
    for scale, good in ((0.5, 1), (float("nan"), 1), (2.0, -1)):
        with pytest.raises(ConvertError):
            dynamic(scale, good)


def test_a_counter_that_is_complex(tmp_path) -> None:
    weights = random_weights(CONFIG)
    held = {f"{part}{n}": a for part in ("", "adam_m.", "adam_v.") for n, a in weights.items()}
    path = tmp_path / "a.pth"
    with path.open("wb") as stream:
        write_pth(stream, {**held, "global_step": np.array(1 + 1j)}, {})
    with pytest.raises(ConvertError, match=naming("global_step")):
        read_training(path)
