"""One runtime against the reference: every tap of every group of images, and what it decides.

Errors are in units of rounding (:mod:`parity.measure.envelope`), bounds are data
(:mod:`parity.measure.tolerance`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from parity.measure.decisions import Decisions
from parity.measure.envelope import Envelope, Unit
from parity.measure.metrics import Place, TapError
from parity.measure.structure import INPUT, Difference
from parity.measure.tolerance import FixedTolerance, allowed_times, find_tolerance, unit_of
from pvt_data.answers.accuracy import probabilities, top_k
from pvt_spec.arrays import Array
from pvt_spec.kernels import STRICTEST, Kernels
from pvt_spec.runtime import Taps

SHOWN_IMAGES = 32
"""Images whose most probable classes are kept for the report."""


@dataclass(frozen=True)
class Judged:
    """A tap's verdict.

    Attributes:
        times: The error of the worst group in units of rounding, or of a fixed tolerance.
        allowed: What it may be at most.
        group: The worst group.
    """

    times: float
    allowed: float
    group: str

    @property
    def within(self) -> bool:
        """Whether rounding explains the error."""
        return self.times <= self.allowed


@dataclass(frozen=True)
class ErrorMap:
    """Where in one image a tap errs.

    Attributes:
        place: What is furthest off; images are counted from 0 over all groups.
        error: The largest |error| over channels, float64: (N,) of tokens (B, N, C), (H, W) of maps
            (B, C, H, W); of (B, C) the errors themselves.
    """

    place: Place
    error: Array

    @classmethod
    def of(cls, place: Place, actual: Array, reference: Array) -> "ErrorMap":
        """Returns the map of an image's tap: (N, C) of tokens, (C, H, W) of maps, or (C,)."""
        with np.errstate(all="ignore"):
            error = np.abs(actual - reference, dtype=np.float64)
        axis = {2: 1, 3: 0}.get(error.ndim)
        return cls(place, error if axis is None else error.max(axis=axis))


@dataclass
class Comparison:
    """One runtime against the reference, gathered over batches.

    Attributes:
        name: What to call it: the runtime, with the file's name where there are several.
        runtime: The runtime's name.
        file: The path of the model, or of the bundle.
        precision: The tolerance class.
        names: Taps compared, in forward order.
        answers: Those taps that the model answers with.
        missing: Taps that were to be compared and that it does not show.
        differences: What of weights, attributes and preprocessing is not as it should be.
        facts: What ran: device, versions, switches.
        envelope: What rounding does here; None where it cannot be measured.
        fixed: What the user allows instead of rounding.
        kernels: Those that the unit of float32 is of.
        errors: tap -> group -> how far it is from the reference.
        decisions: What it decides; empty where the model has no classes.
        maps: tap -> group -> where it is furthest off so far.
        best: The five most probable classes of the first images: index and probability.
        reference_best: The same of the reference.
        against: What the reference is, in a word or two.
        task: What the model's logits mean, one of :data:`pvt_spec.TASKS`.
        checked: How many weights and how many attributes were compared with what they should be.
        images: How many images were seen.
        seconds: The time spent in forward passes.
    """

    name: str
    runtime: str
    file: str
    precision: str
    names: tuple[str, ...]
    answers: tuple[str, ...]
    missing: tuple[str, ...] = ()
    differences: list[Difference] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    envelope: Envelope | None = None
    fixed: FixedTolerance | None = None
    kernels: Kernels = STRICTEST
    errors: dict[str, dict[str, TapError]] = field(default_factory=dict)
    decisions: Decisions = field(default_factory=Decisions)
    maps: dict[str, dict[str, ErrorMap]] = field(default_factory=dict)
    best: list[list[tuple[int, float]]] = field(default_factory=list)
    reference_best: list[list[tuple[int, float]]] = field(default_factory=list)
    against: str = "float64"
    task: str = "single_label"
    checked: dict[str, int] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0
    _excess: dict[tuple[str, str], float] = field(default_factory=dict, repr=False)

    def add(
        self, groups: Sequence[str], actual: Taps, reference: Taps, labels: Array | None = None
    ) -> None:
        """Takes in one batch.

        Args:
            groups: What each image is judged with; those of one group stand together.
            actual: The runtime's taps.
            reference: The same taps of the reference, float64.
            labels: Class indices, int (B,), if they are known.
        """
        for name in self.names:
            for group, rows in group_rows(groups):
                self._add_tap(name, group, rows, actual[name], reference[name])
        if self.classifies:
            ours, theirs = actual["logits"], reference["logits"]
            if (ours.ndim, ours.shape[:1]) != (2, theirs.shape[:1]) or not ours.size:
                ours = np.full(theirs.shape, np.nan)  # no answers
            for group, rows in group_rows(groups):
                bound = self.allowed_logit_error(group, theirs[rows])
                known = None if labels is None else labels[rows]
                self.decisions.add(ours[rows], theirs[rows], bound, known)
            shown = slice(max(0, SHOWN_IMAGES - self.images))
            self.best += best_classes(ours[shown], self.task)
            self.reference_best += best_classes(theirs[shown], self.task)
        self.images += len(groups)

    def _add_tap(self, name: str, group: str, rows: slice, actual: Array, reference: Array) -> None:
        error = self.errors.setdefault(name, {}).setdefault(group, TapError())
        theirs = reference[rows]
        if actual.shape != reference.shape:
            error.add_mismatch(actual.shape, reference.shape, len(theirs))
            return
        ours, known = actual[rows], error.worst
        error.add(ours, theirs)
        if self.fixed:
            worst = self._add_excess(name, group, self.fixed.excess(ours, theirs))
        elif error.worst and error.worst is not known:
            row = error.worst.image - (error.images - len(theirs))
            worst = Place(row, error.worst.position)
        else:
            worst = None
        if worst:
            place = Place(self.images + rows.start + worst.image, worst.position)
            found = ErrorMap.of(place, ours[worst.image], theirs[worst.image])
            self.maps.setdefault(name, {})[group] = found

    def _add_excess(self, name: str, group: str, excess: Array) -> Place | None:
        """Takes in what a fixed tolerance says of a batch; returns its place if it is the worst."""
        row, *position = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
        largest = float(excess.max())
        if largest <= self._excess.setdefault((name, group), 0.0):
            return None
        self._excess[name, group] = largest
        return Place(row, tuple(position))

    @property
    def answers_alone(self) -> bool:
        """Whether nothing was compared but what the model ends with: nothing that is inside it."""
        return not any(self.checked.values()) and {*self.names} <= {*self.answers, "features"}

    @property
    def classifies(self) -> bool:
        """Whether the model answers logits; only then are there classes."""
        return self.answers == ("logits",)

    def allowed_logit_error(self, group: str, reference: Array) -> float | Array:
        """Returns how far a logit may be off and still be rounding: for all images, or (B,).

        Args:
            group: What the images are judged with.
            reference: The logits of the reference, float64 (B, num_classes).
        """
        if self.fixed:
            with np.errstate(over="ignore"):
                bounds: Array = self.fixed.atol + self.fixed.rtol * np.abs(reference).max(axis=1)
            return bounds
        unit = self._unit("logits", group)
        # By the logits of one image, so that no image's bound depends on those that came before.
        return math.inf if unit.overflowed else 2 * allowed_times(len(reference[0])) * unit.largest

    def judge_group(self, tap: str, group: str) -> Judged:
        """Returns the verdict on a tap over one group: what decides whether it is wrong."""
        error = self.errors[tap][group]
        if self.fixed:
            excess = self._excess[tap, group] if error.measured else math.inf
            return Judged(excess, 1.0, group)
        times = self._unit(tap, group).times(error)
        return Judged(times, allowed_times(error.count), group)

    def _unit(self, tap: str, group: str) -> Unit:
        rms = self.errors[tap][group].reference_rms
        return unit_of(find_tolerance(self.precision), self.envelope, tap, group, rms)

    def judge(self, tap: str) -> Judged:
        """Returns the verdict on a tap: that of its worst group."""
        judged = [self.judge_group(tap, group) for group in self.errors[tap]]
        return max(judged, key=lambda each: each.times / each.allowed)

    def total(self, tap: str) -> TapError:
        """Returns the error of a tap over all images."""
        whole = TapError()
        for error in self.errors[tap].values():
            whole.merge(error)
        return whole

    def worst_of(self, names: Sequence[str]) -> str:
        """Returns the tap of some that is furthest out of bounds, or nearest to that."""
        judged = {name: self.judge(name) for name in names}
        return max(judged, key=lambda name: judged[name].times / judged[name].allowed)

    @property
    def first_out_of_bounds(self) -> str | None:
        """The first tap, in forward order, that rounding does not explain."""
        return next((name for name in self.names if not self.judge(name).within), None)

    @property
    def first_different(self) -> str | None:
        """The first tap that differs, or that something different enters; ``"input"`` before all.

        A difference in structure that rounding hides counts: it is one all the same.
        """
        order = [INPUT, *self.names]
        found = [self.first_out_of_bounds, *(d.tap for d in self.differences)]
        known = [tap for tap in found if tap in order]
        return min(known, key=order.index) if known else None

    @property
    def same(self) -> bool:
        """Whether the runtime computes the reference's function."""
        return self.first_out_of_bounds is None and not self.differences


def group_rows(groups: Sequence[str]) -> Iterator[tuple[str, slice]]:
    """Yields each group of a batch, and its rows."""
    start = 0
    for group, same in groupby(groups):
        stop = start + len(list(same))
        yield group, slice(start, stop)
        start = stop


def cut_rows(taps: Taps, rows: slice) -> Taps:
    """Returns the same taps of some images only."""
    return {name: array[rows] for name, array in taps.items()}


def best_classes(logits: Array, task: str = "single_label") -> list[list[tuple[int, float]]]:
    """Returns the five most probable classes of each image, with their probabilities."""
    if not len(logits):
        return []
    with np.errstate(all="ignore"):
        shares = probabilities(logits, task)
    return [
        [(int(index), float(row[index])) for index in best]
        for row, best in zip(shares, top_k(logits, 5), strict=True)
    ]
