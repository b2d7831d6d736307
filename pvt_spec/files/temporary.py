"""Temporary files beside the ones that they will replace, and those that killed processes left."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pvt_spec.files.locks import try_lock

_OURS = re.compile(r"\.pvt-[0-9a-f]{16}\.tmp")
"""The names of our temporary files and folders."""


def _new_name() -> str:
    return f".pvt-{os.urandom(8).hex()}.tmp"


@dataclass(frozen=True)
class NewFile:
    """A file being written, which is to replace ``real``."""

    real: Path
    temporary: Path
    stream: BinaryIO
    lock: int | None
    """Another descriptor of it, which keeps it locked until it is in its place."""

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
        if self.lock is not None:
            os.close(self.lock)


def open_new(real: Path) -> NewFile:
    """Opens a file beside the one that it is to replace.

    Raises:
        OSError: It cannot be made.
    """
    while True:
        temporary = real.parent / _new_name()
        stream = temporary.open("xb")
        lock = None
        with suppress(OSError):  # no locks here: then nobody removes what others have left either
            # Where no open file can be removed, none needs a lock.
            if os.name != "nt" and try_lock(stream.fileno()):
                lock = os.dup(stream.fileno())
            elif os.name != "nt":
                stream.close()  # taken for one that was left
                continue
        if os.path.exists(temporary):
            return NewFile(real, temporary, stream, lock)
        stream.close()
        if lock is not None:
            os.close(lock)


OLD = "old"
"""Where what is being replaced is, in a temporary folder, under its own name."""


@contextmanager
def new_folder(beside: Path) -> Iterator[Path]:
    """Makes a folder beside another, which is removed when the block ends.

    What is then in its folder :data:`OLD`, and is not where it was, is put back.

    Raises:
        OSError: It cannot be made.
    """
    temporary, lock = _make_folder(beside)
    try:
        yield temporary
    finally:
        _clear(temporary)
        if lock is not None:
            os.close(lock)


def _make_folder(beside: Path) -> tuple[Path, int | None]:
    """Makes a temporary folder and locks it, where folders can be."""
    while True:
        temporary = beside.parent / _new_name()
        temporary.mkdir()
        lock, ours = None, True
        with suppress(OSError):  # no locks here, or none of folders: nobody removes it if we die
            lock = os.open(temporary, os.O_RDONLY)
            ours = try_lock(lock)
        if ours and temporary.exists():
            return temporary, lock
        if lock is not None:
            os.close(lock)  # taken for one that was left


def _clear(temporary: Path) -> None:
    """Removes a temporary folder, but for what was to be replaced and was not."""
    kept = temporary / OLD
    # A link is none of ours: what it leads to is not to be moved.
    for old in () if kept.is_symlink() else kept.glob("*"):
        if not (place := temporary.parent / old.name).exists():
            os.replace(old, place)
    shutil.rmtree(temporary, ignore_errors=True)


def remove_left(folder: Path) -> None:
    """Removes the temporary files and folders of killed processes; those at work lock theirs."""
    ours: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        ours = [entry for entry in entries if _OURS.fullmatch(entry.name)]
    for entry in ours:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                _remove_folder(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):  # to open a pipe would wait
                with open(entry.path, "rb") as stream:
                    if os.name == "nt" or try_lock(stream.fileno()):
                        os.unlink(entry.path)


def _remove_folder(path: Path) -> None:
    """Removes a folder that no process has locked, where folders can be."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if try_lock(descriptor):
            _clear(path)
    finally:
        os.close(descriptor)
