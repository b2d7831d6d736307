"""Training: MindSpore's step against PyTorch's, and the loop."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from pvt_spec import ImageError, ModelInfo, default_preprocessing, profile_numerics
from pvt_train.data import TrainingImages, smooth_labels
from pvt_train.loop import Run, TrainingError, train
from pvt_train.optimizer import BETAS, EPS, parameter_groups
from pvt_train.randomness import drop_path_scales
from pvt_train.recipe import Recipe, model_info
from tests.conftest import SMALL

LR = (1e-3, 5e-3, 2e-3, 4e-3, 3e-3)
DECAY = 0.5


def described(kind: str) -> ModelInfo:
    config = dataclasses.replace(SMALL[kind], drop_path_rate=0.3)
    numerics = profile_numerics("official", config.version)
    return ModelInfo(config, numerics, default_preprocessing(config, "official"))


def step_inputs(info: ModelInfo, step: int) -> tuple[Any, ...]:
    rng, config = np.random.default_rng(step), info.config
    images = rng.standard_normal((4, config.in_chans, *config.image_size), np.float32)
    targets = smooth_labels(rng.integers(0, config.num_classes, 4), config.num_classes, 0.1)
    return images, targets, LR[step], drop_path_scales(config, 0, step, 4)


class TorchTwin:
    """PyTorch's own AdamW and cross-entropy: what MindSpore's step is measured against."""

    def __init__(self, info: ModelInfo, weights: dict[str, np.ndarray], **changes: Any):
        import torch

        import pvt_torch

        given = {"weight_decay": DECAY, "betas": BETAS, "eps": EPS, "all_decay": False, **changes}
        self.model = pvt_torch.model_from_weights(info.config, info.numerics, weights)
        parameters = dict(self.model.named_parameters())
        decaying, others = parameter_groups(info.config)
        if given.pop("all_decay"):
            decaying, others = decaying + others, []
        groups = [
            {"params": [parameters[name] for name in decaying]},
            {"params": [parameters[name] for name in others], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, **given)

    def step(self, images: Any, targets: Any, learning_rate: float, drop_path: Any) -> float:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        logits = self.model(torch.from_numpy(images), torch.from_numpy(drop_path))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def weights(self) -> dict[str, np.ndarray]:
        import pvt_torch

        return pvt_torch.get_weights(self.model)


def key_bias(name: str, array: np.ndarray) -> np.ndarray:
    """Where a tensor is a bias of attention's keys.

    Softmax does not see it, so its gradient is rounding error, which AdamW scales up.
    """
    mask = np.zeros(array.shape, bool)
    if name.endswith("attn.kv.bias"):
        mask[: len(mask) // 2] = True
    return mask


def largest_difference(weights: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    return max(
        np.abs(array - others[name])[~key_bias(name, array)].max(initial=0)
        for name, array in weights.items()
    )


MUTANTS: dict[str, dict[str, Any]] = {
    "no weight decay": {"weight_decay": 0.0},
    "weight decay on every tensor": {"all_decay": True},
    "another first beta": {"betas": (0.8, 0.999)},
    "another second beta": {"betas": (0.9, 0.5)},
    "another epsilon": {"eps": 1e-5},
}


class TestMindSporeStep:
    @pytest.mark.parametrize(("kind", "compiled"), [("v1", True), ("linear", False)])
    def test_it_is_pytorchs_and_no_mutants(self, kind, compiled):
        from pvt_ms.train import MindSporeTwin

        info = described(kind)
        twin = MindSporeTwin(info, Recipe("-", weight_decay=DECAY, seed=3), compiled)
        start = twin.weights()
        peer = TorchTwin(info, start)
        mutants = {name: TorchTwin(info, start, **changes) for name, changes in MUTANTS.items()}
        for step in range(len(LR)):
            inputs = step_inputs(info, step)
            assert twin.step(*inputs) == pytest.approx(peer.step(*inputs), abs=2e-5)
            for mutant in mutants.values():
                mutant.step(*inputs)
        weights = twin.weights()
        assert largest_difference(weights, start) > 1e-3
        assert largest_difference(weights, peer.weights()) < 1e-4
        for name, mutant in mutants.items():
            assert largest_difference(weights, mutant.weights()) > 1e-3, name

    def test_the_forward_pass_takes_any_batch(self):
        from pvt_ms.train import MindSporeTwin

        info = described("v1")
        twin = MindSporeTwin(info, Recipe("-"), compiled=False)
        images = step_inputs(info, 0)[0]
        whole = twin.forward(images)
        assert whole.shape == (4, 7) and whole.dtype == np.float32
        assert np.allclose(twin.forward(images[:3]), whole[:3], atol=1e-6)


class ScriptedTwin:
    """A twin whose losses are given, and which has learnt nothing until a given step."""

    framework = "none"

    def __init__(self, info: ModelInfo, losses: list[float], learns_at: int):
        self.info, self.losses, self.learns_at = info, losses, learns_at
        self.calls: list[tuple[Any, ...]] = []

    def step(self, *inputs: Any) -> float:
        self.calls.append(inputs)
        return self.losses[len(self.calls) - 1]

    def forward(self, images: np.ndarray) -> np.ndarray:
        # The images of class 1 are white.
        logits = np.zeros((len(images), 2), np.float32)
        logits[:, 1] = images.mean(axis=(1, 2, 3))
        return logits if len(self.calls) >= self.learns_at else -logits

    def weights(self) -> dict[str, np.ndarray]:
        return {"steps": np.array(len(self.calls))}


@pytest.fixture
def scripted(tmp_path) -> Any:
    """Runs the loop on four images, two a step, for as many losses as are given."""
    from PIL import Image

    for split in ("train", "val"):
        for name in ("0", "1"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                image = Image.new("L", (32, 32), 255 * int(name))
                image.save(tmp_path / split / name / f"{i}.png")

    def run(losses: list[float], learns_at: int = 0) -> Any:
        recipe = Recipe("pvt_nano", epoch_size=len(losses) // 2, batch_size=2, warmup_epochs=0)
        info = model_info(recipe, ["0", "1"])
        twin, saved, lines = ScriptedTwin(info, losses, learns_at), [], []
        images = TrainingImages(tmp_path / "train")
        what = Run(recipe, info, images, tmp_path / "val", tmp_path / "run")
        best = train(twin, what, lambda *checkpoint: saved.append(checkpoint), lines.append)
        return twin, best, saved, lines

    return run


class TestLoop:
    def test_each_step_gets_the_next_rate_and_drop_path(self, scripted):
        twin, *_ = scripted([1.0] * 6)
        config = twin.info.config
        for step, (images, targets, rate, drop_path) in enumerate(twin.calls):
            assert images.shape == (2, 3, 32, 32) and targets.shape == (2, 2)
            assert rate == pytest.approx(1e-6 + (5e-4 - 1e-6) * (1 + np.cos(np.pi * step / 6)) / 2)
            assert np.array_equal(drop_path, drop_path_scales(config, 42, step, 2))

    def test_best_is_the_first_of_the_highest_and_last_the_last(self, scripted):
        _, best, saved, _ = scripted([1.0] * 8, learns_at=4)
        written = [(path.name, int(w["steps"]), i.provenance["epoch"]) for path, w, i in saved]
        assert written == [
            ("last.ckpt", 2, "1"),
            ("best.ckpt", 2, "1"),
            ("last.ckpt", 4, "2"),
            ("best.ckpt", 4, "2"),
            ("last.ckpt", 6, "3"),
            ("last.ckpt", 8, "4"),
        ]
        assert (best.epoch, best.accuracy.top1) == (2, 100.0)
        facts = saved[3][2].provenance
        assert (facts["top1"], facts["trained with"], facts["seed"]) == ("100.00", "none", "42")

    def test_every_epoch_is_one_line(self, scripted):
        *_, lines = scripted([1.0, 2.0, 0.5, 0.25])
        shape = (
            r"epoch {}/2  loss {}  lr \d\.\d\de-0\d  Top-1 100.00 %  Top-5 100.00 %"
            r"  \d+ images/s  \d+\.\d s"
        )
        for line, epoch, loss in zip(lines, (1, 2), ("1.5000", "0.3750"), strict=True):
            assert re.fullmatch(shape.format(epoch, loss), line)

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite_ends_it(self, scripted, loss):
        with pytest.raises(TrainingError) as error:
            scripted([1.0, 1.0, 1.0, loss])
        assert str(error.value).startswith(f"loss is {loss} at step 3 (epoch 2), learning rate ")
        assert "holds the checkpoints of epoch 1 and before" in str(error.value)

    def test_a_validation_image_that_cannot_be_read_ends_it(self, scripted, tmp_path):
        (tmp_path / "val/1/1.png").write_text("no image")
        with pytest.raises(ImageError, match=r"1\.png: cannot be read as an image"):
            scripted([1.0, 1.0])
