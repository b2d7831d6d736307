"""Runs of other programs go on here: the next step is the one that they would have made."""

import dataclasses
from typing import Any

import pytest
import torch

from convert import convert_file
from convert.options import Options
from convert.training.state import read_training
from pvt_spec import profile_numerics
from pvt_train.optim.counters import with_loss_scale
from tests.support.models import assert_same, random_weights
from tests.support.theirs import MindCVRun, OfficialRun
from tests.support.training import LR, batch, described, largest_difference, recipe

NEAR = 1e-6
"""Of a step's rate of 2e-3; float32 at work."""


def official(kind: str, path: Any, **changes: Any) -> OfficialRun:
    info = described(kind)
    run = OfficialRun(info, random_weights(info.config), **changes)
    for step in range(2):
        run.step(batch(info, step), LR[step])
    torch.save(run.saved(), path)
    return run


def mindcv(path: Any) -> MindCVRun:
    info = described("v2")
    info = dataclasses.replace(info, numerics=profile_numerics("mindcv", 2))
    run = MindCVRun(info, random_weights(info.config))
    for step in range(2):
        run.step(batch(info, step), LR[step])
    run.save(path)
    return run


def assert_goes_on(open_twin: Any, run: Any, path: Any, **changes: Any) -> None:
    """A twin that takes up the file makes the step that the run makes next."""
    state, how = read_training(path), recipe(**changes)
    info = dataclasses.replace(run.info, numerics=state.info.numerics)
    twin = open_twin(info, how)
    twin.load_state(with_loss_scale(state.tensors, how))
    assert_same(twin.weights(), {n: run.weights()[n] for n in twin.weights()})
    before = twin.weights()
    loss = run.step(batch(info, 2), LR[2])
    assert twin.step([batch(info, 2)], LR[2]).loss == pytest.approx(loss, rel=1e-5)
    assert largest_difference(twin.weights(), run.weights()) < NEAR
    assert largest_difference(twin.weights(), before) > 1e-4
    if how.ema:
        with twin.averaged():
            assert largest_difference(twin.weights(), run.averages) < NEAR


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["v1", "v2"])
@pytest.mark.parametrize("one_group", [False, True], ids=["timm's groups", "one group"])
def test_the_official_code(open_twin, tmp_path, kind, one_group):
    run = official(kind, tmp_path / "checkpoint.pth", one_group=one_group)
    how = {"weight_decay_filter": "disable"} if one_group else {}
    assert_goes_on(open_twin, run, tmp_path / "checkpoint.pth", **how)


@pytest.mark.sampled
def test_mindcv(open_twin, tmp_path):
    path = tmp_path / "pvt-1_2.ckpt"
    run = mindcv(path)
    assert_goes_on(open_twin, run, path, weight_decay_filter="disable", ema=True)


@pytest.mark.parametrize("ending", [".ckpt", ".pth"])
def test_what_is_moved_is_what_is_taken(tmp_path, ending):
    official("v1", tmp_path / "checkpoint.pth")
    moved = tmp_path / f"moved{ending}"
    convert_file(tmp_path / "checkpoint.pth", moved, options=Options(training_state=True))
    one, other = read_training(tmp_path / "checkpoint.pth"), read_training(moved)
    assert_same(other.tensors, one.tensors)
    assert (other.info, other.facts, other.handed_over) == (one.info, one.facts, True)


@pytest.mark.sampled
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_another_kind_of_loss_scale_takes_the_place_of_the_old(open_twin, scaled, kind):
    info, how = described("v2"), recipe(loss_scale_type=kind, loss_scale=64.0)
    before = recipe(loss_scale_type="dynamic" if scaled else "fixed", loss_scale=8.0)
    state = open_twin(info, before).state()
    twin = open_twin(info, how)
    twin.load_state(with_loss_scale(state, how))
    expected = 64.0 if kind == "fixed" or not scaled else 8.0
    assert twin.step([batch(info, 0)], 1e-3).loss_scale == expected
