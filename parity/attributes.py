"""Every numeric attribute of a model: as the spec says, and as each runtime's own objects hold it.

A wrong epsilon moves logits by 1e-5 or less, so outputs are not enough. The keys are
``LAYER.epsilon``, ``LAYER.gelu``, ``CONV.padding``, ``CONV.stride``, ``CONV.dilation``,
``CONV.groups``, ``ATTENTION.heads``, ``ATTENTION.scale``, ``pos_embed{i}.dtype`` and
``pos_embed.resize``. May import pvt_spec; onnx, torch and mindspore objects are only looked at.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pvt_spec import PATCH_STRIDES, Numerics, PVTConfig, symmetric_padding, tensor_specs
from pvt_spec.tensors import TensorSpec

Attributes = dict[str, Any]

UNSEEN: Mapping[str, Mapping[str, str]] = {
    "torch": {},
    "mindspore": {},
    "onnx": {"pos_embed.resize": "a graph for one size resizes once, when it is written, or never"},
}
"""Attributes that a kind of model may not show, each with the reason."""


def expected_attributes(config: PVTConfig, numerics: Numerics) -> Attributes:
    """What the spec says of every layer of a model."""
    attributes: Attributes = {}
    for spec in tensor_specs(config):
        layer, _, part = spec.name.rpartition(".")
        if spec.kind == "pos_embed":
            attributes[f"{spec.name}.dtype"] = numerics.pos_embed_dtype
            attributes["pos_embed.resize"] = numerics.pos_embed_resize
        elif part == "weight":
            attributes |= _of_layer(config, numerics, layer, spec)
    return attributes


def _of_layer(config: PVTConfig, numerics: Numerics, layer: str, spec: TensorSpec) -> Attributes:
    if spec.kind == "norm":
        return {f"{layer}.epsilon": np.float32(_epsilon(layer, numerics))}
    if layer.endswith(".mlp.fc1"):
        return {f"{layer[:-4]}.act.gelu": numerics.gelu}
    if layer.endswith(".attn.q"):
        stage = int(layer[len("block")]) - 1
        heads = config.num_heads[stage]
        scale = np.float32((config.embed_dims[stage] // heads) ** -0.5)
        return {f"{layer[:-2]}.heads": heads, f"{layer[:-2]}.scale": scale}
    if spec.kind != "conv":
        return {}
    found = _of_conv(config, numerics, layer, spec)
    if config.linear and layer.endswith(".attn.sr"):
        found[f"{layer[:-3]}.act.gelu"] = numerics.gelu
    return found


def _of_conv(config: PVTConfig, numerics: Numerics, layer: str, spec: TensorSpec) -> Attributes:
    kernel = spec.shape[2]
    depthwise = layer.endswith("dwconv")
    stride = 1 if depthwise else kernel
    pad = 1 if depthwise else 0
    if layer.startswith("patch_embed"):
        stage = int(layer[len("patch_embed")]) - 1
        stride, pad = PATCH_STRIDES[stage], symmetric_padding(config, stage)
    found: Attributes = {
        f"{layer}.stride": stride,
        f"{layer}.dilation": 1,
        f"{layer}.groups": spec.shape[0] if depthwise else 1,
    }
    if kernel > 1:
        same = numerics.conv_padding == "same" and not depthwise
        found[f"{layer}.padding"] = "same" if same else pad
    return found


def _epsilon(layer: str, numerics: Numerics) -> float:
    parts = layer.split(".")
    if len(parts) == 1:
        return numerics.final_norm_eps
    if parts[0].startswith("patch_embed"):
        return numerics.patch_norm_eps
    if parts[-2] == "attn":
        return numerics.attn_norm_eps
    return numerics.norm1_eps if parts[-1] == "norm1" else numerics.norm2_eps


def torch_attributes(model: Any) -> Attributes:
    """Of a ``pvt_torch`` model's modules and parameters."""
    attributes: Attributes = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind == "LayerNorm":
            attributes[f"{name}.epsilon"] = np.float32(module.eps)
        elif kind == "GELU":
            attributes[f"{name}.gelu"] = {"none": "erf"}.get(module.approximate, "tanh")
        elif kind == "Attention":
            attributes |= _attention(name, module)
        elif "Conv2d" in kind:
            conv = {"stride": module.stride, "dilation": module.dilation}
            attributes |= {f"{name}.{key}": _one(value) for key, value in conv.items()}
            attributes[f"{name}.groups"] = module.groups
            if module.kernel_size[0] > 1:
                same = getattr(module, "conv_padding", "symmetric") == "same"
                attributes[f"{name}.padding"] = "same" if same else _one(module.padding)
    return attributes | _position_attributes(model, dict(model.named_parameters()))


def mindspore_attributes(model: Any) -> Attributes:
    """Of a ``pvt_ms`` model's cells and parameters."""
    attributes: Attributes = {}
    for name, cell in model.cells_and_names():
        kind = type(cell).__name__
        if kind == "LayerNorm":
            attributes[f"{name}.epsilon"] = np.float32(cell.epsilon)
        elif kind == "GELU":
            attributes[f"{name}.gelu"] = {"none": "erf"}.get(cell.approximate, "tanh")
        elif kind == "Attention":
            attributes |= _attention(name, cell)
        elif "Conv2d" in kind:
            conv = {"stride": cell.stride, "dilation": cell.dilation}
            attributes |= {f"{name}.{key}": _one(value) for key, value in conv.items()}
            attributes[f"{name}.groups"] = cell.group
            if cell.kernel_size[0] > 1:
                same = cell.pad_mode == "same"
                attributes[f"{name}.padding"] = "same" if same else _one(cell.padding)
    return attributes | _position_attributes(model, dict(model.parameters_and_names()))


def _attention(name: str, module: Any) -> Attributes:
    return {f"{name}.heads": module.num_heads, f"{name}.scale": np.float32(module.scale)}


def _position_attributes(model: Any, parameters: Mapping[str, Any]) -> Attributes:
    found: Attributes = {
        f"{name}.dtype": str(parameter.dtype).lower().removeprefix("torch.")
        for name, parameter in parameters.items()
        if name.startswith("pos_embed")
    }
    if found:
        found["pos_embed.resize"] = model.numerics.pos_embed_resize
    return found


def _one(value: Any) -> Any:
    """The one number that a length of every axis is, or all of them where they differ."""
    if isinstance(value, int | str):
        return value
    numbers = list(value)
    return numbers[0] if len(set(numbers)) == 1 else numbers


def onnx_attributes(model: Any) -> Attributes:
    """Of the nodes and initializers of a ``pvt_onnx`` model."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    attributes: Attributes = {}
    for node in model.graph.node:
        attributes |= _of_node(node, constants, made_by)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("pos_embed"):
            # What is kept as bfloat16 is widened, which rounds nothing: it is as good as float32.
            half = tensor.data_type == 10 or f"{tensor.name}/float16" in made_by
            attributes[f"{tensor.name}.dtype"] = "float16" if half else "float32"
    return attributes


def _of_node(node: Any, constants: Mapping[str, Any], made_by: Mapping[str, Any]) -> Attributes:
    given = {a.name: a for a in node.attribute}
    layer = node.input[1].split("/")[0].removesuffix(".weight") if len(node.input) > 1 else ""
    output = node.output[0]
    if node.op_type == "LayerNormalization":
        return {f"{layer}.epsilon": np.float32(given["epsilon"].f)}
    if node.op_type == "Gelu":
        form = given["approximate"].s.decode()
        return {f"{output}.gelu": "erf" if form == "none" else form}
    if node.op_type in ("Erf", "Tanh"):
        return {f"{output.split('/')[0]}.gelu": node.op_type.lower()}
    if node.op_type == "Resize":
        return {"pos_embed.resize": given["coordinate_transformation_mode"].s.decode()}
    if node.op_type == "Mul" and output.endswith(".attn.scaled"):
        return {f"{output[:-7]}.scale": np.float32(_number(constants[node.input[1]]))}
    if node.op_type == "Reshape" and output.endswith((".attn.q", ".attn.q/heads")):
        shape = _shape(node.input[1], constants, made_by)
        # (B, 1, N, head_dim) of one head, else (B, N, heads, head_dim).
        heads = shape[2] if output.endswith("/heads") else shape[1]
        return {f"{output.split('.q')[0]}.heads": heads}
    if node.op_type == "Conv" and "dilations" in given and not layer.endswith((".fc1", ".fc2")):
        found: Attributes = {
            f"{layer}.stride": _one(given["strides"].ints),
            f"{layer}.dilation": _one(given["dilations"].ints),
            f"{layer}.groups": given["group"].i,
        }
        if given["kernel_shape"].ints[0] > 1:
            same = "auto_pad" in given and given["auto_pad"].s == b"SAME_UPPER"
            found[f"{layer}.padding"] = "same" if same else _one(given["pads"].ints)
        return found
    return {}


def _shape(name: str, constants: Mapping[str, Any], made_by: Mapping[str, Any]) -> list[int | None]:
    """The numbers of a shape, a constant or put together; None where one is computed."""
    if name in constants:
        tensor = constants[name]
        return list(np.frombuffer(tensor.raw_data, "<i8").tolist() or tensor.int64_data)
    node = made_by.get(name)
    if node is None or node.op_type != "Concat":
        return [None]
    return [size for part in node.input for size in _shape(part, constants, made_by)]


def _number(tensor: Any) -> float:
    return float(
        np.frombuffer(tensor.raw_data, "<f4")[0] if tensor.raw_data else tensor.float_data[0]
    )
