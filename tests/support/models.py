"""The peers' golden cases, small configurations, and random weights and images for them."""

import contextlib
import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from convert import ConvertError, load_model
from pvt_spec import (
    PROFILES,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    profile_numerics,
    tensor_specs,
)
from tests.support.processes import ROOT

Weights = dict[str, np.ndarray]
Taps = dict[str, np.ndarray]

GOLDEN = ROOT / "tests/golden"

GOLDEN_SMALL = (
    "mindcv_v1_small",
    "mindcv_v2_small",
    "official_v1_small",
    "official_v2_small",
    "official_v2_linear_small",
    "timm_v2_linear_small",
)
"""Golden cases of one model each, whose answers are known."""


def _small(version: int, **changes: Any) -> PVTConfig:
    return PVTConfig(
        version,
        embed_dims=(8, 16, 24, 32),
        depths=(1, 2, 1, 1),
        num_heads=(1, 2, 3, 4),
        mlp_ratios=(2, 3, 2, 2),
        sr_ratios=(8, 4, 2, 1),
        image_size=(64, 64),
        **{"num_classes": 7, **changes},
    )


SMALL = {"v1": _small(1), "v2": _small(2), "linear": _small(2, linear=True)}
"""One configuration of each kind of attention, small enough to run in every framework."""


MAPS = {
    f"{kind} maps": replace(config, num_classes=0, features_only=True)
    for kind, config in SMALL.items()
}
"""The same, as models that answer the maps of their stages."""

KINDS = SMALL | MAPS


@cache
def golden_case(case: str) -> dict[str, Any]:
    """What made a golden case, and the configuration of the model that answered."""
    facts: dict[str, Any] = json.loads((GOLDEN / case / "case.json").read_text())
    return facts


def golden_config(case: str) -> PVTConfig:
    """The configuration that the peer's model was made with."""
    facts = golden_case(case)["config"]
    side, dims = facts["image_size"], ("embed_dims", "num_heads", "mlp_ratios", "sr_ratios")
    return PVTConfig(
        facts["version"],
        depths=tuple(facts["depths"]),
        linear=facts.get("linear", False),
        image_size=(side, side),
        in_chans=facts["in_chans"],
        num_classes=facts["num_classes"],
        **{name: tuple(facts[name]) for name in dims},
    )


def golden_numerics(case: str) -> Numerics:
    """The profile of the code that answered."""
    return PROFILES[golden_case(case)["profile"]][golden_config(case).version]


@cache
def golden_arrays(case: str) -> dict[str, np.ndarray]:
    """``input``, ``logits`` and sometimes ``features``, the same with ``_HxW`` for other sizes."""
    arrays = {}
    for path in sorted((GOLDEN / case).glob("case*.npz")):
        with np.load(path) as file:
            arrays.update(file)
    return arrays


def golden_sizes(case: str) -> list[str]:
    """Suffixes of the image sizes that the case has answers for; ``""`` for the model's own."""
    return [name.removeprefix("input") for name in golden_arrays(case) if name.startswith("input")]


def golden_file(case: str) -> Path:
    """The peer's weights, in whichever of its files the repository keeps."""
    names = ("weights.ckpt", "weights.pth", "training_checkpoint.pth", "weights.safetensors")
    return next(path for path in (GOLDEN / case / name for name in names) if path.exists())


@cache
def golden_weights(case: str) -> Weights:
    """The peer's weights under canonical names."""
    weights, _ = load_model(golden_file(case))
    return weights


def assert_same(found: Weights, expected: Weights) -> None:
    """The same names in the same order, the same dtypes, shapes and bytes."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def assert_cost_grows_with_the_file(read: Callable[[bytes], object], data: bytes) -> None:
    """A hostile file is read or refused in the time and memory that its size can explain."""
    tracemalloc.start()
    started = time.perf_counter()
    with contextlib.suppress(ConvertError):
        read(data)
    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 10
    assert peak < 40 * len(data)


def random_weights(config: PVTConfig, pos_embed_dtype: str = "float32", seed: int = 0) -> Weights:
    """Weights far from any initial value: no gain is 1, no bias is 0, activations stay near 1."""
    rng = np.random.default_rng(seed)
    weights = {}
    for spec in tensor_specs(config):
        layer, _, part = spec.name.rpartition(".")
        if part == "weight" and spec.kind != "norm":
            values = rng.standard_normal(spec.shape) / np.sqrt(spec.size / spec.shape[0])
        elif layer:
            sign = 1 if part == "weight" else rng.choice([-1, 1], spec.shape)
            values = rng.uniform(0.3, 0.9, spec.shape) * sign
        else:
            values = rng.standard_normal(spec.shape)
        dtype = pos_embed_dtype if spec.kind == "pos_embed" else "float32"
        weights[spec.name] = values.astype(dtype)
    return weights


def weights_for(config: PVTConfig, numerics: Numerics, seed: int = 0) -> Weights:
    """Random weights as the maths keep them."""
    return random_weights(config, numerics.pos_embed_dtype, seed)


def enlarge(weights: Weights, tensor: str) -> Weights:
    """The same weights but for one, the largest of a tensor, which is 1 % larger."""
    changed = weights[tensor].copy()
    flat = changed.reshape(-1)
    flat[np.abs(flat).argmax()] *= np.float32(1.01)
    return {**weights, tensor: changed}


def info_of(config: PVTConfig, profile: str = "official", *labels: str) -> ModelInfo:
    """What a file says of a model with a profile's maths and usual images."""
    numerics = profile_numerics(profile, config.version)
    return ModelInfo(config, numerics, default_preprocessing(config, profile), labels)


def random_images(config: PVTConfig, size: tuple[int, int] | None = None, count: int = 2) -> Any:
    """float32 (count, in_chans, H, W), standard normal."""
    shape = (count, config.in_chans, *(size or config.image_size))
    return np.random.default_rng(1).standard_normal(shape, np.float32)
