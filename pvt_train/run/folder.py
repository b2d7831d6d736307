"""A run's folder: what its files are called, which are there, and who may replace them."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pvt_spec import FileExists, PvtError
from pvt_spec.files.locks import sole
from pvt_spec.files.models import BEST, LAST, RUN_ENDINGS, run_file
from pvt_train.twin import TrainingError

LOG = "log.jsonl"
"""The log, beside the best model and the whole training state."""

CURVES = "curves.png"
"""The picture of a run's curves, unless another is named."""

_LOCK = ".run.lock"
"""The lock that a run has on its folder; one that is left of a killed run holds nobody up."""

_ROTATED = re.compile(rf"pvt_\w+-\d+({'|'.join(map(re.escape, RUN_ENDINGS))})")


_EVENTS = re.compile(r"events\.out\.tfevents\.\d+\.\d+")
"""What a run's event files are called; others' have a machine's name."""


def is_rotated(name: str) -> bool:
    """Returns whether a file's name is that of a model which a run has kept, and may remove."""
    return _ROTATED.fullmatch(name) is not None


def check_output(folder: Path, force: bool) -> None:
    """Refuses, before any work, a folder with a run that may not be replaced.

    A log alone, of a run that saved nothing, is none.

    Raises:
        FileExists: It does.
    """
    models = model_files(folder)
    if models and not force:
        resume = f"give --resume {folder} to go on from it, " if run_file(folder, LAST) else ""
        raise FileExists(
            f"{models[0]} exists: {resume}name another --output, or give --force to replace the run"
        )


def check_own_files(folder: Path) -> None:
    """Refuses, before any work, a folder where something else stands in the place of a run's files.

    A run would replace what a link points at, and cannot replace a folder or a device.

    Raises:
        TrainingError: Something does.
    """
    for path in (*model_files(folder), folder / LOG, folder / CURVES):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise TrainingError(
                f"{path}: a link, a folder or a device, where a run keeps a file of its own: take "
                "it away, or name another --output"
            )


def model_files(folder: Path) -> list[Path]:
    """Returns the checkpoints of a run that is in a folder, the state first."""
    named = [folder / f"{name}{ending}" for name in (LAST, BEST) for ending in RUN_ENDINGS]
    rotated = [path for ending in RUN_ENDINGS for path in folder.glob(f"*{ending}")]
    return [path for path in named if os.path.lexists(path)] + sorted(
        path for path in rotated if is_rotated(path.name)
    )


def clear(folder: Path) -> None:
    """Removes a run's checkpoints and logs, so that nothing is taken for the next run's.

    Raises:
        PvtError: Something cannot be.
    """
    events = [path for path in folder.glob("events.*") if _EVENTS.fullmatch(path.name)]
    for path in [*model_files(folder), *folder.glob(LOG), *events]:
        try:
            path.unlink()
        except OSError as error:
            raise PvtError(f"{path}: cannot be removed: {error.strerror}") from error


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Has a run's folder to itself while the block lasts.

    Raises:
        TrainingError: Another run has it.
        PvtError: It cannot be written to.
    """
    with sole(
        folder / _LOCK,
        lambda other: TrainingError(
            f"{folder}: {other} trains into it: wait for it to end, or name another --output"
        ),
        lambda error: PvtError(f"{folder / _LOCK}: cannot be written: {error.strerror}"),
    ):
        yield


def state_file(path: Path) -> Path:
    """Returns the state file that ``--resume`` names: a run's folder stands for its own.

    Raises:
        TrainingError: It is a folder that has none.
    """
    if not path.is_dir():
        return path
    if found := run_file(path, LAST):
        return found
    names = " or ".join(f"{LAST}{ending}" for ending in RUN_ENDINGS)
    raise TrainingError(f"{path}: holds no {names}: give the folder of a run that saved its state")


def is_state(path: Path, folder: Path) -> bool:
    """Returns whether a file is the state of the run that is in a folder."""
    names = (folder / f"{LAST}{ending}" for ending in RUN_ENDINGS)
    return any(os.path.realpath(path) == os.path.realpath(name) for name in names)


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Makes a folder for the block; if it was made and is empty then, it goes again.

    Raises:
        PvtError: It cannot be made or written to; then none is left either.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PvtError(f"{folder}: cannot be made: {error.strerror}; name another") from error
        if not os.access(folder, os.W_OK):
            raise PvtError(f"{folder}: may not be written to{_why(missing)}")
        yield
    finally:
        for path in missing:
            # One that is not empty stays, and another worker may have been quicker.
            with suppress(OSError):
                path.rmdir()


def _why(made: list[Path]) -> str:
    if not made:
        return "; name another folder"
    return ", as the umask takes the right from folders that are made: make it first"
