"""Reading the tensors of an ``.onnx``, in the file or beside it."""

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from convert.formats.onnx.layout import (
    DATA_LOCATION,
    DATA_TYPE,
    DTYPES,
    EXTERNAL_DATA,
    GRAPH_FIELDS,
    INITIALIZER,
    NAME,
    RAW_DATA,
    RECONVERT,
    SPARSE_INITIALIZER,
    TYPED_DATA,
    is_plain,
)
from convert.formats.weight_file import TensorFields, as_array, map_file
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.folders import lies_in
from pvt_spec.files.models import check_model_file
from pvt_spec.files.wire import FIRST, NUMBER, SECOND
from pvt_spec.hashes import PartsHash
from pvt_spec.words import listed, show

_PLACE = ("location", "offset", "length", "checksum")
"""What may be said of values in another file: onnxruntime has others, by which it computes."""


@dataclass(slots=True)  # a hostile file has many
class Tensor:
    """A ``TensorProto``, at data[at:stop], and where in it its raw bytes are."""

    at: int
    stop: int
    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    raw: tuple[int, int] | None = None
    external: bool = False
    place: dict[str, str] = field(default_factory=dict)
    unread: str = ""

    @property
    def shown(self) -> str:
        """Its name, fit for a terminal."""
        return show(self.name)


def find_beside(folder: Path, location: str) -> Path:
    """Returns the file at a location that a model names.

    Raises:
        ConvertError: That is no plain path in the model's folder.
    """
    if not is_plain(location):
        raise ConvertError("expected a path in the model's folder, of plain names and slashes")
    try:
        found = (folder.resolve(strict=True) / location).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise ConvertError(f"it cannot be found: {error}") from error
    if not lies_in(found, folder):
        raise ConvertError(
            f"a link that leads to {found}, expected a file in the model's folder, {folder}; "
            "put the file itself beside the model"
        )
    return found


@dataclass(frozen=True)
class ModelReader(TensorFields):
    """Messages of a mapped ``.onnx``, and what they hold.

    Attributes:
        beside: The files in which it keeps weights, and their bytes, by the location it names.
    """

    beside: dict[str, tuple[Path, memoryview]] = field(default_factory=dict)

    def add_text(self, start: int, stop: int, found: dict[str, str]) -> None:
        """Adds what a ``StringStringEntryProto`` says."""
        parts = {key: (begin, end) for key, begin, end in self.fields(start, stop)}
        name = self.name(parts.get(FIRST, (start, start)))
        if name in found:
            raise self.damaged(start, f"{show(name)} is there twice, expected once")
        self.check_count(len(found), start)
        found[name] = self.text(parts.get(SECOND, (start, start)), "utf-8")

    def add_graph(self, start: int, stop: int, found: dict[str, Tensor], digest: PartsHash) -> None:
        """Adds the initializers of a ``GraphProto``, and what else decides what it computes."""
        for key, begin, end in self.fields(start, stop):
            if key in GRAPH_FIELDS:
                digest.add(GRAPH_FIELDS[key], self.data[begin:end])
            if key == SPARSE_INITIALIZER:
                raise self.error(begin, f"a sparse tensor, which is not read: {RECONVERT}")
            if key == INITIALIZER:
                tensor = self.tensor(begin, end)
                if tensor.name in found:
                    raise self.error(begin, f"{tensor.shown} is there twice, expected once")
                self.check_count(len(found), begin)
                found[tensor.name] = tensor

    def tensor(self, start: int, stop: int) -> Tensor:
        """Returns what a ``TensorProto`` says."""
        tensor = Tensor(start, stop)
        for key, begin, end in self.fields(start, stop):
            if key in (NUMBER, FIRST):  # one dim, or all of them packed
                self.add_dims(tensor.dims, (begin, end), start, "a tensor of")
            elif key == DATA_TYPE:
                tensor.type = self.number(begin, end)[0]
            elif key == NAME:
                tensor.name = self.name((begin, end))
            elif key == RAW_DATA:
                tensor.raw = (begin, end)
            elif key == EXTERNAL_DATA:
                self.add_text(begin, end, tensor.place)
            elif key == DATA_LOCATION:
                tensor.external = self.number(begin, end)[0] != 0
            elif key >> 3 in TYPED_DATA:  # packed or not
                tensor.unread = TYPED_DATA[key >> 3]
        return tensor

    def array(self, tensor: Tensor) -> Array:
        """Returns the weight that an initializer is."""
        dtype = DTYPES.get(tensor.type)
        if dtype is None:
            expected = ", ".join(f"{number} ({dtype})" for number, dtype in DTYPES.items())
            raise self.error(
                tensor.at, f"{tensor.shown} is of data_type {tensor.type}, expected {expected}"
            )
        if tensor.unread:
            raise self.error(
                tensor.at,
                f"{tensor.shown} keeps its values in {tensor.unread}, expected raw_data, as "
                f"convert writes: {RECONVERT}",
            )
        size = math.prod(tensor.dims) * dtype.itemsize
        if tensor.external:
            values = self.external_data(tensor, size)
        else:
            start, stop = tensor.raw or (tensor.at, tensor.at)
            values = self.data[start:stop]
        if len(values) != size:
            expected = f"expected {size} for {dtype} {tensor.dims}"
            raise self.damaged(tensor.at, f"{tensor.shown} has {len(values)} bytes, {expected}")
        fail = partial(self.damaged, tensor.at)
        return as_array(tensor.shown, dtype, values, tensor.dims, dtype, fail)

    def external_data(self, tensor: Tensor, size: int) -> memoryview:
        """Returns the ``size`` bytes of a tensor that is kept in another file."""
        location = tensor.place.get("location", "")
        try:
            if tensor.raw:
                raise ConvertError("and its bytes are in the model too, expected one of both")
            if others := tensor.place.keys() - {*_PLACE}:
                raise ConvertError(
                    f"with {listed(sorted(others), 4, show)}, expected {', '.join(_PLACE)} alone"
                )
            if location not in self.beside:
                path = find_beside(self.path.parent, location)
                # One by several names, as ./NAME, is there once.
                mapped = [data for there, data in self.beside.values() if there == path]
                data = mapped[0] if mapped else memoryview(map_file(path))
                self.beside[location] = path, data
            values = self.beside[location][1]
            start = _count(tensor.place, "offset", 0)
            length = _count(tensor.place, "length", size)
            if length != size or start + size > len(values):
                check_model_file(self.beside[location][0], texts=False)
                raise ConvertError(
                    f"its {length} bytes at byte {start} of {len(values)} there, expected {size} "
                    f"for {DTYPES[tensor.type]} {tensor.dims}; copy or download both files again"
                )
        except ConvertError as error:
            raise self.error(
                tensor.at, f"{tensor.shown} is kept in another file, {show(location)}: {error}"
            ) from error
        return values[start : start + size]


def _count(place: dict[str, str], key: str, default: int) -> int:
    text = place.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConvertError(f"{key} is {show(text)}, expected a number of bytes")
    return int(text)
