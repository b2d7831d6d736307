"""The model files of a run, those that stay and those that go, and its state file."""

import dataclasses
from pathlib import Path

import numpy as np

from convert.model.write import save_model
from convert.training.checkpoint import save_training
from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.files.models import BEST, LAST, RUN_ENDINGS, run_file
from pvt_spec.words import counted, listed
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import to_dict
from pvt_train.run.evaluation import Evaluation
from pvt_train.run.standing import Kept, Standing
from pvt_train.twin import TrainingError, Twin

STEADIER = "try a lower --lr, more --warmup-epochs, --clip-grad True or a lower AMP level"
"""What to do about numbers that have run away."""

_SHOWN = 3
"""Ruined tensors that are named."""


class Checkpoints:
    """Writes the checkpoints of a run, for the first of its workers, and removes old ones."""

    def __init__(
        self, recipe: Recipe, info: ModelInfo, steps_per_epoch: int, step: int, ending: str
    ):
        """Takes up the checkpoints of a run, whose folder exists.

        Args:
            recipe: The folder, which files stay, and whether weights are averaged.
            info: What travels with the weights.
            steps_per_epoch: The number of updates in an epoch.
            step: The number of updates done, which the state file, if any, is of.
            ending: The ending of the files, one of :data:`pvt_spec.files.models.RUN_ENDINGS`.
        """
        self.folder = Path(recipe.ckpt_save_dir)
        self.recipe, self.info = recipe, info
        self.steps_per_epoch, self.saved_step = steps_per_epoch, step
        self.ending, self.state = ending, self.folder / f"{LAST}{ending}"
        self._leaving: list[Kept] = []

    def keep_models(
        self, twin: Twin, standing: Standing, epoch: int, accuracy: Evaluation | None, due: bool
    ) -> Standing:
        """Writes the model files of an epoch.

        Args:
            twin: The twin that holds the weights.
            standing: The place where the run stands.
            epoch: The epoch's number, from 1.
            accuracy: The accuracy of the weights that are kept; None where not validated.
            due: Whether it is an epoch that a model is kept of; the best always is.

        Returns:
            Where the run stands, with the model files that are now there.
        """
        name = f"{self.recipe.model}-{epoch}{self.ending}"
        new = Kept(epoch, accuracy.top1 if accuracy else None, name)
        best_file, best = f"{BEST}{self.ending}", is_better(new, standing.best)
        kept = standing.kept
        if due:
            policy, most = self.recipe.ckpt_save_policy, self.recipe.keep_checkpoint_max
            kept, leaving = rotate(standing.kept, new, policy, most)
            self._leaving += leaving
        names = [name] * (new in kept) + [best_file] * best
        if names:
            info = self._described(twin.framework, epoch, accuracy)
            weights = self._finite(self._weights(twin), standing.step)
            for each in names:
                save_model(self.folder / each, weights, info, force=True)
        if best and standing.best and standing.best.file != best_file:
            self._leaving.append(standing.best)
        at_best = dataclasses.replace(new, file=best_file) if best else standing.best
        return dataclasses.replace(standing, best=at_best, kept=kept)

    def _weights(self, twin: Twin) -> dict[str, Array]:
        if not self.recipe.ema:
            return twin.weights()
        with twin.averaged():
            return twin.weights()

    def _described(self, framework: str, epoch: int, accuracy: Evaluation | None) -> ModelInfo:
        facts = {"trained with": framework, "epoch": str(epoch)}
        if self.recipe.ema:
            facts["weights"] = "averaged"
        if accuracy:
            facts["top1"] = f"{accuracy.top1:.2f}"
            if accuracy.top5 is not None:
                facts["top5"] = f"{accuracy.top5:.2f}"
        return self._with(facts)

    def _with(self, facts: dict[str, str]) -> ModelInfo:
        return dataclasses.replace(self.info, provenance={**self.info.provenance, **facts})

    def save_state(self, twin: Twin, standing: Standing) -> None:
        """Writes the whole state; then the model files go that no state needs any more."""
        info = self._with({"epochs trained": str(standing.step / self.steps_per_epoch)})
        facts = {"recipe": to_dict(self.recipe), "run": standing.to_dict()}
        save_training(self.state, self._finite(twin.state(), standing.step), info, facts)
        self.saved_step = standing.step
        for other in RUN_ENDINGS:
            if other != self.ending:
                # The run has gone on from it in another framework.
                self.state.with_suffix(other).unlink(missing_ok=True)
        for one in self._leaving:
            (self.folder / one.file).unlink(missing_ok=True)
        self._leaving = []

    def _finite(self, arrays: dict[str, Array], step: int) -> dict[str, Array]:
        """Refuses to replace good files by what an update of finite gradients has ruined.

        Raises:
            TrainingError: Not all numbers are finite.
        """
        if ruined := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            raise TrainingError(
                f"{listed(ruined, _SHOWN)}: not finite after step {step}, and not saved; "
                f"{self.last_good()}: {STEADIER}"
            )
        return arrays

    def last_good(self) -> str:
        """Returns where to go on from after a failure."""
        state = run_file(self.folder, LAST)
        if state is None:
            return "no state is saved yet"
        epoch, step = divmod(self.saved_step, self.steps_per_epoch)
        where = f"epoch {epoch}" + (f" and {counted(step, 'step')}" if step else "")
        return f"{state} holds the state after {where}"


def rotate(
    kept: tuple[Kept, ...], new: Kept, policy: str, most: int
) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
    """Returns which model files stay once a new one is there, and which go.

    Args:
        kept: The files that are there, oldest first.
        new: The new one, which may itself be the one that goes.
        policy: ``latest_k``, ``top_k`` for those of the highest Top-1, earlier ones first, or
            ``all``.
        most: How many may stay.
    """
    every = (*kept, new)
    if policy == "all":
        return every, ()
    ranked = (
        sorted(every, key=lambda one: (-_score(one), one.epoch))
        if policy == "top_k"
        else sorted(every, key=lambda one: -one.epoch)
    )
    staying = set(ranked[:most])
    return tuple(k for k in every if k in staying), tuple(k for k in every if k not in staying)


def _score(one: Kept) -> float:
    return float("-inf") if one.top1 is None else one.top1


def is_better(new: Kept, best: Kept | None) -> bool:
    """Returns whether a model is the best so far: of the highest Top-1, the first of equals."""
    return new.top1 is not None and (best is None or _score(new) > _score(best))
