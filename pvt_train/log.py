"""A run's log: JSON lines, and event files that TensorBoard reads.

May import tensorboardX.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pvt_train.run_folder import LOG
from pvt_train.twin import TrainingError

Record = dict[str, Any]
"""One line: ``kind`` is ``step`` or ``epoch``, ``step`` the updates done, the rest numbers."""


class RunLog:
    """Writes records to ``log.jsonl`` and to TensorBoard's event files in a run's folder."""

    def __init__(self, folder: Path, step: int):
        """Takes up a log; what was written after ``step``, before a crash, is dropped.

        Args:
            folder: The run's; it exists.
            step: Updates done so far; 0 starts a new log.
        """
        from tensorboardX import SummaryWriter

        known = read_log(folder) if step and (folder / LOG).exists() else []
        lines = [json.dumps(record) + "\n" for record in known if record["step"] <= step]
        fresh = folder / f"{LOG}.new"
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.replace(folder / LOG)
        self._lines = (folder / LOG).open("a", encoding="utf-8")
        if not step:
            for stale in folder.glob("events.out.tfevents.*"):
                stale.unlink()
        # TensorBoard then forgets what the files before say of later steps. Two files of one second
        # would otherwise have one name.
        self._events = SummaryWriter(
            str(folder), purge_step=step + 1 if step else None, filename_suffix=f".{step}"
        )

    def write(self, record: Record) -> None:
        """Adds a record; its numbers become TensorBoard's scalars ``kind/name``."""
        self._write_line(record)
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                self._events.add_scalar(f"{record['kind']}/{name}", value, record["step"])
        self._events.flush()

    def _write_line(self, record: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps(record) + "\n")
        self._lines.flush()

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._events.close()


def read_log(folder: Path) -> list[Record]:
    """The records of a run, in order; a last line that was cut off is left out.

    Raises:
        TrainingError: There is no log, or a line in it is not one.
    """
    path = folder / LOG
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be read: {error.strerror}; name the folder of a training run"
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append({**record, "step": int(record["step"]), "kind": str(record["kind"])})
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise TrainingError(f"{path}: line {number} is no record of a run: {line}") from error
    return records
