"""Both twins' training step against PyTorch's optimizers, closed forms and itself taken up."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pvt_data.images.pixels import normalise
from pvt_spec import ModelInfo, tap_names
from pvt_spec.initial import initial_weights
from pvt_train.optim.loss_scale import LossScale, first_loss_scale
from pvt_train.twin import Batch, TrainingError
from tests.support import training
from tests.support.messages import naming, tells
from tests.support.models import SMALL, Weights, random_weights
from tests.support.training import (
    LR,
    assert_same_state,
    batch,
    described,
    largest_difference,
    part,
    recipe,
    run_steps,
)


def steep_weights(info: ModelInfo) -> Weights:
    """Weights with the logits of others, and gradients of the head a thousand times theirs."""
    weights = random_weights(info.config)
    for name, by in (("norm4.weight", 1e3), ("norm4.bias", 1e3), ("head.weight", 1e-3)):
        weights[name] *= np.float32(by)
    return weights


class TorchTwin:
    """PyTorch's cross-entropy, clipping and optimizers: what the twins' steps are measured against.

    Which tensors decay, are frozen or learn more slowly is said here by their names and shapes.
    """

    def __init__(self, info: ModelInfo, weights: Weights, optimizer: Any, **changes: Any):
        import pvt_torch

        given = {"mixes": True, "clip": None, "frozen": "-", "rates": None, "decay": 0.5}
        given |= {"all_decay": False, **changes}
        self.info, self.mixes, self.clip = info, given["mixes"], given["clip"]
        self.model = pvt_torch.model_from_weights(info.config, info.numerics, weights)
        groups = []
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(given["frozen"]))
            decays = given["all_decay"] or (parameter.ndim > 1 and name != "cls_token")
            scale = given["rates"](name) if given["rates"] else 1.0
            decay = given["decay"] if decays else 0.0
            groups.append({"params": [parameter], "weight_decay": decay, "scale": scale})
        self.optimizer = optimizer(groups)

    def step(self, batches: Sequence[Batch], learning_rate: float) -> tuple[float, float]:
        """The loss and the gradient's norm."""
        import torch

        self.optimizer.zero_grad()
        loss = sum(self.loss(one) for one in batches) / len(batches)
        loss.backward()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip or float("inf"))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        self.optimizer.step()
        return loss.item(), norm.item()

    def loss(self, one: Batch) -> Any:
        import torch

        images = np.stack([normalise(pixels, self.info.preprocessing) for pixels in one.pixels])
        if self.mixes:
            share = one.mixing[:, None, None, None]
            images = share * images + (1 - share) * images[[1, 0, 3, 2]]
        logits = self.model(torch.from_numpy(images), torch.from_numpy(one.drop_path))
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(one.targets))

    def weights(self) -> Weights:
        import pvt_torch

        return pvt_torch.get_weights(self.model)


def adamw(betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Any:
    import torch

    return lambda groups: torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps)


def sgd(nesterov: bool, momentum: float = 0.8) -> Any:
    import torch

    return lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=nesterov)


def assert_same_steps(
    twin: Any, peer: TorchTwin, mutants: dict[str, TorchTwin], k: int = 1
) -> None:
    """Five steps of both give the same losses, norms and weights, which no mutant's are."""
    start = twin.weights()
    for step, rate in enumerate(LR):
        batches = [batch(twin._info, k * step + i) for i in range(k)]
        result = twin.step(batches, rate)
        assert (result.loss, result.gradient_norm) == pytest.approx(
            peer.step(batches, rate), rel=2e-4
        )
        assert (result.updated, result.loss_scale) == (True, 1.0)
        for mutant in mutants.values():
            mutant.step(batches, rate)
    weights = twin.weights()
    assert largest_difference(weights, start) > 1e-3
    close = largest_difference(weights, peer.weights())
    assert close < 2e-5
    for name, mutant in mutants.items():
        assert largest_difference(weights, mutant.weights()) > 10 * close, name


class TestOptimizers:
    @pytest.mark.sampled
    @pytest.mark.parametrize(("kind", "mode"), [("v1", 0), ("linear", 1)])
    def test_adamw_is_pytorchs_and_no_mutants(self, open_twin, kind, mode):
        info = described(kind)
        twin = open_twin(info, recipe(mode=mode))
        start = twin.weights()
        mutants = {
            "no weight decay": TorchTwin(info, start, adamw(), decay=0.0),
            "weight decay on every tensor": TorchTwin(info, start, adamw(), all_decay=True),
            "another first beta": TorchTwin(info, start, adamw(betas=(0.8, 0.999))),
            "another second beta": TorchTwin(info, start, adamw(betas=(0.9, 0.5))),
            "another epsilon": TorchTwin(info, start, adamw(eps=1e-5)),
            "no mixing": TorchTwin(info, start, adamw(), mixes=False),
        }
        assert_same_steps(twin, TorchTwin(info, start, adamw()), mutants)

    @pytest.mark.sampled
    def test_all_at_once_and_clipped(self, open_twin):
        """Frozen tensors, layers that learn more slowly, several batches per update."""

        def rate(name: str, factor: float = 0.7) -> float:
            layers = ("patch_embed1", "block1.0", "patch_embed2", "block2.0", "block2.1")
            layers += ("patch_embed3", "block3.0", "patch_embed4", "block4.0")
            owners = {"norm1": 1, "norm2": 4, "norm3": 6}
            first = next((i for i, layer in enumerate(layers) if name.startswith(layer)), 9)
            return factor ** (9 - owners.get(name.split(".")[0], first))

        info = described("v2")
        changes = {"layer_decay": 0.7, "freeze": ("block2.*",), "gradient_accumulation_steps": 2}
        twin = open_twin(info, recipe(clip_grad=True, clip_value=0.1, **changes))
        start = twin.weights()
        given = {"clip": 0.1, "frozen": "block2.", "rates": rate}
        mutants = {
            name: TorchTwin(info, start, adamw(eps=1e-8), **{**given, **mutation})
            for name, mutation in {
                "nothing frozen": {"frozen": "-"},
                "one rate": {"rates": None},
                "another layer decay": {"rates": lambda name: rate(name, 0.75)},
            }.items()
        }
        assert_same_steps(twin, TorchTwin(info, start, adamw(), **given), mutants, k=2)
        assert not any(name.startswith("moment1.block2.") for name in twin.state())
        for name, array in twin.weights().items():
            assert np.array_equal(array, start[name]) == name.startswith("block2."), name

    @pytest.mark.sampled
    @pytest.mark.parametrize(("opt", "nesterov"), [("sgd", False), ("momentum", True)])
    def test_sgd_and_momentum_are_pytorchs(self, open_twin, opt, nesterov):
        info = described("v2")
        changes = {"momentum": 0.8, "use_nesterov": nesterov, "clip_grad": True, "clip_value": 0.3}
        twin = open_twin(info, recipe(opt=opt, **changes))
        start = twin.weights()
        mutants = {
            "no clipping": TorchTwin(info, start, sgd(nesterov)),
            "the other form": TorchTwin(info, start, sgd(not nesterov), clip=0.3),
            "no momentum": TorchTwin(info, start, sgd(False, momentum=0.0), clip=0.3),
            "no weight decay": TorchTwin(info, start, sgd(nesterov), clip=0.3, decay=0.0),
        }
        assert_same_steps(twin, TorchTwin(info, start, sgd(nesterov), clip=0.3), mutants)

    @pytest.mark.sampled
    def test_lamb_is_the_papers(self, open_twin):
        info = described("v2")
        twin = open_twin(info, recipe(opt="lamb", eps=1e-6))
        peer = TorchTwin(info, twin.weights(), sgd(False, momentum=0.0), decay=0.0)
        memory = {name: (0.0, 0.0) for name in twin.weights()}
        for step, learning_rate in enumerate(LR):
            batches = [batch(info, step)]
            twin.step(batches, learning_rate)
            peer.step(batches, 0.0)
            for name, parameter in peer.model.named_parameters():
                w, g = parameter.detach().numpy(), parameter.grad.numpy().astype(np.float64)
                m, v = (0.9 * memory[name][0] + 0.1 * g, 0.999 * memory[name][1] + 0.001 * g * g)
                memory[name] = m, v
                ratio = m / (1 - 0.9 ** (step + 1))
                ratio /= np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-6
                ratio += (0.5 if w.ndim > 1 else 0) * w
                length, size = np.linalg.norm(ratio), np.linalg.norm(w)
                w -= learning_rate * (size / length if size * length else 1.0) * ratio
        assert largest_difference(twin.weights(), peer.weights()) < 1e-4


class TestStep:
    @pytest.mark.parametrize("framework", training.FRAMEWORKS)
    def test_pixels_are_normalised_to_the_bit_and_mixed(self, framework):
        info = described("v2")
        every = np.arange(2 * 256, dtype=np.uint16).astype(np.uint8).repeat(3)
        every = every.reshape(2, 16, 16, 3)[:, ::-1].copy()
        every[1] += 7
        expected = np.stack([normalise(pixels, info.preprocessing) for pixels in every])
        whole, half = (
            training.prepared(framework, info.preprocessing, every, np.full(2, share, np.float32))
            for share in (1, 0.25)
        )
        assert np.array_equal(whole, expected)
        assert np.allclose(half, 0.25 * expected + 0.75 * expected[::-1], rtol=0, atol=1e-6)

    @pytest.mark.sampled
    def test_two_halves_are_one_batch(self, open_twin):
        info, changes = described("v2"), {"opt": "sgd", "momentum": 0.0}
        whole = open_twin(info, recipe(**changes))
        halves = open_twin(info, recipe(gradient_accumulation_steps=2, **changes))
        for step, rate in enumerate(LR):
            four = batch(info, step)
            one = whole.step([four], rate)
            two = halves.step([part(four, 0, 2), part(four, 2, 4)], rate)
            assert (two.loss, two.gradient_norm) == pytest.approx(
                (one.loss, one.gradient_norm), rel=1e-4
            )
        assert largest_difference(whole.weights(), halves.weights()) < 1e-5

    def test_a_loss_scale_cancels(self, open_twin):
        info = described("v2")
        plain, scaled = open_twin(info, recipe()), open_twin(info, recipe(loss_scale=1024.0))
        one, other = (twin.step([batch(info, 0)], 1e-3) for twin in (plain, scaled))
        assert other == dataclasses.replace(one, loss_scale=1024.0)
        assert largest_difference(plain.weights(), scaled.weights()) == 0

    @pytest.mark.sampled
    def test_the_average_is_mindcvs(self, open_twin):
        info = described("v2")
        twin = open_twin(info, recipe(ema=True, ema_decay=0.9, freeze=("head.bias",)))
        expected = {name: array.astype(np.float64) for name, array in twin.weights().items()}
        for step, rate in enumerate(LR):
            twin.step([batch(info, step)], rate)
            decay = 0.9 * (1 - np.exp(-(step + 1) / 2000))
            for name, array in twin.weights().items():
                expected[name] = decay * expected[name] + (1 - decay) * array
        own, images = twin.weights(), np.zeros((2, 3, 64, 64), np.float32)
        logits = twin.forward(images)
        with twin.averaged():
            averages = twin.weights()
            assert not np.array_equal(twin.forward(images), logits)
        assert np.array_equal(twin.forward(images), logits)
        assert largest_difference(twin.weights(), own) == 0
        for name, array in averages.items():
            assert np.allclose(array, expected[name], rtol=0, atol=1e-7), name
            assert np.array_equal(twin.state()[f"ema.{name}"], array), name

    def test_without_an_average_there_is_none_to_ask_for(self, open_twin):
        twin = open_twin(described("v2"), recipe())
        with pytest.raises(TrainingError, match=naming("--ema")), twin.averaged():
            pass

    def test_the_forward_pass_takes_any_batch(self, open_twin):
        twin = open_twin(described("v1"), recipe())
        images = np.random.default_rng(0).standard_normal((4, 3, 64, 64), np.float32)
        whole = twin.forward(images)
        assert whole.shape == (4, 7) and whole.dtype == np.float32
        assert np.allclose(twin.forward(images[:3]), whole[:3], atol=1e-6)

    def test_the_first_tap_that_is_not_finite(self, open_twin):
        info = described("v1")
        weights = random_weights(info.config)
        twin = open_twin(info, recipe(), weights)
        assert twin.first_not_finite(batch(info, 0)) is None
        weights["block3.0.mlp.fc2.bias"][0] = np.inf
        first = open_twin(info, recipe(), weights).first_not_finite(batch(info, 0))
        assert first == "block3.0.mlp" and first in tap_names(info.config)


class TestWatched:
    @pytest.mark.sampled
    def test_it_is_the_same_step_and_tells_its_gradients(self, open_twin):
        info, changes = described("v2"), {"clip_grad": True, "clip_value": 0.3, "loss_scale": 64.0}
        how = recipe(gradient_accumulation_steps=2, ema=True, freeze=("block1.*",), **changes)
        twin, watched = open_twin(info, how), open_twin(info, how)
        peer = TorchTwin(info, twin.weights(), adamw(), frozen="block1.", clip=0.3)
        for step, rate in enumerate(LR[:2]):
            batches = [batch(info, 2 * step + i) for i in range(2)]
            result, gradients = watched.watched_step(batches, rate)
            assert twin.step(batches, rate) == result
            _, norm = peer.step(batches, rate)
            assert norm > 0.3
            expected = {n: p.grad.numpy() for n, p in peer.model.named_parameters() if
                        p.requires_grad}  # fmt: skip
            assert gradients.mean.keys() == gradients.applied.keys() == expected.keys()
            for name, array in expected.items():
                where = {"rtol": 1e-3, "atol": 1e-5 * norm, "err_msg": name}
                np.testing.assert_allclose(gradients.applied[name], array, **where)
                scaled = gradients.applied[name] * (result.gradient_norm / 0.3)
                np.testing.assert_allclose(gradients.mean[name], scaled, **where)
        assert_same_state(watched, twin.state())

    def test_an_update_that_is_left_out_applies_nothing(self, open_twin):
        info = described("v2")
        twin = open_twin(info, recipe(loss_scale=1e38), steep_weights(info))
        result, gradients = twin.watched_step([batch(info, 0)], 1e-3)
        assert not result.updated and gradients.mean and not gradients.applied

    def test_what_the_loss_does_not_depend_on_has_a_gradient_of_0(self, open_twin):
        info = described("v2")
        twin = open_twin(info, recipe())
        training.detach(twin, "block2.1.attn")
        before = twin.weights()
        result, gradients = twin.watched_step([batch(info, 0)], 1e-3)
        assert result.updated and gradients.mean.keys() == before.keys()
        still = {name for name, array in gradients.mean.items() if not array.any()}
        branch = ("block2.1.norm1.", "block2.1.attn.")
        assert still == {name for name in before if name.startswith(branch)}
        for name in still:
            kept = 1 - 1e-3 * 0.5 if before[name].ndim > 1 else 1.0
            np.testing.assert_allclose(twin.weights()[name], kept * before[name], rtol=1e-6)


class TestPrecision:
    @pytest.mark.sampled
    @pytest.mark.parametrize("kind", ["v1", "linear"])
    @pytest.mark.parametrize("level", ["O1", "O2", "O3"])
    def test_every_level_trains_as_float32_within_float16(self, open_twin, level, kind):
        info = described(kind)
        full = open_twin(info, recipe())
        half = open_twin(info, recipe(amp_level=level, loss_scale=1024.0))
        for step, rate in enumerate(LR[:2]):
            one, other = (twin.step([batch(info, step)], rate) for twin in (full, half))
            assert other.loss == pytest.approx(one.loss, rel=5e-3)
            assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=2e-2)
            # float16 was there.
            assert other.gradient_norm != pytest.approx(one.gradient_norm, rel=1e-6)
        assert {array.dtype.name for array in half.weights().values()} == {"float32"}
        assert list(half.state()) == list(full.state())
        images = np.zeros((2, 3, 64, 64), np.float32)
        assert np.allclose(half.forward(images), full.forward(images), rtol=0, atol=2e-2)
        assert half.first_not_finite(batch(info, 0)) is None


class TestTorchsOwn:
    """Keys that PyTorch alone has: the same step, within rounding, and bits twice."""

    @pytest.mark.sampled
    @pytest.mark.parametrize("kind", SMALL)
    @pytest.mark.parametrize(
        "key", ["checkpoint_blocks", "fused_attention", "channels_last", "deterministic", "tf32"]
    )
    def test_each_trains_as_without(self, key, kind, restored):
        info = described(kind)
        plain, first, again = (
            training.open_twin(info, recipe(opt="sgd", **changes), framework="torch")
            for changes in ({}, {key: True}, {key: True})
        )
        for step, rate in enumerate(LR[:3]):
            one, two, three = (t.step([batch(info, step)], rate) for t in (plain, first, again))
            assert two == three
            assert two.loss == pytest.approx(one.loss, rel=1e-5)
            assert two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)
        assert largest_difference(plain.weights(), first.weights()) < 1e-6
        assert_same_state(again, first.state())

    def test_bf16_trains_as_float32_within_bfloat16(self):
        info = described("v2")
        full, half = (
            training.open_twin(info, recipe(amp_level=level), framework="torch")
            for level in ("O0", "bf16")
        )
        for step, rate in enumerate(LR[:2]):
            one, other = (twin.step([batch(info, step)], rate) for twin in (full, half))
            assert other.loss == pytest.approx(one.loss, rel=2e-2)
            assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-1)
            assert other.gradient_norm != pytest.approx(one.gradient_norm, rel=1e-5)
        assert {array.dtype.name for array in half.weights().values()} == {"float32"}
        images = np.zeros((2, 3, 64, 64), np.float32)
        assert np.allclose(half.forward(images), full.forward(images), rtol=0, atol=5e-2)
        assert half.first_not_finite(batch(info, 0)) is None

    @pytest.fixture
    def restored(self):
        """What torch has for the whole process, as it was."""
        import torch

        yield
        torch.use_deterministic_algorithms(False)


class TestLossScale:
    def test_it_rises_after_a_window_and_falls_to_1(self):
        scale = LossScale(4.0, 0, 2.0, 3)
        seen = []
        for finite in [True] * 6 + [True, True, False, True, True, True] + [False] * 6:
            scale = scale.after(finite)
            seen.append(scale.value)
        assert seen == [4, 4, 8, 8, 8, 16, 16, 16, 8, 8, 8, 16, 8, 4, 2, 1, 1, 1]

    def test_a_fixed_one_stays(self):
        assert LossScale(1024.0).after(False) == LossScale(1024.0).after(True) == LossScale(1024.0)

    @pytest.mark.parametrize(
        ("kind", "level", "value", "dynamic"),
        [
            ("fixed", "O2", 1024.0, False),
            ("dynamic", "O0", 1024.0, True),
            ("auto", "O2", 2.0**24, True),
            ("auto", "O0", 1.0, False),
            ("auto", "O3", 1.0, False),
        ],
    )
    def test_what_a_recipe_begins_with(self, kind, level, value, dynamic):
        how = recipe(loss_scale_type=kind, amp_level=level, loss_scale=1024.0)
        scale = first_loss_scale(how)
        assert (scale.value, scale.dynamic) == (value, dynamic)
        assert not dynamic or (scale.factor, scale.window) == (2.0, 2000)

    @pytest.mark.parametrize("opt", ["adamw", "lamb"])
    def test_an_overflow_changes_nothing_but_the_scale(self, open_twin, opt):
        info = described("v2")
        how = recipe(opt=opt, ema=True, loss_scale_type="dynamic", loss_scale=1e38)
        twin = open_twin(info, how, steep_weights(info))
        before = twin.state()
        result = twin.step([batch(info, 0)], 1e-3)
        assert not result.updated and not np.isfinite(result.gradient_norm)
        assert result.loss == pytest.approx(np.log(7), rel=0.5)
        assert float(before["loss_scale"]) == 1e38
        before["loss_scale"] = np.array(1e38 / 2)
        assert_same_state(twin, before)

    def test_weights_that_are_not_finite_are_seen(self, open_twin):
        info = described("v2")
        weights = initial_weights(info.config, 0)
        weights["head.bias"][3] = np.inf
        result = open_twin(info, recipe(), weights).step([batch(info, 0)], 1e-3)
        assert not result.updated and not np.isfinite(result.loss)


class TestState:
    @pytest.mark.sampled
    @pytest.mark.parametrize(
        "changes",
        [
            {"ema": True, "amp_level": "O2", "loss_scale_type": "dynamic", "loss_scale": 8.0},
            {"opt": "sgd", "gradient_accumulation_steps": 2, "freeze": ("block1.*",)},
            {"opt": "lamb", "loss_scale_type": "dynamic", "scale_window": 3, "clip_grad": True},
        ],
        ids=lambda changes: changes.get("opt", "adamw"),
    )
    def test_five_steps_are_two_and_three_with_a_state_between(self, open_twin, changes):
        info = described("v2")
        how = recipe(**changes)
        whole, first = open_twin(info, how), open_twin(info, how)
        results = run_steps(whole, range(5))
        assert run_steps(first, range(2)) == results[:2]
        second = open_twin(info, how, initial_weights(info.config, 0))
        second.load_state(first.state())
        assert run_steps(second, range(2, 5)) == results[2:]
        assert_same_state(second, whole.state())

    def test_another_recipes_state_is_refused_by_name(self, open_twin):
        info = described("v2")
        twin = open_twin(info, recipe(ema=True))
        state = open_twin(info, recipe(loss_scale_type="dynamic")).state()
        state["head.bias"] = state["head.bias"][:3]
        state["norm4.bias"] = state["norm4.bias"].astype(np.float64)
        before = twin.state()
        with pytest.raises(TrainingError) as error:
            twin.load_state(state)
        message = str(error.value)
        assert tells(
            message,
            "ema.head.bias",
            "float32",
            "7",
            "loss_scale",
            "float64",
            "head.bias",
            "3",
            "norm4.bias",
            "32",
        )
        assert_same_state(twin, before)


def test_a_step_says_the_scale_it_was_computed_with(open_twin):
    how = recipe(loss_scale_type="dynamic", loss_scale=1e38)
    info = described("v2")
    twin = open_twin(info, how, steep_weights(info))
    found = [twin.step([batch(info, step)], 1e-3).loss_scale for step in range(2)]
    assert found == [1e38, 1e38 / 2]


def test_a_clip_value_alone_clips_nothing(open_twin):
    info = described("v2")
    plain = open_twin(info, recipe(opt="sgd", momentum=0.0))
    other = open_twin(info, recipe(opt="sgd", momentum=0.0, clip_value=1e-3))
    for twin in (plain, other):
        twin.step([batch(info, 0)], 1e-2)
    for name, array in plain.weights().items():
        assert np.array_equal(other.weights()[name], array), name
