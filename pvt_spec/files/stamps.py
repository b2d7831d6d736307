"""Whether files that are read are written to meanwhile, and what was written of ours."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pvt_spec.errors import ConvertError
from pvt_spec.files.reading import open_regular

Stamp = tuple[int, int, int]

Stamps = dict[Path, Stamp]
"""Files, and what :func:`stamp` says of each."""


def stamp_files(source: Path, beside: Iterable[Path] = ()) -> Stamps:
    """Returns those of what a model is read from; see :func:`hash_files`."""
    return {path: stamp(path) for path in {*_files_of(source), *beside}}


def hash_files(source: Path, beside: Iterable[Path] = ()) -> str:
    """Returns a hash of what a model is read from: a folder's files, or a file and its weights.

    Args:
        source: The model.
        beside: Files that it names, whatever they are called.

    Raises:
        OSError: One cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted({*_files_of(source), *beside}):
        _add(digest, path)
    return digest.hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Returns the name, size and hash of a file.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    size = _add(digest, path)
    return {"file": str(path), "bytes": size, "sha256": digest.hexdigest()}


def _add(digest: "hashlib._Hash", path: Path) -> int:
    """Adds a file's bytes to a hash; returns how many there are."""
    size = 0
    with open_regular(path) as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return size


_Described = dict[Path, dict[str, Any]]

_written: ContextVar[_Described | None] = ContextVar("what is written", default=None)


@contextmanager
def describing() -> Iterator[_Described]:
    """Yields what :func:`describe_file` says of the files that are written in the block, by target.

    It is said before they come to their places, where another process may replace them at once.
    """
    before = _written.set(found := _Described())
    try:
        yield found
    finally:
        _written.reset(before)


def note_written(target: Path, file: Path) -> None:
    """Describes what is to become a target, for :func:`describing`."""
    if (found := _written.get()) is not None:
        found[target] = {**describe_file(file), "file": str(target)}


def _files_of(source: Path) -> list[Path]:
    if source.is_dir():
        return [path for path in source.iterdir() if path.is_file()]
    names = (source.name + more for more in ("", *_BESIDE))
    # A name may be too long for that, which is no file then.
    return [path for path in map(source.with_name, names) if os.path.isfile(path)]


_BESIDE = (".data", "_data")
"""What the file of weights is called beyond the name of its model: by us, and by others."""


def stamp(path: Path) -> Stamp:
    """Returns what the system says of a file when it is written to or replaced; zeros of none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


_sources: ContextVar[Stamps | None] = ContextVar("sources of what is written", default=None)


@contextmanager
def made_of(stamps: Stamps) -> Iterator[None]:
    """Has nothing that is written in the block come to its place if one of these files changes.

    Weights are read while they are written.
    """
    before = _sources.set(stamps)
    try:
        yield
    finally:
        _sources.reset(before)


def check_sources() -> None:
    """Refuses what was made of files that have changed; see :func:`made_of`.

    Raises:
        ConvertError: One has.
    """
    check_unchanged(_sources.get() or {})


def check_unchanged(stamps: Stamps) -> None:
    """Refuses files that were written to since then: what was read may be of two.

    Raises:
        ConvertError: One was.
    """
    if changed := changed_since(stamps):
        raise ConvertError(f"{changed}: was written to while it was read: try again after that")


def changed_since(stamps: Stamps) -> Path | None:
    """Returns a file that has changed since then, if any has."""
    return next((path for path, before in stamps.items() if stamp(path) != before), None)
