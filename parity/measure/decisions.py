"""Whether a runtime decides as the reference does: classes, not digits, gathered over batches."""

import math
from dataclasses import dataclass, field

import numpy as np

from parity.measure.metrics import exact_mean, exact_sum
from pvt_data.answers.accuracy import hits, top_k
from pvt_spec.arrays import Array

FIRST_KEPT = 5
"""Indices of images kept of each kind of flip."""

LARGEST_LOGIT = 1e300
"""Logits from here on are as good as infinite: their differences may be."""


@dataclass
class Decisions:
    """The classes that a runtime chooses, against those of the reference.

    The first class is that of the largest logit, and of equal ones that of the lowest index, in
    both. An image with a logit that is not finite (:data:`LARGEST_LOGIT`), in the runtime or in
    the reference, never agrees; nor does any of a batch of another shape than the reference's.

    A flip is an image whose first class is another one. The two classes involved are *a margin*
    apart in the reference. If no logit is further from the reference than a bound, then a margin
    of up to twice the bound can close, and the flip is rounding; else it is a bug. A bound that is
    not finite explains no flip, and no bound explains an image that is not finite.

    Attributes:
        images: How many images were taken in.
        same_first: Images whose first class is the reference's.
        same_five: Images whose first five classes are the reference's, in any order; all classes
            where there are fewer.
        roundings: Flips within the reference's own margin of uncertainty.
        bugs: All other flips.
        first_roundings: The images of the first :data:`FIRST_KEPT` roundings, from 0 over all.
        first_bugs: The images of the first :data:`FIRST_KEPT` bugs.
        not_finite: Images that could not agree.
        max_divergence: The largest of :func:`divergences`; inf where an image is not finite.
        labelled: Images that came with a label.
        right: Labelled images that the runtime has right.
        reference_right: Labelled images that the reference has right.
        right_five: Labelled images whose label is among the runtime's first five classes.
        reference_right_five: Labelled images whose label is among the reference's.
        only_right: Labelled images that the runtime alone has right.
        only_reference_right: Labelled images that the reference alone has right.
    """

    images: int = 0
    same_first: int = 0
    same_five: int = 0
    roundings: int = 0
    bugs: int = 0
    first_roundings: list[int] = field(default_factory=list)
    first_bugs: list[int] = field(default_factory=list)
    not_finite: int = 0
    max_divergence: float = 0.0
    labelled: int = 0
    right: int = 0
    reference_right: int = 0
    right_five: int = 0
    reference_right_five: int = 0
    only_right: int = 0
    only_reference_right: int = 0
    _divergence: int = field(default=0, repr=False)

    def add(
        self,
        actual: Array,
        reference: Array,
        bound: float | Array,
        labels: Array | None = None,
    ) -> None:
        """Takes in one batch.

        Args:
            actual: The runtime's logits, of any float dtype, (B, num_classes).
            reference: The reference's logits, float64 (B, num_classes).
            bound: How far rounding may take a logit, in its own units: one for all, or (B,).
            labels: Class indices, int (B,).
        """
        if actual.shape != reference.shape:
            actual = np.full(reference.shape, np.nan)
        actual = actual.astype(np.float64)
        finite, reference_finite = _all_finite(actual), _all_finite(reference)
        known = finite & reference_finite
        ours, theirs = top_k(actual, 5), top_k(reference, 5)
        same = (ours[:, 0] == theirs[:, 0]) & known
        explained = known & _could_close(reference, theirs[:, 0], ours[:, 0], bound)
        self.same_first += int(same.sum())
        self.same_five += int(((np.sort(ours) == np.sort(theirs)).all(axis=1) & known).sum())
        self.not_finite += int((~known).sum())
        self.roundings += self._keep_first(self.first_roundings, ~same & explained)
        self.bugs += self._keep_first(self.first_bugs, ~same & ~explained)
        values = divergences(actual[known], reference[known])
        worst = float(values.max(initial=0.0)) if known.all() else math.inf
        self.max_divergence = max(self.max_divergence, worst)
        self._divergence += exact_sum(values)
        if labels is not None:
            right, five = (hit & finite for hit in hits(actual, labels))
            reference_right, reference_five = (
                h & reference_finite for h in hits(reference, labels)
            )
            self.labelled += len(labels)
            self.right += int(right.sum())
            self.right_five += int(five.sum())
            self.reference_right += int(reference_right.sum())
            self.reference_right_five += int(reference_five.sum())
            self.only_right += int((right & ~reference_right).sum())
            self.only_reference_right += int((reference_right & ~right).sum())
        self.images += len(reference)

    def _keep_first(self, kept: list[int], flips: Array) -> int:
        """Keeps the first images of a kind of flip, and returns how many there are of bool (B,)."""
        images = (self.images + np.flatnonzero(flips)).tolist()
        kept.extend(images[: FIRST_KEPT - len(kept)])
        return len(images)

    @property
    def mean_divergence(self) -> float:
        """Mean of :func:`divergences`; inf where an image is not finite or none was seen."""
        if self.not_finite or not self.images:
            return math.inf
        return exact_mean(self._divergence, self.images)

    @property
    def disagreement_upper(self) -> float:
        """The rate of flips on images like these is below this with 95 % confidence."""
        return clopper_pearson_upper(self.images - self.same_first, self.images, 0.95)

    @property
    def disagreement_interval(self) -> tuple[float, float]:
        """The rate of flips on images like these is in this interval with 95 % confidence."""
        return clopper_pearson_interval(self.images - self.same_first, self.images, 0.95)

    @property
    def accuracy(self) -> float | None:
        """Share in [0, 1] of the labelled images that the runtime has right; None without any.

        One whose logits are not finite is wrong.
        """
        return self.right / self.labelled if self.labelled else None

    @property
    def reference_accuracy(self) -> float | None:
        """The :attr:`accuracy` of the reference."""
        return self.reference_right / self.labelled if self.labelled else None

    @property
    def accuracy_p_value(self) -> float | None:
        """The p of :func:`mcnemar_p_value`; None without labels."""
        if not self.labelled:
            return None
        return mcnemar_p_value(self.only_right, self.only_reference_right)


def _all_finite(logits: Array) -> Array:
    """Returns bool (B,) of logits (B, num_classes): whether an image has finite ones alone."""
    finite: Array = (np.abs(logits) < LARGEST_LOGIT).all(axis=1)
    return finite


def _could_close(reference: Array, first: Array, other: Array, bound: float | Array) -> Array:
    """Returns whether logits that each move by ``bound`` could put ``other`` before ``first``.

    Args:
        reference: The logits of the reference, float64 (B, num_classes).
        first: The class of the largest logit of each image, int (B,).
        other: Another class, int (B,).
        bound: One for all images, or (B,).

    Returns:
        bool (B,).
    """
    rows = np.arange(len(reference))
    with np.errstate(all="ignore"):  # not of use where a logit is not finite
        margin = reference[rows, first] - reference[rows, other]
        closes: Array = np.isfinite(bound) & (margin <= 2 * np.asarray(bound))
    return closes


def divergences(actual: Array, reference: Array) -> Array:
    """Returns the Kullback-Leibler divergence of the runtime's probabilities, in nats.

    From the reference's it is the sum of p (log p - log q) with p = softmax(reference) and
    q = softmax(actual): never below 0, and finite for all finite logits, as it is computed from
    logarithms.

    Args:
        actual: The runtime's logits, float64 (B, num_classes), below :data:`LARGEST_LOGIT`.
        reference: The reference's, likewise.

    Returns:
        float64 (B,).
    """
    ours, theirs = _log_softmax(actual), _log_softmax(reference)
    total: Array = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
    # Rounding may take what is 0 below it.
    return np.maximum(total, 0.0)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def clopper_pearson_upper(events: int, trials: int, confidence: float) -> float:
    """Returns the one-sided upper bound of Clopper and Pearson (1934) on a rate.

    It is the rate at which P(X <= events) = 1 - ``confidence``, X ~ Binomial(trials, rate), and 1
    without any trial.
    """
    return 1.0 if events >= trials else _rate_at(events, trials, 1 - confidence)


def clopper_pearson_interval(events: int, trials: int, confidence: float) -> tuple[float, float]:
    """Returns the two-sided interval: a one-sided bound at either end, half of the error each."""
    one_sided = (1 + confidence) / 2
    # P(X >= events) = 1 - one_sided where P(X <= events - 1) = one_sided.
    low = _rate_at(events - 1, trials, one_sided) if events else 0.0
    return low, clopper_pearson_upper(events, trials, one_sided)


def _rate_at(events: int, trials: int, probability: float) -> float:
    """Returns the rate at which P(X <= events) = probability, X ~ Binomial(trials, rate)."""
    low, high = 0.0, 1.0
    # The probability falls as the rate grows; this ends where float64 has nothing in between.
    while low < (middle := (low + high) / 2) < high:
        if _at_most(events, trials, middle) > probability:
            low = middle
        else:
            high = middle
    return high


def _at_most(events: int, trials: int, rate: float) -> float:
    """Returns P(X <= events), X ~ Binomial(trials, rate)."""
    count = np.arange(events + 1)
    # Binomial coefficients as sums of ratios: differences of log-gammas would lose a digit for
    # every one of ``trials``.
    ratios = np.log((trials + 1 - count[1:]) / count[1:])
    coefficients = np.concatenate([[0.0], np.cumsum(ratios)])
    logarithms = coefficients + count * math.log(rate) + (trials - count) * math.log1p(-rate)
    return float(np.exp(logarithms).sum())


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Returns McNemar's exact p: how surprising it is that one of two has more images right.

    It is min(1, 2 P(X <= fewer)), X ~ Binomial(only_first + only_second, 1/2); 1 where they are as
    many.

    Args:
        only_first: Images that only the first has right.
        only_second: Images that only the second has right.
    """
    if only_first == only_second:
        return 1.0
    return min(1.0, 2 * _at_most(min(only_first, only_second), only_first + only_second, 0.5))
