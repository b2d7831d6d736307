"""What a runtime is: the protocol by which each twin runs a model and shows what it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pvt_spec.arrays import Array
from pvt_spec.model_info import ModelInfo

Taps = Mapping[str, Array]
"""Intermediate results by the names of :func:`pvt_spec.tap_names`."""


class Weighted(Protocol):
    """A model in memory: its weights by canonical name, and what travelled with them."""

    @property
    def weights(self) -> Mapping[str, Array]:
        """The arrays by canonical name."""

    @property
    def info(self) -> ModelInfo:
        """Everything but the weights."""


@dataclass(frozen=True)
class Task:
    """What a runtime is to open.

    Attributes:
        model: The weights, and what travelled with them.
        path: The file that they come from.
        names: The taps that are wanted, in forward order.
        image_size: (H, W) in pixels of the images.
    """

    model: Weighted
    path: Path
    names: Sequence[str]
    image_size: tuple[int, int]


FUSED = "operators"
"""The fact under which a graph's operators of an engine's own are named: they show less."""


COARSE = "weights in steps"
"""The fact under which it is said how many weights a graph holds rounded: their values differ."""


SATURATES = "int8 products"
"""The fact under which it is said that their sums are wrong where they are large."""


@dataclass(frozen=True)
class OpenModel:
    """A model in a runtime.

    Attributes:
        taps: The function from float32 (B, in_chans, H, W), normalised, to the wanted taps in
            forward order.
        attributes: What the runtime's own objects hold; see :mod:`pvt_spec.attributes`.
        weights: What they hold of weights, by canonical name.
        facts: What runs: ``framework``, ``device``, ``mode`` and ``precision`` (a key of
            :data:`pvt_spec.precisions.PRECISIONS`) among others.
        steps: How far apart the numbers are that a weight or attribute can have, by its name, of
            those that were rounded for it to compute with; a weight's broadcasts with it.
        names: The wanted taps that it has, in forward order; None for all.
    """

    taps: Callable[[Array], Taps]
    attributes: dict[str, Any]
    weights: Mapping[str, Array]
    facts: dict[str, str]
    steps: Mapping[str, Array] = field(default_factory=dict)
    names: Sequence[str] | None = None


class Runtime(Protocol):
    """One way to run a model: a framework, and how it is set.

    Importing the module of a runtime imports no framework; :meth:`open` does.
    """

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def kind(self) -> str:
        """What its objects are: ``"torch"``, ``"mindspore"`` or ``"onnx"``."""

    @property
    def library(self) -> str:
        """The package that must be installed."""

    def obstacle(self) -> str | None:
        """Returns why it cannot run here though its library is installed, or None where it can."""

    def open(self, task: Task) -> OpenModel:
        """Opens a model.

        Raises:
            PvtError: The runtime cannot be used, or the model in it.
        """
