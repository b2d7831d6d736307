"""Labelled images by number, from folders, tar files or a list: bytes, label and name.

Pictures are not decoded here, but what a camera noted beside one may be read.
"""

from io import BytesIO
from pathlib import Path

import numpy as np

from pvt_data.images.decoding import MAY_RAISE, opened, turn
from pvt_data.sources.listing import LeftOut, class_folders, is_hidden, list_labelled, listing
from pvt_data.sources.lists import ListedFiles
from pvt_data.sources.source import Files, Source
from pvt_data.sources.tars import TarFiles
from pvt_spec.errors import ImageError
from pvt_spec.files.replacing import AnyPath


def open_source(path: AnyPath) -> Source:
    """Opens the images of one split: ``CLASS/*.jpg``, tar files, one of them, or a list.

    Tar files are either shards, where ``NAME.jpg`` lies beside ``NAME.cls`` with the class's name
    or number (as webdataset writes them), or one per class and named after it, as ImageNet's
    ``n01440764.tar``. One that is named itself may hold a folder for each class instead. They are
    not unpacked. Any other file is a list; see :func:`pvt_data.sources.lists.read_list`. Numbers
    as classes name the classes "0", "1", ….

    Raises:
        ImageError: The folder or file is missing, or cannot be told to be one of these; a tar file
            is damaged or compressed, or an image has no class, or two.
    """
    path = Path(path)
    with listing(path):
        if path.is_file():
            return TarFiles([path], inside=True) if _is_tar(path) else ListedFiles(path)
        tars = sorted(tar for tar in path.glob("*.tar") if not is_hidden(tar.name))
        folders = [*class_folders(path, LeftOut())] if tars else []
    if not tars:
        return ClassFolders(path)
    if folders:
        raise ImageError(
            f"{path}: holds both tar files ({tars[0].name}, …) and folders ({folders[0]}, …); "
            "expected one or the other: move one of them elsewhere"
        )
    return TarFiles(tars)


def _is_tar(path: Path) -> bool:
    return ".tar" in path.suffixes or path.suffix == ".tgz"


def count_sideways(source: Source, most: int) -> tuple[int, int]:
    """Counts images whose EXIF orientation says that they are to be turned.

    Returns:
        How many there are, of how many that were looked at: evenly spaced, ``most`` at most.
    """
    count = min(most, len(source))
    return sum(_is_sideways(source, i * len(source) // count) for i in range(count)), count


def _is_sideways(source: Source, index: int) -> bool:
    try:
        with opened(BytesIO(source.read(index))) as image:
            # A PNG's would be looked for behind its pixels.
            return (image.format != "PNG" or "exif" in image.info) and turn(image) is not None
    except MAY_RAISE:
        # What cannot be read is told where it is needed.
        return False


class ClassFolders(Files):
    """The images of ``CLASS/*.jpg``, a :class:`Source`."""

    def __init__(self, folder: Path):
        """Lists the folder.

        Raises:
            ImageError: It is missing, holds no class folders, or a class holds no image.
        """
        self.left_out = LeftOut()
        samples, classes = list_labelled(folder, self.left_out)
        self.classes = tuple(classes)
        self.labels = np.array([label for _, label in samples], np.int64)
        self._place(folder, (str(path.relative_to(folder)) for path, _ in samples))
