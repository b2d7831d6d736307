"""The learning rate of every step."""

from bisect import bisect_right
from collections.abc import Callable
from math import ceil, cos, inf, pi

from pvt_train.recipe.keys import Recipe


def learning_rate(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Returns the learning rate of one step: the recipe's ``scheduler``, warm-up included.

    It is a function of the time ``step / steps_per_epoch`` in epochs, or with ``lr_epoch_stair``
    of the whole epochs of it, so a run that is taken up with another ``epoch_size`` or ``lr``
    follows the new schedule from there. The numbers are those of MindCV 0.3.0's
    ``create_scheduler``: the warm-up rises linearly from ``lr * warmup_factor``, with which the
    first step is made, and what follows counts its epochs from the end of the warm-up.

    Args:
        step: The step's number over all epochs, from 0; the schedule goes on beyond the last.
        steps_per_epoch: The number of steps in an epoch, at least 1.
        recipe: The keys from ``epoch_size`` to ``cycle_decay``.
    """
    if recipe.scheduler == "deit_cosine":
        return _deit_cosine(step // steps_per_epoch, recipe)
    time: float = step // steps_per_epoch if recipe.lr_epoch_stair else step / steps_per_epoch
    warmup = warmup_epochs(recipe)
    if time < warmup:
        first = recipe.lr * recipe.warmup_factor
        return first + time / warmup * (recipe.lr - first)
    # In whole steps, so that no rounding of a difference of times moves an epoch's first step.
    since = step - warmup * steps_per_epoch
    time = since // steps_per_epoch if recipe.lr_epoch_stair else since / steps_per_epoch
    return SCHEDULERS[recipe.scheduler](time, recipe)


def warmup_epochs(recipe: Recipe) -> int:
    """Returns the epochs of the warm-up: the recipe's, or a tenth of all up to 10, rounded up."""
    if recipe.warmup_epochs is not None:
        return recipe.warmup_epochs
    return min(10, ceil(recipe.epoch_size / 10))


def decay_epochs(recipe: Recipe) -> int:
    """Returns the epochs of a cosine or between steps: the recipe's, or all after the warm-up."""
    if recipe.decay_epochs is not None:
        return recipe.decay_epochs
    return max(recipe.epoch_size - warmup_epochs(recipe), 1)


def _cosine(time: float, recipe: Recipe) -> float:
    epochs = decay_epochs(recipe)
    cycle = int(time // epochs)
    if cycle >= recipe.num_cycles:
        return recipe.min_lr
    highest = recipe.lr * recipe.cycle_decay**cycle
    share = 1 + cos(pi * (time - cycle * epochs) / epochs)
    return recipe.min_lr + 0.5 * (highest - recipe.min_lr) * share


def _power(base: float, exponent: float) -> float:
    """Returns a power, infinite where Python raises: the loss is then no number, which is told."""
    try:
        return float(base**exponent)
    except OverflowError:
        return inf


def _step(time: float, recipe: Recipe) -> float:
    return recipe.lr * _power(recipe.decay_rate, time // decay_epochs(recipe))


def _multi_step(time: float, recipe: Recipe) -> float:
    passed = bisect_right(sorted(recipe.multi_step_decay_milestones), time)
    return recipe.lr * _power(recipe.decay_rate, passed)


def _exponential(time: float, recipe: Recipe) -> float:
    return recipe.lr * _power(recipe.decay_rate, time)


def _polynomial(time: float, recipe: Recipe) -> float:
    epochs = max(recipe.epoch_size - warmup_epochs(recipe), 1)
    return float(recipe.lr * (1 - min(time / epochs, 1.0)) ** recipe.decay_rate)


def _constant(time: float, recipe: Recipe) -> float:
    return recipe.lr


SCHEDULERS: dict[str, Callable[[float, Recipe], float]] = {
    "cosine_decay": _cosine,
    "step_decay": _step,
    "multi_step_decay": _multi_step,
    "exponential_decay": _exponential,
    "polynomial_decay": _polynomial,
    "constant": _constant,
}
"""Name -> the rate at a time in epochs since the warm-up."""


def _deit_cosine(epoch: int, recipe: Recipe) -> float:
    """Returns the rate of an epoch (from 0) in the official code, which is DeiT's.

    timm 0.3.2's cosine spans all epochs and the warm-up takes the place of its first ones, where
    MindCV's begins after them; and DeiT's ``main.py`` steps the scheduler with the number of the
    epoch that has just ended, so that each epoch but the first has the rate of the one before it.
    """
    time, warmup = max(epoch - 1, 0), warmup_epochs(recipe)
    if time < warmup:
        first = recipe.lr * recipe.warmup_factor
        return first + time * (recipe.lr - first) / warmup
    share = 1 + cos(pi * min(time / recipe.epoch_size, 1.0))
    return recipe.min_lr + 0.5 * (recipe.lr - recipe.min_lr) * share
