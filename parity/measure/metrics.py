"""How far one tap of a runtime is from the reference: every figure, gathered over batches.

The data is read once, in blocks of whole images that fit a cache; what is kept is a few hundred
numbers. Sums are of one image each, rounded as numpy rounds them, and then added without any
rounding: neither the size of the batches nor their order shows in a figure.
"""

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from parity.measure.ulp import ULP_BINS, count_ulps
from pvt_spec.arrays import Array

THOUSANDTH, FIVE_THOUSANDTHS = 1e-3, 5e-3
"""Relative errors below which msProbe counts an element as good."""

ZERO_SCALE = float(np.finfo(np.float64).eps)
"""What msProbe divides by where the reference is exactly 0 (``Const.FLOAT_EPSILON``)."""

_BLOCK = 2**17
"""Values taken at a time, 1 MiB in float64, though never less than an image.

A few such arrays stay in the cache: float32 (8, 3136, 64) takes 15 to 26 ms so, and 31 to 46 ms in
one piece (one thread of the machine that this was written on).
"""

_SMALLEST = 2**1074
"""Every float64 is a whole number of 1 / this, the smallest positive one."""


def exact_sum(values: Array) -> int:
    """Returns the sum of finite float64, in units of the smallest positive one, unrounded."""
    ratios = map(float.as_integer_ratio, values.tolist())
    return sum(numerator * (_SMALLEST // denominator) for numerator, denominator in ratios)


def exact_mean(total: int, count: int) -> float:
    """Returns the mean of ``count`` values from their :func:`exact_sum`, rounded once."""
    return total / (_SMALLEST * count)


@dataclass(frozen=True)
class Place:
    """An element of a tap.

    Attributes:
        image: The image's number, from 0 over all that was taken in.
        position: The element's index within the image's tensor.
    """

    image: int
    position: tuple[int, ...]


@dataclass(frozen=True)
class ShapeMismatch:
    """Shapes of the first batch that could not be compared."""

    actual: tuple[int, ...]
    reference: tuple[int, ...]


@dataclass
class TapError:
    """The distance of one tap from the reference.

    A tap that has seen nothing, a shape other than the reference's, or a value that is not finite
    is infinitely far: every error is inf, the SNR -inf, the shares NaN, and no comparison with a
    bound holds.

    The sums are those of :func:`exact_sum`, over images of which all are finite: of a, the
    runtime's values, of r, the reference's, and of d = a - r.

    Attributes:
        worst: Where the error is largest, or the first value that is not finite is; None without
            any error.
        largest: The largest absolute error of what could be compared; inf if it is not finite.
        mismatch: Shapes of the first batch whose shape is not the reference's.
        images: Images taken in.
        count: Values compared.
        nans: Values that are NaN where the reference is finite.
        infs: Values that are infinite where the reference is finite.
        reference_not_finite: Values that are NaN or infinite in the reference: no fault of the
            runtime's.
        overflows: Images that have a value, or a sum of squares, that is not finite.
        below_thousandth: Values whose relative error is below :data:`THOUSANDTH`.
        below_five_thousandths: Values whose relative error is below :data:`FIVE_THOUSANDTHS`.
        ulps: How many values are in each of :data:`ULP_BINS`, of those that came as float32.
        abs_d: The sum of |d|.
        dd: The sum of d².
        dr: The sum of d r.
        aa: The sum of a².
        ar: The sum of a r.
        rr: The sum of r².
    """

    worst: Place | None = None
    largest: float = 0.0
    mismatch: ShapeMismatch | None = None
    images: int = 0
    count: int = 0
    nans: int = 0
    infs: int = 0
    reference_not_finite: int = 0
    overflows: int = 0
    below_thousandth: int = 0
    below_five_thousandths: int = 0
    ulps: Counter[str] = field(default_factory=Counter)
    abs_d: int = 0
    dd: int = 0
    dr: int = 0
    aa: int = 0
    ar: int = 0
    rr: int = 0

    def add(self, actual: Array, reference: Array) -> None:
        """Takes in one batch.

        Args:
            actual: What the runtime has, of any float dtype, (B, …).
            reference: float64 (B, …). Any other shape than this is kept in :attr:`mismatch`.
        """
        if actual.shape != reference.shape:
            self.add_mismatch(actual.shape, reference.shape, len(reference))
            return
        size = max(1, _BLOCK * len(reference) // max(1, reference.size))
        for start in range(0, len(reference), size):
            part = slice(start, start + size)
            # What is not finite is counted, not warned of; casts of 1e39 to float32 are inf.
            with np.errstate(all="ignore"):
                self.merge(_measure(actual[part], reference[part]))

    def add_mismatch(
        self, actual: tuple[int, ...], reference: tuple[int, ...], images: int
    ) -> None:
        """Takes in images that cannot be compared, by the shapes of their batch."""
        self.merge(TapError(mismatch=ShapeMismatch(actual, reference), images=images))

    def merge(self, other: "TapError") -> None:
        """Takes in what another has seen, as if its batches had come after all so far."""
        if other.worst and other.largest > self.largest:
            image = self.images + other.worst.image
            self.largest, self.worst = other.largest, Place(image, other.worst.position)
        self.mismatch = self.mismatch or other.mismatch
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def finite(self) -> bool:
        """Whether every value is finite, in the reference too, and the square of every image."""
        return not self.overflows

    @property
    def measured(self) -> bool:
        """Whether the figures are numbers: something was seen, all of it comparable and finite."""
        return self.finite and self.mismatch is None and self.count > 0

    @property
    def max_abs(self) -> float:
        """Largest absolute error."""
        return self.largest if self.measured else math.inf

    @property
    def mean_abs(self) -> float:
        """Mean absolute error."""
        return exact_mean(self.abs_d, self.count) if self.measured else math.inf

    @property
    def rms(self) -> float:
        """Root mean square of the error."""
        return math.sqrt(exact_mean(self.dd, self.count)) if self.measured else math.inf

    @property
    def reference_rms(self) -> float:
        """Root mean square of the reference; NaN where nothing can be said, as it is a unit."""
        return math.sqrt(exact_mean(self.rr, self.count)) if self.measured else math.nan

    @property
    def scaled(self) -> float:
        """Largest absolute error in units of the reference's root mean square.

        Of a reference that is 0 everywhere: 0 if so is the error, else inf.
        """
        if not self.measured or not self.largest:
            return self.max_abs
        return self.largest / self.reference_rms if self.reference_rms else math.inf

    @property
    def one_minus_cosine(self) -> float:
        """1 - cosine similarity over all values, in [0, 2].

        Near 0 it is taken from the difference d = a - r, not from a cosine: it is
        sin² / (1 + cos), and sin² |a|² |r|² = |d|² |r|² - (d·r)². Its absolute error is then some
        1e-16 (|d| / |r|)², where 1 - cos computed as written is off by 1e-16. Where only one of
        the two is 0 everywhere it is 1, where both are 0.
        """
        if not self.measured:
            return math.inf
        aa, ar, rr = self.aa, self.ar, self.rr
        if not aa or not rr:
            return 0.0 if aa == rr else 1.0
        # The area between a and r is that between a - r and r: the shorter one loses fewer digits.
        shorter, along = (self.dd, self.dr) if self.dd < aa else (aa, ar)
        sine_squared = max(0, shorter * rr - along * along) / (aa * rr)
        cosine = math.sqrt(min(1.0, ar * ar / (aa * rr)))
        return sine_squared / (1 + cosine) if ar > 0 else 1 + cosine

    @property
    def snr(self) -> float:
        """Signal to noise in dB: squares of the reference over squares of the error.

        inf without any error, -inf where the reference is 0 everywhere and the error is not.
        """
        if not self.measured or (self.dd and not self.rr):
            return -math.inf
        return 10 * (math.log10(self.rr) - math.log10(self.dd)) if self.dd else math.inf

    @property
    def one_thousandth(self) -> float:
        """msProbe's *One Thousandth Err Ratio*: share of values with a relative error below 1e-3.

        Its ``GetErrRatio`` and ``get_relative_err`` (Ascend/msprobe,
        python/msprobe/core/compare/npy_compare.py): |a - r| / |r|, strictly below; where r is
        exactly 0, both have 2.2e-16 added first, so that |a| is divided by that; small values are
        divided like others. Where NaN or Inf differ in place it answers N/A; so does this, with
        NaN, where there are any. Computed in float64, there in the dtype of the dump.
        """
        return self.below_thousandth / self.count if self.measured else math.nan

    @property
    def five_thousandths(self) -> float:
        """msProbe's *Five Thousandths Err Ratio*: as :attr:`one_thousandth`, below 5e-3."""
        return self.below_five_thousandths / self.count if self.measured else math.nan

    @property
    def ulp_histogram(self) -> dict[str, int] | None:
        """How many values are how many units in the last place away, by :data:`ULP_BINS`.

        None where any value was not compared as float32.
        """
        if self.mismatch or not self.count or self.ulps.total() != self.count:
            return None
        return {name: self.ulps[name] for name in ULP_BINS}


_ADDED = [
    f.name for f in dataclasses.fields(TapError) if f.name not in ("worst", "largest", "mismatch")
]


def _measure(actual: Array, reference: Array) -> TapError:
    """Returns the distance of one block, of shapes that are the same and have an image at least."""
    rows = (len(reference), reference.size // len(reference))
    a = actual.astype(np.float64).reshape(rows)
    r = np.ascontiguousarray(reference, np.float64).reshape(rows)
    d = a - r
    distance, scratch = np.abs(d), np.empty_like(r)
    # Pairwise summation along a row: a matrix product would round as its library likes.
    products = {"dd": (d, d), "dr": (d, r), "aa": (a, a), "ar": (a, r), "rr": (r, r)}
    sums = {name: np.multiply(*pair, out=scratch).sum(axis=1) for name, pair in products.items()}
    sums["abs_d"] = distance.sum(axis=1)
    finite = np.isfinite(list(sums.values())).all(axis=0)
    error = TapError(images=len(reference), count=reference.size)
    error.overflows = np.count_nonzero(~finite)
    for name, values in sums.items():
        setattr(error, name, exact_sum(values[finite]))
    if error.overflows:
        known = np.isfinite(r)
        error.nans = np.count_nonzero(np.isnan(a) & known)
        error.infs = np.count_nonzero(np.isinf(a) & known)
        error.reference_not_finite = np.count_nonzero(~known)
    if reference.size:
        index = int(distance.argmax())  # of a NaN, where there is one
        error.largest = float(distance.flat[index])
        if not math.isfinite(error.largest):
            error.largest, index = math.inf, int(np.isfinite(distance).argmin())
        image, *position = map(int, np.unravel_index(index, reference.shape))
        error.worst = Place(image, tuple(position))
    scale = np.abs(r, out=scratch)
    scale[scale == 0] = ZERO_SCALE
    relative = np.divide(distance, scale, out=scale)
    error.below_thousandth = np.count_nonzero(relative < THOUSANDTH)
    error.below_five_thousandths = np.count_nonzero(relative < FIVE_THOUSANDTHS)
    if actual.dtype == np.float32:
        error.ulps = count_ulps(actual.reshape(rows), r)
    return error
