"""What the nodes and initializers of a graph hold, as :mod:`pvt_spec.attributes` names it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.helper import get_attribute_value
from onnx.numpy_helper import to_array

from pvt_onnx.graph.model import POINTWISE
from pvt_spec.attributes import Attributes, conv_attributes


def read_attributes(model: onnx.ModelProto) -> Attributes:
    """Returns the attributes of every layer of a graph of :mod:`pvt_onnx.graph`."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    attributes: Attributes = {}
    for node in model.graph.node:
        attributes |= _node_attributes(node, constants, made_by)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("pos_embed"):
            # What is kept as bfloat16 is widened, which rounds nothing: it is as good as float32.
            half = tensor.data_type == onnx.TensorProto.FLOAT16
            half |= f"{tensor.name}/float16" in made_by
            attributes[f"{tensor.name}.dtype"] = "float16" if half else "float32"
    return attributes


def _node_attributes(
    node: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    made_by: Mapping[str, onnx.NodeProto],
) -> Attributes:
    layer = node.input[1].split("/")[0].removesuffix(".weight") if len(node.input) > 1 else ""
    output = node.output[0]
    if node.op_type == "LayerNormalization":
        return {f"{layer}.epsilon": np.float32(float(_given(node, "epsilon", 1e-5)))}
    if node.op_type == "Add" and output.endswith("/stable") and node.input[1] in constants:
        epsilon = to_array(constants[node.input[1]]).reshape(-1)[0]
        return {f"{output.removesuffix('/stable')}.epsilon": np.float32(epsilon)}
    if node.op_type == "Gelu":
        form = _given(node, "approximate", "none")
        return {f"{output}.gelu": "erf" if form == "none" else form}
    if node.op_type in ("Erf", "Tanh"):
        return {f"{output.split('/')[0]}.gelu": node.op_type.lower()}
    if node.op_type == "Resize":
        rule = _given(node, "coordinate_transformation_mode", "half_pixel")
        return {f"pos_{output.split('/')[0]}.resize": rule}
    if node.op_type == "Mul" and output.endswith(".attn.scaled") and node.input[1] in constants:
        scale = to_array(constants[node.input[1]]).reshape(-1)[0]
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
    if layer.endswith(POINTWISE):
        return {}  # a linear layer, of which nothing is to be known
    strides, dilations = _given(node, "strides", 1), _given(node, "dilations", 1)
    auto, pads = _given(node, "auto_pad", "NOTSET"), _given(node, "pads", 0)
    padding = {"SAME_UPPER": "same", "NOTSET": pads}.get(auto, auto.lower())
    return conv_attributes(layer, dims[2], strides, dilations, _given(node, "group", 1), padding)


def _given(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Returns an attribute of a node, or what ONNX takes it for where it is not given."""
    for attribute in node.attribute:
        if attribute.name == name:
            value = get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _shape(
    name: str,
    constants: Mapping[str, onnx.TensorProto],
    made_by: Mapping[str, onnx.NodeProto],
) -> list[int | None]:
    """Returns the numbers of a shape, a constant or put together; None where one is computed."""
    if name in constants:
        return list(to_array(constants[name]).tolist())
    node = made_by.get(name)
    if node is None or node.op_type != "Concat":
        return [None]
    return [size for part in node.input for size in _shape(part, constants, made_by)]
