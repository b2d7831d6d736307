"""What the cells and parameters of a model hold, as :mod:`pvt_spec.attributes` names it."""

import numpy as np
from mindspore import nn

from pvt_ms.model import Attention, PyramidVisionTransformer
from pvt_spec.attributes import Attributes, conv_attributes, pos_embed_attributes


def read_attributes(model: PyramidVisionTransformer) -> Attributes:
    """Returns the attributes of every layer of a model.

    A cell's own ``epsilon`` and ``stride`` are what its primitive was made with; the primitive
    computes, so it is what is read.
    """
    attributes: Attributes = {}
    for name, cell in model.cells_and_names():
        attributes |= _layer_attributes(name, cell)
    parameters = dict(model.parameters_and_names())
    return attributes | pos_embed_attributes(model.config, model.numerics, parameters)


def _layer_attributes(name: str, cell: nn.Cell) -> Attributes:
    if isinstance(cell, nn.LayerNorm):
        return {f"{name}.epsilon": np.float32(cell.layer_norm.epsilon)}
    if isinstance(cell, nn.GELU):
        return {f"{name}.gelu": "erf" if cell.approximate == "none" else "tanh"}
    if isinstance(cell, Attention):
        return {f"{name}.heads": cell.num_heads, f"{name}.scale": np.float32(cell.scale)}
    if isinstance(cell, nn.Conv2d):
        conv = cell.conv2d  # its strides and dilations are those of all four axes
        kernel, padding = conv.kernel_size[0], "same" if conv.pad_mode == "same" else conv.pad
        return conv_attributes(
            name, kernel, conv.stride[2:], conv.dilation[2:], conv.group, padding
        )
    return {}
