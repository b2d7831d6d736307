"""Locks between processes, which end with the process that has them, however it ends."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pvt_spec.errors import ConvertError


class Held(Exception):
    """Another process has the lock; the text says which, as far as that is known."""


def try_lock(descriptor: int, wait: bool = False) -> bool:
    """Locks an open file until its last descriptor is closed.

    Args:
        descriptor: The open file.
        wait: Whether to wait for the other process.

    Returns:
        Whether it is locked now; False where another process has it.

    Raises:
        OSError: The system or the disk has no locks.
    """
    lock, busy = _system_lock()
    while True:
        try:
            lock(descriptor, wait)
            return True
        except busy:
            if not wait:
                return False


def _system_lock() -> tuple[Callable[[int, bool], None], type[OSError]]:
    """Returns what locks a file, and what it raises where another process has it."""
    modules: dict[str, Any] = {}
    for name in ("fcntl", "msvcrt"):
        with suppress(ImportError):
            modules[name] = import_module(name)
    if "fcntl" in modules:
        fcntl = modules["fcntl"]
        free = fcntl.LOCK_EX, fcntl.LOCK_EX | fcntl.LOCK_NB
        return lambda descriptor, wait: fcntl.flock(descriptor, free[not wait]), BlockingIOError
    if "msvcrt" in modules:
        msvcrt = modules["msvcrt"]

        def lock(descriptor: int, wait: bool) -> None:
            # A byte far behind what is in the file, which others can read then.
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)

        return lock, PermissionError
    raise OSError("this system has no file locks")


@contextmanager
def held(path: Path, wait: bool = False) -> Iterator[None]:
    """Has a lock, kept as a file that is there meanwhile, for as long as the block lasts.

    One that a killed process has left is free. Where the disk has no locks, there is none.

    Args:
        path: The lock's file.
        wait: Whether to wait while another process has it.

    Raises:
        Held: Another process has it, and there is no waiting.
        ConvertError: Something else stands in its place.
        OSError: The file cannot be made.
    """
    while True:
        descriptor = _open(path)
        try:
            _check_lock(descriptor, path)
            if not take(descriptor) and not (wait and await_lock(descriptor)):
                os.lseek(descriptor, 0, os.SEEK_SET)
                raise Held(os.read(descriptor, 300).decode(errors="replace").strip())
            if is_at(descriptor, path):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one who had it has removed the file meanwhile
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        if os.name == "nt":
            os.close(descriptor)  # no open file can be removed there
        with suppress(OSError):
            path.unlink()
        if os.name != "nt":
            os.close(descriptor)


@contextmanager
def sole(
    path: Path,
    taken: Callable[[str], Exception],
    unwritable: Callable[[OSError], Exception],
) -> Iterator[None]:
    """Has a lock as :func:`held` does, without waiting, and says in other words why it cannot.

    Args:
        path: The lock's file.
        taken: The function that returns the error where a process, which is named, has it.
        unwritable: The function that returns the error where its file cannot be made.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path))
        except Held as other:
            raise taken(str(other) or "another process") from None
        except OSError as error:
            raise unwritable(error) from error
        yield


_OPENING = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_LONGEST = 1000
"""Bytes of what is written into a lock."""


def _open(path: Path) -> int:
    try:
        return os.open(path, _OPENING, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_lock(path) from error
        raise


def _no_lock(path: Path) -> ConvertError:
    return ConvertError(f"{path}: something else stands where our lock would be: take it away")


def _check_lock(descriptor: int, path: Path) -> None:
    """Refuses what somebody has put in a lock's place: what is in there is written over.

    Raises:
        ConvertError: It is no file, another file's second name, or longer than a lock.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > _LONGEST:
        raise _no_lock(path)


def take(descriptor: int, wait: bool = False) -> bool:
    """Takes a lock as :func:`try_lock` does; where the disk has no locks, everyone has it."""
    try:
        return try_lock(descriptor, wait)
    except OSError:
        return True


def await_lock(descriptor: int) -> bool:
    """Takes a lock once the process that has it is done: a signal may end this, for it takes long.

    Whoever takes or keeps one else is not disturbed by a signal: its file would stay.
    """
    return take(descriptor, wait=True)


def is_at(descriptor: int, path: Path) -> bool:
    """Returns whether an open file is still the one of a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
