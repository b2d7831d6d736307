"""Keys of MindCV's files that are no keys of a recipe: what becomes of each.

Source: ``config.py`` of MindCV 0.3.0.
"""

from typing import Any, NamedTuple


class OtherKey(NamedTuple):
    """A key that decides nothing here.

    Attributes:
        same: Values with which nothing is lost: they are taken without a word.
        refused: Whether another value is an error, because it asks for another training; if not,
            it is taken with a warning.
        why: What is the case instead.
    """

    same: tuple[Any, ...]
    refused: bool
    why: str


OTHER_KEYS: dict[str, OtherKey] = {
    "dataset": OtherKey(("imagenet",), False, "data_dir says where the images are"),
    "dataset_download": OtherKey((False,), True, "nothing is downloaded: give --data-dir"),
    "dataset_sink_mode": OtherKey((False,), False, "every step is fed from the host"),
    "drop_remainder": OtherKey(
        (True,), False, "images beyond an epoch's last whole batch are left out of that epoch"
    ),
    "aug_splits": OtherKey((0,), True, "there is no AugMix"),
    "drop_rate": OtherKey((None, 0), True, "there is no dropout, only drop_path_rate"),
    "resume_opt": OtherKey((False,), False, "--ckpt-path brings back the optimizer's state too"),
    "aux_factor": OtherKey((0,), False, "a PVT has no auxiliary logits"),
    "reduction": OtherKey(("mean",), True, "the loss is the mean over the images"),
    "val_amp_level": OtherKey(("O0",), False, "validation computes as training does"),
    "amp_cast_list": OtherKey((None,), True, "amp_level decides what is cast"),
    "eval_shuffle": OtherKey((False,), False, "the order of validation changes no result"),
}
"""Key -> what becomes of it."""

FORMER_KEYS: dict[str, str] = {
    "filter_bias_and_bn": "weight_decay_filter: norm_and_bias for True, disable for False",
    "dynamic_loss_scale": "loss_scale_type: dynamic for True, fixed for False",
}
"""Keys of MindCV's files before 0.3 -> what to write instead."""

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def is_same(key: str, value: Any) -> bool:
    """Returns whether a value of one of :data:`OTHER_KEYS` loses nothing; options give text."""
    return _plain(value) in OTHER_KEYS[key].same


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        return float(value)
    except ValueError:
        return value
