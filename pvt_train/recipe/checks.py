"""What a recipe's values may be, and what about them is legal but odd."""

from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite
from typing import Any

from pvt_spec import PROFILES
from pvt_train.input.augmentation import augmentation_problems
from pvt_train.optim.optimizer import FILTERS, OPTIMIZERS
from pvt_train.optim.schedule import SCHEDULER_NAMES, decay_epochs
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.mindcv import OTHER_KEYS, is_same

Check = tuple[Callable[[Any], bool], str]
"""Whether a value may be, and what it should be. It is false for NaN, which is in no range."""


def _at_least(least: float) -> Check:
    return lambda value: least <= value < inf, f"at least {least:g}"


def _one_of(*names: str) -> Check:
    return lambda value: value in names, f"one of {', '.join(names)}"


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check[0](value), check[1]


_SHARE: Check = (lambda value: 0 <= value <= 1, "0 to 1")
_BELOW_ONE: Check = (lambda value: 0 <= value < 1, "0 <= share < 1")
_POSITIVE: Check = (lambda value: 0 < value < inf, "more than 0")
_AREA: Check = (lambda pair: 0 < pair[0] <= pair[1] <= 1, "0 < smallest <= largest <= 1")
_SHAPE: Check = (lambda pair: 0 < pair[0] <= pair[1] < inf, "0 < smallest <= largest")

RANGES: dict[str, Check] = {
    "profile": _or_null(_one_of(*PROFILES)),
    "in_channels": _at_least(1),
    "num_classes": _or_null(_at_least(1)),
    "mode": (lambda value: value in (0, 1), "0 (graph) or 1 (pynative)"),
    "device_target": _or_null(_one_of("Ascend", "GPU", "CPU")),
    "seed": _at_least(0),
    "log_interval": _at_least(1),
    "num_parallel_workers": _at_least(0),
    "num_samples": _or_null(_at_least(1)),
    "batch_size": _at_least(1),
    "max_unreadable": _at_least(0),
    "scale": _AREA,
    "ratio": _SHAPE,
    "hflip": _SHARE,
    "vflip": _SHARE,
    "re_prob": _SHARE,
    "re_scale": _AREA,
    "re_ratio": _SHAPE,
    "re_max_attempts": _at_least(1),
    "aug_repeats": _at_least(0),
    "mixup": _at_least(0),
    "cutmix": _at_least(0),
    "cutmix_prob": _SHARE,
    "mixup_switch_prob": _SHARE,
    "mean": _or_null((lambda values: all(map(isfinite, values)), "finite numbers")),
    "std": _or_null((lambda values: all(0 < one < inf for one in values), "more than 0 each")),
    "crop_pct": _or_null((lambda value: 0 < value <= 1, "more than 0, up to 1")),
    "loss": _one_of("CE"),
    "label_smoothing": _BELOW_ONE,
    "epoch_size": _at_least(1),
    "scheduler": _one_of(*SCHEDULER_NAMES),
    "lr": _POSITIVE,
    "min_lr": _at_least(0),
    "warmup_epochs": _at_least(0),
    "warmup_factor": _SHARE,
    "decay_epochs": _or_null(_at_least(1)),
    "decay_rate": _POSITIVE,
    "multi_step_decay_milestones": (lambda epochs: all(e >= 0 for e in epochs), "at least 0 each"),
    "num_cycles": _at_least(1),
    "cycle_decay": (lambda value: 0 < value <= 1, "more than 0, up to 1"),
    "opt": _one_of(*OPTIMIZERS),
    "weight_decay": _at_least(0),
    "weight_decay_filter": _one_of(*FILTERS),
    "layer_decay": _or_null((lambda value: 0 < value <= 1, "more than 0, up to 1")),
    "momentum": _BELOW_ONE,
    "eps": _POSITIVE,
    "clip_value": _POSITIVE,
    "gradient_accumulation_steps": _at_least(1),
    "ema_decay": _BELOW_ONE,
    "amp_level": _one_of("O0", "O1", "O2", "O3"),
    "loss_scale_type": _one_of("fixed", "dynamic", "auto"),
    "loss_scale": _at_least(1),
    "loss_scale_factor": (lambda value: 1 < value < inf, "more than 1"),
    "scale_window": _at_least(1),
    "val_interval": _at_least(1),
    "ckpt_save_interval": _at_least(1),
    "ckpt_save_policy": _one_of("latest_k", "top_k", "all"),
    "keep_checkpoint_max": _at_least(1),
}
"""Key -> its check. The model checks its own keys, the augmentation those with a syntax."""


def out_of_range(recipe: Recipe) -> Iterator[str]:
    """What about a recipe's values cannot be, one line each."""
    for key, (holds, expected) in RANGES.items():
        value = getattr(recipe, key)
        if not holds(value):
            yield f"{key} is {value!r}, expected {expected}"
    if recipe.min_lr > recipe.lr:
        yield f"min_lr is {recipe.min_lr!r}, expected 0 to lr, which is {recipe.lr!r}"
    if recipe.warmup_epochs > recipe.epoch_size:
        yield (
            f"warmup_epochs is {recipe.warmup_epochs!r}, expected 0 to epoch_size, which is "
            f"{recipe.epoch_size!r}: give --warmup-epochs too"
        )
    for key in ("mean", "std"):
        values = getattr(recipe, key)
        if values is not None and len(values) != recipe.in_channels:
            yield f"{key} is {values!r}, expected {recipe.in_channels} numbers, as in_channels"
    if recipe.ckpt_save_policy == "top_k" and not recipe.val_while_train:
        yield "ckpt_save_policy is 'top_k', expected with val_while_train: True alone"
    yield from augmentation_problems(recipe)


def recipe_warnings(recipe: Recipe, values: Mapping[str, Any] | None = None) -> list[str]:
    """What is legal but odd, one line each: keys that decide nothing here, a schedule with a flaw.

    Args:
        recipe: The recipe.
        values: What it was read from, with the keys that are none of the recipe's; see
            :func:`pvt_train.recipe.read.read_values`.
    """
    values = values or {}
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
    total, warmup = recipe.epoch_size, recipe.warmup_epochs
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
