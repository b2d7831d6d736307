"""What the modules and parameters of a model hold, as :mod:`pvt_spec.attributes` names it."""

from typing import Any

import numpy as np
from torch import nn

from pvt_spec.attributes import Attributes, conv_attributes, pos_embed_attributes, same_for_all
from pvt_torch.layers import Conv2d
from pvt_torch.model import Attention, PyramidVisionTransformer


def read_attributes(model: PyramidVisionTransformer) -> Attributes:
    """Returns the attributes of every layer of a model."""
    attributes: Attributes = {}
    for name, module in model.named_modules():
        attributes |= _layer_attributes(name, module)
    parameters = dict(model.named_parameters())
    return attributes | pos_embed_attributes(model.config, model.numerics, parameters)


def _layer_attributes(name: str, module: nn.Module) -> Attributes:
    if isinstance(module, nn.LayerNorm):
        return {f"{name}.epsilon": np.float32(module.eps)}
    if isinstance(module, nn.GELU):
        return {f"{name}.gelu": "erf" if module.approximate == "none" else "tanh"}
    if isinstance(module, Attention):
        return {f"{name}.heads": module.num_heads, f"{name}.scale": np.float32(module.scale)}
    if isinstance(module, nn.Conv2d):
        kernel, groups = module.kernel_size[0], module.groups
        return conv_attributes(
            name, kernel, module.stride, module.dilation, groups, _padding(module)
        )
    return {}


def _padding(conv: nn.Conv2d) -> Any:
    """Returns what is padded before a convolution and by it."""
    own = same_for_all(conv.padding)
    if conv.padding_mode != "zeros":
        return f"{own} {conv.padding_mode}"
    if isinstance(conv, Conv2d) and conv.conv_padding == "same":
        return f"same and {own}" if own else "same"
    return own
