"""The PyTorch twin in float64, made quick: what every runtime is measured against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes
from pvt_spec.runtime import Weighted
from pvt_torch.model import PyramidVisionTransformer
from pvt_torch.taps import Taps, run_taps
from pvt_torch.weights import model_from_weights

CHANNELS_AT_A_TIME = 32
"""So few channels of an image stay in the cache: 9 times as quick as torch on the machine that
this was written on, where 16 and 64 channels were 6 times as quick."""


class QuickDepthwise(TorchFunctionMode):
    """A mode in which 3x3 depthwise convolutions sum their nine products one after the other.

    torch computes them in float64 channel by channel through its slow path, which took half of
    the time of a PVT v2. Rounding differs in the sixteenth digit.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a torch function."""
        if function is F.conv2d and len(args) == 7 and not kwargs:
            x, weight, bias, stride, padding, dilation, groups = args
            known = [tuple(stride), tuple(padding), tuple(dilation)] == [(1, 1), (1, 1), (1, 1)]
            if known and tuple(weight.shape[1:]) == (1, 3, 3) and groups == x.shape[1]:
                return _Depthwise.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return function(*args, **(kwargs or {}))


class _Depthwise(torch.autograd.Function):
    """A 3x3 depthwise convolution, and its gradients by the same sums."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Returns :func:`depthwise`."""
        ctx.save_for_backward(x, weight)
        return depthwise(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Returns the gradients of ``x``, ``weight`` and ``bias``."""
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        H, W = x.shape[2:]
        into_bias = gradient.sum((0, 2, 3))
        into_x = depthwise(gradient, weight.flip(2, 3), torch.zeros_like(into_bias))
        padded = F.pad(x, (1, 1, 1, 1), mode="constant", value=0.0)
        windows = [padded[:, :, i : i + H, j : j + W] for i in range(3) for j in range(3)]
        into_weight = [(gradient * window).sum((0, 2, 3)) for window in windows]
        return into_x, torch.stack(into_weight, 1).reshape(weight.shape), into_bias


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolves each channel with its 3x3 kernel, with stride 1 and a zero around.

    Args:
        x: (B, C, H, W).
        weight: (C, 1, 3, 3).
        bias: (C,).
    """
    H, W = x.shape[2:]
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    kernel = weight[:, 0, :, :, None, None]  # (C, 3, 3, 1, 1)
    for image, answer in zip(x, result, strict=True):
        for start in range(0, x.shape[1], CHANNELS_AT_A_TIME):
            part = slice(start, start + CHANNELS_AT_A_TIME)
            padded = F.pad(image[part], (1, 1, 1, 1), mode="constant", value=0.0)
            into = answer[part].copy_(bias[part, None, None])
            for row in range(3):
                for column in range(3):
                    window = padded[:, row : row + H, column : column + W]
                    into.addcmul_(window, kernel[part, row, column])
    return result


SETTABLE: Mapping[str, Callable[[Any], tuple[str, Any]]] = {
    "epsilon": lambda value: ("eps", float(value)),
    "gelu": lambda form: ("approximate", "tanh" if form == "tanh" else "none"),
    "scale": lambda value: ("scale", float(value)),
}
"""Last parts of the names of :mod:`pvt_spec.attributes` -> what a layer that has them is set to."""


def set_attributes(model: PyramidVisionTransformer, attributes: Attributes) -> None:
    """Gives single layers other attributes than the spec's, by name; any of :data:`SETTABLE`."""
    for name, value in attributes.items():
        layer, _, key = name.rpartition(".")
        setattr(model.get_submodule(layer), *SETTABLE[key](value))


@dataclass(frozen=True)
class Reference:
    """The PyTorch twin in float64.

    Attributes:
        model: The twin.
        names: The taps that it gives.
    """

    model: PyramidVisionTransformer
    names: Sequence[str]

    @property
    def facts(self) -> dict[str, str]:
        """What computes it."""
        return {"framework": f"torch {torch.__version__}", "device": "CPU", "mode": "float64"}

    def taps(self, images: Array) -> Taps:
        """Returns its taps, float64, of images float32 (B, in_chans, H, W), normalised."""
        with QuickDepthwise():
            return run_taps(self.model, images, self.names)


def open_reference(model: Weighted, names: Sequence[str]) -> Reference:
    """Returns what every runtime is measured against: the PyTorch twin in float64."""
    info = model.info
    twin = model_from_weights(info.config, info.numerics, model.weights)
    return Reference(twin.double(), names)
