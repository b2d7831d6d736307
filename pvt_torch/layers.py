"""What the layers of the PyTorch twin are made of, with every number given explicitly.

Reads side by side with ``pvt_ms/layers.py``.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from pvt_spec import PVTConfig, same_padding


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
            padding=pad if symmetric else 0,
            padding_mode="zeros",
            dilation=1,
            groups=groups,
            bias=True,
        )
        self.conv_padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, dim, H / stride, W / stride)."""
        if self.conv_padding == "same":
            top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
            left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
            x = F.pad(x, (left, right, top, bottom), mode="constant", value=0.0)
        return super().forward(x)


def layer_norm(dim: int, eps: float) -> nn.LayerNorm:
    """Returns a layer norm over the channels."""
    return nn.LayerNorm((dim,), eps=eps, elementwise_affine=True, bias=True)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Returns a linear layer with bias; its weights are filled after construction."""
    return nn.Linear(in_features, out_features, bias=True)


def gelu(form: str) -> nn.GELU:
    """Returns a GELU, exact (``"erf"``) or approximated (``"tanh"``)."""
    return nn.GELU(approximate="tanh" if form == "tanh" else "none")


def make_head(config: PVTConfig) -> nn.Module:
    """Returns the head of a configuration, or what hands features on where it has none."""
    if not config.num_classes:
        return nn.Identity()
    return linear(config.embed_dims[-1], config.num_classes)
