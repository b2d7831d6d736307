"""Error through depth: where everything is in the plots, which all have the same axes.

``plot.svg.jinja`` draws them.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from parity.report.text import compared_taps
from parity.result import Result

_LABEL = 34
"""Width that the name of a part takes; a narrower last part's runs into the margin."""

_MOST_TICKS = 6

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axes:
    """Where things are in a plot, in SVG's units: x from the left, y from the top.

    Attributes:
        names: Taps, left to right.
        lengths: How many taps each stage has, and what comes after the last one: the head.
        low: The power of ten at the bottom.
        high: The power of ten at the top.
        zeros: Whether there is room for errors of 0, which a logarithm has none for.
        broken: Whether there is room for errors that are not finite.
        unit: What an error is counted in.
        width: The drawing's.
        left: Where taps begin.
        right: Where they end.
        body: The height of what is to scale.
        notes: The height above it, of the note on where a runtime differs.
        band: The height above it of errors that are not finite, and below it of those that are 0.
        labels: The height below, of the names of stages.
    """

    names: Sequence[str]
    lengths: Mapping[str, int]
    low: int
    high: int
    zeros: bool
    broken: bool
    unit: str
    width: ClassVar = 880
    left: ClassVar = 84
    right: ClassVar = 852
    body: ClassVar = 150
    notes: ClassVar = 22
    band: ClassVar = 32
    labels: ClassVar = 42

    @property
    def step(self) -> float:
        """The width of a tap."""
        return (self.right - self.left) / len(self.names)

    @property
    def size(self) -> float:
        """Half the width of the sign of a tap."""
        return min(3.2, max(1.8, self.step * 0.4))

    @property
    def top(self) -> float:
        """Where what is to scale begins."""
        return self.notes + (self.band if self.broken else 0)

    @property
    def floor(self) -> float:
        """The horizontal axis."""
        return self.top + self.body + (self.band if self.zeros else 0)

    def x(self, index: float) -> float:
        """Returns the middle of a tap; half a tap less is its left edge."""
        return round(self.left + (index + 0.5) * self.step, 1)

    def is_scaled(self, value: float) -> bool:
        """Returns whether an error is one that a logarithm has a place for."""
        return value != 0 and math.isfinite(value)

    def y(self, value: float) -> float:
        """Returns the height at which an error stands."""
        if self.is_scaled(value):
            share = (self.high - math.log10(value)) / (self.high - self.low)
            return round(self.top + self.body * share, 1)
        half = self.band / 2
        return self.top + self.body + half if value == 0 else self.top - half

    @property
    def ticks(self) -> Iterator[tuple[float, str]]:
        """The heights that have a label, and the labels."""
        every = -(-(self.high - self.low) // _MOST_TICKS)
        for power in range(self.low, self.high + 1):
            if power % every == 0:
                raised = f"10{str(power).translate(_RAISED)}×"
                yield self.y(10.0**power), f"{10.0**power:g}×" if abs(power) < 4 else raised
        if self.zeros:
            yield self.y(0.0), "0, exact"
        if self.broken:
            yield self.y(math.inf), "not finite"

    @property
    def parts(self) -> Iterator[tuple[float, str, float, str]]:
        """Where each part begins, its name, and where that stands with which anchor."""
        start = 0
        for part, length in self.lengths.items():
            x = self.x(start - 0.5)
            if length * self.step < _LABEL:
                yield x, part, x + 3, "start"
            else:
                yield x, part, self.x(start + length / 2 - 0.5), "middle"
            start += length


def shared_axes(result: Result) -> Axes:
    """Returns axes that every runtime's errors fit on, with the bounds."""
    comparisons = result.comparisons
    judged = [comparison.judge(name) for comparison in comparisons for name in comparison.names]
    values = [each.times for each in judged]
    shown = [1.0, *(each.allowed for each in judged)]
    shown += [value for value in values if value and math.isfinite(value)]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown) * 1.2))
    taps = compared_taps(result)
    parts = ("head" if tap.stage is None else f"stage {tap.stage + 1}" for tap in taps)
    return Axes(
        [tap.name for tap in taps],
        Counter(parts),
        low if low < 0 else -1,
        high,
        zeros=0.0 in values,
        broken=not all(map(math.isfinite, values)),
        unit="tolerance" if comparisons[0].fixed else "rounding",
    )
