"""Temporary files beside the ones that they will replace, and those that killed processes left."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pvt_spec.files.locks import try_lock

_OURS = re.compile(r"\.pvt-[0-9a-f]{16}\.tmp")
"""The names of our temporary files."""


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
        temporary = real.parent / f".pvt-{os.urandom(8).hex()}.tmp"
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


def remove_left(folder: Path) -> None:
    """Removes the temporary files of processes that were killed; those at work lock theirs."""
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if _OURS.fullmatch(entry.name)]:
            with suppress(OSError), path.open("rb") as stream:
                if os.name == "nt" or try_lock(stream.fileno()):
                    path.unlink()
