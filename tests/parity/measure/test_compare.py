"""A comparison over groups and batches: units, fixed tolerances, where it errs, what it decides."""

import dataclasses
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from convert.model.read import read_model
from parity.errors import ParityError
from parity.inputs.samples import Sample
from parity.judge import Judge, QueuedBatch
from parity.measure.compare import SHOWN_IMAGES, Comparison, best_classes, group_rows
from parity.measure.envelope import MOST_ORDERS, Envelope, emulated_runs
from parity.measure.metrics import Place, TapError
from parity.measure.structure import INPUT, Difference
from parity.measure.tolerance import (
    FACTOR,
    FACTOR_OF_FEW,
    FEW,
    PEAK,
    FixedTolerance,
    allowed_times,
    find_tolerance,
    unit_of,
)
from parity.report.text import verdict
from pvt_spec import tap_names
from pvt_spec.kernels import STRICTEST
from pvt_spec.precisions import PRECISIONS
from tests.support.messages import naming, tells
from tests.support.models import GOLDEN, random_images
from tests.support.runtimes import run_float64

MANY = 512
"""Values of a tap over an image: more than few."""


def envelope_of(unit: float, *taps: str, groups: tuple[str, ...] = ("a", "b")) -> Envelope:
    """Rounding of ``unit`` at every value of every tap, whose own values are 1."""
    spread = [unit, MANY * unit**2, MANY * 1.0, MANY]
    return Envelope.from_dict({tap: dict.fromkeys(groups, spread) for tap in taps})


def comparison(*names: str, answers: tuple[str, ...] = (), **given: Any) -> Comparison:
    return Comparison("torch", "torch", "a.pth", "fp32", names, answers or names[-1:], **given)


def ones(images: int, count: int = MANY) -> np.ndarray:
    return np.ones((images, count))


def off(reference: np.ndarray, *errors: float) -> np.ndarray:
    """The reference with one error for all values of each image."""
    return (reference + np.reshape(errors, (-1, 1))).astype(np.float32)


# --- groups


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_rows_of_groups_are_the_batch_in_order(groups):
    found = list(group_rows(groups))
    assert [group for group, _ in found] == [group for group, _ in groupby(groups)]
    assert [g for group, rows in found for g in [group] * (rows.stop - rows.start)] == groups
    assert [row for _, rows in found for row in range(rows.start, rows.stop)] == list(
        range(len(groups))
    )


def test_each_group_has_its_own_error_whatever_the_batches():
    reference, errors = ones(5), np.array([1, 2, 3, 40, 50]) * 2.0**-20
    groups = ["a", "a", "a", "b", "b"]
    whole = comparison("x")
    whole.add(groups, {"x": off(reference, *errors)}, {"x": reference})
    parts = comparison("x")
    for rows in (slice(2), slice(2, 4), slice(4, 5)):
        actual = off(reference[rows], *errors[rows])
        parts.add(groups[rows], {"x": actual}, {"x": reference[rows]})
    for each in (whole, parts):
        assert {g: e.max_abs for g, e in each.errors["x"].items()} == {
            "a": 3 * 2.0**-20,
            "b": 50 * 2.0**-20,
        }
        assert {g: e.images for g, e in each.errors["x"].items()} == {"a": 3, "b": 2}
        assert each.images == 5
    assert whole.errors == parts.errors and whole.judge("x") == parts.judge("x")


def test_a_group_that_comes_back_is_the_same_group():
    reference = ones(3)
    found = comparison("x")
    found.add(["a", "b", "a"], {"x": off(reference, 0, 0, 2.0**-9)}, {"x": reference})
    assert list(found.errors["x"]) == ["a", "b"]
    assert found.errors["x"]["a"].images == 2 and found.maps["x"]["a"].place.image == 2


def test_total_is_the_error_over_all_images():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((6, 4, 8))
    actual = (reference + 1e-4 * rng.standard_normal(reference.shape)).astype(np.float32)
    found = comparison("x")
    found.add(["a"] * 2 + ["b"] * 4, {"x": actual}, {"x": reference})
    whole = TapError()
    whole.add(actual, reference)
    assert found.total("x") == whole
    assert found.total("x").images == 6 and found.total("x").worst == whole.worst
    assert found.errors["x"]["a"].images == 2, "merging leaves the groups as they are"


# --- units of rounding


def test_times_is_in_units_of_the_groups_rounding():
    unit = 2.0**-22
    found = comparison("x", envelope=envelope_of(unit, "x"))
    reference = ones(2)
    found.add(["a", "b"], {"x": off(reference, 3 * unit, -2 * unit)}, {"x": reference})
    assert found.judge_group("x", "a").times == pytest.approx(3, rel=1e-6)
    assert found.judge_group("x", "b").times == pytest.approx(2, rel=1e-6)
    judged = found.judge("x")
    assert (judged.group, judged.allowed, judged.within) == ("a", FACTOR, True)


@pytest.mark.parametrize(("times", "same"), [(0.99 * FACTOR, True), (1.01 * FACTOR, False)])
def test_same_ends_where_rounding_does(times, same):
    unit = 2.0**-22
    found = comparison("x", "y", envelope=envelope_of(unit, "x", "y"))
    reference = {"x": ones(1), "y": ones(1)}
    actual = {"x": off(ones(1), 0), "y": off(ones(1), 0)}
    # Every second value up, every second down: they have no mean.
    signs = np.tile([1, -1], MANY // 2)
    actual["y"] = (reference["y"] + signs * np.round(times * 2**10) * unit / 2**10).astype("f8")
    found.add(["a"], actual, reference)
    assert found.same is same
    assert found.first_out_of_bounds == (None if same else "y")


def test_one_value_that_is_off_counts_though_the_mean_hides_it():
    unit = 2.0**-22
    found = comparison("x", envelope=envelope_of(unit, "x"))
    actual = ones(1)
    actual[0, 7] += 2.1 * FACTOR * unit
    found.add(["a"], {"x": actual}, {"x": ones(1)})
    assert found.errors["x"]["a"].rms < unit
    assert found.judge("x").times == pytest.approx(1.05 * FACTOR, rel=1e-6)
    assert not found.same


def test_worst_group_is_furthest_from_its_own_bound():
    """Few values may be further off than many: 8 of 12 is nearer than 3 of 3.5."""
    unit, few = 2.0**-22, FEW // 4
    data = {
        "x": {"few": [unit, few * unit**2, few, few], "many": [unit, MANY * unit**2, MANY, MANY]}
    }
    found = comparison("x", envelope=Envelope.from_dict(data))
    for group, count, times in (("few", few, 8.0), ("many", MANY, 3.0)):
        reference = ones(1, count)
        found.add([group], {"x": off(reference, times * unit)}, {"x": reference})
    assert found.judge_group("x", "few").allowed == FACTOR_OF_FEW
    judged = found.judge("x")
    assert (judged.group, judged.allowed) == ("many", FACTOR)
    assert found.worst_of(["x"]) == "x" and found.same


def test_without_an_envelope_the_table_is_the_unit():
    found = comparison("x")
    reference = 3 * ones(1)
    found.add(["a"], {"x": off(reference, 3 * 2e-6)}, {"x": reference})
    relative = PRECISIONS["fp32"].relative
    assert found.judge("x").times == pytest.approx(2e-6 / relative, rel=0.1)


def test_taps_are_ordered_by_their_bounds_and_the_first_is_the_first_in_forward_order():
    unit, names = 2.0**-22, ("x", "y", "z")
    found = comparison(*names, envelope=envelope_of(unit, *names))
    reference = {name: ones(1) for name in names}
    errors = {"x": 1.0, "y": 5.0, "z": 9.0}
    actual = {name: off(ones(1), times * unit) for name, times in errors.items()}
    found.add(["a"], actual, reference)
    assert found.worst_of(names) == "z" and found.worst_of(("x", "y")) == "y"
    assert found.first_out_of_bounds == found.first_different == "y"


@pytest.mark.parametrize(
    ("taps", "first"),
    [
        ((), None),
        ((None,), None),
        (("z",), "z"),
        (("z", "x"), "x"),
        ((None, "z"), "z"),
        (("z", INPUT), INPUT),
        (("not compared",), None),
    ],
)
@pytest.mark.parametrize("out_of_bounds", [False, True])
def test_first_difference_is_of_values_or_structure(taps, first, out_of_bounds):
    differences = [Difference("subject", "1", "2", tap) for tap in taps]
    found = comparison("x", "y", "z", differences=differences)
    reference = {name: ones(1) for name in "xyz"}
    actual = {**reference, "y": reference["y"] + out_of_bounds}
    found.add(["a"], actual, reference)
    if out_of_bounds:
        first = min(first or "y", "y", key=[INPUT, "x", "y", "z"].index)
    assert found.first_different == first
    assert found.first_out_of_bounds == ("y" if out_of_bounds else None)
    assert found.same is (not taps and not out_of_bounds)


# --- what cannot be compared is different


@pytest.mark.parametrize("envelope", [None, envelope_of(2.0**-22, "x")], ids=["table", "measured"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("image", range(4))
def test_one_value_that_is_not_finite_in_any_group_is_different(envelope, value, image):
    found = comparison("x", envelope=envelope)
    reference = ones(4)
    actual = reference.astype(np.float32)
    actual[image, 3] = value
    found.add(["a", "a", "b", "b"], {"x": actual}, {"x": reference})
    judged = found.judge("x")
    assert (judged.times, judged.within) == (math.inf, False)
    assert judged.group == "aabb"[image]
    assert found.first_out_of_bounds == "x" and not found.same


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reference_that_is_not_finite_proves_nothing(value):
    """A weight that is NaN makes the reference, every emulation and every runtime NaN."""
    reference, actual = ones(2), ones(2).astype(np.float32)
    reference[1, 5], actual[1, 5] = value, value
    envelope = Envelope(["x"])
    envelope.add("a", {"x": actual}, {"x": reference})
    found = comparison("x", envelope=envelope)
    found.add(["a", "a"], {"x": actual}, {"x": reference})
    assert not found.same and found.judge("x").times == math.inf
    assert tells(verdict(found), "1", "reference")


def test_what_overflows_in_a_precision_may_overflow():
    reference = np.full((1, MANY), 1e6)
    actual = reference.astype(np.float32)
    actual[0, 0] = np.inf
    envelope = Envelope(["x"])
    envelope.add("a", {"x": actual}, {"x": reference})
    found = comparison("x", envelope=envelope)
    found.add(["a"], {"x": actual}, {"x": reference})
    assert found.judge("x").times == 0 and found.same


@pytest.mark.parametrize("shape", [(2, MANY), (4, MANY - 1), (4, MANY, 1), (8, MANY), (4,)])
@pytest.mark.parametrize("envelope", [None, envelope_of(2.0**-22, "x")], ids=["table", "measured"])
def test_another_shape_is_different_in_every_group(envelope, shape):
    """Half of a batch has the shape of a group, but is not one."""
    found = comparison("x", envelope=envelope)
    found.add(["a", "a", "b", "b"], {"x": np.ones(shape, np.float32)}, {"x": ones(4)})
    for group in "ab":
        mismatch = found.errors["x"][group].mismatch
        assert mismatch is not None and mismatch.actual == shape
        assert found.judge_group("x", group).times == math.inf
    assert not found.same and not found.maps
    assert tells(verdict(found), shape, "4", MANY)


# --- fixed tolerances: every element by itself


def fixed(atol: float, rtol: float, actual: Any, reference: Any, groups: str = "") -> Comparison:
    found = comparison("x", fixed=FixedTolerance(atol, rtol))
    reference = np.array(reference, np.float64)
    found.add(list(groups) or ["a"] * len(reference), {"x": np.array(actual)}, {"x": reference})
    return found


@pytest.mark.parametrize(
    ("atol", "rtol", "actual", "reference", "times"),
    [
        (0.5, 0.0, [[1.25, 2.0]], [[1.0, 2.0]], 0.5),
        (0.25, 0.0, [[1.25, 2.0]], [[1.0, 2.0]], 1.0),
        (0.0, 0.25, [[1.25, -8.0]], [[1.0, -8.0]], 1.0),
        (0.0, 0.25, [[1.25, -7.0]], [[1.25, -8.0]], 0.5),
        (1.0, 0.5, [[6.0, 0.0]], [[4.0, 0.5]], 2 / 3),
        (0.25, 0.0, [[1.5, 2.0]], [[1.0, 2.0]], 2.0),
        (0.0, 0.25, [[0.0, 1.0]], [[0.0, 1.0]], 0.0),
        (0.0, 0.0, [[0.0, 1.0]], [[0.0, 1.0]], 0.0),
        (0.0, 0.25, [[1e-30, 1.0]], [[0.0, 1.0]], math.inf),
        (0.0, 0.0, [[1.0, 1.0]], [[1.0, 1.0 + 1e-12]], math.inf),
        (1.0, 0.0, [[np.nan, 1.0]], [[1.0, 1.0]], math.inf),
        (1.0, 0.5, [[np.inf, 1.0]], [[np.inf, 1.0]], math.inf),
        (1.0, 0.5, [[1.0, 1.0]], [[np.nan, 1.0]], math.inf),
    ],
)
def test_a_fixed_tolerance_is_of_every_element(atol, rtol, actual, reference, times):
    judged = fixed(atol, rtol, actual, reference).judge("x")
    assert judged.times == times
    assert (judged.allowed, judged.within) == (1.0, times <= 1)


def test_a_fixed_tolerance_keeps_the_worst_of_all_batches_and_groups():
    found = comparison("x", fixed=FixedTolerance(1.0, 0.0))
    for groups, errors in (("ab", (3, 0)), ("ab", (0, 2)), ("bc", (1, 0))):
        found.add(list(groups), {"x": off(ones(2), *errors)}, {"x": ones(2)})
    times = {group: found.judge_group("x", group).times for group in "abc"}
    assert times == {"a": 3.0, "b": 2.0, "c": 0.0}
    assert found.judge("x").group == "a" and not found.same


def test_a_fixed_tolerance_of_integers_in_half_precision():
    actual = np.array([[2048, 4]], np.float16)
    assert fixed(1.0, 0.0, actual, [[2049.0, 4.0]]).judge("x").times == 1.0


def test_another_shape_is_beyond_any_fixed_tolerance():
    found = comparison("x", fixed=FixedTolerance(1e9, 1e9))
    found.add(["a", "a"], {"x": np.ones((2, 3))}, {"x": np.ones((2, 4))})
    assert found.judge("x").times == math.inf and not found.same


# --- where it errs


@pytest.mark.parametrize(
    ("shape", "place", "map_shape", "on_map"),
    [
        ((3, 5, 4), (1, 3, 2), (5,), (3,)),
        ((3, 4, 2, 5), (2, 3, 1, 4), (2, 5), (1, 4)),
        ((3, 7), (0, 6), (7,), (6,)),
    ],
    ids=["tokens", "map", "logits"],
)
def test_map_is_of_the_image_and_place_of_the_largest_error(shape, place, map_shape, on_map):
    reference = np.zeros(shape)
    actual = np.full(shape, 0.25, np.float32)
    actual[place] = -2.0
    found = comparison("x")
    found.add(["a"] * 3, {"x": actual}, {"x": reference})
    kept = found.maps["x"]["a"]
    assert kept.place == Place(place[0], place[1:]) and kept.error.shape == map_shape
    assert kept.error.dtype == np.float64
    assert kept.error[on_map] == 2.0 and np.sort(kept.error, axis=None)[-2] == 0.25


def test_map_is_of_the_largest_error_of_its_group_over_batches():
    found = comparison("x")
    for groups, errors in (("ab", (1, 3)), ("bb", (2, 1)), ("ca", (4, 1)), ("ab", (3, 2))):
        found.add(list(groups), {"x": off(ones(2, 4), *errors)}, {"x": ones(2, 4)})
    kept = {group: (each.place.image, each.error.max()) for group, each in found.maps["x"].items()}
    assert kept == {"a": (6, 3.0), "b": (1, 3.0), "c": (4, 4.0)}


def test_map_is_of_what_is_furthest_beyond_a_fixed_tolerance():
    """An error of 2 where 11 are allowed, of 1 where 1.01 are, and of 0.5 where as many are."""
    found = comparison("x", fixed=FixedTolerance(1.0, 0.01))
    reference = {"x": np.array([[1000.0, 1.0], [1.0, 1.0]])}
    for errors in ([[2.0, 0.5], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.5]]):
        found.add(["a", "a"], {"x": reference["x"] + errors}, reference)
    assert found.maps["x"]["a"].place == Place(1, (1,))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("fixed", [None, FixedTolerance(1.0, 0.0)], ids=["rounding", "fixed"])
def test_map_of_what_is_not_finite_stays(value, fixed):
    found = comparison("x", fixed=fixed)
    for groups, errors in (("ab", (1, 2)), ("ab", (5, value)), ("cb", (9, 2)), ("aa", (8, 7))):
        found.add(list(groups), {"x": off(ones(2, 4), *errors)}, {"x": ones(2, 4)})
    assert found.maps["x"]["b"].place.image == 3
    assert not np.isfinite(found.maps["x"]["b"].error).any()


def test_no_error_has_no_map():
    found = comparison("x", "y")
    reference = {"x": ones(2), "y": ones(2)}
    found.add(["a", "a"], {"x": ones(2), "y": off(ones(2), 0, 1)}, reference)
    assert set(found.maps) == {"y"}


# --- decisions


def logits_of(unit: float, actual: Any, reference: Any, groups: str, **given: Any) -> Comparison:
    """Of groups ``a``, whose logits round by ``unit``, and ``b``, all of a hundredth of that."""
    data = {"a": [unit, unit**2, 1.0, 1], "b": [unit / 100, (unit / 100) ** 2, 1e-4, 1]}
    given = {"envelope": Envelope.from_dict({"logits": data}), **given}
    found = comparison("logits", **given)
    found.add(list(groups), {"logits": np.array(actual)}, {"logits": np.array(reference)})
    return found


@pytest.mark.parametrize(("margin", "rounding"), [(0.99, True), (1.01, False)])
def test_a_flip_within_what_rounding_may_do_is_rounding(margin, rounding):
    """Two logits may each be twelve times twice the unit off, as they are few."""
    unit = 2.0**-10
    second = 1 - margin * 2 * (2 * FACTOR_OF_FEW * unit)
    alone = Envelope.from_dict({"logits": {"a": [unit, unit**2, 1.0, 1]}})
    found = logits_of(unit, [[0.5, 1.0, 0.0]], [[1.0, second, 0.0]], "a", envelope=alone)
    allowed = found.allowed_logit_error("a", np.zeros((1, 3)))
    assert allowed == pytest.approx(2 * FACTOR_OF_FEW * unit)
    assert (found.decisions.images, found.decisions.same_first) == (1, 0)
    assert (found.decisions.roundings, found.decisions.bugs) == (int(rounding), int(not rounding))


def test_the_bound_of_a_flip_does_not_depend_on_how_many_images_came_before():
    """Together they have many values, but each image's decision is its own few logits'."""
    unit = 2.0**-10
    second = 1 - 0.99 * 2 * (2 * FACTOR_OF_FEW * unit)
    many = 200
    alone = Envelope.from_dict({"logits": {"a": [unit, unit**2 * 3 * many, 3.0 * many, 3 * many]}})
    images = [[[0.5, 1.0, 0.0]] * many, [[1.0, second, 0.0]] * many]
    found = logits_of(unit, *images, "a" * many, envelope=alone)
    assert (found.decisions.roundings, found.decisions.bugs) == (many, 0)


def test_every_group_is_decided_by_its_own_rounding():
    unit, margin = 2.0**-10, 2.0**-6
    reference = [[1.0, 1.0 - margin]]
    flipped = [[1.0 - margin, 1.0]]
    found = logits_of(unit, flipped * 2, reference * 2, "ab")
    assert (found.decisions.roundings, found.decisions.bugs) == (1, 1)
    assert found.decisions.first_roundings == [0] and found.decisions.first_bugs == [1]


@pytest.mark.parametrize(
    ("atol", "rtol", "rounding"),
    [(0.3, 0.0, True), (0.2, 0.0, False), (0.0, 0.03, True), (0.0, 0.02, False), (0.2, 0.01, True)],
)
def test_a_fixed_tolerance_bounds_the_logits_that_flip(atol, rtol, rounding):
    """Of 100 logits two are near 10: each may move by its own tolerance, half of what is between.

    The root mean square of all, 1.4, is no measure of that.
    """
    reference = np.zeros((1, 100))
    reference[0, :2] = 10.0, 9.5
    actual = reference.copy()
    actual[0, :2] = 9.7, 9.8
    found = logits_of(1.0, actual, reference, "a", envelope=None, fixed=FixedTolerance(atol, rtol))
    assert (found.decisions.roundings, found.decisions.bugs) == (int(rounding), int(not rounding))


def test_logits_without_a_bound_explain_no_flip():
    found = logits_of(math.inf, [[0.0, 1.0]], [[1.0, 0.0]], "a")
    assert (found.decisions.roundings, found.decisions.bugs) == (0, 1)


def test_only_a_model_of_classes_decides():
    found = comparison("features", "stage1", answers=("features",))
    found.add(["a"], {"features": ones(1), "stage1": ones(1)}, {n: ones(1) for n in found.names})
    assert not found.classifies and not found.best and not found.reference_best
    assert found.decisions.images == 0 and found.images == 1


def test_the_first_images_classes_are_kept_over_batches():
    rng = np.random.default_rng(0)
    found = comparison("logits")
    actual, reference = rng.standard_normal((2, SHOWN_IMAGES + 9, 8))
    for start in range(0, len(actual), 7):
        rows = slice(start, start + 7)
        batch = {"logits": actual[rows].astype(np.float32)}
        found.add(["a"] * len(actual[rows]), batch, {"logits": reference[rows]})
    for kept, logits in ((found.best, actual), (found.reference_best, reference)):
        assert len(kept) == SHOWN_IMAGES
        for row, best in zip(logits, kept, strict=False):
            p = np.exp(row) / np.exp(row).sum()
            assert [index for index, _ in best] == np.argsort(-row)[:5].tolist()
            assert [q for _, q in best] == pytest.approx(sorted(p, reverse=True)[:5], rel=1e-6)


def test_best_classes_of_few_none_and_what_is_not_finite():
    assert best_classes(np.zeros((0, 7))) == []
    assert best_classes(np.zeros((1, 2))) == [[(0, 0.5), (1, 0.5)]]
    ((first, *_),) = best_classes(np.array([[np.nan, 1.0, np.inf]], np.float32))
    assert isinstance(first[0], int) and math.isnan(first[1])


# --- tolerance classes


def test_an_unknown_precision_is_refused_with_what_there_is():
    with pytest.raises(ParityError, match=naming("'fp8'", "fp32", "tf32", "hf32", "int8")):
        find_tolerance("fp8")
    assert all(find_tolerance(name) is tolerance for name, tolerance in PRECISIONS.items())


def test_classes_are_measured_by_emulations_that_exist():
    from pvt_torch.emulation import ROUNDINGS

    for name, tolerance in PRECISIONS.items():
        emulation = tolerance.emulation(STRICTEST)
        assert emulation == name and emulation in ROUNDINGS
        assert len(tolerance.reason) > 20


def test_coarser_precisions_are_allowed_more():
    order = ("fp32", "hf32-conv", "hf32", "tf32", "fp16", "bf16", "int8")
    units = [find_tolerance(name).relative for name in order]
    assert units == sorted(units) and len(set(units)) == len(units)
    assert units[0] > 2.0**-24 and units[-1] < 0.1


def test_few_values_are_allowed_more():
    assert allowed_times(FEW - 1) == allowed_times(1) == FACTOR_OF_FEW
    assert allowed_times(FEW) == allowed_times(10**9) == FACTOR < FACTOR_OF_FEW


def test_unit_is_measured_where_there_is_an_envelope_and_else_the_tables():
    tolerance = find_tolerance("bf16")
    unit = unit_of(tolerance, None, "x", "a", reference_rms=3.0)
    assert unit.rms == pytest.approx(3 * tolerance.relative)
    assert unit.largest == pytest.approx(3 * PEAK * tolerance.relative)
    assert not unit.overflowed
    measured = unit_of(tolerance, envelope_of(0.25, "x"), "x", "a", reference_rms=3.0)
    assert (measured.rms, measured.largest) == (0.25, 0.25)


# --- the judge

MODEL = GOLDEN / "official_v2_small" / "weights.pth"


@pytest.fixture(scope="module")
def model() -> Any:
    return read_model(Path(MODEL))


def images_of(model: Any, count: int = 3) -> np.ndarray:
    images: np.ndarray = random_images(model.info.config, (32, 32), count)
    return images


def batch_of(judge: Judge, groups: Sequence[str], images: np.ndarray) -> QueuedBatch:
    samples = [Sample(str(row), group, lambda _: images[0]) for row, group in enumerate(groups)]
    return judge.expect(samples, images)


def test_judge_expects_what_float64_answers(model):
    info, images = model.info, images_of(model)
    names = tap_names(info.config)
    with Judge(model, names) as judge:
        found = batch_of(judge, "aaa", images).expected.result()
    exact = run_float64(info.config, info.numerics, model.weights, images)
    assert list(found) == names
    for name in names:
        assert found[name].dtype == np.float64
        assert np.abs(found[name] - exact[name]).max() < 1e-12 * np.abs(exact[name]).max(), name
    assert judge.seconds > 0


def test_judge_measures_rounding_by_group_over_batches(model):
    import pvt_torch

    images, names = images_of(model), ["block1.0.attn", "logits"]
    batches = ((["a", "b"], images[:2]), (["b"], images[2:]))
    with Judge(model, names) as judge:
        for groups, batch in batches:
            judge.measure(["bf16", "fp32"], batch_of(judge, groups, batch)).result()
        exact = batch_of(judge, "aaa", images).expected.result()
    assert set(judge.envelopes) == {"bf16", "fp32"}
    info = model.info
    twin = pvt_torch.model_from_weights(info.config, info.numerics, model.weights)
    by_hand = Envelope(names)
    for batch, rows in ((images[:2], (("a", 0), ("b", 1))), (images[2:], (("b", 0),))):
        offset = 0 if len(batch) == 2 else 2
        for taps in emulated_runs(twin, batch, "bf16"):
            for group, row in rows:
                ours = {n: taps[n][row : row + 1] for n in names}
                theirs = {n: exact[n][offset + row : offset + row + 1] for n in names}
                by_hand.add(group, ours, theirs)
    for name in names:
        for group in "ab":
            unit, hand = (e.unit(name, group) for e in (judge.envelope("bf16"), by_hand))
            assert unit.rms == pytest.approx(hand.rms, rel=1e-6)
            assert judge.envelope("fp32").unit(name, group).rms < unit.rms / 1000
            spread = judge.envelope("bf16").spreads[name][group]
            runs = MOST_ORDERS * (2 if group == "b" else 1)
            assert spread.count == runs * exact[name][0].size


def test_judge_takes_in_answers_after_what_they_are_judged_by(model):
    """In the order of its queue, though nothing was waited for."""
    images, names = images_of(model), ["features", "logits"]
    found = comparison(*names)
    with Judge(model, names) as judge:
        found.envelope = judge.envelope("fp32")
        for _ in range(3):
            batch = batch_of(judge, "aaa", images)
            judge.measure(["fp32"], batch)
            done = judge.add(found, batch, judge.emulate("fp32")(images))
        done.result()
    assert found.images == 9 and found.same
    assert 0 < found.judge("logits").times <= FACTOR_OF_FEW
    assert found.decisions.same_first == 9


def test_what_goes_wrong_in_the_judge_is_raised_where_it_is_waited_for(model):
    broken = dataclasses.replace(model, weights={"head.bias": model.weights["head.bias"]})
    with Judge(broken, ["logits"]) as judge:
        batch = batch_of(judge, "aaa", images_of(model))
        with pytest.raises(Exception, match=r"head\.weight"):
            batch.expected.result()
    with Judge(model, ["logits"]) as judge:
        batch = batch_of(judge, "aaa", images_of(model))
        done = judge.add(comparison("no such tap"), batch, batch.expected.result())
        with pytest.raises(KeyError, match=naming("such")):
            done.result()


def test_an_emulated_precision_runs_in_the_judge(model):
    images, names = images_of(model), ["block1.0", "logits"]
    with Judge(model, names) as judge:
        exact = batch_of(judge, "aaa", images).expected.result()
        errors = {}
        for precision in ("fp32", "hf32", "fp16", "bf16"):
            taps = judge.emulate(precision)(images)
            assert set(names) <= set(taps)
            errors[precision] = np.abs(taps["logits"] - exact["logits"]).max()
    assert list(errors.values()) == sorted(errors.values()) and errors["fp32"] > 0
