"""A run's log: JSON lines, and event files that TensorBoard reads."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.words import show
from pvt_train.run.folder import LOG
from pvt_train.twin import TrainingError

LogRecord = dict[str, Any]
"""A line: ``kind`` is ``step`` or ``epoch``, ``step`` the updates done, the rest numbers."""


class RunLog:
    """Writes records to ``log.jsonl`` and to TensorBoard's event files in a run's folder."""

    def __init__(self, folder: Path, step: int, to_validate: bool = False):
        """Takes up a log; what was written after ``step``, before a crash, is dropped.

        Args:
            folder: The run's; it exists.
            step: Updates done so far; 0 starts a new log.
            to_validate: Whether the epoch that they ended is to be validated, and so logged, anew.

        Raises:
            TrainingError: It cannot be read or written.
        """
        self._folder = folder
        known = read_log(folder) if step and (folder / LOG).exists() else []
        with self._writing():
            _replace_lines(folder, [one for one in known if _stays(one, step, to_validate)])
            self._lines = (folder / LOG).open("a", encoding="utf-8")
            self._events = _open_events(folder, step)

    def write(self, record: LogRecord) -> None:
        """Adds a record; its numbers become TensorBoard's scalars ``kind/name``.

        Raises:
            TrainingError: It cannot be written.
        """
        from tensorboardX.summary import scalar

        # JSON has no word for what is not finite, and a plot no place.
        record = {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in record.items()
        }
        with self._writing():
            self._lines.write(encode_json(record) + "\n")
            self._lines.flush()
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    summary = scalar(f"{record['kind']}/{name}", value)
                    self._events.write(_event(step=record["step"], summary=summary))
            self._events.flush()

    def close(self) -> None:
        """Closes the files, whatever has become of them."""
        with suppress(OSError):
            self._lines.close()
        with suppress(OSError):
            self._events.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"{self._folder}: the log cannot be written: {error.strerror}; make room, then go "
                f"on from the last saved state, if there is one: --resume {self._folder}"
            ) from error


def _stays(record: LogRecord, step: int, to_validate: bool) -> bool:
    if to_validate and record["kind"] == "epoch":
        return bool(record["step"] < step)
    return bool(record["step"] <= step)


def _replace_lines(folder: Path, records: Sequence[LogRecord]) -> None:
    fresh = folder / f"{LOG}.new"
    fresh.write_text("".join(encode_json(record) + "\n" for record in records), encoding="utf-8")
    fresh.replace(folder / LOG)


def _open_events(folder: Path, step: int) -> Any:
    """Opens an event file, without tensorboardX's thread, which a full disk would end."""
    from tensorboardX.proto.event_pb2 import SessionLog
    from tensorboardX.record_writer import RecordWriter

    # Two files of one second would otherwise have one name.
    events = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time())}.{step}"))
    events.write(_event(file_version="brain.Event:2"))
    if step:
        # TensorBoard then forgets what the files before say of later steps.
        started = SessionLog(status=SessionLog.START)
        events.write(_event(step=step + 1, session_log=started))
    return events


def _event(**values: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event

    encoded: bytes = Event(wall_time=time.time(), **values).SerializeToString()
    return encoded


def read_log(folder: Path) -> list[LogRecord]:
    """Returns the records of a run, in order; a last line that was cut off is left out.

    Raises:
        TrainingError: There is no log, or a line in it is not one.
    """
    path = folder / LOG
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be read: {error.strerror}; name the folder of a training run"
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
            records.append({**record, "step": int(record["step"]), "kind": str(record["kind"])})
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise TrainingError(
                f"{path}: line {number} is no record of a run: {show(line)}"
            ) from error
    return records
