"""A training step as its formulas are written: what the twins' steps are measured against.

In float64 it is the reference; in float32, with what rounding does (:mod:`.emulation`), the unit of
its errors. It shares the model with the step that trains, and what :mod:`pvt_train` says without a
framework: groups, schedule, clipping, how fast an average moves. Nothing is fused, scaled or summed
over workers.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
import torch
from torch import Tensor

from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_spec import ModelInfo, tensor_specs
from pvt_spec.arrays import Array
from pvt_torch.emulation import find_rounding
from pvt_torch.reference import QuickDepthwise
from pvt_torch.train.emulation import TrainingEmulation
from pvt_torch.weights import model_from_weights
from pvt_train.input.mixing import partners
from pvt_train.optim.optimizer import (
    BETAS,
    clip_factor,
    decaying_names,
    ema_decay,
    layer_scales,
    trainable_names,
)
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch, Gradients, StepResult

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained, and how.

    Attributes:
        info: What travels with the weights.
        recipe: How they are trained; in float32 or wider whatever its ``amp_level``.
    """

    info: ModelInfo
    recipe: Recipe


class PlainTraining:
    """A model under training, for one update at a time from a given state.

    Args:
        task: What is trained, and how.
        state: What :meth:`pvt_train.twin.Twin.state` of a twin gave.
        emulation: One of :data:`pvt_spec.precisions.EMULATIONS` to compute in; None is float64.
        seed: The seed of the orders in which an emulation sums.
    """

    def __init__(
        self, task: Task, state: Mapping[str, Array], emulation: str | None = None, seed: int = 0
    ):
        self.info, self.recipe = task.info, task.recipe
        self.emulation, self.seed = emulation, seed
        self.dtype = torch.float32 if emulation else torch.float64
        config = self.info.config
        names = [spec.name for spec in tensor_specs(config)]
        weights = {name: state[name] for name in names}
        self.model = model_from_weights(config, self.info.numerics, weights).to(self.dtype)
        own = dict(self.model.named_parameters())
        self.weights: Tensors = {name: own[name] for name in names}
        self.trained = trainable_names(config, self.recipe.freeze)
        for name, parameter in self.weights.items():
            parameter.requires_grad_(name in self.trained)
        self.memory: Tensors = {
            name: torch.from_numpy(np.array(array)).to(self.dtype)
            for name, array in state.items()
            if name.startswith(("moment1.", "moment2.", "ema."))
        }
        self.updates = int(state["updates"])

    def number(self, value: float) -> float:
        """Returns a number as it is held: kernels are given theirs in float32."""
        return float(np.float32(value)) if self.emulation else value

    def watched_step(
        self, batches: Sequence[Batch], learning_rate: float
    ) -> tuple[StepResult, Gradients]:
        """Updates the weights once; see :meth:`pvt_train.twin.Twin.watched_step`."""
        loss, mean = self.gradients(batches)
        norm = sqrt(sum(float(gradient.square().sum()) for gradient in mean.values()))
        factor = clip_factor(norm, self.recipe)
        applied = {name: gradient * factor for name, gradient in mean.items()}
        finite = isfinite(norm)
        if finite:
            self.update(applied, learning_rate)
        result = StepResult(loss, norm, 1.0, finite)
        return result, Gradients(_arrays(mean), _arrays(applied))

    def gradients(self, batches: Sequence[Batch]) -> tuple[float, Tensors]:
        """Returns the mean loss of an update's batches, and its gradient by name."""
        trained = [self.weights[name] for name in self.trained]
        sums, losses = [torch.zeros_like(w) for w in trained], 0.0
        for number, batch in enumerate(batches):
            loss = self._loss(batch, number)
            losses += loss.item()
            for total, found in zip(sums, torch.autograd.grad(loss, trained), strict=True):
                total += found
        count = len(batches)
        return losses / count, {n: g / count for n, g in zip(self.trained, sums, strict=True)}

    def _loss(self, batch: Batch, number: int) -> Tensor:
        arrays = (batch.pixels, batch.targets, batch.mixing, batch.drop_path)
        pixels, targets, mixing, drop_path = (torch.from_numpy(a).to(self.dtype) for a in arrays)
        mean, std = (
            torch.from_numpy(f(self.info.preprocessing).copy()).to(self.dtype)
            for f in (pixel_mean, pixel_std)
        )
        images = ((pixels - mean) / std).permute(0, 3, 1, 2)
        share = mixing.reshape(-1, 1, 1, 1)
        images = images * share + images[torch.from_numpy(partners(len(images)))] * (1 - share)
        computing: AbstractContextManager[object] = QuickDepthwise()
        if self.emulation:
            order = torch.randperm(
                len(images), generator=torch.Generator().manual_seed(self.seed + number)
            )
            images, targets, drop_path = images[order], targets[order], drop_path[:, :, order]
            rounding = find_rounding(self.emulation)
            computing = TrainingEmulation(rounding, 1000 * self.seed + number)
        with computing:
            logarithms = torch.log_softmax(self.model(images, drop_path), -1)
        loss: Tensor = -(targets * logarithms).sum(-1).mean()
        return loss

    @torch.no_grad()
    def update(self, gradients: Mapping[str, Tensor], learning_rate: float) -> None:
        """Makes one update of weights, moments and average from what the optimizer is given."""
        self.updates += 1
        config, recipe = self.info.config, self.recipe
        scales = layer_scales(config, recipe.layer_decay)
        decaying = decaying_names(config, recipe.weight_decay_filter)
        for name, gradient in gradients.items():
            decay = self.number(recipe.weight_decay) if name in decaying else 0.0
            rate = self.number(learning_rate * scales[name])
            change = self._change(name, self.weights[name], gradient, rate, decay)
            self.weights[name] -= change
        if recipe.ema:
            moves = self.number(1 - ema_decay(self.updates, recipe.ema_decay))
            for name, weight in self.weights.items():
                self.memory[f"ema.{name}"] += (weight - self.memory[f"ema.{name}"]) * moves

    def update_with(self, gradients: Mapping[str, Array], learning_rate: float) -> None:
        """Makes one update as :meth:`update` does, from arrays."""
        given = {name: torch.from_numpy(array).to(self.dtype) for name, array in gradients.items()}
        self.update(given, learning_rate)

    def _change(self, name: str, w: Tensor, g: Tensor, rate: float, decay: float) -> Tensor:
        """Returns what an update takes off a weight, and moves its moments."""
        recipe = self.recipe
        if recipe.opt in ("sgd", "momentum"):
            share = self.number(recipe.momentum)
            g = g + decay * w
            velocity = self._move(f"moment1.{name}", share, g, 1.0)
            return rate * (g + share * velocity if recipe.use_nesterov else velocity)
        first, second = (self.number(beta) for beta in BETAS)
        m = self._move(f"moment1.{name}", first, g, self.number(1 - first))
        v = self._move(f"moment2.{name}", second, g * g, self.number(1 - second))
        m, v = (x / (1 - beta**self.updates) for x, beta in zip((m, v), BETAS, strict=True))
        ratio = m / (v.sqrt() + self.number(recipe.eps)) + decay * w
        if recipe.opt == "lamb":
            norm, length = torch.linalg.vector_norm(w), torch.linalg.vector_norm(ratio)
            ratio = ratio * (norm / length if norm * length > 0 else 1.0)
        return rate * ratio

    def _move(self, name: str, stays: float, towards: Tensor, share: float) -> Tensor:
        self.memory[name] = stays * self.memory[name] + share * towards
        return self.memory[name]

    def state(self) -> dict[str, Array]:
        """Returns weights, moments, average and the number of updates, in its own precision."""
        found = _arrays({**self.weights, **self.memory})
        return {**found, "updates": np.array(self.updates, np.int64)}


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
