"""Images within tar files: where they lie there, and where the class of each.

The layout is webdataset's: the members of one sample share a key, their name up to the first dot
after the last slash.
"""

import posixpath
import re
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from pvt_data.sources.listing import SUFFIXES, LeftOut, is_hidden
from pvt_data.sources.source import Source, Texts, are_numbers, number_classes
from pvt_spec.errors import ImageError
from pvt_spec.files.limits import MAX_CLASS_NAME, MAX_TAR_HEADER, MAX_TAR_KEYS
from pvt_spec.files.reading import open_regular
from pvt_spec.words import reason, show

OPEN_FILES = 64
"""How many tar files a process keeps open at most; ImageNet has 1000."""

CLASS_SUFFIX = ".cls"
"""Ending of the member that holds the class of a sample."""


_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
"""Endings of what may hold images itself."""

_MOST_PADDING = 1 << 20
"""Bytes of zeros after a tar's end in which another is looked for; writers fill up to 10,240."""

_LONG_NUMBER = re.compile(rb"\d{200}")
"""What no header needs, and over which tarfile's own patterns take time with the square of it."""


class _Headers:
    """A tar file as tarfile reads it here: its headers alone, without what has no end in them.

    Attributes:
        room: How many bytes the next member's may have.
    """

    def __init__(self, stream: BinaryIO):
        self._stream, self.room = stream, MAX_TAR_HEADER
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        self.room -= size
        if self.room < 0:
            raise ValueError(f"a member's headers have over {MAX_TAR_HEADER:,} bytes")
        data = self._stream.read(size)
        if _LONG_NUMBER.search(data):
            raise ValueError("a header has a number of 200 digits or more")
        return data


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
        left_out: The hidden images, those in hidden folders or systems' own, and those whose bytes
            are not in the file, or not together.
    """

    images: list[Member]
    classes: dict[str, Member]
    left_out: LeftOut


def sample_key(name: str) -> str:
    """Returns what the members of one sample share: ``a/0001`` of ``a/0001.seg.png``."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def index_tar(path: Path) -> TarIndex:
    """Reads the headers of an uncompressed tar file; only what lies in it whole counts.

    A file with a second name in it, a hard link, is an image under each.

    Raises:
        ImageError: It is not such a file, is damaged or cut off, holds no image, or a file twice;
            or which image or class is a sample's cannot be told.
    """
    index = TarIndex([], {}, LeftOut())
    try:
        with (
            open_regular(path) as stream,
            tarfile.open(fileobj=cast(BinaryIO, headers := _Headers(stream)), mode="r:") as tar,
        ):
            seen: dict[str, Member] = {}
            place = -1
            while (info := tar.next()) is not None:
                headers.room = MAX_TAR_HEADER
                # Each is looked at again for each member.
                if len(tar.pax_headers) > MAX_TAR_KEYS:
                    raise ValueError(f"it says over {MAX_TAR_KEYS} things of all its members")
                # A size below 0 would lead back to where we were.
                if tar.offset <= place:
                    raise ValueError(f"the header before byte {place} has a size below 0")
                place = tar.offset
                if not info.isdir():
                    _add(path, index, info, seen)
                # Or it would keep a record of every member.
                tar.members = []  # type: ignore[attr-defined]
            # To tarfile, any header that it cannot read is the end.
            _check_end(path, tar.offset)
    except ImageError:
        raise
    except Exception as error:  # tarfile raises whatever a damaged header makes its parsing do
        raise ImageError(
            f"{path}: cannot be read as a tar file ({reason(error)}); expected a whole, "
            "uncompressed one"
        ) from error
    if not index.images:
        rest = f"; {index.left_out}" if index.left_out else ""
        raise ImageError(f"{path}: holds no image; images end in {', '.join(SUFFIXES)}{rest}")
    return index._replace(images=_one_each(path, index)) if index.classes else index


def _add(path: Path, index: TarIndex, info: tarfile.TarInfo, seen: dict[str, Member]) -> None:
    file, left_out = info.name.rpartition("/")[2].lower(), index.left_out
    if not file.endswith((CLASS_SUFFIX, *SUFFIXES, *_ARCHIVES)):
        return
    if any(part != "." and is_hidden(part) for part in info.name.split("/")):
        left_out.add("hidden", f"{path}/{info.name}")
        return
    if file.endswith(_ARCHIVES):
        left_out.add("archives, not looked into", f"{path}/{info.name}")
        return
    if info.name in seen:
        raise ImageError(
            f"{path}: holds {show(info.name)} twice, as tar leaves an older one where it adds "
            "files: unpack it, and pack it again"
        )
    # A sparse file's bytes do not lie together.
    if info.isreg() and not info.issparse():
        member = Member(info.name, info.offset_data, info.size)
    elif info.islnk() and info.linkname in seen:
        member = seen[info.linkname]._replace(name=info.name)
    else:
        left_out.add("links, sparse files and devices", f"{path}/{info.name}")
        return
    seen[info.name] = member
    if not file.endswith(CLASS_SUFFIX):
        index.images.append(member)
        return
    key = sample_key(info.name)
    if other := index.classes.get(key):
        raise _unclear(path, key, other, member, "class")
    index.classes[key] = member


def _one_each(path: Path, index: TarIndex) -> list[Member]:
    """Returns the image of each sample; others of it, as masks, are left out if it is called so.

    Raises:
        ImageError: A sample has several, and none or two are called as it alone.
    """
    samples: dict[str, list[Member]] = {}
    for image in index.images:
        samples.setdefault(sample_key(image.name), []).append(image)
    chosen = []
    for key, images in samples.items():
        plain = [image for image in images if image.name.count(".", len(key)) == 1]
        if len(images) > 1 and len(plain) != 1:
            raise _unclear(path, key, images[0], images[1], "image")
        chosen += plain if len(images) > 1 else images
        for image in images:
            if image not in chosen[-1:]:
                index.left_out.add("further images of a sample", f"{path}/{image.name}")
    return chosen


def _unclear(path: Path, key: str, one: Member, other: Member, what: str) -> ImageError:
    return ImageError(
        f"{path}: {show(one.name)} and {show(other.name)} are both of the sample {show(key)}, as "
        f"its name ends at the first dot, and which is its {what} cannot be told: name samples "
        "without dots, and an image as its sample"
    )


def _check_end(path: Path, offset: int) -> None:
    """Refuses a tar file whose end mark, a block of zeros, is not at ``offset``, or not the end."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
        rest = file.read(_MOST_PADDING)
    if not block:
        raise ValueError("it is cut off")
    if block.strip(b"\0"):
        raise ValueError(f"there is no header at byte {offset}")
    padding = len(rest) - len(rest.lstrip(b"\0"))
    if rest[padding // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE :][257:262] == b"ustar":
        raise ImageError(
            f"{path}: another tar file begins after its end, as where several were joined: give "
            "each by itself, in a folder"
        )


class TarFiles(Source):
    """The images of tar files, a :class:`Source`; only their headers are read at first."""

    def __init__(self, paths: Sequence[Path], inside: bool = False):
        """Indexes the files.

        Args:
            paths: Shards, or one file per class; see :func:`open_source`.
            inside: Whether the folders within the only file, if there are any, are its classes.

        Raises:
            ImageError: A file is damaged or compressed, or an image has no class.
        """
        # Those that are open and not in use, the one that was used longest ago first.
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        indexes = [index_tar(path) for path in paths]
        images = [image for index in indexes for image in index.images]
        counts = [len(index.images) for index in indexes]
        self._paths = tuple(map(str, paths))
        self._tar = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
        self._offset = np.array([image.offset for image in images], np.int64)
        self._size = np.array([image.size for image in images], np.int64)
        self._names = Texts(image.name for image in images)
        classes = [index.classes for index in indexes]
        if any(classes):
            names = [self._shard_class(image, classes) for image in range(len(images))]
        else:
            names = [paths[tar].stem for tar in self._tar]
            names = _folders_within(paths[0], images) or names if inside else names
        self.classes, self.labels = number_classes(names)
        self.numbered = any(classes) and are_numbers(names)
        self.left_out = LeftOut.of(index.left_out for index in indexes)

    def _shard_class(self, index: int, classes: Sequence[dict[str, Member]]) -> str:
        """Returns the text of the ``.cls`` beside an image."""
        tar, key = int(self._tar[index]), sample_key(self._names[index])
        if key not in classes[tar]:
            raise ImageError(
                f"{self.name(index)}: {key}{CLASS_SUFFIX} is not in the same tar file, but other "
                "images have theirs; expected one for each"
            )
        name, offset, size = classes[tar][key]
        if size > MAX_CLASS_NAME:
            raise ImageError(
                f"{self._paths[tar]}/{name}: has {size} bytes, expected a class's name of up to "
                f"{MAX_CLASS_NAME}"
            )
        text = self._part(tar, offset, size).decode(errors="replace").strip()
        if not text:
            raise ImageError(f"{self._paths[tar]}/{name}: is empty; expected a class's name")
        return text

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()

    def _read(self, index: int) -> bytes:
        size = int(self._size[index])
        self._check_size(index, size)
        encoded = self._part(int(self._tar[index]), int(self._offset[index]), size)
        if len(encoded) < size:
            raise ImageError(
                f"{self.name(index)}: has {len(encoded)} of the {size} bytes that it had when it "
                "was listed"
            )
        return encoded

    def name(self, index: int) -> str:
        """Returns the tar file's path, and the member's name in it."""
        return f"{self._paths[self._tar[index]]}/{self._names[index]}"

    def _part(self, tar: int, offset: int, size: int) -> bytes:
        # A file that is read is nobody else's: its place is this thread's alone, where a system
        # has no way to read at a place, and nobody closes it.
        file = self._files.pop(tar, None) or open_regular(self._paths[tar])
        file.seek(offset)
        part = file.read(size)
        if self._files.setdefault(tar, file) is not file:
            file.close()
        while len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return part


def _folders_within(path: Path, images: Sequence[Member]) -> list[str]:
    """Returns the folder that each image of a tar file lies in; nothing where none lies in one.

    Raises:
        ImageError: Some do, others do not.
    """
    paths = (posixpath.normpath(image.name) for image in images)
    folders = [posixpath.basename(posixpath.dirname(name)) for name in paths]
    if any(folders) and not all(folders):
        lost = images[folders.index("")].name
        raise ImageError(
            f"{path}/{lost}: lies in no folder, but other images lie in their classes'; expected "
            "one for each, or none"
        )
    return folders if any(folders) else []
