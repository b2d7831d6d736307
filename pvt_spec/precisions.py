"""The precisions that a model is run in: what each rounds, and what may then be called rounding.

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
- ``int8``: graphs that were quantised, whose ranges were found with images much as these. The
  largest and smallest value of a batch take their place, or up to twice that; ``relative``, for
  where nothing is measured, is that of which 3.5 times is a signal to noise of 20 dB.

``relative`` of all but int8 is the largest error at any tap of the emulation, over pvt_tiny,
pvt_large, pvt_v2_b0, b2_li, b5 at 64 pixels and small ones of each kind, with random and with
initial weights; of fp32 that of PyTorch's clean runs behind
:data:`parity.measure.tolerance.FACTOR`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pvt_spec.kernels import KERNELS, Exponential, Kernels

CONTRACTIONS = frozenset({"conv", "matmul"})
FLOAT32, FLOAT16, INT8 = "fp32", "fp16", "int8"
OPERATION_KINDS = CONTRACTIONS | {"norm", "softmax", "gelu", "add", "mul", "mean", "pool", "resize"}
"""The kinds of operation that a PVT consists of."""


@dataclass(frozen=True)
class Rounding:
    """Which operations round what, to which format; everything between is float32.

    Attributes:
        format: ``"fp32"``, ``"tf32"``, ``"hf32"``, ``"bf16"``, ``"fp16"``,
            ``"fp16-saturating"`` or ``"int8"``.
        operands: Kinds of operation that round what they are given.
        results: Kinds of operation that round what they answer.
        bias_apart: Whether a convolution or linear layer that rounds its result also rounds
            before it adds the bias.
        exp: How exp is computed in a softmax; None as PyTorch does it.
    """

    format: str
    operands: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    bias_apart: bool = False
    exp: Exponential | None = None


@dataclass(frozen=True)
class Precision:
    """One precision, which is a class of tolerance.

    Attributes:
        name: What users call it.
        rounding: What it rounds, by which a run is emulated; None where that is not known.
        relative: The root mean square of its error over that of the exact answer: the unit of
            rounding where it cannot be measured (no torch, no emulation).
        reason: Why so much, in words.
    """

    name: str
    rounding: Rounding | None
    relative: float
    reason: str

    @property
    def emulations(self) -> tuple[str, ...]:
        """The names of what may measure the unit: an emulation for each that kernels ask for."""
        found = dict.fromkeys(self.emulation(kernels) for kernels in KERNELS.values())
        return tuple(filter(None, found))

    def emulation(self, kernels: Kernels) -> str | None:
        """Returns the name of the emulation that measures the unit; None where there is none.

        What kernels err by in float32 is lost in any coarser rounding.
        """
        if self.name == FLOAT32:
            return kernels.emulation
        return self.name if self.rounding else None


def _every_operation(format: str) -> Rounding:
    return Rounding(format, OPERATION_KINDS, OPERATION_KINDS, bias_apart=True)


def _as_a_graph(format: str) -> Rounding:
    return Rounding(format, OPERATION_KINDS - {"norm"}, OPERATION_KINDS)


_ROWS = (
    Precision(
        FLOAT32,
        Rounding("fp32"),
        2.5e-6,
        "24 bits: 42 roundings' worth at the worst tap of PyTorch's clean runs",
    ),
    Precision(
        "tf32",
        Rounding("tf32", CONTRACTIONS),
        1.1e-3,
        "11 bits go into every product, sums keep 24",
    ),
    Precision(
        "hf32",
        Rounding("hf32", CONTRACTIONS),
        5.2e-4,
        "12 bits go into every product, sums keep 24",
    ),
    Precision(
        "hf32-conv",
        Rounding("hf32", frozenset({"conv"})),
        4.2e-4,
        "12 bits go into convolutions: Ascend's default",
    ),
    Precision(
        "fp16",
        _every_operation("fp16"),
        2.4e-3,
        "11 bits after every operation: MindSpore's O2, op by op",
    ),
    Precision(
        "fp16-graph", _as_a_graph("fp16"), 2.4e-3, "11 bits: O2 as a graph, norms in float32"
    ),
    Precision(
        "fp16-saturating",
        _every_operation("fp16-saturating"),
        2.4e-3,
        "11 bits, no infinities: O2 on the first Atlas training series",
    ),
    Precision(
        "bf16",
        _every_operation("bf16"),
        1.9e-2,
        "8 bits after every operation: O2 in bfloat16, op by op",
    ),
    Precision("bf16-graph", _as_a_graph("bf16"), 1.9e-2, "8 bits: O2 in bfloat16 as a graph"),
    Precision(
        INT8,
        Rounding(INT8, CONTRACTIONS, OPERATION_KINDS),
        2.86e-2,
        "255 steps over the range of every result, as quantised graphs have",
    ),
)

PRECISIONS: Mapping[str, Precision] = {row.name: row for row in _ROWS}
"""The precisions by name."""


def coarser(*names: str) -> str:
    """Returns the precision of some that rounds most."""
    return max(names, key=lambda name: PRECISIONS[name].relative)


EMULATIONS: Mapping[str, Rounding] = {
    name: row.rounding for name, row in PRECISIONS.items() if row.rounding
} | {
    kernels.emulation: Rounding("fp32", exp=kernels.exp)
    for kernels in KERNELS.values()
    if kernels.exp
}
"""What each emulation rounds: the precisions, and float32 in kernels that ask for their own."""
