"""Models of transformers itself, with random weights."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pvt_spec import (
    PVTConfig,
)

CLASSIFIER, BARE, BACKBONE = 0, 1, 2
"""Which of a version's classes of models."""


@cache
def import_transformers() -> Any:
    """transformers, which never looks for a file that is not on this machine."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.logging.disable_progress_bar()
    return transformers


def transformers_class(version: int, kind: int = CLASSIFIER) -> Any:
    names = {
        1: ("PvtForImageClassification", "PvtModel"),
        2: ("PvtV2ForImageClassification", "PvtV2Model", "PvtV2Backbone"),
    }
    return getattr(import_transformers(), names[version][kind])


def transformers_config(config: PVTConfig, **changes: Any) -> Any:
    """transformers' own configuration of an architecture, which our code has no part in."""
    keys = {
        "image_size": config.image_size[0],
        "num_channels": config.in_chans,
        "hidden_sizes": [*config.embed_dims],
        "depths": [*config.depths],
        "num_attention_heads": [*config.num_heads],
        "mlp_ratios": [*config.mlp_ratios],
        "drop_path_rate": config.drop_path_rate,
        "num_labels": config.num_classes,
    }
    if config.version == 1:
        keys["sequence_reduction_ratios"] = [*config.sr_ratios]
        return import_transformers().PvtConfig(**{**keys, **changes})
    keys |= {"sr_ratios": [*config.sr_ratios], "linear_attention": config.linear}
    return import_transformers().PvtV2Config(**{**keys, **changes})


def random_model(config: PVTConfig, kind: int = CLASSIFIER, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers with weights far from any initial value: no gain 1, no bias 0.

    Args:
        config: The architecture.
        kind: :data:`CLASSIFIER`, :data:`BARE` or, of v2, :data:`BACKBONE`.
        seed: Of the weights.
        changes: Keys of transformers' configuration.
    """
    import torch

    model = transformers_class(config.version, kind)(transformers_config(config, **changes))
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            shape = tuple(weight.shape)
            if len(shape) == 1:
                signs = 1 if name.endswith("weight") else rng.choice([-1, 1], shape)
                values = rng.uniform(0.3, 0.9, shape) * signs
            else:
                layer = not name.endswith(("position_embeddings", "cls_token"))
                fan_in = weight[0].numel() if layer else 1
                values = rng.standard_normal(shape) / np.sqrt(fan_in)
            weight.copy_(torch.from_numpy(values))
    return model.eval()


def save_random_model(
    folder: Path,
    config: PVTConfig,
    kind: int = CLASSIFIER,
    shard_size: str | None = None,
    **changes: Any,
) -> Any:
    """A model of :func:`random_model`, which ``save_pretrained`` wrote to a folder.

    Args:
        folder: Where to.
        config: The architecture.
        kind: As for :func:`random_model`.
        shard_size: Largest size of a file of weights, ``"20KB"``; None for one file.
        changes: Keys of transformers' configuration.
    """
    model = random_model(config, kind, **changes)
    model.save_pretrained(folder, **({"max_shard_size": shard_size} if shard_size else {}))
    return model


def state(model: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}
