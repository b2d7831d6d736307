"""What about a recipe as a whole cannot be, and what is legal but odd."""

from collections.abc import Iterator, Mapping
from typing import Any

from pvt_spec import ConfigError
from pvt_spec.words import show
from pvt_train.input.augmentation import augmentation_problems
from pvt_train.optim.schedule import decay_epochs, warmup_epochs
from pvt_train.recipe.keys import ROWS, Recipe
from pvt_train.recipe.mindcv import OTHER_KEYS, is_same


def list_problems(recipe: Recipe) -> Iterator[str]:
    """Yields what about a recipe's values cannot be, one line each; the model is not looked at."""
    yield from filter(None, (row.problem(vars(recipe)[key]) for key, row in ROWS.items()))
    if recipe.min_lr > recipe.lr:
        yield f"min_lr is {recipe.min_lr!r}, expected 0 to lr, which is {recipe.lr!r}"
    if recipe.warmup_epochs is not None and recipe.warmup_epochs > recipe.epoch_size:
        yield (
            f"warmup_epochs is {recipe.warmup_epochs!r}, expected 0 to epoch_size, which is "
            f"{recipe.epoch_size!r}: give --warmup-epochs too (null is a tenth of the epochs)"
        )
    for key in ("mean", "std"):
        values = getattr(recipe, key)
        if values is not None and len(values) != recipe.in_channels:
            yield f"{key} is {values!r}, expected {recipe.in_channels} numbers, as in_channels"
    if recipe.ckpt_save_policy == "top_k" and not recipe.val_while_train:
        yield "ckpt_save_policy is 'top_k', expected with val_while_train: True alone"
    yield from augmentation_problems(recipe)


def check_framework(recipe: Recipe, framework: str) -> None:
    """Refuses values that another framework's twin alone can train with.

    Args:
        recipe: The recipe.
        framework: MindSpore or PyTorch.

    Raises:
        ConfigError: There are some; all are named.
    """
    values = {key: vars(recipe)[key] for key in ROWS}
    refused = [
        f"{key} is {show(values[key])}, which is {row.alone[values[key]]}'s alone"
        for key, row in ROWS.items()
        if row.alone and row.alone.get(values[key], framework) != framework
    ]
    if refused:
        raise ConfigError(f"{'; '.join(refused)}: give another value for a run in {framework}")


def recipe_warnings(recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
    """Returns what is legal but odd, a line each: keys that decide nothing, a flawed schedule.

    Args:
        recipe: The recipe.
        values: What it was read from, with the keys that are none of the recipe's; see
            :func:`pvt_train.recipe.read.read_values`.
    """
    unused = [
        f"{key} ({OTHER_KEYS[key].why})"
        for key, value in values.items()
        if key in OTHER_KEYS and not OTHER_KEYS[key].refused and not is_same(key, value)
    ]
    lines = [f"not used here: {'; '.join(unused)}"] if unused else []
    if recipe.auto_augment is not None and "color_jitter" in values and _jitters(recipe):
        lines.append("color_jitter does nothing beside auto_augment, as in MindCV")
    return lines + list(_schedule_warnings(recipe)) + list(_precision_warnings(recipe))


def _jitters(recipe: Recipe) -> bool:
    return recipe.color_jitter not in (None, 0.0, (0.0, 0.0, 0.0))


def _schedule_warnings(recipe: Recipe) -> Iterator[str]:
    total, warmup = recipe.epoch_size, warmup_epochs(recipe)
    if recipe.scheduler == "cosine_decay":
        end = warmup + recipe.num_cycles * decay_epochs(recipe)
        parts = f"warmup_epochs {warmup} + decay_epochs {decay_epochs(recipe)}"
        if recipe.num_cycles > 1:
            parts += f" × num_cycles {recipe.num_cycles}"
        if end < total:
            yield (
                f"{parts} end before epoch_size {total}: the learning rate stays at min_lr from "
                f"epoch {end} on"
            )
        elif warmup < total < end:
            yield (
                f"{parts} end after epoch_size {total}: the learning rate does not come down to "
                "min_lr"
            )
    stair = recipe.lr_epoch_stair or recipe.scheduler == "deit_cosine"
    if stair and warmup and recipe.warmup_factor == 0:
        yield (
            "warmup_factor 0 with a rate that stays the same within an epoch: the learning rate is "
            "0 in the whole first epoch"
        )


def _precision_warnings(recipe: Recipe) -> Iterator[str]:
    halved = recipe.amp_level in ("O2", "O3")
    if halved and recipe.loss_scale_type == "dynamic" and recipe.loss_scale == 1:
        yield (
            f"loss_scale is 1 and rises every {recipe.scale_window} updates at most, as in MindCV: "
            "small gradients are lost in float16 until it is large; loss_scale: 65536 begins there"
        )
