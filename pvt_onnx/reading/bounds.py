"""How long a graph may run and how much memory it may take, as far as that can be told before."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto

from pvt_onnx.reading.files import SIZES_BYTES, OnnxFileError
from pvt_onnx.reading.shapes import Shapes, find_shapes
from pvt_onnx.reading.work import in_order, is_known, work_of
from pvt_spec import Numerics, PVTConfig
from pvt_spec.arrays import Array
from pvt_spec.config import PATCH_STRIDES, image_size_problems
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.macs import count_macs
from pvt_spec.words import show

NODES_OF_A_BLOCK, MAX_NODES = 500, 30_000
"""Most nodes of a graph for each block of the model and four more, and most of any: engines take a
second or more for each 10,000. Ours have some 40 to 70, quantised ones five times as many.
"""

MAX_GROWTH, SMALL = 16, 1 << 22
"""How many times the values of a PVT's largest intermediate result, beside so many, a graph may
hold at a time for one image; and how many times its multiplications it may need."""

MAX_RESULTS = 100
"""How many times the values of the largest result, for each block, all results may have."""

MAX_RESULT = 1 << 29
"""Values of a PVT's largest intermediate result for one image, 2 GiB: that of a pvt_tiny at 1,700
pixels."""

MAX_BATCH = 64
"""Images in a graph that takes so many at a time, for which it may take as many times as much."""

_SIZES: Mapping[str, Sequence[int]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
"""The inputs by which an operator decides how large its answer is, by their places."""

_MEASURING = frozenset({"Shape", "Size"})
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def loops(model: onnx.ModelProto, blocks: int) -> Iterator[str]:
    """Yields what may run for any time: loops are nodes that hold a graph; functions hide them.

    And what may take any memory once it is read: sparse tensors, which engines make dense.
    """
    most = min(MAX_NODES, NODES_OF_A_BLOCK * (blocks + 4))
    if model.functions:
        yield f"its graph has {len(model.functions)} functions of its own, expected operators alone"
    if sparse := model.graph.sparse_initializer:
        yield f"its graph has sparse tensors ({show(sparse[0].values.name)}), expected dense ones"
    if len(model.graph.node) > most:
        yield f"its graph has {len(model.graph.node)} nodes, expected at most {most}"
        return
    for node in model.graph.node:
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            yield f"its graph has a node {show(node.op_type)} that runs another graph"
            return
    for node in model.graph.node:
        if not is_known(node):
            called = show(".".join(filter(None, (node.domain, node.op_type))))
            yield f"its graph has a node {called}, whose work cannot be told and no PVT has"
            return


def check_images(
    images: Array,
    config: PVTConfig,
    sides: tuple[int | None, int | None],
    name: str,
    *,
    resized: bool = False,
    pixels: bool = False,
) -> None:
    """Refuses images that a graph does not take, before an engine sees them.

    Args:
        images: What should be float32 (B, in_chans, H, W), or uint8.
        config: The model's architecture.
        sides: The (H, W) in pixels that the graph takes; None for any.
        name: The model's name in the error.
        resized: Whether the graph resizes them itself.
        pixels: Whether it takes pixels: these may be uint8.

    Raises:
        OnnxFileError: They are something else.
        RuntimeUnusable: They are of another size, or one that no model takes.
    """
    expected = ", ".join(("B", str(config.in_chans), *(str(s or "any") for s in sides)))
    found = getattr(images, "shape", None), getattr(images, "dtype", None)
    right = found[1] == np.float32 or (pixels and found[1] == np.uint8)
    wrong = not right or len(images.shape) != 4 or images.shape[1] != config.in_chans
    if wrong or not len(images):
        more = ", or uint8, their pixels" if pixels else ""
        raise OnnxFileError(
            f"{name}: takes float32 ({expected}), images that are normalised{more}; got {found[1]} "
            f"{found[0]}"
        )
    size = images.shape[2:]
    check_size(size, sides, name)
    problems = () if resized else (*image_size_problems(size), *_too_large(config, size))
    for problem in problems:
        raise RuntimeUnusable(f"{name}: {problem}")


def check_size(size: tuple[int, ...], sides: tuple[int | None, int | None], name: str) -> None:
    """Refuses images of another size than a graph takes.

    Args:
        size: The (H, W) in pixels of the images.
        sides: Those of the graph; None for any.
        name: The model's name in the error.

    Raises:
        RuntimeUnusable: It is another one.
    """
    if any(side not in (None, given) for side, given in zip(sides, size, strict=True)):
        own = "x".join(str(side or "any") for side in sides)
        raise RuntimeUnusable(
            f"{name}: its graph is for images of {own}, asked for {size[0]}x{size[1]}: write one "
            "for any size with convert … --dynamic-size, or for this one with --image-size"
        )


def large_values(
    model: onnx.ModelProto,
    config: PVTConfig,
    numerics: Numerics,
    size: tuple[int, int],
    images: onnx.ValueInfoProto,
) -> Iterator[str]:
    """Yields what takes far more memory or time than a PVT does, where shapes tell it.

    Args:
        model: The model.
        config: The architecture that its metadata says.
        numerics: Its maths.
        size: The (H, W) in pixels of what it will be given.
        images: Its input as it is for one image of that size.
    """
    if problems := [*_too_large(config, size)]:
        yield from problems
        return
    largest = _most_values(config, size)
    nodes = in_order(model.graph.node)
    yield from _sizes_of_values(nodes, images.name)
    shapes, untold = find_shapes(_skeleton(model, nodes, images))
    for node in untold[:1]:
        found = ", ".join(map(show, node.output[:1]))
        yield f"how large {found} ({show(node.op_type)}) becomes cannot be told"
    batch = min(MAX_BATCH, images.type.tensor_type.shape.dim[0].dim_value)
    # Weights that are kept as integers are as many floats, which the file's own size bounds.
    kept = {tensor.name for tensor in model.graph.initializer}
    once = {
        node.input[0]: math.prod(shapes.get(node.output[0], [1]))
        for node in nodes
        if node.op_type == "DequantizeLinear" and node.input[0] in kept
    }
    weights = sum(once.values())
    most = batch * MAX_GROWTH * largest + SMALL + weights
    for output, count in _held(nodes, shapes, images.name):
        if count > most:
            yield f"with {show(output)} it holds {count} values, expected at most {most}"
            break
    results = sum(math.prod(shapes.get(output, [1])) for output in _outputs(nodes))
    most = batch * MAX_RESULTS * sum(config.depths) * largest + MAX_GROWTH * SMALL + weights
    if results > most:
        yield f"its results have {results} values in all, expected at most {most}"
    products = sum(work_of(node, shapes).products for node in nodes)
    most = batch * MAX_GROWTH * (count_macs(config, numerics, size) + SMALL * MAX_GROWTH)
    if products > most:
        yield f"its products take {products} multiplications, expected at most {most}"


def _sizes_of_values(nodes: Sequence[onnx.NodeProto], images: str) -> Iterator[str]:
    """Yields a result whose size is decided by what is in an image, and so told by no shape."""
    seen = {images}
    for node in nodes:
        places = _SIZES.get(node.op_type, ())
        deciding = [node.input[place] for place in places if place < len(node.input)]
        if not seen.isdisjoint(deciding):
            found = ", ".join(map(show, node.output[:1]))
            yield f"how large {found} ({node.op_type}) becomes depends on what is in an image"
            return
        if node.op_type not in _MEASURING and not seen.isdisjoint(node.input):
            seen.update(filter(None, node.output))  # what is left out has no name


def _outputs(nodes: Sequence[onnx.NodeProto]) -> Iterator[str]:
    return (output for node in nodes for output in node.output)


def _held(
    nodes: Sequence[onnx.NodeProto], shapes: Shapes, images: str
) -> Iterator[tuple[str, int]]:
    """Yields each result with how many values there are until it is: the images, those that are
    still used, and what its operator holds.
    """
    last = {value: place for place, node in enumerate(nodes) for value in node.input}
    ending: dict[int, list[str]] = {}
    for node in nodes:
        for output in node.output:
            ending.setdefault(last.get(output, len(nodes)), []).append(output)
    held = math.prod(shapes.get(images, [1]))
    for place, node in enumerate(nodes):
        for output in node.output:
            held += math.prod(shapes.get(output, [1]))
            yield output, held + work_of(node, shapes).held
        held -= sum(math.prod(shapes.get(value, [1])) for value in ending.get(place, ()))


def _too_large(config: PVTConfig, size: tuple[int, ...]) -> Iterator[str]:
    largest = _most_values(config, size)
    if largest > MAX_RESULT:
        yield (
            f"images of {size[0]}x{size[1]} make {largest:,} values at a time, expected at most "
            f"{MAX_RESULT:,}"
        )


def _most_values(config: PVTConfig, size: tuple[int, ...]) -> int:
    """Returns how many values the largest intermediate result of a PVT has for an image."""
    (H, W), most = size, 0
    for stage, stride in enumerate(PATCH_STRIDES):
        H, W = max(1, H // stride), max(1, W // stride)
        ratio = 1 if config.linear else config.sr_ratios[stage]
        keys = 49 if config.linear else max(1, H // ratio) * max(1, W // ratio) + 1
        wide = config.embed_dims[stage] * max(3, config.mlp_ratios[stage])
        most = max(most, (H * W + 1) * max(wide, config.num_heads[stage] * keys))
    return max(most, config.in_chans * size[0] * size[1])


def _skeleton(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], images: onnx.ValueInfoProto
) -> onnx.ModelProto:
    """Returns a model of operators that takes these images alone, without its weights' values."""
    found = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = found.graph
    graph.node.extend(nodes)
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    graph.input.append(images)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= SIZES_BYTES and (tensor.raw_data or not tensor.external_data):
            graph.initializer.append(tensor)
            del graph.initializer[-1].external_data[:]
            graph.initializer[-1].ClearField("data_location")
        else:
            kind, dims = tensor.data_type, tensor.dims
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, dims))
    return found
