"""Graphs that resize, crop and normalise images themselves: with and without that part."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from pvt_data.images.preprocessing import load_pixels
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import read_info
from pvt_onnx.engines.table import open_engine
from pvt_onnx.engines.tapped import open_tapped
from pvt_onnx.graph.layers import INPUT
from pvt_onnx.graph.preprocess import CROPPED, NORMALISED
from pvt_onnx.reading.files import load_proto
from pvt_spec import output_names
from pvt_spec.arrays import Array


def without_preprocessing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a model that takes normalised images of its own size, as other models do."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph, info = found.graph, read_info(model, "the graph")
    nodes = [node for node in graph.node if NORMALISED not in node.output]
    for node in nodes:
        node.input[:] = [INPUT if name == NORMALISED else name for name in node.input]
    kept, _ = _leading_to(nodes, {value.name for value in graph.output})
    sides: list[str | int | None] = ["batch", info.config.in_chans, *info.preprocessing.image_size]
    images = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, sides)
    del graph.node[:], graph.input[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.input.append(images)
    return found


def compare_with_pillow(path: Path, photos: Sequence[Array]) -> dict[str, float]:
    """Returns how far a graph that prepares images itself is from Pillow, in onnxruntime.

    Args:
        path: Its file.
        photos: uint8 (height, width, C).

    Returns:
        The largest and the mean difference of pixels of 0 to 255, and the largest of its answers.
    """
    model, name = load_proto(path), str(path)
    info, exact = read_info(model, name), without_preprocessing(model)
    kept = info.preprocessing
    pixels = dataclasses.replace(kept, normalise=False, rescale=1.0)
    answers = [*output_names(info.config)]
    engine = open_engine(path, name)
    forward = open_tapped(exact, name, answers, EngineOptions()).forward
    preparing = open_engine(_preparing(model).SerializeToString(), name)
    differences, gaps = [], [0.0]
    for photo in photos:
        given = {INPUT: photo[None]}
        (cropped,) = preparing.run(given, [CROPPED])
        differences.append(np.abs(cropped[0] - load_pixels(photo, pixels)))
        ours = engine.run(given, answers)
        theirs = forward(load_pixels(photo, kept)[None])
        gaps += [
            float(np.abs(array.astype(np.float32) - theirs[answer]).max())
            for answer, array in zip(answers, ours, strict=True)
        ]
    return {
        "largest_pixel": float(max(each.max() for each in differences)),
        "mean_pixel": float(np.mean([each.mean() for each in differences])),
        "largest_answer": max(gaps),
    }


def _preparing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the part of a model that prepares images, up to whole pixels."""
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    kept, needed = _leading_to(model.graph.node, {CROPPED})
    part.graph.name = "preprocessing"
    part.graph.node.extend(kept)
    part.graph.input.extend(model.graph.input)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    sides = ["batch", None, None, None]
    value = onnx.helper.make_tensor_value_info(CROPPED, onnx.TensorProto.FLOAT, sides)
    part.graph.output.append(value)
    return part


def _leading_to(
    nodes: Sequence[onnx.NodeProto], values: set[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Returns the nodes that values are made by, in order, and the names of all that they take."""
    needed, kept = {*values}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1], needed
