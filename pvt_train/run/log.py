"""A run's log: JSON lines, and event files that TensorBoard reads."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from sys import intern
from types import NoneType
from typing import Any

from pvt_spec import ConfigError, FileExists
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.reading import open_regular
from pvt_spec.words import show
from pvt_train.run.folder import LOG
from pvt_train.twin import TrainingError

LogRecord = dict[str, Any]
"""A line: ``kind`` is ``step`` or ``epoch``, ``step`` the updates done, the rest numbers."""


_LONGEST = 1 << 16
"""Bytes that no line of a log has; ours have some 300."""


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
        # It takes its time, in which who is stopped leaves no file.
        import tensorboardX  # noqa: F401, used below

        self._folder = folder
        known = read_log(folder) if step and (folder / LOG).exists() else ()
        with self._writing():
            _replace_lines(folder, (one for one in known if _stays(one, step, to_validate)))
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


def _replace_lines(folder: Path, records: Iterable[LogRecord]) -> None:
    fresh = folder / f"{LOG}.new"
    fresh.unlink(missing_ok=True)  # a link perhaps, of a folder that is a stranger's
    try:
        with fresh.open("x", encoding="utf-8") as stream:
            stream.writelines(encode_json(record) + "\n" for record in records)
        fresh.replace(folder / LOG)
    finally:
        fresh.unlink(missing_ok=True)


def _open_events(folder: Path, step: int) -> Any:
    """Opens an event file, without tensorboardX's thread, which a full disk would end."""
    from tensorboardX.proto.event_pb2 import SessionLog
    from tensorboardX.record_writer import RecordWriter

    # Two files of one second would otherwise have one name.
    path = folder / f"events.out.tfevents.{int(time.time())}.{step}"
    path.unlink(missing_ok=True)  # a link, as above
    events = RecordWriter(str(path))
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


def read_log(folder: Path) -> Iterator[LogRecord]:
    """Yields the records of a run, in order; a last line that was cut off is left out.

    Raises:
        TrainingError: There is no log, it is no file, or a line in it is no record.
    """
    path = folder / LOG
    broken: TrainingError | None = None
    for number, line in enumerate(_read_lines(path), start=1):
        if broken:
            raise broken
        if len(line) >= _LONGEST:
            raise TrainingError(
                f"{path}: line {number} has {_LONGEST:,} bytes or more, as no record of a run has"
            )
        try:
            record = _to_record(line)
        except ValueError as error:
            broken = TrainingError(
                f"{path}: line {number} is no record of a run, {show(line)}: {error}"
            )
            continue
        except ConfigError as error:
            raise TrainingError(f"{path}: line {number}: {error}") from error
        yield record


def check_log(folder: Path) -> None:
    """Refuses, before any work, a folder with another program's log, which a run would replace.

    Raises:
        FileExists: It has one.
    """
    path = folder / LOG
    if not path.exists() or not path.stat().st_size:
        return
    try:
        if next(read_log(folder), None):
            return
        found = f"{path}: holds no record of a run"
    except TrainingError as error:
        found = str(error)
    raise FileExists(f"{found}: name another --output, or give --force to replace {LOG} there")


def _read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a file one by one, of one that is too long the start."""
    try:
        with open_regular(path) as stream:
            while line := stream.readline(_LONGEST):
                yield line.decode(errors="replace").rstrip("\r\n")
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be read: {error.strerror}; name the folder of a training run"
        ) from error


def _to_record(line: str) -> LogRecord:
    """Returns what a line says.

    Raises:
        ValueError: It is no JSON text.
        ConfigError: What it says is no record.
    """
    said = parse_json(line)
    if type(said) is not dict:
        raise ValueError("expected an object of JSON")
    if missing := [name for name in ("kind", "step") if name not in said]:
        raise ConfigError(f"is without {' and '.join(missing)}")
    for name, value in said.items():
        if type(value) not in (kinds := _KINDS.get(name, _NUMBER)):
            expected = " or ".join(map(_WORDS.__getitem__, kinds))
            raise ConfigError(f"{show(name)} is {show(value)}, expected {expected}")
    # The names are the same in every line.
    return {intern(name): value for name, value in said.items()}


_NUMBER = (float, int, NoneType)
_KINDS: dict[str, tuple[type, ...]] = {"kind": (str,), "step": (int,), "epoch": (int,)}
_WORDS = {str: "a text", int: "a whole number", float: "a number", NoneType: "null"}
