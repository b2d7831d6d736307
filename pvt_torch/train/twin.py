"""A model under training in PyTorch: a :class:`pvt_train.twin.Twin`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from pvt_data.sources.labels import check_classes
from pvt_spec import ModelInfo, tap_names, tensor_specs
from pvt_spec.arrays import Array, fill_up
from pvt_torch.taps import add_hooks, compiling
from pvt_torch.train.optimizer import Average, Optimizer
from pvt_torch.train.parallel import choose_device, open_workers
from pvt_torch.train.precision import (
    activation_dtype,
    computing,
    determined,
    fit_model,
    set_switches,
)
from pvt_torch.train.step import EvaluationStep, LossStep, preparation
from pvt_torch.weights import model_from_weights
from pvt_train.optim.counters import Counters
from pvt_train.optim.loss_scale import first_loss_scale
from pvt_train.optim.optimizer import clip_factor, ema_decay
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch, Gradients, StepResult, TrainingError, check_state


class TorchTwin:
    """A model under training; see :class:`pvt_train.twin.Twin` for what its methods do.

    Attributes:
        framework: PyTorch's name and version, and the device.
        ending: The ending of a PyTorch file.
        rank: This worker's number, from 0.
        ranks: Number of workers.
        model: The model, whose parameters the steps update.
    """

    ending = ".pth"

    def __init__(self, info: ModelInfo, recipe: Recipe, weights: Mapping[str, Array]):
        """Takes a model that has not been trained yet.

        Args:
            info: What is trained.
            recipe: How it is trained.
            weights: float32, of the model: what it begins with. All workers begin with the first
                one's.

        Raises:
            ConfigError: The model has no classes, the weights are not its own, or what is frozen
                cannot be.
            TrainingError: There is no such device, the other workers cannot be joined, or are not
                the same program.
        """
        check_classes(info)
        set_switches(recipe)
        self._device = choose_device(recipe.device_target)
        # The last update, or the batch before in one of several, may still be under way.
        gpu = self._device.type != "cpu"
        self._copies = torch.cuda.Stream(self._device) if gpu else None  # type: ignore[no-untyped-call]
        self._workers = open_workers(recipe.distribute, self._device)
        self.rank, self.ranks = self._workers.rank, self._workers.ranks
        self.framework = f"torch {torch.__version__} on {_described(self._device)}"
        self._recipe, self._info = recipe, info
        self.model = model_from_weights(info.config, info.numerics, weights).to(self._device)
        named = dict(self.model.named_parameters())
        self._weights = {spec.name: named[spec.name] for spec in tensor_specs(info.config)}
        fit_model(self.model, recipe)
        self._optimizer = Optimizer(info.config, recipe, self._weights)
        for name, parameter in self._weights.items():
            parameter.requires_grad_(name in self._optimizer.weights)
        self._average: Average | None = None
        self._begin_alike()
        self._counters = Counters(0, first_loss_scale(recipe))
        self._batch = 0
        self._compile()

    def _begin_alike(self) -> None:
        self._workers.copy_from_first(list(self._weights.values()))
        self._workers.check_same(self.weights(), "weights")
        if self._recipe.ema:
            self._average = Average(self._weights)

    def _compile(self) -> None:
        precision = computing(self._recipe.amp_level, self._device)
        self._loss = self._workers.shared(LossStep(self.model, self._info.preprocessing, precision))
        self._forward = EvaluationStep(self.model, precision)
        if self._recipe.compile:
            for module in (self._loss, self._forward):
                module.compile(dynamic=False)

    def step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Updates the weights once; see :meth:`pvt_train.twin.Twin.step`."""
        result, gradients, factor = self._gradients(batches)
        if result.updated:
            self._apply(gradients, factor, learning_rate)
        return result

    def watched_step(
        self, batches: Sequence[Batch], learning_rate: float
    ) -> tuple[StepResult, Gradients]:
        """Updates the weights once; see :meth:`pvt_train.twin.Twin.watched_step`."""
        result, gradients, factor = self._gradients(batches)
        names, share = self._optimizer.weights, 1 / (len(batches) * result.loss_scale)
        mean = dict(zip(names, (_copy(g * share) for g in gradients), strict=True))
        if not result.updated:
            return result, Gradients(mean, {})
        self._apply(gradients, factor, learning_rate)
        return result, Gradients(mean, dict(zip(names, map(_copy, gradients), strict=True)))

    def _gradients(self, batches: Sequence[Batch]) -> tuple[StepResult, list[Tensor], float]:
        """Returns what an update comes to, the sums of its batches' gradients, and their factor."""
        scale = self._counters.scale.value
        given = torch.tensor(scale, dtype=torch.float32, device=self._device)
        trained = list(self._optimizer.weights.values())
        for parameter in trained:
            parameter.grad = None
        losses = torch.zeros((), device=self._device)
        with self._workers.told(), determined(), compiling():
            for number, batch in enumerate(batches, start=1):
                apart = self._workers.alone(self._loss) if number < len(batches) else nullcontext()
                with apart:
                    losses += self._backward(self._tensors(batch), given)
            losses = self._workers.mean(losses)
        # PyTorch has none, not 0, for what the loss does not depend on.
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
        # On a CPU float32 would be added up term by term: 3e-5 off for a PVT.
        norms = torch._foreach_norm(gradients, dtype=torch.float64)
        raw_norm = torch.linalg.vector_norm(torch.stack(norms))
        share = 1 / len(batches)
        # One wait for the device, not two.
        loss, norm = torch.stack((losses.double(), raw_norm)).tolist()
        norm = norm * share / scale
        self._counters = self._counters.after(isfinite(norm))
        factor = share / scale * clip_factor(norm, self._recipe)
        return StepResult(loss * share, norm, scale, isfinite(norm)), gradients, factor

    def _backward(self, batch: list[Tensor], scale: Tensor) -> Tensor:
        scaled, loss = self._loss(*batch, scale)
        scaled.backward()
        return loss

    def _apply(self, gradients: list[Tensor], factor: float, learning_rate: float) -> None:
        updates = self._counters.updates
        if factor != 1:
            torch._foreach_mul_(gradients, factor)
        self._optimizer.update(gradients, updates, learning_rate)
        if self._average:
            self._average.update(ema_decay(updates, self._recipe.ema_decay))

    def _tensors(self, batch: Batch) -> list[Tensor]:
        arrays = (batch.pixels, batch.targets, batch.mixing, batch.drop_path)
        *others, drop_path = (self._on_device(torch.from_numpy(array)) for array in arrays)
        return [*others, drop_path.to(activation_dtype(self._recipe.amp_level))]

    def _on_device(self, tensor: Tensor) -> Tensor:
        """Returns a tensor where the model is, copied beside what the device still computes."""
        if self._copies is None:
            return tensor
        computes = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            copied = tensor.pin_memory().to(self._device, non_blocking=True)
        computes.wait_stream(self._copies)
        copied.record_stream(computes)
        return copied

    def forward(self, images: Array) -> Array:
        """Returns logits float32 (B, num_classes); see :meth:`pvt_train.twin.Twin.forward`."""
        self._batch = max(self._batch, len(images))
        # What is compiled would be compiled anew for a smaller last batch: it is filled up.
        given = fill_up(images, self._batch) if self._recipe.compile else images
        with torch.no_grad(), compiling():
            logits = self._forward(torch.from_numpy(given).to(self._device))
        return _copy(logits)[: len(images)]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Makes the weights those of the moving average while the block lasts.

        Raises:
            TrainingError: There is none.
        """
        if self._average is None:
            raise TrainingError("no moving average of the weights is kept: give --ema True")
        own = {name: p.detach().clone() for name, p in self._weights.items()}
        _fill(self._weights, self._average.of_weights)
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
        expected = {n: (tuple(p.shape), "float32") for n, p in self._parameters().items()}
        counted = self._counters.to_arrays().items()
        check_state(state, expected | {name: (a.shape, a.dtype.name) for name, a in counted})
        self._workers.check_same(state, "states")
        parameters = self._parameters()
        _fill(parameters, {n: torch.from_numpy(np.array(state[n])) for n in parameters})
        self._counters = self._counters.from_arrays(state)

    def _parameters(self) -> dict[str, Tensor]:
        average = self._average.parameters if self._average else {}
        return {**self._weights, **self._optimizer.moments, **average}

    def total(self, values: Array) -> Array:
        """Returns the sum over all workers; see :meth:`pvt_train.twin.Twin.total`."""
        return self._workers.total(values)

    def first_not_finite(self, batch: Batch) -> str | None:
        """Finds the first tap that is not; see :meth:`pvt_train.twin.Twin.first_not_finite`."""
        prepare, found = preparation(self._info.preprocessing), list[str]()

        def take(name: str, value: Tensor) -> Tensor:
            if not value.isfinite().all():
                found.append(name)
            return value

        pixels, _, mixing, _ = self._tensors(batch)
        handles = add_hooks(self.model, tap_names(self._info.config), take)
        try:
            with torch.no_grad(), computing(self._recipe.amp_level, self._device)():
                self.model(prepare(pixels, mixing))
        finally:
            for handle in handles:
                handle.remove()
        return next(iter(found), None)


def _described(device: torch.device) -> str:
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)


def _copy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().copy()


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: _copy(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(others[name])
