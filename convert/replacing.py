"""Files that appear whole or not at all. Standard library only, beside pvt_spec."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from convert.errors import ConvertError
from pvt_spec.errors import FileExists


def refuse_existing(target: Path, force: bool) -> None:
    """Ends before any work where the target exists and may not be replaced.

    Raises:
        FileExists: It does.
    """
    if os.path.exists(target) and not force:
        raise FileExists(f"{target} exists: name another target, or give --force to replace it")


@contextmanager
def replacing(target: Path, force: bool) -> Iterator[BinaryIO]:
    """A stream whose bytes become ``target`` once they are all on the disk.

    They are written to a temporary file beside it, which takes its place in one step when the
    block ends. Where the block ends in an exception (Ctrl-C too), the temporary file is removed
    and the target is what it was. A symbolic link is followed: what it points at is replaced. The
    file's mode is that of any new file, 0666 less the umask.

    Args:
        target: The file to write.
        force: Whether it may exist.

    Raises:
        FileExists: The target exists, before or after the block, and ``force`` is not given.
        ConvertError: It cannot be written: no such folder, no permission, no space, no file.
    """
    refuse_existing(target, force)
    if os.path.exists(target) and not os.path.isfile(target):
        raise ConvertError(f"{target}: a folder or a device, expected a file to write")
    try:
        real = Path(os.path.realpath(target))
        temporary = real.parent / f".{secrets.token_hex(8)}.tmp"
        stream = temporary.open("xb")
    except (OSError, ValueError) as error:
        raise _cannot_write(target, error) from error
    try:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        finally:
            with suppress(OSError):  # of bytes left in the buffer that have no space
                stream.close()
        refuse_existing(target, force)
        os.replace(temporary, real)
        _sync_folder(real.parent)
    except OSError as error:
        # Writing to an open file names no file; an error that does may be the block's own.
        if error.filename not in (None, str(temporary)):
            raise
        raise _cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power failure, where the system has a way to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_ADVICE = {
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "what should be its folder is a file: name another target",
    errno.EACCES: "name a target in a folder that you may write to",
    errno.EPERM: "name a target in a folder that you may write to",
    errno.EROFS: "the disk is read-only: name a target on another one",
    errno.ENOSPC: "make space, or name a target on another disk",
    errno.EDQUOT: "make space within your quota, or name a target on another disk",
    errno.EFBIG: "name a target on a disk that takes files of this size",
}


def _cannot_write(target: Path, error: Exception) -> ConvertError:
    code = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(code) if code else str(error)
    return ConvertError(
        f"{target}: cannot be written ({reason}), and is as it was: "
        f"{_ADVICE.get(code or 0, 'name another target')}"
    )
