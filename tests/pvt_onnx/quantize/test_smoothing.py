"""SmoothQuant's scales: folded where the algebra is exact, and there not a bit changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from convert import save_model
from parity.command_line import main as parity
from pvt_onnx.engines.tapped import open_taps
from pvt_onnx.graph.build import build
from pvt_onnx.quantize.measuring.calibration import find_largest, open_values
from pvt_onnx.quantize.smoothing import find_scales, folds, scale
from pvt_spec import PVTConfig, profile_numerics, tap_names, tensor_specs
from tests.support.commands import invoke
from tests.support.models import SMALL, info_of, random_images, random_weights


def _scaled(config: PVTConfig) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights whose norms answer channels of very different sizes, and what evens them."""
    weights = random_weights(config)
    rng = np.random.default_rng(5)
    for name in weights:
        if name.endswith(("norm1.weight", "norm2.weight", "attn.norm.weight")):
            weights[name] *= np.exp2(rng.integers(-4, 5, weights[name].shape)).astype(np.float32)
    numerics = profile_numerics("official", config.version)
    model = build(config, numerics, weights)
    values = open_values(model, "a", [fold.norm for fold in folds(config)], _engine())
    largest = find_largest(values, [random_images(config)])
    return weights, scale(config, weights, find_scales(config, weights, largest, 0.5))


def _engine():  # type: ignore[no-untyped-def]
    from pvt_onnx.engines.options import EngineOptions

    return EngineOptions(threads=1)


def _taps(config: PVTConfig, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = build(config, profile_numerics("official", config.version), weights)
    return open_taps(model, "a", tap_names(config), _engine())(random_images(config))


def test_no_bit_of_any_tap_changes(small_or_maps: PVTConfig) -> None:
    weights, scaled = _scaled(small_or_maps)
    changed = [name for name in weights if not np.array_equal(weights[name], scaled[name])]
    assert {fold.norm for fold in folds(small_or_maps)} <= {
        name.rpartition(".")[0] for name in changed
    }
    before, after = (_taps(small_or_maps, each) for each in (weights, scaled))
    for tap, array in before.items():
        assert np.array_equal(after[tap], array), tap


def test_all_norms_of_blocks_are_folded_but_the_one_before_a_gelu() -> None:
    for kind, config in SMALL.items():
        norms = {
            spec.module
            for spec in tensor_specs(config)
            if spec.kind == "norm" and spec.block is not None
        }
        left = norms - {fold.norm for fold in folds(config)}
        assert all(name.endswith("attn.norm") for name in left), kind
        assert bool(left) == config.linear


def test_a_scaled_norm_that_goes_into_something_else_too_would_be_seen(small: PVTConfig) -> None:
    weights, scaled = _scaled(small)
    norm = next(iter(folds(small))).norm
    broken = {**scaled, f"{norm}.weight": weights[f"{norm}.weight"]}
    before, after = (_taps(small, each) for each in (weights, broken))
    assert not np.allclose(after[tap_names(small)[-1]], before[tap_names(small)[-1]], rtol=1e-3)


def test_the_powers_of_two_are_undone_to_the_bit(small: PVTConfig) -> None:
    weights, _ = _scaled(small)
    scales = {
        fold.norm: [(i % 7) - 3 for i in range(len(weights[f"{fold.norm}.bias"]))]
        for fold in folds(small)
    }
    undone = {norm: [-each for each in powers] for norm, powers in scales.items()}
    back = scale(small, scale(small, weights, scales), undone)
    assert all(back[name].tobytes() == array.tobytes() for name, array in weights.items())


def test_channels_are_more_even_after(small: PVTConfig) -> None:
    weights, scaled = _scaled(small)
    norms = [fold.norm for fold in folds(small)]
    spread = []
    for each in (weights, scaled):
        model = build(small, profile_numerics("official", small.version), each)
        largest = find_largest(open_values(model, "a", norms, _engine()), [random_images(small)])
        spread.append({norm: float(np.log2(largest[norm]).std()) for norm in norms})
    assert all(spread[1][norm] < 0.75 * spread[0][norm] for norm in norms)


def test_zeros_are_left_alone(small: PVTConfig) -> None:
    weights = random_weights(small)
    norm = next(iter(folds(small))).norm
    largest = {fold.norm: np.zeros_like(weights[f"{fold.norm}.bias"]) for fold in folds(small)}
    assert not any(find_scales(small, weights, largest, 0.5)[norm])


def test_parity_takes_scaled_answers_for_the_models_own(tmp_path: Path) -> None:
    config = replace(SMALL["v2"], image_size=(64, 64))
    weights, scaled = _scaled(config)
    save_model(tmp_path / "model.safetensors", weights, info_of(config))
    images = random_images(config, count=4)
    model = build(config, profile_numerics("official", config.version), scaled)
    taps = open_taps(model, "a", tap_names(config), _engine())(images)
    np.savez(tmp_path / "theirs.npz", input=images, **taps)
    done = invoke(parity, "check", tmp_path / "theirs.npz", tmp_path / "model.safetensors")
    assert done.exit_code == 0 and "same" in done.stdout, done.output
