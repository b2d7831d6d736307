"""Where the images lie in a tar file, and where the class of each. Standard library, and pvt_spec.

The layout is webdataset's: the members of one sample share a key, their name up to the first dot
after the last slash.
"""

import tarfile
from pathlib import Path
from typing import NamedTuple

from pvt_data.sources.listing import SUFFIXES, LeftOut, is_hidden
from pvt_spec import ImageError
from pvt_spec.files.reading import open_regular
from pvt_spec.words import reason

CLASS_SUFFIX = ".cls"
"""Ending of the member that holds the class of a sample."""


class Member(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: The file's name there.
        offset: The place where its bytes begin.
        size: How many there are.
    """

    name: str
    offset: int
    size: int


class TarIndex(NamedTuple):
    """What a tar file holds.

    Attributes:
        images: The images in the file's order.
        classes: Sample's key -> the member that holds its class; empty where no sample has one.
        left_out: The hidden images, and those in hidden folders or systems' own.
    """

    images: list[Member]
    classes: dict[str, Member]
    left_out: LeftOut


def sample_key(name: str) -> str:
    """Returns what the members of one sample share: ``a/0001`` of ``a/0001.seg.png``."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def index_tar(path: Path) -> TarIndex:
    """Reads the headers of an uncompressed tar file; hidden and other than regular files are left.

    Raises:
        ImageError: It is not such a file, is damaged or cut off, holds no image, or a file twice.
    """
    index = TarIndex([], {}, LeftOut())
    try:
        with open_regular(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            seen: set[str] = set()
            place = -1
            while (info := tar.next()) is not None:
                # A size below 0 would lead back to where we were.
                if tar.offset <= place:
                    raise ValueError(f"the header before byte {place} has a size below 0")
                place = tar.offset
                # A sparse file's bytes do not lie together.
                if info.isreg() and not info.issparse():
                    _add(path, index, Member(info.name, info.offset_data, info.size), seen)
                # Or it would keep a record of every member.
                tar.members = []  # type: ignore[attr-defined]
            # To tarfile, any header that it cannot read is the end.
            _check_end(path, tar.offset)
    except Exception as error:  # tarfile raises whatever a damaged header makes its parsing do
        raise ImageError(
            f"{path}: cannot be read as a tar file ({reason(error)}); expected a whole, "
            "uncompressed one"
        ) from error
    if not index.images:
        raise ImageError(f"{path}: holds no image; images end in {', '.join(SUFFIXES)}")
    return index


def _add(path: Path, index: TarIndex, member: Member, seen: set[str]) -> None:
    file = member.name.rpartition("/")[2].lower()
    if not file.endswith((CLASS_SUFFIX, *SUFFIXES)):
        return
    if any(part != "." and is_hidden(part) for part in member.name.split("/")):
        index.left_out.add("hidden", f"{path}/{member.name}")
        return
    if member.name in seen:
        raise ValueError(f"it holds {member.name} twice")
    seen.add(member.name)
    if file.endswith(CLASS_SUFFIX):
        index.classes[sample_key(member.name)] = member
    else:
        index.images.append(member)


def _check_end(path: Path, offset: int) -> None:
    """Refuses a tar file whose end mark, a block of zeros, is not at ``offset``."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise ValueError("it is cut off")
    if block.strip(b"\0"):
        raise ValueError(f"there is no header at byte {offset}")
