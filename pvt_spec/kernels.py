"""How far the kernels of runtimes are from exact where more than the order of sums makes them err.

``python -m benchmarks.kernels`` measures each figure, on whatever it is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

UNIT = 2.0**-24
"""The most that rounding once to float32 errs, relatively."""


@dataclass(frozen=True)
class Exponential:
    """exp as ``2**n * P(x - n * ln2)``, P the Taylor polynomial and n the nearest whole number.

    Its relative error is that of the polynomial, which repeats with every ``ln2``, and one that
    grows with the argument: ``x / ln2`` times the error of ``ln2``.

    Attributes:
        ln2: What the kernel takes for ln 2.
        degree: The polynomial's.
        log: The most that log errs, absolutely, where a log-softmax takes it of a sum of these.
        serial: Whether the kernels beside it sum the gradients of a bias and of a log-softmax term
            by term.
    """

    ln2: float
    degree: int
    log: float = 0.0
    serial: bool = False


@dataclass(frozen=True)
class Kernels:
    """What computes float32 in a kind of runtime on a device.

    Attributes:
        kind: ``"torch"``, ``"mindspore"`` or ``"onnx"``, as of :class:`pvt_spec.runtime.Runtime`.
        device: What the runtime's facts call it.
        measured: Function -> its largest error, in units of :data:`UNIT`: what
            ``benchmarks.kernels`` finds.
        source: What is known of them, and from where.
        exp: How exp is computed where rounding in random orders does not cover it, else None.
        known: Whether anything is; if not, it is what the strictest row has.
    """

    kind: str
    device: str
    measured: Mapping[str, float]
    source: str
    exp: Exponential | None = None
    known: bool = True

    @property
    def emulation(self) -> str:
        """The name of the emulation that measures what they do to float32."""
        return f"fp32 {self.name}" if self.exp else "fp32"

    @property
    def name(self) -> str:
        """What they are, for users."""
        return f"{self.kind} on {self.device}" if self.device else "what computed it"


STRICTEST = Kernels(
    "torch",
    "CPU",
    {
        "exp": 2.0,
        "erf": 5.3,
        "tanh": 1.9,
        "norm": 2.4,
        "variance": 1.3,
        "sum": 4.2,
        "log": 5.6,
        "loss": 50,
        "bias": 2.7,
    },
    "measured, PyTorch 2.13 with ATEN_CPU_CAPABILITY=default, AVX2 and AVX-512, whose erf is 5.3",
)
"""What judges kernels of which nothing is known: they may err no more than these."""

_ROWS = (
    STRICTEST,
    Kernels(
        "mindspore",
        "CPU",
        {
            "exp": 322,
            "erf": 1.7,
            "tanh": 1.9,
            "norm": 1.8,
            "variance": 0.9,
            "sum": 4.9,
            "log": 62,
            "loss": 345,
            "bias": 44,
        },
        "measured, MindSpore 2.10; exp is that of nnacl/fp32/exp_fp32.h",
        Exponential(ln2=0.693147, degree=5, log=3.7e-6, serial=True),
    ),
    Kernels(
        "onnx",
        "CPU",
        {"exp": 2.0, "erf": 1.7, "tanh": 3.1, "norm": 2.7, "variance": 1.1, "sum": 4.9},
        "measured, onnxruntime 1.31 with AVX2 and AVX-512",
    ),
    Kernels(
        "onnx",
        "CPU by OpenVINO",
        {"exp": 5.2, "erf": 5.3, "tanh": 2.0, "norm": 2.8, "variance": 1.3, "sum": 9.4},
        "measured, OpenVINO 2026.4 with AVX2, where sums go term by term, and AVX-512",
    ),
)

KERNELS: Mapping[tuple[str, str], Kernels] = {(row.kind, row.device): row for row in _ROWS}
"""The rows, by kind and device."""


def find_kernels(kind: str, device: str) -> Kernels:
    """Returns what is known of a runtime's kernels; as :data:`STRICTEST` where nothing is."""
    unknown = replace(STRICTEST, kind=kind, device=device, known=False)
    return KERNELS.get((kind, device), unknown)
