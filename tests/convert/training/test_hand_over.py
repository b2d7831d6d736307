"""``convert --training-state``: whole states are moved as they are, other programs' understood."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert import ConvertError, convert_file, load_model
from convert.formats.table import read_file
from convert.options import Changes, Given, OnnxOptions, Options
from convert.training.checkpoint import save_training
from convert.training.state import read_training
from pvt_spec import FileExists
from tests.support.converting import refused, succeed
from tests.support.messages import naming, tells
from tests.support.models import GOLDEN, SMALL, assert_same, info_of, random_weights
from tests.support.theirs import OfficialRun
from tests.support.training import FACTS, batch, described, full_state

MOVE = Options(training_state=True)
TENSORS = len(random_weights(SMALL["v1"]))
MINDCV = GOLDEN / "mindcv_v1_training_ema/weights.ckpt"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    save_training(path, full_state("v1"), info_of(SMALL["v1"]), FACTS)
    return path


def theirs(path: Path, kind: str = "v1", **more: Any) -> OfficialRun:
    """A checkpoint of the official code after one update."""
    info = described(kind)
    run = OfficialRun(info, random_weights(info.config))
    run.step(batch(info, 0), 1e-3)
    torch.save(run.saved(**more), path)
    return run


class TestOurs:
    def test_there_and_back_are_the_same_bytes(self, state, tmp_path):
        there, back = tmp_path / "there.pth", tmp_path / "back.ckpt"
        said = succeed(state, there, "--training-state")
        succeed(there, back, "--training-state")
        assert back.read_bytes() == state.read_bytes()
        assert tells(said, "moment1", f"x{TENSORS}", "ema", "updates", "there.pth", "--resume")
        moved = read_training(there)
        assert_same(moved.tensors, full_state("v1"))
        assert (moved.info, moved.facts) == (info_of(SMALL["v1"]), FACTS)

    def test_a_runs_folder_stands_for_its_state(self, state, tmp_path):
        succeed(tmp_path, tmp_path / "there.pth", "--training-state")
        assert_same(read_training(tmp_path / "there.pth").tensors, full_state("v1"))

    def test_without_the_option_the_state_stays_and_that_is_said(self, state, tmp_path):
        said = succeed(state, tmp_path / "model.pth")
        assert tells(said, "moment1", "--training-state")
        assert_same(load_model(tmp_path / "model.pth")[0], random_weights(SMALL["v1"]))
        assert read_file(tmp_path / "model.pth").places.keys() == {"state_dict"}

    def test_the_report_has_it(self, state, tmp_path):
        report = tmp_path / "report.json"
        succeed(state, tmp_path / "a.pth", "--training-state", "--report", report)
        assert json.loads(report.read_text())["training_state"]["moment2"] == TENSORS

    def test_what_is_there_stays_without_force(self, state, tmp_path):
        there = tmp_path / "there.pth"
        there.write_bytes(b"mine")
        with pytest.raises(FileExists):
            convert_file(state, there, options=MOVE)
        assert there.read_bytes() == b"mine"
        convert_file(state, there, options=Options(training_state=True, force=True))
        assert_same(read_training(there).tensors, full_state("v1"))

    def test_not_onto_itself(self, state):
        with pytest.raises(ConvertError, match=naming("last.ckpt")):
            convert_file(state, state, options=Options(training_state=True, force=True))

    @pytest.mark.parametrize("target", ["a.onnx", "a.safetensors", "folder"])
    def test_formats_that_hold_none(self, state, tmp_path, target):
        with pytest.raises(ConvertError, match=naming(".ckpt", ".pth")):
            convert_file(state, tmp_path / target, options=MOVE)
        assert not (tmp_path / target).exists()

    @pytest.mark.parametrize(
        ("asked", "flag"),
        [
            ({"changes": Changes(dtype="float16")}, "--dtype"),
            ({"given": Given(weights="ema")}, "--weights"),
            ({"options": Options(training_state=True, dialect="mindcv")}, "--to-dialect"),
            (
                {"options": Options(training_state=True, onnx=OnnxOptions(opset=17))},
                "--opset",
            ),
        ],
    )
    def test_it_is_moved_as_it_is(self, state, tmp_path, asked, flag):
        with pytest.raises(ConvertError, match=naming(flag)):
            convert_file(state, tmp_path / "a.pth", **{"options": MOVE, **asked})
        assert not (tmp_path / "a.pth").exists()

    def test_a_damaged_one_is_refused_and_leaves_nothing(self, state, tmp_path):
        state.write_bytes(state.read_bytes()[:-100])
        with pytest.raises(ConvertError, match=naming("last.ckpt")):
            convert_file(state, tmp_path / "a.pth", options=MOVE)
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]

    def test_weights_alone_are_no_state(self, tmp_path):
        source = GOLDEN / "official_v2_small/weights.pth"
        said = refused(tmp_path, source, tmp_path / "a.ckpt", "--training-state")
        assert tells(said, "--pretrained", "weights.pth")


class TestMindCVs:
    @pytest.fixture
    def named(self, tmp_path: Path) -> Path:
        """The file under the name that MindCV's callback gives it."""
        return Path(shutil.copy(MINDCV, tmp_path / "pvt_tiny-3_2.ckpt"))

    def test_all_of_it_is_taken(self, named, tmp_path):
        state, file = read_training(named), read_file(MINDCV).tensors
        assert state.handed_over and state.facts == {
            "recipe": {"profile": "mindcv", "opt": "adamw", "ema": True},
            "run": {"epochs": 3},
        }
        for part, theirs_ in (("moment1.", "adam_m."), ("moment2.", "adam_v."), ("ema.", "ema.")):
            array = state.tensors[f"{part}block2.1.attn.kv.weight"]
            assert np.array_equal(array, file[f"{theirs_}Blocks.1.1.attn.kv.weight"])
            assert state.tensors[f"{part}pos_embed1"].dtype == np.float32
        assert state.tensors["updates"] == 2 and len(state.tensors) == 4 * 129 + 1
        said = succeed(named, tmp_path / "a.pth", "--training-state")
        assert tells(said, "mindcv", "pos_embed1", "learning_rate", "--config", "3")

    def test_the_epoch_may_be_in_it(self):
        assert read_training(MINDCV).facts["run"] == {"epochs": 1}

    @pytest.mark.parametrize(
        ("changes", "facts"),
        [
            ({"epoch_num": None}, ("NAME-EPOCH_STEP.ckpt",)),
            ({"beta2_power": None}, ("nn.AdamWeightDecay", 2)),
            ({"beta2_power": np.float32(0), "global_step": None}, ("global_step",)),
            ({"updates": np.float32(4)}, (4, 2)),
            ({"adam_v.norm.gamma": None}, ("moment2", "gamma")),
            ({"adam_m.norm.gamma": np.zeros(3, np.float32)}, ("moment1", "gamma")),
        ],
        ids=lambda value: next(iter(value), None),
    )
    def test_what_is_not_known_is_not_guessed(self, tmp_path, changes, facts):
        file = read_file(MINDCV).tensors
        changed = {n: a for n, a in {**file, **changes}.items() if a is not None}
        path = tmp_path / "weights.ckpt"
        write(path, changed)
        with pytest.raises(ConvertError, match=naming("weights.ckpt", *facts)):
            read_training(path)

    def test_a_dynamic_loss_scale_goes_on(self, tmp_path):
        more = {"current_iterator_step": np.int32(8), "last_overflow_iterator_step": np.int32(3)}
        path = tmp_path / "weights.ckpt"
        write(path, {**read_file(MINDCV).tensors, **more, "scale_sense": np.float32(512)})
        state = read_training(path)
        assert (state.tensors["loss_scale"], state.tensors["good_steps"]) == (512, 4)
        assert state.facts["recipe"]["loss_scale_type"] == "dynamic"

    def test_without_correction_late_updates_are_adamws(self, tmp_path):
        file = {n: a for n, a in read_file(MINDCV).tensors.items() if n != "beta2_power"}
        path = tmp_path / "weights.ckpt"
        late = {"global_step": np.int32([20_000]), "updates": np.float32(20_000)}
        write(path, {**file, **late})
        assert read_training(path).tensors["updates"] == 20_000


def write(path: Path, tensors: Any) -> None:
    from convert.formats import ckpt

    with path.open("wb") as stream:
        ckpt.write(stream, {name: np.asarray(array) for name, array in tensors.items()}, {})


def groups(saved: Any) -> Any:
    return saved["optimizer"]["param_groups"]


def states(saved: Any) -> Any:
    return saved["optimizer"]["state"]


class TestOfficial:
    @pytest.mark.sampled
    @pytest.mark.parametrize("kind", SMALL)
    def test_moments_are_of_their_tensors(self, tmp_path, kind):
        run = theirs(tmp_path / "a.pth", kind)
        state = read_training(tmp_path / "a.pth")
        for name, parameter in run.model.named_parameters():
            kept = run.optimizer.state[parameter]
            assert np.array_equal(state.tensors[f"moment1.{name}"], kept["exp_avg"]), name
            assert np.array_equal(state.tensors[f"moment2.{name}"], kept["exp_avg_sq"]), name
        assert state.tensors["updates"] == 1
        assert state.facts["run"] == {"epochs": 1}
        shown = {"profile": "official", "opt": "adamw", "weight_decay": 0.5, "eps": 1e-8}
        shown |= {"weight_decay_filter": "vectors_and_cls_token", "ema": False}
        assert state.facts["recipe"] == shown

    def test_the_order_of_its_groups_is_as_it_says(self, tmp_path):
        theirs(tmp_path / "a.pth")
        saved = torch.load(tmp_path / "a.pth", weights_only=False)
        groups(saved).reverse()
        torch.save(saved, tmp_path / "b.pth")
        one, other = (read_training(tmp_path / name) for name in ("a.pth", "b.pth"))
        assert_same(other.tensors, one.tensors)

    def test_its_scaler_and_averages_are_taken(self, tmp_path):
        scaler = {"scale": 4096.0, "growth_factor": 2.0, "backoff_factor": 0.5}
        scaler |= {"growth_interval": 2000, "_growth_tracker": 7}
        averaged = {n: torch.ones_like(t) for n, t in OfficialRun(
            described("v2"), random_weights(SMALL["v2"])).saved()["model"].items()}  # fmt: skip
        theirs(tmp_path / "a.pth", "v2", scaler=scaler, model_ema=averaged)
        state = read_training(tmp_path / "a.pth")
        assert (state.tensors["loss_scale"], state.tensors["good_steps"]) == (4096, 7)
        assert (state.tensors["ema.head.weight"] == 1).all()
        assert state.facts["recipe"]["ema"] is True
        assert state.facts["recipe"]["loss_scale_type"] == "dynamic"

    def test_without_the_option_the_optimizer_stays_and_that_is_said(self, tmp_path):
        theirs(tmp_path / "a.pth")
        assert tells(
            succeed(tmp_path / "a.pth", tmp_path / "b.ckpt"), "optimizer", "--training-state"
        )

    @pytest.mark.parametrize(
        ("change", "facts"),
        [
            (lambda saved: saved.pop("epoch"), ("epoch", "--pretrained")),
            (lambda saved: states(saved).clear(), ("state", "--pretrained")),
            (lambda saved: groups(saved).pop(), ("groups", "once")),
            (lambda saved: groups(saved)[0]["params"].pop(), ("groups",)),
            (lambda saved: groups(saved)[0].update(weight_decay=0.5), ("groups",)),
            (lambda saved: groups(saved)[1].update(betas=(0.9, 0.95)), (0.95,)),
            (lambda saved: groups(saved)[1].update(amsgrad=True), ("amsgrad",)),
            (lambda saved: groups(saved)[0].update(eps="x"), ("eps",)),
            (lambda saved: states(saved)[3].update(step=torch.tensor(9.0)), (1, 9)),
            (lambda saved: states(saved)[3].pop("exp_avg"), ("exp_avg", 3)),
            (lambda saved: saved.update(optimizer={"param_groups": 3}), ("param_groups",)),
            (lambda saved: saved.update(scaler={"scale": 8.0}), ("growth_factor",)),
            (lambda saved: setattr(saved["args"], "opt", "sgd"), ("sgd", "adamw")),
        ],
    )  # fmt: skip
    def test_what_is_not_known_is_not_guessed(self, tmp_path, change, facts):
        path = tmp_path / "a.pth"
        saved = theirs(path).saved()
        change(saved)
        torch.save(saved, path)
        with pytest.raises(ConvertError, match=naming("a.pth", *facts)):
            read_training(path)
