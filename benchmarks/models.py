"""Random models for the benchmarks, and the usual ways to convert them.

    python -m benchmarks.models random pvt_tiny official model.ckpt
    python -m benchmarks.models export model.ckpt model.onnx
    python -m benchmarks.models optimise model.onnx optimised.onnx
    python -m benchmarks.models safetensors model.pth model.safetensors

Commands of their own so that each runs in a process of its own.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from convert import load_model, save_model
from pvt_spec import (
    ModelInfo,
    PVTConfig,
    default_preprocessing,
    make_config,
    profile_numerics,
    tensor_specs,
)
from pvt_spec.initial import initial_weights


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


def random_weights(
    config: PVTConfig, pos_embed_dtype: str = "float32", seed: int = 0
) -> dict[str, np.ndarray]:
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


def write_random(variant: str, profile: str, path: Path, num_classes: int | None = None) -> None:
    """Writes a model of random weights, of which none is 0 or 1 throughout."""
    config = make_config(variant, num_classes=num_classes)
    rng = np.random.default_rng(0)
    weights = {
        name: values + np.float32(0.02) * rng.standard_normal(values.shape, np.float32)
        for name, values in initial_weights(config, 0).items()
    }
    write_model(path, config, profile, weights)


def write_model(
    path: Path, config: PVTConfig, profile: str, weights: dict[str, np.ndarray]
) -> None:
    """Writes a model with a profile's maths and usual images, as the maths keep its weights."""
    numerics = profile_numerics(profile, config.version)
    kept = {
        name: array.astype(numerics.pos_embed_dtype) if name.startswith("pos_embed") else array
        for name, array in weights.items()
    }
    info = ModelInfo(config, numerics, default_preprocessing(config, profile))
    save_model(path, kept, info, force=True)


def export_with_torch(source: Path, target: Path) -> None:
    """Converts the usual way: weights into a torch model, PyTorch's exporter, batch open."""
    import torch

    from pvt_torch import model_from_weights

    weights, info = load_model(source)
    model = model_from_weights(info.config, info.numerics, weights)
    images = torch.zeros(2, info.config.in_chans, *info.preprocessing.image_size)
    torch.onnx.export(
        model,
        (images,),
        target,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["images"],
        output_names=["logits"],
    )


def optimise_for_transformers(source: Path, target: Path) -> None:
    """Fuses what onnxruntime's optimiser for transformers finds in an exported model."""
    from onnxruntime.transformers.optimizer import optimize_model

    # The width of the attention is found in the graph.
    optimised = optimize_model(str(source), "vit", num_heads=0, hidden_size=0, opt_level=0)
    optimised.save_model_to_file(str(target))


def save_with_safetensors(source: Path, target: Path) -> None:
    """Converts a ``.pth`` the usual way: torch reads it, safetensors writes it."""
    import torch
    from safetensors.torch import save_file

    save_file(torch.load(source, weights_only=True)["state_dict"], target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    random = commands.add_parser("random", help="write a model of random weights")
    random.add_argument("variant")
    random.add_argument("profile")
    random.add_argument("path", type=Path)
    random.add_argument("--num-classes", type=int)
    export = commands.add_parser("export", help="convert a model with PyTorch's exporter")
    export.add_argument("source", type=Path)
    export.add_argument("target", type=Path)
    optimise = commands.add_parser("optimise", help="fuse what onnxruntime's optimiser finds")
    optimise.add_argument("source", type=Path)
    optimise.add_argument("target", type=Path)
    save = commands.add_parser("safetensors", help="write a .pth with safetensors and torch")
    save.add_argument("source", type=Path)
    save.add_argument("target", type=Path)
    options = parser.parse_args()
    if options.command == "random":
        write_random(options.variant, options.profile, options.path, options.num_classes)
    elif options.command == "export":
        export_with_torch(options.source, options.target)
    elif options.command == "optimise":
        optimise_for_transformers(options.source, options.target)
    else:
        save_with_safetensors(options.source, options.target)


if __name__ == "__main__":
    main()
