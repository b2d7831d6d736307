"""What the modules and parameters of a model hold, as :mod:`pvt_spec.attributes` names it."""

from typing import Any

import numpy as np
from torch import nn

from pvt_spec import tensor_specs
from pvt_spec.attributes import (
    Attributes,
    attention_attributes,
    conv_attributes,
    pos_embed_attributes,
    same_for_all,
)
from pvt_torch.model import Attention, Conv2d, PyramidVisionTransformer


def read_attributes(model: PyramidVisionTransformer) -> Attributes:
    """Returns the attributes of every layer of a model."""
    attributes: Attributes = {}
    for name, module in model.named_modules():
        attributes |= _layer_attributes(name, module)
    parameters = dict(model.named_parameters())
    names = [spec.name for spec in tensor_specs(model.config) if spec.kind == "pos_embed"]
    dtypes = {name: str(parameters[name].dtype).removeprefix("torch.") for name in names}
    return attributes | pos_embed_attributes(dtypes, model.numerics.pos_embed_resize)


def _layer_attributes(name: str, module: nn.Module) -> Attributes:
    if isinstance(module, nn.LayerNorm):
        return {f"{name}.epsilon": np.float32(module.eps)}
    if isinstance(module, nn.GELU):
        return {f"{name}.gelu": "erf" if module.approximate == "none" else "tanh"}
    if isinstance(module, Attention):
        return attention_attributes(name, module.num_heads, module.scale)
    if isinstance(module, nn.Conv2d):
        return conv_attributes(
            name,
            kernel=module.kernel_size[0],
            stride=same_for_all(module.stride),
            dilation=same_for_all(module.dilation),
            groups=module.groups,
            padding=_padding(module),
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
