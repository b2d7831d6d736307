"""What the loop asks of a framework: one step of training, answers, and the whole state."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pvt_spec import PvtError
from pvt_spec.arrays import Array


class TrainingError(PvtError):
    """Training that cannot start or cannot go on."""


@dataclass(frozen=True)
class Batch:
    """What one forward and backward pass is given; B is the number of this worker's images.

    Everything random in a step is in here, so that a step is a function of it, of the learning
    rate and of the state before.

    Attributes:
        pixels: uint8 (B, H, W, C); normalised on the device.
        targets: float32 (B, num_classes), each row summing to 1, of the mixed images.
        mixing: float32 (B,): the share of each normalised image; the rest is its partner's
            (mixup; see :func:`pvt_train.input.mixing.partners`). 1 leaves it alone.
        drop_path: float32 (blocks, 2, B): what stochastic depth scales each branch by; see
            :func:`pvt_train.input.randomness.drop_path_scales`.
    """

    pixels: Array
    targets: Array
    mixing: Array
    drop_path: Array


@dataclass(frozen=True)
class StepResult:
    """What one update came to, the same on every worker.

    Attributes:
        loss: Mean cross-entropy over the images of all workers, before the update.
        gradient_norm: Global L2 norm of the mean gradient, unscaled and before clipping.
        loss_scale: The loss scale that the gradients were computed with.
        updated: Whether the weights were updated; not where a gradient was not finite.
    """

    loss: float
    gradient_norm: float
    loss_scale: float
    updated: bool


@dataclass(frozen=True)
class Gradients:
    """What an update was made of, by the canonical names of what is trained; float32.

    Attributes:
        mean: The mean over the images of all workers, unscaled and before clipping.
        applied: The gradient that the optimizer was given: clipped, where it was. Empty where the
            update was left out.
    """

    mean: dict[str, Array]
    applied: dict[str, Array]


class Twin(Protocol):
    """A model under training in some framework, on one of ``ranks`` workers.

    Attributes:
        framework: The framework, version and device, as in ``mindspore 2.10.0 on CPU``.
        ending: The ending of the model files that its framework's users expect, as ``.ckpt``.
        rank: This worker's number, from 0.
        ranks: Number of workers; they hold the same state, bit for bit.
    """

    framework: str
    ending: str
    rank: int
    ranks: int

    def step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Updates the weights once, with the gradient's mean over the batches of all workers.

        Args:
            batches: One, or as many as ``gradient_accumulation_steps``.
            learning_rate: The learning rate of this update.
        """
        ...

    def watched_step(
        self, batches: Sequence[Batch], learning_rate: float
    ) -> tuple[StepResult, Gradients]:
        """Makes an update as :meth:`step` does, by the same code, and returns its gradients too."""
        ...

    def forward(self, images: Array) -> Array:
        """Returns logits float32 (B, num_classes) of normalised float32 (B, C, H, W), undropped."""
        ...

    def averaged(self) -> AbstractContextManager[None]:
        """Makes ``forward`` and ``weights`` those of the moving average (EMA) in the block."""
        ...

    def weights(self) -> dict[str, Array]:
        """Returns copies of all weights under canonical names."""
        ...

    def state(self) -> dict[str, Array]:
        """Returns copies of all that a later step depends on: weights, moments, averages, counters.

        Weights are under canonical names, the rest under ``moment1.NAME``, ``moment2.NAME``,
        ``ema.NAME``, and whole names for counters and the loss scale.
        """
        ...

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes up a state, so that the next steps give the same bits as they did after it.

        Raises:
            TrainingError: The state's names, shapes or dtypes are not this twin's; all are named.
        """
        ...

    def total(self, values: Array) -> Array:
        """Returns the sum of float64 (N,) over all workers, each of which calls it; the same on
        each."""
        ...

    def first_not_finite(self, batch: Batch) -> str | None:
        """Returns the first tap in forward order that is not finite for a batch, or None."""
        ...


Kind = tuple[tuple[int, ...], str]
"""An array's shape and the name of its dtype."""


def check_state(state: Mapping[str, Array], expected: Mapping[str, Kind]) -> None:
    """Refuses what is not the state of a twin.

    Args:
        state: The state.
        expected: The kind of each of the twin's own arrays, by name.

    Raises:
        TrainingError: Its names, shapes or dtypes are others; all are named.
    """
    found = {name: (a.shape, a.dtype.name) for name, a in state.items()}
    problems = [
        f"{name}: {_describe(found.get(name))}, expected {_describe(expected.get(name))}"
        for name in sorted(expected.keys() | found.keys())
        if found.get(name) != expected.get(name)
    ]
    if problems:
        raise TrainingError(
            "not the state of this recipe's training (opt, ema, freeze, loss_scale_type and "
            "amp_level must be those of the run that wrote it):\n  " + "\n  ".join(problems)
        )


def _describe(kind: Kind | None) -> str:
    return f"{kind[1]} {kind[0]}" if kind else "none"
