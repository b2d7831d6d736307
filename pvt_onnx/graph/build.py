"""From spec and weights to an ONNX model, in memory or streamed to a file.

A model's file is its skeleton (graph, constants, metadata) with the weights spliced in as raw
bytes: protobuf fields may come in any order, so weights go from where they are (a memory-mapped
checkpoint, say) to the file without a copy of the whole.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from pvt_onnx.graph.model import INPUT, ModelWriter
from pvt_spec import (
    METADATA_KEY,
    MIN_IMAGE_SIDE,
    ConfigError,
    ModelInfo,
    Numerics,
    PVTConfig,
    check_shapes,
    default_preprocessing,
    output_names,
    stage_grids,
)
from pvt_spec.arrays import Array

OPSETS = range(17, 24)
"""The opsets that can be written: LayerNormalization came with 17."""

DEFAULT_OPSET = 20
"""The first with a GELU operator."""

MAX_BYTES = 2**31 - 1
"""Protobuf's limit on the size of a model's file: see :func:`model_size`."""

ALIGNMENT = 4096
"""What offsets in a file of weights are a multiple of: a page, as ONNX advises for mapping it."""

_GRAPH_FIELD, _INITIALIZER_FIELD, _RAW_DATA_FIELD = 7, 5, 9  # onnx.proto


def build_skeleton(
    info: ModelInfo,
    dtypes: Mapping[str, np.dtype[Any]],
    *,
    image_size: tuple[int, int] | None = None,
    dynamic_size: bool = False,
    opset: int = DEFAULT_OPSET,
) -> onnx.ModelProto:
    """The whole model but for the weights' bytes.

    Args:
        info: Architecture, maths, and everything else that goes into the metadata.
        dtypes: Of each weight, by canonical name.
        image_size: (H, W) of the input in pixels; that of the preprocessing where it is None.
        dynamic_size: Leave height and width open instead. The batch is always open.
        opset: One of :data:`OPSETS`.

    Raises:
        ConfigError: The opset cannot be written, or the image is too small for four stages.
    """
    if opset not in OPSETS:
        raise ConfigError(
            f"opset {opset} cannot be written: choose {OPSETS.start} to {OPSETS.stop - 1}"
        )
    config = info.config
    size = None if dynamic_size else image_size or info.preprocessing.image_size
    if size and min(size) < MIN_IMAGE_SIDE:
        raise ConfigError(f"image size {size}: each side takes at least {MIN_IMAGE_SIDE} pixels")
    writer = ModelWriter(config, info.numerics, dtypes, size, opset)
    writer.write()
    images = ["batch", config.in_chans, *(size or ("height", "width"))]
    graph = helper.make_graph(
        writer.graph.nodes,
        info.variant or f"pvt_v{config.version}",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, images)],
        _outputs(config, info.numerics, size),
        list(writer.graph.constants.values()),
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )
    model.producer_name = "pvt_onnx"
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    return model


def _outputs(
    config: PVTConfig, numerics: Numerics, size: tuple[int, int] | None
) -> list[onnx.ValueInfoProto]:
    """The graph's outputs: of maps, height and width are named where they are dynamic."""
    names = output_names(config)
    shapes: list[list[int | str]] = [[config.num_classes or config.embed_dims[-1]]]
    if config.features_only:
        grids: list[tuple[int | str, int | str]] = [(f"{n}_height", f"{n}_width") for n in names]
        if size:
            grids = [*stage_grids(config, numerics, size)]
        shapes = [[C, *grid] for C, grid in zip(config.embed_dims, grids, strict=True)]
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in zip(names, shapes, strict=True)
    ]


def build(
    config: PVTConfig,
    numerics: Numerics,
    weights: Mapping[str, Array],
    *,
    info: ModelInfo | None = None,
    image_size: tuple[int, int] | None = None,
    dynamic_size: bool = False,
    opset: int = DEFAULT_OPSET,
) -> onnx.ModelProto:
    """A complete ONNX model in memory.

    Args:
        config: The architecture.
        numerics: The maths.
        weights: Every tensor of :func:`pvt_spec.tensor_specs`, by canonical name.
        info: What travels in the metadata; made from the first two where it is None.
        image_size: (H, W) of the input in pixels; that of the preprocessing where it is None.
        dynamic_size: Leave height and width open instead. The batch is always open.
        opset: One of :data:`OPSETS`.

    Raises:
        ConfigError: The opset cannot be written, or ``weights`` are not the configuration's.
    """
    check_shapes(config, {name: array.shape for name, array in weights.items()})
    info = info or ModelInfo(config, numerics, default_preprocessing(config, "official"))
    model = build_skeleton(
        dataclasses.replace(info, config=config, numerics=numerics),
        {name: array.dtype for name, array in weights.items()},
        image_size=image_size,
        dynamic_size=dynamic_size,
        opset=opset,
    )
    for name, array in weights.items():
        tensor = _declared(name, array)
        tensor.raw_data = array.tobytes()
        model.graph.initializer.append(tensor)
    return model


def model_size(skeleton: onnx.ModelProto, weights: Mapping[str, Array]) -> int:
    """Bytes of the one file that :func:`write` makes of a skeleton and its weights.

    Where that is over :data:`MAX_BYTES`, the weights need a second file.
    """
    heads = sum(len(_tensor_head(name, array)) for name, array in weights.items())
    rest = heads + sum(array.nbytes for array in weights.values())
    return len(_beginning(skeleton, rest)) + rest


def write(
    stream: BinaryIO,
    skeleton: onnx.ModelProto,
    weights: Mapping[str, Array],
    external: tuple[str, BinaryIO] | None = None,
) -> None:
    """Writes a skeleton with its weights as an ONNX file, one tensor at a time.

    Args:
        stream: A binary file open for writing.
        skeleton: From :func:`build_skeleton`.
        weights: By canonical name, with the dtypes that the skeleton was built for.
        external: Keep the weights' bytes in a second file: its path as the model is to record it,
            relative to the model's folder, and the file open for writing.

    Raises:
        ConfigError: The file would pass protobuf's limit of 2 GiB.
    """
    if external:
        heads = _external_heads(weights, external[0])
    else:
        heads = {name: _tensor_head(name, array) for name, array in weights.items()}
    inside = {} if external else weights
    rest = sum(map(len, heads.values())) + sum(array.nbytes for array in inside.values())
    beginning = _beginning(skeleton, rest)
    if (size := len(beginning) + rest) > MAX_BYTES:
        raise ConfigError(
            f"the model has {size} bytes: an ONNX file holds at most {MAX_BYTES}; keep the weights "
            "in a file of their own"
        )
    stream.write(beginning)
    for name, head in heads.items():
        stream.write(head)
        if name in inside:
            stream.write(_contents(inside[name]))
    if external:
        _write_aligned(external[1], weights)


def _write_aligned(stream: BinaryIO, weights: Mapping[str, Array]) -> None:
    at = 0
    for array in weights.values():
        stream.write(bytes(-at % ALIGNMENT))
        stream.write(_contents(array))
        at += -at % ALIGNMENT + array.nbytes


def _external_heads(weights: Mapping[str, Array], location: str) -> dict[str, bytes]:
    """Graph's initializer fields that say where :func:`_write_aligned` puts the bytes."""
    heads, at = {}, 0
    for name, array in weights.items():
        tensor = _declared(name, array)
        tensor.data_location = TensorProto.EXTERNAL
        at += -at % ALIGNMENT
        place = {"location": location, "offset": str(at), "length": str(array.nbytes)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        encoded = tensor.SerializeToString()
        heads[name] = _tag(_INITIALIZER_FIELD) + _varint(len(encoded)) + encoded
        at += array.nbytes
    return heads


def _beginning(skeleton: onnx.ModelProto, rest: int) -> bytes:
    """Everything of a model's file that comes before ``rest`` bytes of initializers."""
    graph: bytes = skeleton.graph.SerializeToString()
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    model.ClearField("graph")
    encoded: bytes = model.SerializeToString()
    return encoded + _tag(_GRAPH_FIELD) + _varint(len(graph) + rest) + graph


def _contents(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _declared(name: str, array: Array) -> onnx.TensorProto:
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=dtype)


def _tensor_head(name: str, array: Array) -> bytes:
    """Everything of a graph's initializer field that comes before the raw bytes."""
    head: bytes = _declared(name, array).SerializeToString()
    head += _tag(_RAW_DATA_FIELD) + _varint(array.nbytes)
    return _tag(_INITIALIZER_FIELD) + _varint(len(head) + array.nbytes) + head


def _tag(field: int) -> bytes:
    """Of a length-delimited protobuf field."""
    return _varint(field << 3 | 2)


def _varint(value: int) -> bytes:
    return bytes(_varint_bytes(value))


def _varint_bytes(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
