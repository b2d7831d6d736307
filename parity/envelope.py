"""How far a run of a precision may be from float64, and whether one is.

Predicting it runs :mod:`pvt_torch.emulation`; judging a run needs no framework.
May import numpy and pvt_spec.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pvt_spec import tap_names
from pvt_spec.arrays import Array

ENVELOPE_FACTOR = 4.0
"""Up to how many times its prediction the error of a real run may be, RMS and largest, at any tap.

Measured on a CPU over v1, v2 and linear v2, small ones and pvt_tiny, pvt_v2_b0 and pvt_v2_b2_li at
96 pixels, official and mindcv profiles, random and initial weights, as :func:`times_predicted`:

- ``fp16``: MindSpore's O2 0.63 to 2.2, torch's float16 0.71 to 1.7, its autocast 0.32 to 1.6.
- ``fp16-graph``: torch's float16 0.78 to 2.3; O2 as a graph, logits alone, 0.76 to 1.2.
- ``bf16``: torch's bfloat16 0.48 to 1.9, its autocast 0.47 to 2.0.
- ``fp32``: MindSpore, PyTorch and onnxruntime 0.25 to 2.1.

Both ends are taps of few values; the median is near 1 everywhere. The rest of the factor is for
kernels that round within an operation, as MindSpore's float16 layer norm does on a CPU (O3: up to
2.4), and for tensor cores that cut TF32 instead of rounding it. An error 30 times any of these
was outside.
"""

_TINY = float(np.finfo(np.float64).tiny)


@dataclass
class Deviation:
    """The distance of one tap from float64, gathered over batches.

    Attributes:
        max_abs: Largest absolute error; infinite if any value is not finite.
        count: Values seen.
        square: Sum of the errors' squares.
    """

    max_abs: float = 0.0
    count: int = 0
    square: float = 0.0

    def add(self, actual: Array, reference: Array) -> None:
        """Takes in one batch: ``actual`` of any float dtype, ``reference`` float64.

        Another shape than the reference's counts as infinitely far.
        """
        if actual.shape != reference.shape:
            actual = np.full_like(reference, np.inf)
        error = np.abs(actual.astype(np.float64) - reference)
        worst = float(error.max())
        self.max_abs = max(self.max_abs, worst if np.isfinite(worst) else float("inf"))
        self.count += error.size
        self.square += float(np.vdot(error, error))

    @property
    def rms(self) -> float:
        """Root mean square of the error; not finite if any value was not."""
        return float(np.sqrt(self.square / self.count))

    @property
    def overflowed(self) -> bool:
        """Whether any value was not finite."""
        return not np.isfinite(self.max_abs)


def times_predicted(actual: Deviation, predicted: Deviation) -> float:
    """How many times the predicted error the actual one is, the worse of RMS and largest.

    A real run is within the envelope up to :data:`ENVELOPE_FACTOR`. Where the prediction itself has
    overflowed it can judge nothing, and the answer is 0.
    """
    if predicted.overflowed:
        return 0.0
    if actual.overflowed:
        return float("inf")
    pairs = (actual.rms, predicted.rms), (actual.max_abs, predicted.max_abs)
    return max(ours / max(theirs, _TINY) for ours, theirs in pairs)


class Envelope:
    """What a precision does to every tap, from several runs that sum in different orders.

    The first run sums as torch does, the others each in an order of their own: rounding that
    falls otherwise in one place does so in all that follow, so that a tap of few values, such as
    the logits, is not judged by the luck of one run.

    Args:
        model: A ``pvt_torch`` model of float32 weights, in float32 or float64, evaluation mode.
        precision: Its name, of :data:`pvt_torch.emulation.PRECISIONS`.
        runs: How many; memory does not grow with them.
        seed: Of the orders: the same seed and batches give the same envelope.

    Attributes:
        taps: By name, in forward order: RMS over all runs, the largest error of any.

    Raises:
        EmulationError: No precision has that name.
    """

    def __init__(self, model: Any, precision: str, *, runs: int = 3, seed: int = 0):
        from pvt_torch.emulation import find_precision, float32_twin

        self.model = float32_twin(model)
        self.precision = find_precision(precision)
        self.seeds = [None, *range(seed, seed + runs - 1)]
        self.taps = {name: Deviation() for name in tap_names(model.config)}

    def add(self, images: Array, reference: Mapping[str, Array]) -> None:
        """Takes in one batch.

        Args:
            images: float32 (B, in_chans, H, W), normalised.
            reference: The model's own taps in float64.
        """
        from pvt_torch.emulation import emulated_taps

        for seed in self.seeds:
            actual = emulated_taps(self.model, images, self.precision, seed)
            for name, deviation in self.taps.items():
                deviation.add(actual[name], reference[name])


def predict_envelope(
    model: Any,
    precision: str,
    batches: Iterable[Array],
    *,
    runs: int = 3,
    seed: int = 0,
) -> dict[str, Deviation]:
    """What a precision does to every tap over all batches; see :class:`Envelope`."""
    from pvt_torch import run_taps

    reference = copy.deepcopy(model).double()
    envelope = Envelope(model, precision, runs=runs, seed=seed)
    for images in batches:
        envelope.add(images, run_taps(reference, images))
    return envelope.taps
