"""The bytes of an ``.onnx``: its graph, then its weights, one after the other."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from convert.formats.onnx.layout import (
    ALIGNMENT,
    DATA_LOCATION,
    DATA_TYPE,
    EXTERNAL_DATA,
    GRAPH,
    INITIALIZER,
    MAX_BYTES,
    NAME,
    RAW_DATA,
    TYPES,
)
from convert.formats.weight_file import contents
from pvt_spec import ConfigError
from pvt_spec.arrays import Array
from pvt_spec.files.wire import FIRST, NUMBER, SECOND, encode_field, encode_header

if TYPE_CHECKING:
    import onnx


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
    for piece in graph_pieces(skeleton, weights, external[0] if external else ""):
        stream.write(piece)
    if external:
        at = 0
        for name, start in _offsets(weights).items():
            external[1].write(bytes(start - at))
            external[1].write(contents(weights[name]))
            at = start + weights[name].nbytes


def graph_pieces(
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
        head += encode_header(DATA_TYPE, TYPES[array.dtype]) + encode_field(NAME, name.encode())
        if location:
            place = {"location": location, "offset": offsets[name], "length": array.nbytes}
            for key, value in place.items():
                pair = encode_field(FIRST, key.encode()) + encode_field(SECOND, f"{value}".encode())
                head += encode_field(EXTERNAL_DATA, pair)
            heads[name] = encode_field(INITIALIZER, head + encode_header(DATA_LOCATION, 1))
        else:
            head += encode_header(RAW_DATA, array.nbytes)
            heads[name] = encode_header(INITIALIZER, len(head) + array.nbytes) + head
    return heads


def _beginning(skeleton: "onnx.ModelProto", heads: Mapping[str, bytes], held: int) -> bytes:
    """Returns everything of a file that comes before the initializers, which hold so many bytes."""
    graph: bytes = skeleton.graph.SerializeToString()
    rest = type(skeleton)()
    rest.CopyFrom(skeleton)
    rest.ClearField("graph")
    encoded: bytes = rest.SerializeToString()
    length = len(graph) + sum(map(len, heads.values())) + held
    return encoded + encode_header(GRAPH, length) + graph
