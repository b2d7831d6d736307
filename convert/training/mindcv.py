"""What MindCV's trainer leaves: ``NAME-EPOCH_STEP.ckpt``, with its AdamW's moments and counters.

Sources: MindCV 0.3.0 (``optim/adamw.py``, ``utils/train_step.py``, ``utils/callbacks.py``) and
MindSpore 2.10 (``nn/wrap/loss_scale.py``).
"""

import re
from math import log
from pathlib import Path

import numpy as np

from convert.formats.weight_file import WeightFile
from convert.names.training_state import ADAM, adam_moments, counters, is_training_state
from convert.training.theirs import BETAS, MOST, Found, dynamic
from pvt_spec.errors import ConvertError

_NAME = re.compile(r".*-(\d{1,6})_\d+\.ckpt")
"""The file's name, from which MindCV itself reads the epoch."""

_VANISHED = 1e-30
"""A power of beta2 that is smaller tells no number of updates, and corrects nothing."""

_LEVEL = 16_700
"""Updates after which 0.999**updates is less than float32 sees beside 1."""

_OTHERS = ("learning_rate", "step_num", "state_step")


def find_in_mindcv(path: Path, file: WeightFile) -> Found | None:
    """Returns what is found of a training with MindCV's AdamW; None where there are no moments.

    Raises:
        ConvertError: They are not all there, or it cannot be told how many updates they are of.
    """
    moments = adam_moments(file.tensors)
    if not moments:
        return None
    if len(moments) < len(ADAM):
        raise ConvertError(f"has moments {', '.join(moments)} alone, expected {', '.join(ADAM)}")
    single = counters(file.tensors)
    for name, value in single.items():
        if not 0 <= value <= (1 if name.endswith("_power") else MOST):
            raise ConvertError(f"its {name} is {value:g}, which no training has come to")
    updates = _updates(single)
    _check_average(single, updates)
    counts, known = {"updates": np.array(updates, np.int64)}, {"opt": "adamw"}
    if "current_iterator_step" in single and "scale_sense" in single:
        good = single["current_iterator_step"] - 1 - single.get("last_overflow_iterator_step", 0)
        counts |= dynamic(single["scale_sense"], int(good))
        known["loss_scale_type"] = "dynamic"
    epochs, said = _epochs(path, single)
    weights = {name: a for name, a in file.tensors.items() if not is_training_state(name)}
    left = tuple(name for name in _OTHERS if name in file.tensors)
    return Found(moments, weights, counts, epochs, known, "MindCV's AdamW", said, left)


def _updates(single: dict[str, float]) -> int:
    """Returns how many updates the moments are of.

    Where overflows are left out or gradients accumulated, it is fewer than ``global_step`` says.

    Raises:
        ConvertError: It cannot be told.
    """
    steps, power = int(single.get("global_step", 0)), single.get("beta2_power")
    if power is None:
        if steps < _LEVEL:
            raise ConvertError(
                "has adam_m and adam_v without beta2_power, as MindSpore's nn.AdamWeightDecay "
                f"does, which corrects no bias: after {steps} updates its next step is not that of "
                f"AdamW, as it is from {_LEVEL} on; take weights alone with --pretrained"
            )
        return steps
    if power < _VANISHED:
        if steps:
            return steps
        raise ConvertError(
            "beta2_power is 0 and there is no global_step: it cannot be told how many updates it "
            "has behind it; take weights alone with --pretrained"
        )
    updates = round(log(power) / log(float(np.float32(BETAS[1]))))
    # A power of many factors is rounded at each: where both say about the same, steps are exact.
    return steps if abs(updates - steps) <= 1e-4 * steps else updates


def _check_average(single: dict[str, float], updates: int) -> None:
    """Refuses an average that has been moved at other steps than the weights.

    Raises:
        ConvertError: It has.
    """
    moved = int(single.get("updates", updates))
    if moved not in (0, updates):
        raise ConvertError(
            f"its averages have been moved {moved} times in {updates} updates of the weights, as "
            "MindCV does where gradients are accumulated: no run here goes on so; take weights "
            "alone with --pretrained"
        )


def _epochs(path: Path, single: dict[str, float]) -> tuple[int, str]:
    """Returns how many epochs the run has behind it, and the words for how that is known.

    Raises:
        ConvertError: It is not.
    """
    if match := _NAME.fullmatch(path.name):
        return int(match[1]), "by its name, as MindCV reads it"
    if "epoch_num" in single:
        return int(single["epoch_num"]), "epoch_num"
    raise ConvertError(
        "says not how many epochs it has behind it: call it as MindCV does, NAME-EPOCH_STEP.ckpt"
    )
