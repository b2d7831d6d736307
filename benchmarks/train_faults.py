"""Faults of one twin's training step, for ``benchmarks.train_mutations``: each in one place.

A fault is planted in an open twin. What of it is the same in both frameworks is said once; the
rest is in a function for each.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np

from pvt_train.optim.optimizer import BETAS, clip_factor, ema_decay
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch

MODULES = {"mindspore": "pvt_ms.train.twin", "torch": "pvt_torch.train.twin"}
LONG_AGO = 10**9
"""A number of updates after which no bias is left to correct."""


@dataclass
class Faulty:
    """A twin with a fault: its batches, its rate or the names of its module are others.

    Attributes:
        twin: The twin.
        library: What it is of.
        batch: What it makes of a batch.
        rate: What it makes of the learning rate.
        names: What it has in place of what its module imports.
        only: Which of an update's batches it takes.
        after: What it does when it has made an update at a rate.
    """

    twin: Any
    library: str
    batch: Callable[[Batch], Batch] = lambda batch: batch
    rate: Callable[[float], float] = lambda rate: rate
    names: Mapping[str, Any] = field(default_factory=dict)
    only: slice = field(default_factory=lambda: slice(None))
    after: Callable[[float], None] = lambda rate: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.twin, name)

    def step(self, batches: Any, rate: float) -> Any:
        return self._run(self.twin.step, batches, rate)

    def watched_step(self, batches: Any, rate: float) -> Any:
        return self._run(self.twin.watched_step, batches, rate)

    def _run(self, step: Any, batches: Any, rate: float) -> Any:
        with ExitStack() as stack:
            for name, value in self.names.items():
                stack.enter_context(patch(f"{MODULES[self.library]}.{name}", value))
            given = [self.batch(each) for each in batches][self.only]
            result = step(given, self.rate(rate))
        self.after(rate)
        return result


Plant = Callable[[Faulty, Recipe], None]


def _changed(change: Callable[[Batch, Recipe], dict[str, Any]]) -> Plant:
    def plant(faulty: Faulty, recipe: Recipe) -> None:
        faulty.batch = lambda batch: dataclasses.replace(batch, **change(batch, recipe))

    return plant


def _other_smoothing(batch: Batch, recipe: Recipe) -> dict[str, Any]:
    """The smoothed share goes to the other classes alone."""
    count, share = batch.targets.shape[1], recipe.label_smoothing
    hard = (batch.targets - share / count) / (1 - share)
    targets = (1 - share) * hard + share / (count - 1) * (1 - hard)
    return {"targets": targets.astype(np.float32)}


def _named(**names: Any) -> Plant:
    def plant(faulty: Faulty, recipe: Recipe) -> None:
        faulty.names = {name: value(recipe) for name, value in names.items()}

    return plant


def _compiled(plant: Plant) -> Plant:
    """Plants before a step is put together."""

    def planted(faulty: Faulty, recipe: Recipe) -> None:
        plant(faulty, recipe)
        faulty.twin._compile()

    return planted


def _regrouped(change: Callable[[Any], dict[str, Any]]) -> Plant:
    def plant(faulty: Faulty, recipe: Recipe) -> None:
        optimizer = faulty.twin._optimizer
        optimizer._groups = [dataclasses.replace(g, **change(g)) for g in optimizer._groups]

    return _compiled(plant)


def _counted(count: Callable[[int], int]) -> Plant:
    """The optimizer takes another number for that of an update."""

    def plant(faulty: Faulty, recipe: Recipe) -> None:
        optimizer = faulty.twin._optimizer
        if faulty.library == "torch":
            update = optimizer.update
            optimizer.update = lambda g, number, rate: update(g, count(number), rate)
        else:
            numbers = optimizer.numbers
            optimizer.numbers = lambda number, rate: numbers(count(number), rate)

    return plant


def _scaled(by: Callable[[Recipe], float]) -> Plant:
    """Gradients are so many times as large, losses are not."""

    def plant(faulty: Faulty, recipe: Recipe) -> None:
        twin, factor = faulty.twin, by(recipe)
        if faulty.library == "torch":
            loss = twin._loss
            twin._loss = lambda *given: (lambda one: (one[0] * factor, one[1]))(loss(*given))
        else:
            twin._workers.sum_all = lambda sums: (sums[0], *(g * factor for g in sums[1:]))
            twin._compile()

    return plant


def _other_mean(faulty: Faulty, recipe: Recipe) -> None:
    """The loss is the mean over classes too."""
    twin, share = faulty.twin, 1 / faulty.twin._info.config.num_classes
    if faulty.library == "torch":
        loss = twin._loss
        twin._loss = lambda *given: tuple(part * share for part in loss(*given))
    else:
        twin._workers.sum_all = lambda sums: tuple(part * share for part in sums)
        twin._compile()


def _detached(layer: str) -> Plant:
    def plant(faulty: Faulty, recipe: Recipe) -> None:
        if faulty.library == "torch":
            module = faulty.twin.model.get_submodule(layer)
            module.register_forward_hook(lambda _, given, answer: answer.detach())
        else:
            from mindspore import ops

            cells = dict(faulty.twin.model.cells_and_names())
            cell = cells[layer]
            compute = cell.construct
            cell.construct = lambda *given: ops.stop_gradient(compute(*given))

    return plant


def _decayed_gradient(faulty: Faulty, recipe: Recipe) -> None:
    """Weights decay through the gradient, as in Adam with L2."""
    optimizer = faulty.twin._optimizer
    shares = [recipe.weight_decay * g.decays for g in optimizer._groups for _ in range(
        g.members.start, g.members.stop)]  # fmt: skip
    weights = list(optimizer.weights.values())

    def added(gradients: Any) -> list[Any]:
        return [g + d * w for g, d, w in zip(gradients, shares, weights, strict=True)]

    optimizer._groups = [dataclasses.replace(g, decays=False) for g in optimizer._groups]
    if faulty.library == "torch":
        update = optimizer.update
        optimizer.update = lambda g, count, rate: update(
            [x.detach() for x in added(g)], count, rate
        )
    else:
        step = optimizer.update_step

        def made() -> Any:
            update = step()
            return lambda gradients, numbers: update(tuple(added(gradients)), numbers)

        optimizer.update_step = made
        faulty.twin._compile()


def _other_adam(inside: bool, betas: tuple[float, float]) -> Plant:
    """Adam with its epsilon inside the root, or with other betas; op by op."""

    def plant(faulty: Faulty, recipe: Recipe) -> None:
        optimizer = faulty.twin._optimizer
        root = (lambda v: (v + recipe.eps) ** 0.5) if inside else (lambda v: v**0.5 + recipe.eps)

        def step(w: Any, g: Any, m: Any, v: Any, count: int) -> Any:
            first = betas[0] * m + (1 - betas[0]) * g
            second = betas[1] * v + (1 - betas[1]) * g * g
            ratio = first / (1 - BETAS[0] ** count) / root(second / (1 - BETAS[1] ** count))
            return ratio, first, second

        if faulty.library == "torch":

            def rule(how: Any, count: int, rate: float, decay: float, *own: Any) -> None:
                for g, w, m, v in zip(*own, strict=True):
                    ratio, first, second = step(w, g, m, v, count)
                    w -= rate * (ratio + decay * w)
                    m.copy_(first)
                    v.copy_(second)

            optimizer._kind = dataclasses.replace(optimizer._kind, rule=rule)
        else:
            from mindspore import ops

            def numbers(count: int, rate: float, how: Recipe) -> tuple[float, ...]:
                counted[0] = count
                return rate, how.weight_decay

            def ms_rule(how: Recipe) -> Any:
                def one(rate: Any, decay: Any, others: Any, g: Any, w: Any, m: Any, v: Any) -> Any:
                    ratio, first, second = step(w, g, m, v, counted[0])
                    ops.assign(m, first)
                    ops.assign(v, second)
                    return ops.assign_sub(w, rate * (ratio + decay * w))

                return one

            counted = [1]
            optimizer._kind = dataclasses.replace(optimizer._kind, numbers=numbers, rule=ms_rule)
            faulty.twin._compile()

    return plant


def _moving(faulty: Faulty, recipe: Recipe) -> None:
    """What is frozen decays all the same."""
    twin = faulty.twin
    frozen = [w for name, w in twin._weights.items() if name not in twin._optimizer.weights]

    def after(rate: float) -> None:
        for weight in frozen:
            stays = 1 - rate * recipe.weight_decay
            if faulty.library == "torch":
                weight.data.mul_(stays)
            else:
                from mindspore import ops

                ops.assign(weight, weight * stays)

    faulty.after = after


def _late(by: int) -> Callable[[list[float]], Plant]:
    def of(rates: list[float]) -> Plant:
        def plant(faulty: Faulty, recipe: Recipe) -> None:
            faulty.rate = lambda rate: rates[max(rates.index(rate) + by, 0)]

        return plant

    return of


def faults(rates: list[float]) -> Iterator[tuple[str, Plant]]:
    """Yields each fault and what plants it; ``rates`` are those of all updates and of one more."""
    yield "no bias correction", _counted(lambda count: LONG_AGO)
    yield "bias corrected as one update later", _counted(lambda count: count + 1)
    yield "decay on the wrong group", _regrouped(lambda group: {"decays": not group.decays})
    yield "decay on every tensor", _regrouped(lambda group: {"decays": True})
    yield "decay through the gradient", _decayed_gradient
    yield "layers at one rate", _regrouped(lambda group: {"scale": 1.0})
    yield "schedule one update ahead", _late(1)(rates)
    yield "schedule one update behind", _late(-1)(rates)
    yield "epsilon inside the root", _other_adam(True, BETAS)
    yield "another first beta", _other_adam(False, (0.89, BETAS[1]))
    yield "another second beta", _other_adam(False, (BETAS[0], 0.9985))
    yield (
        "another decay of the average",
        _named(ema_decay=lambda how: lambda n, d: ema_decay(n, 0.999 * d)),
    )
    yield "an average without warm-up", _named(ema_decay=lambda how: lambda n, d: d)
    yield "smoothing over the other classes", _changed(_other_smoothing)
    yield "mean over classes too", _other_mean
    yield (
        "clipped before it is unscaled",
        _named(clip_factor=lambda how: lambda n, r: clip_factor(n * how.loss_scale, r)),
    )
    yield "not clipped", _named(clip_factor=lambda how: lambda n, r: 1.0)
    yield "the attention of a block detached", _detached("block2.1.attn")
    yield "the MLP of a block detached", _detached("block3.0.mlp")
    yield "a norm detached", _detached("block4.0.norm2")
    yield "summed over two workers", _scaled(lambda how: 2.0)
    yield "not unscaled", _scaled(lambda how: how.loss_scale)
    yield (
        "accumulated and not divided",
        _named(
            clip_factor=lambda how: lambda n, r: clip_factor(n, r) * how.gradient_accumulation_steps
        ),
    )
    yield (
        "only the last batch of an update",
        lambda faulty, how: setattr(faulty, "only", slice(-1, None)),
    )
    yield (
        "drop path of the neighbour block",
        _changed(lambda batch, how: {"drop_path": np.roll(batch.drop_path, 1, axis=0)}),
    )
    yield (
        "drop path of the other branch",
        _changed(lambda batch, how: {"drop_path": batch.drop_path[:, ::-1].copy()}),
    )
    yield (
        "drop path of the neighbour image",
        _changed(lambda batch, how: {"drop_path": np.roll(batch.drop_path, 1, axis=2)}),
    )
    yield "mixup's share swapped", _changed(lambda batch, how: {"mixing": 1 - batch.mixing})
    yield "a frozen tensor that moves", _moving
