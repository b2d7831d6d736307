"""The search for the hypotheses that hold.

An explanation is a set of hypotheses, at most one of a topic; its worth is how well it predicts the
taps, less a threshold for each.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from parity.diagnosis.hypotheses import FIELDS, Hypothesis
from parity.diagnosis.trials import NONE, Explanation, Trials
from parity.measure.envelope import Spread, Unit
from parity.measure.tolerance import allowed_times
from pvt_spec import PROFILES

THRESHOLD = 8.0
"""Evidence, as the logarithm of a likelihood ratio, that a hypothesis must bring to be named.

Explanations that are less than this apart are not told apart. What an epsilon or a GELU that is
not there brought in clean runs (60 models of v1, v2 and linear v2 in MindSpore, PyTorch and
onnxruntime; all taps, those between blocks, and the logits, 1980 trials): 1.6 at most, and 2.8
where one tap alone was looked at, the worst of all.
"""

COUNTED = 10
"""The most values of a tap that count for an image: errors of rounding are not independent.

Tokens that are alike (those of a constant image all are) round alike, and a framework's layer
norm may err the same way at each: with 25 values counted, the 2.8 above are 7.0.
"""

LOCAL = 8.0
"""Times rounding that any tap may be off: errors of one layer have not averaged out over many.

At most 4.2, at the fourth patch embedding of a pvt_v2_b2_li with initial weights, and 3.1 at those
of the small ones; of 41874 taps of 459 clean runs by group, in three runtimes.
"""

STRAINED = 3.0
"""Times rounding that are worth trying hypotheses in pairs for: alone each may do too little."""

BEAM = 6
"""Hypotheses that are tried with another one where none does enough by itself."""

TINY = float(np.finfo(np.float32).tiny)
"""Smallest error of rounding: that of a tap of zeros has no size."""


class Search:
    """A search for the explanation of the greatest worth, in one precision.

    Args:
        trials: What explanations predict.
        precision: What rounds.

    Attributes:
        units: What rounding does, by tap and group.
        held: The explanation that was found.
    """

    def __init__(self, trials: Trials, precision: str):
        self.trials, self.precision, self.tried = trials, precision, trials.tried
        if precision.startswith(("tf32", "fp16", "bf16")):  # which round all weights by themselves
            self.tried = [h for h in trials.tried if h.topic != "storage"]
        self.held, known = NONE, set[Explanation]()
        while self.held not in known:  # rounding is that of what holds
            known.add(self.held)
            self.units = trials.units(self.held, precision)
            self.held = self.run(self.held)

    @property
    def left(self) -> list[str]:
        """The taps that are not explained."""
        return self.out_of_bounds(self.held)

    def run(self, held: Explanation) -> Explanation:
        """Searches on from one, by a hypothesis more, less or another, and in pairs if need be."""
        while True:
            better = self._step(held)
            strained = any(self.judged(held, name)[0] > STRAINED for name in self.trials.names)
            if better is None and strained:
                better = self._step_by_two(held)
            if better is None:
                return self._as_a_profile(held)
            held = better

    def worth(self, held: Explanation) -> float:
        """Returns the logarithm of its likelihood, less the threshold for each hypothesis."""
        likelihood = sum(
            self._likelihood(name, group, spread.rms)
            for name, groups in self.trials.errors(held).items()
            for group, spread in groups.items()
        )
        return likelihood - THRESHOLD * len(held)

    def _likelihood(self, name: str, group: str, rms: float) -> float:
        """Returns that of an error; one of more than rounding is known from its own size."""
        unit, observed = self.units[name][group], self.trials.observed
        if unit.overflowed:
            return 0.0
        values = math.prod(observed.taps[name].shape[1:])
        counted = observed.groups.count(group) * min(COUNTED, values)
        return -counted / 2 * math.log1p((rms / max(unit.rms, TINY)) ** 2)

    def _most(self, held: Explanation, old: Explanation) -> float:
        """Returns what an explanation is worth at most, by what is known without trying it.

        An error is at least the change that the hypothesis makes, less the error that was. Under
        other hypotheses a change may be another: a tenth of it is certain enough.
        """
        before, (new, *_) = self.trials.errors(old), [*(held - old), None]
        single = new is not None and old < held
        total = -THRESHOLD * len(held)
        for name in self.trials.names:
            known = self.trials.known(held, name)
            for group, spread in (known or before[name]).items():
                least = spread.rms
                if not known:
                    change = self.trials.touched(new)[name][group] if new and single else 0.0
                    least = max(0.0, change / 10 - spread.rms)
                total += self._likelihood(name, group, least)
        return total

    def candidates(self, held: Explanation) -> list[Hypothesis]:
        """Returns what changes anything; hypotheses that must show only where something does."""
        everything = bool(self.out_of_bounds(held))
        tried = (h for h in self.tried if h not in held and (h.subtle or everything))
        return [h for h in tried if self.trials.touched(h)]

    def _neighbours(self, held: Explanation) -> Iterator[Explanation]:
        yield from (held - {h} for h in held)
        yield from (with_(held, h) for h in self.candidates(held))

    def ranked(
        self, held: Explanation, near: Sequence[Explanation], least: float
    ) -> Iterator[Explanation]:
        """Yields those near one that may be worth more than ``least``, likeliest first."""
        bounds = {other: self._most(other, held) for other in near}
        for other in sorted(near, key=lambda each: -bounds[each]):
            if bounds[other] > least:
                yield other

    def _step(self, held: Explanation, least: float = -math.inf) -> Explanation | None:
        """Returns the best neighbour, if it is better than the explanation and than ``least``."""
        best, most = None, max(least, self.worth(held))
        for other in self.ranked(held, [*self._neighbours(held)], most):
            worth = self.worth(other) if self._most(other, held) > most else -math.inf
            if worth > most:
                best, most = other, worth
        return best

    def _step_by_two(self, held: Explanation) -> Explanation | None:
        """Returns the first of the best neighbours' own neighbours that is better."""
        neighbours = sorted(self._neighbours(held), key=lambda other: -self._most(other, held))
        near = sorted(neighbours[: 4 * BEAM], key=lambda other: -self.worth(other))[:BEAM]
        pairs = (self._step(other, self.worth(held)) for other in near)
        return next((pair for pair in pairs if pair is not None), None)

    def _as_a_profile(self, held: Explanation) -> Explanation:
        """Returns a known implementation's maths where that explains the same."""
        info, topics = self.trials.subject.info, {h.topic for h in held}
        if not topics & FIELDS.keys():
            return held
        for profile in PROFILES.values():
            numerics = profile[info.config.version]
            theirs = {f"{field}={getattr(numerics, field)}" for field in FIELDS}
            whole, named = NONE.union(h for h in held if h.topic not in FIELDS), held
            for hypothesis in self.tried:
                if hypothesis.name in theirs:
                    whole = with_(whole, hypothesis)
                    named = with_(named, hypothesis) if hypothesis.topic in topics else named
            # The profile as a whole must be able to explain the data, not only what is named of it.
            able = self.worth(whole) + THRESHOLD * len(whole)
            if able > self.worth(held) + THRESHOLD * (len(held) - 1) and (
                self.worth(named) > self.worth(held) - THRESHOLD
            ):
                return named
        return held

    def alternatives(self, held: Explanation, hypothesis: Hypothesis) -> list[Hypothesis]:
        """Returns what could stand in the place of an accepted hypothesis as well."""
        rest, least = held - {hypothesis}, self.worth(held) - THRESHOLD
        taken = {h.topic for h in rest}
        free = [h for h in self.candidates(rest) if h is not hypothesis and h.topic not in taken]
        near = self.ranked(rest, [with_(rest, h) for h in free], least)
        return [h for other in near if self.worth(other) > least for h in other - rest]

    def undecided(self, held: Explanation) -> list[Hypothesis]:
        """Returns what there is no evidence for or against."""
        taken, least = {h.topic for h in held}, self.worth(held) - 2 * THRESHOLD
        free = [h for h in self.candidates(held) if h.topic not in taken]
        return [h for h in free if self.worth(with_(held, h)) > least]

    def judged(self, held: Explanation, name: str) -> tuple[float, float]:
        """Returns a tap's error in times rounding, and what is allowed, of the worst group."""
        pairs = [
            (_times(spread, self.units[name][group]), max(LOCAL, allowed_times(spread.count)))
            for group, spread in self.trials.errors(held)[name].items()
        ]
        return max(pairs, key=lambda pair: pair[0] / pair[1])

    def out_of_bounds(self, held: Explanation) -> list[str]:
        """Returns the taps that rounding does not explain under an explanation."""
        judged = {name: self.judged(held, name) for name in self.trials.names}
        return [name for name, (times, allowed) in judged.items() if not times <= allowed]


def with_(held: Explanation, hypothesis: Hypothesis) -> Explanation:
    """Returns an explanation with one more hypothesis, in place of any other of its topic."""
    return frozenset(h for h in held if h.topic != hypothesis.topic) | {hypothesis}


def _times(error: Spread, unit: Unit) -> float:
    """Returns how many times rounding an error is; of another shape infinitely many."""
    explained = unit.overflowed and math.isfinite(error.max_abs)
    return 0.0 if explained else unit.ratio(error.rms, error.max_abs)
