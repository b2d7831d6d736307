"""A weight file before any of its names is understood, and how bytes get in and out of it.

Every format module (``ckpt``, ``pth``, …) answers a :class:`WeightFile` from ``read`` and takes
the same arrays in ``write``.
"""

import mmap
import stat
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pvt_data.edge import expect_cuts
from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_DIMS, MAX_ENTRIES, MAX_SHARING
from pvt_spec.files.reading import check_source
from pvt_spec.files.wire import FieldReader
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import show


@dataclass(frozen=True)
class WeightFile:
    """What a file holds, under the file's own names.

    Attributes:
        places: The arrays of each dict that holds any, in the file's order, by the keys that lead
            to it: ``"state.model"``, or ``""`` for the top level, which formats without dicts have
            alone. Read-only, and usually views of the mapped file: not aligned in memory where
            the file does not align them.
        metadata: Text entries beside the tensors.
        extras: Everything else beside the tensors: numbers, dicts and lists without tensors. As
            nested and as self-referential as the file makes it: show
            it with :func:`pvt_spec.words.show`.
        described: The model as a file beside it (``config.json``) describes it; None for nothing.
        files: The files that were read; () for the named one alone.
        unread: The names of the kinds of objects beside the tensors that were left unread.
        graph_hash: The hash of what an ``.onnx`` computes; "" of a file without a graph.
        precision: What it computes in, a key of :data:`pvt_spec.precisions.PRECISIONS`.
        rounded: What the arrays are in the file that were rounded for it to compute with, as
            ``"int8"``, by name.
        made: The words for who made it so; "" where it was written so.
        unlike: The keys of text entries that dicts of arrays in it have different ones of.
    """

    places: dict[str, dict[str, Array]]
    metadata: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    described: ModelInfo | None = None
    files: tuple[Path, ...] = ()
    unread: tuple[str, ...] = ()
    graph_hash: str = ""
    precision: str = FLOAT32
    rounded: Mapping[str, str] = field(default_factory=dict)
    made: str = ""
    unlike: frozenset[str] = frozenset()

    @property
    def tensors(self) -> dict[str, Array]:
        """All arrays: by their names, and where they lie in several dicts with these before."""
        if len(self.places) == 1:
            return next(iter(self.places.values()))
        found: dict[str, Array] = {}
        for place, held in self.places.items():
            for name, array in held.items():
                found[other_name(f"{place}.{name}" if place else name, found)] = array
        return found


def other_name(name: str, taken: Container[str]) -> str:
    """Returns a name, or one like it where it is taken: keys with dots in them may read alike."""
    while name in taken:
        name += "#"
    return name


def map_file(path: Path) -> mmap.mmap:
    """Maps a file, whose bytes are read as they are touched; slices of its memoryview are views.

    Raises:
        ConvertError: There is no such file, it is empty, no regular file, or not for us to read.
    """
    check_source(path)
    try:
        # Before opening: a pipe would keep us waiting for its other end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConvertError(f"{path}: a folder, a pipe or a device, expected a file of weights")
        with path.open("rb") as stream:
            if not (size := stream.seek(0, 2)):
                raise ConvertError(f"{path}: the file is empty: copy or download it again")
            expect_cuts(str(path), size)
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ConvertError(f"{path}: there is no such file") from None
    except PermissionError as error:
        raise ConvertError(
            f"{path}: no permission to read it (MindSpore lets only the owner read what it "
            "writes): run chmod +r on it as its owner"
        ) from error
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read: {error}") from error


def little_endian(name: str) -> np.dtype[Any]:
    """Returns the dtype of a name that numpy or ml_dtypes has, in the byte order of files."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    # newbyteorder makes a copy, of which numpy says that it is not builtin.
    return dtype if sys.byteorder == "little" else dtype.newbyteorder("<")


def dtype_name(
    name: str, array: Array, names: Mapping[str, np.dtype[Any]], problem: str = ""
) -> str:
    """Returns a format's name of an array's dtype, in any byte order.

    Args:
        name: The tensor's name, for complaints.
        array: Any array.
        names: numpy's dtype of each name, little-endian.
        problem: The words for what the format does not do with another one.

    Raises:
        ConvertError: The format has no name for it.
    """
    dtype = array.dtype.newbyteorder("<")
    for known, held in names.items():
        if held == dtype:
            return known
    raise ConvertError(f"{name} is {array.dtype}, {problem}expected one of {', '.join(names)}")


def check_texts(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Refuses a text that has a tensor's name, where a format keeps both under their names.

    Raises:
        ConvertError: There is one.
    """
    if shared := sorted(tensors.keys() & metadata.keys()):
        raise ConvertError(f"a tensor and a text have the same name: {', '.join(shared)}")


def encode_text(text: str, encoding: str = "utf-8", what: str = "") -> bytes:
    """Returns a text as a format keeps it.

    Raises:
        ConvertError: It is no Unicode; ``what`` says in the complaint what it is.
    """
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        shown = f"{what} ({show(text)})" if what else show(text)
        raise ConvertError(f"{shown} has a lone surrogate, expected Unicode") from None


def check_sharing(tensors: Iterable[Array], size: int) -> None:
    """Refuses tensors that have the same bytes of a file over and over: they would take forever.

    Args:
        tensors: The tensors.
        size: Bytes of the files that they are in.

    Raises:
        ConvertError: They have them over :data:`MAX_SHARING` times.
    """
    if (held := sum(array.nbytes for array in tensors)) > MAX_SHARING * size:
        raise ConvertError(
            f"its tensors have {held} bytes, which share the {size} of the file: expected at most "
            f"{MAX_SHARING} times as many"
        )


def as_array(
    name: str,
    kind: object,
    values: memoryview,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    fail: Callable[[str], ConvertError],
) -> Array:
    """Returns the array that bytes of a file are, a view of them.

    Args:
        name: The tensor's name, fit for a terminal.
        kind: The format's own name of the dtype.
        values: As many bytes as the shape and dtype take.
        shape: The dimensions that the file says.
        dtype: The dtype, little-endian.
        fail: A function that makes the error of a problem.

    Raises:
        ConvertError: numpy has no such array, or it is bool with other values.
    """
    if dtype == np.bool_ and np.frombuffer(values, np.uint8).max(initial=0) > 1:
        raise fail(f"{name} is {kind} with bytes other than 0 and 1")
    try:
        return np.ndarray(tuple(shape), dtype, buffer=values)
    except ValueError as error:
        raise fail(f"{name} cannot be an array: {error}") from None


class TensorFields(FieldReader):
    """Protobuf fields of a mapped file of weights."""

    def check_count(self, count: int, at: int) -> None:
        """Refuses an entry for which there is no more room.

        Raises:
            ConvertError: There are as many as there may be.
        """
        if count >= MAX_ENTRIES:
            raise self.error(at, f"more than {MAX_ENTRIES} entries, expected those of a PVT")

    def add_dims(self, dims: list[int], span: tuple[int, int], at: int, shown: str) -> None:
        """Adds to a tensor's dims those of a field: one of them, or all of them packed.

        Raises:
            ConvertError: No array has such a shape.
        """
        dims += islice(self.numbers(*span), MAX_DIMS + 1)
        if len(dims) > MAX_DIMS or max(dims, default=0) >= 1 << 63:
            raise self.damaged(at, f"{shown} a shape that no array has")


def contents(array: Array) -> memoryview:
    """Returns an array's bytes, little-endian and in C order; a copy only where it has to be."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    # As uint8: bfloat16 has no buffer of its own.
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data
