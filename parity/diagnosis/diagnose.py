"""Which hypotheses close the gap between two sides, and by how much."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from convert.model.read import Model
from parity.diagnosis.diagnosis import Cause, Diagnosis, Remainder, show_times
from parity.diagnosis.hypotheses import Hypothesis, Subject, hypotheses
from parity.diagnosis.search import THRESHOLD, TINY, Search
from parity.diagnosis.trials import Explanation, Observed, Trials
from parity.errors import ParityError
from parity.measure.tolerance import find_tolerance
from pvt_spec import output_names, tap_names
from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes
from pvt_spec.words import counted

PIXELS = 4 * 224 * 224
"""Pixels of images that are looked at, of two images at least: 4 at 224, 49 at 64."""

LADDER = ("fp32", "hf32-conv", "hf32", "tf32", "fp16-graph", "fp16", "bf16-graph", "bf16")
"""Precisions, fine to coarse: the first whose rounding explains all taps is named."""

ROUNDED = 4
"""Taps that a coarser precision must explain to be named: one may be as far off for any reason."""


def diagnose(
    model: Model,
    observed: Observed,
    precision: str | None = None,
    others: Mapping[str, Model] | None = None,
    attributes: Attributes | None = None,
    coarser: bool = True,
    progress: Callable[[int], None] = lambda passes: None,
) -> Diagnosis:
    """Finds out why the other side answers differently.

    Args:
        model: The trusted side.
        observed: The other side.
        precision: The tolerance class of what the other side ran in; None for fp32.
        others: Name -> the model with other weights of the same file, such as averaged ones.
        attributes: Those that the other side says it has, and the trusted one has not.
        coarser: Whether coarser precisions are tried where that one leaves something unexplained.
        progress: What is told how many forward passes there were, after each.

    Raises:
        ParityError: What was observed has no tap that can be compared, or no precision has that
            name.
    """
    first = precision or "fp32"
    find_tolerance(first)
    observed, broken = _comparable(observed, tap_names(model.info.config))
    subject = Subject(model.weights, model.info, observed.images)
    tried = hypotheses(subject, others or {}, observed.crops, attributes or {})
    trials = Trials(subject, observed, tried, progress)
    asked = Search(trials, first)
    if not asked.left:
        return _report(asked, first, broken)
    ladder = LADDER[LADDER.index(first) + 1 :] if first in LADDER and coarser else ()
    able = [found for name in ladder if not (found := Search(trials, name)).left]
    misfits = {found: _misfit(found, asked) for found in able}
    alike = sorted((found for found in able if misfits[found] < 1), key=misfits.__getitem__)
    if not alike or len(_coarse_taps(alike[0], asked)) < ROUNDED:
        return _report(asked, first, broken, alike)
    chosen, *rest = alike
    near = [found for found in rest if misfits[found] < misfits[chosen] + 0.1]
    return _report(chosen, first, broken, near)


def _comparable(observed: Observed, known: Sequence[str]) -> tuple[Observed, tuple[Remainder, ...]]:
    """Returns the images that are looked at, with the taps before the first that has no numbers.

    Raises:
        ParityError: There are none.
    """
    names = [name for name in known if name in observed.taps]
    finite = [bool(np.isfinite(observed.taps[name]).all()) for name in names]
    count = finite.index(False) if False in finite else len(names)
    if not count:
        problem = f"{names[0]} already has values that are not finite" if names else "no taps"
        raise ParityError(
            "what was observed cannot be compared, of "
            f"{counted(len(observed.images), 'image')}: {problem}"
        )
    rows = _rows(observed.groups, max(2, PIXELS // math.prod(observed.images.shape[2:])))
    looked_at = Observed(
        taps={name: observed.taps[name][rows] for name in names[:count]},
        images=observed.images[rows],
        groups=[observed.groups[row] for row in rows],
        kernels=observed.kernels,
        crops={share: array[rows] for share, array in observed.crops.items()},
    )
    broken = [_not_finite(name, observed.taps[name]) for name in names[count : count + 1]]
    return looked_at, tuple(broken)


def _rows(groups: Sequence[str], most: int) -> list[int]:
    """Returns at most so many images: the first of every group, then the second of every, …"""
    order = sorted(range(len(groups)), key=lambda row: (groups[:row].count(groups[row]), row))
    return sorted(order[:most], key=lambda row: (groups.index(groups[row]), row))


def _not_finite(name: str, array: Array) -> Remainder:
    nans, infs = np.count_nonzero(np.isnan(array)), np.count_nonzero(np.isinf(array))
    return Remainder(name, math.inf, f"{nans} NaN and {infs} infinite values of {array.size}")


def _misfit(found: Search, finer: Search) -> float:
    """Returns how far errors are from a precision's own size: the mean of |log ratio|."""
    logs = []
    for name, groups in found.trials.errors(found.held).items():
        for group, error in groups.items():
            unit = found.units[name][group].rms
            if error.square or unit > 4 * finer.units[name][group].rms:
                logs.append(abs(math.log(max(error.rms / max(unit, TINY), 0.01))))
    return sum(logs) / len(logs)


def _coarse_taps(found: Search, finer: Search) -> list[str]:
    """Returns the taps that one precision makes much larger errors at than another."""
    return [
        name
        for name, groups in found.units.items()
        if any(unit.rms > 4 * finer.units[name][group].rms for group, unit in groups.items())
    ]


def _report(
    found: Search, asked: str, broken: tuple[Remainder, ...], alike: Sequence[Search] = ()
) -> Diagnosis:
    trials, left = found.trials, found.left
    answers = [name for name in output_names(trials.subject.info.config) if name in trials.names]
    answer = answers[-1] if answers else trials.names[-1]
    order = sorted(found.held, key=lambda hypothesis: _rank(trials, hypothesis))
    steps = [frozenset(order[:count]) for count in range(len(order) + 1)]
    gaps = [_gap(trials, step, answer) for step in steps]
    causes = []
    for index, hypothesis in enumerate(order):
        tap = next(iter(trials.touched(hypothesis)))
        before, after = (found.judged(step, tap)[0] for step in steps[index : index + 2])
        worth = found.worth(found.held) - found.worth(found.held - {hypothesis}) + THRESHOLD
        gap, others = (gaps[index], gaps[index + 1]), found.alternatives(found.held, hypothesis)
        causes.append(Cause(hypothesis, tap, worth, (before, after), gap, tuple(others)))
    if left:  # what something else would do as well is no cause before everything is explained
        causes = [c for c in causes if all(o.topic == c.hypothesis.topic for o in c.alternatives)]
    return Diagnosis(
        causes=tuple(causes),
        remainders=tuple(_remainder(found, name) for name in left) + broken,
        undecided=() if left else tuple(found.undecided(found.held)),
        precision=found.precision,
        coarser=found.precision != asked,
        alike=tuple(other.precision for other in alike),
        answer=answer,
        gap=(gaps[0], gaps[-1]),
        taps=len(trials.names),
        images=len(trials.observed.images),
        passes=trials.passes,
    )


def _rank(trials: Trials, hypothesis: Hypothesis) -> tuple[int, float]:
    """Returns a place in forward order; at the same tap what changes more goes first."""
    tap, changes = next(iter(trials.touched(hypothesis).items()))
    return trials.names.index(tap), -max(changes.values())


def _gap(trials: Trials, held: Explanation, answer: str) -> float:
    (predicted,) = trials.predict(held, [answer], end_to_end=True).values()
    observed = trials.observed.taps[answer]
    if predicted.shape != observed.shape:
        return math.inf
    return float(np.abs(observed - predicted).max())


def _remainder(found: Search, name: str) -> Remainder:
    times, _ = found.judged(found.held, name)
    if math.isfinite(times):
        return Remainder(name, times, f"{show_times(times)} {found.precision} rounding")
    shape = found.trials.observed.taps[name].shape
    expected = found.trials.predict(found.held, [name])[name].shape
    return Remainder(name, times, f"its shape is {shape} instead of {expected}")
