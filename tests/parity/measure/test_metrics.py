"""Every figure of a tap against exact arithmetic, and the laws that hold between batches."""

import math
import tracemalloc
from decimal import Decimal, localcontext
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cosine as scipy_one_minus_cosine

from parity.measure import metrics
from parity.measure.metrics import Place, ShapeMismatch, TapError
from parity.measure.ulp import ULP_BINS, ulp_distances

LARGEST = float(np.finfo(np.float32).max)

ERRORS = ("max_abs", "mean_abs", "rms", "scaled", "one_minus_cosine")
"""Figures that are 0 where nothing differs, and inf where nothing can be said."""

SHARES = ("one_thousandth", "five_thousandths")

FIGURES = (*ERRORS, *SHARES, "snr", "reference_rms")


def measure(*batches: tuple[np.ndarray, np.ndarray]) -> TapError:
    error = TapError()
    for actual, reference in batches:
        error.add(actual, reference)
    return error


def noisy(seed: int, shape=(6, 5, 4), noise: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """float32 and what it should have been, float64."""
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3)
    error = noise * np.abs(reference).mean() * rng.standard_normal(shape)
    return (reference + error).astype(np.float32), reference


def numbers(limit: float = 1e6) -> st.SearchStrategy[float]:
    """Zeros of both signs, and magnitudes of which no square is lost in float64."""
    magnitude = st.floats(2.0**-100, limit, width=32)
    return st.one_of(st.just(0.0), st.just(-0.0), magnitude, magnitude.map(lambda x: -x))


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    actual = draw(hnp.arrays(np.float32, shape, elements=numbers()))
    other = draw(hnp.arrays(np.float64, shape, elements=numbers()))
    near = draw(hnp.arrays(np.bool_, shape))
    return actual, np.where(near, actual * (1 + 1e-7 * np.sign(other)), other)


@st.composite
def cuts(draw, length: int) -> list[slice]:
    """Batches of a random size each, some of them empty."""
    ends = sorted(draw(st.lists(st.integers(0, length), max_size=4)))
    return [slice(*pair) for pair in zip([0, *ends], [*ends, length], strict=True)]


# --- against exact arithmetic


def exactly(actual: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The figures, in rational numbers and 200 decimal digits: float32 goes down to 1e-45."""
    pairs = list(zip(actual.ravel().tolist(), reference.ravel().tolist(), strict=True))
    ours, theirs = ([Fraction(x) for x in column] for column in zip(*pairs, strict=True))
    errors = [abs(a - r) for a, r in zip(ours, theirs, strict=True)]

    def mean_square(values: list[Fraction]) -> Fraction:
        return sum((v * v for v in values), Fraction(0)) / len(values)

    def decimal(value: Fraction) -> Decimal:
        return Decimal(value.numerator) / Decimal(value.denominator)

    with localcontext(prec=200):
        product = sum((a * r for a, r in zip(ours, theirs, strict=True)), Fraction(0)) / len(pairs)
        lengths = decimal(mean_square(ours) * mean_square(theirs)).sqrt()
        distance = float(1 - decimal(product) / lengths) if lengths else math.nan
    return {
        "max_abs": float(max(errors)),
        "mean_abs": float(sum(errors, Fraction(0)) / len(errors)),
        "rms": math.sqrt(mean_square(errors)),
        "reference_rms": math.sqrt(mean_square(theirs)),
        "one_minus_cosine": distance,
    }


@given(pairs())
def test_figures_against_exact_arithmetic(pair):
    error, exact = measure(pair), exactly(*pair)
    for name in ("max_abs", "mean_abs", "rms", "reference_rms"):
        assert getattr(error, name) == pytest.approx(exact[name], rel=1e-13, abs=0), name
    unit = exact["reference_rms"]
    if unit:
        assert error.scaled == pytest.approx(exact["max_abs"] / unit, rel=1e-13, abs=0)
        assert math.isnan(exact["one_minus_cosine"]) or error.one_minus_cosine == pytest.approx(
            exact["one_minus_cosine"], rel=1e-13, abs=1e-15 * min(1, (exact["rms"] / unit) ** 2)
        )
    if unit and exact["rms"]:
        decibels = 20 * math.log10(unit / exact["rms"])
        assert error.snr == pytest.approx(decibels, rel=1e-12, abs=1e-11)


@pytest.mark.parametrize("noise", [1e-1, 1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("seed", range(3))
def test_cosine_near_1_keeps_its_digits(noise, seed):
    """As computed in float64 from its definition, the last is 0 or 1e-16; it is some 1e-20."""
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((2, 500))
    actual = reference + noise * rng.standard_normal((2, 500))
    expected = exactly(actual, reference)["one_minus_cosine"]
    assert 0 < expected < noise**2
    assert measure((actual, reference)).one_minus_cosine == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("noise", [1e-4, 1e-7])
def test_cosine_near_1_in_longdouble(noise):
    rng = np.random.default_rng(1)
    reference = rng.standard_normal((4, 3136))
    actual = reference + noise * rng.standard_normal((4, 3136))
    a, r = (x.astype(np.longdouble).ravel() for x in (actual, reference))
    normalised = a / np.sqrt(a @ a) - r / np.sqrt(r @ r)
    expected = float(normalised @ normalised / 2)
    assert measure((actual, reference)).one_minus_cosine == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1 + 1e-6, 1.01, 2.0, 1e-20, 1e20])
def test_direction_is_the_same_when_only_the_length_is_not(scale):
    _, reference = noisy(0)
    error = measure((reference * scale, reference))
    size = min(1.0, (scale - 1) ** 2)
    assert 0 <= error.one_minus_cosine <= 4e-16 * size + 1e-30


def test_cosine_of_what_is_far_against_scipy():
    rng = np.random.default_rng(2)
    for _ in range(20):
        actual, reference = rng.standard_normal((2, 3, 4))
        expected = scipy_one_minus_cosine(actual.ravel(), reference.ravel())
        assert measure((actual, reference)).one_minus_cosine == pytest.approx(expected, rel=1e-12)


def test_cosine_of_opposite_orthogonal_and_missing_directions():
    one, other, none = np.array([[1.0, 2.0]]), np.array([[2.0, -1.0]]), np.zeros((1, 2))
    assert measure((-one, one)).one_minus_cosine == 2.0
    assert measure((other, one)).one_minus_cosine == 1.0
    assert measure((none, one)).one_minus_cosine == 1.0
    assert measure((one, none)).one_minus_cosine == 1.0
    assert measure((none, none)).one_minus_cosine == 0.0


def test_signal_to_noise_of_a_tenth_is_20_decibels():
    reference = np.full((2, 8), 10.0)
    assert measure((reference + 1.0, reference)).snr == pytest.approx(20.0, rel=1e-14)
    assert measure((reference, np.zeros((2, 8)))).snr == -math.inf


def test_a_reference_of_zeros_is_no_unit():
    zeros = np.zeros((1, 3))
    assert measure((zeros, zeros)).scaled == 0.0
    assert measure((zeros + 1e-30, zeros)).scaled == math.inf


# --- msProbe's ratios, by hand from its definition


@pytest.mark.parametrize(
    ("actual", "reference", "thousandth", "five_thousandths"),
    [
        (1.0009, 1.0, True, True),
        (1.0011, 1.0, False, True),
        (1.0049, 1.0, False, True),
        (0.9949, 1.0, False, False),
        (-1.0, 1.0, False, False),
        (1.0009e-20, 1e-20, True, True),
        (0.0, 0.0, True, True),
        (-0.0, 0.0, True, True),
        # Zero is replaced with 2.2e-16: below a thousandth of that it is as good as zero.
        (2.0e-19, 0.0, True, True),
        (1.0e-18, 0.0, False, True),
        (2.0e-18, 0.0, False, False),
        (0.0, 1e-300, False, False),
        (1.125, 1.0, False, False),
    ],
)
def test_error_ratios(actual, reference, thousandth, five_thousandths):
    error = measure((np.array([[actual]]), np.array([[reference]])))
    assert (error.one_thousandth, error.five_thousandths) == (thousandth, five_thousandths)


def test_error_ratio_is_strict_and_a_share():
    reference = np.full((1, 4), 1000.0)
    error = measure((np.array([[1001.0, 1000.5, 1005.0, 1004.0]]), reference))
    assert (error.one_thousandth, error.five_thousandths) == (0.25, 0.75)


# --- units in the last place


def steps(start: np.float32, count: int, towards: float) -> np.float32:
    for _ in range(count):
        start = np.nextafter(start, np.float32(towards))
    return start


def histogram(actual, reference) -> dict[str, int]:
    pair = np.array([actual], np.float32), np.array([reference], np.float64)
    found = measure(pair).ulp_histogram
    assert found is not None
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("start", [0.0, 1e-45, 1e-38, 0.99999994, 1.0, 3.0, -2.0, LARGEST])
@pytest.mark.parametrize(
    ("count", "name"),
    [(0, "0"), (1, "1"), (2, "2"), (3, "3-4"), (4, "3-4"), (5, "5-8"), (9, "9-16"), (17, "17-32")],
)
def test_steps_of_nextafter_are_units(start, count, name):
    first = np.float32(start)
    for towards in (-np.inf, np.inf):
        if start == LARGEST and towards > 0:
            continue
        assert histogram([steps(first, count, towards)], [first]) == {name: 1}
        assert histogram([first], [steps(first, count, towards)]) == {name: 1}


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 300))
def test_distance_counts_steps_of_nextafter(start, count):
    first = np.float32(start)
    last = steps(first, count, -np.inf if start > 0 else np.inf)
    assert ulp_distances(np.array([first]), np.array([last])) == [count]


@given(hnp.arrays(np.float32, (2, 50), elements=st.floats(1, 2, exclude_max=True, width=32)))
def test_distance_is_the_difference_in_spacings(values):
    spacing = float(np.spacing(np.float32(1)))
    expected = np.abs(values[0].astype(np.float64) - values[1]) / spacing
    assert ulp_distances(*values).tolist() == expected.tolist()


def test_distance_through_zero_and_over_all_numbers():
    tiny = 2.0**-149
    assert histogram([0.0, -0.0], [-0.0, 0.0]) == {"0": 2}
    assert histogram([tiny, -tiny], [-tiny, tiny]) == {"2": 2}
    assert histogram([tiny, -tiny], [-0.0, 0.0]) == {"1": 2}
    far = ulp_distances(np.array([LARGEST, -1], np.float32), np.array([-LARGEST, 1], np.float32))
    assert far.tolist() == [4278190078, 2 * 0x3F800000]
    assert histogram([LARGEST], [-LARGEST]) == {"2147483649-4294967296": 1}


def test_reference_is_rounded_to_float32_first():
    """0.49 of a unit off is the nearest float32; 0.51 of it is the next one."""
    unit = float(np.spacing(np.float32(1)))
    assert histogram([1.0, 1.0], [1 + 0.49 * unit, 1 + 0.51 * unit]) == {"0": 1, "1": 1}
    assert histogram([LARGEST], [1e39]) == {"infinite": 1}


def test_what_is_not_finite_has_a_bin_of_its_own():
    found = histogram([np.nan, np.inf, 1.0, np.inf, 1.0], [1.0, 1.0, np.nan, np.inf, 1.0])
    assert found == {"0": 1, "infinite": 4}


def test_bins_hold_every_value_once():
    assert ULP_BINS[:5] == ("0", "1", "2", "3-4", "5-8")
    actual, reference = noisy(3, (4, 1000), noise=1e-3)
    found = measure((actual, reference)).ulp_histogram
    assert found is not None and tuple(found) == ULP_BINS
    assert sum(found.values()) == 4000
    distances = ulp_distances(actual, reference.astype(np.float32)).astype(np.int64)
    for name, count in found.items():
        if name != "infinite":
            low, _, high = name.partition("-")
            inside = (distances >= int(low)) & (distances <= int(high or low))
            assert count == inside.sum(), name


def test_there_is_no_histogram_of_other_dtypes():
    actual, reference = noisy(0)
    assert measure((actual.astype(np.float64), reference)).ulp_histogram is None
    mixed = measure((actual, reference), (actual.astype(np.float16), reference))
    assert mixed.ulp_histogram is None


# --- laws


@given(st.data())
def test_batches_do_not_show(data):
    actual, reference = data.draw(pairs())
    parts = data.draw(cuts(len(actual)))
    batched = measure(*((actual[part], reference[part]) for part in parts))
    assert batched == measure((actual, reference))


@given(st.data())
def test_merging_is_one_pass(data):
    actual, reference = data.draw(pairs())
    flat = actual.reshape(-1)
    flat[0] = data.draw(st.sampled_from([flat[0], np.nan, np.inf]))
    merged = TapError()
    for part in data.draw(cuts(len(actual))):
        merged.merge(measure((actual[part], reference[part])))
    assert merged == measure((actual, reference))


@pytest.mark.parametrize("block", [1, 7, 40, 10**9])
@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_blocks_do_not_show(block, value, monkeypatch):
    actual, reference = noisy(5)
    actual[3, 1, 2] = value
    whole = measure((actual, reference))
    monkeypatch.setattr(metrics, "_BLOCK", block)
    assert measure((actual, reference)) == whole


@given(pairs(), st.permutations(range(6)))
def test_order_of_images_shows_in_the_place_only(pair, order):
    order = [i for i in order if i < len(pair[0])]
    one, other = measure(pair), measure((pair[0][order], pair[1][order]))
    for name in FIGURES:
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=0, abs=0, nan_ok=True)


@given(pairs(), st.integers(-20, 20))
def test_errors_scale_with_both(pair, exponent):
    scale = 2.0**exponent
    one, scaled = measure(pair), measure((pair[0] * np.float32(scale), pair[1] * scale))
    for name in ("max_abs", "mean_abs", "rms", "reference_rms"):
        assert getattr(scaled, name) == scale * getattr(one, name), name
    assert (scaled.scaled, scaled.one_minus_cosine) == (one.scaled, one.one_minus_cosine)
    assert scaled.snr == pytest.approx(one.snr, rel=1e-12, abs=1e-11)
    assert scaled.worst == one.worst


@given(hnp.arrays(np.float32, (2, 3, 5), elements=st.floats(0.5, 1e6, width=32)))
def test_units_and_ratios_do_not_scale(values):
    """Between numbers of one sign: from one through 0 to the other there are more of them."""
    one = measure((values[0], values[1].astype(np.float64)))
    scaled = measure((values[0] / 64, values[1].astype(np.float64) / 64))
    assert scaled.ulp_histogram == one.ulp_histogram
    assert [getattr(scaled, name) for name in SHARES] == [getattr(one, name) for name in SHARES]


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=numbers()))
def test_what_is_identical_has_no_error(values):
    error = measure((values, values.astype(np.float64)))
    assert error.measured and error.worst is None
    assert [getattr(error, name) for name in ERRORS] == [0.0] * len(ERRORS)
    assert error.snr == math.inf
    assert [getattr(error, name) for name in SHARES] == [1.0, 1.0]
    assert error.ulp_histogram == {name: values.size * (name == "0") for name in ULP_BINS}


@given(pairs(), st.randoms(use_true_random=False))
def test_one_larger_error_makes_no_figure_smaller(pair, random):
    actual, reference = pair[0].astype(np.float64), pair[1]
    one = measure((actual, reference))
    place = tuple(random.randrange(side) for side in actual.shape)
    actual[place] += math.copysign(1e3, actual[place] - reference[place])
    other = measure((actual, reference))
    assert other.max_abs >= one.max_abs and other.rms > one.rms and other.mean_abs > one.mean_abs
    assert other.snr <= one.snr and other.one_thousandth <= one.one_thousandth


# --- where


def test_worst_is_named_over_batches():
    reference = np.zeros((3, 4, 5))
    actual = reference.copy()
    actual[1, 2, 3] = -2.0
    assert measure((actual, reference)).worst == Place(1, (2, 3))
    error = measure((reference, reference), (actual, reference), (-actual, reference))
    assert error.worst == Place(4, (2, 3)) and error.max_abs == 2.0


def test_worst_of_one_value_per_image():
    assert measure((np.array([1.0, 3.0]), np.array([1.0, 1.0]))).worst == Place(1, ())


def test_first_that_is_not_finite_is_the_worst():
    actual, reference = noisy(0)
    actual[2, 1, 0], actual[2, 0, 3], actual[4, 0, 0] = np.nan, np.inf, np.nan
    assert measure((actual, reference)).worst == Place(2, (0, 3))


# --- what is not finite


def assert_infinitely_far(error: TapError) -> None:
    assert not error.measured
    for name in ERRORS:
        assert getattr(error, name) == math.inf, name
    assert error.snr == -math.inf
    assert not any(getattr(error, name) >= 0 for name in SHARES)
    assert math.isnan(error.reference_rms)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("place", [(0, 0, 0), (3, 2, 1), (5, 4, 3)])
def test_one_value_that_is_not_finite_is_seen_by_every_figure(value, dtype, place):
    actual, reference = noisy(0)
    actual = actual.astype(dtype)
    actual[place] = value
    error = measure((actual, reference))
    assert_infinitely_far(error)
    assert error.worst == Place(place[0], place[1:])
    assert (error.nans, error.infs) == (int(np.isnan(value)), int(np.isinf(value)))
    assert error.reference_not_finite == 0
    if dtype == np.float32:
        assert error.ulp_histogram is not None and error.ulp_histogram["infinite"] == 1
    clean = noisy(1)
    assert_infinitely_far(measure((actual, reference), clean))
    assert_infinitely_far(measure(clean, (actual, reference)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nor_does_it_help_that_the_reference_is_not_finite_either(value):
    actual, reference = noisy(0)
    actual[1, 1, 1] = reference[1, 1, 1] = value
    error = measure((actual, reference))
    assert_infinitely_far(error)
    assert (error.nans, error.infs, error.reference_not_finite) == (0, 0, 1)


def test_squares_that_overflow_are_not_finite():
    reference = np.full((2, 2), 1e200)
    assert_infinitely_far(measure((reference * 1.5, reference)))


def test_nothing_seen_proves_nothing():
    assert_infinitely_far(TapError())
    assert_infinitely_far(measure((np.zeros((0, 3)), np.zeros((0, 3)))))
    assert_infinitely_far(measure((np.zeros((2, 0)), np.zeros((2, 0)))))
    assert TapError().ulp_histogram is None


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 20), (5, 5, 4), (6, 5, 4, 1), (6, 1, 1)])
def test_another_shape_is_a_state_of_its_own(shape):
    actual, reference = noisy(0)
    clean = actual, reference
    error = measure(clean, (np.zeros(shape, np.float32), reference), clean)
    assert error.mismatch == ShapeMismatch(shape, (6, 5, 4))
    assert_infinitely_far(error)
    assert (error.images, error.nans, error.infs) == (18, 0, 0)
    assert error.ulp_histogram is None
    other = measure(clean)
    other.merge(error)
    assert other.mismatch == error.mismatch and other.images == 24


# --- input


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_widened_without_rounding(dtype):
    actual, reference = noisy(7)
    halves = actual.astype(dtype)
    found, expected = measure((halves, reference)), exactly(halves.astype(np.float64), reference)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12), name


def test_memory_layout_does_not_show():
    actual, reference = noisy(8, (4, 6, 5))
    turned = tuple(np.ascontiguousarray(x.transpose(2, 1, 0)).T for x in (actual, reference))
    assert not turned[0].flags.c_contiguous
    expected = measure((actual, reference))
    assert measure(turned) == measure((turned[0], reference)) == expected
    assert measure((actual[::-1], reference[::-1])).rms == expected.rms


def test_arrays_are_left_as_they_are():
    actual, reference = noisy(9)
    reference[0, 0, 0] = 0.0
    before = actual.copy(), reference.copy()
    actual.flags.writeable = reference.flags.writeable = False
    measure((actual, reference))
    assert (actual == before[0]).all() and (reference == before[1]).all()


def test_memory_is_that_of_one_block():
    actual, reference = noisy(10, (64, 2**15))
    error = TapError()
    tracemalloc.start()
    error.add(actual, reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 8 * metrics._BLOCK < reference.nbytes + 2
