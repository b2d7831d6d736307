"""Initial weights, the same for every framework: a function of the configuration and a seed.

The distributions are the official code's: linear layers, position embeddings and class token
normal with deviation 0.02 (its truncation at ±2 lies 100 deviations out), v2's convolutions
normal with variance 2 / fan-out, v1's convolutions PyTorch's default (uniform with bound
1 / sqrt(fan-in)), norms 1 and 0. Sources: whai362/PVT ``pvt.py``, ``pvt_v2.py``.
"""

from math import prod, sqrt

import numpy as np

from pvt_spec import PVTConfig, TensorSpec, tensor_specs
from pvt_spec.arrays import Array

_DEVIATION = 0.02


def initial_weights(config: PVTConfig, seed: int) -> dict[str, Array]:
    """Freshly initialised tensors, float32, under canonical names.

    The same ``seed`` gives the same bits whatever framework trains them.
    """
    rng = np.random.default_rng(seed)
    kernels = {s.module: s.shape for s in tensor_specs(config) if s.part == "weight"}
    return {
        spec.name: _initial(spec, kernels.get(spec.module, ()), config.version, rng)
        for spec in tensor_specs(config)
    }


def _initial(
    spec: TensorSpec, kernel: tuple[int, ...], version: int, rng: np.random.Generator
) -> Array:
    """One tensor, of a layer whose weight has the shape ``kernel``."""
    if spec.kind == "norm":
        return np.full(spec.shape, spec.part == "weight", np.float32)
    if spec.kind == "conv":
        return _initial_conv(spec, kernel, version, rng)
    if spec.part == "bias":
        return np.zeros(spec.shape, np.float32)
    return rng.standard_normal(spec.shape, np.float32) * np.float32(_DEVIATION)


def _initial_conv(
    spec: TensorSpec, kernel: tuple[int, ...], version: int, rng: np.random.Generator
) -> Array:
    if version == 1:
        bound = 1 / sqrt(prod(kernel[1:]))
        return rng.uniform(-bound, bound, spec.shape).astype(np.float32)
    if len(spec.shape) == 1:
        return np.zeros(spec.shape, np.float32)
    depthwise = spec.layer == "mlp.dwconv.dwconv"
    fan_out = prod(kernel[2:]) * (1 if depthwise else kernel[0])
    return rng.standard_normal(spec.shape, np.float32) * np.float32(sqrt(2 / fan_out))
