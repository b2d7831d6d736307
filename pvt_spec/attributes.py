"""Every numeric attribute that the layers of a model must have, by name.

A wrong epsilon moves logits by 1e-5 or less, so outputs are not enough. The keys are
``LAYER.epsilon``, ``LAYER.gelu``, ``CONV.padding``, ``CONV.stride``, ``CONV.dilation``,
``CONV.groups``, ``ATTENTION.heads``, ``ATTENTION.scale``, ``pos_embed{i}.dtype`` and
``pos_embed{i}.resize``. How they are read from a model is in each twin's ``attributes``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pvt_spec.config import PATCH_STRIDES, PVTConfig
from pvt_spec.numerics import EPSILONS, Numerics, symmetric_padding
from pvt_spec.tensors import DEPTHWISE, TensorSpec, tensor_specs

Attributes = dict[str, Any]

UNSEEN: Mapping[str, Mapping[str, str]] = {
    "torch": {},
    "mindspore": {},
    "onnx": {"resize": "a graph whose grid is the position embeddings' own does not resize them"},
}
"""Last parts of the keys that a kind of model may not show, each with the reason."""


def expected_attributes(config: PVTConfig, numerics: Numerics) -> Attributes:
    """Returns the attributes that every layer of a model must have."""
    attributes: Attributes = {}
    for spec in tensor_specs(config):
        if spec.kind == "pos_embed":
            attributes[f"{spec.name}.dtype"] = numerics.pos_embed_dtype
            attributes[f"{spec.name}.resize"] = numerics.pos_embed_resize
        elif spec.part == "weight":
            attributes |= _layer_attributes(config, numerics, spec)
    return attributes


def _layer_attributes(config: PVTConfig, numerics: Numerics, spec: TensorSpec) -> Attributes:
    parent = spec.module.removesuffix(spec.layer)
    if spec.kind == "norm":
        (field,) = (field for field, layer in EPSILONS.items() if layer == spec.layer)
        return {f"{spec.module}.epsilon": np.float32(getattr(numerics, field))}
    if spec.layer == "mlp.fc1":
        return {f"{parent}mlp.act.gelu": numerics.gelu}
    if spec.layer == "attn.q":
        dim, heads = spec.shape[0], config.num_heads[spec.stage or 0]
        scale = np.float32((dim // heads) ** -0.5)
        return {f"{parent}attn.heads": heads, f"{parent}attn.scale": scale}
    if spec.kind != "conv":
        return {}
    attributes = _conv_attributes(config, numerics, spec)
    if config.linear and spec.layer == "attn.sr":
        attributes[f"{parent}attn.act.gelu"] = numerics.gelu
    return attributes


def _conv_attributes(config: PVTConfig, numerics: Numerics, spec: TensorSpec) -> Attributes:
    depthwise, kernel = spec.layer == DEPTHWISE, spec.shape[2]
    stride = 1 if depthwise else kernel
    padding: int | str = 1 if depthwise else 0
    if spec.layer == "patch_embed.proj" and spec.stage is not None:
        stride, padding = PATCH_STRIDES[spec.stage], symmetric_padding(config, spec.stage)
    if numerics.conv_padding == "same" and not depthwise:
        padding = "same"
    groups = spec.shape[0] if depthwise else 1
    return conv_attributes(spec.module, kernel, stride, 1, groups, padding)


def conv_attributes(
    module: str, kernel: int, stride: Any, dilation: Any, groups: int, padding: Any
) -> Attributes:
    """Returns the attributes of a convolution; the padding of a kernel of one pixel is none.

    Strides, dilations and paddings may be one number or those of every axis.
    """
    attributes = {"stride": stride, "dilation": dilation, "groups": groups}
    if kernel > 1:
        attributes["padding"] = padding
    return {f"{module}.{key}": same_for_all(value) for key, value in attributes.items()}


def pos_embed_attributes(
    config: PVTConfig, numerics: Numerics, parameters: Mapping[str, Any]
) -> Attributes:
    """Returns the attributes of a model's position embeddings, whose dtypes are its parameters'."""
    names = [spec.name for spec in tensor_specs(config) if spec.kind == "pos_embed"]
    dtypes = {name: str(parameters[name].dtype).lower().removeprefix("torch.") for name in names}
    return {f"{name}.dtype": dtypes[name] for name in names} | {
        f"{name}.resize": numerics.pos_embed_resize for name in names
    }


def steps_allow(exact: Any, found: Any, step: Any) -> Any:
    """Returns where what was rounded is as near as rounding leaves it: within half a step.

    To that comes what float32 loses of a quotient of up to 256 steps, and of the number itself.
    """
    least = np.finfo(np.float32).eps
    allowed = (0.5 + 256 * least) * step + 2 * least * np.abs(exact)
    return np.abs(np.subtract(found, exact, dtype=np.float64)) <= allowed


def within_a_step(expected: Any, found: Any, step: Any) -> bool:
    """Returns whether an attribute is what is expected, but for its rounding to a step."""
    numbers = all(isinstance(each, float | np.floating) for each in (expected, found))
    return step is not None and numbers and bool(steps_allow(expected, found, step))


def same_for_all(values: int | str | Iterable[int]) -> Any:
    """Returns the one number that a length of every axis is, or all of them where they differ."""
    if isinstance(values, int | str):
        return values
    numbers = list(values)
    return numbers[0] if len(set(numbers)) == 1 else numbers
