"""What is said of a run: lines for people, the log, a bar on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pvt_data.progress import Show, progress_bar
from pvt_train.recipe.keys import Recipe
from pvt_train.run.clock import Clock
from pvt_train.run.evaluation import Evaluation
from pvt_train.run.log import RunLog
from pvt_train.run.standing import Standing
from pvt_train.twin import StepResult

LONGEST_SILENCE = 30.0
"""Seconds without a line within an epoch after which an update is told of, logged or not."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to; in the log the fields have these names and this order.

    Attributes:
        step: The number of updates done, over all epochs.
        epoch: The epoch's number, from 1.
        loss: The mean over the epoch's updates.
        lr: The learning rate of its last update.
        gradient_norm: The mean over the updates that were made; None if none was.
        loss_scale: The loss scale of its last update.
        skipped: The number of updates that were left out, a gradient not being finite.
        unreadable: The number of images that could not be read: those that were replaced, and
            those that were left out of the accuracy.
        images_per_second: The pace of training over all workers, without validation.
        seconds: The time that training and validation took.
        raw: The accuracy of the weights; None where they were not validated.
        averaged: The accuracy of the averaged weights (EMA); None likewise.
    """

    step: int
    epoch: int
    loss: float
    lr: float
    gradient_norm: float | None
    loss_scale: float
    skipped: int
    unreadable: int
    images_per_second: float
    seconds: float
    raw: Evaluation | None
    averaged: Evaluation | None

    @property
    def kept(self) -> Evaluation | None:
        """The accuracy of the weights that model files hold: the averaged ones where there are."""
        return self.averaged or self.raw

    def to_line(self, epochs: int, left: str) -> str:
        """Returns a line for people; ``left`` is the time that is left."""
        parts = [
            f"epoch {self.epoch:>{len(str(epochs))}}/{epochs}",
            f"loss {self.loss:.4f}",
            f"lr {self.lr:.2e}",
            "grad none" if self.gradient_norm is None else f"grad {self.gradient_norm:.3g}",
        ]
        if self.loss_scale != 1:
            parts.append(f"scale {self.loss_scale:g}")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        for name, accuracy in (("", self.raw), ("EMA ", self.averaged)):
            if accuracy:
                parts.append(f"{name}Top-1 {accuracy.top1:6.2f} %")
            if accuracy and accuracy.top5 is not None:
                parts.append(f"Top-5 {accuracy.top5:6.2f} %")
        parts += [f"{self.images_per_second:.0f} images/s", f"{self.seconds:.1f} s"]
        return "  ".join([*parts, f"ETA {left}"] if left else parts)

    def to_record(self) -> dict[str, Any]:
        """Returns the record for the log; what was not measured, or says nothing, is null."""
        record = {"kind": "epoch", **vars(self)}
        del record["raw"], record["averaged"]
        for prefix, accuracy in (("", self.raw), ("ema_", self.averaged)):
            record[f"{prefix}top1"] = accuracy and accuracy.top1
            record[f"{prefix}top5"] = accuracy and accuracy.top5
            record[f"{prefix}val_loss"] = accuracy and accuracy.loss
        return record


class Reporter:
    """Says what becomes of a run, for the first of its workers; the log is closed at its end."""

    def __init__(
        self,
        recipe: Recipe,
        start: Standing,
        steps_per_epoch: int,
        report: Callable[[str], None],
        say: Callable[[str], None],
    ):
        """Takes up the log of a run, whose folder exists.

        Args:
            recipe: The folder, the interval of the log, and the number of epochs.
            start: The place where the run stands.
            steps_per_epoch: The number of updates in an epoch.
            report: The function that is told one line per epoch.
            say: The function that is told everything else.
        """
        self.recipe, self.steps_per_epoch, self.report, self.say = (
            recipe, steps_per_epoch, report, say,
        )  # fmt: skip
        self.log = RunLog(Path(recipe.ckpt_save_dir), start.step, start.to_validate)
        self.clock = Clock(start.step, recipe.epoch_size * steps_per_epoch)
        self.show: Show = lambda *given: None

    @contextmanager
    def progress(self, epoch: int) -> Iterator[None]:
        """Shows on a terminal how far an epoch (from 0) is, while the block lasts."""
        self.clock.mark()
        with progress_bar(f"epoch {epoch + 1}/{self.recipe.epoch_size}") as self.show:
            yield

    def note_step(self, standing: Standing, result: StepResult, learning_rate: float) -> None:
        """Takes note of an update; every ``log_interval`` of them is logged.

        What is logged is said, and what comes after long silence.
        """
        self.clock.count()
        text = f"loss {result.loss:.4f}  {self.clock.pace() * standing.global_batch:.0f} images/s"
        epoch, step = divmod(standing.step - 1, self.steps_per_epoch)
        self.show(step + 1, self.steps_per_epoch, text)
        due = standing.step % self.recipe.log_interval == 0
        if due:
            self.log.write(
                {
                    "kind": "step",
                    "step": standing.step,
                    "epoch": epoch + 1,
                    "loss": result.loss,
                    "lr": learning_rate,
                    "gradient_norm": result.gradient_norm if result.updated else None,
                    "loss_scale": result.loss_scale,
                }
            )
        elif self.clock.since_mark() < LONGEST_SILENCE:
            return
        self.say(
            f"epoch {epoch + 1}/{self.recipe.epoch_size}  step {step + 1}/{self.steps_per_epoch}  "
            f"{text}  lr {learning_rate:.2e}  ETA {self.clock.left()}"
        )
        self.clock.mark()

    def log_epoch(self, result: EpochResult) -> None:
        """Writes an epoch into the log."""
        self.log.write(result.to_record())

    def say_epoch(self, result: EpochResult) -> None:
        """Reports an epoch, once everything of it is written."""
        left = self.clock.left() if result.epoch < self.recipe.epoch_size else ""
        self.report(result.to_line(self.recipe.epoch_size, left))
