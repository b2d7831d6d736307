"""What answers are worth, whatever gave them: probabilities, order and accuracy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.errors import PvtError
from pvt_spec.model_info import ModelInfo

Forward = Callable[[Array], dict[str, Array]]
"""From float32 (B, C, H, W), normalised, to float32 arrays by :func:`pvt_spec.output_names`."""


class Opened(NamedTuple):
    """A model that can be run.

    Attributes:
        forward: What runs it.
        info: What travels with its weights.
        facts: What really runs it: ``framework``, ``device``, ``precision`` and others.
    """

    forward: Forward
    info: ModelInfo
    facts: Mapping[str, str]


_T = TypeVar("_T")


def batched(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yields consecutive slices of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def check_answers(logits: Array, names: Sequence[str]) -> None:
    """Refuses answers that are no numbers.

    Args:
        logits: float32 (B, num_classes).
        names: What to call each of the B images.

    Raises:
        PvtError: Some are NaN or infinite: of which image, and how many.
    """
    for name, row in zip(names, logits, strict=True):
        if not np.isfinite(row).all():
            bad = int((~np.isfinite(row)).sum())
            raise PvtError(
                f"{name}: {bad} of the model's {len(row)} answers are no numbers (the first is "
                f"{row[~np.isfinite(row)][0]}): its weights are damaged, or too large for the "
                "precision that it runs in; convert inspect MODEL names weights that are NaN"
            )


def probabilities(logits: Array, task: str) -> Array:
    """Returns what logits mean: float64 (B, num_classes), probabilities but for a regression.

    Args:
        logits: float32 (B, num_classes).
        task: One of :data:`pvt_spec.model_info.TASKS`.
    """
    if task == "single_label":
        return softmax(logits)
    wide = logits.astype(np.float64)
    if task == "regression":
        return wide
    # Without overflow, of either sign.
    small = np.exp(-np.abs(wide))
    shares: Array = np.where(wide >= 0, 1, small) / (1 + small)
    return shares


def softmax(logits: Array) -> Array:
    """Returns the probabilities float64 (B, num_classes) of logits of the same shape."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def top_k(logits: Array, k: int) -> Array:
    """Returns the classes int64 (B, k) of the largest logits, largest first, ties by index."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]


def hits(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Returns whether each label came first, and whether among the first five: bool (B,) each.

    Of answers that are not all finite neither is true.

    Args:
        logits: float32 (B, num_classes).
        labels: int64 (B,).
    """
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    found = (top_k(logits, 5) == labels[:, None]) & finite
    return found[:, 0], found.any(axis=1)


@dataclass(frozen=True)
class Accuracy:
    """How many of ``count`` images had their label first, or among the first five, in percent.

    ``unreadable`` are those that could not be read and are not counted: name -> reason.
    """

    top1: float
    top5: float
    count: int
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Tally:
    """Counts of images, added up batch by batch.

    Attributes:
        first: The images whose label came first.
        among_five: The images whose label was among the first five.
        count: All images.
    """

    first: int = 0
    among_five: int = 0
    count: int = 0

    def add(self, logits: Array, labels: Array) -> None:
        """Counts a batch; see :func:`hits`."""
        first, among_five = hits(logits, labels)
        self.first += int(first.sum())
        self.among_five += int(among_five.sum())
        self.count += len(labels)
