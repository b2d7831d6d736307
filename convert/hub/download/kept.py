"""What is noted of files that were downloaded and verified, so that they need not be hashed again.

The note is in a file of its own. It holds while size and time of every file are as they were then.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pvt_spec.errors import ConfigError, ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.models import read_text
from pvt_spec.files.records import read_record
from pvt_spec.files.replacing import replacing


@dataclass(frozen=True)
class KeptFile:
    """A file as it was when it was verified.

    Attributes:
        size: Its bytes.
        time: When it was written to, in ns.
        sha256: Its hash.
    """

    size: int
    time: int
    sha256: str


@dataclass(frozen=True)
class Kept:
    """What was downloaded.

    Attributes:
        address: Where it came from.
        commit: The commit of its repository; "" of a file.
        files: The files, by name, that of the weights first.
        licence: The licence that its page says, "" where it says none or was not asked.
    """

    address: str
    commit: str
    files: dict[str, KeptFile]
    licence: str = ""

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of every file."""
        return {name: file.sha256 for name, file in self.files.items()}


def keep(note: Path, folder: Path, address: str, hashes: Mapping[str, str], **facts: str) -> Kept:
    """Notes what was verified, and returns the note.

    Args:
        note: The note's file.
        folder: The folder of the files.
        address: Where they came from.
        hashes: The sha256 of each, that of the weights first.
        facts: Further fields of :class:`Kept`.

    Raises:
        ConvertError: It cannot be written.
    """
    kept = {name: KeptFile(*_stamp(folder / name), sha256) for name, sha256 in hashes.items()}
    made = Kept(address, facts.pop("commit", ""), kept, **facts)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        if note.is_symlink():  # which would be written through
            note.unlink()
        with replacing(note, force=True) as stream:
            stream.write(encode_json(asdict(made), indent=1).encode() + b"\n")
    except OSError as error:
        raise ConvertError(f"{note}: cannot be written ({error.strerror})") from error
    return made


def read_note(note: Path) -> Kept | None:
    """Returns what is noted; None where there is no note, or none of this kind."""
    with suppress(ValueError, ConfigError, ConvertError):
        return read_record(Kept, parse_json(read_text(note)), str(note))
    return None


def is_unchanged(kept: Kept, folder: Path) -> bool:
    """Returns whether the files of a note have the sizes and times that they had then."""
    with suppress(OSError):
        return all(_stamp(folder / n) == (f.size, f.time) for n, f in kept.files.items())
    return False


def _stamp(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
