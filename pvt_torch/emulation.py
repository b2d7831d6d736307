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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pvt_spec import PvtError
from pvt_spec.arrays import Array
from pvt_torch.model import PyramidVisionTransformer
from pvt_torch.taps import run_taps

Taps = dict[str, Array]

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

KINDS = frozenset(OPERATIONS.values())
CONTRACTIONS = frozenset({"conv", "matmul"})


class EmulationError(PvtError):
    """A precision that is not known, or an operation that nothing is known of."""


@dataclass(frozen=True)
class Precision:
    """Which operations round what, to which format; everything between is float32.

    Attributes:
        format: A key of :data:`FORMATS`.
        operands: Kinds of operation that round what they are given.
        results: Kinds of operation that round what they answer.
        bias_apart: Whether a convolution or linear layer that rounds its result also rounds
            before it adds the bias.
    """

    format: str
    operands: frozenset[str]
    results: frozenset[str]
    bias_apart: bool = False


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision("fp32", frozenset(), frozenset()),
    "tf32": Precision("tf32", CONTRACTIONS, frozenset()),
    "hf32": Precision("hf32", CONTRACTIONS, frozenset()),
    "hf32-conv": Precision("hf32", frozenset({"conv"}), frozenset()),
    "bf16": Precision("bf16", KINDS, KINDS, bias_apart=True),
    "bf16-graph": Precision("bf16", KINDS - {"norm"}, KINDS),
    "fp16": Precision("fp16", KINDS, KINDS, bias_apart=True),
    "fp16-graph": Precision("fp16", KINDS - {"norm"}, KINDS),
    "fp16-saturating": Precision("fp16-saturating", KINDS, KINDS, bias_apart=True),
}
"""What a run can be emulated in.

- ``fp32``: nothing but float32, the base case; where no order is changed it is the float32 twin
  bit for bit.
- ``tf32``: NVIDIA's tensor cores. PyTorch's note on numerical accuracy: only the first 10 bits
  of the mantissa of what goes into matmul and convolution are read.
- ``hf32``: Ascend's. CANN ``--allow_hf32``: float32's range, 11 bits of mantissa, for Conv and
  Matmul operators only; Ascend C ``SetHF32Mode``: what is in L0A and L0B is rounded, so no bias.
- ``hf32-conv``: what an Atlas A2 or A3 does to float32 unless it is told otherwise. CANN
  ``ENABLE_HF32_EXECUTION``, MindSpore ``conv_allow_hf32`` and ``matmul_allow_hf32``: on by
  default for Conv, off for Matmul.
- ``fp16``, ``bf16``: MindSpore's ``auto_mixed_precision`` at O2, op by op (pynative).
  ``mindspore/train/amp.py``: every cell gets ``to_float``, under which weights and what flows are
  cast; cells of ``AMP_BLACK_LIST`` (BatchNorm and LayerNorm) compute in float32 within
  ``_OutputTo16``; the model's answer is cast back. A norm's gamma and beta are rounded all the
  same: ``LayerNorm.construct`` casts them to the dtype of its input before anything widens it.
  ``nn.Dense`` and ``nn.Conv2d`` are a product and then a BiasAdd, so they round twice.
- ``fp16-graph``, ``bf16-graph``: O2 in graph mode, where the input of a norm is widened before
  its ``construct``, so that gamma and beta stay float32, and the bias is fused into the product.
  These two and the line above were confirmed bit for bit with MindSpore 2.10 on a CPU.
- ``fp16-saturating``: ``fp16`` on the original Atlas training series.
"""


def round_mantissa(x: Tensor, bits: int) -> Tensor:
    """float32 rounded to ``bits`` explicit bits of mantissa: to nearest, ties to even, exactly.

    Exponents are kept, subnormal numbers lose the same bits, and what rounds past the largest
    finite number is infinite, all as in a cast to a format of float32's range.

    Args:
        x: float32, any shape.
        bits: 1 to 22; float32 itself has 23.
    """
    drop = 23 - bits
    pattern = x.contiguous().view(torch.int32)
    odd = (pattern >> drop) & 1
    rounded = (pattern + ((1 << (drop - 1)) - 1) + odd) & -(1 << drop)
    # A NaN's mantissa is not a number to round: its carry could end in infinity.
    return torch.where(torch.isnan(x), x, rounded.view(torch.float32))


def round_saturating(x: Tensor) -> Tensor:
    """float32 rounded to float16 where an infinite result is the largest number and NaN is 0.

    CANN ``aclrtFloatOverflowMode``: so in saturation mode, the only one of the Atlas training
    series (``MS_ASCEND_CHECK_OVERFLOW_MODE=SATURATION_MODE`` asks an Atlas A2 for it).
    """
    return torch.nan_to_num(x.to(torch.float16), nan=0.0).to(torch.float32)


FORMATS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "fp32": lambda x: x,
    "tf32": lambda x: round_mantissa(x, 10),
    "hf32": lambda x: round_mantissa(x, 11),
    "bf16": lambda x: x.to(torch.bfloat16).to(torch.float32),
    "fp16": lambda x: x.to(torch.float16).to(torch.float32),
    "fp16-saturating": round_saturating,
}
"""float32 to the nearest numbers of a format, as float32. Ties go to even: so do casts in torch,
and so does HF32 in its default mode (Ascend C ``SetHF32``, ``transMode`` 0)."""


def find_precision(name: str) -> Precision:
    """The precision of that name.

    Raises:
        EmulationError: There is none.
    """
    if name not in PRECISIONS:
        raise EmulationError(f"no precision is named {name!r}: there are {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


class Emulation(TorchFunctionMode):
    """Within it, the operations of a float32 model round as a precision says.

    Args:
        precision: What is rounded.
        seed: Of the order in which convolutions and matrix products sum; none keeps torch's.
    """

    def __init__(self, precision: Precision, seed: int | None = None):
        super().__init__()
        self.precision = precision
        self.shuffle = None if seed is None else torch.Generator().manual_seed(seed)
        self.round = FORMATS[precision.format]

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One call of a torch function, rounded."""
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
        if kind in self.precision.operands:
            args = tuple(self.operand(kind, value) for value in args)
            kwargs = {name: self.operand(kind, value) for name, value in kwargs.items()}
        return self.result(kind, function(*args, **kwargs))

    def contract(self, function: Any, kind: str, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        """A sum over many products, and then a bias: that, and what else is given, in ``rest``."""
        if kind in self.precision.operands:
            x, weight = self.round(x), self.round(weight)
        if self.shuffle is not None:
            x, weight = self.shuffled(function.__name__, x, weight)
        bias = rest[0] if rest else None
        if bias is None or kind not in self.precision.results:
            return self.result(kind, function(x, weight, *rest))
        bias = self.round(bias)
        if not self.precision.bias_apart:
            return self.round(function(x, weight, bias, *rest[1:]))
        product = self.round(function(x, weight, None, *rest[1:]))
        return self.round(product + (bias.reshape(-1, 1, 1) if kind == "conv" else bias))

    def shuffled(self, name: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The operands with what is summed over in a random order, the same in both."""
        axes = {"conv2d": (1, 1), "linear": (-1, -1), "matmul": (-1, -2)}[name]
        length = x.shape[axes[0]]
        if length != weight.shape[axes[1]]:  # a depthwise convolution sums over no channels
            return x, weight
        order = torch.randperm(length, generator=self.shuffle)
        return x.index_select(axes[0], order), weight.index_select(axes[1], order)

    def operand(self, kind: str, value: Any) -> Any:
        """What an operation of a kind takes for an argument."""
        if isinstance(value, Tensor):
            return self.round(value)
        # The scale in ``attn * scale``: MindSpore casts it to the tensor's dtype, torch does not.
        if kind == "mul" and isinstance(value, float):
            return self.round(torch.tensor(value)).item()
        return value

    def result(self, kind: str, value: Tensor) -> Tensor:
        """What an operation of a kind answers."""
        return self.round(value) if kind in self.precision.results else value


def emulated_taps(
    model: PyramidVisionTransformer,
    images: Array,
    precision: Precision,
    seed: int | None = None,
) -> Taps:
    """Every tap as a precision would have it.

    Args:
        model: Of float32 weights, in evaluation mode; one in float64 is copied at each call.
        images: float32 (B, in_chans, H, W), normalised.
        precision: One of :data:`PRECISIONS`.
        seed: Of the order in which convolutions and matrix products sum; none keeps torch's.

    Returns:
        float32 arrays under :func:`pvt_spec.tap_names`, in forward order.

    Raises:
        EmulationError: The model does something that nothing is known of.
    """
    twin = float32_twin(model)
    with Emulation(precision, seed):
        taps: Taps = run_taps(twin, images)
    return taps


def float32_twin(model: PyramidVisionTransformer) -> PyramidVisionTransformer:
    """The model itself where it computes in float32, else a copy that does."""
    if model.patch_embed1.proj.weight.dtype == torch.float32:
        return model
    return copy.deepcopy(model).float()
