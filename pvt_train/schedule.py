"""The learning rate of every step. Standard library only, beside the recipe."""

from math import cos, pi

from pvt_train.recipe import Recipe


def learning_rate(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """The learning rate of one step: a linear warm-up from 0, then a cosine to ``min_lr``.

    It is a function of the time ``step / steps_per_epoch`` in epochs, so that the first step of
    the warm-up has a rate of 0 and the cosine's last is just above ``min_lr`` (MindCV
    ``dynamic_lr.py``, ``linear_refined_lr`` and ``cosine_decay_refined_lr``, with the decay
    lasting from the end of the warm-up to the end of training).

    Args:
        step: From 0, over all epochs.
        steps_per_epoch: At least 1.
        recipe: ``lr``, ``min_lr``, ``warmup_epochs`` and ``epoch_size``.
    """
    epoch = step / steps_per_epoch
    if epoch < recipe.warmup_epochs:
        return recipe.lr * epoch / recipe.warmup_epochs
    decay_epochs = recipe.epoch_size - recipe.warmup_epochs
    done = min((epoch - recipe.warmup_epochs) / decay_epochs, 1.0) if decay_epochs else 0.0
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + cos(pi * done)) / 2
