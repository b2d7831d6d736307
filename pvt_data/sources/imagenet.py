"""ImageNet's 1,000 classes: names for models without, and numbers by identifiers of folders."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.model_info import ModelInfo

_ALIKE = 0.9
"""The share of a model's names that are ImageNet's where its classes are: lists differ a little."""


@cache
def _classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the identifiers of the classes, and their names, in the order of the logits."""
    text = Path(__file__).with_name("imagenet.txt").read_text("utf-8")
    lines = (line.partition("\t") for line in text.splitlines() if not line.startswith("#"))
    identifiers, _, names = zip(*lines, strict=True)
    return identifiers, names


def imagenet_names() -> tuple[str, ...]:
    """Returns the names of the classes, in the order of the logits."""
    return _classes()[1]


def imagenet_order(info: ModelInfo, classes: Sequence[str]) -> Array | None:
    """Returns the number int64 of each class that is called by its identifier, as ``n01440764``.

    Returns:
        None where some are called otherwise, or the model's classes are others: not as many, or of
        other names.
    """
    identifiers, names = _classes()
    number = {identifier: index for index, identifier in enumerate(identifiers)}
    if info.config.num_classes != len(names) or not {*classes} <= {*number}:
        return None
    if info.labels:
        alike = sum(map(operator.eq, map(_first, info.labels), map(_first, names)))
        if alike < _ALIKE * len(names):
            return None
    return np.array([number[identifier] for identifier in classes], np.int64)


def _first(name: str) -> str:
    return name.partition(",")[0].strip().lower()


def named(info: ModelInfo, tell: Callable[[str], None]) -> ModelInfo:
    """Returns a model's description with ImageNet's names, where it has as many and no names."""
    names = imagenet_names() if info.config.num_classes == 1000 else ()
    if info.labels or not names or info.task != "single_label":
        return info
    tell(
        "1,000 classes without names: taken for ImageNet's, in its order (convert MODEL DST "
        "--labels FILE names others)"
    )
    return dataclasses.replace(info, labels=names)
