"""Files that are written for hours, and that another run can go on with."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pvt_spec.errors import ConvertError, FileExists, PvtError
from pvt_spec.files.locks import is_at, take
from pvt_spec.files.reading import TargetRead
from pvt_spec.files.replacing import (
    cannot_write,
    check_folder,
    check_targets,
    put_in_place,
)
from pvt_spec.files.temporary import NewFile

PART = ".part"
"""What is added to a file's name until all of it is written."""


def part_of(target: Path) -> Path:
    """Returns the file that a target is written to until all of it is."""
    return Path(f"{os.path.realpath(target)}{PART}")


@contextmanager
def growing(target: Path, force: bool, resume: bool) -> Iterator[BinaryIO]:
    """Returns a stream whose bytes become ``target`` when the block ends.

    They are in ``target.part`` until then, where what was written stays if the block ends in an
    exception or the process is killed. The stream can be read and written, and is at its start.

    Args:
        target: The file to write.
        force: Whether it may exist, and what another run has left may be dropped.
        resume: Whether to go on: the stream has what another run has left, or else what
            ``target`` has.

    Raises:
        FileExists: ``target`` exists, or another run has left a part of it, and neither is given;
            or another process writes it now.
        ConvertError: It cannot be written, or what stands for its part is no file.
    """
    check_folder(target)
    check_targets([target], force or resume)
    real, part = Path(os.path.realpath(target)), part_of(target)
    try:
        with _open(part, real) as stream:
            new = _begin(stream, part, real, force, resume)
            before = os.fstat(stream.fileno()).st_size
            try:
                yield stream
            except BaseException as error:
                stream.flush()
                grown = os.fstat(stream.fileno()).st_size > before
                if new and (not grown or isinstance(error, TargetRead)):
                    part.unlink()  # nobody goes on with what has nothing new, or reads the target
                raise
            with _locked(stream):
                file = NewFile(real, part, stream, None)
                file.finish()
                try:
                    put_in_place([file], [target], force or resume)
                except PvtError as error:
                    rest = f"all of it is in {part}" if part.exists() else "nothing of it is left"
                    raise type(error)(f"{error}; {rest}") from error
                if not (force or resume):
                    part.unlink(missing_ok=True)  # which is the target's second name
    except OSError as error:
        if error.filename not in (None, str(part)):
            raise
        raise cannot_write([target], error) from error


def _open(part: Path, real: Path) -> BinaryIO:
    """Opens a part and locks it, so that nobody else writes it until it is in its place.

    Raises:
        FileExists: Another process writes it.
        ConvertError: Something else stands in its place.
        OSError: It cannot be opened.
    """
    while True:
        if os.path.lexists(part) and not _is_own(part, real):
            raise ConvertError(
                f"{part}: a link, a folder, a pipe, a socket or a device, expected a file of its "
                "own: name another target"
            )
        stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if not take(stream.fileno()):
            stream.close()
            raise FileExists(f"{part}: another process is writing it: wait, or name another target")
        if is_at(stream.fileno(), part):
            if os.fstat(stream.fileno()).st_nlink == 1:
                return stream
            part.unlink()  # whoever was killed had put it in its place, under both names
        stream.close()  # it has come to its place since it was opened


def _is_own(part: Path, real: Path) -> bool:
    """Returns whether to write to what stands for a part writes to nothing else of anybody's."""
    found = part.lstat()
    second = found.st_nlink > 1 and not (os.path.exists(real) and os.path.samefile(part, real))
    return stat.S_ISREG(found.st_mode) and not second


@contextmanager
def _locked(stream: BinaryIO) -> Iterator[None]:
    """Keeps the lock of a stream while the block lasts, which closes it."""
    # Where no open file can be replaced, none is kept.
    lock = None if os.name == "nt" else os.dup(stream.fileno())
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _begin(stream: BinaryIO, part: Path, real: Path, force: bool, resume: bool) -> bool:
    """Fills a part with what it begins with; returns whether none was left."""
    left = os.fstat(stream.fileno()).st_size
    if left and not (force or resume):
        raise FileExists(
            f"{part} is what a run has left that was stopped: --resume goes on with it, --force "
            "begins again"
        )
    if force:
        stream.truncate(0)
    elif resume and not left and os.path.exists(real):
        with real.open("rb") as whole:
            shutil.copyfileobj(whole, stream)
        stream.flush()
        stream.seek(0)
    return not left
