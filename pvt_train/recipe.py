"""How a model is trained, as data: :class:`Recipe`, and reading it from YAML and options.

Keys are MindCV's YAML keys where MindCV has one. May import PyYAML and pvt_spec.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from pvt_spec import (
    PROFILES,
    ConfigError,
    ModelInfo,
    PVTConfig,
    default_preprocessing,
    make_config,
    profile_numerics,
)


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of, beside its images.

    The defaults are those of MindCV's ``pvt_tiny_ascend.yaml``; ``seed`` is MindCV's own.

    Attributes:
        model: A variant's name; see :func:`pvt_spec.list_models`.
        profile: The numerics that the model is trained with, and keeps.
        image_resize: Side of the square input in pixels; None is the variant's own.
        epoch_size: Number of epochs.
        batch_size: Images per step, and per forward pass in validation.
        lr: Learning rate at the end of the warm-up.
        min_lr: Learning rate that the cosine comes down to.
        warmup_epochs: Epochs in which the learning rate rises from 0.
        weight_decay: Of the tensors that decay; see :mod:`pvt_train.optimizer`.
        label_smoothing: Share of the target that is spread over all classes.
        drop_path_rate: Stochastic depth of the last block.
        scale: Smallest and largest share of the image's area that a training crop covers.
        ratio: Smallest and largest width over height of a training crop.
        hflip: Probability that a training image is mirrored.
        crop_pct: Share of the resized image that the evaluation crop keeps; None is the
            profile's own.
        seed: Everything random is a function of it.
    """

    model: str
    profile: str = "official"
    image_resize: int | None = None
    epoch_size: int = 450
    batch_size: int = 128
    lr: float = 5e-4
    min_lr: float = 1e-6
    warmup_epochs: int = 10
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    drop_path_rate: float = 0.1
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 1.333)
    hflip: float = 0.5
    crop_pct: float | None = None
    seed: int = 42


def load_recipe(path: Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """A recipe from a YAML file, with what is given in place of its own values.

    Args:
        path: A YAML mapping of keys to values; None for none.
        overrides: Key -> value, stronger than the file.

    Raises:
        ConfigError: The file cannot be read, or keys or values cannot be; all are listed at once.
    """
    values = {**(_read(path) if path else {}), **overrides}
    types = typing.get_type_hints(Recipe)
    problems = [_unknown(key, types) for key in values if key not in types]
    fields = {}
    for key in values.keys() & types.keys():
        try:
            fields[key] = _convert(values[key], types[key])
        except (TypeError, ValueError):
            problems.append(f"{key} is {values[key]!r}, expected {_describe(types[key])}")
    if "model" not in values:
        problems.append("model is missing: name a variant there or with --model")
    if not problems:
        recipe = Recipe(**fields)
        problems += _out_of_range(recipe)
    if problems:
        raise ConfigError(f"{path or 'recipe'}: " + "; ".join(sorted(problems)))
    return recipe


def model_info(recipe: Recipe, classes: Sequence[str]) -> ModelInfo:
    """The description of the model that a recipe trains on these classes.

    Every weight is trained and kept in float32, MindCV's float16 position embeddings too: their
    squared gradients are below float16's smallest number.

    Raises:
        ConfigError: The recipe's model cannot be.
    """
    config = model_config(recipe, len(classes))
    numerics = profile_numerics(recipe.profile, config.version)
    preprocessing = default_preprocessing(config, recipe.profile)
    if recipe.crop_pct is not None:
        preprocessing = dataclasses.replace(preprocessing, crop_pct=recipe.crop_pct)
    return ModelInfo(
        config,
        dataclasses.replace(numerics, pos_embed_dtype="float32"),
        preprocessing,
        labels=tuple(classes),
        provenance={"seed": str(recipe.seed)},
    )


def model_config(recipe: Recipe, num_classes: int) -> PVTConfig:
    """The architecture that a recipe trains.

    Raises:
        ConfigError: It cannot be.
    """
    return make_config(
        recipe.model,
        num_classes=num_classes,
        image_size=recipe.image_resize,
        drop_path_rate=recipe.drop_path_rate,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a YAML mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.0)
    return f"{key} is not a known key (the nearest is {near[0]})"


def _convert(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``; a whole number is a float too, and so is YAML's string ``1e-3``."""
    choices = typing.get_args(kind)
    if type(None) in choices:
        return None if value is None else _convert(value, choices[0])
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str):
            raise TypeError
        return tuple(_convert(v, k) for v, k in zip(value, choices, strict=True))
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _describe(kind: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number"}
    if type(None) in typing.get_args(kind):
        return f"{_describe(typing.get_args(kind)[0])} or null"
    return names.get(kind, "two numbers")


def _out_of_range(recipe: Recipe) -> Iterator[str]:
    # Each condition is false for NaN, which is in no range.
    expected = {
        "profile": (recipe.profile in PROFILES, f"one of {', '.join(PROFILES)}"),
        "epoch_size": (recipe.epoch_size >= 1, "at least 1"),
        "batch_size": (recipe.batch_size >= 1, "at least 1"),
        "lr": (0 < recipe.lr < float("inf"), "more than 0"),
        "min_lr": (0 <= recipe.min_lr <= recipe.lr, "0 to lr"),
        "warmup_epochs": (
            0 <= recipe.warmup_epochs <= recipe.epoch_size,
            "0 to epoch_size: give --warmup-epochs too",
        ),
        "weight_decay": (0 <= recipe.weight_decay < float("inf"), "at least 0"),
        "label_smoothing": (0 <= recipe.label_smoothing < 1, "0 <= share < 1"),
        "scale": (0 < recipe.scale[0] <= recipe.scale[1] <= 1, "0 < smallest <= largest <= 1"),
        "ratio": (
            0 < recipe.ratio[0] <= recipe.ratio[1] < float("inf"),
            "0 < smallest <= largest",
        ),
        "hflip": (0 <= recipe.hflip <= 1, "0 to 1"),
        "crop_pct": (recipe.crop_pct is None or 0 < recipe.crop_pct <= 1, "more than 0, up to 1"),
        "seed": (recipe.seed >= 0, "at least 0"),
    }
    for key, (holds, what) in expected.items():
        if not holds:
            yield f"{key} is {getattr(recipe, key)!r}, expected {what}"
    try:
        model_config(recipe, 1)
    except ConfigError as error:
        yield str(error)
