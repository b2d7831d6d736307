"""Initial weights: the same in both twins, and distributed as the official code's."""

from math import sqrt

import numpy as np
import pytest

from pvt_spec import VARIANTS, make_config, tensor_specs
from pvt_spec.initial import initial_weights

MODELS = ("pvt_nano", "pvt_v2_b0")


@pytest.mark.parametrize("name", MODELS)
def test_both_twins_start_from_the_same_bits(name):
    import pvt_ms
    import pvt_torch

    config = make_config(name, num_classes=3, image_size=64)
    expected = initial_weights(config, seed=5)
    for package in (pvt_ms, pvt_torch):
        model = package.create_model(name, num_classes=3, image_size=64, seed=5)
        weights = package.get_weights(model)
        assert list(expected) == [spec.name for spec in tensor_specs(config)]
        assert weights.keys() == expected.keys()
        for tensor, array in expected.items():
            assert array.dtype == np.float32
            assert weights[tensor].tobytes() == array.tobytes(), tensor


def test_another_seed_gives_other_weights_and_the_same_seed_the_same():
    first, again, other = (initial_weights(VARIANTS["pvt_nano"], seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["head.weight"], other["head.weight"])


def uniform_deviation(fan_in: int) -> float:
    """PyTorch's default for a convolution's weight and bias, which v1 keeps."""
    return 1 / sqrt(fan_in) / sqrt(3)


def expected_deviation(name: str, version: int, shapes: dict[str, tuple[int, ...]]) -> float:
    """What whai362/PVT's ``_init_weights`` gives a tensor, restated from its code."""
    layer, _, part = name.rpartition(".")
    kernel = shapes[f"{layer}.weight"] if layer else ()
    if ".norm" in f".{layer}":
        return 0.0
    if len(kernel) == 4 and version == 1:
        return uniform_deviation(kernel[1] * kernel[2] * kernel[3])
    if part == "bias":
        return 0.0
    if len(kernel) == 4:
        groups = kernel[0] if "dwconv" in layer else 1
        return sqrt(2 / (kernel[2] * kernel[3] * kernel[0] // groups))
    return 0.02


@pytest.mark.parametrize("name", ["pvt_tiny", "pvt_v2_b0", "pvt_v2_b2_li"])
def test_distributions_are_the_official_codes(name):
    config = VARIANTS[name]
    weights = initial_weights(config, seed=0)
    shapes = {tensor: array.shape for tensor, array in weights.items()}
    for tensor, array in weights.items():
        deviation = expected_deviation(tensor, config.version, shapes)
        if not deviation:
            norm_weight = tensor.endswith("weight")
            assert np.all(array == (1.0 if norm_weight else 0.0)), tensor
            continue
        # Six standard errors of the mean and of the deviation of a normal sample.
        allowed = 6 * deviation / sqrt(array.size)
        assert abs(array.mean(dtype=np.float64)) < allowed, tensor
        assert abs(array.std(dtype=np.float64) - deviation) < allowed, tensor
        if len(array.shape) == 4 and config.version == 1:
            assert np.abs(array).max() <= deviation * sqrt(3), tensor


def test_the_check_notices_a_wrong_fan():
    shapes = {"block1.0.mlp.dwconv.dwconv.weight": (256, 1, 3, 3)}
    assert expected_deviation(next(iter(shapes)), 2, shapes) == sqrt(2 / 9)
    shapes = {"patch_embed1.proj.weight": (32, 3, 7, 7)}
    assert expected_deviation(next(iter(shapes)), 2, shapes) == sqrt(2 / (49 * 32))
    assert expected_deviation(next(iter(shapes)), 1, shapes) == 1 / sqrt(147) / sqrt(3)
