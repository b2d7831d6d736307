"""The curves of a run as a picture."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pvt_data.pictures import check_picture, draw_picture
from pvt_spec.files.replacing import AnyPath, check_not_read, check_target
from pvt_train.run.folder import LOG
from pvt_train.run.log import LogRecord, read_log
from pvt_train.twin import TrainingError

PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("loss", (("loss", "training"), ("val_loss", "validation"))),
    ("accuracy in %", (("top1", "Top-1"), ("top5", "Top-5"))),
    ("learning rate", (("lr", ""),)),
    ("gradient norm", (("gradient_norm", ""),)),
)
"""What is drawn over the epochs: each panel's title, and the records' names with their labels."""


Points = dict[str, "tuple[array[float], array[float]]"]
"""Name of a record's number -> the epochs that have one, and the numbers."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that is drawn."""


def plot_run(folder: AnyPath, target: AnyPath, *, force: bool = False) -> None:
    """Draws loss, accuracy, learning rate and gradient norm of a run over its epochs.

    Args:
        folder: The run's, with its ``log.jsonl``.
        target: The picture; its ending chooses the format (``.png``, ``.svg``, ``.pdf``).
        force: Whether an existing file is replaced.

    Raises:
        TrainingError: There is no log, or it has no finished epoch.
        FileExists: The picture exists and ``force`` is not given.
        PvtError: The picture cannot be written.
        LibraryMissing: matplotlib is not installed.
    """
    folder, target = Path(folder), Path(target)
    check_target(target, force)
    check_picture(target)
    check_not_read([target], [folder / LOG])
    points = _read_points(folder)

    def draw(figure: Any) -> None:
        for axes, (title, curves) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
            _draw(axes, title, curves, points)

    draw_picture(target, (10, 7), draw, force)


def _read_points(folder: Path) -> Points:
    """Returns what of a run's log is drawn, each number in eight bytes.

    Raises:
        TrainingError: There is no log, or it has no finished epoch or what cannot be drawn.
    """
    points = {name: (array("d"), array("d")) for _, curves in PANELS for name, _ in curves}
    finished = False
    for record in read_log(folder):
        if record["kind"] != "epoch":
            continue
        finished = True
        if "epoch" not in record:
            raise TrainingError(
                f"{folder / LOG}: what ended at step {record['step']} is of no epoch"
            )
        for name, (epochs, values) in points.items():
            if (value := record.get(name)) is not None:
                _check_range(folder / LOG, record, name)
                epochs.append(record["epoch"])
                values.append(value)
    if not finished:
        raise TrainingError(f"{folder}: no epoch is finished: there is nothing to draw yet")
    return points


def _check_range(log: Path, record: LogRecord, name: str) -> None:
    """Refuses a number that no training in float32 comes to, on which matplotlib breaks.

    Raises:
        TrainingError: It is so large.
    """
    if abs(record[name]) > LARGEST:
        raise TrainingError(
            f"{log}: {name} of epoch {record['epoch']} is {record[name]}, expected at most "
            f"{LARGEST:.3g}"
        )


def _draw(axes: Any, title: str, curves: Sequence[tuple[str, str]], points: Points) -> None:
    for name, label in curves:
        epochs, values = points[name]
        if epochs:
            # One epoch is a point, which a line alone would not show.
            axes.plot(epochs, values, label=label, marker="." if len(epochs) < 20 else "")
    axes.set_title(title)
    axes.locator_params("x", integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1] and any(label for _, label in curves):
        axes.legend()
