"""A model under training in MindSpore: a :class:`pvt_train.twin.Twin`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from pvt_data.sources.labels import check_classes
from pvt_ms.model import PyramidVisionTransformer
from pvt_ms.taps import run_taps
from pvt_ms.train.optimizer import Average, Optimizer, scalar
from pvt_ms.train.parallel import open_workers
from pvt_ms.train.precision import cast_model
from pvt_ms.train.step import (
    adding_step,
    evaluation_step,
    gradient_step,
    last_step,
    preparation,
    update_step,
)
from pvt_ms.weights import canonical_parameters, set_weights
from pvt_spec import ModelInfo
from pvt_spec.arrays import Array, fill_up
from pvt_train.optim.counters import Counters
from pvt_train.optim.loss_scale import first_loss_scale
from pvt_train.optim.optimizer import clip_factor, ema_decay
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch, Gradients, StepResult, TrainingError, check_state

BATCH_TENSORS = 5
"""A batch's pixels, targets, mixing and drop path, and the loss scale."""


class MindSporeTwin:
    """A model under training; see :class:`pvt_train.twin.Twin` for what its methods do.

    Attributes:
        framework: MindSpore's name and version, and the device.
        ending: The ending of a MindSpore checkpoint.
        rank: This worker's number, from 0.
        ranks: Number of workers.
        model: The model, whose parameters the steps update.
    """

    ending = ".ckpt"

    def __init__(self, info: ModelInfo, recipe: Recipe, weights: Mapping[str, Array]):
        """Takes a model that has not been trained yet.

        Args:
            info: What is trained.
            recipe: How it is trained. ``mode`` 0 compiles a step into graphs, 1 runs it op by op.
            weights: float32, of the model: what it begins with. All workers begin with the first
                one's.

        Raises:
            ConfigError: The model has no classes, the weights are not its own, or what is frozen
                cannot be.
            TrainingError: The other workers cannot be joined, or are not the same program.
        """
        check_classes(info)
        if ms.get_context("device_target") == "CPU":
            # Without its asynchronous queue, which waits by turning and takes the cores from those
            # who compute.
            ms.runtime.launch_blocking()
        self._workers = open_workers(recipe.distribute)
        self.rank, self.ranks = self._workers.rank, self._workers.ranks
        self.framework = f"mindspore {ms.__version__} on {ms.get_context('device_target')}"
        self._recipe, self._info = recipe, info
        self.model = PyramidVisionTransformer(info.config, info.numerics)
        set_weights(self.model, dict(weights))
        self._weights = canonical_parameters(self.model)
        self._optimizer = Optimizer(info.config, recipe, self._weights)
        self._average: Average | None = None
        self._begin_alike()
        self._counters = Counters(0, first_loss_scale(recipe))
        self._batch = 0
        cast_model(self.model, recipe.amp_level)
        self._compile()

    def _begin_alike(self) -> None:
        self._workers.copy_from_first(list(self._weights.values()))
        self._workers.check_same(self.weights(), "weights")
        if self._recipe.ema:
            self._average = Average(self._weights)

    def _compile(self) -> None:
        compiled: Callable[..., Any] = ms.jit if self._recipe.mode == 0 else lambda step: step
        trained = list(self._optimizer.weights.values())
        gradients = gradient_step(self.model, trained, self._info.preprocessing)
        add = adding_step(gradients, BATCH_TENSORS)
        self._add, self._last = compiled(add), compiled(last_step(add, self._workers))
        numbers = len(self._optimizer.numbers(1, 0.0))
        # Each is compiled when it is first called.
        self._update, self._watched_update = (
            compiled(update_step(self._optimizer, self._average, numbers, watched))
            for watched in (False, True)
        )
        self._forward = compiled(evaluation_step(self.model))
        self._none: tuple[Tensor, ...] = ()
        if self._recipe.gradient_accumulation_steps > 1:
            self._none = (scalar(0.0), *(ms.ops.zeros_like(parameter) for parameter in trained))

    def step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Updates the weights once; see :meth:`pvt_train.twin.Twin.step`."""
        return self._step(batches, learning_rate, self._update)[0]

    def watched_step(
        self, batches: Sequence[Batch], learning_rate: float
    ) -> tuple[StepResult, Gradients]:
        """Updates the weights once; see :meth:`pvt_train.twin.Twin.watched_step`."""
        result, sums, applied = self._step(batches, learning_rate, self._watched_update)
        share = 1 / (len(batches) * self.ranks * result.loss_scale)
        mean = [gradient.asnumpy() * np.float32(share) for gradient in sums[1:]]
        given = [gradient.asnumpy().copy() for gradient in applied]
        names = self._optimizer.weights
        return result, Gradients(
            dict(zip(names, mean, strict=True)), dict(zip(names, given, strict=bool(given)))
        )

    def _step(
        self, batches: Sequence[Batch], learning_rate: float, update: Callable[..., Any]
    ) -> tuple[StepResult, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Updates the weights once; returns the sums beside, and what the update returned."""
        scale = self._counters.scale.value
        *others, last = ([*_tensors(batch), scalar(scale)] for batch in batches)
        sums = self._none
        for batch in others:
            sums = self._add(*batch, *sums)
        raw_norm, sums = self._last(*last, *sums)
        share = 1 / (len(batches) * self.ranks)
        norm = float(raw_norm.asnumpy()) * share / scale
        finite, applied = isfinite(norm), tuple[Tensor, ...]()
        self._counters = self._counters.after(finite)
        if finite:
            factor = share / scale * clip_factor(norm, self._recipe)
            applied = update(*self._numbers(factor, learning_rate), *sums) or ()
        loss = float(sums[0].asnumpy()) * share
        return StepResult(loss, norm, scale, finite), sums, applied

    def _numbers(self, factor: float, learning_rate: float) -> list[Tensor]:
        updates = self._counters.updates
        stays = ema_decay(updates, self._recipe.ema_decay)
        numbers = self._optimizer.numbers(updates, learning_rate)
        return [scalar(factor), scalar(stays), *numbers]

    def forward(self, images: Array) -> Array:
        """Returns logits float32 (B, num_classes); see :meth:`pvt_train.twin.Twin.forward`."""
        # A smaller last batch is filled up: another B would be compiled anew.
        self._batch = max(self._batch, len(images))
        logits: Array = self._forward(Tensor(fill_up(images, self._batch))).asnumpy()
        return logits[: len(images)]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Makes the weights those of the moving average while the block lasts.

        Raises:
            TrainingError: There is none.
        """
        if self._average is None:
            raise TrainingError("no moving average of the weights is kept: give --ema True")
        own = self.weights()
        _fill(self._weights, _copies(self._average.of_weights))
        try:
            yield
        finally:
            _fill(self._weights, own)

    def weights(self) -> dict[str, Array]:
        """Returns copies of all weights under canonical names."""
        return _copies(self._weights)

    def state(self) -> dict[str, Array]:
        """Returns copies of what later steps depend on; see :meth:`pvt_train.twin.Twin.state`."""
        return {**_copies(self._parameters()), **self._counters.to_arrays()}

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes up a state; see :meth:`pvt_train.twin.Twin.load_state`.

        Raises:
            TrainingError: Its names, shapes or dtypes are not this twin's; all are named.
        """
        expected = {name: (p.shape, "float32") for name, p in self._parameters().items()}
        counted = self._counters.to_arrays().items()
        check_state(state, expected | {name: (a.shape, a.dtype.name) for name, a in counted})
        self._workers.check_same(state, "states")
        _fill(self._parameters(), state)
        self._counters = self._counters.from_arrays(state)

    def _parameters(self) -> dict[str, Parameter]:
        average = self._average.parameters if self._average else {}
        return {**self._weights, **self._optimizer.moments, **average}

    def total(self, values: Array) -> Array:
        """Returns the sum over all workers; see :meth:`pvt_train.twin.Twin.total`."""
        return self._workers.total(values)

    def first_not_finite(self, batch: Batch) -> str | None:
        """Finds the first tap that is not; see :meth:`pvt_train.twin.Twin.first_not_finite`."""
        prepare = preparation(self._info.preprocessing)
        images = prepare(Tensor(batch.pixels), Tensor(batch.mixing)).asnumpy()
        taps = run_taps(self.model, images)
        return next((name for name, tap in taps.items() if not np.isfinite(tap).all()), None)


def _tensors(batch: Batch) -> list[Tensor]:
    return [Tensor(a) for a in (batch.pixels, batch.targets, batch.mixing, batch.drop_path)]


def _copies(parameters: Mapping[str, Parameter]) -> dict[str, Array]:
    return {name: parameter.asnumpy().copy() for name, parameter in parameters.items()}


def _fill(parameters: Mapping[str, Parameter], arrays: Mapping[str, Array]) -> None:
    for name, parameter in parameters.items():
        # Not by set_data: it gives the parameter other memory, and what is compiled keeps the old.
        ops.assign(parameter, Tensor(arrays[name]))
