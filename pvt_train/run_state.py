"""Where a run stands, beside the tensors: what a state file carries as JSON.

Standard library only.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pvt_train.twin import TrainingError


@dataclass(frozen=True)
class Kept:
    """A model file of the run.

    Attributes:
        epoch: After which it was written, from 1.
        top1: Of its weights over the validation images, in percent; None where not validated.
        file: Its name within the run's folder.
    """

    epoch: int
    top1: float | None
    file: str


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        step: Updates done, over all epochs.
        images: Images in the training folder.
        global_batch: Images per update over all workers.
        loss_sum: Of this epoch's updates so far.
        norm_sum: Gradient norms of this epoch's updates so far, without those left out.
        skipped: Updates of this epoch so far that were left out, a gradient not being finite.
        best: The best model so far.
        kept: Model files that rotate, oldest first.
    """

    step: int
    images: int
    global_batch: int
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    skipped: int = 0
    best: Kept | None = None
    kept: tuple[Kept, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON; floats come back as the same bits."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunState":
        """What :meth:`to_dict` was given.

        Raises:
            TrainingError: It is not that.
        """
        try:
            best = values["best"] and Kept(**values["best"])
            kept = tuple(Kept(**one) for one in values["kept"])
            return cls(**{**values, "best": best, "kept": kept})
        except (KeyError, TypeError) as error:
            raise TrainingError(f"not the state of a run: {error}") from error
