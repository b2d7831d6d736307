"""Trained models for ``benchmarks.clean_runs``: the attention of random ones is flat.

    python -m benchmarks.trained DIR

What is in DIR already is not made again, so it may be stopped and started. Each name says what made
it: ``torch-v1-0-e4`` is the small v1 of ``benchmarks.models`` after 4 epochs of the first recipe in
PyTorch, ``ms-ema-e11`` pvt_nano after 11 of ``pvt-ms train``; ``…-q4`` has query weights times 4,
``…-large`` branches whose last linear layers are 8 times as large.
"""

import argparse
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.models import SMALL, write_model
from benchmarks.processes import python
from convert import load_model, save_model
from pvt_spec import PVTConfig, default_preprocessing, make_config, profile_numerics
from pvt_spec.initial import initial_weights

Array = np.ndarray


@dataclass(frozen=True)
class Recipe:
    """A short training in PyTorch.

    Attributes:
        name: What the models are called.
        config: The model.
        profile: The profile of its maths.
        seed: The seed of weights and images.
        rate: The learning rate, of AdamW.
        decay: The weight decay.
        images: How many of the digits an epoch has.
        epochs: Those after which the model is kept.
    """

    name: str
    config: PVTConfig
    profile: str
    seed: int
    rate: float
    decay: float
    images: int = 576
    epochs: Sequence[int] = (2, 4, 7, 10)


def recipes() -> Iterator[Recipe]:
    """Yields all trainings in PyTorch."""
    configs = {**SMALL, "nano": make_config("pvt_nano")}
    for name, config in configs.items():
        config = replace(config, num_classes=10)
        rows = (("official", 1e-3, 0.05), ("mindcv", 4e-3, 0.0), ("hf", 2e-3, 0.2))
        for seed, (profile, rate, decay) in enumerate(rows):
            yield Recipe(f"{name}-{seed}", config, profile, seed, rate, decay)
    for name in ("pvt_tiny", "pvt_v2_b0"):
        config = replace(make_config(name), num_classes=10, image_size=(64, 64))
        yield Recipe(name, config, "official", 0, 3e-4, 0.05, images=96, epochs=(2, 5))


MINDSPORE: Mapping[str, tuple[str, ...]] = {
    "ms-demo": (),
    "ms-ema": ("--lr", "3e-3", "--seed", "7", "--epoch-size", "12", "--weight-decay", "0.0"),
}
"""Trainings with ``pvt-ms train``: name -> options beside those of ``make demo``."""

DERIVED = ("q2", "q4", "q8", "large")
"""What is made of some models: sharper attention, and large activations."""

DERIVED_OF = ("-e10", "-e5", "ms-demo-e20", "ms-ema-e12")
"""How the names of those end."""


def digits(config: PVTConfig, profile: str, count: int, seed: int) -> tuple[Array, Array]:
    """Returns some of scikit-learn's digits as a model takes them, and their classes."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    chosen = np.random.default_rng(seed).permutation(len(scans.target))[:count]
    pixels = np.kron(scans.images[chosen] / 16, np.ones([s // 8 for s in config.image_size]))
    given = default_preprocessing(config, profile)
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (given.mean, given.std))
    return ((pixels[:, None] - mean) / std).astype(np.float32), scans.target[chosen]


def train(recipe: Recipe, folder: Path) -> None:
    """Trains a model in PyTorch and keeps it after some epochs."""
    import torch
    from torch.nn import functional as F

    from pvt_torch.weights import build_model, get_weights

    torch.manual_seed(recipe.seed)
    config, profile = recipe.config, recipe.profile
    # AdamW's epsilon is nothing in float16, in which MindCV's maths keeps position embeddings.
    numerics = replace(profile_numerics(profile, config.version), pos_embed_dtype="float32")
    model = build_model(config, numerics, initial_weights(config, recipe.seed)).train()
    images, classes = digits(config, profile, recipe.images, recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    for epoch in range(1, max(recipe.epochs) + 1):
        losses = []
        for rows in torch.randperm(len(images)).split(32):
            logits = model(torch.from_numpy(images[rows]))
            loss = F.cross_entropy(logits, torch.from_numpy(classes[rows]), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch in recipe.epochs:
            path = folder / f"torch-{recipe.name}-e{epoch}.safetensors"
            write_model(path, config, profile, get_weights(model))
            print(f"{path.stem}: loss {np.mean(losses):.2f}", flush=True)


def train_in_mindspore(name: str, options: Sequence[str], folder: Path) -> None:
    """Trains pvt_nano as ``make demo`` does, keeping every epoch."""
    from pvt_data.sources.digits import write_digits

    data, run = folder / "digits", folder / name
    write_digits(data)
    command = ["pvt_ms", "train", "--config", "configs/demo/pvt_nano_digits.yaml"]
    where = ["--data-dir", data, "--output", run, "--force", "--ckpt-save-policy", "all"]
    subprocess.run(python("-m", *command, *where, *options), check=True)
    for path in run.glob("pvt_nano-*.ckpt"):
        epoch = path.stem.rpartition("-")[2]
        weights, info = load_model(path)
        save_model(folder / f"{name}-e{epoch}.safetensors", weights, info, force=True)


def derive(path: Path, kind: str) -> None:
    """Writes what is made of a model beside it."""
    weights, info = load_model(path)
    changed = {name: np.array(array) for name, array in weights.items()}
    for name, array in changed.items():
        layer = name.rpartition(".")[0]
        if kind == "large" and layer.endswith((".attn.proj", ".fc2")):
            array *= 8
        elif kind != "large" and layer.endswith(".attn.q"):
            array *= int(kind[1:])
    save_model(path.with_name(f"{path.stem}-{kind}.safetensors"), changed, info, force=True)


def make_all(folder: Path) -> None:
    """Makes every model that is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for recipe in recipes():
        if not (folder / f"torch-{recipe.name}-e{recipe.epochs[-1]}.safetensors").exists():
            train(recipe, folder)
    for name, options in MINDSPORE.items():
        if not list(folder.glob(f"{name}-e*.safetensors")):
            train_in_mindspore(name, options, folder)
    for path in sorted(folder.glob("*.safetensors")):
        for kind in DERIVED if path.stem.endswith(DERIVED_OF) else ():
            if not path.with_name(f"{path.stem}-{kind}.safetensors").exists():
                derive(path, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    make_all(parser.parse_args().folder)


if __name__ == "__main__":
    main()
