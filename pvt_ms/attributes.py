"""What the cells and parameters of a model hold, as :mod:`pvt_spec.attributes` names it."""

import numpy as np
from mindspore import nn

from pvt_ms.model import Attention, PyramidVisionTransformer
from pvt_spec import tensor_specs
from pvt_spec.attributes import (
    Attributes,
    attention_attributes,
    conv_attributes,
    pos_embed_attributes,
    same_for_all,
)


def read_attributes(model: PyramidVisionTransformer) -> Attributes:
    """Returns the attributes of every layer of a model.

    A cell's own ``epsilon`` and ``stride`` are what its primitive was made with; the primitive
    computes, so it is what is read.
    """
    attributes: Attributes = {}
    for name, cell in model.cells_and_names():
        attributes |= _layer_attributes(name, cell)
    parameters = dict(model.parameters_and_names())
    names = [spec.name for spec in tensor_specs(model.config) if spec.kind == "pos_embed"]
    dtypes = {name: str(parameters[name].dtype).lower() for name in names}
    return attributes | pos_embed_attributes(dtypes, model.numerics.pos_embed_resize)


def _layer_attributes(name: str, cell: nn.Cell) -> Attributes:
    if isinstance(cell, nn.LayerNorm):
        return {f"{name}.epsilon": np.float32(cell.layer_norm.epsilon)}
    if isinstance(cell, nn.GELU):
        return {f"{name}.gelu": "erf" if cell.approximate == "none" else "tanh"}
    if isinstance(cell, Attention):
        return attention_attributes(name, cell.num_heads, cell.scale)
    if isinstance(cell, nn.Conv2d):
        conv = cell.conv2d  # its strides and dilations are those of all four axes
        return conv_attributes(
            name,
            kernel=conv.kernel_size[0],
            stride=same_for_all(conv.stride[2:]),
            dilation=same_for_all(conv.dilation[2:]),
            groups=conv.group,
            padding="same" if conv.pad_mode == "same" else same_for_all(conv.pad),
        )
    return {}
