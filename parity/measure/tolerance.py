"""What counts as rounding: the unit of each precision, and how many of it are allowed."""

from dataclasses import dataclass

import numpy as np

from parity.errors import ParityError
from parity.measure.envelope import Envelope, Unit
from pvt_spec.arrays import Array
from pvt_spec.precisions import PRECISIONS, Precision

FACTOR = 3.5
"""Up to how many times rounding, see :meth:`parity.measure.envelope.Unit.times`, an error still is.

Of 26303 taps of clean runs of trained models (``benchmarks/README.md``: MindSpore, PyTorch and
onnxruntime on a CPU; sharpened attention, large branches) the largest is 2.02, 2.46 where values
are few; two orders, as large images have, scatter more. The rest is for other machines' kernels,
and for tensor cores that cut TF32 instead of rounding it.
"""

FEW, FACTOR_OF_FEW = 256, 12.0
"""Values of a tap over a group below which the factor is this larger one.

The root mean square of few values, correlated through the layer that they come from, scatters as
that of a handful would: of 5, one in 5000 is 4 times that of 10 others (F distribution), one in
20 million is 12 times.
"""

PEAK = 13.0
"""The largest error at a tap over its root mean square, in the same runs: 12.6 at most."""


def find_tolerance(precision: str) -> Precision:
    """Returns a precision by its name.

    Raises:
        ParityError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise ParityError(
            f"no tolerance class is for precision {precision!r}: there are {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[precision]


def allowed_times(count: int) -> float:
    """Returns how many times rounding a tap of ``count`` values over a group may be off."""
    return FACTOR if count >= FEW else FACTOR_OF_FEW


@dataclass(frozen=True)
class FixedTolerance:
    """What the user allows instead: |difference| at most ``atol + rtol |reference|`` everywhere."""

    atol: float
    rtol: float

    def excess(self, actual: Array, reference: Array) -> Array:
        """Returns each |difference| over what is allowed there, float64; inf if not finite."""
        with np.errstate(all="ignore"):
            error = np.abs(actual - reference, dtype=np.float64)
            allowed = self.atol + self.rtol * np.abs(reference)
            # What is equal is within any tolerance, none at all too.
            excess: Array = np.divide(error, allowed, where=error != 0, out=error)
        return np.where(np.isfinite(excess), excess, np.inf)


def unit_of(
    tolerance: Precision, envelope: Envelope | None, tap: str, group: str, reference_rms: float
) -> Unit:
    """Returns the unit of a tap over a group: measured, or from the table without an envelope.

    Args:
        tolerance: The precision that was run.
        envelope: What the emulation of that precision did to these images.
        tap: The tap's name.
        group: The group of images.
        reference_rms: The root mean square of the reference there.
    """
    if envelope:
        return envelope.unit(tap, group)
    rms = tolerance.relative * reference_rms
    return Unit(rms, PEAK * rms)
