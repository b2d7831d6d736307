"""``parity train-step`` says *same* of both twins' steps, and names the first tensor of another."""

import json
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner

from parity.command_line import main
from parity.training.figures import Figure, backward_order
from parity.training.report import verdict
from parity.training.run import Trial, TwinFound, compare_training
from tests.support.training import batch, described, detach, open_twin, recipe

FULL = {
    "ema": True,
    "ema_decay": 0.9,
    "clip_grad": True,
    "clip_value": 0.3,
    "freeze": ("patch_embed1.*",),
    "layer_decay": 0.8,
    "gradient_accumulation_steps": 2,
    "loss_scale": 1024.0,
}


def trial(kind: str, steps: int = 2, **changes: object) -> Trial:
    info, how = described(kind), recipe(**changes)
    k = how.gradient_accumulation_steps
    groups = [[batch(info, k * step + i) for i in range(k)] for step in range(steps)]
    state = open_twin(info, how, framework="torch").state()
    return Trial(info, how, state, groups, [1e-3, 5e-3, 2e-3][:steps])


def compare(given: Trial, *frameworks: str) -> dict:
    twins = {name: open_twin(given.info, given.recipe, framework=name) for name in frameworks}
    return {each.name: each for each in compare_training(given, twins, lambda done, all: None)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "changes"),
    [("v2", FULL), ("v1", {"opt": "lamb"}), ("linear", {"opt": "momentum", "use_nesterov": True})],
)
def test_both_twins_make_the_references_steps(kind, changes):
    given = trial(kind, **changes)
    for found in compare(given, "mindspore", "torch").values():
        assert found.same, (found.first_outside, found.first_adrift)
        assert found.losses == pytest.approx(found.expected, rel=1e-6)
        kinds = {figure.kind for figure in found.figures}
        assert ("average" in kinds) == given.recipe.ema
        vanishing = {figure.tensor for figure in found.figures if figure.vanishes}
        assert {f"block{i}.0.attn.kv.bias (keys)" for i in (1, 2, 3, 4)} <= vanishing
        assert max(figure.times for figure in found.figures) > 0.1


def test_a_verdict_says_the_most_of_all_that_the_table_shows():
    loss = Figure(1, "loss", "", times=2.3, allowed=16, error=0, unit=0, signal=0, vanishes=False)
    gradient = replace(loss, kind="gradient", tensor="head.bias", times=1.2, allowed=4)
    found = TwinFound("torch", "torch", [gradient, loss], [1.0], [1.0], {"head.bias": 0.1})
    assert verdict(found).startswith("torch: same. At most 2.30× rounding (loss in step 1);")


def test_the_backward_pass_comes_to_the_last_layers_first():
    names = [spec.name for spec in backward_order(described("v1"))]
    assert names[:4] == ["head.bias", "head.weight", "norm.bias", "norm.weight"]
    block = [name.removeprefix("block4.0.") for name in names if name.startswith("block4.0.")]
    assert block[0] == "mlp.fc2.bias" and block[-1] == "norm1.weight"
    assert names[-2:] == ["patch_embed1.proj.bias", "patch_embed1.proj.weight"]
    assert names.index("pos_embed4") < names.index("patch_embed4.norm.bias")


class TestFaults:
    @staticmethod
    def first(**faults: object) -> str:
        given = trial("v2", **FULL)
        with patch.multiple("pvt_torch.train.twin", **faults):
            found = compare(given, "torch")["torch"]
        assert not found.same
        return found.first_outside.name

    @pytest.mark.long
    def test_a_step_that_is_not_clipped(self):
        named = self.first(clip_factor=lambda norm, recipe: 1.0)
        assert named == "applied gradient of head.bias in step 1"

    @pytest.mark.long
    def test_an_average_that_does_not_set_in(self):
        named = self.first(ema_decay=lambda update, decay: decay)
        assert named == "average of head.bias in step 1"

    @pytest.mark.sampled
    @pytest.mark.parametrize("framework", ["mindspore", "torch"])
    def test_a_branch_without_gradients(self, framework):
        given = trial("v2", steps=1)
        twin = open_twin(given.info, given.recipe, framework=framework)
        detach(twin, "block2.1.attn")
        (found,) = compare_training(given, {framework: twin}, lambda done, all: None)
        named = found.first_outside.name
        assert named == "gradient of block2.1.attn.proj.bias in step 1" and not found.same

    @pytest.mark.long
    def test_another_count_of_updates(self):
        from pvt_torch.train.optimizer import Optimizer

        def late(self, gradients, count, rate):
            update(self, gradients, count + 1, rate)

        update = Optimizer.update
        given = trial("v2")
        with patch.object(Optimizer, "update", late):
            found = compare(given, "torch")["torch"]
        assert found.first_outside.name == "weights of head.bias in step 1"


class TestCommand:
    @staticmethod
    def run(*arguments: object):
        given = ["--recipe", "configs/demo/pvt_nano_digits.yaml", "--mode", 1, "--steps", 1]
        return CliRunner().invoke(main, ["train-step", *map(str, [*given, *arguments])])

    @pytest.mark.long
    def test_data_and_page(self, tmp_path):
        page = tmp_path / "page.html"
        done = self.run("--json", "--html", page, "--warmup-epochs", 0)
        assert done.exit_code == 0, done.output
        data = json.loads(done.stdout)
        assert data["same"] and [twin["twin"] for twin in data["twins"]] == ["mindspore", "torch"]
        for twin in data["twins"]:
            first, last = twin["figures"][0], twin["figures"][-1]
            assert (first["kind"], last["kind"]) == ("loss", "average")
            assert last["tensor"] == "patch_embed1.proj.weight" and last["times"] > 0
            assert np.isclose(twin["losses"], twin["expected_losses"], rtol=1e-6).all()
        assert "SAME" in page.read_text() and "block4.0.attn.kv.bias (keys)" in page.read_text()
        assert self.run("--html", page).exit_code == 1

    @pytest.mark.long
    def test_ten_steps_of_the_demo_agree_to_six_digits(self):
        done = self.run("--steps", 10, "--batch-size", 96, "--json")
        assert done.exit_code == 0, done.output
        mindspore, torch = (twin["losses"] for twin in json.loads(done.stdout)["twins"])
        assert len(mindspore) == 10
        np.testing.assert_allclose(mindspore, torch, rtol=1e-6)

    @pytest.mark.long
    @pytest.mark.parametrize("recipe", ["pvtv2/pvt_v2_b0_ascend", "pvt/pvt_tiny_ascend"])
    def test_models_of_full_size(self, recipe):
        given = ["--recipe", f"configs/{recipe}.yaml", "--mode", "1", "--json"]
        done = CliRunner().invoke(main, ["train-step", *given])
        assert done.exit_code == 0, done.output
        data = json.loads(done.stdout)
        assert (data["updates"], data["images"]) == ("1 to 3", "1 x 4 generated")
        for twin in data["twins"]:
            np.testing.assert_allclose(twin["losses"], twin["expected_losses"], rtol=1e-6)

    @pytest.mark.long
    def test_a_run_of_the_official_code_goes_on_in_both(self, tmp_path):
        import torch

        from convert import Options, convert_file
        from pvt_train.recipe.keys import Recipe
        from pvt_train.recipe.read import model_info
        from tests.support.models import random_weights
        from tests.support.theirs import OfficialRun

        info = model_info(Recipe("pvt_nano", image_resize=32), [str(i) for i in range(10)])
        run = OfficialRun(info, random_weights(info.config))
        run.step(batch(info, 0), 1e-3)
        torch.save(run.saved(), tmp_path / "theirs.pth")
        moved = tmp_path / "moved.ckpt"
        convert_file(tmp_path / "theirs.pth", moved, options=Options(training_state=True))
        given = ("--recipe", "configs/demo/pvt_nano_digits.yaml", "--ema", "False", "--mode", "1")
        more = ("--steps", "1", "--batch-size", "2", "--json")
        done = CliRunner().invoke(main, ["train-step", str(moved), *given, *more])
        assert done.exit_code == 0, done.output
        data = json.loads(done.stdout)
        assert data["updates"] == "2 to 2" and data["same"]

    @pytest.mark.long
    def test_a_run_goes_on_where_it_stands(self, tmp_path):
        """The state of a run of either framework: its weights, moments, count and recipe."""
        from convert.training.checkpoint import save_training
        from pvt_spec.initial import initial_weights
        from pvt_train.input.randomness import drop_path_scales
        from pvt_train.recipe.keys import Recipe
        from pvt_train.recipe.read import model_info, to_dict
        from pvt_train.run.standing import Standing
        from pvt_train.twin import Batch

        how = Recipe("pvt_nano", mode=1, image_resize=32, batch_size=2, warmup_epochs=0)
        info = model_info(how, ("a", "b", "c"))
        twin = open_twin(info, how, initial_weights(info.config, 0), framework="torch")
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        targets = np.eye(3, dtype=np.float32)[:2]
        drop_path = drop_path_scales(info.config, 0, 0, 2)
        twin.step([Batch(pixels, targets, np.ones(2, np.float32), drop_path)], 1e-3)
        facts = {"recipe": to_dict(how), "run": Standing(1, 2, 2).to_dict()}
        save_training(tmp_path / "last.pth", twin.state(), info, facts)
        done = CliRunner().invoke(main, ["train-step", str(tmp_path), "--steps", "1", "--json"])
        assert done.exit_code == 0, done.output
        data = json.loads(done.stdout)
        assert data["updates"] == "2 to 2" and data["same"]
        moments = [f for f in data["twins"][0]["figures"] if f["kind"] == "second moment"]
        assert len(moments) > 60 and all(
            f["signal"] > 0 for f in moments if "(k" not in f["tensor"]
        )
