"""Files that appear whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pvt_spec.errors import ConvertError, FileExists
from pvt_spec.files.locks import held
from pvt_spec.files.reading import check_not_source
from pvt_spec.files.stamps import check_sources, note_written
from pvt_spec.files.temporary import NewFile, open_new, remove_left

_LONGEST = 255
"""Bytes of a file's name, in every file system that is in use."""

AnyPath = str | os.PathLike[str]
"""What every function takes that a program may call with a path."""


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
        ConvertError: There is none, its name is too long, or no file can be made there.
    """
    try:
        length = len(os.fsencode(target.name))
    except UnicodeEncodeError as error:
        raise cannot_write([target], error) from error
    if length > _LONGEST:
        raise ConvertError(f"{target}: a name of {length} bytes, expected at most {_LONGEST}")
    if not target.parent.is_dir():
        raise ConvertError(f"{target}: there is no folder {target.parent}: make it first")
    if not target.is_dir():
        with _beside(target):
            pass


def check_not_read(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuses, before any of them is written, targets that are read too, however they are spelt.

    Raises:
        ConvertError: One is.
    """
    sources = list(sources)
    for target in targets:
        for source in sources:
            if _is_same(target, source):
                raise ConvertError(f"{target} is a source too ({source}): name another target")


def check_distinct(targets: Sequence[Path]) -> None:
    """Refuses targets of which two are one file, however they are spelt.

    Raises:
        ConvertError: Two are.
    """
    for number, target in enumerate(targets):
        if twin := next((each for each in targets[:number] if _is_same(target, each)), None):
            raise ConvertError(f"{target} is to be written twice ({twin}): name another target")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one is not there
        return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))


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
def replacing_all(
    targets: Sequence[Path], force: bool, bridge: "Bridge | None" = None
) -> Iterator[list[BinaryIO]]:
    """Streams whose bytes become the files of a set once all of them are on the disk.

    The first is the main file, by which the others are found: a model's, whose weights are in the
    second. As :func:`replacing` does it, while no other process of ours puts files there. A main
    file that is there always has its own set beside it, whenever we are stopped, even by a power
    failure: the new one comes last, and an old one goes before the first of its others is replaced.
    With a ``bridge`` there is a main file at any time.

    Args:
        targets: The files to write, the main one first.
        force: Whether any of them may exist.
        bridge: Given the name of another file beside the main one, the bytes of a main file whose
            other file, the only one, has that name.

    Raises:
        FileExists: A target exists, before or after the block, and ``force`` is not given.
        ConvertError: One cannot be written: no such folder, no permission, no space, no file.
    """
    check_targets(targets, force)
    with ExitStack() as stack:
        files = [stack.enter_context(_beside(target)) for target in targets]
        try:
            yield [file.stream for file in files]
            for file, target in zip(files, targets, strict=True):
                file.finish()
                note_written(target, file.temporary)
            with held(files[0].real.parent / LOCK, wait=True):
                check_targets(targets, force)
                put_in_place(files, targets, force, bridge)
        except OSError as error:
            # Writing to an open file names no file; an error that does may be the block's own.
            ours = (str(file.temporary) for file in files)
            if error.filename not in (None, str(files[0].real.parent / LOCK), *ours):
                raise
            raise cannot_write(targets, error) from error


Bridge = Callable[[str], bytes]

LOCK = ".pvt-lock.tmp"
"""The file of the lock under which files are put in their places in a folder."""

_WAITING = ".pvt-new-"
"""What is added to the name of a file, with a number, for new bytes while the old are in use."""


@contextmanager
def _beside(target: Path) -> Iterator[NewFile]:
    try:
        real = Path(os.path.realpath(target))
        remove_left(real.parent)
        file = open_new(real)
    except (OSError, ValueError) as error:
        raise cannot_write([target], error) from error
    try:
        yield file
    finally:
        file.discard()


def check_targets(targets: Sequence[Path], force: bool) -> None:
    """Refuses, before any work, targets that exist and may not be replaced, or are no files.

    Raises:
        FileExists: One exists, and ``force`` is not given.
        ConvertError: One is a folder or a device.
    """
    for target in targets:
        check_target(target, force)
        if os.path.exists(target) and not os.path.isfile(target):
            raise ConvertError(f"{target}: a folder or a device, expected a file to write")


def put_in_place(
    files: Sequence[NewFile],
    targets: Sequence[Path],
    force: bool,
    bridge: "Bridge | None" = None,
) -> None:
    """Makes files that are written the targets; see :func:`replacing_all`."""
    for target in targets:
        check_not_source(target)
    check_sources()
    main, *sides = files
    fate = None
    try:
        if not force:
            _add(files, targets)
            return
        if sides and os.path.exists(main.real):
            if bridge:
                fate = f"{targets[0]} is whole, the old one or the new"
                _lead_over(main, sides[0], bridge)
                return
            os.unlink(main.real)
            fate = f"{targets[0]} was removed, as it may have another's files beside it now"
            _sync_folder(main.real.parent)
        for file in (*sides, main):
            os.replace(file.temporary, file.real)
            _sync_folder(file.real.parent)
    except OSError as error:
        raise cannot_write(targets, error, fate) from error


def _lead_over(main: NewFile, side: NewFile, bridge: Bridge) -> None:
    """Replaces a main file and its other one so that at any time one pair is whole.

    A main file leads to the new bytes under another name until they have their own.
    """
    name = f"{side.real.name}{_WAITING}"
    waiting = side.real.with_name(f"{name}{os.urandom(4).hex()}")
    os.replace(side.temporary, waiting)
    try:
        with _beside(main.real) as led:
            led.stream.write(bridge(waiting.name))
            led.finish()
            os.replace(led.temporary, main.real)
            _sync_folder(main.real.parent)
    except (OSError, ConvertError):  # before anything led to them
        waiting.unlink()
        raise
    _copy(waiting, side.temporary)
    os.replace(side.temporary, side.real)
    _sync_folder(side.real.parent)
    os.replace(main.temporary, main.real)
    _sync_folder(main.real.parent)
    for path in side.real.parent.iterdir():
        if path.name.startswith(name):
            path.unlink()


def _copy(source: Path, copy: Path) -> None:
    """Gives a file a second name, or makes a copy where the disk has one name a file."""
    try:
        os.link(source, copy)
    except (OSError, AttributeError):
        shutil.copyfile(source, copy)
        with copy.open("rb+") as stream:
            os.fsync(stream.fileno())


def _add(files: Sequence[NewFile], targets: Sequence[Path]) -> None:
    """Puts files where none are, the main one last; all or none.

    Raises:
        FileExists: Somebody else has put one there.
    """
    done: list[Path] = []
    try:
        for file, target in zip((*files[1:], files[0]), (*targets[1:], targets[0]), strict=True):
            try:
                _add_one(file)
            except FileExistsError:
                check_target(target, force=False)
                raise
            done.append(file.real)
            _sync_folder(file.real.parent)
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise


def _add_one(file: NewFile) -> None:
    try:
        os.link(file.temporary, file.real)
    except FileExistsError:
        raise
    except (OSError, AttributeError):
        # The disk has one name a file. Nobody else makes this one now.
        os.close(os.open(file.real, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(file.temporary, file.real)
        except BaseException:
            file.real.unlink()
            raise


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
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs' files",
    errno.EFBIG: "name a target on a disk that takes files of this size",
}


def cannot_write(
    targets: Sequence[Path], error: Exception, fate: str | None = None
) -> ConvertError:
    """Returns the error of targets that cannot be written, and what has become of them.

    Where it is their source that cannot be read any more, it is that error.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EFAULT:  # of a mapped file that was cut off
        try:
            check_sources()
        except ConvertError as changed:
            return changed
    reason = os.strerror(code) if code else str(error)
    fate = fate or ("is as it was" if len(targets) == 1 else "all are as they were")
    advice = _ADVICE.get(code or 0, "name another target")
    folders = (os.path.dirname(os.path.realpath(target)) for target in targets)
    if code == errno.ENOENT and all(map(os.path.isdir, folders)):
        advice = "something took it away meanwhile: write it again"
    return ConvertError(
        f"{', '.join(map(str, targets))}: cannot be written ({reason}), and {fate}: {advice}"
    )
