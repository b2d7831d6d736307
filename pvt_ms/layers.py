"""What the layers of the MindSpore twin are made of, with every number given explicitly.

Reads side by side with ``pvt_torch/layers.py``.
"""

from mindspore import nn

from pvt_spec import PVTConfig


class Conv2d(nn.Conv2d):
    """A convolution that pads as the numerics say: by ``pad`` pixels where "symmetric"."""

    def __init__(
        self, in_chans: int, dim: int, kernel: int, stride: int, padding: str, pad: int, groups: int
    ):
        symmetric = padding == "symmetric"
        super().__init__(
            in_chans,
            dim,
            kernel,
            stride,
            pad_mode="pad" if symmetric else "same",
            padding=pad if symmetric else 0,
            dilation=1,
            group=groups,
            has_bias=True,
            weight_init="zeros",
            bias_init="zeros",
        )


def layer_norm(dim: int, eps: float) -> nn.LayerNorm:
    """Returns a layer norm over the channels."""
    return nn.LayerNorm((dim,), begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)


def linear(in_features: int, out_features: int) -> nn.Dense:
    """Returns a linear layer with bias; its weights are filled after construction."""
    return nn.Dense(
        in_features, out_features, weight_init="zeros", bias_init="zeros", has_bias=True
    )


def gelu(form: str) -> nn.GELU:
    """Returns a GELU, exact (``"erf"``) or approximated (``"tanh"``)."""
    return nn.GELU(approximate=form == "tanh")


def make_head(config: PVTConfig) -> nn.Cell:
    """Returns the head of a configuration, or what hands features on where it has none."""
    if not config.num_classes:
        return nn.Identity()
    return linear(config.embed_dims[-1], config.num_classes)
