"""From spec and weights to an ONNX model, in memory or streamed to a file.

A model's file is its skeleton (graph, constants, metadata) with the weights spliced in as raw
bytes: protobuf fields may come in any order, so weights go from where they are (a memory-mapped
checkpoint, say) to the file without a copy of the whole. May import onnx, numpy and pvt_spec.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from pvt_onnx.model import INPUT, ModelWriter
from pvt_spec import (
    METADATA_KEY,
    MIN_IMAGE_SIDE,
    ConfigError,
    ModelInfo,
    Numerics,
    PVTConfig,
    check_shapes,
    default_preprocessing,
    output_name,
)
from pvt_spec.arrays import Array

OPSETS = range(17, 24)
"""The opsets that can be written: LayerNormalization came with 17."""

DEFAULT_OPSET = 20
"""The first with a GELU operator."""

_MAX_BYTES = 2**31 - 1
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
    output = output_name(config)
    width = config.num_classes or config.embed_dims[-1]
    images = ["batch", config.in_chans, *(size or ("height", "width"))]
    graph = helper.make_graph(
        writer.graph.nodes,
        info.variant or f"pvt_v{config.version}",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
        list(writer.graph.constants.values()),
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )
    model.producer_name = "pvt_onnx"
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    return model


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
        info,
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


def write(stream: BinaryIO, skeleton: onnx.ModelProto, weights: Mapping[str, Array]) -> None:
    """Writes a skeleton with its weights as an ONNX file, one tensor at a time.

    Args:
        stream: A binary file open for writing.
        skeleton: From :func:`build_skeleton`.
        weights: By canonical name, with the dtypes that the skeleton was built for.

    Raises:
        ConfigError: The file would pass protobuf's limit of 2 GiB.
    """
    graph = skeleton.graph.SerializeToString()
    heads = {name: _tensor_head(name, array) for name, array in weights.items()}
    size = len(graph) + sum(len(h) + weights[n].nbytes for n, h in heads.items())
    rest = onnx.ModelProto()
    rest.CopyFrom(skeleton)
    rest.ClearField("graph")
    model = rest.SerializeToString()
    if size + len(model) > _MAX_BYTES:
        raise ConfigError(f"the model has {size} bytes: an ONNX file holds at most {_MAX_BYTES}")
    stream.write(model + _tag(_GRAPH_FIELD) + _varint(size) + graph)
    for name, array in weights.items():
        stream.write(heads[name])
        stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


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
