"""What a diagnosis finds, and how it is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.diagnosis.hypotheses import Hypothesis
from pvt_spec.words import counted


@dataclass(frozen=True)
class Cause:
    """A hypothesis that holds.

    Attributes:
        hypothesis: What holds.
        tap: The first observed tap that it changes.
        evidence: What it is worth to the explanation;
            :data:`parity.diagnosis.search.THRESHOLD` at least.
        times: Rounding at that tap, without it and with it, what stands before it being accepted.
        gap: The largest absolute difference of the answer, without it and with it, likewise.
        alternatives: Hypotheses that explain the same in its place.
    """

    hypothesis: Hypothesis
    tap: str
    evidence: float
    times: tuple[float, float]
    gap: tuple[float, float]
    alternatives: tuple[Hypothesis, ...]


@dataclass(frozen=True)
class Remainder:
    """A tap that is not explained.

    Attributes:
        tap: Its name.
        times: Its error in units of rounding; inf of a shape or of values that cannot be compared.
        says: How it is off, in words.
    """

    tap: str
    times: float
    says: str


@dataclass(frozen=True)
class Diagnosis:
    """Why two sides differ.

    Attributes:
        causes: What holds, in forward order; while anything remains, only what nothing else could
            stand for.
        remainders: What it leaves unexplained, in forward order.
        undecided: Hypotheses that the observed taps say nothing of, either way.
        precision: The precision whose rounding the taps are within, or were judged by.
        coarser: Whether that is a coarser one than was asked for: an explanation in itself.
        alike: Others whose rounding is as large as what is left, or explains as much.
        answer: The tap that gaps are of: the model's answer, or the last that was observed.
        gap: Its largest absolute difference before and after all that holds.
        taps: How many were compared.
        images: How many were looked at.
        passes: Forward passes that it took.
        verdict: What ``parity run`` says of the other side where that is *different*.
    """

    causes: tuple[Cause, ...]
    remainders: tuple[Remainder, ...]
    undecided: tuple[Hypothesis, ...]
    precision: str
    coarser: bool
    alike: tuple[str, ...]
    answer: str
    gap: tuple[float, float]
    taps: int
    images: int
    passes: int
    verdict: str | None = None

    @property
    def closed(self) -> bool:
        """Whether everything is explained."""
        return not self.remainders

    @property
    def found_nothing(self) -> bool:
        """Whether nothing that was tried is there, layer by layer."""
        return self.closed and not self.causes and not self.coarser

    @property
    def same(self) -> bool:
        """Whether there is nothing to explain."""
        return self.found_nothing and self.verdict is None

    def describe(self) -> list[str]:
        """Returns lines for a terminal: what holds, and a last one for whether that is all."""
        lines = []
        start = "" if self.closed else "nearer if "
        for number, cause in enumerate(self.causes, start=1):
            before, after = map(show_times, cause.times)
            lines += [
                f"{number}. {start}{cause.hypothesis.says}",
                f"   first at {cause.tap}: {before} {self.precision} rounding, {after} with it",
                "   {} gap {:.2g}, {:.2g} with it".format(self.answer, *cause.gap),
                *(f"   or {other.says}: explains as much" for other in cause.alternatives),
            ]
        if self.undecided:
            names = ", ".join(hypothesis.name for hypothesis in self.undecided)
            lines.append(f"these would show in nothing that was compared: {names}")
        return [*lines, self.conclusion]

    @property
    def conclusion(self) -> str:
        """One sentence on whether the gap is closed."""
        precision, left, alike = self.precision, self.remainders, ", ".join(self.alike)
        taps = f"{counted(self.taps, 'tap')} of {counted(self.images, 'image')}"
        if left:
            more = f", and {len(left) - 1} more of {taps}" if len(left) > 1 else f", of {taps}"
            hint = f"; rounding of {alike} would be as large" if alike else ""
            return f"not explained: {left[0].tap}, {left[0].says}{more}{hint}"
        if self.found_nothing and self.verdict:
            return f"each layer by itself is within rounding, but parity run finds {self.verdict}"
        if self.same:
            return f"no difference beyond {precision} rounding: {taps}"
        if self.coarser:
            also = f" (or {alike})" if alike else ""
            return f"explained by computing in {precision}{also}: {taps} are within its rounding"
        return f"closed: {taps} are within {precision} rounding"

    def to_dict(self) -> dict[str, Any]:
        """Returns the same for a program; numbers that are not finite are None."""
        return {
            "same": self.same,
            "closed": self.closed,
            "conclusion": self.conclusion,
            "verdict": self.verdict,
            "precision": self.precision,
            "computed_in": self.precision if self.coarser else None,
            "precisions_alike": list(self.alike),
            "answer": self.answer,
            "gap": _finite(self.gap),
            "taps": self.taps,
            "images": self.images,
            "passes": self.passes,
            "findings": [
                {
                    **_named(cause.hypothesis),
                    "tap": cause.tap,
                    "evidence": cause.evidence,
                    "times_rounding": _finite(cause.times),
                    "gap": _finite(cause.gap),
                    "alternatives": [_named(other) for other in cause.alternatives],
                }
                for cause in self.causes
            ],
            "not_explained": [
                {"tap": left.tap, "times_rounding": _finite([left.times])[0], "says": left.says}
                for left in self.remainders
            ],
            "undecided": [_named(hypothesis) for hypothesis in self.undecided],
        }


def show_times(times: float) -> str:
    """Returns an error in units of rounding, as in ``"37.2×"``."""
    return f"{times:.3g}×" if times < 1000 else f"{times:.1e}×"


def _named(hypothesis: Hypothesis) -> dict[str, str]:
    return {"name": hypothesis.name, "says": hypothesis.says}


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
