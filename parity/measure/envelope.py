"""What rounding alone does at every tap, measured: the unit that every runtime is judged in.

The PyTorch twin runs with a precision's rounding at every operation and its sums in several
random orders (:mod:`pvt_torch.emulation`); how far that takes it from float64 is the unit.
Measuring it needs torch, judging by it does not.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from parity.measure.metrics import TapError
from pvt_spec import ConfigError
from pvt_spec.arrays import Array
from pvt_spec.runtime import Taps

ORDERS, MOST_ORDERS = 2, 8
"""Random orders of summation that a unit is measured over: at least, and at most.

In a trained model a tap's error may be one number times one pattern: layers amplify one direction.
Two draws of such a number say little; a third draw is 2.7 times as large as both in one of nine.
Each order costs about two forward passes of PyTorch.
"""

PIXELS = ORDERS * 8 * 224 * 224
"""Pixels that are computed for a batch while there are more orders to come."""

LEAST = float(np.finfo(np.float32).eps) / 4
"""Smallest unit, in units of the reference's root mean square.

A tap that one machine computes without any rounding may be rounded once by another: that is twice
this number at most, and less on average.
"""


@dataclass
class Spread:
    """How far rounding took one tap from float64.

    Attributes:
        max_abs: Largest absolute error; inf if any value is not finite.
        square: Sum of the errors' squares.
        signal: Sum of the reference's squares.
        count: Values seen.
        share: Largest error of one run over its reference, both root mean squares.
    """

    max_abs: float = 0.0
    square: float = 0.0
    signal: float = 0.0
    count: int = 0
    share: float = 0.0

    def add(self, actual: Array, reference: Array) -> None:
        """Takes in one batch: ``actual`` float32, ``reference`` float64 of the same shape."""
        with np.errstate(all="ignore"):
            error = np.subtract(actual, reference, dtype=np.float64)
        largest = max(float(error.max()), -float(error.min()))
        self.max_abs = max(self.max_abs, largest if math.isfinite(largest) else math.inf)
        square, signal = float(np.vdot(error, error)), float(np.vdot(reference, reference))
        self.square += square
        self.signal += signal
        self.count += error.size
        self.share = max(self.share, math.sqrt(square / signal) if signal > 0 else 0.0)

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(
            max(self.max_abs, other.max_abs),
            self.square + other.square,
            self.signal + other.signal,
            self.count + other.count,
            max(self.share, other.share),
        )

    @property
    def rms(self) -> float:
        """Root mean square of the error; not finite if any value was not."""
        return math.sqrt(self.square / self.count)

    @property
    def signal_rms(self) -> float:
        """Root mean square of the reference."""
        return math.sqrt(self.signal / self.count)


@dataclass(frozen=True)
class Unit:
    """What one *times rounding* is at a tap, over one group of images.

    Attributes:
        rms: The unit of the root mean square of an error.
        largest: The unit of the largest absolute error.
        overflowed: Whether rounding alone made infinities: then it explains any.
    """

    rms: float
    largest: float
    overflowed: bool = False

    def times(self, error: TapError) -> float:
        """Returns how many times rounding an error is; inf if it is not finite or has no size."""
        if error.mismatch or error.reference_not_finite:
            return math.inf
        return 0.0 if self.overflowed else self.ratio(error.rms, error.max_abs)

    def ratio(self, rms: float, max_abs: float) -> float:
        """Returns an error in units of this one, whatever explains it.

        The larger of the ratio of root mean squares and half the ratio of the largest errors:
        of clean runs the former stays below 2.7, the latter below 3.9 (see
        :data:`parity.measure.tolerance.FACTOR`).
        """
        ratios = (rms, self.rms), (max_abs, 2 * self.largest)
        return max(_ratio(ours, theirs) for ours, theirs in ratios)


def _ratio(ours: float, theirs: float) -> float:
    if ours == 0:
        return 0.0
    # Nothing is a bound for what is not finite, and what is not finite is none: NaN compares false.
    return ours / theirs if theirs and math.isfinite(ours) else math.inf


class Envelope:
    """What a precision does to every tap over every group of images.

    Attributes:
        spreads: tap -> group -> how far rounding took it.
    """

    def __init__(self, names: Sequence[str]):
        self.spreads: dict[str, dict[str, Spread]] = {name: {} for name in names}

    def add(self, group: str, actual: Taps, reference: Taps) -> None:
        """Takes in one run of images of one group."""
        for name, groups in self.spreads.items():
            groups.setdefault(group, Spread()).add(actual[name], reference[name])

    def unit(self, tap: str, group: str) -> Unit:
        """Returns what rounding does to a tap over a group.

        It is that of the worst run: where errors of a tap go together, runs differ by far more than
        their mean does from any. A group of one image says little of a tap of few values: the unit
        is at least what all groups together had, each in units of its own reference.
        """
        mine = self.spreads[tap][group]
        everything = sum(self.spreads[tap].values(), Spread())
        scale = _ratio(mine.signal_rms, everything.signal_rms)
        least = LEAST * mine.signal_rms
        return Unit(
            max(mine.rms, mine.share * mine.signal_rms, everything.rms * scale, least),
            max(mine.max_abs, everything.max_abs * scale, least),
            overflowed=not math.isfinite(mine.max_abs),
        )

    def to_dict(self) -> dict[str, dict[str, list[float | None]]]:
        """Returns tap -> group -> the numbers of its :class:`Spread`; None where not finite."""
        return {
            tap: {
                group: [number if math.isfinite(number) else None for number in astuple(spread)]
                for group, spread in groups.items()
            }
            for tap, groups in self.spreads.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Sequence[Any]]]) -> "Envelope":
        """Returns the envelope that :meth:`to_dict` was of.

        Raises:
            ConfigError: Its numbers are none of a :class:`Spread`.
        """
        envelope = cls(list(data))
        for tap, groups in data.items():
            for group, numbers in groups.items():
                known: list[Any] = [math.inf if each is None else each for each in numbers]
                if min(known) < 0 or not isinstance(known[3], int) or not known[3]:
                    raise ConfigError(f"a spread of {tap} is {known}: expected 0 or more of values")
                envelope.spreads[tap][group] = Spread(*known)
        return envelope


def orders_of(images: Array) -> int:
    """Returns how many orders of summation a unit is measured over for (B, C, H, W) images."""
    pixels = len(images) * math.prod(images.shape[2:])
    return min(MOST_ORDERS, max(ORDERS, PIXELS // pixels))


def emulated_runs(model: Any, images: Array, emulation: str, seed: int = 0) -> Iterator[Taps]:
    """Yields the taps of some runs of an emulation, each summing in an order of its own.

    Args:
        model: A ``pvt_torch`` model of float32 weights, evaluation mode.
        images: float32 (B, in_chans, H, W), normalised.
        emulation: One of :data:`pvt_spec.precisions.EMULATIONS`.
        seed: What the orders are drawn from: the same seed and images give the same taps.

    Raises:
        EmulationError: No emulation has that name.
    """
    from pvt_torch.emulation import emulated_taps, find_rounding

    for order in range(orders_of(images)):
        yield emulated_taps(model, images, find_rounding(emulation), seed + order)
