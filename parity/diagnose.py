"""Which hypotheses close the gap between two sides, and by how much.

Every tap is predicted in float64 from what the other side itself had at the taps before it: so
each layer is tried by itself, and nothing before it hides it. What is searched is a set of
hypotheses, at most one of a topic; its worth is how well it predicts the taps, less a threshold
for each. May import everything, frameworks lazily.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from convert.model_file import Model
from parity.compare import group_rows
from parity.envelope import ORDERS, Envelope, Spread, Unit
from parity.errors import ParityError
from parity.hypotheses import FIELDS, Hypothesis, Subject, hypotheses
from parity.tolerance import allowed_times, find_tolerance, unit_of
from pvt_spec import PROFILES, output_names, tap_names
from pvt_spec.arrays import Array

State = frozenset[Hypothesis]
NONE: State = frozenset()

THRESHOLD = 8.0
"""Evidence, as the logarithm of a likelihood ratio, that a hypothesis must bring to be named.

Explanations that are less than this apart are not told apart.
"""

COUNTED = 10
"""Values of a tap that count of one image: its errors of rounding are not independent.

Tokens that are alike (those of a constant image all are) round alike, and a framework's layer
norm may err the same way at each.
"""

PIXELS = 4 * 224 * 224
"""Pixels of images that are looked at, of two images at least: 4 at 224, 49 at 64."""

BEAM = 6
"""Hypotheses that are tried with another one where none helps by itself."""

LADDER = ("fp32", "hf32-conv", "hf32", "tf32", "fp16-graph", "fp16", "bf16-graph", "bf16")
"""Precisions, fine to coarse: the first whose rounding explains all taps is named."""


TINY = float(np.finfo(np.float32).tiny)
"""Smallest error of rounding: that of a tap of zeros has no size."""

ROUNDED = 4
"""Taps that a coarser precision must explain to be named: one may be as far off for any reason."""


@dataclass(frozen=True)
class Observed:
    """What the other side was seen to compute.

    Attributes:
        taps: Any of :func:`pvt_spec.tap_names`, float32 (B, …); perhaps ``logits`` alone.
        images: float32 (B, C, H, W), normalised: what the trusted side was given.
        groups: What each image is judged with.
    """

    taps: Mapping[str, Array]
    images: Array
    groups: Sequence[str]


class _Enough(Exception):
    """The forward pass has come to the last tap that was wanted."""


@contextmanager
def recorded(
    model: Any, names: Sequence[str], given: Mapping[str, Array]
) -> Iterator[dict[str, Any]]:
    """Within it, a forward pass leaves its taps in the dictionary, and ends at the last of them.

    Where a tap is given, of the model's own shape, the pass goes on from that instead.
    """
    taps: dict[str, Any] = {}
    parameter = model.patch_embed1.proj.weight
    tensors = {name: parameter.new_tensor(array) for name, array in given.items()}

    def take(name: str, value: Any) -> Any:
        taps[name] = value
        if name == names[-1]:
            raise _Enough
        tensor = tensors.get(name, value)
        return tensor if tensor.shape == value.shape else value

    def before_head(_: Any, inputs: Any) -> Any:
        return (take("features", inputs[0]),)

    def after(name: str, _: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # tokens, with the height and width of their grid
            return (take(name, output[0]), *output[1:])
        return take(name, output)

    modules = {**dict(model.named_modules()), "logits": model.head}
    handles = [
        model.head.register_forward_pre_hook(before_head)
        if name == "features"
        else modules[name].register_forward_hook(partial(after, name))
        for name in names
    ]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


class Trials:
    """What states predict, and how far that is from what was observed.

    Nothing is computed twice: a tap depends on those hypotheses of a state alone that change it.

    Args:
        subject: The trusted side.
        observed: The other side.
        tried: Hypotheses, in the order that they are applied in.
        progress: Told how many forward passes there were, after each.

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
        self._seen: dict[tuple[str, State], dict[str, Spread]] = {}
        self._touched: dict[Hypothesis, dict[str, dict[str, float]]] = {}
        self._base = self.predict(NONE, self.names)
        self._keep(NONE, self._base)

    def predict(
        self,
        state: State,
        names: Sequence[str],
        emulation: Any = None,
        end_to_end: bool = False,
    ) -> dict[str, Array]:
        """Taps under a state, each computed from what was observed at those before it.

        Args:
            state: What holds.
            names: In forward order; all of them, unless only what is before the last is wanted.
            emulation: Of a precision; in float64 without one.
            end_to_end: From the images alone.
        """
        import pvt_torch
        from pvt_torch.reference import QuickDepthwise

        subject = self.subject
        for hypothesis in self.tried:
            subject = hypothesis.change(subject) if hypothesis in state else subject
        info = subject.info
        twin = pvt_torch.model_from_weights(info.config, info.numerics, dict(subject.weights))
        twin = twin if emulation else twin.double()
        given = {} if end_to_end else self.observed.taps
        last = self.names.index(names[-1]) + 1
        mode = emulation or QuickDepthwise()
        with recorded(twin, self.names[:last], given) as taps, suppress(_Enough), mode:
            pvt_torch.run_taps(twin, subject.images, ())
        self.passes += 1
        self.progress(self.passes)
        return {name: taps[name].numpy() for name in names}

    def touched(self, hypothesis: Hypothesis) -> dict[str, dict[str, float]]:
        """The taps that a hypothesis changes by itself: group -> root mean square of the change."""
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
        """How many taps depend on the images: up to the first that all later ones start from."""
        for index, name in enumerate(self.names):
            whole = not name.endswith((".attn", ".mlp")) and not name.startswith("stage")
            if whole and self._base[name].shape == self.observed.taps[name].shape:
                return index + 1
        return len(self.names)

    def _keep(self, state: State, predicted: Mapping[str, Array]) -> None:
        for name, array in predicted.items():
            self._seen[self._key(state, name)] = {
                group: _spread(self.observed.taps[name], array, rows)
                for group, rows in self.rows.items()
            }

    def _key(self, state: State, name: str) -> tuple[str, State]:
        return name, frozenset(h for h in state if name in self._touched[h])

    def known(self, state: State, name: str) -> dict[str, Spread] | None:
        """How far a tap under a state is from what was observed, where that is known already."""
        for hypothesis in state:
            self.touched(hypothesis)
        return self._seen.get(self._key(state, name))

    def errors(self, state: State) -> dict[str, dict[str, Spread]]:
        """How far every tap under a state is from what was observed, by group."""
        missing = [name for name in self.names if self.known(state, name) is None]
        if missing:
            self._keep(state, self.predict(state, missing))
        return {name: self._seen[self._key(state, name)] for name in self.names}

    def units(self, state: State, precision: str) -> dict[str, dict[str, Unit]]:
        """What rounding alone does to every tap under a state, by group."""
        tolerance, envelope = find_tolerance(precision), None
        exact = self.predict(state, self.names)
        if tolerance.emulation:
            from pvt_torch.emulation import Emulation, find_precision

            envelope = Envelope(self.names)
            for seed in range(ORDERS):
                emulation = Emulation(find_precision(tolerance.emulation), seed)
                rounded = self.predict(state, self.names, emulation)
                for group, rows in self.rows.items():
                    envelope.add(group, _cut(rounded, rows), _cut(exact, rows))
        return {
            name: {
                group: unit_of(tolerance, envelope, name, group, _rms(exact[name][rows]))
                for group, rows in self.rows.items()
            }
            for name in self.names
        }


def _cut(taps: Mapping[str, Array], rows: slice) -> dict[str, Array]:
    return {name: array[rows] for name, array in taps.items()}


def _rms(array: Array) -> float:
    return math.sqrt(float(np.mean(np.square(array, dtype=np.float64))))


def _spread(actual: Array, predicted: Array, rows: slice) -> Spread:
    """How far one is from the other over the images of a group.

    Of another shape it is as far as if the two had nothing to do with each other.
    """
    if actual.shape == predicted.shape:
        spread = Spread()
        spread.add(actual[rows], predicted[rows])
        return spread
    count, signal = actual[rows].size, _rms(predicted[rows]) ** 2
    return Spread(math.inf, count * (_rms(actual[rows]) ** 2 + signal), count * signal, count)


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
            if better is None and self.out_of_bounds(state):
                better = self._step_by_two(state)
            if better is None:
                return self._as_a_profile(state)
            state = better

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
            (_times(spread, self.units[name][group]), allowed_times(spread.count))
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
    """How many times rounding an error is: as :meth:`parity.envelope.Unit.times`."""
    if unit.overflowed and math.isfinite(error.max_abs):
        return 0.0
    pairs = (error.rms, unit.rms), (error.max_abs, 2 * unit.largest)
    return max(0.0 if not ours else ours / theirs if theirs else math.inf for ours, theirs in pairs)


@dataclass(frozen=True)
class Finding:
    """A hypothesis that holds.

    Attributes:
        hypothesis: Which.
        tap: The first observed one that it changes.
        evidence: What it is worth to the explanation; :data:`THRESHOLD` at least.
        times: Rounding at that tap, without it and with it, what stands before it being accepted.
        gap: Largest absolute difference of the answer, without it and with it, likewise.
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
        times: Rounding; inf of a shape or of values that cannot be compared.
        says: How it is off, in words.
    """

    tap: str
    times: float
    says: str


@dataclass(frozen=True)
class Diagnosis:
    """Why two sides differ.

    Attributes:
        findings: What holds, in forward order.
        remainders: What it leaves unexplained, in forward order.
        undecided: Hypotheses that the observed taps say nothing of, either way.
        precision: Whose rounding the taps are within, or were judged by.
        coarser: Whether that is a coarser one than was asked for: an explanation in itself.
        alike: Others whose rounding is as large as what is left, or explains as much.
        answer: The tap that gaps are of: the model's answer, or the last that was observed.
        gap: Its largest absolute difference before and after all that holds.
        taps: How many were compared.
        images: How many were looked at.
        passes: Forward passes that it took.
    """

    findings: tuple[Finding, ...]
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

    @property
    def closed(self) -> bool:
        """Whether everything is explained."""
        return not self.remainders

    @property
    def same(self) -> bool:
        """Whether there is nothing to explain."""
        return self.closed and not self.findings and not self.coarser


def diagnose(
    model: Model,
    observed: Observed,
    precision: str | None = None,
    others: Mapping[str, Model] | None = None,
    progress: Callable[[int], None] = lambda passes: None,
) -> Diagnosis:
    """Finds out why the other side answers differently.

    Args:
        model: The trusted side.
        observed: The other side.
        precision: The tolerance class of what the other side ran in; None for fp32. Coarser ones
            are tried where it leaves something unexplained.
        others: Name -> the model with other weights of the same file, such as averaged ones.
        progress: Told how many forward passes there were, after each.

    Raises:
        ParityError: What was observed is not of this model and these images, or has no tap that
            can be compared.
        ToleranceError: No tolerance class has that name.
    """
    first = precision or "fp32"
    find_tolerance(first)
    observed, broken = _usable(model, observed)
    subject = Subject(model.weights, model.info, observed.images)
    tried = hypotheses(subject, others or {})
    trials = Trials(subject, observed, tried, progress)
    asked = _search(trials, first)
    if not asked.left:
        return _report(asked, first, broken, ())
    coarser = LADDER[LADDER.index(first) + 1 :] if first in LADDER else ()
    able = [found for name in coarser if not (found := _search(trials, name)).left]
    misfits = {found.precision: _misfit(found, asked) for found in able}
    alike = sorted(
        (f for f in able if misfits[f.precision] < 1), key=lambda f: misfits[f.precision]
    )
    chosen = asked
    if alike and len(_coarse_taps(alike[0], asked)) >= ROUNDED:
        chosen, least = alike[0], misfits[alike[0].precision]
        alike = [f for f in alike[1:] if misfits[f.precision] < least + 0.1]
    return _report(chosen, first, broken, tuple(found.precision for found in alike))


def _usable(model: Model, observed: Observed) -> tuple[Observed, tuple[Remainder, ...]]:
    """The images that are looked at, and the taps before the first that has no numbers.

    Raises:
        ParityError: There are none, or they are not of the model.
    """
    config, images = model.info.config, observed.images
    known = tap_names(config)
    problems = [f"{name} is no tap of the model" for name in observed.taps if name not in known]
    problems += [
        f"{name} is of {len(array)} images"
        for name, array in observed.taps.items()
        if len(array) != len(images)
    ]
    if images.ndim != 4 or images.shape[1] != config.in_chans or not len(images):
        problems.append(f"images are {images.shape}, expected (B, {config.in_chans}, H, W)")
    if len(observed.groups) != len(images):
        problems.append(f"{len(observed.groups)} groups")
    names = [name for name in known if name in observed.taps]
    finite = [bool(np.isfinite(observed.taps[name]).all()) for name in names if not problems]
    count = finite.index(False) if False in finite else len(names)
    if not problems and not count:
        problems.append(
            f"{names[0]} already has values that are not finite" if names else "no taps"
        )
    if problems:
        raise ParityError(
            f"what was observed cannot be compared, of {len(images)} images: {'; '.join(problems)}"
        )
    rows = _rows(observed.groups, max(2, PIXELS // math.prod(images.shape[2:])))
    taps = {name: observed.taps[name][rows] for name in names[:count]}
    broken = tuple(_not_finite(name, observed.taps[name]) for name in names[count : count + 1])
    return Observed(taps, images[rows], [observed.groups[row] for row in rows]), broken


def _rows(groups: Sequence[str], most: int) -> list[int]:
    """At most so many images: the first of every group, then the second of every group, …"""
    seen = Counter[str]()
    ranks = []
    for row, group in enumerate(groups):
        ranks.append((seen[group], row))
        seen[group] += 1
    chosen = [row for _, row in sorted(ranks)[:most]]
    return sorted(chosen, key=lambda row: (groups.index(groups[row]), row))


def _not_finite(name: str, array: Array) -> Remainder:
    nans, infs = np.count_nonzero(np.isnan(array)), np.count_nonzero(np.isinf(array))
    return Remainder(name, math.inf, f"{nans} NaN and {infs} infinite values of {array.size}")


@dataclass(frozen=True)
class _Found:
    """What holds if the other side computes in a precision."""

    precision: str
    search: Search
    state: State

    @property
    def left(self) -> list[str]:
        """Taps that are not explained."""
        return self.search.out_of_bounds(self.state)


def _search(trials: Trials, precision: str) -> _Found:
    tried = trials.tried
    if precision.startswith(("tf32", "fp16", "bf16")):  # which round all weights by themselves
        tried = [h for h in tried if h.topic != "storage"]
    state, known = NONE, set[State]()
    while state not in known:  # rounding is that of what holds
        known.add(state)
        search = Search(trials, trials.units(state, precision), tried)
        state = search.run(state)
    return _Found(precision, search, state)


def _misfit(found: _Found, finer: _Found) -> float:
    """How far errors are from the size that a precision makes them: the mean of |log ratio|."""
    logs = []
    for name, groups in found.search.trials.errors(found.state).items():
        for group, error in groups.items():
            unit = found.search.units[name][group].rms
            if error.square or unit > 4 * finer.search.units[name][group].rms:
                logs.append(abs(math.log(max(error.rms / max(unit, TINY), 0.01))))
    return sum(logs) / len(logs)


def _coarse_taps(found: _Found, finer: _Found) -> list[str]:
    """Taps that one precision makes much larger errors at than another."""
    return [
        name
        for name, groups in found.search.units.items()
        if any(unit.rms > 4 * finer.search.units[name][group].rms for group, unit in groups.items())
    ]


def _report(
    found: _Found, asked: str, broken: tuple[Remainder, ...], alike: tuple[str, ...]
) -> Diagnosis:
    precision, search, state = found.precision, found.search, found.state
    trials = search.trials
    answers = [name for name in output_names(trials.subject.info.config) if name in trials.names]
    answer = answers[-1] if answers else trials.names[-1]
    order = sorted(state, key=lambda h: _rank(trials, h))
    steps = [frozenset(order[:count]) for count in range(len(order) + 1)]
    gaps = [_gap(trials, step, answer) for step in steps]
    findings = []
    for index, hypothesis in enumerate(order):
        tap = next(iter(trials.touched(hypothesis)))
        before, after = (search.judged(steps[i], tap)[0] for i in (index, index + 1))
        findings.append(
            Finding(
                hypothesis,
                tap,
                search.worth(state) - search.worth(state - {hypothesis}) + THRESHOLD,
                (before, after),
                (gaps[index], gaps[index + 1]),
                tuple(search.alternatives(state, hypothesis)),
            )
        )
    left = found.left
    return Diagnosis(
        tuple(findings),
        tuple(_remainder(search, state, name, precision) for name in left) + broken,
        tuple(search.undecided(state)) if not left else (),
        precision,
        precision != asked,
        alike,
        answer,
        (gaps[0], gaps[-1]),
        len(trials.names),
        len(trials.observed.images),
        trials.passes,
    )


def _rank(trials: Trials, hypothesis: Hypothesis) -> tuple[int, float]:
    """Forward order; at the same tap what changes more goes first."""
    tap, changes = next(iter(trials.touched(hypothesis).items()))
    return trials.names.index(tap), -max(changes.values())


def _gap(trials: Trials, state: State, answer: str) -> float:
    (predicted,) = trials.predict(state, [answer], end_to_end=True).values()
    observed = trials.observed.taps[answer]
    if predicted.shape != observed.shape:
        return math.inf
    return float(np.abs(observed - predicted).max())


def _remainder(search: Search, state: State, name: str, precision: str) -> Remainder:
    times, _ = search.judged(state, name)
    if math.isfinite(times):
        return Remainder(name, times, f"{_shown(times)} {precision} rounding")
    shape = search.trials.observed.taps[name].shape
    expected = search.trials.predict(state, [name])[name].shape
    return Remainder(name, times, f"its shape is {shape} instead of {expected}")


def _shown(times: float) -> str:
    return f"{times:.3g}×" if times < 1000 else f"{times:.1e}×"


def describe(diagnosis: Diagnosis) -> list[str]:
    """For a terminal: what holds, and a last line for whether that is all."""
    lines, precision = [], diagnosis.precision
    for number, finding in enumerate(diagnosis.findings, start=1):
        start = "" if diagnosis.closed else "nearer if "
        before, after = map(_shown, finding.times)
        lines += [
            f"{number}. {start}{finding.hypothesis.says}",
            f"   first at {finding.tap}: {before} {precision} rounding, {after} with it",
            "   {} gap {:.2g}, {:.2g} with it".format(diagnosis.answer, *finding.gap),
            *(f"   or {other.says}: explains as much" for other in finding.alternatives),
        ]
    if diagnosis.undecided:
        names = ", ".join(hypothesis.name for hypothesis in diagnosis.undecided)
        lines.append(f"not to be seen here, either way: {names}")
    return [*lines, conclusion(diagnosis)]


def conclusion(diagnosis: Diagnosis) -> str:
    """In one sentence, whether the gap is closed."""
    precision, left = diagnosis.precision, diagnosis.remainders
    taps = f"{diagnosis.taps} tap{'s' if diagnosis.taps > 1 else ''} of {diagnosis.images} images"
    alike = ", ".join(diagnosis.alike)
    if left:
        more = f", and {len(left) - 1} more of {taps}" if len(left) > 1 else f", of {taps}"
        hint = f"; rounding of {alike} would be as large" if alike else ""
        return f"not explained: {left[0].tap}, {left[0].says}{more}{hint}"
    if diagnosis.same:
        return f"no difference beyond {precision} rounding: {taps}"
    if diagnosis.coarser:
        also = f" (or {alike})" if alike else ""
        return f"explained by computing in {precision}{also}: {taps} are within its rounding"
    return f"closed: {taps} are within {precision} rounding"


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """For a file; numbers that are not finite are None."""
    return {
        "same": diagnosis.same,
        "closed": diagnosis.closed,
        "conclusion": conclusion(diagnosis),
        "precision": diagnosis.precision,
        "computed_in": diagnosis.precision if diagnosis.coarser else None,
        "precisions_alike": list(diagnosis.alike),
        "answer": diagnosis.answer,
        "gap": [_finite(gap) for gap in diagnosis.gap],
        "taps": diagnosis.taps,
        "images": diagnosis.images,
        "passes": diagnosis.passes,
        "findings": [
            {
                **_named(finding.hypothesis),
                "tap": finding.tap,
                "evidence": finding.evidence,
                "times_rounding": [_finite(times) for times in finding.times],
                "gap": [_finite(gap) for gap in finding.gap],
                "alternatives": [_named(other) for other in finding.alternatives],
            }
            for finding in diagnosis.findings
        ],
        "not_explained": [
            {"tap": left.tap, "times_rounding": _finite(left.times), "says": left.says}
            for left in diagnosis.remainders
        ],
        "undecided": [_named(hypothesis) for hypothesis in diagnosis.undecided],
    }


def _named(hypothesis: Hypothesis) -> dict[str, str]:
    return {"name": hypothesis.name, "says": hypothesis.says}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
