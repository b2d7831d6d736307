"""What answers are worth, whatever gave them: probabilities, order and accuracy."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.errors import ArgumentError, PvtError
from pvt_spec.model_info import ModelInfo

Forward = Callable[[Array], dict[str, Array]]
"""From float32 (B, C, H, W), normalised, to float32 arrays by :func:`pvt_spec.output_names`."""


class Opened(NamedTuple):
    """A model that can be run.

    Attributes:
        forward: What runs it.
        info: What travels with its weights.
        facts: What really runs it: ``framework``, ``device``, ``precision`` and others.
        calls: How many calls it answers at once, each in a thread of its own.
        batch: How many images in a call suit it; None where more are better.
        beside: The files that the model's own keeps weights in, as far as it names them.
    """

    forward: Forward
    info: ModelInfo
    facts: Mapping[str, str]
    calls: int = 1
    batch: int | None = None
    beside: Sequence[Path] = ()


def taking_images(forward: Forward, info: ModelInfo) -> Forward:
    """Returns a forward pass that says what it takes, where it is given something else.

    Args:
        forward: The forward pass, for contiguous arrays in this machine's order of bytes.
        info: What travels with the model's weights.

    Returns:
        One that raises :class:`pvt_spec.errors.ArgumentError`, a TypeError, for others than
        float32 (B, in_chans, H, W).
    """
    C = info.config.in_chans

    def checked(images: Array) -> dict[str, Array]:
        given = np.asarray(images)
        kind = given.dtype.newbyteorder("=")
        if kind != np.float32 or given.ndim != 4 or given.shape[1] != C or not len(given):
            raise ArgumentError(
                f"images are {given.dtype} {given.shape}, expected float32 (B, {C}, H, W), "
                "normalised"
            )
        return forward(np.ascontiguousarray(given, np.float32))

    return checked


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


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns what each image loses against its label alone, in nats: float64 (B,).

    Args:
        logits: float32 (B, num_classes).
        labels: int64 (B,).
    """
    wide = logits.astype(np.float64)
    largest = wide.max(axis=1)
    log_sum = largest + np.log(np.exp(wide - largest[:, None]).sum(axis=1))
    losses: Array = log_sum - wide[np.arange(len(labels)), labels]
    return losses


@dataclass(frozen=True)
class Tally:
    """Counts of labelled images by class; those of two sets of images can be added.

    Attributes:
        by_class: int64 (4, num_classes): a class's images; those of them of which it came first;
            those of which it was among the first five; and the images, whatever they are, of which
            it came first.
        loss: The sum of :func:`cross_entropy` over all images.
    """

    by_class: Array = field(default_factory=lambda: np.zeros((4, 1), np.int64))
    loss: float = 0.0

    @classmethod
    def of(cls, logits: Array, labels: Array) -> "Tally":
        """Returns the counts of some images; see :func:`hits`."""
        first, among_five = hits(logits, labels)
        answers = logits.argmax(axis=1)  # of equal ones the lowest, as everywhere
        counted = (labels, labels[first], labels[among_five], answers)
        by_class = [np.bincount(which, minlength=logits.shape[1]) for which in counted]
        return cls(np.stack(by_class), float(cross_entropy(logits, labels).sum()))

    def __add__(self, other: "Tally") -> "Tally":
        """Returns the counts of both sets of images."""
        return Tally(self.by_class + other.by_class, self.loss + other.loss)

    @property
    def count(self) -> int:
        """The number of images."""
        return int(self.by_class[0].sum())

    @property
    def first(self) -> int:
        """The number of images whose label came first."""
        return int(self.by_class[1].sum())

    @property
    def among_five(self) -> int:
        """The number of images whose label was among the first five."""
        return int(self.by_class[2].sum())


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Returns the shares between which that of all such images is with 95 % confidence.

    It is Wilson's score interval (1927), which needs no minimum of images and stays within 0 and 1.

    Args:
        hits: How many of the images that were looked at are of the kind.
        count: How many were looked at; of none nothing is known.
    """
    if not count:
        return 0.0, 1.0
    share, square = hits / count, _NORMAL**2
    middle = (hits + square / 2) / (count + square)
    reach = _NORMAL / (count + square) * math.sqrt(count * share * (1 - share) + square / 4)
    return middle - reach if hits else 0.0, middle + reach if hits < count else 1.0


_NORMAL = 1.959963984540054
"""How many standard deviations about a normal distribution's mean 95 % of it lie within."""
