"""A bundle written from ``docs/reference/bundle-format.md`` alone: numpy and the standard library.

Nothing of this distribution is imported, so that a document which says too little, or something
else than the code does, is found out.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


def read_safetensors(path: Path) -> Weights:
    """Arrays float32 of a file that holds no others."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:begin])
    entries.pop("__metadata__", None)
    found = {}
    for name, entry in entries.items():
        assert entry["dtype"] == "F32"
        start, stop = (begin + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(data[start:stop], "<f4").reshape(entry["shape"])
    return found


def hash_weight(array: np.ndarray) -> str:
    """The hash of a weight: the first 40 digits."""
    sides = [str(side) for side in array.shape]
    shape = f"({sides[0]},)" if len(sides) == 1 else f"({', '.join(sides)})"
    text = f"('<f4', {shape})".encode("ascii")
    return hashlib.sha256(text + array.astype("<f4").tobytes()).hexdigest()[:40]


def hash_input(image: np.ndarray) -> str:
    """The hash of an input (C, H, W)."""
    text = "x".join(str(side) for side in image.shape).encode("ascii")
    return hashlib.sha256(text + image.astype("<f4").tobytes()).hexdigest()


def attributes_of(config: dict[str, Any], weights: Weights) -> dict[str, Any]:
    """What the layers of a PVT v2 of the official code are made with."""
    strides = {f"patch_embed{i + 1}.proj": s for i, s in enumerate((4, 2, 2, 2))}
    found: dict[str, Any] = {}
    for name, array in weights.items():
        layer, _, part = name.rpartition(".")
        if part != "weight":
            continue
        if array.ndim == 1:
            inside = "patch_embed" in layer or "attn" in layer
            found[f"{layer}.epsilon"] = 1e-5 if inside else 1e-6
        elif array.ndim == 4:
            side = array.shape[2]
            depthwise = layer.endswith("dwconv.dwconv")
            found[f"{layer}.groups"] = len(array) if depthwise else 1
            found[f"{layer}.dilation"] = 1
            found[f"{layer}.stride"] = strides.get(layer, 1 if depthwise else side)
            if side > 1:
                padded = depthwise or layer in strides
                found[f"{layer}.padding"] = side // 2 if padded else 0
        elif layer.endswith("attn.q"):
            stage = int(layer.removeprefix("block")[0]) - 1
            heads = config["num_heads"][stage]
            found[layer.removesuffix(".q") + ".heads"] = heads
            found[layer.removesuffix(".q") + ".scale"] = (len(array) / heads) ** -0.5
        elif layer.endswith("mlp.fc1"):
            found[layer.removesuffix(".fc1") + ".act.gelu"] = "erf"
    return found


def describe(config: dict[str, Any], weights: Weights, images: np.ndarray) -> dict[str, Any]:
    """``bundle.json`` of two batches: the first input, and the others."""
    epsilons = {"patch_norm_eps": 1e-5, "attn_norm_eps": 1e-5}
    epsilons |= dict.fromkeys(("norm1_eps", "norm2_eps", "final_norm_eps"), 1e-6)
    info = {
        "format": 2,
        "config": config,
        "numerics": {
            "gelu": "erf",
            "conv_padding": "symmetric",
            **epsilons,
            "pos_embed_dtype": "float32",
            "pos_embed_resize": "half_pixel",
        },
        "preprocessing": {
            "image_size": config["image_size"],
            "crop_pct": 0.875,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "resize": "cover",
            "interpolation": "bicubic",
            "crop_mode": "center",
            "rescale": 1 / 255,
            "normalise": True,
            "orientation": "exif",
        },
        "labels": [],
        "provenance": {"written by": "another program"},
        "task": "single_label",
        "hashes": {},
    }
    return {
        "format": 1,
        "runtime": "somebody's C++",
        "file": "weights.bin",
        "kind": "torch",
        "info": info,
        "image_size": list(images.shape[2:]),
        "attributes": attributes_of(config, weights),
        "hashes": {name: hash_weight(array) for name, array in weights.items()},
        "facts": {"framework": "our own", "device": "CPU", "precision": "fp32"},
        "envelopes": {},
        "batches": [1, len(images) - 1],
        "seen": [
            {"name": f"picture {i}", "group": "noise", "hash": hash_input(image)}
            for i, image in enumerate(images)
        ],
        "names": ["features", "logits"],
        "inputs_kept": True,
    }


def write_bundle(path: Path, said: dict[str, Any], arrays: Weights) -> None:
    """Writes it, with arrays (B, …) by name, ``input`` among them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number, rows in enumerate((slice(0, 1), slice(1, None))):
            for name, array in arrays.items():
                stream = io.BytesIO()
                np.save(stream, array[rows])
                file.writestr(f"{number}/{name}.npy", stream.getvalue())
        file.writestr("bundle.json", json.dumps(said))
