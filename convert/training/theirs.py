"""What is found of a training in another program's file, before its names are translated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

NO_STATE = (
    "no training state is in it that can be gone on from: give a run's last.ckpt or last.pth, "
    "a checkpoint of MindCV's trainer with adam_m and adam_v in it, or a .pth with model, "
    "optimizer and epoch as the official code saves it; or take weights alone with --pretrained"
)

BETAS = (0.9, 0.999)
"""Decay rates of both moments that a run here has too."""

MOST = 1 << 53
"""More than any counter or scale of a training comes to; up to here float64 has every number."""


@dataclass(frozen=True)
class Found:
    """What is found of a training.

    Attributes:
        moments: Our leading part -> the weight's name in the file -> the moment.
        of: The weights that the file's optimizer may have, by their names in it.
        counts: Counters by the names of :meth:`pvt_train.twin.Twin.state`.
        epochs: The epochs that the run has behind it.
        known: What the file shows of the recipe, by its keys.
        said: The words for where moments and counters were found.
        said_epochs: The words for where the epochs were.
        left: The names of what is left behind.
    """

    moments: Mapping[str, Mapping[str, Array]]
    of: Mapping[str, Array]
    counts: dict[str, Array]
    epochs: int
    known: dict[str, Any]
    said: str
    said_epochs: str
    left: tuple[str, ...] = field(default=())


def dynamic(scale: float, good_steps: int) -> dict[str, Array]:
    """Returns the counters of a dynamic loss scale.

    Raises:
        ConvertError: None has them.
    """
    if not scale >= 1 or good_steps < 0:
        raise ConvertError(f"its loss scale is {scale:g} after {good_steps} steps without overflow")
    return {
        "loss_scale": np.array(scale, np.float64),
        "good_steps": np.array(good_steps, np.int64),
    }
