"""How far each tensor of a step is from the reference, and the unit that says whether it matters.

What is linear in rounding (loss, gradients, moments) is judged as a tap is: by root mean square and
largest error, in units of what emulated runs err by. Weights are not: Adam divides a gradient by
its own size, so that where it is hardly more than rounding a whole step may go either way. Each of
their elements has a unit of its own: what emulated runs err by there, and at least what the update
makes of a gradient that is off by as much as is allowed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from parity.measure.envelope import LEAST, Spread, Unit
from parity.measure.tolerance import FACTOR, allowed_times
from pvt_spec import ModelInfo, TensorSpec, tensor_specs
from pvt_spec.arrays import Array
from pvt_train.optim.optimizer import layer_scales
from pvt_train.twin import Gradients, StepResult

LINEAR = ("loss", "gradient", "norm", "applied gradient", "first moment", "second moment")
ELEMENTWISE = ("weights", "average")
QUADRATIC = ("second moment",)
KINDS = LINEAR + ELEMENTWISE
"""What of a step is judged, in the order in which it comes about."""

Name = tuple[str, str]
"""A kind, and a tensor's name; empty where there is but one number."""

Figures = dict[Name, Array]

_FORWARD = (
    *("patch_embed.proj", "patch_embed.norm", "cls_token", "pos_embed", "norm1", "attn.q"),
    *("attn.sr", "attn.norm", "attn.kv", "attn.proj", "norm2", "mlp.fc1", "mlp.dwconv.dwconv"),
    *("mlp.fc2", "norm", "head"),
)
"""The layers of a model within a stage or block, in the order of the forward pass."""


def backward_order(info: ModelInfo) -> list[TensorSpec]:
    """Returns a model's tensors in the order in which the backward pass comes to them."""
    # A layer's rate falls by its distance from the head, which so says where it is.
    distance = layer_scales(info.config, 0.5)
    return sorted(
        tensor_specs(info.config),
        key=lambda spec: (-distance[spec.name], -_FORWARD.index(spec.layer), spec.part != "bias"),
    )


def _parts(info: ModelInfo, tensors: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yields a model's tensors in backward order; biases of keys and of values apart."""
    for spec in backward_order(info):
        if spec.name not in tensors:
            continue
        array = tensors[spec.name]
        if spec.layer == "attn.kv" and spec.part == "bias":
            keys, values = np.split(array, 2)
            yield f"{spec.name} (keys)", keys
            yield f"{spec.name} (values)", values
        else:
            yield spec.name, array


def figures_of(
    info: ModelInfo, result: StepResult, gradients: Gradients, state: Mapping[str, Array]
) -> Figures:
    """Returns all that is judged of a step, in the order in which it comes about."""
    found: Figures = {("loss", ""): np.array([result.loss])}
    kinds: dict[str, Mapping[str, Array]] = {
        "gradient": gradients.mean,
        "norm": {},
        "applied gradient": gradients.applied,
        **{kind: _beginning(state, start) for kind, start in _STATE.items()},
    }
    for kind, tensors in kinds.items():
        if kind == "norm":
            found["norm", ""] = np.array([result.gradient_norm])
        found |= {(kind, name): array for name, array in _parts(info, tensors)}
    return found


_STATE = {
    "first moment": "moment1.",
    "second moment": "moment2.",
    "weights": "",
    "average": "ema.",
}


def _beginning(state: Mapping[str, Array], start: str) -> dict[str, Array]:
    return {name.removeprefix(start): a for name, a in state.items() if name.startswith(start)}


@dataclass
class StepUnits:
    """What rounding does to one step.

    Attributes:
        reference: The step in float64.
        spreads: What emulated runs erred by, as a whole.
        elements: What they erred by in each element at most.
    """

    reference: Figures
    spreads: dict[Name, Spread] = field(default_factory=dict)
    elements: Figures = field(default_factory=dict)

    def add(self, emulated: Figures) -> None:
        """Takes in an emulated run."""
        for name, expected in self.reference.items():
            actual = emulated[name]
            self.spreads.setdefault(name, Spread()).add(actual, expected)
            if name[0] in ("applied gradient", *ELEMENTWISE):
                error = np.abs(np.subtract(actual, expected, dtype=np.float64))
                self.elements[name] = np.maximum(self.elements.get(name, 0.0), error)

    def unit(self, name: Name) -> Unit:
        """Returns the unit of a figure as a whole."""
        spread = self.spreads[name]
        least = LEAST * spread.signal_rms
        rms = max(spread.rms, spread.share * spread.signal_rms, least)
        return Unit(rms, max(spread.max_abs, least), not math.isfinite(spread.max_abs))

    def doubt(self, name: Name) -> Array:
        """Returns how far each element of a gradient may be off and still be rounding."""
        return FACTOR * np.maximum(self.unit(name).rms, self.elements[name])

    def widen(self, doubtful: Figures) -> None:
        """Takes in the step as it is with a gradient that is off by as much as is allowed."""
        for name, expected in self.reference.items():
            if name[0] in ELEMENTWISE:
                error = np.abs(doubtful[name] - expected) / FACTOR
                known = self.elements[name]
                least = np.maximum(np.median(known), LEAST * np.abs(expected))
                self.elements[name] = np.maximum(np.maximum(known, error), least)

    def judge(self, step: int, name: Name, actual: Array | None) -> "Figure":
        """Returns the verdict on a figure."""
        expected, unit = self.reference[name], self.unit(name)
        count, signal = expected.size, self.spreads[name].signal_rms
        vanishes = name[0] in ("gradient", *QUADRATIC, "applied gradient") and signal < unit.rms
        place = (step, *name)
        if actual is None or actual.shape != expected.shape:
            return Figure(*place, math.inf, 1.0, math.inf, unit.rms, signal, vanishes)
        error = Spread()
        error.add(actual, expected)
        if name[0] in ELEMENTWISE:
            with np.errstate(all="ignore"):
                off = np.subtract(actual, expected, dtype=np.float64)
                ratios = np.divide(off, self.elements[name], where=off != 0, out=np.zeros_like(off))
                times = math.sqrt(float(np.mean(np.square(ratios))))
            times = times if math.isfinite(times) else math.inf
        else:
            times = unit.ratio(error.rms, error.max_abs)
            if vanishes and name[0] in QUADRATIC:  # squares of rounding
                times = math.sqrt(times)
        return Figure(*place, times, allowed_times(count), error.rms, unit.rms, signal, vanishes)


@dataclass(frozen=True)
class Figure:
    """The verdict on one tensor of one step.

    Attributes:
        step: The update's number, from 1.
        kind: One of :data:`KINDS`.
        tensor: Its canonical name; empty where there is but one number.
        times: Its error in units of rounding.
        allowed: What that may be at most.
        error: Its error's root mean square.
        unit: The root mean square of what rounding does to it.
        signal: The reference's root mean square.
        vanishes: Whether it is nothing in exact arithmetic, a gradient that is rounding alone.
    """

    step: int
    kind: str
    tensor: str
    times: float
    allowed: float
    error: float
    unit: float
    signal: float
    vanishes: bool

    @property
    def within(self) -> bool:
        """Whether rounding explains the error."""
        return self.times <= self.allowed

    @property
    def name(self) -> str:
        """What to call it."""
        of = f" of {self.tensor}" if self.tensor else ""
        return f"{self.kind}{of} in step {self.step}"


def first_outside(figures: Sequence[Figure]) -> Figure | None:
    """Returns the first figure that rounding does not explain."""
    return next((figure for figure in figures if not figure.within), None)
