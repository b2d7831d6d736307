"""Where a run stands, beside the tensors: what a state file carries as JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pvt_spec import ConfigError
from pvt_spec.files.models import BEST, RUN_ENDINGS
from pvt_spec.files.records import read_record
from pvt_spec.words import show
from pvt_train.run.folder import is_rotated
from pvt_train.twin import TrainingError

_MOST = 10**15
"""More than any run has of images, updates or losses."""

_BEST = tuple(f"{BEST}{ending}" for ending in RUN_ENDINGS)


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
class HandedOver:
    """Where a run of another program stands, whose images and batches its state does not tell.

    Attributes:
        epochs: The epochs that it has behind it.
        updates: The updates that its optimizer has made; those that it left out are not counted.
    """

    epochs: int
    updates: int

    def __post_init__(self) -> None:
        if not (0 <= self.epochs <= _MOST and 0 <= self.updates <= _MOST):
            raise TrainingError(f"{show(self.epochs)} epochs and {show(self.updates)} updates")

    @property
    def step(self) -> int:
        """The updates, where nothing tells how many an epoch has."""
        return self.updates


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
        unreadable: Images of this epoch that could not be read before this state was saved.
        to_validate: Whether the epoch that the last update ended is still to be validated, its
            models kept and its result logged.
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
    to_validate: bool = False

    def _check_numbers(self) -> None:
        for name, (least, most) in {
            "step": (0, _MOST),
            "images": (1, _MOST),
            "global_batch": (1, self.images),
            "loss_sum": (-_MOST, _MOST),
            "norm_sum": (0, _MOST),
            "skipped": (0, self.step),
            "unreadable": (0, _MOST),
        }.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise TrainingError(
                    f"not the state of a run: {name} is {show(value)}, expected {least} to {most}"
                )

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
            standing = read_record(cls, dict(values), "it")
        except ConfigError as error:
            raise TrainingError(f"not the state of a run: {error}") from error
        standing._check_numbers()
        best = [standing.best] if standing.best else []
        for each in (*standing.kept, *best):
            # A state may be anybody's, and the file is removed.
            if not (is_rotated(each.file) or (each in best and each.file in _BEST)):
                raise TrainingError(
                    f"not the state of a run: a model file is {show(each.file)}, expected a name "
                    "as in pvt_tiny-1.ckpt"
                )
            if each.top1 is not None and not 0 <= each.top1 <= 100:
                raise TrainingError(f"not the state of a run: a Top-1 of {each.top1:.6g} %")
        return standing
