"""Every numeric attribute of a model: as the spec says, and as each runtime's own objects hold it.

A wrong epsilon moves logits by 1e-5 or less, so outputs are not enough. The keys are
``LAYER.epsilon``, ``LAYER.gelu``, ``CONV.padding``, ``CONV.stride``, ``CONV.dilation``,
``CONV.groups``, ``ATTENTION.heads``, ``ATTENTION.scale``, ``pos_embed{i}.dtype`` and
``pos_embed{i}.resize``. Objects of onnx, torch and mindspore are only looked at: none is imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pvt_spec import PATCH_STRIDES, Numerics, PVTConfig, symmetric_padding, tensor_specs
from pvt_spec.tensors import TensorSpec

Attributes = dict[str, Any]

UNSEEN: Mapping[str, Mapping[str, str]] = {
    "torch": {},
    "mindspore": {},
    "onnx": {"resize": "a graph whose grid is the position embeddings' own does not resize them"},
}
"""Last parts of the keys that a kind of model may not show, each with the reason."""


def expected_attributes(config: PVTConfig, numerics: Numerics) -> Attributes:
    """What the spec says of every layer of a model."""
    attributes: Attributes = {}
    for spec in tensor_specs(config):
        layer, _, part = spec.name.rpartition(".")
        if spec.kind == "pos_embed":
            attributes[f"{spec.name}.dtype"] = numerics.pos_embed_dtype
            attributes[f"{spec.name}.resize"] = numerics.pos_embed_resize
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
                attributes[f"{name}.padding"] = _torch_padding(module)
    return attributes | _position_attributes(model, dict(model.named_parameters()))


def _torch_padding(conv: Any) -> Any:
    """What is padded before a convolution and by it."""
    own = _one(conv.padding)
    if conv.padding_mode != "zeros":
        return f"{own} {conv.padding_mode}"
    if getattr(conv, "conv_padding", "symmetric") == "same":
        return f"same and {own}" if own else "same"
    return own


def mindspore_attributes(model: Any) -> Attributes:
    """Of a ``pvt_ms`` model's cells and parameters.

    A cell's own ``epsilon`` and ``stride`` are what its primitive was made with; the primitive
    computes.
    """
    attributes: Attributes = {}
    for name, cell in model.cells_and_names():
        kind = type(cell).__name__
        if kind == "LayerNorm":
            attributes[f"{name}.epsilon"] = np.float32(cell.layer_norm.epsilon)
        elif kind == "GELU":
            attributes[f"{name}.gelu"] = {"none": "erf"}.get(cell.approximate, "tanh")
        elif kind == "Attention":
            attributes |= _attention(name, cell)
        elif "Conv2d" in kind:
            conv = cell.conv2d  # its strides and dilations are those of all four axes
            attributes[f"{name}.stride"] = _one(conv.stride[2:])
            attributes[f"{name}.dilation"] = _one(conv.dilation[2:])
            attributes[f"{name}.groups"] = conv.group
            if conv.kernel_size[0] > 1:
                same = conv.pad_mode == "same"
                attributes[f"{name}.padding"] = "same" if same else _one(conv.pad)
    return attributes | _position_attributes(model, dict(model.parameters_and_names()))


def _attention(name: str, module: Any) -> Attributes:
    return {f"{name}.heads": module.num_heads, f"{name}.scale": np.float32(module.scale)}


def _position_attributes(model: Any, parameters: Mapping[str, Any]) -> Attributes:
    found: Attributes = {
        f"{name}.dtype": str(parameter.dtype).lower().removeprefix("torch.")
        for name, parameter in parameters.items()
        if name.startswith("pos_embed")
    }
    resize = model.numerics.pos_embed_resize
    return found | {f"{key[:-6]}.resize": resize for key in found}


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
    layer = node.input[1].split("/")[0].removesuffix(".weight") if len(node.input) > 1 else ""
    output = node.output[0]
    if node.op_type == "LayerNormalization":
        return {f"{layer}.epsilon": np.float32(_given(node, "epsilon", 1e-5))}
    if node.op_type == "Gelu":
        form = _given(node, "approximate", "none")
        return {f"{output}.gelu": "erf" if form == "none" else form}
    if node.op_type in ("Erf", "Tanh"):
        return {f"{output.split('/')[0]}.gelu": node.op_type.lower()}
    if node.op_type == "Resize":
        rule = _given(node, "coordinate_transformation_mode", "half_pixel")
        return {f"pos_{output.split('/')[0]}.resize": rule}
    if node.op_type == "Mul" and output.endswith(".attn.scaled") and node.input[1] in constants:
        return {f"{output[:-7]}.scale": np.float32(_number(constants[node.input[1]]))}
    if node.op_type == "Reshape" and output.endswith((".attn.q", ".attn.q/heads")):
        shape = _shape(node.input[1], constants, made_by)
        # (B, 1, N, head_dim) of one head, else (B, N, heads, head_dim).
        heads = shape[2] if output.endswith("/heads") else shape[1]
        return {f"{output.split('.q')[0]}.heads": heads}
    if node.op_type == "Conv" and f"{layer}.weight" in constants:
        return _of_onnx_conv(node, layer, constants[f"{layer}.weight"].dims)
    return {}


def _of_onnx_conv(node: Any, layer: str, dims: Sequence[int]) -> Attributes:
    if len(dims) != 4:
        return {}  # a linear layer of an MLP
    found: Attributes = {
        f"{layer}.stride": _one(_given(node, "strides", (1, 1))),
        f"{layer}.dilation": _one(_given(node, "dilations", (1, 1))),
        f"{layer}.groups": _given(node, "group", 1),
    }
    if dims[2] > 1:
        auto = _given(node, "auto_pad", "NOTSET")
        pads = _one(_given(node, "pads", (0, 0, 0, 0)))
        found[f"{layer}.padding"] = {"SAME_UPPER": "same", "NOTSET": pads}.get(auto, auto.lower())
    return found


def _given(node: Any, name: str, default: Any) -> Any:
    """An attribute of a node, or what ONNX takes it for where it is not given."""
    for attribute in node.attribute:
        if attribute.name == name:
            # 1 float, 2 int, 3 string, 7 ints: onnx.AttributeProto.
            value = (attribute.f, attribute.i, attribute.s, attribute.ints)
            found = value[{1: 0, 2: 1, 3: 2, 7: 3}[attribute.type]]
            return found.decode() if isinstance(found, bytes) else found
    return default


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
