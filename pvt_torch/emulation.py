"""What float16, bfloat16, HF32 or TF32 does to every tap, without the hardware that has them.

The PyTorch twin runs with a precision's rounding at every operation. How far that takes it from
float64 is the envelope that a real run of the precision should stay in, so that an Ascend bundle
is judged without an Ascend; see :mod:`parity.measure.envelope`.

Operations are seen through :class:`torch.overrides.TorchFunctionMode`. It meets ``linear``,
``layer_norm`` and ``gelu`` whole, as the twins call them and as MindSpore casts around them; the
dispatch mode below it is private to torch (``torch.utils._python_dispatch``) and meets whatever a
version of torch decomposes them into.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pvt_spec import PvtError
from pvt_spec.arrays import Array
from pvt_spec.kernels import Exponential
from pvt_spec.precisions import CONTRACTIONS, EMULATIONS, INT8, PRECISIONS, Rounding
from pvt_spec.runtime import Taps
from pvt_torch.model import PyramidVisionTransformer
from pvt_torch.taps import run_taps

OPERATIONS: Mapping[str, str] = {
    "conv2d": "conv",
    "linear": "matmul",
    "matmul": "matmul",
    "layer_norm": "norm",
    "softmax": "softmax",
    "gelu": "gelu",
    "add": "add",
    "mul": "mul",
    "mean": "mean",
    "adaptive_avg_pool2d": "pool",
    "interpolate": "resize",
}
"""torch function -> the kind of operation that a precision says something of."""

MOVES = frozenset(
    {
        *("__get__", "__getitem__", "cat", "cpu", "expand", "numpy"),
        *("pad", "permute", "relu", "reshape", "to"),
    }
)
"""torch functions that make no number which was not there, zero apart: nothing is rounded."""


class EmulationError(PvtError):
    """A precision that is not known, or an operation that nothing is known of."""


ROUNDINGS: Mapping[str, Rounding] = {
    name: precision.rounding for name, precision in PRECISIONS.items() if precision.rounding
}
"""What a run can be emulated in: the precisions of which it is known what they round."""

LOWEST = -87.0
"""What an argument of exp is at least: below it float32 has no normal number."""


def round_mantissa(x: Tensor, bits: int) -> Tensor:
    """Rounds float32 to ``bits`` explicit bits of mantissa: to nearest, ties to even, exactly.

    Exponents are kept, subnormal numbers lose the same bits, and what rounds past the largest
    finite number is infinite, all as in a cast to a format of float32's range.

    Args:
        x: float32, any shape.
        bits: The bits that are kept, 1 to 22; float32 itself has 23.
    """
    drop = 23 - bits
    pattern = x.contiguous().view(torch.int32)
    odd = (pattern >> drop) & 1
    rounded = (pattern + ((1 << (drop - 1)) - 1) + odd) & -(1 << drop)
    # A NaN's mantissa is not a number to round: its carry could end in infinity.
    return torch.where(torch.isnan(x), x, rounded.view(torch.float32))


def round_saturating(x: Tensor) -> Tensor:
    """Rounds float32 to float16 where an infinite result is the largest number and NaN is 0.

    CANN ``aclrtFloatOverflowMode``: so in saturation mode, the only one of the Atlas training
    series (``MS_ASCEND_CHECK_OVERFLOW_MODE=SATURATION_MODE`` asks an Atlas A2 for it).
    """
    return torch.nan_to_num(x.to(torch.float16), nan=0.0).to(torch.float32)


def round_range(x: Tensor, wider: float = 1.0) -> Tensor:
    """Rounds float32 to 255 equal steps from its smallest to its largest value, 0 among them.

    Args:
        x: float32, any shape.
        wider: How many times as wide the range is.
    """
    low, high = x.amin().clamp_max(0) * wider, x.amax().clamp_min(0) * wider
    step = (high - low) / 255
    if not step > 0:  # NaN too
        return x
    zero = torch.round(-low / step)
    return (torch.round(x / step + zero).clamp(0, 255) - zero) * step


FORMATS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "fp32": lambda x: x,
    "tf32": lambda x: round_mantissa(x, 10),
    "hf32": lambda x: round_mantissa(x, 11),
    "bf16": lambda x: x.to(torch.bfloat16).to(torch.float32),
    "fp16": lambda x: x.to(torch.float16).to(torch.float32),
    "fp16-saturating": round_saturating,
    "int8": round_range,
}
"""float32 to the nearest numbers of a format, as float32. Ties go to even: so do casts in torch,
and so does HF32 in its default mode (Ascend C ``SetHF32``, ``transMode`` 0)."""


def find_rounding(emulation: str) -> Rounding:
    """Returns what the emulation of that name rounds: a precision, or kernels' own float32.

    Raises:
        EmulationError: There is none, or that is not known.
    """
    if emulation not in EMULATIONS:
        raise EmulationError(
            f"no precision is named {emulation!r}: there are {', '.join(ROUNDINGS)}"
        )
    return EMULATIONS[emulation]


def exponential(x: Tensor, kernel: Exponential) -> Tensor:
    """Returns exp(x), x at most 0, as a kernel computes it in float32 with fused products."""
    x, ln2 = x.clamp_min(LOWEST), torch.tensor(kernel.ln2)
    power = torch.round(x / ln2)
    rest = (x.double() - power.double() * ln2.double()).float()
    result = torch.ones_like(rest)
    for degree in range(kernel.degree, 0, -1):  # Horner's scheme
        result.mul_(rest).div_(degree).add_(1)
    return torch.ldexp(result, power)


def softmax(kernel: Exponential, x: Tensor, dim: int) -> Tensor:
    """Returns a softmax whose exp is a kernel's."""
    shares = exponential(x - x.amax(dim, keepdim=True), kernel)
    return shares / shares.sum(dim, keepdim=True)


class Emulation(TorchFunctionMode):
    """A mode in which the operations of a float32 model round as a precision says.

    Args:
        rounding: What is rounded.
        seed: The seed of the order in which convolutions and matrix products sum; None keeps
            torch's.
    """

    def __init__(self, rounding: Rounding, seed: int | None = None):
        super().__init__()
        self.rounding = rounding
        self.shuffle = None if seed is None else torch.Generator().manual_seed(seed)
        self.round = FORMATS[rounding.format]
        if rounding.format == INT8 and self.shuffle is not None:
            # Each order rounds otherwise, or the errors of all would be those of one draw: to a
            # range that is up to twice as wide, as that of other images may be.
            self.round = self.round_range

    def round_range(self, x: Tensor) -> Tensor:
        """Rounds to 255 steps of a range of its own."""
        return round_range(x, 1 + torch.rand((), generator=self.shuffle).item())

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a torch function and rounds."""
        kwargs = kwargs or {}
        if function.__name__ in MOVES:
            return function(*args, **kwargs)
        kind = OPERATIONS.get(function.__name__)
        if kind is None:
            raise EmulationError(
                f"the model calls {function.__name__}, of which no rounding is known: "
                "add it to pvt_torch.emulation.OPERATIONS or MOVES"
            )
        if kind in CONTRACTIONS:
            return self.contract(function, kind, *args, **kwargs)
        if kind in self.rounding.operands:
            args = tuple(self.operand(kind, value) for value in args)
            kwargs = {name: self.operand(kind, value) for name, value in kwargs.items()}
        if kind == "softmax" and self.rounding.exp:
            return self.result(kind, softmax(self.rounding.exp, *args, **kwargs))
        return self.result(kind, function(*args, **kwargs))

    def contract(self, function: Any, kind: str, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        """Sums many products and adds a bias: that, and what else is given, in ``rest``."""
        if kind in self.rounding.operands:
            x, weight = self.round(x), self.round(weight)
        if self.shuffle is not None:
            x, weight = self.shuffled(function.__name__, x, weight)
        bias = rest[0] if rest else None
        if bias is None or kind not in self.rounding.results:
            return self.result(kind, function(x, weight, *rest))
        bias = self.round(bias)
        if not self.rounding.bias_apart:
            return self.round(function(x, weight, bias, *rest[1:]))
        product = self.round(function(x, weight, None, *rest[1:]))
        return self.round(product + (bias.reshape(-1, 1, 1) if kind == "conv" else bias))

    def shuffled(self, name: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the operands with what is summed over in a random order, the same in both."""
        axes = {"conv2d": (1, 1), "linear": (-1, -1), "matmul": (-1, -2)}[name]
        length = x.shape[axes[0]]
        if length != weight.shape[axes[1]]:  # a depthwise convolution sums over no channels
            return x, weight
        order = torch.randperm(length, generator=self.shuffle)
        return x.index_select(axes[0], order), weight.index_select(axes[1], order)

    def operand(self, kind: str, value: Any) -> Any:
        """Returns what an operation of a kind takes for an argument."""
        if isinstance(value, Tensor):
            return self.round(value)
        # The scale in ``attn * scale``: MindSpore casts it to the tensor's dtype, torch does not.
        if kind == "mul" and isinstance(value, float):
            return self.round(torch.tensor(value)).item()
        return value

    def result(self, kind: str, value: Tensor) -> Tensor:
        """Returns what an operation of a kind answers."""
        return self.round(value) if kind in self.rounding.results else value


def emulated_taps(
    model: PyramidVisionTransformer,
    images: Array,
    rounding: Rounding,
    seed: int | None = None,
) -> Taps:
    """Returns every tap as a precision would have it.

    Args:
        model: A float32 model in evaluation mode; one in float64 is copied at each call.
        images: float32 (B, in_chans, H, W), normalised.
        rounding: What the precision rounds: one of :data:`EMULATIONS`.
        seed: The seed of the order in which convolutions and matrix products sum; None keeps
            torch's.

    Returns:
        float32 arrays under :func:`pvt_spec.tap_names`, in forward order.

    Raises:
        EmulationError: The model does something that nothing is known of.
    """
    twin = float32_twin(model)
    with Emulation(rounding, seed):
        taps: Taps = run_taps(twin, images)
    return taps


def float32_twin(model: PyramidVisionTransformer) -> PyramidVisionTransformer:
    """Returns the model itself where it computes in float32, else a copy that does."""
    if model.patch_embed1.proj.weight.dtype == torch.float32:
        return model
    return copy.deepcopy(model).float()
