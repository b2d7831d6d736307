"""What hypotheses predict of the other side, tap by tap.

Every tap is predicted in float64 from what the other side itself had at the taps before it: so
each layer is tried by itself, and nothing before it hides it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.diagnosis.hypotheses import Hypothesis, Subject
from parity.measure.compare import cut_rows, group_rows
from parity.measure.envelope import ORDERS, Envelope, Spread, Unit
from parity.measure.tolerance import find_tolerance, unit_of
from pvt_spec import tap_names, tap_specs
from pvt_spec.arrays import Array
from pvt_spec.kernels import STRICTEST, Kernels

Explanation = frozenset[Hypothesis]
"""Hypotheses that hold together, at most one of a topic."""

NONE: Explanation = frozenset()

PARTS = ("attn", "mlp", "stage")
"""The layers of taps that the next tap does not start from alone: a branch, or a stage's map."""


@dataclass(frozen=True)
class Observed:
    """What the other side was seen to compute.

    Attributes:
        taps: Any of :func:`pvt_spec.tap_names`, float32 (B, …); perhaps ``logits`` alone.
        images: float32 (B, C, H, W), normalised: what the trusted side was given.
        groups: What each image is judged with.
        kernels: What computed them.
        crops: ``crop_pct`` -> what the trusted side would be given with that one, as far as the
            images themselves are at hand.
    """

    taps: Mapping[str, Array]
    images: Array
    groups: Sequence[str]
    kernels: Kernels = STRICTEST
    crops: Mapping[float, Array] = field(default_factory=dict)


class Trials:
    """What explanations predict, and how far that is from what was observed.

    Nothing is computed twice: a tap depends on those hypotheses alone that change it.

    Args:
        subject: The trusted side.
        observed: The other side.
        tried: Hypotheses, in the order that they are applied in.
        progress: What is told how many forward passes there were, after each.

    Attributes:
        names: What was observed, in forward order.
        rows: The groups of images.
    """

    def __init__(
        self,
        subject: Subject,
        observed: Observed,
        tried: Sequence[Hypothesis],
        progress: Callable[[int], None],
    ):
        self.subject, self.observed, self.tried, self.progress = subject, observed, tried, progress
        self.names = [name for name in tap_names(subject.info.config) if name in observed.taps]
        self.rows = dict(group_rows(observed.groups))
        self.passes = 0
        self._seen: dict[tuple[str, Explanation], dict[str, Spread]] = {}
        self._touched: dict[Hypothesis, dict[str, dict[str, float]]] = {}
        self._base = self.predict(NONE, self.names)
        self._keep(NONE, self._base)

    def predict(
        self,
        held: Explanation,
        names: Sequence[str],
        emulation: Any = None,
        end_to_end: bool = False,
    ) -> dict[str, Array]:
        """Returns taps under an explanation, each from what was observed at those before it.

        Args:
            held: What holds.
            names: The taps, in forward order; all, unless what comes after the last is not wanted.
            emulation: The emulation of a precision; in float64 without one.
            end_to_end: Whether they are computed from the images alone.
        """
        from pvt_torch.reference import QuickDepthwise, set_attributes
        from pvt_torch.taps import run_from
        from pvt_torch.weights import model_from_weights

        subject = self.subject
        for hypothesis in self.tried:
            subject = hypothesis.change(subject) if hypothesis in held else subject
        info = subject.info
        twin = model_from_weights(info.config, info.numerics, subject.weights)
        set_attributes(twin, subject.attributes)
        twin = twin if emulation else twin.double()
        given = {} if end_to_end else self.observed.taps
        before = self.names[: self.names.index(names[-1]) + 1]
        with emulation or QuickDepthwise():
            taps = run_from(twin, subject.images, before, given)
        self.passes += 1
        self.progress(self.passes)
        return {name: taps[name] for name in names}

    def touched(self, hypothesis: Hypothesis) -> dict[str, dict[str, float]]:
        """Returns the taps that a hypothesis changes: group -> root mean square of the change."""
        if hypothesis not in self._touched:
            names = self.names[: self._reach()] if hypothesis.of_input else self.names
            predicted = self.predict(frozenset({hypothesis}), names)
            changes = {
                name: {
                    group: _spread(predicted[name], self._base[name], rows).rms
                    for group, rows in self.rows.items()
                }
                for name in names
            }
            changes = {name: groups for name, groups in changes.items() if any(groups.values())}
            self._touched[hypothesis] = changes
            self._keep(frozenset({hypothesis}), {name: predicted[name] for name in changes})
        return self._touched[hypothesis]

    def _reach(self) -> int:
        """Returns how many taps depend on the images: to the first that all later start from."""
        parts = {tap.name for tap in tap_specs(self.subject.info.config) if tap.layer in PARTS}
        for index, name in enumerate(self.names):
            if name not in parts and self._base[name].shape == self.observed.taps[name].shape:
                return index + 1
        return len(self.names)

    def _keep(self, held: Explanation, predicted: Mapping[str, Array]) -> None:
        for name, array in predicted.items():
            self._seen[self._key(held, name)] = {
                group: _spread(self.observed.taps[name], array, rows)
                for group, rows in self.rows.items()
            }

    def _key(self, held: Explanation, name: str) -> tuple[str, Explanation]:
        return name, frozenset(h for h in held if name in self._touched[h])

    def known(self, held: Explanation, name: str) -> dict[str, Spread] | None:
        """Returns how far a tap is from what was observed, where that is known already."""
        for hypothesis in held:
            self.touched(hypothesis)
        return self._seen.get(self._key(held, name))

    def errors(self, held: Explanation) -> dict[str, dict[str, Spread]]:
        """Returns how far every tap is from what was observed, by group."""
        missing = [name for name in self.names if self.known(held, name) is None]
        if missing:
            self._keep(held, self.predict(held, missing))
        return {name: self._seen[self._key(held, name)] for name in self.names}

    def units(self, held: Explanation, precision: str) -> dict[str, dict[str, Unit]]:
        """Returns what rounding alone does to every tap, by group."""
        tolerance, envelope = find_tolerance(precision), None
        exact = self.predict(held, self.names)
        emulated = tolerance.emulation(self.observed.kernels)
        if emulated:
            from pvt_torch.emulation import Emulation, find_rounding

            envelope = Envelope(self.names)
            for seed in range(ORDERS):
                emulation = Emulation(find_rounding(emulated), seed)
                rounded = self.predict(held, self.names, emulation)
                for group, rows in self.rows.items():
                    envelope.add(group, cut_rows(rounded, rows), cut_rows(exact, rows))
        return {
            name: {
                group: unit_of(tolerance, envelope, name, group, _rms(exact[name][rows]))
                for group, rows in self.rows.items()
            }
            for name in self.names
        }


def _rms(array: Array) -> float:
    return math.sqrt(float(np.mean(np.square(array, dtype=np.float64))))


def _spread(actual: Array, predicted: Array, rows: slice) -> Spread:
    """Returns how far one is from the other over the images of a group.

    Of another shape it is as far as if the two had nothing to do with each other.
    """
    if actual.shape == predicted.shape:
        spread = Spread()
        spread.add(actual[rows], predicted[rows])
        return spread
    count, signal = actual[rows].size, _rms(predicted[rows]) ** 2
    return Spread(math.inf, count * (_rms(actual[rows]) ** 2 + signal), count * signal, count)
