"""A run's folder: which model files it holds, which stay, and its state."""

import dataclasses
import re
from pathlib import Path

from pvt_spec import FileExists, PvtError
from pvt_train.run.state import Kept

BEST, LAST, LOG = "best.ckpt", "last.ckpt", "log.jsonl"
"""The best model, the whole training state, and the log."""

_ROTATED = re.compile(r"pvt_\w+-\d+\.ckpt")


def refuse_existing(folder: Path, force: bool) -> None:
    """Ends before any work where the folder holds a run that may not be replaced.

    A log alone, of a run that saved nothing, is none.

    Raises:
        FileExists: It does.
    """
    models = model_files(folder)
    if models and not force:
        resume = f"give --resume {folder} to go on from it, " if (folder / LAST).exists() else ""
        raise FileExists(
            f"{models[0]} exists: {resume}name another --output, or give --force to replace the run"
        )


def model_files(folder: Path) -> list[Path]:
    """The checkpoints of a run that is in a folder, the state first."""
    named = [path for path in (folder / LAST, folder / BEST) if path.exists()]
    return named + sorted(p for p in folder.glob("*.ckpt") if _ROTATED.fullmatch(p.name))


def clear(folder: Path) -> None:
    """Removes a run's checkpoints and log, so that nothing is taken for the next run's.

    Raises:
        PvtError: Something cannot be.
    """
    for path in [*model_files(folder), *folder.glob(LOG), *folder.glob("events.out.tfevents.*")]:
        try:
            path.unlink()
        except OSError as error:
            raise PvtError(f"{path}: cannot be removed: {error.strerror}") from error


def state_file(path: Path) -> Path:
    """The state file that ``--resume`` names: a run's folder stands for its own."""
    return path / LAST if path.is_dir() else path


def model_file(model: str, epoch: int) -> str:
    """Name of the model file of an epoch (from 1): ``pvt_tiny-12.ckpt``."""
    return f"{model}-{epoch}.ckpt"


def rotate(
    kept: tuple[Kept, ...], new: Kept, policy: str, most: int
) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
    """Which model files stay once a new one is there, and which go.

    Args:
        kept: Those that are there, oldest first.
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
    """Whether a model is the best so far: of the highest Top-1, the first of equals."""
    return new.top1 is not None and (best is None or _score(new) > _score(best))


def as_best(one: Kept) -> Kept:
    """The same model under the best model's file name."""
    return dataclasses.replace(one, file=BEST)
