"""The training loop, whatever the framework: epochs, validation, checkpoints, one line per epoch.

May import numpy and pvt_spec.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol

import numpy as np

from pvt_spec import ModelInfo, PvtError
from pvt_spec.arrays import Array
from pvt_spec.evaluation import Accuracy, require_classes, validate
from pvt_train.data import TrainingImages
from pvt_train.progress import epoch_progress
from pvt_train.randomness import drop_path_scales
from pvt_train.recipe import Recipe
from pvt_train.schedule import learning_rate


class TrainingError(PvtError):
    """Training that cannot go on."""


class Twin(Protocol):
    """A model under training in some framework.

    Attributes:
        framework: Its name and version.
    """

    framework: str

    def step(self, images: Array, targets: Array, learning_rate: float, drop_path: Array) -> float:
        """One update of the weights.

        Args:
            images: float32 (B, C, H, W), normalised.
            targets: float32 (B, num_classes), each row summing to 1.
            learning_rate: Of this update.
            drop_path: float32 (blocks, 2, B); see :func:`pvt_train.randomness.drop_path_scales`.

        Returns:
            The mean cross-entropy of the batch, before the update.
        """
        ...

    def forward(self, images: Array) -> Array:
        """Logits float32 (B, num_classes) of images (B, C, H, W), without drop path."""
        ...

    def weights(self) -> dict[str, Array]:
        """Copies of all weights under canonical names."""
        ...


Save = Callable[[Path, dict[str, Array], ModelInfo], None]
"""Writes a checkpoint, whole or not at all."""


@dataclass(frozen=True)
class Run:
    """What is trained on what, and where the checkpoints go.

    Attributes:
        recipe: How.
        info: What travels with the weights.
        images: What is trained on.
        val_folder: ``CLASS/*.png`` to validate with after every epoch.
        output: Folder for ``best.ckpt`` and ``last.ckpt``, made when there is something to write.
    """

    recipe: Recipe
    info: ModelInfo
    images: TrainingImages
    val_folder: Path
    output: Path


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to.

    Attributes:
        epoch: From 1.
        loss: Mean over the epoch's steps.
        learning_rate: Of its last step.
        accuracy: Over the validation images, after it.
        images_per_second: Of training, without validation.
        seconds: Of training and validation.
    """

    epoch: int
    loss: float
    learning_rate: float
    accuracy: Accuracy
    images_per_second: float
    seconds: float

    def line(self, epochs: int) -> str:
        """For people to read."""
        return (
            f"epoch {self.epoch:>{len(str(epochs))}}/{epochs}  loss {self.loss:.4f}  "
            f"lr {self.learning_rate:.2e}  Top-1 {self.accuracy.top1:6.2f} %  "
            f"Top-5 {self.accuracy.top5:6.2f} %  "
            f"{self.images_per_second:.0f} images/s  {self.seconds:.1f} s"
        )


def train(twin: Twin, run: Run, save: Save, report: Callable[[str], None]) -> EpochResult:
    """Trains to the end of the recipe; ``best.ckpt`` and ``last.ckpt`` are there after each epoch.

    Args:
        twin: The model, freshly initialised.
        run: What to do.
        save: Writes a checkpoint.
        report: Told one line per epoch.

    Returns:
        The epoch with the highest Top-1, the first of equals: the one in ``best.ckpt``.

    Raises:
        ConfigError: The model has no classes.
        TrainingError: The loss is no longer finite.
        ImageError: An image cannot be read.
    """
    require_classes(run.info)
    best: EpochResult | None = None
    for epoch in range(run.recipe.epoch_size):
        result = train_epoch(twin, run, epoch)
        info, weights = _described(run.info, twin, result), twin.weights()
        run.output.mkdir(parents=True, exist_ok=True)
        save(run.output / "last.ckpt", weights, info)
        if best is None or result.accuracy.top1 > best.accuracy.top1:
            best = result
            save(run.output / "best.ckpt", weights, info)
        report(result.line(run.recipe.epoch_size))
    assert best is not None  # epoch_size is at least 1
    return best


def train_epoch(twin: Twin, run: Run, epoch: int) -> EpochResult:
    """One pass over the training images, then one over the validation images.

    Args:
        twin: The model.
        run: What to do.
        epoch: From 0.

    Raises:
        TrainingError: The loss is no longer finite.
        ImageError: An image cannot be read.
    """
    recipe, steps = run.recipe, run.images.steps_per_epoch(run.recipe)
    start, losses, rate = time.perf_counter(), [], 0.0
    batches = run.images.batches(epoch, recipe, run.info.preprocessing)
    with epoch_progress(f"epoch {epoch + 1}/{recipe.epoch_size}", steps) as advance:
        for step, (images, targets) in enumerate(batches, start=epoch * steps):
            rate = learning_rate(step, steps, recipe)
            drop_path = drop_path_scales(run.info.config, recipe.seed, step, len(images))
            losses.append(twin.step(images, targets, rate, drop_path))
            if not isfinite(losses[-1]):
                raise TrainingError(_not_finite(losses[-1], step, epoch, rate, run.output))
            advance(f"loss {losses[-1]:.4f}")
    trained = time.perf_counter() - start

    def forward(images: Array) -> dict[str, Array]:
        return {"logits": twin.forward(images)}

    accuracy = validate(forward, run.info, run.val_folder, run.images.batch_size(recipe))
    return EpochResult(
        epoch + 1,
        float(np.mean(losses)),
        rate,
        accuracy,
        steps * run.images.batch_size(recipe) / trained,
        time.perf_counter() - start,
    )


def _described(info: ModelInfo, twin: Twin, result: EpochResult) -> ModelInfo:
    facts = {
        "trained with": twin.framework,
        "epoch": str(result.epoch),
        "top1": f"{result.accuracy.top1:.2f}",
        "top5": f"{result.accuracy.top5:.2f}",
    }
    return dataclasses.replace(info, provenance={**info.provenance, **facts})


def _not_finite(loss: float, step: int, epoch: int, rate: float, output: Path) -> str:
    kept = f"{output} holds the checkpoints of epoch {epoch} and before" if epoch else "none saved"
    return (
        f"loss is {loss} at step {step} (epoch {epoch + 1}), learning rate {rate:.2e}: "
        f"try a lower --lr or more --warmup-epochs ({kept})"
    )
