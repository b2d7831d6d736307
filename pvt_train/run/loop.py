"""The training loop, whatever the framework: updates, validation, and when to stop."""

import dataclasses
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite

import numpy as np

from pvt_data.edge import SIGNALS
from pvt_data.sources.labels import LabelledImages
from pvt_spec import PvtError
from pvt_train.input.loader import TrainingBatches
from pvt_train.input.processes import process_count
from pvt_train.optim.schedule import learning_rate
from pvt_train.recipe.keys import Recipe
from pvt_train.run.checkpoints import STEADIER, Checkpoints
from pvt_train.run.evaluation import Evaluation, evaluate
from pvt_train.run.reporter import EpochResult, Reporter
from pvt_train.run.standing import Standing
from pvt_train.run.stopping import StopRequest, stop_request
from pvt_train.twin import Batch, StepResult, TrainingError, Twin

MOST_SKIPPED = 50
"""Updates in a row that may be left out for gradients that are not finite.

A dynamic loss scale that starts at 2**24 is at 1 after 24.
"""


@dataclass(frozen=True)
class Run:
    """What is trained on what.

    Attributes:
        twin: The model, in the state that ``start`` says.
        recipe: How it is trained.
        batches: What it is trained on, this worker's share of it.
        validation: What it is validated with; None where ``val_while_train`` is off.
        start: The place where the run stands.
        say: The function that is told what every worker has to say for itself.
        reporter: What says and logs what becomes of the run; the first worker's alone.
        checkpoints: What writes its files; the first worker's alone.
    """

    twin: Twin
    recipe: Recipe
    batches: TrainingBatches
    validation: LabelledImages | None
    start: Standing
    say: Callable[[str], None]
    reporter: Reporter | None = None
    checkpoints: Checkpoints | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        rank: The worker's number; the state of the first one alone has the files.
        standing: The place where the run stands now.
        stopped: The signal that ended it before its last epoch, or None.
    """

    rank: int
    standing: Standing
    stopped: signal.Signals | None


def train(run: Run) -> Outcome:
    """Trains from where the run stands to the end of its recipe, or until asked to stop.

    Raises:
        TrainingError: The loss or the gradients are no longer finite.
        ImageError: Images cannot be read.
        PvtError: A checkpoint cannot be written.
        OSError: What is said cannot be written; the state is saved then.
    """
    with stop_request() as request:
        run = dataclasses.replace(run, say=request.told(run.say))
        if reporter := run.reporter:
            reporter.report, reporter.say = map(request.told, (reporter.report, reporter.say))
        outcome = _Training(run, request).to_the_end()
    if request.error:
        raise request.error
    return outcome


class _Training:
    """A run under way on one worker."""

    def __init__(self, run: Run, request: StopRequest):
        self.run, self.request, self.twin = run, request, run.twin
        self.standing = run.start
        self.steps = run.batches.steps_per_epoch
        self.skipped_in_a_row, self.loss_scale = 0, 1.0
        self.named: set[str] = set()

    def to_the_end(self) -> Outcome:
        """Goes through the epochs; where it is asked to stop, the state is saved first."""
        epochs = self.run.recipe.epoch_size
        # An epoch that is still to be validated has no updates left.
        first = self.standing.step // self.steps - self.standing.to_validate
        for epoch in range(first, epochs):
            stopped = self.train_epoch(epoch)
            if stopped is None:
                self.finish_epoch(epoch)
                stopped = self.asked_to_stop()
            if stopped is not None and self.standing.step < epochs * self.steps:
                self.save_state()
                # A worker that ends may have the others killed, so all wait for the first.
                self.twin.total(np.zeros(1))
                return Outcome(self.twin.rank, self.standing, stopped)
        return Outcome(self.twin.rank, self.standing, None)

    def train_epoch(self, epoch: int) -> signal.Signals | None:
        """Makes the updates left of an epoch; returns the signal that asked to stop, if any."""
        done = self.standing.step - epoch * self.steps
        self.started, self.updates = time.perf_counter(), self.steps - done
        with ExitStack() as stack:
            if self.run.reporter:
                stack.enter_context(self.run.reporter.progress(epoch))
            for group in self.groups(epoch, done):
                self.update(epoch, group)
                if self.standing.step < (epoch + 1) * self.steps:
                    stopped = self.asked_to_stop()
                    if stopped is not None:
                        self.standing = dataclasses.replace(
                            self.standing, unreadable=self.unreadable()
                        )
                        return stopped
        self.trained = time.perf_counter()
        return None

    def groups(self, epoch: int, done: int) -> Iterator[list[Batch]]:
        """Yields what is left of an epoch; where that cannot be read, the state is saved first."""
        try:
            yield from self.run.batches.epoch(epoch, done)
        except PvtError:
            if self.run.checkpoints and self.standing.step > self.run.start.step:
                if self.twin.ranks == 1:  # else it is counted by all workers together
                    count = self.unreadable()
                    self.standing = dataclasses.replace(self.standing, unreadable=count)
                self.save_state()
                self.run.say(self._last_good())
            raise

    def update(self, epoch: int, group: list[Batch]) -> None:
        """Makes one update, and counts it."""
        standing, recipe = self.standing, self.run.recipe
        rate = learning_rate(standing.step, self.steps, recipe)
        result = self.twin.step(group, rate)
        self.loss_scale = result.loss_scale
        # A framework may have taken the signals for itself meanwhile.
        self.request.listen()
        self.check_finite(result, epoch, rate, group)
        self.standing = dataclasses.replace(
            standing,
            step=standing.step + 1,
            loss_sum=standing.loss_sum + result.loss,
            norm_sum=standing.norm_sum + (result.gradient_norm if result.updated else 0.0),
            skipped=standing.skipped + (not result.updated),
        )
        if self.run.reporter:
            self.run.reporter.note_step(self.standing, result, rate)

    def check_finite(self, result: StepResult, epoch: int, rate: float, group: list[Batch]) -> None:
        """Ends a run whose numbers have left the finite ones; the weights have not.

        Raises:
            TrainingError: They have.
        """
        self.skipped_in_a_row = 0 if result.updated else self.skipped_in_a_row + 1
        scaled = result.loss_scale != 1
        if isfinite(result.loss) and (
            result.updated or (scaled and self.skipped_in_a_row < MOST_SKIPPED)
        ):
            return
        what = (
            f"loss is {result.loss}"
            if not isfinite(result.loss)
            else f"gradients are not finite (loss {result.loss:.4g})"
        )
        if self.skipped_in_a_row > 1:
            what += f", for {self.skipped_in_a_row} updates in a row"
        raise TrainingError(
            f"{what} at step {self.standing.step} (epoch {epoch + 1}), learning rate {rate:.2e}, "
            f"loss scale {result.loss_scale:g}; {self._first_tap(group)}; {self._last_good()}: "
            f"{STEADIER}"
        )

    def _first_tap(self, group: list[Batch]) -> str:
        named = next(filter(None, map(self.twin.first_not_finite, group)), None)
        where = f" on worker {self.twin.rank}" if self.twin.ranks > 1 else ""
        return (
            f"the first tap that is not finite is {named}{where}"
            if named
            else (f"every tap is finite{where}, so it is the loss or a gradient that is not")
        )

    def _last_good(self) -> str:
        files = self.run.checkpoints
        return files.last_good() if files else "the first worker says what is saved"

    def asked_to_stop(self) -> signal.Signals | None:
        """Returns the signal that any worker got, the same one on all of them."""
        asked = self.request.signal
        if self.twin.ranks == 1:
            return asked
        counts = self.twin.total(np.array([float(asked == each) for each in SIGNALS]))
        return next((each for each, count in zip(SIGNALS, counts, strict=True) if count), None)

    def finish_epoch(self, epoch: int) -> None:
        """Validates, keeps and logs, after an epoch's last update; the state is saved first."""
        recipe, last = self.run.recipe, epoch + 1 == self.run.recipe.epoch_size
        validated = (epoch + 1) % recipe.val_interval == 0 or last
        due = (epoch + 1) % recipe.ckpt_save_interval == 0 or last
        images = self.run.validation if validated else None
        raw = averaged = None
        unreadable = self.unreadable()
        if images is not None:
            self.standing = dataclasses.replace(
                self.standing, unreadable=unreadable, to_validate=True
            )
            if due:
                self.save_state()
            raw, averaged, failed = self.validate(images)
            unreadable += failed
        result = self.result(epoch, raw, averaged, unreadable)
        self.standing = dataclasses.replace(
            self.standing, loss_sum=0.0, norm_sum=0.0, skipped=0, unreadable=0, to_validate=False
        )
        if self.run.reporter and self.run.checkpoints:
            self.standing = self.run.checkpoints.keep_models(
                self.twin, self.standing, epoch + 1, result.kept, due
            )
            self.run.reporter.log_epoch(result)
            if due:
                self.save_state()
            self.run.reporter.say_epoch(result)

    def validate(self, images: LabelledImages) -> tuple[Evaluation, Evaluation | None, int]:
        """Returns the accuracy of the weights, that of averaged ones if there are, and how many
        images could not be read."""
        failed: dict[str, str] = {}
        raw, averaged = self.evaluate(images, failed), None
        if self.run.recipe.ema:
            with self.twin.averaged():
                averaged = self.evaluate(images, failed)
        return raw, averaged, self.name_unreadable(failed.items(), "left out of the accuracy")

    def evaluate(self, images: LabelledImages, failed: dict[str, str]) -> Evaluation:
        """Returns the accuracy of the weights that the twin now answers with."""
        recipe = self.run.recipe
        threads = max(1, process_count(recipe.num_parallel_workers))
        most = recipe.max_unreadable
        return evaluate(self.twin, images, recipe.batch_size, threads, failed, most)

    def unreadable(self) -> int:
        """Returns how many images of the epoch could not be read, and names this worker's."""
        failed = self.run.batches.unreadable
        return self.standing.unreadable + self.name_unreadable(failed, "replaced by another image")

    def name_unreadable(self, failed: Collection[tuple[str, str]], fate: str) -> int:
        """Names this worker's images that could not be read, each once in a run; counts all
        workers'."""
        for name, reason in failed:
            if name not in self.named:
                self.named.add(name)
                self.run.say(f"not readable, {fate}: {name}: {reason}")
        return int(self.twin.total(np.array([float(len(failed))]))[0])

    def result(
        self, epoch: int, raw: Evaluation | None, averaged: Evaluation | None, unreadable: int
    ) -> EpochResult:
        """Returns what the epoch came to."""
        standing, now = self.standing, time.perf_counter()
        made = self.steps - standing.skipped
        return EpochResult(
            step=standing.step,
            epoch=epoch + 1,
            loss=standing.loss_sum / self.steps,
            lr=learning_rate(standing.step - 1, self.steps, self.run.recipe),
            gradient_norm=standing.norm_sum / made if made else None,
            loss_scale=self.loss_scale,
            skipped=standing.skipped,
            unreadable=unreadable,
            images_per_second=self.updates * standing.global_batch / (self.trained - self.started),
            seconds=now - self.started,
            raw=raw,
            averaged=averaged,
        )

    def save_state(self) -> None:
        """Writes where the run stands, with all that a later step depends on."""
        if self.run.checkpoints:
            self.run.checkpoints.save_state(self.twin, self.standing)
