"""The official code's backbone for detection, as PyTorch computes it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pvt_spec import (
    PVTConfig,
)
from tests.support.models import Weights

Size = tuple[int, int]


def detection_backbone(config: PVTConfig, weights: Weights, images: np.ndarray) -> list[np.ndarray]:
    """What whai362/PVT ``detection/pvt.py`` answers, in float64, from a whole model's weights.

    Facts read there: no class token, ``pos_embed4`` without its first row, position embeddings
    resized with half-pixel centres, each map is the output of the stage's last block; epsilons
    1e-6 in the blocks, 1e-5 elsewhere.
    """
    w = {name: torch.from_numpy(array).double() for name, array in weights.items()}

    def parameters(layer: str) -> tuple[Tensor, Tensor]:
        return w[f"{layer}.weight"], w[f"{layer}.bias"]

    def norm(x: Tensor, layer: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *parameters(layer), eps)

    def attention(x: Tensor, size: Size, name: str, heads: int, ratio: int) -> Tensor:
        q = F.linear(x, *parameters(f"{name}.q")).unflatten(2, (heads, -1)).transpose(1, 2)
        if ratio > 1:
            x = F.conv2d(x.mT.unflatten(2, size), *parameters(f"{name}.sr"), stride=ratio)
            x = norm(x.flatten(2).mT, f"{name}.norm", 1e-5)
        kv = F.linear(x, *parameters(f"{name}.kv")).unflatten(2, (2, heads, -1))
        x = F.scaled_dot_product_attention(q, *kv.permute(2, 0, 3, 1, 4))
        return F.linear(x.transpose(1, 2).flatten(2), *parameters(f"{name}.proj"))

    def mlp(x: Tensor, name: str) -> Tensor:
        hidden = F.gelu(F.linear(x, *parameters(f"{name}.fc1")))
        return F.linear(hidden, *parameters(f"{name}.fc2"))

    x, maps = torch.from_numpy(images).double(), []
    for stage, depth in enumerate(config.depths, start=1):
        embed = f"patch_embed{stage}"
        x = F.conv2d(x, *parameters(f"{embed}.proj"), stride=4 if stage == 1 else 2)
        size = x.shape[2:]
        x = norm(x.flatten(2).mT, f"{embed}.norm", 1e-5)
        rows = w[f"pos_embed{stage}"][:, 1 if stage == 4 else 0 :]
        own = [side // (2 * 2**stage) for side in config.image_size]
        x = x + F.interpolate(rows.mT.unflatten(2, own), size, mode="bilinear").flatten(2).mT
        heads, ratio = config.num_heads[stage - 1], config.sr_ratios[stage - 1]
        for name in (f"block{stage}.{index}" for index in range(depth)):
            attended = norm(x, f"{name}.norm1", 1e-6)
            x = x + attention(attended, size, f"{name}.attn", heads, ratio)
            x = x + mlp(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp")
        x = x.mT.unflatten(2, size)
        maps.append(x.numpy())
    return maps


def as_map(tokens: np.ndarray, size: Size) -> np.ndarray:
    """Tokens (B, H * W, C) as (B, C, H, W)."""
    return tokens.reshape(len(tokens), *size, -1).transpose(0, 3, 1, 2)
