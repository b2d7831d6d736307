"""How far one tap of a runtime is from the reference: every figure, gathered over batches.

The data is read once, in blocks of whole images that fit a cache; what is kept is a few hundred
numbers. Sums are of one image each, rounded as numpy rounds them, and then added without any
rounding: neither the size of the batches nor their order shows in a figure.
"""

import math
from collections.abc import Iterable
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
    """The sum of finite float64 values, in units of the smallest positive float64, unrounded."""
    total = 0
    for value in values.tolist():
        numerator, denominator = value.as_integer_ratio()
        total += numerator * (_SMALLEST // denominator)
    return total


def exact_mean(total: int, count: int) -> float:
    """A sum of :func:`exact_sum` over how many values it is of, rounded once."""
    return total / (_SMALLEST * count)


@dataclass(frozen=True)
class Place:
    """An element of a tap.

    Attributes:
        image: Counted from 0 over all that was taken in.
        position: Within the image's tensor.
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

    Attributes:
        images: Taken in.
        count: Values compared.
        finite: Whether every value is, in the reference too, and the square of every image.
        worst: Where the error is largest, or the first value that is not finite is; None without
            any error.
        mismatch: Shapes of the first batch whose shape is not the reference's.
        nans: NaN where the reference is finite.
        infs: Inf where the reference is finite.
        reference_not_finite: NaN and Inf in the reference: no fault of the runtime's.
    """

    images: int = 0
    count: int = 0
    finite: bool = True
    worst: Place | None = None
    mismatch: ShapeMismatch | None = None
    nans: int = 0
    infs: int = 0
    reference_not_finite: int = 0
    _max_abs: float = 0.0
    _good: list[int] = field(default_factory=lambda: [0] * 2, repr=False)
    _ulps: list[int] = field(default_factory=lambda: [0] * len(ULP_BINS), repr=False)
    _sums: list[int] = field(default_factory=lambda: [0] * 6, repr=False)

    def add(self, actual: Array, reference: Array) -> None:
        """Takes in one batch.

        Args:
            actual: Of any float dtype, (B, …).
            reference: float64 (B, …). Any other shape than this is kept in :attr:`mismatch`.
        """
        if actual.shape != reference.shape:
            self.refuse(actual.shape, reference.shape, len(reference))
            return
        size = max(1, _BLOCK * len(reference) // max(1, reference.size))
        for start in range(0, len(reference), size):
            part = slice(start, start + size)
            # What is not finite is counted, not warned of; casts of 1e39 to float32 are inf.
            with np.errstate(all="ignore"):
                self._add_block(actual[part], reference[part])

    def refuse(self, actual: tuple[int, ...], reference: tuple[int, ...], images: int) -> None:
        """Takes in images that cannot be compared, by the shapes of their batch."""
        self.mismatch = self.mismatch or ShapeMismatch(actual, reference)
        self.images += images

    def _add_block(self, actual: Array, reference: Array) -> None:
        rows = (len(reference), reference.size // len(reference))
        wide = actual.astype(np.float64).reshape(rows)
        exact = np.ascontiguousarray(reference, np.float64).reshape(rows)
        difference = wide - exact
        distance = np.abs(difference)
        sums = _image_sums(wide, exact, difference, distance)
        finite = np.isfinite(sums).all(axis=0)
        self._sums = _plus(self._sums, map(exact_sum, sums[:, finite]))
        if not finite.all():
            self.finite = False
            self._count_not_finite(wide, exact)
        if reference.size:
            largest, flat = _find_largest(distance)
            image, *position = map(int, np.unravel_index(flat, reference.shape))
            self._take_worst(largest, Place(self.images + image, tuple(position)))
        self._good = _plus(self._good, _count_good(distance, exact))
        if actual.dtype == np.float32:
            self._ulps = _plus(self._ulps, count_ulps(actual.reshape(rows), exact))
        self.images += len(reference)
        self.count += reference.size

    def _count_not_finite(self, actual: Array, reference: Array) -> None:
        known = np.isfinite(reference)
        self.nans += int(np.count_nonzero(np.isnan(actual) & known))
        self.infs += int(np.count_nonzero(np.isinf(actual) & known))
        self.reference_not_finite += int(np.count_nonzero(~known))

    def _take_worst(self, error: float, place: Place) -> None:
        if error > self._max_abs:
            self._max_abs, self.worst = error, place

    def merge(self, other: "TapError") -> None:
        """Takes in what another has seen, as if its batches had come after all so far."""
        if other.worst:
            image = self.images + other.worst.image
            self._take_worst(other._max_abs, Place(image, other.worst.position))
        self.mismatch = self.mismatch or other.mismatch
        self.images += other.images
        self.count += other.count
        self.finite &= other.finite
        self.nans += other.nans
        self.infs += other.infs
        self.reference_not_finite += other.reference_not_finite
        self._good = _plus(self._good, other._good)
        self._ulps = _plus(self._ulps, other._ulps)
        self._sums = _plus(self._sums, other._sums)

    @property
    def measured(self) -> bool:
        """Whether the figures are numbers: something was seen, all of it comparable and finite."""
        return self.finite and self.mismatch is None and self.count > 0

    @property
    def max_abs(self) -> float:
        """Largest absolute error."""
        return self._max_abs if self.measured else math.inf

    @property
    def mean_abs(self) -> float:
        """Mean absolute error."""
        return exact_mean(self._sums[0], self.count) if self.measured else math.inf

    @property
    def rms(self) -> float:
        """Root mean square of the error."""
        return math.sqrt(exact_mean(self._sums[1], self.count)) if self.measured else math.inf

    @property
    def reference_rms(self) -> float:
        """Root mean square of the reference; NaN where nothing can be said, as it is a unit."""
        return math.sqrt(exact_mean(self._sums[5], self.count)) if self.measured else math.nan

    @property
    def scaled(self) -> float:
        """Largest absolute error in units of the reference's root mean square.

        Of a reference that is 0 everywhere: 0 if so is the error, else inf.
        """
        if not self.measured or not self._max_abs:
            return self.max_abs
        return self._max_abs / self.reference_rms if self.reference_rms else math.inf

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
        _, dd, dr, aa, ar, rr = self._sums
        if not aa or not rr:
            return 0.0 if aa == rr else 1.0
        # The area between a and r is that between a - r and r: the shorter one loses fewer digits.
        shorter, along = (dd, dr) if dd < aa else (aa, ar)
        sine_squared = max(0, shorter * rr - along * along) / (aa * rr)
        cosine = math.sqrt(min(1.0, ar * ar / (aa * rr)))
        return sine_squared / (1 + cosine) if ar > 0 else 1 + cosine

    @property
    def cosine(self) -> float:
        """Cosine similarity over all values."""
        return 1 - self.one_minus_cosine

    @property
    def snr(self) -> float:
        """Signal to noise in dB: squares of the reference over squares of the error.

        inf without any error, -inf where the reference is 0 everywhere and the error is not.
        """
        noise, signal = self._sums[1], self._sums[5]
        if not self.measured or (noise and not signal):
            return -math.inf
        return 10 * (math.log10(signal) - math.log10(noise)) if noise else math.inf

    @property
    def one_thousandth(self) -> float:
        """msProbe's *One Thousandth Err Ratio*: share of values with a relative error below 1e-3.

        Its ``GetErrRatio`` and ``get_relative_err`` (Ascend/msprobe,
        python/msprobe/core/compare/npy_compare.py): |a - r| / |r|, strictly below; where r is
        exactly 0, both have 2.2e-16 added first, so that |a| is divided by that; small values are
        divided like others. Where NaN or Inf differ in place it answers N/A; so does this, with
        NaN, where there are any. Computed in float64, there in the dtype of the dump.
        """
        return self._good[0] / self.count if self.measured else math.nan

    @property
    def five_thousandths(self) -> float:
        """msProbe's *Five Thousandths Err Ratio*: as :attr:`one_thousandth`, below 5e-3."""
        return self._good[1] / self.count if self.measured else math.nan

    @property
    def ulp_histogram(self) -> dict[str, int] | None:
        """How many values are how many units in the last place away, by :data:`ULP_BINS`.

        None where any value was not compared as float32.
        """
        if self.mismatch or not self.count or sum(self._ulps) != self.count:
            return None
        return dict(zip(ULP_BINS, self._ulps, strict=True))


def _image_sums(actual: Array, reference: Array, difference: Array, distance: Array) -> Array:
    """float64 (6, B): |d|, d·d, d·r, a·a, a·r, r·r of every image, of float64 (B, N) each."""
    pairs = (
        (difference, difference),
        (difference, reference),
        (actual, actual),
        (actual, reference),
        (reference, reference),
    )
    scratch = np.empty_like(reference)
    # Pairwise summation along a row: a matrix product would round as its library likes.
    products = (np.multiply(a, b, out=scratch).sum(axis=1) for a, b in pairs)
    return np.stack([distance.sum(axis=1), *products])


def _find_largest(distance: Array) -> tuple[float, int]:
    """The largest value of float64 (B, N) and its flat index, or inf and the first not finite."""
    index = int(distance.argmax())  # of a NaN, where there is one
    largest = float(distance.flat[index])
    if math.isfinite(largest):
        return largest, index
    return math.inf, int(np.isfinite(distance).argmin())


def _count_good(distance: Array, reference: Array) -> list[int]:
    """How many values have a relative error below 1e-3, and below 5e-3."""
    scale = np.abs(reference)
    scale[scale == 0] = ZERO_SCALE
    relative = np.divide(distance, scale, out=scale)
    return [np.count_nonzero(relative < bound) for bound in (THOUSANDTH, FIVE_THOUSANDTHS)]


def _plus(old: Iterable[int], new: Iterable[int]) -> list[int]:
    return [a + b for a, b in zip(old, new, strict=True)]
