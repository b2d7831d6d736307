"""Folders that appear whole or not at all."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pvt_spec.errors import ConvertError
from pvt_spec.files.locks import held
from pvt_spec.files.replacing import LOCK, cannot_write, check_folder, check_target
from pvt_spec.files.stamps import check_sources
from pvt_spec.files.temporary import OLD, new_folder, remove_left


@contextmanager
def replacing_folder(target: Path, force: bool) -> Iterator[Path]:
    """Returns an empty folder that becomes ``target`` once all that is in it is on the disk.

    It lies beside it until the block ends; where that ends in an exception it is removed, and the
    target is what it was. Between the two renames of a replacement there is none for a moment;
    who is killed there is followed by a writer in the same folder that puts the old one back.

    Args:
        target: The folder to write.
        force: Whether it may exist.

    Raises:
        FileExists: The target exists, before or after the block, and ``force`` is not given.
        ConvertError: It cannot be written: no such folder, no permission, no space, no folder.
    """
    check_new_folder(target, force)
    check_folder(target)
    remove_left(target.parent)
    try:
        with new_folder(target) as work:
            new, old = work / "new", work / OLD
            new.mkdir()
            yield new
            _sync(new)
            with held(target.parent / LOCK, wait=True):
                check_new_folder(target, force)
                check_sources()
                if target.exists():
                    old.mkdir()
                    os.replace(target, old / target.name)
                os.replace(new, target)
    except OSError as error:
        # Writing to an open file names no file; one that is not ours may be the block's own.
        named = [str(name) for name in (error.filename, error.filename2) if name]
        if named and not any(name.startswith(str(target.parent / ".pvt-")) for name in named):
            raise
        raise cannot_write([target], error) from error


def check_new_folder(target: Path, force: bool) -> None:
    """Refuses, before any work, a folder that exists and may not be replaced, or is none.

    Raises:
        FileExists: It exists, and ``force`` is not given.
        ConvertError: It is a file.
    """
    check_target(target, force)
    if os.path.exists(target) and not os.path.isdir(target):
        raise ConvertError(f"{target}: a file or a device, expected a folder to write")


def check_not_inside(folders: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuses, before any of them is replaced, folders that something is read from.

    Raises:
        ConvertError: One is, however it is spelt.
    """
    sources = list(sources)
    for folder in folders:
        for source in sources:
            if Path(os.path.realpath(source)).is_relative_to(os.path.realpath(folder)):
                raise ConvertError(f"{source} is in {folder}, which is to be replaced: move it")


def lies_in(path: Path, folder: Path) -> bool:
    """Returns whether a file lies in a folder or below, or where huggingface_hub keeps it.

    In its cache, the files of ``snapshots/REVISION`` are links to ``blobs`` beside ``snapshots``.
    """
    real, found = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    revisions = (each for each in (real, *real.parents) if each.parent.name == "snapshots")
    return found.is_relative_to(real) or any(
        found.parent == revision.parent.parent / "blobs" for revision in revisions
    )


def _sync(folder: Path) -> None:
    """Puts all that is in a folder on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
