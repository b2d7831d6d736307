"""Which files of a folder are images, and what is left out. Standard library, and pvt_spec."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import has_magic
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from pvt_spec.errors import ImageError
from pvt_spec.files.reading import check_source
from pvt_spec.words import reason, shortened

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
}
"""File name ending of images -> Pillow's name of their format.

Each format may be under each ending, others under none: Pillow goes by what is in a file, and some
of its readers start programs.
"""

SUFFIXES = tuple(FORMATS)
"""File name endings that count as images where a folder is given."""

SYSTEM = {
    *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}
"""Names of what systems leave in folders, in lower case; names that begin with a dot are too."""

_SHOWN = 3

_T = TypeVar("_T")


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name is a system's own, or hidden."""
    return name.startswith(".") or name.lower() in SYSTEM


class LeftOut:
    """What was found and is no image to use: counted, and the first of each kind by name."""

    def __init__(self) -> None:
        """Starts with nothing."""
        self._counts = Counter[str]()
        self._first: dict[str, list[str]] = {}

    @classmethod
    def of(cls, parts: "Iterable[LeftOut]") -> "LeftOut":
        """Returns what several have left out."""
        whole = cls()
        for part in parts:
            whole._counts += part._counts
            for kind, names in part._first.items():
                whole._first.setdefault(kind, []).extend(names)
        return whole

    def add(self, kind: str, name: str) -> None:
        """Counts a file or folder."""
        self._counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) <= _SHOWN:
            first.append(name)

    def __bool__(self) -> bool:
        """Returns whether anything was left out."""
        return bool(self._counts)

    def __str__(self) -> str:
        """Returns a sentence: ``left out: hidden 2 (a/.b.png, a/.c), broken links 1 (a/d)``."""
        kinds = [
            f"{kind} {n} ({some(self._first[kind], _SHOWN)})" for kind, n in self._counts.items()
        ]
        return f"left out: {', '.join(kinds)}"


@contextmanager
def listing(what: str | Path) -> Iterator[None]:
    """Makes whatever the system says of a file or folder in the block an error that names it.

    Raises:
        ImageError: It said something: that a name is too long, a folder not for us to search.
    """
    try:
        yield
    except (OSError, ValueError, RecursionError) as error:  # a zero byte in the name; pathlib's own
        where = shortened(str(getattr(error, "filename", None) or what), 200)
        raise ImageError(f"{where}: cannot be looked through: {reason(error)}") from error


def some(names: Iterable[str], most: int = 5) -> str:
    """Returns the first of some names, and whether there are more."""
    listed = list(names)
    return ", ".join(listed[:most]) + (", …" if len(listed) > most else "")


def evenly_spaced(items: Sequence[_T], limit: int) -> list[_T]:
    """Returns at most ``limit`` items, first to last: of a folder of classes, some of each."""
    count = min(limit, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def list_images(sources: Iterable[str | Path], left_out: LeftOut | None = None) -> list[Path]:
    """Lists what :func:`find_images` finds."""
    return [*find_images(sources, left_out)]


def find_images(
    sources: Iterable[str | Path], left_out: LeftOut | None = None, whole: bool = True
) -> Iterator[Path]:
    """Yields the images that files, folders (searched through) and glob patterns name, in order.

    Hidden and system folders and files within a folder are left out, as is all that does not end
    as an image does. No more than the names of a folder and those that it lies in are in memory,
    or those that a pattern names.

    Args:
        sources: Files, folders and patterns.
        left_out: What is to be told of the files that are left out.
        whole: Whether what cannot be searched is an error; else it is yielded, and so told where it
            cannot be read either.

    Raises:
        ImageError: A source names nothing, a folder holds no image, or cannot be searched.
        ConvertError: An image is to be written; see :func:`pvt_spec.files.reading.to_be_written`.
    """
    left_out = LeftOut() if left_out is None else left_out
    for source in sources:
        if source == "":
            raise ImageError("the name of an image is empty")
        with listing(source):
            found = _images_of(source, left_out, whole)
            first = next(found, None)
        if first is None:
            folder = os.path.isdir(source)
            what = "holds no image" if folder else "no such file, and no image matches it"
            named = shortened(str(source), 200)
            rest = f"; {left_out}" if left_out else ""
            raise ImageError(f"{named}: {what}; images end in {', '.join(SUFFIXES)}{rest}")
        while first is not None:
            check_source(first)
            yield first
            with listing(source):
                first = next(found, None)


def _images_of(source: str | Path, left_out: LeftOut, whole: bool) -> Iterator[Path]:
    path = Path(source)
    if not whole and _is_barred(path):
        yield path
    elif path.is_dir():
        yield from _images_in(path, left_out, whole)
    elif path.exists():
        yield path
    else:
        yield from sorted(_matching(str(source), left_out))


def _matching(pattern: str, left_out: LeftOut) -> Iterator[Path]:
    """Yields the images that a pattern names; what is hidden must be named without wildcards."""
    parts = Path(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if has_magic(part)), len(parts))
    # ``**`` follows no links to folders: pathlib's does not, glob's goes round in circles.
    root, wanted = Path(*parts[:fixed]), [*parts[fixed:]]
    wanted = [part for part, next_ in zip_longest(wanted, wanted[1:]) if not part == next_ == "**"]
    for path in root.glob("/".join(wanted)) if wanted else ():
        if any(map(is_hidden, path.parts[fixed:])):
            left_out.add("hidden", str(path))
        elif _is_image(path):
            yield path


def _is_barred(path: Path) -> bool:
    """Returns whether the system keeps us from what lies in a folder, or from a file in one."""
    try:
        if path.is_dir():
            os.scandir(path).close()
    except PermissionError:
        return True
    return False


def _images_in(folder: Path, left_out: LeftOut, whole: bool) -> Iterator[Path]:
    """Yields the images in a folder and those in it, in the order of their paths."""
    ways = [_entries(folder)]
    while ways:
        path, is_folder = next(ways[-1], (None, False))
        if path is None:
            ways.pop()
        elif is_hidden(path.name):
            left_out.add("hidden", str(path))
        elif is_folder and path.is_symlink():
            left_out.add("links to folders", str(path))
        elif is_folder and not whole and _is_barred(path):
            yield path
        elif is_folder:
            ways.append(_entries(path))
        elif _is_image(path):
            yield path
        elif path.is_symlink() and not path.exists():
            left_out.add("broken links", str(path))
        elif not path.is_file():
            left_out.add("pipes, sockets and devices", str(path))
        else:
            left_out.add("not ending as images do", str(path))


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yields what is in a folder, in order, and whether each is a folder."""
    names: list[str] = []
    folders: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            with suppress(OSError):  # of a link that leads to itself
                if entry.is_dir():
                    folders.add(entry.name)
    names.sort()
    for name in names:
        yield folder / name, name in folders


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def list_labelled(
    folder: Path, left_out: LeftOut | None = None
) -> tuple[list[tuple[Path, int]], list[str]]:
    """Lists the images of an ImageNet-style folder ``CLASS/*.png`` and its class names.

    Args:
        folder: The folder that holds one for each class; hidden and system folders are none.
        left_out: What is to be told of what is left out.

    Returns:
        (image file, class index) in order of class and name; the class names, sorted.

    Raises:
        ImageError: The folder is missing, holds no class folders or one that cannot be searched,
            or a class holds no image.
    """
    with listing(folder):
        return _list_labelled(folder, LeftOut() if left_out is None else left_out)


def _list_labelled(folder: Path, left_out: LeftOut) -> tuple[list[tuple[Path, int]], list[str]]:
    if not folder.is_dir():
        raise ImageError(
            f"{folder}: no such folder; expected one with a folder of images per class"
        )
    classes = sorted(class_folders(folder, left_out))
    if not classes:
        rest = f"; {left_out}" if left_out else ""
        raise ImageError(
            f"{folder}: holds no class folders; expected {folder}/CLASS/*.png, or tar files that "
            f"are not compressed{rest}"
        )
    samples = [
        (path, index)
        for index, name in enumerate(classes)
        for path in list_images([folder / name], left_out)
    ]
    return samples, classes


def class_folders(folder: Path, left_out: LeftOut) -> Iterator[str]:
    """Yields the names of a folder's folders, less hidden ones and those of systems."""
    for path in sorted(folder / name for name in os.listdir(folder)):
        if is_hidden(path.name):
            left_out.add("hidden", str(path))
        elif path.is_dir():
            yield path.name
        elif path.suffix != ".tar":
            left_out.add("beside the classes", str(path))
