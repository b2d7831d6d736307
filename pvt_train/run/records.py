"""What is written and said of a run: lines for people, the log, model files, the state."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import to_dict
from pvt_train.run.evaluation import Evaluation
from pvt_train.run.folder import LAST, as_best, is_better, model_file, rotate
from pvt_train.run.log import RunLog
from pvt_train.run.progress import Advance, Clock, epoch_progress
from pvt_train.run.state import Kept, RunState
from pvt_train.twin import StepResult, Twin


class Store(Protocol):
    """Files of models and of whole states, each written whole or not at all."""

    def save_model(self, path: Path, weights: dict[str, Array], info: ModelInfo) -> None:
        """Writes weights with what travels with them."""
        ...

    def save_state(
        self, path: Path, state: dict[str, Array], info: ModelInfo, facts: Mapping[str, Any]
    ) -> None:
        """Writes a twin's state, and JSON values that say where the run stands."""
        ...


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to.

    Attributes:
        epoch: From 1.
        loss: Mean over the epoch's updates.
        learning_rate: Of its last update.
        gradient_norm: Mean over the updates that were made; None if none was.
        skipped: Updates that were left out, a gradient not being finite.
        unreadable: Images that could not be read and were replaced.
        raw: Accuracy of the weights; None where they were not validated.
        averaged: Accuracy of the averaged weights (EMA); None likewise.
        images_per_second: Of training over all workers, without validation.
        seconds: Of training and validation.
    """

    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float | None
    skipped: int
    unreadable: int
    raw: Evaluation | None
    averaged: Evaluation | None
    images_per_second: float
    seconds: float

    @property
    def kept(self) -> Evaluation | None:
        """Accuracy of the weights that model files hold: the averaged ones where there are."""
        return self.averaged or self.raw

    def line(self, epochs: int, loss_scale: float, left: str) -> str:
        """For people to read; ``left`` is the time that is left."""
        parts = [
            f"epoch {self.epoch:>{len(str(epochs))}}/{epochs}",
            f"loss {self.loss:.4f}",
            f"lr {self.learning_rate:.2e}",
            "grad none" if self.gradient_norm is None else f"grad {self.gradient_norm:.3g}",
        ]
        if loss_scale != 1:
            parts.append(f"scale {loss_scale:g}")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        for name, accuracy in (("", self.raw), ("EMA ", self.averaged)):
            if accuracy:
                parts.append(f"{name}Top-1 {accuracy.top1:6.2f} %  Top-5 {accuracy.top5:6.2f} %")
        parts += [f"{self.images_per_second:.0f} images/s", f"{self.seconds:.1f} s"]
        return "  ".join([*parts, f"ETA {left}"] if left else parts)

    def record(self, step: int, loss_scale: float) -> dict[str, Any]:
        """For the log; what was not measured is null."""
        record: dict[str, Any] = {
            "kind": "epoch",
            "step": step,
            "epoch": self.epoch,
            "loss": self.loss,
            "lr": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "loss_scale": loss_scale,
            "skipped": self.skipped,
            "unreadable": self.unreadable,
            "images_per_second": self.images_per_second,
            "seconds": self.seconds,
        }
        for prefix, accuracy in (("", self.raw), ("ema_", self.averaged)):
            record[f"{prefix}top1"] = accuracy and accuracy.top1
            record[f"{prefix}top5"] = accuracy and accuracy.top5
            record[f"{prefix}val_loss"] = accuracy and accuracy.loss
        return record


class Records:
    """Everything that the first worker writes and says.

    As a context, it closes the log.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        info: ModelInfo,
        start: RunState,
        steps_per_epoch: int,
        store: Store,
        report: Callable[[str], None],
        say: Callable[[str], None],
    ):
        """Takes up the records of a run.

        Args:
            folder: The run's; it exists.
            recipe: Intervals, policies, and the number of epochs.
            info: What travels with the weights.
            start: Where the run stands.
            steps_per_epoch: Updates in an epoch.
            store: Writes checkpoints.
            report: Told one line per epoch.
            say: Told everything else.
        """
        self.folder, self.recipe, self.info = folder, recipe, info
        self.store, self.report, self.say = store, report, say
        self.steps_per_epoch = steps_per_epoch
        self.log = RunLog(folder, start.step)
        self.clock = Clock(start.step, recipe.epoch_size * steps_per_epoch)
        self.loss_scale = 1.0
        self.saved_step = start.step
        self.advance: Advance = lambda text: None
        self.leaving: list[Kept] = []

    def __enter__(self) -> "Records":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.log.close()

    @contextmanager
    def progress(self, epoch: int, steps: int, done: int) -> Iterator[None]:
        """Shows an epoch's progress on a terminal; ``epoch`` from 0, ``done`` of ``steps``."""
        self.clock.mark()
        title = f"epoch {epoch + 1}/{self.recipe.epoch_size}"
        with epoch_progress(title, steps, done) as self.advance:
            yield

    def step(self, state: RunState, result: StepResult, learning_rate: float) -> None:
        """Takes note of an update; every ``log_interval`` of them is logged."""
        self.loss_scale = result.loss_scale
        self.clock.count()
        text = f"loss {result.loss:.4f}  {self.clock.pace() * state.global_batch:.0f} images/s"
        self.advance(text)
        if state.step % self.recipe.log_interval:
            return
        epoch, step = divmod(state.step - 1, self.steps_per_epoch)
        self.log.write(
            {
                "kind": "step",
                "step": state.step,
                "epoch": epoch + 1,
                "loss": result.loss,
                "lr": learning_rate,
                "gradient_norm": result.gradient_norm if result.updated else None,
                "loss_scale": result.loss_scale,
            }
        )
        self.say(
            f"epoch {epoch + 1}/{self.recipe.epoch_size}  step {step + 1}/{self.steps_per_epoch}  "
            f"{text}  lr {learning_rate:.2e}  ETA {self.clock.left()}"
        )
        self.clock.mark()

    def epoch(self, result: EpochResult, state: RunState, twin: Twin, keep: bool) -> RunState:
        """Logs an epoch and writes its model files.

        Args:
            result: What the epoch came to.
            state: Where the run stands.
            twin: Whose weights they are.
            keep: Whether it is one of those that a model is kept of; the best always is.

        Returns:
            Where the run stands, with the model files that are now there.
        """
        info = self._described(twin.framework, result)
        accuracy = result.kept
        name = model_file(self.recipe.model, result.epoch)
        new = Kept(result.epoch, accuracy.top1 if accuracy else None, name)
        best = is_better(new, state.best)
        kept, leaving = (
            rotate(state.kept, new, self.recipe.ckpt_save_policy, self.recipe.keep_checkpoint_max)
            if keep
            else (state.kept, ())
        )
        if best or new in kept:
            self._save_models(twin, info, [name] * (new in kept) + [as_best(new).file] * best)
        self.leaving += leaving
        self.log.write(result.record(state.step, self.loss_scale))
        return dataclasses.replace(state, best=as_best(new) if best else state.best, kept=kept)

    def say_epoch(self, result: EpochResult) -> None:
        """Reports an epoch, once everything of it is written."""
        left = self.clock.left() if result.epoch < self.recipe.epoch_size else ""
        self.report(result.line(self.recipe.epoch_size, self.loss_scale, left))

    def _save_models(self, twin: Twin, info: ModelInfo, names: Sequence[str]) -> None:
        if self.recipe.ema:
            with twin.averaged():
                weights = twin.weights()
        else:
            weights = twin.weights()
        for name in names:
            self.store.save_model(self.folder / name, weights, info)

    def _described(self, framework: str, result: EpochResult) -> ModelInfo:
        facts = {"trained with": framework, "epoch": str(result.epoch)}
        if self.recipe.ema:
            facts["weights"] = "averaged"
        if result.kept:
            facts["top1"] = f"{result.kept.top1:.2f}"
            facts["top5"] = f"{result.kept.top5:.2f}"
        return dataclasses.replace(self.info, provenance={**self.info.provenance, **facts})

    def save_state(self, tensors: dict[str, Array], state: RunState) -> None:
        """Writes the whole state; then the model files go that no state needs any more."""
        facts = {"recipe": to_dict(self.recipe), "run": state.to_dict()}
        epochs = str(state.step / self.steps_per_epoch)
        info = dataclasses.replace(
            self.info, provenance={**self.info.provenance, "epochs trained": epochs}
        )
        self.store.save_state(self.folder / LAST, tensors, info, facts)
        self.saved_step = state.step
        for one in self.leaving:
            (self.folder / one.file).unlink(missing_ok=True)
        self.leaving = []

    def last_good(self) -> str:
        """Where to go on from after a failure."""
        if not (self.folder / LAST).exists():
            return "no state is saved yet"
        epoch, step = divmod(self.saved_step, self.steps_per_epoch)
        where = f"epoch {epoch}" + (f" and {step} steps" if step else "")
        return f"{self.folder / LAST} holds the state after {where}"
