"""What may change in a recipe between a run and its going on."""

from typing import Any, NamedTuple

from pvt_train.recipe.keys import Recipe

_WEIGHTS = "it decides which weights there are, or what they compute"
_STATE = "the saved moments or averages are of the old one"
_PLACE = "it decides which images a step has and what is drawn for it"

FIXED: dict[str, str] = {
    "model": _WEIGHTS,
    "profile": _WEIGHTS,
    "in_channels": _WEIGHTS,
    "num_classes": _WEIGHTS,
    "image_resize": _WEIGHTS,
    "mean": "it is what the weights were trained to read",
    "std": "it is what the weights were trained to read",
    "freeze": "the saved moments are those of the tensors that were trained",
    "opt": _STATE,
    "ema": _STATE,
    "seed": _PLACE,
    "shuffle": _PLACE,
    "num_samples": _PLACE,
    "aug_repeats": _PLACE,
}
"""Key that a run cannot go on with another value of -> why."""

FREE: dict[str, tuple[str, ...]] = {
    "the weights come from the state": ("pretrained", "ckpt_path"),
    "it is where or how the run is carried out": (
        "mode",
        "device_target",
        "distribute",
        "log_interval",
        "data_dir",
        "train_split",
        "num_parallel_workers",
        "max_unreadable",
    ),
    "the images of an update over all workers are compared instead": (
        "batch_size",
        "gradient_accumulation_steps",
    ),
    "it is a function of the step, and follows the new values from here": (
        "epoch_size",
        "scheduler",
        "lr",
        "min_lr",
        "warmup_epochs",
        "warmup_factor",
        "decay_epochs",
        "decay_rate",
        "multi_step_decay_milestones",
        "lr_epoch_stair",
        "num_cycles",
        "cycle_decay",
    ),
    "it is how images are changed, from here on": (
        "scale",
        "ratio",
        "interpolation",
        "hflip",
        "vflip",
        "color_jitter",
        "auto_augment",
        "re_prob",
        "re_scale",
        "re_ratio",
        "re_value",
        "re_max_attempts",
        "mixup",
        "cutmix",
        "cutmix_prob",
        "mixup_switch_prob",
        "drop_path_rate",
        "loss",
        "label_smoothing",
    ),
    "it is how the weights are updated, from here on": (
        "weight_decay",
        "weight_decay_filter",
        "layer_decay",
        "momentum",
        "use_nesterov",
        "eps",
        "clip_grad",
        "clip_value",
        "ema_decay",
        "amp_level",
        "loss_scale_type",
        "loss_scale",
        "loss_scale_factor",
        "scale_window",
        "drop_overflow_update",
    ),
    "it is what is measured and kept": (
        "val_split",
        "crop_pct",
        "val_while_train",
        "val_interval",
        "ckpt_save_dir",
        "ckpt_save_interval",
        "ckpt_save_policy",
        "keep_checkpoint_max",
    ),
}
"""Why a key may change -> the keys."""


class Change(NamedTuple):
    """A key that differs.

    Attributes:
        key: Its name.
        old: In the saved run.
        new: Today.
        why: It may not change; empty where it may.
    """

    key: str
    old: Any
    new: Any
    why: str

    def __str__(self) -> str:
        reason = f" ({self.why})" if self.why else ""
        return f"{self.key} was {self.old!r}, is {self.new!r}{reason}"


class Changes(NamedTuple):
    """How two recipes differ.

    Attributes:
        allowed: What a run may go on with.
        refused: What it may not.
    """

    allowed: tuple[Change, ...]
    refused: tuple[Change, ...]


def what_changed(old: Recipe, new: Recipe) -> Changes:
    """The keys in which a saved run's recipe and today's differ, in the recipe's order."""
    differing = [
        Change(key, value, getattr(new, key), FIXED.get(key, ""))
        for key, value in vars(old).items()
        if value != getattr(new, key)
    ]
    return Changes(
        tuple(change for change in differing if not change.why),
        tuple(change for change in differing if change.why),
    )
