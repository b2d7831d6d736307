"""The same updates by both twins, each against PyTorch in float64.

Every update begins where the reference stands after the one before it, so that a tensor that is off
is off by what this update did. At the end each twin makes all of them once more on its own, as it
trains: where it then is must be where the reference is, within a share of how far it went.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from parity.errors import ParityError
from parity.training.figures import (
    Figure,
    Figures,
    StepUnits,
    backward_order,
    figures_of,
    first_outside,
)
from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.kernels import find_kernels
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch, Gradients, StepResult, Twin

ORDERS = 8
"""Random orders of summation that a unit is measured over.

The error of a gradient may largely be one number times one pattern (70 % of its square, of the
weights of queries): of few draws of such a number all may be small. With three, one of the first
twenty clean runs was an alarm.
"""

DRIFT = 0.02
"""How far a tensor may be off after all updates on its own, as a share of the update's root mean
square: Adam makes whole steps of rounding, and what follows is another path."""

LOSS_DRIFT = 1e-5
"""How far a loss may be off on that path, relatively."""

FACTOR_ALONE = 3.5
"""How many times the units of all updates together a weight may be off beside."""


@dataclass(frozen=True)
class Trial:
    """What both twins are given.

    Attributes:
        info: What travels with the weights.
        recipe: How they are trained.
        state: Where they begin, as :meth:`pvt_train.twin.Twin.state` gives it.
        batches: Those of each update.
        rates: The learning rate of each.
    """

    info: ModelInfo
    recipe: Recipe
    state: Mapping[str, Array]
    batches: Sequence[list[Batch]]
    rates: Sequence[float]


@dataclass
class TwinFound:
    """What was found of one twin.

    Attributes:
        name: What to call it.
        framework: Its framework, version and device.
        figures: The verdicts on all tensors, in the order in which they come about.
        losses: The losses on its own path.
        expected: Those of the reference.
        drift: Tensor -> how far it is off in the end, as a share of what it may be.
    """

    name: str
    framework: str
    figures: list[Figure] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    drift: dict[str, float] = field(default_factory=dict)

    @property
    def first_outside(self) -> Figure | None:
        """The first figure, in the order of the backward pass, that rounding does not explain."""
        return first_outside(self.figures)

    @property
    def first_adrift(self) -> str | None:
        """What is first off after all updates on its own."""
        for step, (loss, expected) in enumerate(zip(self.losses, self.expected, strict=True), 1):
            if not abs(loss - expected) <= LOSS_DRIFT * abs(expected):
                return f"loss in step {step}"
        return next((f"weights of {n}" for n, share in self.drift.items() if not share <= 1), None)

    @property
    def same(self) -> bool:
        """Whether it is the reference's training."""
        return self.first_outside is None and self.first_adrift is None


def compare_training(
    trial: Trial, twins: Mapping[str, Twin], progress: Callable[[int, int], None]
) -> list[TwinFound]:
    """Returns what is found of each twin, in their order.

    Raises:
        ParityError: The reference is not finite.
    """
    found = {name: TwinFound(name, twin.framework) for name, twin in twins.items()}
    allowances = {name: dict[str, Array]() for name in twins}
    state, steps = dict(trial.state), len(trial.batches)
    for number in range(steps):
        step = _Step(trial, number, state)
        for name, twin in twins.items():
            twin.load_state(_like(state, trial.state))
            result, gradients = twin.watched_step(trial.batches[number], trial.rates[number])
            after = twin.state()
            actual = figures_of(trial.info, result, gradients, after)
            units = step.units(twin)
            found[name].figures += [
                units.judge(number + 1, each, actual.get(each)) for each in units.reference
            ]
            found[name].expected.append(step.loss)
            for (kind, tensor), array in units.elements.items():
                if kind == "weights":
                    allowances[name][tensor] = allowances[name].get(tensor, 0.0) + array
        state = step.after
        progress(number + 1, steps + 1)
    for name, twin in twins.items():
        _go_alone(trial, twin, found[name], state, _whole(allowances[name]))
    progress(steps + 1, steps + 1)
    return list(found.values())


def _like(state: Mapping[str, Array], first: Mapping[str, Array]) -> dict[str, Array]:
    """Returns a state as the twins take it: in the dtypes, and with the counters, of the first."""
    return {name: state.get(name, array).astype(array.dtype) for name, array in first.items()}


class _Step:
    """One update: the reference's, and what rounding does to it."""

    def __init__(self, trial: Trial, number: int, state: Mapping[str, Array]):
        from pvt_torch.train.reference import Task

        self.trial, self.number = trial, number
        self.task, self.state = Task(trial.info, trial.recipe), _like(state, trial.state)
        self.reference, self.loss, self.after = self._run(None, 0)
        if not all(np.isfinite(array).all() for array in self.reference.values()):
            raise ParityError(
                f"step {number + 1} is not finite in float64 either: nothing can be compared"
            )
        self._units: dict[str, StepUnits] = {}

    def _run(self, emulation: str | None, seed: int) -> tuple[Figures, float, dict[str, Array]]:
        from pvt_torch.train.reference import PlainTraining

        run = PlainTraining(self.task, self.state, emulation, seed)
        batches, rate = self.trial.batches[self.number], self.trial.rates[self.number]
        result, gradients = run.watched_step(batches, rate)
        state = run.state()
        return figures_of(self.trial.info, result, gradients, state), result.loss, state

    def units(self, twin: Twin) -> StepUnits:
        """Returns the unit for a twin's kernels."""
        library, _, device = twin.framework.partition(" on ")
        emulation = find_kernels(library.split()[0], device).emulation
        if emulation not in self._units:
            units = self._units[emulation] = StepUnits(self.reference)
            for seed in range(ORDERS):
                units.add(self._run(emulation, ORDERS * self.number + seed)[0])
            units.widen(self._doubtful(units))
        return self._units[emulation]

    def _doubtful(self, units: StepUnits) -> Figures:
        """Returns the step with every gradient nearer to 0, or beyond it, by as much as may be."""
        from pvt_torch.train.reference import PlainTraining

        kind, run = "applied gradient", PlainTraining(self.task, self.state)
        doubt = {n: units.doubt((k, n)) for k, n in self.reference if k == kind}
        given = {n: self.reference[kind, n] for n in doubt}
        moved = {n: g - np.where(g < 0, -1, 1) * doubt[n] for n, g in given.items()}
        run.update_with(_whole(moved), self.trial.rates[self.number])
        nothing = StepResult(0.0, 0.0, 1.0, True), Gradients({}, {})
        return figures_of(self.trial.info, *nothing, run.state())


def _whole(parts: Mapping[str, Array]) -> dict[str, Array]:
    """Returns tensors whose halves stand apart as wholes."""
    whole: dict[str, Array] = {}
    for name, array in parts.items():
        tensor = name.partition(" ")[0]
        whole[tensor] = np.concatenate([whole[tensor], array]) if tensor in whole else array
    return whole


def _go_alone(
    trial: Trial,
    twin: Twin,
    found: TwinFound,
    state: Mapping[str, Array],
    allowance: Mapping[str, Array],
) -> None:
    """Has a twin make all updates by itself, as it trains, and compares where it comes to.

    ``allowance`` has, by name, the sum of what a unit of each element was in every update.
    """
    twin.load_state(dict(trial.state))
    for batches, rate in zip(trial.batches, trial.rates, strict=True):
        found.losses.append(twin.step(batches, rate).loss)
    actual = twin.weights()
    for spec in backward_order(trial.info):
        expected = state[spec.name]
        update = expected - trial.state[spec.name]
        bound = DRIFT * math.sqrt(float(np.mean(np.square(update))))
        bounds = bound + FACTOR_ALONE * allowance[spec.name]
        with np.errstate(all="ignore"):
            shares = np.abs(actual[spec.name] - expected) / bounds
        shares[actual[spec.name] == expected] = 0
        found.drift[spec.name] = math.sqrt(float(np.mean(np.square(shares))))
