"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pvt_spec.errors import ConvertError, FileExists

_LONGEST = 255
"""Bytes of a file's name, in every file system that is in use."""


def check_target(target: Path, force: bool) -> None:
    """Refuses, before any work, a target that exists and may not be replaced.

    Raises:
        FileExists: It does.
    """
    if os.path.exists(target) and not force:
        raise FileExists(f"{target} exists: name another target, or give --force to replace it")


def check_folder(target: Path) -> None:
    """Refuses, before any work, a target for which there is no folder, or that none can hold.

    Raises:
        ConvertError: There is none, or its name is too long.
    """
    if (length := len(os.fsencode(target.name))) > _LONGEST:
        raise ConvertError(f"{target}: a name of {length} bytes, expected at most {_LONGEST}")
    if not target.parent.is_dir():
        raise ConvertError(f"{target}: there is no folder {target.parent}: make it first")


@contextmanager
def replacing(target: Path, force: bool) -> Iterator[BinaryIO]:
    """Returns a stream whose bytes become ``target`` once they are all on the disk.

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
    with replacing_all([target], force) as (stream,):
        yield stream


@contextmanager
def replacing_all(targets: Sequence[Path], force: bool) -> Iterator[list[BinaryIO]]:
    """Streams whose bytes become the files of a set once all of them are on the disk.

    The first is the main file, by which the others are found: a model's, whose weights are in the
    second. As :func:`replacing` does it, with two steps more: an existing main file is removed
    before the first of the others is replaced, and the new one comes last. So a main file that is
    there always has its own set beside it, whenever we are stopped, even by a power failure.

    Args:
        targets: The files to write, the main one first.
        force: Whether any of them may exist.

    Raises:
        FileExists: A target exists, before or after the block, and ``force`` is not given.
        ConvertError: One cannot be written: no such folder, no permission, no space, no file.
    """
    _check_targets(targets, force)
    with ExitStack() as stack:
        files = [stack.enter_context(_beside(target)) for target in targets]
        try:
            yield [file.stream for file in files]
            for file in files:
                file.finish()
            _check_targets(targets, force)
            _put_in_place(files, targets)
        except OSError as error:
            # Writing to an open file names no file; an error that does may be the block's own.
            if error.filename not in (None, *(str(file.temporary) for file in files)):
                raise
            raise _cannot_write(targets, error) from error


@dataclass(frozen=True)
class _NewFile:
    """A file being written, which is to replace ``real``."""

    real: Path
    temporary: Path
    stream: BinaryIO

    def finish(self) -> None:
        """Puts all of it on the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()

    def discard(self) -> None:
        """Removes what is left of it, if it is not in its place by now."""
        with suppress(OSError):  # of bytes left in the buffer that have no space
            self.stream.close()
        self.temporary.unlink(missing_ok=True)


@contextmanager
def _beside(target: Path) -> Iterator[_NewFile]:
    try:
        real = Path(os.path.realpath(target))
        temporary = real.parent / f".{os.urandom(8).hex()}.tmp"
        file = _NewFile(real, temporary, temporary.open("xb"))
    except (OSError, ValueError) as error:
        raise _cannot_write([target], error) from error
    try:
        yield file
    finally:
        file.discard()


def _check_targets(targets: Sequence[Path], force: bool) -> None:
    for target in targets:
        check_target(target, force)
        if os.path.exists(target) and not os.path.isfile(target):
            raise ConvertError(f"{target}: a folder or a device, expected a file to write")


def _put_in_place(files: Sequence[_NewFile], targets: Sequence[Path]) -> None:
    main, *sides = files
    fate = None
    try:
        if sides and os.path.exists(main.real):
            os.unlink(main.real)
            fate = f"{targets[0]} was removed, as it may have another's files beside it now"
            _sync_folder(main.real.parent)
        for file in (*sides, main):
            os.replace(file.temporary, file.real)
            _sync_folder(file.real.parent)
    except OSError as error:
        raise _cannot_write(targets, error, fate) from error


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


def _cannot_write(
    targets: Sequence[Path], error: Exception, fate: str | None = None
) -> ConvertError:
    code = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(code) if code else str(error)
    fate = fate or ("is as it was" if len(targets) == 1 else "all are as they were")
    return ConvertError(
        f"{', '.join(map(str, targets))}: cannot be written ({reason}), and {fate}: "
        f"{_ADVICE.get(code or 0, 'name another target')}"
    )
