"""Files opened to be read: regular ones alone, and none that the command is to write."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pvt_spec.errors import ConvertError

NO_FILE = "it is a folder, a pipe, a socket or a device, not a file"
"""What is said of what has a file's name."""


class TargetRead(ConvertError):
    """A file that is to be read and written."""


def open_regular(path: Path | str) -> BinaryIO:
    """Opens a file, and nothing else: a pipe would keep us waiting, a device may have no end.

    Raises:
        OSError: There is no such file, it is a folder, a pipe, a socket or a device, or it may not
            be read; ``strerror`` says which.
        TargetRead: It is to be written; see :func:`to_be_written`.
    """
    check_source(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        stream = os.fdopen(os.open(path, flags), "rb")
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise _no_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise _no_file(path)
    return stream


def _no_file(path: Path | str) -> OSError:
    return OSError(errno.EINVAL, NO_FILE, str(path))


_File = tuple[int, int, int]
"""What tells a file from all others: its device, number and time."""

_targets: dict[_File, Path] = {}
_read: set[_File] = set()


@contextmanager
def to_be_written(targets: Iterable[Path]) -> Iterator[None]:
    """Has every reader refuse these files while the block lasts, whatever leads to them.

    A command's sources may be of any number of files: weights beside a model, what a folder or a
    link holds, images.
    """
    found = {file: target for target in targets if (file := _identify(target))}
    _targets.update(found)
    try:
        yield
    finally:
        for file in found:
            _targets.pop(file, None)
            _read.discard(file)


def check_source(path: Path | str | int, name: str = "") -> None:
    """Refuses to read a file that is to be written.

    Args:
        path: The file, or an open one's descriptor.
        name: What to call it; the path by default.

    Raises:
        TargetRead: It is.
    """
    if _targets and (file := _identify(path)) and file in _targets:
        _read.add(file)
        raise _is_source(_targets[file], name or path)


def check_not_source(target: Path) -> None:
    """Refuses to write a file that should have been read, whoever has passed over that.

    Raises:
        TargetRead: It should.
    """
    if _read and _identify(target) in _read:
        raise _is_source(target, target)


def _is_source(target: Path, source: Path | str | int) -> TargetRead:
    return TargetRead(f"{target} is a source too ({source}): name another target")


def _identify(path: Path | str | int) -> _File | None:
    with suppress(OSError, ValueError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            return found.st_dev, found.st_ino, found.st_mtime_ns
    return None
