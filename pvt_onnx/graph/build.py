"""An ONNX model from spec and weights, whole or as a skeleton: all of it but the weights.

How a skeleton and its weights become a file is known to :mod:`convert.formats.onnx.encoding`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from pvt_onnx.graph.layers import BATCH, INPUT, stored_shape
from pvt_onnx.graph.model import ModelWriter
from pvt_onnx.graph.preprocess import check_embeddable
from pvt_onnx.targets import EMBEDDED_KEY, TARGET_KEY, Target, choose_opset, find_target
from pvt_spec import (
    METADATA_KEY,
    MIN_IMAGE_SIDE,
    ConfigError,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    output_names,
    stage_grids,
    tensor_specs,
)
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array, as_arrays
from pvt_spec.hashes import GRAPH_KEY, GRAPH_PARTS, PRECISION_KEY, PartsHash, encode_maths
from pvt_spec.precisions import FLOAT16, FLOAT32
from pvt_spec.tensors import check_weights


def build_skeleton(
    info: ModelInfo,
    dtypes: Mapping[str, np.dtype[Any]],
    *,
    image_size: tuple[int, int] | None = None,
    dynamic_size: bool = False,
    opset: int | None = None,
    target: str | Target | None = None,
    uint8: bool = False,
    precision: str = FLOAT32,
    half_ends: bool = False,
    embed: bool = False,
) -> onnx.ModelProto:
    """Returns the whole model but for the weights' bytes.

    Args:
        info: The architecture, the maths, and everything else that goes into the metadata.
        dtypes: The dtype of each weight, by canonical name.
        image_size: The (H, W) of the input in pixels; that of the preprocessing where it is None.
        dynamic_size: Whether height and width are left open instead. The batch always is.
        opset: One of the target's opsets; None for its own.
        target: The name of what it is for, one of
            :data:`pvt_onnx.targets.TARGETS`; None for the first.
        uint8: Whether it takes pixels (B, H, W, C) of 0 to 255 and normalises them itself.
        precision: What it computes in: float16 but for norms, softmax and their like.
        half_ends: Whether what goes in and comes out of a graph in float16 is so too.
        embed: Whether it takes pixels (B, height, width, C) of any size, and resizes and crops
            them itself too.

    Raises:
        ConfigError: The target is none, or has no such graph; or the image is too small for four
            stages.
    """
    form = find_target(target)
    opset = choose_opset(form, opset, dynamic_size, uint8, precision, embed)
    if embed:
        check_embeddable(info.preprocessing)
    half = precision == FLOAT16
    half_ends = half and half_ends
    config = info.config
    size = None if dynamic_size else image_size or info.preprocessing.image_size
    if size and min(size) < MIN_IMAGE_SIDE:
        raise ConfigError(f"image size {size}: each side takes at least {MIN_IMAGE_SIDE} pixels")
    writer = ModelWriter(config, info.numerics, dtypes, size, opset, form, half)
    pixels = uint8 or embed
    writer.write(info.preprocessing if pixels else None, half_ends, embed)
    sides = size or ("height", "width")
    images = [BATCH, config.in_chans, *sides]
    if pixels:
        given = ("height", "width") if embed else sides
        images = [BATCH, *given, config.in_chans]
    ends = TensorProto.FLOAT16 if half_ends else TensorProto.FLOAT
    kind = TensorProto.UINT8 if pixels else ends
    flows = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        writer.graph.nodes,
        info.variant or f"pvt_v{config.version}",
        [helper.make_tensor_value_info(INPUT, kind, images)],
        _outputs(config, info.numerics, size, ends),
        list(writer.graph.constants.values()),
        doc_string=_described(info, pixels, embed),
        value_info=[
            helper.make_tensor_value_info(name, flows, shape)
            for name, shape in writer.graph.shapes.items()
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )
    model.producer_name = "pvt_onnx"
    model.doc_string = graph.doc_string
    text = info.to_json()
    graph_hash = hash_graph(model, text)
    said = {METADATA_KEY: text, GRAPH_KEY: graph_hash, TARGET_KEY: form.name}
    said |= {PRECISION_KEY: precision} if half else {}
    said |= {EMBEDDED_KEY: "resize, crop, normalise"} if embed else {}
    helper.set_model_props(model, said)
    return model


def _described(info: ModelInfo, pixels: bool, embed: bool) -> str:
    """Returns what a model is given and answers, for whoever looks at its graph."""
    kept = info.preprocessing
    given = f"images of mean {kept.mean} and standard deviation {kept.std}, channels first"
    if pixels:
        given = f"pixels of 0 to 255, channels last, {'of any' if embed else 'of the right'} size"
    variant = info.variant or f"a PVT of version {info.config.version}"
    names = ", ".join(output_names(info.config))
    return f"{variant}, profile {info.profile}: {INPUT} are {given}; answers {names}"


def as_initializers(
    config: PVTConfig, weights: Mapping[str, Array], target: str | Target | None = None
) -> dict[str, Array]:
    """Returns the weights in the shapes that a model's initializers have; no value is copied."""
    form = find_target(target)
    shapes = {spec.name: stored_shape(spec, form) for spec in tensor_specs(config)}
    return {name: array.reshape(shapes[name]) for name, array in weights.items()}


def as_halves(config: PVTConfig, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the weights that a graph in float16 holds: those of norms are as they were."""
    norms = {spec.name for spec in tensor_specs(config) if spec.kind == "norm"}
    with np.errstate(over="ignore"):
        return {
            name: array if name in norms else array.astype(np.float16, copy=False)
            for name, array in weights.items()
        }


def hash_graph(model: onnx.ModelProto, written: str) -> str:
    """Returns the hash of what a graph computes, whatever its weights are.

    Args:
        model: The model.
        written: What its metadata says: :meth:`pvt_spec.ModelInfo.to_json`.
    """
    graph, digest = model.graph, PartsHash(GRAPH_PARTS)
    constants = (tensor for tensor in graph.initializer if "/" in tensor.name)
    parts: dict[str, Iterable[Any]] = {
        "node": graph.node,
        "constant": sorted(constants, key=lambda tensor: str(tensor.name)),
        "input": graph.input,
        "output": graph.output,
        "opset": model.opset_import,
        "function": model.functions,
    }
    for kind, held in parts.items():
        for part in held:
            digest.add(kind, part.SerializeToString())
    digest.add("description", encode_maths(written))
    return digest.hexdigest()


def _outputs(
    config: PVTConfig, numerics: Numerics, size: tuple[int, int] | None, kind: int
) -> list[onnx.ValueInfoProto]:
    """Returns the graph's outputs: of maps, height and width are named where they are dynamic."""
    names = output_names(config)
    shapes: list[list[int | str]] = [[config.num_classes or config.embed_dims[-1]]]
    if config.features_only:
        grids: list[tuple[int | str, int | str]] = [(f"{n}_height", f"{n}_width") for n in names]
        if size:
            grids = [*stage_grids(config, numerics, size)]
        shapes = [[C, *grid] for C, grid in zip(config.embed_dims, grids, strict=True)]
    return [
        helper.make_tensor_value_info(name, kind, [BATCH, *shape])
        for name, shape in zip(names, shapes, strict=True)
    ]


@checked
def build(
    config: PVTConfig,
    numerics: Numerics,
    weights: Mapping[str, Array],
    *,
    info: ModelInfo | None = None,
    image_size: tuple[int, int] | None = None,
    dynamic_size: bool = False,
    opset: int | None = None,
    target: str | Target | None = None,
    uint8: bool = False,
    precision: str = FLOAT32,
    half_ends: bool = False,
    embed: bool = False,
) -> onnx.ModelProto:
    """Returns a complete ONNX model in memory.

    Args:
        config: The architecture.
        numerics: The maths.
        weights: Every tensor of :func:`pvt_spec.tensor_specs`, by canonical name.
        info: The ModelInfo for the metadata; made from the first two where it is None.
        image_size: The (H, W) of the input in pixels; that of the preprocessing where it is None.
        dynamic_size: Whether height and width are left open instead. The batch always is.
        opset: One of the target's opsets; None for its own.
        target: The name of what it is for, one of
            :data:`pvt_onnx.targets.TARGETS`; None for the first.
        uint8: Whether it takes pixels (B, H, W, C) of 0 to 255 and normalises them itself.
        precision: What it computes in: float16 but for norms, softmax and their like.
        half_ends: Whether what goes in and comes out of a graph in float16 is so too.
        embed: Whether it takes pixels (B, height, width, C) of any size, and resizes and crops
            them itself too.

    Raises:
        ConfigError: The target is none, or has no such graph; or ``weights`` are not the
            configuration's.
    """
    weights = as_arrays(weights)
    check_weights(config, weights)
    if precision == FLOAT16:
        weights = as_halves(config, weights)
    info = info or ModelInfo(config, numerics, default_preprocessing(config, "official"))
    model = build_skeleton(
        # The hashes that it has may be of other weights.
        dataclasses.replace(info, config=config, numerics=numerics, hashes={}),
        {name: array.dtype for name, array in weights.items()},
        image_size=image_size,
        dynamic_size=dynamic_size,
        opset=opset,
        target=target,
        uint8=uint8,
        precision=precision,
        half_ends=half_ends,
        embed=embed,
    )
    for name, array in as_initializers(config, weights, target).items():
        model.graph.initializer.add(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            raw_data=array.tobytes(),
        )
    return model
