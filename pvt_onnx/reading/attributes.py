"""What the nodes and initializers of a graph hold, as :mod:`pvt_spec.attributes` names it."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from pvt_onnx.reading.floats import Constant, FloatGraph, given
from pvt_onnx.targets import LINEAR
from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes, conv_attributes


def read_attributes(graph: FloatGraph) -> tuple[Attributes, dict[str, Array]]:
    """Returns the attributes of every layer of a graph of :mod:`pvt_onnx.graph`.

    And how far apart the numbers are that they can be, of those that are constants of few digits.
    """
    constants = graph.constants
    made_by = {output: node for node in graph.nodes for output in node.output}
    attributes: Attributes = {}
    steps: dict[str, Array] = {}
    for node in graph.nodes:
        found = _node_attributes(node, constants, made_by)
        attributes |= found
        held = constants.get(node.input[1]) if len(node.input) > 1 else None
        if held and found and node.op_type in ("Add", "Mul"):
            step = held.step()
            steps |= {} if step is None else dict.fromkeys(found, step.max())
    for name, constant in constants.items():
        if name.startswith("pos_embed") and "/" not in name and not constant.read_step:
            # What is kept as bfloat16 is widened, which rounds nothing: it is as good as float32.
            half = constant.read().dtype == np.float16
            half |= f"{name}/float16" in made_by
            attributes[f"{name}.dtype"] = "float16" if half else "float32"
    return attributes, steps


def _node_attributes(
    node: onnx.NodeProto,
    constants: Mapping[str, Constant],
    made_by: Mapping[str, onnx.NodeProto],
) -> Attributes:
    layer = node.input[1].split("/")[0].removesuffix(".weight") if len(node.input) > 1 else ""
    output = node.output[0]
    if node.op_type == "LayerNormalization":
        return {f"{layer}.epsilon": np.float32(float(given(node, "epsilon", 1e-5)))}
    if node.op_type == "Add" and output.endswith("/stable") and node.input[1] in constants:
        epsilon = constants[node.input[1]].read().reshape(-1)[0]
        return {f"{output.removesuffix('/stable')}.epsilon": np.float32(epsilon)}
    if node.op_type == "Gelu":
        form = given(node, "approximate", "none")
        return {f"{output}.gelu": "erf" if form == "none" else form}
    if node.op_type in ("Erf", "Tanh"):
        return {f"{output.split('/')[0]}.gelu": node.op_type.lower()}
    if node.op_type == "Resize":
        rule = given(node, "coordinate_transformation_mode", "half_pixel")
        return {f"pos_{output.split('/')[0]}.resize": rule}
    if node.op_type == "Mul" and output.endswith(".attn.scaled") and node.input[1] in constants:
        scale = constants[node.input[1]].read().reshape(-1)[0]
        return {f"{output.removesuffix('.scaled')}.scale": np.float32(scale)}
    if node.op_type == "Reshape" and output.endswith((".attn.q", ".attn.q/heads")):
        shape = _shape(node.input[1], constants, made_by)
        # (B, 1, N, head_dim) of one head, else (B, N, heads, head_dim).
        heads = shape[2] if output.endswith("/heads") else shape[1]
        return {f"{output.split('.q')[0]}.heads": heads}
    if node.op_type == "Conv" and f"{layer}.weight" in constants:
        return _conv_attributes(node, layer, constants[f"{layer}.weight"].dims)
    return {}


def _conv_attributes(node: onnx.NodeProto, layer: str, dims: Sequence[int]) -> Attributes:
    if layer.endswith(LINEAR):
        return {}  # a linear layer, of which nothing is to be known
    strides, dilations = given(node, "strides", 1), given(node, "dilations", 1)
    auto, pads = given(node, "auto_pad", "NOTSET"), given(node, "pads", 0)
    padding = {"SAME_UPPER": "same", "NOTSET": pads}.get(auto, auto.lower())
    return conv_attributes(layer, dims[2], strides, dilations, given(node, "group", 1), padding)


def _shape(
    name: str,
    constants: Mapping[str, Constant],
    made_by: Mapping[str, onnx.NodeProto],
) -> list[int | None]:
    """Returns the numbers of a shape, a constant or put together; None where one is computed."""
    if name in constants:
        return list(constants[name].read().tolist())
    node = made_by.get(name)
    if node is None or node.op_type != "Concat":
        return [None]
    return [size for part in node.input for size in _shape(part, constants, made_by)]
