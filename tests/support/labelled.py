"""Labelled images in folders and tar files, of any bytes."""

import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from pvt_data.sources.source import Source


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], **options) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return path


def write_folder(folder: Path, items: Sequence[tuple[str, bytes]]) -> Path:
    for name, content in items:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def read_all(source: Source) -> list[tuple[str, bytes]]:
    """(class, bytes) of every image."""
    assert source.labels.dtype == np.int64 and source.labels.shape == (len(source),)
    return [(source.classes[source.labels[i]], source.read(i)) for i in range(len(source))]
