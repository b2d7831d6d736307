"""What no tolerance on outputs can catch: every numeric attribute of each runtime's model.

A wrong epsilon moves logits by 1e-5 or less. So the attributes are read from the actual objects
(torch modules, MindSpore cells, ONNX nodes) and compared with what the spec says. The keys are
``LAYER.epsilon``, ``LAYER.gelu``, ``LAYER.padding`` and ``pos_embed{i}.dtype``. May import
pvt_spec; onnx, torch and mindspore objects are only looked at.
"""

from typing import Any

import numpy as np

from pvt_spec import Numerics, PVTConfig, symmetric_padding, tensor_specs

Attributes = dict[str, Any]


def expected_attributes(config: PVTConfig, numerics: Numerics) -> Attributes:
    """What the spec says of every layer of a model."""
    attributes: Attributes = {}
    for spec in tensor_specs(config):
        layer, _, part = spec.name.rpartition(".")
        if spec.kind == "norm" and part == "weight":
            attributes[f"{layer}.epsilon"] = np.float32(_epsilon(layer, numerics))
        elif spec.kind == "pos_embed":
            attributes[f"{spec.name}.dtype"] = numerics.pos_embed_dtype
        elif layer.endswith(".mlp.fc1") and part == "weight":
            attributes[f"{layer[:-4]}.act.gelu"] = numerics.gelu
        elif spec.kind == "conv" and part == "weight" and spec.shape[2] > 1:
            pad = _symmetric_pad(config, layer)
            same = numerics.conv_padding == "same" and not layer.endswith("dwconv")
            attributes[f"{layer}.padding"] = "same" if same else pad
        if config.linear and layer.endswith(".attn.sr") and part == "weight":
            attributes[f"{layer[:-3]}.act.gelu"] = numerics.gelu
    return attributes


def _epsilon(layer: str, numerics: Numerics) -> float:
    parts = layer.split(".")
    if len(parts) == 1:
        return numerics.final_norm_eps
    if parts[0].startswith("patch_embed"):
        return numerics.patch_norm_eps
    if parts[-2] == "attn":
        return numerics.attn_norm_eps
    return numerics.norm1_eps if parts[-1] == "norm1" else numerics.norm2_eps


def _symmetric_pad(config: PVTConfig, layer: str) -> int:
    if layer.startswith("patch_embed"):
        return symmetric_padding(config, int(layer[len("patch_embed")]) - 1)
    return 1 if layer.endswith("dwconv") else 0


def torch_attributes(model: Any) -> Attributes:
    """Of a ``pvt_torch`` model's modules and parameters."""
    attributes: Attributes = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind == "LayerNorm":
            attributes[f"{name}.epsilon"] = np.float32(module.eps)
        elif kind == "GELU":
            attributes[f"{name}.gelu"] = {"none": "erf"}.get(module.approximate, "tanh")
        elif "Conv2d" in kind and module.kernel_size[0] > 1:
            same = getattr(module, "conv_padding", "symmetric") == "same"
            attributes[f"{name}.padding"] = "same" if same else module.padding[0]
    for name, parameter in model.named_parameters():
        if name.startswith("pos_embed"):
            attributes[f"{name}.dtype"] = str(parameter.dtype).removeprefix("torch.")
    return attributes


def mindspore_attributes(model: Any) -> Attributes:
    """Of a ``pvt_ms`` model's cells and parameters."""
    attributes: Attributes = {}
    for name, cell in model.cells_and_names():
        kind = type(cell).__name__
        if kind == "LayerNorm":
            attributes[f"{name}.epsilon"] = np.float32(cell.epsilon)
        elif kind == "GELU":
            attributes[f"{name}.gelu"] = {"none": "erf"}.get(cell.approximate, "tanh")
        elif "Conv2d" in kind and cell.kernel_size[0] > 1:
            attributes[f"{name}.padding"] = "same" if cell.pad_mode == "same" else cell.padding
    for name, parameter in model.parameters_and_names():
        if name.startswith("pos_embed"):
            attributes[f"{name}.dtype"] = str(parameter.dtype).lower()
    return attributes


def onnx_attributes(model: Any) -> Attributes:
    """Of the nodes and initializers of a ``pvt_onnx`` model."""
    attributes: Attributes = {}
    for node in model.graph.node:
        given = {a.name: a for a in node.attribute}
        layer = node.input[1].split("/")[0].removesuffix(".weight") if len(node.input) > 1 else ""
        if node.op_type == "LayerNormalization":
            attributes[f"{layer}.epsilon"] = np.float32(given["epsilon"].f)
        elif node.op_type == "Gelu":
            form = given["approximate"].s.decode()
            attributes[f"{node.output[0]}.gelu"] = "erf" if form == "none" else form
        elif node.op_type in ("Erf", "Tanh"):
            attributes[f"{node.output[0].split('/')[0]}.gelu"] = node.op_type.lower()
        elif node.op_type == "Conv" and given["kernel_shape"].ints[0] > 1:
            same = "auto_pad" in given and given["auto_pad"].s == b"SAME_UPPER"
            attributes[f"{layer}.padding"] = "same" if same else given["pads"].ints[0]
    for tensor in model.graph.initializer:
        if tensor.name.startswith("pos_embed"):
            # What is kept as bfloat16 is widened, which rounds nothing: it is as good as float32.
            attributes[f"{tensor.name}.dtype"] = "float16" if tensor.data_type == 10 else "float32"
    return attributes


def attribute_differences(expected: Attributes, actual: Attributes) -> list[str]:
    """One line for every attribute that is missing, unknown or different, in the spec's order."""
    keys = [*expected, *(key for key in actual if key not in expected)]
    return [
        f"{key} is {actual.get(key, 'missing')!s}, the spec says {expected.get(key, 'nothing')!s}"
        for key in keys
        if key not in actual or key not in expected or actual[key] != expected[key]
    ]
