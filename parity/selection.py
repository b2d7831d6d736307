"""What is compared: which file runs where, at which taps, and by what."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.conversion import count_not_finite
from convert.formats.table import find_source
from convert.model.read import Model, read_model
from parity.errors import ParityError
from parity.measure.tolerance import FixedTolerance
from parity.runtimes.table import DEFAULT_RUNTIMES, missing_for
from pvt_spec import PVTConfig, TapSpec, output_names, tap_specs

HOME = {
    "ckpt": "mindspore",
    "pth": "torch",
    "safetensors": "torch",
    "folder": "torch",
    "onnx": "onnxruntime",
}
"""Where a file of a format is run when several files are compared and no runtime is asked for."""


@dataclass(frozen=True)
class Terms:
    """What is compared, and by what.

    Attributes:
        detail: Which taps are compared; see :func:`wanted_taps`.
        precision: The tolerance class; None for that of what ran.
        fixed: What the user allows instead.
    """

    detail: str = "all"
    precision: str | None = None
    fixed: FixedTolerance | None = None


def choose_runtimes(wanted: Sequence[str], reference: bool = True) -> list[str]:
    """Returns the runtimes to run: those wanted, or the usual ones that are installed.

    Args:
        wanted: Those of :data:`parity.runtimes.table.RUNTIMES` that the user named, if any.
        reference: Whether the reference is run too, which needs torch.

    Raises:
        ParityError: One that is wanted cannot be run here, or the reference cannot.
    """
    needed = ("torch", *wanted) if reference else wanted
    reasons = {name: missing_for(name) for name in needed}
    missing = [reason for reason in reasons.values() if reason]
    if missing:
        needs_torch = reference and reasons["torch"]
        also = " (the reference runs in torch; parity compare needs none)" if needs_torch else ""
        raise ParityError("; ".join(missing) + also)
    return list(wanted) or [name for name in DEFAULT_RUNTIMES if not missing_for(name)]


def read_models(
    paths: Sequence[Path], image_size: tuple[int, int] | None = None
) -> dict[Path, Model]:
    """Returns the models of all files, by path; the first is what others are compared with.

    Args:
        paths: The files.
        image_size: The (H, W) in pixels that is asked for in place of what the files say.

    Raises:
        ConvertError: A file cannot be read.
        ParityError: They are not of one architecture, or weights of the first are not finite.
    """
    models = {path: at_size(read_model(path), image_size) for path in paths}
    first = models[paths[0]]
    for path, model in models.items():
        check_same_layers(model.info.config, str(path), first.info.config, str(paths[0]))
    broken = count_not_finite(first.weights)
    if broken:
        raise ParityError(
            f"{paths[0]}: nothing can be compared with a model whose weights are not finite: "
            + "; ".join(f"{name} has {counts}" for name, counts in list(broken.items())[:5])
        )
    return models


def at_size(model: Model, image_size: tuple[int, int] | None) -> Model:
    """Returns a model as for images of (H, W) pixels; None leaves their size."""
    if image_size is None:
        return model
    preprocessing = dataclasses.replace(model.info.preprocessing, image_size=image_size)
    return dataclasses.replace(
        model, info=dataclasses.replace(model.info, preprocessing=preprocessing)
    )


def check_same_layers(config: PVTConfig, name: str, first: PVTConfig, first_name: str) -> None:
    """Refuses a model whose taps, or their shapes, are not those of the first.

    Raises:
        ParityError: They are not; every field that differs is named.
    """
    ours, theirs = dataclasses.asdict(first), dataclasses.asdict(config)
    # No layer of v2 knows the size of images.
    free = ("drop_path_rate", *(["image_size"] if config.version == 2 else []))
    differing = [f for f in ours if ours[f] != theirs[f] and f not in free]
    if differing:
        raise ParityError(
            f"{name} and {first_name} have different layers, so there is nothing to compare: "
            + "; ".join(f"{f} {theirs[f]} and {ours[f]}" for f in differing)
        )


def pair_up(paths: Sequence[Path], wanted: Sequence[str]) -> list[tuple[Path, str]]:
    """Returns which file is run where: one in every runtime, several each in its own.

    Args:
        paths: Model files.
        wanted: Runtimes that the user named, for all files; may be empty.

    Raises:
        ConvertError: A file's ending is unknown.
        ParityError: A runtime is unknown or cannot be run here.
    """
    if len(paths) == 1 or wanted:
        return [(path, runtime) for path in paths for runtime in choose_runtimes(wanted)]
    homes = [HOME[find_source(path).name] for path in paths]
    choose_runtimes(homes)
    return list(zip(paths, homes, strict=True))


def wanted_taps(config: PVTConfig, detail: str) -> tuple[str, ...]:
    """Returns the taps of a level of detail, in forward order.

    Args:
        config: The model's.
        detail: ``"all"``; ``"stages"`` for what a stage begins and ends with; ``"logits"`` for what
            the model answers.
    """
    answers = output_names(config)
    return tuple(
        tap.name
        for tap in tap_specs(config)
        if detail == "all"
        or (detail == "logits" and tap.name in answers)
        or (detail == "stages" and _bounds_a_stage(tap, config))
    )


def _bounds_a_stage(tap: TapSpec, config: PVTConfig) -> bool:
    last_block = tap.stage is None or tap.block == config.depths[tap.stage] - 1
    return tap.block is None or (tap.layer == "block" and last_block)
