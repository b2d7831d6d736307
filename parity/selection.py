"""What is compared: which file runs where, and at which taps."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from convert.conversion import count_not_finite
from convert.formats.table import find_format
from convert.model.read import Model, read_model
from parity.errors import ParityError
from parity.runtimes.table import DEFAULT_RUNTIMES, RUNTIMES, missing_for
from pvt_spec import PVTConfig, output_names, tap_names

HOME = {
    "ckpt": "mindspore",
    "pth": "torch",
    "safetensors": "torch",
    "folder": "torch",
    "onnx": "onnxruntime",
}
"""Where a file of a format is run when several files are compared and no runtime is asked for."""


def choose_runtimes(wanted: Sequence[str], reference: bool = True) -> list[str]:
    """The runtimes to run: those wanted, or all of the usual ones that are installed.

    Args:
        wanted: What the user named; may be empty.
        reference: Whether the reference is run too, which needs torch.

    Raises:
        ParityError: One that is wanted is unknown or cannot be run here, or the reference cannot.
    """
    unknown = [name for name in wanted if name not in RUNTIMES]
    if unknown:
        raise ParityError(f"no runtime {', '.join(unknown)}: there are {', '.join(RUNTIMES)}")
    needed = ("torch", *wanted) if reference else wanted
    reasons = {name: missing_for(name) for name in needed}
    missing = [reason for reason in reasons.values() if reason]
    if missing:
        also = (
            " (the reference runs in torch; parity compare needs none)"
            if reference and reasons["torch"]
            else ""
        )
        raise ParityError("; ".join(missing) + also)
    return list(wanted) or [name for name in DEFAULT_RUNTIMES if not missing_for(name)]


def read_models(paths: Sequence[Path]) -> dict[Path, Model]:
    """The models of all files, by path.

    Raises:
        ConvertError: A file cannot be read.
        ParityError: They are not of one architecture, so that there is nothing to compare.
    """
    models = {path: read_model(path) for path in paths}
    first = models[paths[0]].info.config
    for path, model in models.items():
        require_same_layers(model.info.config, str(path), first, str(paths[0]))
    return models


def require_finite(path: Path, model: Model) -> None:
    """Holds if a model can be what others are compared with.

    Raises:
        ParityError: Some of its weights are not finite.
    """
    broken = count_not_finite(model.weights)
    if broken:
        raise ParityError(
            f"{path}: nothing can be compared with a model whose weights are not finite: "
            + "; ".join(f"{name} has {counts}" for name, counts in list(broken.items())[:5])
        )


def require_same_layers(config: PVTConfig, name: str, first: PVTConfig, first_name: str) -> None:
    """Holds if two models have the same taps of the same shapes.

    Raises:
        ParityError: They do not.
    """
    ours, theirs = dataclasses.asdict(first), dataclasses.asdict(config)
    differing = [f for f in ours if ours[f] != theirs[f] and f != "drop_path_rate"]
    if differing:
        raise ParityError(
            f"{name} and {first_name} have different layers, so there is nothing to compare: "
            + "; ".join(f"{f} {theirs[f]} and {ours[f]}" for f in differing)
        )


def pair_up(paths: Sequence[Path], wanted: Sequence[str]) -> list[tuple[Path, str]]:
    """Which file is run where: one file in every runtime, several each in its own.

    Args:
        paths: Model files.
        wanted: Runtimes that the user named, for all files; may be empty.

    Raises:
        ConvertError: A file's ending is unknown.
        ParityError: A runtime is unknown or cannot be run here.
    """
    if len(paths) == 1 or wanted:
        return [(path, runtime) for path in paths for runtime in choose_runtimes(wanted)]
    homes = [HOME[find_format(path).name] for path in paths]
    choose_runtimes(homes)
    return list(zip(paths, homes, strict=True))


def wanted_taps(config: PVTConfig, detail: str) -> tuple[str, ...]:
    """The taps of a level of detail, in forward order.

    ``"stages"`` are what a stage begins and ends with; ``"logits"`` is what the model answers.
    """
    names, answers = tap_names(config), output_names(config)
    if detail == "logits":
        return tuple(name for name in names if name in answers)
    if detail == "stages":
        last = {f"block{i}.{depth - 1}" for i, depth in enumerate(config.depths, start=1)}
        return tuple(name for name in names if not name.startswith("block") or name in last)
    return tuple(names)
