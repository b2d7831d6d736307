"""Counts of labelled images, and what they say of all such images."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from pvt_data.answers.accuracy import Tally, cross_entropy, softmax, wilson_interval


@given(st.integers(0, 60_000), st.integers(0, 60_000))
def test_intervals_are_scipys(hits: int, others: int) -> None:
    low, high = wilson_interval(hits, hits + others)
    if hits + others:
        expected = stats.binomtest(hits, hits + others).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0 <= low <= hits / (hits + others) <= high <= 1


def test_of_no_image_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(0, 9)[0] == 0 and wilson_interval(9, 9)[1] == 1


def test_classes_are_counted_by_what_they_are_and_by_what_is_answered() -> None:
    logits = np.float32([[9, 0, 1, 2, 3, 4], [9, 0, 1, 2, 3, 4], [0, 9, 1, 2, 3, 4]])
    tally = Tally.of(logits, np.array([0, 1, 5]))
    assert tally.by_class.tolist() == [
        [1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [2, 1, 0, 0, 0, 0],
    ]  # fmt: skip
    both = Tally() + tally + tally
    assert (both.count, both.first, both.among_five) == (6, 2, 4)
    assert both.loss == 2 * tally.loss


def test_the_loss_is_that_of_the_labels_probability() -> None:
    logits = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    labels = np.array([0, 6, 3, 3, 1])
    chosen = softmax(logits)[np.arange(5), labels]
    assert cross_entropy(logits, labels) == pytest.approx(-np.log(chosen), rel=1e-12)
    assert Tally.of(logits, labels).loss == pytest.approx(-np.log(chosen).sum(), rel=1e-12)
    assert cross_entropy(np.float32([[3e38, -3e38]]), np.array([1])) == pytest.approx(6e38)
