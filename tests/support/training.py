"""A few training steps of the twins: models, recipes, batches, and distances."""

import dataclasses
from importlib import import_module
from typing import Any

import numpy as np

from pvt_spec import ModelInfo, Preprocessing
from pvt_train.input.randomness import drop_path_scales
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch
from tests.support.models import SMALL, Weights, info_of, random_weights

LR = (1e-3, 5e-3, 2e-3, 4e-3, 3e-3)
FILTER = "vectors_and_cls_token"

FACTS = {"run": {"step": 12, "loss_sum": 0.1 + 0.2, "best": None}, "recipe": {"lr": 1e-3}}


def full_state(kind: str) -> dict[str, np.ndarray]:
    """Weights, moments, averages and counters, all different."""
    weights = random_weights(SMALL[kind])
    state = dict(weights)
    for seed, leading in enumerate(("moment1.", "moment2.", "ema."), start=1):
        for name, array in random_weights(SMALL[kind], seed=seed).items():
            state[leading + name] = array
    state["updates"] = np.array(12, np.int64)
    state["loss_scale"] = np.array(1024, np.float32)
    return state


def described(kind: str) -> ModelInfo:
    return info_of(dataclasses.replace(SMALL[kind], drop_path_rate=0.3))


def recipe(**changes: Any) -> Recipe:
    given = {"mode": 1, "weight_decay": 0.5, "weight_decay_filter": FILTER, **changes}
    return Recipe("-", **given)


def batch(info: ModelInfo, step: int) -> Batch:
    """Four images: everything that a step can be given, at random."""
    rng, config = np.random.default_rng(step), info.config
    pixels = rng.integers(0, 256, (4, *config.image_size, config.in_chans), np.uint8)
    targets = rng.dirichlet(np.ones(config.num_classes), 4).astype(np.float32)
    mixing = np.full(4, rng.uniform(0.3, 0.9), np.float32)
    return Batch(pixels, targets, mixing, drop_path_scales(config, 0, step, 4))


def part(whole: Batch, start: int, stop: int) -> Batch:
    some = slice(start, stop)
    return Batch(
        whole.pixels[some], whole.targets[some], whole.mixing[some], whole.drop_path[:, :, some]
    )


FRAMEWORKS = {"mindspore": ("pvt_ms", "MindSporeTwin"), "torch": ("pvt_torch", "TorchTwin")}
"""A framework -> the package and the class of its twin under training."""


def open_twin(
    info: ModelInfo, how: Recipe, weights: Weights | None = None, framework: str = "mindspore"
) -> Any:
    package, name = FRAMEWORKS[framework]
    twin = getattr(import_module(f"{package}.train.twin"), name)
    return twin(info, how, weights or random_weights(info.config))


def largest_difference(weights: Weights, others: Weights) -> float:
    """Mean absolute difference of the tensor in which that is largest.

    Not of one number: AdamW makes as much of a gradient that is rounding error as of any other.
    All gradients of the biases of keys are, as softmax does not see them; they are left out.
    """
    largest = 0.0
    for name, array in weights.items():
        half = len(array) // 2 if name.endswith("attn.kv.bias") else 0
        largest = max(largest, float(np.abs(array - others[name])[half:].mean()))
    return largest


def run_steps(twin: Any, numbers: range) -> list[Any]:
    """The results of some steps, each a function of its number."""
    k = twin._recipe.gradient_accumulation_steps
    return [
        twin.step([batch(twin._info, k * step + i) for i in range(k)], LR[step]) for step in numbers
    ]


def assert_same_state(twin: Any, expected: Weights) -> None:
    """The same bits under the same names."""
    state = twin.state()
    assert list(state) == list(expected)
    for name, array in expected.items():
        assert state[name].tobytes() == array.tobytes(), name


def prepared(framework: str, preprocessing: Preprocessing, pixels: Any, mixing: Any) -> Any:
    """What a framework makes of pixels on its device."""
    package, tensor = {"mindspore": ("pvt_ms", "Tensor"), "torch": ("pvt_torch", "from_numpy")}[
        framework
    ]
    make = getattr(import_module(framework), tensor)
    prepare = import_module(f"{package}.train.step").preparation(preprocessing)
    images = prepare(make(pixels), make(mixing))
    return images.asnumpy() if framework == "mindspore" else images.numpy()


def detach(twin: Any, layer: str) -> None:
    """Has a layer's answer carry no gradient: a fault."""
    if twin.ending == ".pth":
        module = twin.model.get_submodule(layer)
        module.register_forward_hook(lambda module, given, answer: answer.detach())
    else:
        from mindspore import ops

        cell = dict(twin.model.cells_and_names())[layer]
        compute = cell.construct
        cell.construct = lambda *given: ops.stop_gradient(compute(*given))
