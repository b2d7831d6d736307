"""The smallest model, whose every number is a fraction that no library computes otherwise."""

import numpy as np

from pvt_spec import ModelInfo, PVTConfig, default_preprocessing, profile_numerics, tensor_specs

CONFIG = PVTConfig(
    2,
    embed_dims=(4, 4, 4, 4),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    mlp_ratios=(1, 1, 1, 1),
    sr_ratios=(1, 1, 1, 1),
    image_size=(32, 32),
    in_chans=1,
    num_classes=3,
)


def tiny_weights() -> dict[str, np.ndarray]:
    """Multiples of 1/64 from -50/64 to 50/64."""
    return {
        spec.name: ((np.arange(spec.size) * 37 + len(spec.name)) % 101 / 64 - 50 / 64)
        .astype(np.float32)
        .reshape(spec.shape)
        for spec in tensor_specs(CONFIG)
    }


def tiny_info() -> ModelInfo:
    """The official maths and images, and a name for each class."""
    numerics = profile_numerics("official", 2)
    images = default_preprocessing(CONFIG, "official")
    return ModelInfo(CONFIG, numerics, images, ("cat", "dog", "cow"))


def tiny_input() -> np.ndarray:
    """float32 (1, 1, 32, 32), multiples of 1/64 around 0."""
    pixels = np.arange(32 * 32) * 29 % 127
    return (pixels / 64 - 1).astype(np.float32).reshape(1, 1, 32, 32)
