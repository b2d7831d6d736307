"""Whether files that are read are written to meanwhile."""

from pathlib import Path

Stamps = dict[Path, tuple[int, int, int]]
"""Files, and what the system says of each when it is written to or replaced."""


def stamp_files(source: Path) -> Stamps:
    """Returns those of what a model is read from: a folder's files, or a file and its weights."""
    beside = [source, source.with_name(f"{source.name}.data")]
    files = source.iterdir() if source.is_dir() else beside
    return {path: _stamp(path) for path in files if path.is_file()}


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


def changed_since(stamps: Stamps) -> Path | None:
    """Returns a file that has changed since then, if any has."""
    return next((path for path, stamp in stamps.items() if _stamp(path) != stamp), None)
