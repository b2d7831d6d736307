"""Weights in ``.onnx`` files: the initializers, bit for bit, and the files beside that hold them.

:mod:`pvt_onnx.graph.build` makes the graph around the weights. Every weight's initializer has its
canonical name; the graph's own constants have a slash in theirs. Reading needs no ``onnx``. An ONNX
file is one protobuf message; of it we need (``onnx/onnx.proto``, field numbers after the names)::

    ModelProto             { GraphProto graph = 7; repeated StringStringEntryProto
                             metadata_props = 14 }
    GraphProto             { repeated TensorProto initializer = 5; repeated SparseTensorProto
                             sparse_initializer = 15 }
    TensorProto            { repeated int64 dims = 1; int32 data_type = 2; string name = 8;
                             bytes raw_data = 9; repeated StringStringEntryProto
                             external_data = 13; DataLocation data_location = 14 }
    StringStringEntryProto { string key = 1; string value = 2 }

What else decides what the graph computes (its nodes, constants, inputs and outputs, the opsets and
functions) is only hashed, as it stands in the file.

A tensor's bytes are its ``raw_data``, little-endian and in C order, or, where ``data_location`` is
1, the ``length`` bytes at ``offset`` of the file ``location`` beside the model, all three in
``external_data``. (``float_data`` and its like are other places for values, which we do not
write and do not read.) A model that holds more than 2 GiB is always of the second kind.

As fields may come in any order, a file is written as the graph, its constants and the metadata,
with the weights after them: they go from where they are (a memory-mapped checkpoint, say) to the
file without a copy of the whole.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, BinaryIO

from convert.formats.weight_file import (
    TensorFields,
    WeightFile,
    as_array,
    check_sharing,
    contents,
    little_endian,
    map_file,
)
from pvt_onnx.ascend import aipp_config, aipp_file, atc_commands
from pvt_onnx.targets import ASCEND, choose_opset, find_target
from pvt_spec import METADATA_KEY, ConfigError, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError, PvtError
from pvt_spec.files.models import check_model_file
from pvt_spec.files.replacing import check_target, replacing_all
from pvt_spec.files.wire import FIRST, NUMBER, SECOND, encode_field, encode_header
from pvt_spec.hashes import (
    GRAPH_KEY,
    GRAPH_PARTS,
    PAIR_BYTES,
    PAIR_KEY,
    PRECISION_KEY,
    QUANTIZATION_KEY,
    PartsHash,
    check_pair,
    encode_maths,
    pair_mark,
)
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import show

if TYPE_CHECKING:
    import onnx

_ENUM = """
    undefined float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64
    complex64 complex128 bfloat16
"""
_WITHOUT_ARRAYS = ("undefined", "string", "complex64", "complex128")
DTYPES = {
    number: little_endian(name)
    for number, name in enumerate(_ENUM.split())
    if name not in _WITHOUT_ARRAYS
}
"""numpy's dtype of each ``TensorProto.DataType`` that a weight may have."""

_TYPES = {dtype: number for number, dtype in DTYPES.items()}

MAX_BYTES = 2**31 - 1
"""Protobuf's limit on the size of a model's file: see :func:`model_size`."""

ALIGNMENT = 4096
"""What offsets in a file of weights are a multiple of: a page, as ONNX advises for mapping it."""

_GRAPH, _METADATA_PROPS = 7 << 3 | 2, 14 << 3 | 2
_MODEL_PARTS = {8 << 3 | 2: "opset", 25 << 3 | 2: "function"}
_GRAPH_PARTS = {1 << 3 | 2: "node", 11 << 3 | 2: "input", 12 << 3 | 2: "output"}
_INITIALIZER, _SPARSE_INITIALIZER = 5 << 3 | 2, 15 << 3 | 2
_DATA_TYPE, _NAME, _RAW_DATA = 2 << 3, 8 << 3 | 2, 9 << 3 | 2
_EXTERNAL_DATA, _DATA_LOCATION = 13 << 3 | 2, 14 << 3
_TYPED_DATA = {3: "segment", 4: "float_data", 5: "int32_data", 6: "string_data", 7: "int64_data"}
_TYPED_DATA |= {10: "double_data", 11: "uint64_data"}
_AGAIN = "the file is cut off, damaged or no ONNX model: copy or download it again"
_RECONVERT = "convert the checkpoint that it was made from"


def read(path: Path) -> WeightFile:
    """Reads the weights and metadata of an ONNX model that ``convert`` wrote.

    Args:
        path: An ``.onnx`` file. Files that it keeps weights in are read from its folder.

    Returns:
        Read-only arrays under canonical names, in the file's order: views of the mapped files.

    Raises:
        ConvertError: The file is missing, damaged, not ONNX, or was written by something else; or
            a weight is kept where it may not be, or as what numpy has no array for.
    """
    reader = _ModelReader(path, memoryview(map_file(path)), _AGAIN)
    tensors: dict[str, _Tensor] = {}
    metadata: dict[str, str] = {}
    digest = PartsHash(GRAPH_PARTS)
    graphs = 0
    for key, start, stop in reader.fields(0, len(reader.data)):
        if key == _GRAPH:  # in several pieces, it is all of them
            graphs += 1
            reader.add_graph(start, stop, tensors, digest)
        elif key == _METADATA_PROPS:
            reader.add_text(start, stop, metadata)
        elif key in _MODEL_PARTS:
            digest.add(_MODEL_PARTS[key], reader.data[start:stop])
    if not graphs:
        raise ConvertError(f"{path}: without a graph, expected an ONNX model; {_AGAIN}")
    if METADATA_KEY not in metadata:
        raise ConvertError(
            f"{path}: no {METADATA_KEY} in its metadata, so it was not written by convert; "
            f"exporters rename and fold weights: {_RECONVERT}"
        )
    for _, constant in sorted(each for each in tensors.items() if "/" in each[0]):
        digest.add("constant", reader.data[constant.at : constant.stop])
    digest.add("description", encode_maths(metadata[METADATA_KEY]))
    graph_hash = digest.hexdigest()
    other = metadata.get(GRAPH_KEY, graph_hash) != graph_hash
    coarse = other or not metadata.keys().isdisjoint({PRECISION_KEY, QUANTIZATION_KEY})
    if coarse and (found := _read_coarse(path, metadata, graph_hash)):
        return found
    arrays = {name: reader.array(t) for name, t in tensors.items() if "/" not in name}
    held = [reader.data, *(data for _, data in reader.beside.values())]
    try:
        check_sharing(arrays.values(), sum(map(len, held)))
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}; {_RECONVERT}") from None
    for file, data in reader.beside.values():
        check_pair(str(path), metadata, str(file), bytes(data[-PAIR_BYTES:]))
    files = (path, *(file for file, _ in reader.beside.values()))
    return WeightFile({"": arrays}, metadata, files=files, graph_hash=graph_hash)


def _read_coarse(path: Path, metadata: dict[str, str], graph_hash: str) -> WeightFile | None:
    """Reads a model whose graph may not be as it was written, by what its nodes do with weights.

    Returns:
        What it holds where that is coarser than float32 or kept otherwise than we do; None where
        it is as we keep it, or cannot be read so.
    """
    from pvt_onnx.reading.files import load_proto, places
    from pvt_onnx.reading.held import read_held
    from pvt_onnx.reading.precision import describe_rounding, read_precision

    try:
        config = ModelInfo.from_json(metadata[METADATA_KEY]).config
        model = load_proto(path)
        precision, held = read_precision(model), read_held(model, config)
        made = describe_rounding(model)
    except (PvtError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    named = {tensor.name for tensor in model.graph.initializer}
    if precision == FLOAT32 and held.weights.keys() <= named:
        return None
    return WeightFile(
        {"": held.weights},
        metadata,
        files=(path, *(path.parent / name for name in sorted(places(model)))),
        graph_hash=graph_hash,
        precision=precision,
        rounded=held.kept,
        made=made,
    )


@dataclass(slots=True)  # a hostile file has many
class _Tensor:
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


def _find(folder: Path, location: str) -> Path:
    """Returns the file at a location that a model names.

    Raises:
        ConvertError: That is no plain path in the model's folder.
    """
    if not _is_plain(location):
        raise ConvertError("expected a path in the model's folder, of plain names and slashes")
    try:
        folder = folder.resolve(strict=True)
        found = (folder / location).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise ConvertError(f"it cannot be found: {error}") from error
    if not found.is_relative_to(folder):
        raise ConvertError(
            f"a link that leads to {found}, expected a file in the model's folder, {folder}; "
            "put the file itself beside the model"
        )
    return found


def _is_plain(location: str) -> bool:
    parts = location.split("/")
    foreign = "\\" in location or PureWindowsPath(location).drive or len(location) > 1000
    return not foreign and location.isprintable() and "" not in parts and ".." not in parts


@dataclass(frozen=True)
class _ModelReader(TensorFields):
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

    def add_graph(
        self, start: int, stop: int, found: dict[str, _Tensor], digest: PartsHash
    ) -> None:
        """Adds the initializers of a ``GraphProto``, and what else decides what it computes."""
        for key, begin, end in self.fields(start, stop):
            if key in _GRAPH_PARTS:
                digest.add(_GRAPH_PARTS[key], self.data[begin:end])
            if key == _SPARSE_INITIALIZER:
                raise self.error(begin, f"a sparse tensor, which is not read: {_RECONVERT}")
            if key == _INITIALIZER:
                tensor = self.tensor(begin, end)
                if tensor.name in found:
                    raise self.error(begin, f"{tensor.shown} is there twice, expected once")
                self.check_count(len(found), begin)
                found[tensor.name] = tensor

    def tensor(self, start: int, stop: int) -> _Tensor:
        """Returns what a ``TensorProto`` says."""
        tensor = _Tensor(start, stop)
        for key, begin, end in self.fields(start, stop):
            if key in (NUMBER, FIRST):  # one dim, or all of them packed
                self.add_dims(tensor.dims, (begin, end), start, "a tensor of")
            elif key == _DATA_TYPE:
                tensor.type = self.number(begin, end)[0]
            elif key == _NAME:
                tensor.name = self.name((begin, end))
            elif key == _RAW_DATA:
                tensor.raw = (begin, end)
            elif key == _EXTERNAL_DATA:
                self.add_text(begin, end, tensor.place)
            elif key == _DATA_LOCATION:
                tensor.external = self.number(begin, end)[0] != 0
            elif key >> 3 in _TYPED_DATA:  # packed or not
                tensor.unread = _TYPED_DATA[key >> 3]
        return tensor

    def array(self, tensor: _Tensor) -> Array:
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
                f"convert writes: {_RECONVERT}",
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

    def external_data(self, tensor: _Tensor, size: int) -> memoryview:
        """Returns the ``size`` bytes of a tensor that is kept in another file."""
        location = tensor.place.get("location", "")
        try:
            if tensor.raw:
                raise ConvertError("and its bytes are in the model too, expected one of both")
            if location not in self.beside:
                path = _find(self.path.parent, location)
                self.beside[location] = path, memoryview(map_file(path))
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


def planned(
    path: Path,
    *,
    target: str | None,
    opset: int | None,
    dynamic_size: bool,
    uint8: bool,
    precision: str,
    half_ends: bool,
    embed: bool,
    external_data: bool,
) -> list[Path]:
    """Returns a model's files, the one to name first: with the weights inside, or beside it.

    Raises:
        ConfigError: The target has no such graph.
    """
    choose_opset(find_target(target), opset, dynamic_size, uint8, precision, embed)
    files = [path, _data_file(path)] if external_data else [path]
    return [*files, aipp_file(path)] if target == ASCEND else files


def next_steps(path: Path, info: ModelInfo, *, target: str | None, **_: object) -> list[str]:
    """Returns the lines by which what the file is for goes on from there."""
    return atc_commands(path, info) if target == ASCEND else []


def _data_file(path: Path) -> Path:
    """Returns the file of a model's weights.

    Raises:
        ConvertError: It cannot be called so within a model.
    """
    found = path.with_name(f"{path.name}.data")
    if not _is_plain(found.name):
        raise ConvertError(
            f"{path}: a model says what its file of weights is called, which {show(found.name)} "
            "cannot be: expected a name of plain characters"
        )
    return found


def write(
    path: Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    force: bool,
    *,
    opset: int | None,
    dynamic_size: bool,
    target: str | None,
    uint8: bool,
    precision: str,
    half_ends: bool,
    embed: bool,
    external_data: bool,
) -> list[Path]:
    """Writes a model, whole or not at all: its graph from the metadata, and the weights.

    Args:
        path: The target.
        tensors: Every weight by canonical name.
        metadata: Texts, :meth:`pvt_spec.ModelInfo.to_json` under ``METADATA_KEY`` among them.
        force: Whether existing files are replaced.
        opset: The opset; None for the target's own.
        dynamic_size: Whether the image's height and width are left open.
        target: The name of what the graph is for, one of
            :data:`pvt_onnx.targets.TARGETS`; None for the first.
        uint8: Whether the graph takes pixels and normalises them itself.
        precision: What it computes in; of ``"fp16"``, the weights are as
            :func:`pvt_onnx.graph.build.as_halves` makes them.
        half_ends: Whether what goes in and comes out of such a graph is float16 too.
        embed: Whether the graph takes pixels of any size, and resizes and crops them too.
        external_data: Whether the weights go to a file beside it. They do in any case where the
            model would pass :data:`MAX_BYTES`.

    Returns:
        The files that were written.

    Raises:
        ConfigError: The target has no such graph.
        ConvertError: A file cannot be written.
        FileExists: One is there and ``force`` is not given.
    """
    from pvt_onnx.graph.build import as_initializers, build_skeleton

    check_target(path, force)
    info = ModelInfo.from_json(metadata[METADATA_KEY])
    tensors = as_initializers(info.config, tensors, target)
    skeleton = build_skeleton(
        info,
        {name: array.dtype for name, array in tensors.items()},
        dynamic_size=dynamic_size,
        opset=opset,
        target=target,
        uint8=uint8,
        precision=precision,
        half_ends=half_ends,
        embed=embed,
    )
    external = external_data or model_size(skeleton, tensors) > MAX_BYTES
    config = aipp_config(path, info) if target == ASCEND else None
    files = [path, *([_data_file(path)] if external else [])]
    files += [aipp_file(path)] if config else []
    mark = pair_mark(skeleton.SerializeToString(deterministic=True)) if external else b""
    if external:
        skeleton.metadata_props.add(key=PAIR_KEY, value=mark.decode())

    def bridge(name: str) -> bytes:
        return b"".join(_graph_pieces(skeleton, tensors, name))

    with replacing_all(files, force, bridge if external and not config else None) as streams:
        beside = (files[1].name, streams[1]) if external else None
        write_model(streams[0], skeleton, tensors, beside)
        if external:
            streams[1].write(mark)
        if config:
            streams[-1].write(config.encode())
    return files


def model_size(skeleton: "onnx.ModelProto", weights: Mapping[str, Array]) -> int:
    """Bytes of the one file that :func:`write_model` makes of a skeleton and its weights.

    Where that is over :data:`MAX_BYTES`, the weights need a second file.
    """
    held = sum(array.nbytes for array in weights.values())
    heads = _heads(weights, "")
    return len(_beginning(skeleton, heads, held)) + sum(map(len, heads.values())) + held


def write_model(
    stream: BinaryIO,
    skeleton: "onnx.ModelProto",
    weights: Mapping[str, Array],
    external: tuple[str, BinaryIO] | None = None,
) -> None:
    """Writes a skeleton with its weights as an ONNX file, one tensor at a time.

    Args:
        stream: A binary file open for writing.
        skeleton: A model of :func:`pvt_onnx.graph.build.build_skeleton`.
        weights: Arrays by canonical name, with the dtypes that the skeleton was built for.
        external: A second file to keep the weights' bytes in: its path as the model is to record
            it, relative to the model's folder, and the file open for writing.

    Raises:
        ConfigError: The file would pass protobuf's limit of 2 GiB.
    """
    if not external and (size := model_size(skeleton, weights)) > MAX_BYTES:
        raise ConfigError(
            f"the model has {size} bytes: an ONNX file holds at most {MAX_BYTES}; keep the weights "
            "in a file of their own"
        )
    for piece in _graph_pieces(skeleton, weights, external[0] if external else ""):
        stream.write(piece)
    if external:
        at = 0
        for name, start in _offsets(weights).items():
            external[1].write(bytes(start - at))
            external[1].write(contents(weights[name]))
            at = start + weights[name].nbytes


def _graph_pieces(
    skeleton: "onnx.ModelProto", weights: Mapping[str, Array], location: str
) -> Iterator[bytes | memoryview]:
    """Yields the bytes of a model, with the weights inside where they have no ``location``."""
    inside = {} if location else weights
    heads = _heads(weights, location)
    yield _beginning(skeleton, heads, sum(array.nbytes for array in inside.values()))
    for name, head in heads.items():
        yield head
        if name in inside:
            yield contents(inside[name])


def _offsets(weights: Mapping[str, Array]) -> dict[str, int]:
    """Returns the byte at which each weight starts in a file of weights."""
    offsets, at = {}, 0
    for name, array in weights.items():
        offsets[name] = at + -at % ALIGNMENT
        at = offsets[name] + array.nbytes
    return offsets


def _heads(weights: Mapping[str, Array], location: str) -> dict[str, bytes]:
    """Returns a graph's initializer fields: up to the raw bytes or, with a ``location``, whole."""
    offsets = _offsets(weights)
    heads = {}
    for name, array in weights.items():
        head = b"".join(encode_header(NUMBER, dim) for dim in array.shape)
        head += encode_header(_DATA_TYPE, _TYPES[array.dtype]) + encode_field(_NAME, name.encode())
        if location:
            place = {"location": location, "offset": offsets[name], "length": array.nbytes}
            for key, value in place.items():
                pair = encode_field(FIRST, key.encode()) + encode_field(SECOND, f"{value}".encode())
                head += encode_field(_EXTERNAL_DATA, pair)
            heads[name] = encode_field(_INITIALIZER, head + encode_header(_DATA_LOCATION, 1))
        else:
            head += encode_header(_RAW_DATA, array.nbytes)
            heads[name] = encode_header(_INITIALIZER, len(head) + array.nbytes) + head
    return heads


def _beginning(skeleton: "onnx.ModelProto", heads: Mapping[str, bytes], held: int) -> bytes:
    """Returns everything of a file that comes before the initializers, which hold so many bytes."""
    graph: bytes = skeleton.graph.SerializeToString()
    rest = type(skeleton)()
    rest.CopyFrom(skeleton)
    rest.ClearField("graph")
    encoded: bytes = rest.SerializeToString()
    length = len(graph) + sum(map(len, heads.values())) + held
    return encoded + encode_header(_GRAPH, length) + graph
