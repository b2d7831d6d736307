"""How far a runtime's results are from the reference, tap by tap.

May import numpy and pvt_spec.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pvt_spec.arrays import Array

SCALED_ERROR_BOUND = 5e-5
"""Largest |difference| / RMS(reference) that float32 rounding is taken to explain at a tap.

Measured on the CPU, over pvt_tiny, pvt_large, pvt_v2_b0, pvt_v2_b2_li and pvt_v2_b5 with random
weights, official and mindcv profiles, PyTorch and onnxruntime: at most 6.1e-6 at any tap. The
bound leaves a factor of 8 for other machines and inputs.
"""

COSINE_BOUND = 1.0 - 1e-11
"""Smallest cosine similarity that float32 rounding is taken to explain at a tap.

In the same runs 1 - cosine was at most 1.4e-13.
"""

_TINY = float(np.finfo(np.float64).tiny)


@dataclass
class TapError:
    """The distance of one tap from the reference, gathered over batches."""

    max_abs: float = 0.0
    _sums: Array = field(default_factory=lambda: np.zeros(4))

    def add(self, actual: Array, reference: Array) -> None:
        """Takes in one batch: ``actual`` of any float dtype, ``reference`` float64.

        Another shape than the reference's counts as infinitely far.
        """
        if actual.shape != reference.shape:
            self.max_abs = float("inf")
            self._sums += [reference.size, np.vdot(reference, reference), 0.0, 0.0]
            return
        wide = actual.astype(np.float64)
        difference = np.abs(wide - reference)
        # max() would hide a NaN where the reference has none, and a comparison with NaN is false.
        worst = float(difference.max()) if np.isfinite(difference).all() else float("inf")
        self.max_abs = max(self.max_abs, worst)
        self._sums += [
            reference.size,
            np.vdot(reference, reference),
            np.vdot(wide, wide),
            np.vdot(wide, reference),
        ]

    @property
    def scaled(self) -> float:
        """Largest absolute error over the reference's root mean square."""
        count, square, _, _ = self._sums
        return self.max_abs / max(float(np.sqrt(square / count)), _TINY)

    @property
    def cosine(self) -> float:
        """Cosine similarity over all values."""
        _, reference, actual, product = self._sums
        return float(product / max(float(np.sqrt(reference * actual)), _TINY))

    @property
    def over_bounds(self) -> float:
        """How many times over the nearer of the two bounds; above 1, or NaN, is out of bounds."""
        return max(self.scaled / SCALED_ERROR_BOUND, (1 - self.cosine) / (1 - COSINE_BOUND))

    @property
    def within_bounds(self) -> bool:
        """Whether float32 rounding explains the error; false for anything not finite."""
        return self.scaled <= SCALED_ERROR_BOUND and self.cosine >= COSINE_BOUND


@dataclass
class Comparison:
    """One runtime against the reference.

    Attributes:
        runtime: Its name, with the file's where there are several.
        taps: Error of each tap, in forward order.
        answers: The taps that the model answers with.
        structure: What differs from the spec, in words; see :mod:`parity.structure`.
        agreeing: Images whose top-1 class is the reference's, where the model has classes.
        images: Images seen.
        seconds: Spent in forward passes.
    """

    runtime: str
    taps: dict[str, TapError]
    answers: tuple[str, ...]
    structure: list[str]
    agreeing: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, actual: dict[str, Array], reference: dict[str, Array]) -> None:
        """Takes in one batch of taps."""
        for name, error in self.taps.items():
            error.add(actual[name], reference[name])
        self.images += len(reference[self.answers[0]])
        if self.classifies:
            same = actual["logits"].argmax(axis=1) == reference["logits"].argmax(axis=1)
            same &= np.isfinite(actual["logits"]).all(axis=1)
            self.agreeing += int(same.sum())

    @property
    def classifies(self) -> bool:
        """Whether the model answers logits; only then is there a top-1 class."""
        return self.answers == ("logits",)

    @property
    def worst_answer(self) -> str:
        """The answer that is furthest out of bounds, or nearest to that."""
        return max(self.answers, key=lambda name: self.taps[name].over_bounds)

    @property
    def first_out_of_bounds(self) -> str | None:
        """The first tap, in forward order, that rounding does not explain."""
        return next((name for name, e in self.taps.items() if not e.within_bounds), None)

    @property
    def same(self) -> bool:
        """Whether the runtime computes the reference's function."""
        return self.first_out_of_bounds is None and not self.structure


def compare_names(
    names: Sequence[str], answers: Sequence[str], runtime: str, structure: list[str]
) -> Comparison:
    """A comparison that has seen nothing yet.

    Args:
        names: The taps, in forward order.
        answers: Those of them that the model answers with.
        runtime: Its name.
        structure: What differs from the spec, in words.
    """
    return Comparison(runtime, {name: TapError() for name in names}, tuple(answers), structure)
