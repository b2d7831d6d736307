"""Where records go: to stdout, or to a file that is whole or not at all and can be gone on with."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pvt_data.answers.rows import Format, Head
from pvt_data.command_line import show_result
from pvt_spec.errors import PvtError
from pvt_spec.files.growing import growing
from pvt_spec.files.replacing import replacing

_KEPT = 16
"""How many records that are there already are kept, to look whether they are of the same model."""

_DIGEST = 16
"""Bytes by which an image's name is remembered."""


class Names:
    """Which images are there already: a few bytes each, whatever they are called."""

    def __init__(self, digests: bytes = b""):
        """Sorts digests, one behind the other."""
        self._digests = np.sort(np.frombuffer(digests, f"S{_DIGEST}"))

    @staticmethod
    def digest(name: str) -> bytes:
        """Returns what is remembered of a name."""
        return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, name: str) -> bool:
        digest = np.array(self.digest(name), f"S{_DIGEST}")
        at = int(np.searchsorted(self._digests, digest))
        return at < len(self._digests) and bool(self._digests[at] == digest)


@dataclass
class Output:
    """An open output.

    Attributes:
        write: The function that writes a text.
        begun: Whether there is anything in it.
        names: The images that are in it.
        errors: How many of those could not be read.
        first: Some of its records that have classes.
    """

    write: Callable[[str], None]
    begun: bool = False
    names: Names = field(default_factory=Names)
    errors: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def open_output(
    target: Path | None, form: Format, head: Head, force: bool, resume: bool
) -> Iterator[Output]:
    """Opens where records are written.

    Args:
        target: A file, which has its name when the block has ended well; None for stdout.
        form: The format.
        head: What all records have in common.
        force: Whether the file may exist.
        resume: Whether to go on with what is in it.

    Raises:
        PvtError: The file cannot be written, exists, or has something else in it.
    """
    if target is None:
        yield Output(_stdout(form))
    elif form.read:
        with growing(target, force, resume) as stream:
            output = _read(stream, form, head, target)
            output.write = _to(stream)
            yield output
    else:
        with replacing(target, force) as stream:
            yield Output(_to(stream))


def _stdout(form: Format) -> Callable[[str], None]:
    if form.read and not sys.stdout.isatty():  # for programs: names as they are
        return _to(sys.stdout.buffer)
    return lambda text: show_result(text, end="")


def _is_opening(stream: BinaryIO, opening: bytes) -> bool:
    """Returns whether a stream is empty, or was stopped within its first line."""
    stream.seek(0)
    left = stream.read(len(opening))
    return opening.startswith(left)


def _to(stream: BinaryIO) -> Callable[[str], None]:
    def write(text: str) -> None:
        stream.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()

    return write


def _read(stream: BinaryIO, form: Format, head: Head, target: Path) -> Output:
    """Returns what a stream has of whole records, and cuts off what is behind them."""
    output, digests, whole = Output(lambda text: None), bytearray(), 0
    assert form.read
    try:
        for end, record in form.read(head, stream):
            whole = end
            if record is None:
                continue
            digests += Names.digest(record["image"])
            output.errors += "error" in record
            if "classes" in record and len(output.first) < _KEPT:
                output.first.append(record)
    except PvtError as error:
        raise PvtError(f"{target}: cannot be gone on with: {error}") from error
    if not whole and not _is_opening(stream, form.opening):
        raise PvtError(
            f"{target}: cannot be gone on with: it has no whole line; --force in "
            "place of --resume begins again"
        )
    stream.seek(whole)
    stream.truncate()
    output.begun, output.names = whole > 0, Names(bytes(digests))
    return output
