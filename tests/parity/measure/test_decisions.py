"""Decisions against scipy's statistics, cases by hand, and the laws between batches."""

import math
from decimal import Decimal, localcontext

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from parity.measure.decisions import (
    FIRST_KEPT,
    Decisions,
    clopper_pearson_interval,
    clopper_pearson_upper,
    divergences,
    mcnemar_p_value,
)


def decide(actual, reference, bound=0.0, labels=None) -> Decisions:
    decisions = Decisions()
    labels = labels if labels is None else np.array(labels)
    decisions.add(np.array(actual), np.array(reference, np.float64), bound, labels)
    return decisions


def noisy(seed: int, images: int = 40, classes: int = 7, noise: float = 0.5):
    """Logits of which some flip, and labels of which some are right."""
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((images, classes))
    actual = reference + noise * rng.standard_normal(reference.shape)
    return actual.astype(np.float32), reference, rng.integers(0, classes, images)


@st.composite
def cases(draw) -> tuple[np.ndarray, ...]:
    """Logits with ties and values that are not finite, a bound per image, labels."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 8)))
    usual = st.integers(-3, 3).map(float)
    logits = st.one_of(usual, usual, usual, st.sampled_from([0.25, np.nan, np.inf, -np.inf]))
    actual = draw(hnp.arrays(np.float32, shape, elements=logits))
    reference = draw(hnp.arrays(np.float64, shape, elements=usual))
    bound = draw(hnp.arrays(np.float64, shape[0], elements=st.sampled_from([0.0, 0.5, 1.0])))
    labels = draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    return actual, reference, bound, labels


# --- agreement and flips


def test_what_is_identical_agrees():
    _, reference, labels = noisy(0)
    decisions = decide(reference, reference, labels=labels)
    assert decisions.same_first == decisions.same_five == decisions.images == 40
    assert decisions.roundings == decisions.bugs == decisions.not_finite == 0
    assert decisions.mean_divergence == decisions.max_divergence == 0.0
    assert decisions.accuracy == decisions.reference_accuracy
    assert decisions.accuracy_p_value == 1.0


@pytest.mark.parametrize(
    ("bound", "rounding"),
    [
        (0.0, False),
        (0.2499, False),
        (0.25, True),
        (1.0, True),
        (math.nan, False),
        (math.inf, False),
    ],
)
def test_flip_within_twice_the_bound_is_rounding(bound, rounding):
    """The reference's margin is 0.5: each of two logits has to move by half of it."""
    decisions = decide([[0.0, 1.0, 1.25]], [[0.0, 1.5, 1.0]], bound)
    assert (decisions.roundings, decisions.bugs) == (rounding, not rounding)
    assert decisions.first_roundings == [0] * rounding
    assert decisions.first_bugs == [0] * (not rounding)


def test_margin_is_between_the_two_classes_involved():
    """To the second of the reference it is 0.1, but it is the third that was chosen."""
    decisions = decide([[0.0, 0.0, 9.0]], [[2.0, 1.9, 0.0]], bound=0.1)
    assert (decisions.roundings, decisions.bugs) == (0, 1)


def test_every_image_may_have_its_bound():
    actual, reference = [[0.0, 1.0]] * 3, [[1.0, 0.0]] * 3
    decisions = decide(actual, reference, np.array([0.4, 0.5, 0.6]))
    assert (decisions.first_bugs, decisions.first_roundings) == ([0], [1, 2])


def test_flips_are_kept_up_to_a_few():
    actual, reference = [[0.0, 1.0]] * 4, [[1.0, 0.0]] * 4
    decisions = decide(actual, reference)
    decisions.add(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), 0.0)
    decisions.add(np.array(actual), np.array(reference), 0.0)
    assert decisions.bugs == 8
    assert decisions.first_bugs == [0, 1, 2, 3, 5]
    assert len(decisions.first_bugs) == FIRST_KEPT


def test_ties_go_to_the_lower_class_in_both():
    tied = [[1.0, 1.0, 0.0]]
    assert decide(tied, tied).same_first == 1
    assert decide(tied, [[2.0, 1.0, 0.0]]).same_first == 1
    flipped = decide(tied, [[1.0, 2.0, 0.0]], bound=0.5)
    assert (flipped.same_first, flipped.roundings) == (0, 1)
    # Where the reference itself is tied, no error at all is needed.
    assert decide([[1.0, 2.0, 0.0]], tied, bound=0.0).roundings == 1


def test_first_five_are_a_set():
    reference = np.arange(8.0)[None]
    swapped = reference[:, [0, 1, 2, 4, 3, 5, 6, 7]]
    assert decide(swapped, reference).same_five == 1
    swapped = reference[:, [0, 1, 3, 2, 4, 5, 6, 7]]
    decisions = decide(swapped, reference)
    assert (decisions.same_first, decisions.same_five) == (1, 0)
    assert decide([[0.0, 1.0, 2.0]], [[2.0, 1.0, 0.0]]).same_five == 1


@given(cases(), st.floats(-100, 100, width=16))
def test_flips_are_what_does_not_agree(case, shift):
    actual, reference, bound, labels = case
    decisions = decide(*case)
    assert decisions.same_first + decisions.roundings + decisions.bugs == decisions.images
    assert decisions.not_finite <= decisions.bugs
    assert decisions.same_five <= decisions.images - decisions.not_finite
    moved = decide(actual + np.float32(shift), reference + shift, bound, labels)
    if np.isin(actual, (0.25,)).sum() == 0:  # which is lost beside 100
        assert (moved.same_first, moved.bugs) == (decisions.same_first, decisions.bugs)


@given(hnp.arrays(np.float64, (6, 5), elements=st.floats(-2, 2)), st.floats(0, 1), st.data())
def test_no_error_within_the_bound_is_called_a_bug(reference, bound, data):
    error = data.draw(hnp.arrays(np.float64, (6, 5), elements=st.floats(-1, 1)))
    decisions = decide(reference + error * bound, reference, bound * (1 + 1e-12) + 1e-12)
    assert decisions.bugs == 0


# --- what is not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_image_that_is_not_finite_never_agrees(value, column, dtype):
    """Even where its first class would be the right one, and whatever the bound."""
    reference = np.array([[0.0, 1.0, 2.0]] * 3)
    actual = reference.astype(dtype)
    actual[1, column] = value
    decisions = decide(actual, reference, bound=1e9, labels=[2, 2, 2])
    assert (decisions.same_first, decisions.same_five, decisions.not_finite) == (2, 2, 1)
    assert (decisions.roundings, decisions.bugs, decisions.first_bugs) == (0, 1, [1])
    assert decisions.max_divergence == decisions.mean_divergence == math.inf
    assert (decisions.right, decisions.reference_right) == (2, 3)
    other = decide(reference, actual.astype(np.float64), bound=1e9, labels=[2, 2, 2])
    assert (other.same_first, other.bugs, other.not_finite) == (2, 1, 1)
    assert (other.right, other.reference_right) == (3, 2)
    assert other.max_divergence == math.inf


def test_logits_that_cannot_be_subtracted_are_not_finite():
    decisions = decide([[1e308, -1e308]], [[1e308, -1e308]])
    assert (decisions.same_first, decisions.bugs, decisions.not_finite) == (0, 1, 1)


def test_another_number_of_classes_never_agrees():
    decisions = decide(np.zeros((2, 4)), np.zeros((2, 3)), bound=1.0, labels=[0, 0])
    assert (decisions.images, decisions.bugs, decisions.not_finite) == (2, 2, 2)
    assert (decisions.right, decisions.reference_right) == (0, 2)


def test_nothing_seen_proves_nothing():
    decisions = Decisions()
    assert decisions.disagreement_upper == 1.0
    assert decisions.disagreement_interval == (0.0, 1.0)
    assert decisions.mean_divergence == math.inf
    assert decisions.accuracy is decisions.reference_accuracy is None
    assert decisions.accuracy_p_value is None


# --- divergence


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_divergence_against_scipy(scale):
    actual, reference, _ = noisy(1, noise=1.0)
    actual, reference = scale * actual.astype(np.float64), scale * reference
    ours, theirs = (np.exp(x - x.max(axis=1, keepdims=True)) for x in (actual, reference))
    expected = stats.entropy(theirs, ours, axis=1)
    assert divergences(actual, reference) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_divergence_of_what_is_near_against_60_digits():
    _, reference, _ = noisy(2, images=5)
    actual = reference + 1e-4 * np.random.default_rng(0).standard_normal(reference.shape)
    for ours, theirs, found in zip(actual, reference, divergences(actual, reference), strict=True):
        with localcontext(prec=60):
            q, p = ([Decimal(x).exp() for x in row.tolist()] for row in (ours, theirs))
            q, p = [x / sum(q) for x in q], [x / sum(p) for x in p]
            expected = sum(a * (a / b).ln() for a, b in zip(p, q, strict=True))
        assert found == pytest.approx(float(expected), abs=2e-15)


@given(hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(-1e5, 1e5)))
def test_divergence_is_finite_and_not_negative(logits):
    found = divergences(*logits)
    assert (found >= 0).all() and np.isfinite(found).all()
    assert (divergences(logits[0], logits[0]) == 0).all()


def test_divergence_of_what_is_nearest_is_not_negative():
    """As summed, two in five of these are some -1e-16."""
    _, reference, _ = noisy(7, images=200)
    assert (divergences(np.nextafter(reference, 9), reference) >= 0).all()


def test_divergence_of_logits_that_softmax_overflows_on():
    found = divergences(np.array([[0.0, 1e4]]), np.array([[1e4, 0.0]]))
    assert found == pytest.approx([1e4])


# --- laws between batches


@given(cases(), st.lists(st.integers(0, 12), max_size=4))
def test_batches_do_not_show(case, ends):
    ends = sorted(min(end, len(case[0])) for end in ends)
    batched = Decisions()
    for start, end in zip([0, *ends], [*ends, len(case[0])], strict=True):
        batched.add(*(array[start:end] for array in case))
    assert batched == decide(*case)


def test_mean_divergence_is_that_of_all_images():
    actual, reference, _ = noisy(3)
    decisions = decide(actual[:30], reference[:30])
    decisions.add(actual[30:], reference[30:], 0.0)
    values = divergences(actual.astype(np.float64), reference)
    assert decisions.mean_divergence == pytest.approx(math.fsum(values) / 40, rel=1e-15)
    assert decisions.max_divergence == values.max()


# --- bounds on a rate


@pytest.mark.parametrize("trials", [1, 2, 3, 10, 100, 1000, 50000])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_clopper_pearson_against_scipy(trials, confidence):
    for events in {0, 1, trials // 7, trials // 2, trials - 1, trials}:
        # scipy's own search for the bounds ends within 2e-12; what they are is known closer.
        found = clopper_pearson_upper(events, trials, confidence)
        test = stats.binomtest(events, trials, alternative="less")
        expected = test.proportion_ci(confidence, "exact")
        assert found == pytest.approx(expected.high, rel=0, abs=1e-11), events
        if events < trials:
            quantile = stats.beta.ppf(confidence, events + 1, trials - events)
            assert found == pytest.approx(quantile, rel=1e-9, abs=0), events
        interval = clopper_pearson_interval(events, trials, confidence)
        expected = stats.binomtest(events, trials).proportion_ci(confidence, "exact")
        assert interval == pytest.approx(tuple(expected), rel=0, abs=1e-11), events
        if events:
            quantile = stats.beta.ppf((1 - confidence) / 2, events, trials - events + 1)
            assert interval[0] == pytest.approx(quantile, rel=1e-9, abs=0), events


def test_no_flip_in_300_images_is_the_rule_of_three():
    _, reference, _ = noisy(4, images=300)
    decisions = decide(reference, reference)
    assert decisions.disagreement_upper == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-12)
    assert decisions.disagreement_upper == pytest.approx(3 / 300, rel=0.01)
    low, high = decisions.disagreement_interval
    assert low == 0.0 and high == pytest.approx(1 - 0.025 ** (1 / 300), rel=1e-12)


def test_bounds_are_on_the_flips_of_both_kinds():
    decisions = decide([[0.0, 1.0]] * 2 + [[1.0, 0.0]] * 8, [[1.0, 0.0]] * 10, [9.0] + [0.0] * 9)
    assert (decisions.roundings, decisions.bugs) == (1, 1)
    assert decisions.disagreement_upper == clopper_pearson_upper(2, 10, 0.95)
    assert decisions.disagreement_interval == clopper_pearson_interval(2, 10, 0.95)


# --- labels


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (0, 1), (0, 9), (4, 4), (5, 6), (6, 5), (40, 90), (1000, 1100)]
)
def test_mcnemar_against_scipy(first, second):
    expected = stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-9)


def test_accuracies_and_discordant_pairs():
    actual, reference, labels = noisy(5, images=500)
    labels = np.where(np.arange(500) % 2, reference.argmax(axis=1), labels)
    decisions = decide(actual, reference, labels=labels)
    ours, theirs = actual.argmax(axis=1) == labels, reference.argmax(axis=1) == labels
    assert decisions.accuracy == ours.mean() < decisions.reference_accuracy == theirs.mean()
    discordant = [int((ours & ~theirs).sum()), int((theirs & ~ours).sum())]
    assert [decisions.only_right, decisions.only_reference_right] == discordant
    expected = stats.binomtest(discordant[0], sum(discordant), 0.5).pvalue
    assert decisions.accuracy_p_value == pytest.approx(expected, rel=1e-9)


def test_images_without_labels_count_in_no_accuracy():
    actual, reference, labels = noisy(6)
    decisions = decide(actual, reference, labels=labels)
    accuracy = decisions.accuracy
    decisions.add(actual, reference, 0.0)
    assert (decisions.images, decisions.labelled, decisions.accuracy) == (80, 40, accuracy)
