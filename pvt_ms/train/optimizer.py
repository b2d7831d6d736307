"""The optimizers: one update of the trained tensors from their gradients, and the moving average.

The numbers are :mod:`pvt_train.optim.optimizer`'s. They come in as tensors, because a Python number
would be compiled into the graph.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, ops

from pvt_spec import PVTConfig
from pvt_train.optim.optimizer import BETAS, adamw_update, grouped
from pvt_train.recipe.keys import Recipe

for_each = ops.HyperMap()
"""(function, *sequences) -> its answers, as ``map``, in a graph and outside. There the function
may close over constants alone; ``ops.partial`` gives it the rest.

A loop over the tensors would be unrolled into calls within calls: from 300 tensors on they are more
than MindSpore's 1000, and the time to compile grows with their square.
"""


def scalar(number: float) -> Tensor:
    """Returns a number that a graph is given."""
    return Tensor(number, ms.float32)


class Optimizer:
    """Updates of the tensors that a recipe trains.

    Attributes:
        weights: What is trained: canonical name -> parameter, group by group.
        moments: The optimizer's memory, 0 at first: ``moment1.NAME`` and, if any,
            ``moment2.NAME`` -> parameter.
    """

    def __init__(self, config: PVTConfig, recipe: Recipe, weights: Mapping[str, Parameter]):
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
        self._memory = [
            [_memory(f"moment{i + 1}.{name}", p) for name, p in self.weights.items()]
            for i in range(self._kind.moments)
        ]
        self.moments = {parameter.name: parameter for one in self._memory for parameter in one}

    def numbers(self, count: int, learning_rate: float) -> list[Tensor]:
        """Returns what one update takes beside the gradients: float32 scalars.

        Args:
            count: Which update this is, from 1.
            learning_rate: The rate of a layer that learns at the full one.
        """
        rate, *others = self._kind.numbers(count, learning_rate, self._recipe)
        rates = [rate * group.scale for group in self._groups]
        return [scalar(number) for number in (*rates, *others)]

    def update_step(self) -> Callable[[Sequence[Tensor], Sequence[Tensor]], None]:
        """Returns one update of all tensors and moments as a function that can be compiled.

        Returns:
            (gradients, numbers) -> None; gradients are float32, in the order of :attr:`weights`,
            and numbers what :meth:`numbers` gave.
        """
        rule, count, zero = self._kind.rule(self._recipe), len(self._groups), scalar(0.0)
        decaying = [group.decays for group in self._groups]
        starts = [group.members.start for group in self._groups]
        stops = [group.members.stop for group in self._groups]
        weights, *memory = (
            [ParameterTuple(tensors[group.members]) for group in self._groups]
            for tensors in (list(self.weights.values()), *self._memory)
        )
        first, second = memory[0], memory[-1]
        two_moments = len(memory) == 2

        def update(gradients: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
            others = numbers[count + 1 :]
            for i in range(count):
                decay = numbers[count] if decaying[i] else zero
                own = ops.partial(rule, numbers[i], decay, others)
                found = gradients[starts[i] : stops[i]]
                # One by one: a graph cannot unpack them.
                if two_moments:
                    for_each(own, found, weights[i], first[i], second[i])
                else:
                    for_each(own, found, weights[i], first[i])

        return update


def _memory(name: str, weight: Parameter) -> Parameter:
    return Parameter(Tensor(np.zeros(weight.shape, np.float32)), name=name, requires_grad=False)


def _adamw(recipe: Recipe) -> Callable[..., Tensor]:
    """Returns the rule of MindSpore's one kernel for AdamW, whose numbers correct the bias.

    (``mindspore.experimental.optim.AdamW`` gives the same weights, but as a dozen kernels per
    tensor: twice the compilation, and up to five times the step where other processes want the
    CPU. ``mint.optim.AdamW`` exists on Ascend only.)
    """
    beta1, beta2 = (scalar(number) for number in BETAS)
    adamw = ops.AdamWeightDecay(use_locking=False)

    def rule(
        rate: Tensor,
        decay: Tensor,
        others: Sequence[Tensor],
        gradient: Tensor,
        w: Parameter,
        m: Parameter,
        v: Parameter,
    ) -> Tensor:
        return adamw(w, m, v, rate, beta1, beta2, others[0], decay, gradient)

    return rule


def _momentum(recipe: Recipe) -> Callable[..., Tensor]:
    """Returns the rule of MindSpore's SGD and Momentum, one where nothing is dampened.

    Weight decay is added to the gradient. (Not by ``ops.ApplyMomentum``: on a CPU MindSpore 2.10
    takes ``use_nesterov`` and does without.)
    """
    momentum, nesterov = scalar(recipe.momentum), recipe.use_nesterov

    def rule(
        rate: Tensor,
        decay: Tensor,
        others: Sequence[Tensor],
        gradient: Tensor,
        w: Parameter,
        velocity: Parameter,
    ) -> Tensor:
        gradient = gradient + decay * w
        moved = momentum * velocity + gradient
        ops.assign(velocity, moved)
        return ops.assign_sub(w, rate * (gradient + momentum * moved if nesterov else moved))

    return rule


def _lamb(recipe: Recipe) -> Callable[..., Tensor]:
    """Returns the rule of LAMB (You et al., ICLR 2020, algorithm 2), with phi the identity.

    A tensor whose weights or update are all 0 is updated at the rate itself.
    """
    beta1, beta2, one = scalar(BETAS[0]), scalar(BETAS[1]), scalar(1.0)

    def rule(
        rate: Tensor,
        decay: Tensor,
        others: Sequence[Tensor],
        gradient: Tensor,
        w: Parameter,
        m: Parameter,
        v: Parameter,
    ) -> Tensor:
        correction1, correction2, eps = others
        first = beta1 * m + (one - beta1) * gradient
        second = beta2 * v + (one - beta2) * gradient * gradient
        ratio = first / correction1 / (ops.sqrt(second / correction2) + eps) + decay * w
        norm, length = _norm(w), _norm(ratio)
        trust = ops.where(norm * length > 0, norm / length, one)
        ops.assign(m, first)
        ops.assign(v, second)
        return ops.assign_sub(w, rate * trust * ratio)

    return rule


def _norm(x: Tensor) -> Tensor:
    return ops.sqrt(ops.reduce_sum(x * x))


def _adamw_numbers(count: int, learning_rate: float, recipe: Recipe) -> tuple[float, ...]:
    update = adamw_update(count, learning_rate, recipe.weight_decay, recipe.eps)
    return update.rate, update.decay, update.eps


def _momentum_numbers(count: int, learning_rate: float, recipe: Recipe) -> tuple[float, ...]:
    return learning_rate, recipe.weight_decay


def _lamb_numbers(count: int, learning_rate: float, recipe: Recipe) -> tuple[float, ...]:
    corrections = [1 - beta**count for beta in BETAS]
    return learning_rate, recipe.weight_decay, *corrections, recipe.eps


@dataclass(frozen=True)
class _Kind:
    """An optimizer.

    Attributes:
        moments: How many tensors it remembers for each weight.
        numbers: The function from (count, learning rate, recipe) to the rate, the decay and what
            else its rule takes.
        rule: The function from a recipe to what updates one tensor: a function of these numbers,
            and of the gradient, the weight and the moments.
    """

    moments: int
    numbers: Callable[[int, float, Recipe], tuple[float, ...]]
    rule: Callable[[Recipe], Callable[..., Tensor]]


_KINDS = {
    "adamw": _Kind(2, _adamw_numbers, _adamw),
    "sgd": _Kind(1, _momentum_numbers, _momentum),
    "momentum": _Kind(1, _momentum_numbers, _momentum),
    "lamb": _Kind(2, _lamb_numbers, _lamb),
}


def _move(share: Tensor, average: Parameter, weight: Parameter) -> Tensor:
    return ops.assign_add(average, (weight - average) * share)


class Average:
    """An exponential moving average of weights, which begins with their values.

    Attributes:
        parameters: ``ema.NAME`` -> parameter.
        of_weights: The same by the weights' own names.
    """

    def __init__(self, weights: Mapping[str, Parameter]):
        self._weights = weights
        self.of_weights = {
            name: Parameter(Tensor(p.asnumpy()), name=f"ema.{name}", requires_grad=False)
            for name, p in weights.items()
        }
        self.parameters = {p.name: p for p in self.of_weights.values()}

    def update_step(self) -> Callable[[Tensor], None]:
        """Returns one update as a function of the share that stays; it can be compiled."""
        weights = ParameterTuple(self._weights.values())
        averages, one = ParameterTuple(self.parameters.values()), scalar(1.0)

        def update(stays: Tensor) -> None:
            for_each(ops.partial(_move, one - stays), averages, weights)

        return update
