"""Where a run stands, beside the tensors: what a state file carries as JSON."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pvt_train.twin import TrainingError


@dataclass(frozen=True)
class Kept:
    """A model file of the run.

    Attributes:
        epoch: The epoch after which it was written, from 1.
        top1: The accuracy of its weights over the validation images, in percent, if validated.
        file: The file's name within the run's folder.
    """

    epoch: int
    top1: float | None
    file: str


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        step: Updates done, over all epochs.
        images: Images in the training folder.
        global_batch: Images per update over all workers.
        loss_sum: The sum of the losses of this epoch's updates so far.
        norm_sum: Gradient norms of this epoch's updates so far, without those left out.
        skipped: Updates of this epoch so far that were left out, a gradient not being finite.
        best: The best model so far.
        kept: Model files that rotate, oldest first.
        unreadable: Images of this epoch that could not be read before the run was stopped in it.
    """

    step: int
    images: int
    global_batch: int
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    skipped: int = 0
    best: Kept | None = None
    kept: tuple[Kept, ...] = ()
    unreadable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values; floats come back as the same bits."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Standing":
        """Reads what :meth:`to_dict` gave.

        Raises:
            TrainingError: It is not that.
        """
        try:
            best = values["best"] and _kept(values["best"])
            kept = tuple(map(_kept, values["kept"]))
            return cls(**{**values, "best": best, "kept": kept})
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"not the state of a run: {error}") from error


def _kept(values: Mapping[str, Any]) -> Kept:
    """Reads a model file of a state that may be anybody's: a name, as the file is removed.

    Raises:
        ValueError: Its file is not one within the run's folder.
    """
    one = Kept(**values)
    if not re.fullmatch(r"[\w-]+\.ckpt", one.file):
        raise ValueError(f"a model file is {one.file!r}, expected a name as in pvt_tiny-1.ckpt")
    return one
