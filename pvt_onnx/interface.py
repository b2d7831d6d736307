"""What a graph has to be before it is run: what its metadata says, of operators that end."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from pvt_onnx.files import OnnxFileError
from pvt_onnx.graph.model import INPUT
from pvt_spec import ModelInfo, PVTConfig, output_names
from pvt_spec.arrays import Array
from pvt_spec.config import PATCH_STRIDES
from pvt_spec.words import listed, shortened, show

NODES_OF_A_BLOCK, MAX_NODES = 500, 30_000
"""Most nodes of a graph for each block of the model and four more, and most of any: engines take a
second or more for each 10,000. Ours have some 40 to 70, quantised ones five times as many.
"""

MAX_GROWTH, SMALL = 16, 1 << 22
"""How many times the values of a PVT's largest intermediate result, beside so many, a graph's may
have for one image."""

_CONSTANT = 4096  # bytes of an initializer that may be a shape
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_AGAIN = "write it again with convert"


@contextmanager
def reporting(name: str, problem: str) -> Iterator[None]:
    """Tells what a library raises on a strange model: neither onnx nor onnxruntime says what.

    Args:
        name: The model's name in the error.
        problem: The words for what cannot be done.

    Raises:
        OnnxFileError: Anything but an error of ours was raised.
    """
    try:
        yield
    except OnnxFileError:
        raise
    except Exception as error:
        reason = shortened(" ".join(str(error).split()) or type(error).__name__, 300)
        raise OnnxFileError(f"{name}: {problem} ({reason}); {_AGAIN}") from error


def check_graph(
    model: onnx.ModelProto, info: ModelInfo, name: str, size: tuple[int, int] | None = None
) -> None:
    """Refuses a graph that does not take images and answer as its metadata says, or may not end.

    Args:
        model: The model; values of large weights are not looked at.
        info: What its metadata says.
        name: Its name in the error.
        size: The (H, W) in pixels of what it will be given; None where any may be.

    Raises:
        OnnxFileError: It is such a graph: all that is wrong with it.
    """
    with reporting(name, "its graph cannot be read"):
        problems = [*_interface_problems(model.graph, info.config, size)]
        problems += _loops(model, sum(info.config.depths))
        if not problems:
            problems = [*_large_values(model, info.config, size or info.preprocessing.image_size)]
    if problems:
        raise OnnxFileError(f"{name}: {listed(problems, 4)}; {_AGAIN}")


def _interface_problems(
    graph: onnx.GraphProto, config: PVTConfig, size: tuple[int, int] | None
) -> Iterator[str]:
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if [value.name for value in inputs] != [INPUT]:
        found = listed([value.name for value in inputs], 4, show) or "nothing"
        yield f"its graph takes {found}, expected {INPUT} alone"
    else:
        yield from _value_problems(inputs[0], [None, config.in_chans, *(size or (None, None))])
    outputs = {value.name: value for value in graph.output}
    dims = config.embed_dims
    for name, stage_dim in zip(output_names(config), dims, strict=False):
        shape: list[int | None] = [None, config.num_classes or dims[-1]]
        if config.features_only:
            shape = [None, stage_dim, None, None]
        if name in outputs:
            yield from _value_problems(outputs[name], shape)
        else:
            found = listed([*outputs], 4, show) or "nothing"
            yield f"its graph answers {found}, expected {name}"


def _value_problems(value: onnx.ValueInfoProto, expected: Sequence[int | None]) -> Iterator[str]:
    """Yields what is wrong with an input or output; None stands for any number."""
    held = value.type.tensor_type
    if held.elem_type != TensorProto.FLOAT:
        known = held.elem_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(held.elem_type).lower() if known else held.elem_type
        yield f"{value.name} is of {kind}, expected float"
    if not held.HasField("shape"):
        return
    shape = [dim.dim_value or None for dim in held.shape.dim]
    fits = len(shape) == len(expected) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True)
    )
    if not fits:
        found, wanted = (
            "(" + ", ".join("any" if side is None else str(side) for side in sides) + ")"
            for sides in (shape, expected)
        )
        yield f"{value.name} is {found} in its graph and {wanted} by its metadata"


def _loops(model: onnx.ModelProto, blocks: int) -> Iterator[str]:
    """Yields what may run for any time: loops are nodes that hold a graph; functions hide them."""
    most = min(MAX_NODES, NODES_OF_A_BLOCK * (blocks + 4))
    if model.functions:
        yield f"its graph has {len(model.functions)} functions of its own, expected operators alone"
    if len(model.graph.node) > most:
        yield f"its graph has {len(model.graph.node)} nodes, expected at most {most}"
        return
    for node in model.graph.node:
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            yield f"its graph has a node {show(node.op_type)} that runs another graph"
            return


def _large_values(
    model: onnx.ModelProto, config: PVTConfig, size: tuple[int, int]
) -> Iterator[str]:
    """Yields a value that takes far more memory than any of a PVT, where shapes tell it."""
    most = MAX_GROWTH * _most_values(config, size) + SMALL
    inferred = onnx.shape_inference.infer_shapes(_skeleton(model, config, size), data_prop=True)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        count = math.prod(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        if count > most:
            yield f"{show(value.name)} has {count} values for an image, expected at most {most}"
            return


def _most_values(config: PVTConfig, size: tuple[int, int]) -> int:
    """Returns how many values the largest intermediate result of a PVT has for an image."""
    (H, W), most = size, 0
    for stage, stride in enumerate(PATCH_STRIDES):
        H, W = max(1, H // stride), max(1, W // stride)
        ratio = 1 if config.linear else config.sr_ratios[stage]
        keys = 49 if config.linear else max(1, H // ratio) * max(1, W // ratio) + 1
        wide = config.embed_dims[stage] * max(3, config.mlp_ratios[stage])
        most = max(most, (H * W + 1) * max(wide, config.num_heads[stage] * keys))
    return max(most, config.in_chans * size[0] * size[1])


def _skeleton(model: onnx.ModelProto, config: PVTConfig, size: tuple[int, int]) -> onnx.ModelProto:
    """Returns a model for one image of this size, without the values of its weights."""
    found = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = found.graph
    graph.node.extend(model.graph.node)
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    shape = [1, config.in_chans, *size]
    graph.input.append(onnx.helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _CONSTANT:
            graph.initializer.append(tensor)
        else:
            kind, dims = tensor.data_type, tensor.dims
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, dims))
    return found


def check_files(model: onnx.ModelProto, path: Path) -> None:
    """Refuses weights that are kept where a model may not keep them.

    Args:
        model: The model, without the weights that it keeps elsewhere.
        path: Its file.

    Raises:
        OnnxFileError: They are outside the model's folder, or in no file.
    """
    folder = path.parent.resolve()
    with reporting(str(path), "where it keeps its weights cannot be read"):
        tensors = [*model.graph.initializer]
        tensors += [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
        places = {
            entry.value
            for tensor in tensors
            for entry in tensor.external_data
            if entry.key == "location"
        }
        for place in sorted(places):
            found = (folder / place).resolve()
            if not found.is_relative_to(folder) or not found.is_file():
                raise OnnxFileError(
                    f"{path}: it keeps weights in {show(place)}, expected a file in its folder: "
                    "put both there, or write it again with convert"
                )


def checked_answers(
    run: Callable[[Array], Sequence[Array]], names: Sequence[str], config: PVTConfig, name: str
) -> Callable[[Array], dict[str, Array]]:
    """Returns a forward pass whose answers are what they should be, or one error.

    Args:
        run: What runs a model on images, and answers its outputs.
        names: The outputs' names.
        config: The model's.
        name: The model's name in the error.
    """
    answered = output_names(config)

    def checked(images: Array) -> dict[str, Array]:
        with reporting(name, f"it cannot be run on images {images.shape}"):
            found = dict(zip(names, run(images), strict=True))
            for tap, array in found.items():
                if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                    kind = getattr(array, "dtype", type(array).__name__)
                    raise OnnxFileError(f"{name}: {tap} is of {kind}, expected float; {_AGAIN}")
                shape: tuple[int, ...] = array.shape[:2]
                expected = (len(images), config.num_classes or config.embed_dims[-1])
                if config.features_only and tap in answered:
                    expected = (len(images), config.embed_dims[answered.index(tap)])
                rank = 4 if config.features_only else 2
                if tap in answered and (array.ndim != rank or shape != expected):
                    raise OnnxFileError(
                        f"{name}: {tap} is {array.shape}, expected {expected} first of {rank} "
                        f"dimensions; {_AGAIN}"
                    )
            return found

    return checked
