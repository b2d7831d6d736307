"""The optimizers: one update of the trained tensors from their gradients, and the moving average.

The numbers are :mod:`pvt_train.optim.optimizer`'s. Every operation is one call for all tensors of
a group (fused, or torch's ``_foreach``), not one for each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from pvt_spec import PVTConfig
from pvt_train.optim.optimizer import BETAS, grouped
from pvt_train.recipe.keys import Recipe

Tensors = list[Tensor]


class Optimizer:
    """Updates of the tensors that a recipe trains.

    Attributes:
        weights: What is trained: canonical name -> parameter, group by group.
        moments: The optimizer's memory, 0 at first: ``moment1.NAME`` and, if any,
            ``moment2.NAME`` -> tensor.
    """

    def __init__(self, config: PVTConfig, recipe: Recipe, weights: Mapping[str, Tensor]):
        """Begins with moments of 0.

        Args:
            config: The architecture.
            recipe: ``opt`` and its numbers, what decays, what is frozen and how layers differ.
            weights: All of the model's, under canonical names.

        Raises:
            ConfigError: What is frozen cannot be.
        """
        names, self._groups = grouped(config, recipe)
        self.weights = {name: weights[name] for name in names}
        self._recipe, self._kind = recipe, _KINDS[recipe.opt]
        self.moments = {
            f"moment{i + 1}.{name}": torch.zeros_like(p)
            for i in range(self._kind.moments)
            for name, p in self.weights.items()
        }

    @torch.no_grad()
    def update(self, gradients: Sequence[Tensor], count: int, learning_rate: float) -> None:
        """Makes one update of all tensors and moments.

        Args:
            gradients: float32, in the order of :attr:`weights`.
            count: Which update this is, from 1.
            learning_rate: The rate of a layer that learns at the full one.
        """
        moments, size = list(self.moments.values()), len(self.weights)
        memory = [moments[start : start + size] for start in range(0, len(moments), size)]
        every = (gradients, list(self.weights.values()), *memory)
        for group in self._groups:
            rate = learning_rate * group.scale
            decay = self._recipe.weight_decay if group.decays else 0.0
            own = (list(tensors[group.members]) for tensors in every)
            self._kind.rule(self._recipe, count, rate, decay, *own)


def _adamw(
    recipe: Recipe, count: int, rate: float, decay: float,
    gradients: Tensors, weights: Tensors, m: Tensors, v: Tensors,
) -> None:  # fmt: skip
    """Updates by torch's own fused kernel, which corrects the bias."""
    # Where there is a fused kernel, it counts on the device: one tensor, seen as many.
    before = torch.full((len(weights),), count - 1.0, device=weights[0].device)
    adamw(
        weights, gradients, m, v, [], list(before.unbind()), fused=True, amsgrad=False,
        beta1=BETAS[0], beta2=BETAS[1], lr=rate, weight_decay=decay, eps=recipe.eps, maximize=False,
    )  # fmt: skip


def _momentum(
    recipe: Recipe, count: int, rate: float, decay: float,
    gradients: Tensors, weights: Tensors, velocity: Tensors,
) -> None:  # fmt: skip
    """Updates as MindSpore's SGD and Momentum and torch's SGD do, where nothing is dampened.

    Weight decay is added to the gradient. (Not by torch's own, which keeps no velocity where
    ``momentum`` is 0: a run may go on with another.)
    """
    gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
    torch._foreach_mul_(velocity, recipe.momentum)
    torch._foreach_add_(velocity, gradients)
    moved = velocity
    if recipe.use_nesterov:
        moved = list(torch._foreach_add(gradients, velocity, alpha=recipe.momentum))
    torch._foreach_add_(weights, moved, alpha=-rate)


def _lamb(
    recipe: Recipe, count: int, rate: float, decay: float,
    gradients: Tensors, weights: Tensors, m: Tensors, v: Tensors,
) -> None:  # fmt: skip
    """Updates as LAMB does (You et al., ICLR 2020, algorithm 2), with phi the identity.

    A tensor whose weights or update are all 0 is updated at the rate itself.
    """
    correction1, correction2 = (1 - beta**count for beta in BETAS)
    torch._foreach_lerp_(m, gradients, 1 - BETAS[0])
    torch._foreach_mul_(v, BETAS[1])
    torch._foreach_addcmul_(v, gradients, gradients, 1 - BETAS[1])
    root = torch._foreach_sqrt(torch._foreach_div(v, correction2))
    torch._foreach_add_(root, recipe.eps)
    ratio = torch._foreach_div(torch._foreach_div(m, correction1), root)
    torch._foreach_add_(ratio, weights, alpha=decay)
    norms, lengths = (torch.stack(torch._foreach_norm(x)) for x in (weights, ratio))
    trust = torch.where(norms * lengths > 0, norms / lengths, 1.0)
    torch._foreach_mul_(ratio, list((-rate * trust).unbind()))
    torch._foreach_add_(weights, ratio)


@dataclass(frozen=True)
class _Kind:
    """An optimizer.

    Attributes:
        moments: How many tensors it remembers for each weight.
        rule: The function that updates a group: of the recipe, the update's number from 1, the
            rate, the decay, and lists of gradients, weights and moments.
    """

    moments: int
    rule: Callable[..., None]


_KINDS = {
    "adamw": _Kind(2, _adamw),
    "sgd": _Kind(1, _momentum),
    "momentum": _Kind(1, _momentum),
    "lamb": _Kind(2, _lamb),
}


class Average:
    """An exponential moving average of weights, which begins with their values.

    Attributes:
        parameters: ``ema.NAME`` -> tensor.
        of_weights: The same by the weights' own names.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        self._weights = weights
        self.of_weights = {name: p.detach().clone() for name, p in weights.items()}
        self.parameters = {f"ema.{name}": average for name, average in self.of_weights.items()}

    @torch.no_grad()
    def update(self, stays: float) -> None:
        """Makes one update; ``stays`` is the share that stays."""
        averages, weights = list(self.of_weights.values()), list(self._weights.values())
        torch._foreach_lerp_(averages, weights, 1 - stays)
