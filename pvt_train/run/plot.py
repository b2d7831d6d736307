"""The curves of a run as a picture."""

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
    records = [record for record in read_log(folder) if record["kind"] == "epoch"]
    if not records:
        raise TrainingError(f"{folder}: no epoch is finished: there is nothing to draw yet")
    if without := [record["step"] for record in records if "epoch" not in record]:
        raise TrainingError(f"{folder / LOG}: what ended at step {without[0]} is of no epoch")
    _check_range(folder / LOG, records)

    def draw(figure: Any) -> None:
        for axes, (title, curves) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
            _draw(axes, title, curves, records)

    draw_picture(target, (10, 7), draw, force)


def _check_range(log: Path, records: Sequence[LogRecord]) -> None:
    """Refuses numbers that no training in float32 comes to, on which matplotlib breaks.

    Raises:
        TrainingError: One is so large.
    """
    names = [name for _, curves in PANELS for name, _ in curves]
    for record in records:
        for name in names:
            if abs(record.get(name) or 0) > LARGEST:
                raise TrainingError(
                    f"{log}: {name} of epoch {record['epoch']} is {record[name]}, expected at most "
                    f"{LARGEST:.3g}"
                )


def _draw(
    axes: Any, title: str, curves: Sequence[tuple[str, str]], records: Sequence[LogRecord]
) -> None:
    for name, label in curves:
        points = [(r["epoch"], r[name]) for r in records if r.get(name) is not None]
        if points:
            # One epoch is a point, which a line alone would not show.
            axes.plot(
                *zip(*points, strict=True), label=label, marker="." if len(points) < 20 else ""
            )
    axes.set_title(title)
    axes.locator_params("x", integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1] and any(label for _, label in curves):
        axes.legend()
