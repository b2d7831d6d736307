"""Files that are written for hours, and that another run can go on with."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pvt_spec.errors import ConvertError, FileExists, PvtError
from pvt_spec.files.locks import take
from pvt_spec.files.reading import NO_FILE, TargetRead
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
        if os.path.exists(part) and not os.path.isfile(part):
            raise ConvertError(f"{part}: {NO_FILE}: name another target")
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
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
            file = NewFile(real, part, stream, None)
            file.finish()
            try:
                put_in_place([file], [target], force or resume)
            except PvtError as error:
                raise type(error)(f"{error}; all of it is in {part}") from error
            if not (force or resume):
                part.unlink(missing_ok=True)  # which is the target's second name
    except OSError as error:
        if error.filename not in (None, str(part)):
            raise
        raise cannot_write([target], error) from error


def _begin(stream: BinaryIO, part: Path, real: Path, force: bool, resume: bool) -> bool:
    """Locks a part and fills it with what it begins with; returns whether none was left."""
    if not take(stream.fileno()):
        raise FileExists(f"{part}: another process is writing it: wait, or name another target")
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
