"""The search for the hypotheses that hold.

What is searched is a set of hypotheses, at most one of a topic; its worth is how well it predicts
the taps, less a threshold for each.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.diagnosis.hypotheses import FIELDS, Hypothesis
from parity.diagnosis.trials import NONE, State, Trials
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
"""Values of a tap that count of one image: its errors of rounding are not independent.

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
    """For the state of the greatest worth, given what rounding does.

    Args:
        trials: What states predict.
        units: What rounding does, by tap and group.
        tried: Hypotheses that may be accepted.
    """

    def __init__(
        self,
        trials: Trials,
        units: Mapping[str, Mapping[str, Unit]],
        tried: Sequence[Hypothesis],
    ):
        self.trials, self.units, self.tried = trials, units, tried

    def run(self, state: State) -> State:
        """From a state on, one hypothesis more, less or another at a time; in pairs if need be."""
        while True:
            better = self._step(state)
            if better is None and self._strained(state):
                better = self._step_by_two(state)
            if better is None:
                return self._as_a_profile(state)
            state = better

    def _strained(self, state: State) -> bool:
        return any(self.judged(state, name)[0] > STRAINED for name in self.trials.names)

    def worth(self, state: State) -> float:
        """The logarithm of a state's likelihood, less the threshold for each of its hypotheses."""
        return self._worth(state, self.trials.errors(state))

    def _worth(self, state: State, errors: Mapping[str, Mapping[str, Spread]]) -> float:
        likelihood = sum(
            self._likelihood(name, group, spread.rms)
            for name, groups in errors.items()
            for group, spread in groups.items()
        )
        return likelihood - THRESHOLD * len(state)

    def _likelihood(self, name: str, group: str, rms: float) -> float:
        """Of an error; where more than rounding is unexplained, its size is known from itself."""
        unit, observed = self.units[name][group], self.trials.observed
        if unit.overflowed:
            return 0.0
        values = math.prod(observed.taps[name].shape[1:])
        counted = observed.groups.count(group) * min(COUNTED, values)
        return -counted / 2 * math.log1p((rms / max(unit.rms, TINY)) ** 2)

    def _most(self, state: State, old: State) -> float:
        """What a state is worth at most, by what is known without trying it.

        An error is at least the change that the hypothesis makes, less the error that was. Under
        other hypotheses a change may be another: a tenth of it is certain enough.
        """
        before, (new, *_) = self.trials.errors(old), [*(state - old), None]
        single = new is not None and old < state
        total = -THRESHOLD * len(state)
        for name in self.trials.names:
            known = self.trials.known(state, name)
            for group, spread in (known or before[name]).items():
                least = spread.rms
                if not known:
                    change = self.trials.touched(new)[name][group] if new and single else 0.0
                    least = max(0.0, change / 10 - spread.rms)
                total += self._likelihood(name, group, least)
        return total

    def candidates(self, state: State) -> list[Hypothesis]:
        """Hypotheses that change anything; those that must show only where something does."""
        everything = bool(self.out_of_bounds(state))
        tried = (h for h in self.tried if h not in state and (h.subtle or everything))
        return [h for h in tried if self.trials.touched(h)]

    def _neighbours(self, state: State) -> Iterator[State]:
        yield from (state - {h} for h in state)
        yield from (with_(state, h) for h in self.candidates(state))

    def ranked(self, state: State, states: Sequence[State], least: float) -> Iterator[State]:
        """Those of some states near one that may be worth more than ``least``, likeliest first."""
        bounds = {other: self._most(other, state) for other in states}
        for other in sorted(states, key=lambda each: -bounds[each]):
            if bounds[other] > least:
                yield other

    def _step(self, state: State, least: float = -math.inf) -> State | None:
        """The best neighbour, if it is better than the state and than ``least``."""
        best, most = None, max(least, self.worth(state))
        for other in self.ranked(state, [*self._neighbours(state)], most):
            worth = self.worth(other) if self._most(other, state) > most else -math.inf
            if worth > most:
                best, most = other, worth
        return best

    def _step_by_two(self, state: State) -> State | None:
        """The first of the best neighbours' own neighbours that is better than the state."""
        neighbours = sorted(self._neighbours(state), key=lambda other: -self._most(other, state))
        near = sorted(neighbours[: 4 * BEAM], key=lambda other: -self.worth(other))[:BEAM]
        pairs = (self._step(other, self.worth(state)) for other in near)
        return next((pair for pair in pairs if pair is not None), None)

    def _as_a_profile(self, state: State) -> State:
        """Of states that explain the same, the one whose maths is a known implementation's."""
        if not any(h.topic in FIELDS for h in state):
            return state
        info = self.trials.subject.info
        for profile in PROFILES.values():
            numerics = profile[info.config.version]
            theirs = [
                h
                for h in self.tried
                if h.topic in FIELDS and h.name == f"{h.topic}={getattr(numerics, h.topic)}"
            ]
            whole, named = NONE.union(h for h in state if h.topic not in FIELDS), state
            for hypothesis in theirs:
                whole = with_(whole, hypothesis)
                if any(h.topic == hypothesis.topic for h in state):
                    named = with_(named, hypothesis)
            # The profile as a whole must be able to explain the data, not only what is named of it.
            able = self.worth(whole) + THRESHOLD * len(whole)
            if able > self.worth(state) + THRESHOLD * (len(state) - 1) and (
                self.worth(named) > self.worth(state) - THRESHOLD
            ):
                return named
        return state

    def alternatives(self, state: State, hypothesis: Hypothesis) -> list[Hypothesis]:
        """What could stand in the place of an accepted hypothesis as well."""
        rest, least = state - {hypothesis}, self.worth(state) - THRESHOLD
        taken = {h.topic for h in rest}
        free = [h for h in self.candidates(rest) if h is not hypothesis and h.topic not in taken]
        near = self.ranked(rest, [with_(rest, h) for h in free], least)
        return [h for other in near if self.worth(other) > least for h in other - rest]

    def undecided(self, state: State) -> list[Hypothesis]:
        """What there is no evidence for or against."""
        taken, least = {h.topic for h in state}, self.worth(state) - 2 * THRESHOLD
        free = [h for h in self.candidates(state) if h.topic not in taken]
        return [h for h in free if self.worth(with_(state, h)) > least]

    def judged(self, state: State, name: str) -> tuple[float, float]:
        """A tap's error in times rounding, and what is allowed, of the worst group."""
        pairs = [
            (_times(spread, self.units[name][group]), max(LOCAL, allowed_times(spread.count)))
            for group, spread in self.trials.errors(state)[name].items()
        ]
        return max(pairs, key=lambda pair: pair[0] / pair[1])

    def out_of_bounds(self, state: State) -> list[str]:
        """Taps that rounding does not explain under a state."""
        judged = {name: self.judged(state, name) for name in self.trials.names}
        return [name for name, (times, allowed) in judged.items() if not times <= allowed]


def with_(state: State, hypothesis: Hypothesis) -> State:
    """A state with one more hypothesis, in place of any other of its topic."""
    return frozenset(h for h in state if h.topic != hypothesis.topic) | {hypothesis}


def _times(error: Spread, unit: Unit) -> float:
    """How many times rounding an error is; of another shape infinitely many."""
    explained = unit.overflowed and math.isfinite(error.max_abs)
    return 0.0 if explained else unit.ratio(error.rms, error.max_abs)
