"""Which hypotheses close the gap between two sides, and by how much."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.model.read import Model
from parity.diagnosis.hypotheses import Hypothesis, Subject, hypotheses
from parity.diagnosis.search import THRESHOLD, TINY, Search
from parity.diagnosis.trials import NONE, Observed, State, Trials
from parity.errors import ParityError
from parity.measure.tolerance import find_tolerance
from pvt_spec import output_names, tap_names
from pvt_spec.arrays import Array

PIXELS = 4 * 224 * 224
"""Pixels of images that are looked at, of two images at least: 4 at 224, 49 at 64."""

LADDER = ("fp32", "hf32-conv", "hf32", "tf32", "fp16-graph", "fp16", "bf16-graph", "bf16")
"""Precisions, fine to coarse: the first whose rounding explains all taps is named."""

ROUNDED = 4
"""Taps that a coarser precision must explain to be named: one may be as far off for any reason."""


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
        findings: What holds, in forward order; while anything remains, only what nothing else
            could stand for.
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
            can be compared; or no precision has that name.
    """
    first = precision or "fp32"
    find_tolerance(first)
    observed, broken = _usable(model, observed)
    subject = Subject(model.weights, model.info, observed.images)
    tried = hypotheses(subject, others or {}, observed.crops)
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
    crops = {share: array[rows] for share, array in observed.crops.items()}
    groups = [observed.groups[row] for row in rows]
    return Observed(taps, images[rows], groups, crops), broken


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
    if left:  # what something else would do as well is no finding before everything is explained
        findings = [
            f for f in findings if all(o.topic == f.hypothesis.topic for o in f.alternatives)
        ]
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
        lines.append(f"these would show in nothing that was compared: {names}")
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
