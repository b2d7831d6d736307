"""The learning rate against closed forms, and against the numbers of MindCV's own code."""

from math import cos, pi
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, strategies as st

from pvt_train.optim.schedule import SCHEDULERS, learning_rate, warmup_epochs
from pvt_train.recipe.keys import Recipe
from tests.support.recipes import load_recipe

RECIPE = Recipe("pvt_nano", epoch_size=30, warmup_epochs=10, lr=1e-3, min_lr=1e-5)
STEPS = 7
PEAK, SPAN = 10 * STEPS, 20 * STEPS


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (1, 1e-3 / PEAK),
        (PEAK // 2, 0.5e-3),
        (PEAK, 1e-3),
        (PEAK + SPAN // 4, 1e-5 + (1e-3 - 1e-5) * (1 + cos(pi / 4)) / 2),
        (PEAK + SPAN // 2, (1e-3 + 1e-5) / 2),
        (PEAK + SPAN - 1, 1e-5 + (1e-3 - 1e-5) * (1 - cos(pi / SPAN)) / 2),
        (PEAK + SPAN, 1e-5),
        (PEAK + SPAN + 5, 1e-5),
    ],
)
def test_warm_up_is_linear_and_decay_a_cosine(step, expected):
    assert learning_rate(step, STEPS, RECIPE) == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_without_a_warm_up_the_first_step_has_the_full_rate():
    recipe = Recipe("pvt_nano", epoch_size=2, warmup_epochs=0, lr=1e-3, min_lr=0.0)
    rates = [learning_rate(step, 2, recipe) for step in range(4)]
    assert rates == pytest.approx([1e-3, 1e-3 * (1 + cos(pi / 4)) / 2, 0.5e-3, 1.4644661e-4])


def test_a_recipe_may_be_warm_up_alone():
    recipe = Recipe("pvt_nano", epoch_size=2, warmup_epochs=2, lr=1e-3)
    assert [learning_rate(s, 2, recipe) for s in range(5)] == pytest.approx(
        [0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3]
    )


@given(st.integers(PEAK, PEAK + SPAN - 1))
def test_after_the_warm_up_the_rate_only_falls_and_stays_in_range(step):
    now, later = (learning_rate(s, STEPS, RECIPE) for s in (step, step + 1))
    assert RECIPE.min_lr <= later < now <= RECIPE.lr


MINDCV: dict[str, tuple[str, str]] = {
    "pvt_tiny": (
        "epoch_size=450 warmup_epochs=10 decay_epochs=440 lr=0.0005 min_lr=1e-06",
        "0:0.0 1:7.142857142857143e-06 69:0.0004928571428571429 70:0.0005 "
        "76:0.0004999953276000358 1610:0.0002505 3149:1.0001297892817258e-06",
    ),
    "pvt_small": (
        "epoch_size=500 warmup_epochs=10 decay_epochs=390 lr=0.0005 min_lr=1e-06",
        "1:7.142857142857143e-06 70:0.0005 76:0.0004999940527556691 1785:0.0001527043308399113 "
        "2799:1.0001652018694883e-06 2800:1e-06 3499:1e-06",
    ),
    "pvt_v2_b0": (
        "epoch_size=500 warmup_epochs=10 decay_epochs=490 lr=0.001 min_lr=1e-05 "
        "lr_epoch_stair=True",
        "0:0.0 6:0.0 7:0.0001 69:0.0009000000000000001 70:0.001 76:0.001 "
        "77:0.0009999898262443912 1785:0.000505 3499:1.0010173755608808e-05",
    ),
    "warm-up with a factor": (
        "epoch_size=12 warmup_epochs=4 decay_epochs=8 lr=0.002 min_lr=1e-06 warmup_factor=0.01",
        "1:9.071428571428571e-05 7:0.000515 28:0.002 34:0.0019439113886432133 "
        "35:0.0019239175927450308 56:0.0010004999999999999 77:7.70824072549689e-05 "
        "83:2.572398389692304e-06",
    ),
    "stairs with a factor": (
        "epoch_size=12 warmup_epochs=4 decay_epochs=8 lr=0.002 min_lr=1e-06 warmup_factor=0.01 "
        "lr_epoch_stair=True",
        "1:2e-05 7:0.000515 28:0.002 34:0.002 35:0.0019239175927450308 56:0.0010004999999999999 "
        "77:7.70824072549689e-05 83:7.70824072549689e-05",
    ),
    "cut short": (
        "epoch_size=10 warmup_epochs=2 decay_epochs=20 lr=0.001 min_lr=1e-05",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.0009955201320751277 "
        "21:0.0009939057285945933 42:0.000905463412215599 63:0.0007297252973710757 "
        "69:0.0006684881356678078",
    ),
    "three cosines": (
        "epoch_size=20 warmup_epochs=2 decay_epochs=5 lr=0.001 min_lr=1e-05 num_cycles=3 "
        "cycle_decay=0.5",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.0009299321528329238 "
        "21:0.000905463412215599 49:0.0005 77:5.67908363781379e-05 84:0.00025 119:1e-05 "
        "133:1e-05 139:1e-05",
    ),
    "three cosines in stairs": (
        "epoch_size=20 warmup_epochs=2 decay_epochs=5 lr=0.001 min_lr=1e-05 num_cycles=3 "
        "cycle_decay=0.5 lr_epoch_stair=True",
        "1:0.0 7:0.0005 14:0.001 20:0.001 21:0.000905463412215599 49:0.0005 "
        "77:5.67908363781379e-05 84:0.00025 119:1e-05 133:1e-05 139:1e-05",
    ),
    "steps": (
        "scheduler=step_decay epoch_size=12 warmup_epochs=2 decay_epochs=3 decay_rate=0.5 lr=0.001",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.001 21:0.001 34:0.001 35:0.0005 "
        "49:0.0005 55:0.0005 56:0.00025 77:0.000125 83:0.000125",
    ),
    "milestones": (
        "scheduler=multi_step_decay epoch_size=12 warmup_epochs=2 decay_rate=0.1 "
        "multi_step_decay_milestones=6,3 lr=0.001",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.001 21:0.001 34:0.001 35:0.0001 "
        "49:0.0001 55:0.0001 56:1.0000000000000003e-05 77:1.0000000000000003e-05 "
        "83:1.0000000000000003e-05",
    ),
    "exponential": (
        "scheduler=exponential_decay epoch_size=12 warmup_epochs=2 decay_rate=0.9 lr=0.001",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.0009136488118999422 "
        "21:0.0009000000000000001 49:0.00059049 77:0.0003874204890000001 "
        "83:0.00035396626948054464",
    ),
    "exponential in stairs": (
        "scheduler=exponential_decay epoch_size=12 warmup_epochs=2 decay_rate=0.9 lr=0.001 "
        "lr_epoch_stair=True",
        "1:0.0 7:0.0005 14:0.001 20:0.001 21:0.0009000000000000001 49:0.00059049 "
        "77:0.0003874204890000001 83:0.0003874204890000001",
    ),
    "polynomial": (
        "scheduler=polynomial_decay epoch_size=12 warmup_epochs=2 decay_rate=2.0 lr=0.001",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.0008359183673469387 "
        "21:0.0008100000000000001 49:0.00025 77:9.999999999999996e-06 83:2.0408163265305978e-07",
    ),
    "polynomial in stairs": (
        "scheduler=polynomial_decay epoch_size=12 warmup_epochs=2 decay_rate=0.9 lr=0.001 "
        "lr_epoch_stair=True",
        "1:0.0 7:0.0005 14:0.001 20:0.001 21:0.0009095325760829623 49:0.0005358867312681466 "
        "77:0.00012589254117941672 83:0.00012589254117941672",
    ),
    "constant": (
        "scheduler=constant epoch_size=5 warmup_epochs=2 lr=0.001",
        "1:7.142857142857142e-05 7:0.0005 14:0.001 20:0.001 21:0.001 24:0.001 28:0.001 34:0.001",
    ),
    "no warm-up": (
        "epoch_size=5 warmup_epochs=0 decay_epochs=5 lr=0.001 min_lr=1e-05",
        "0:0.001 1:0.0009980072755276434 6:0.0009299321528329238 7:0.000905463412215599 "
        "17:0.0005272080910235051 28:0.00010453658778440107 34:1.1992724472356717e-05",
    ),
}
"""Name -> keys, and step:rate as MindCV 0.3.0's ``create_scheduler`` gives it, with seven steps an
epoch."""


@pytest.mark.parametrize("name", MINDCV)
def test_the_numbers_are_mindcvs(name):
    keys, numbers = MINDCV[name]
    recipe = load_recipe(None, {"model": "pvt_nano", **pairs(keys, "=")})
    rates = {int(step): float(rate) for step, rate in pairs(numbers, ":").items()}
    found = {step: learning_rate(step, STEPS, recipe) for step in rates}
    assert found == pytest.approx(rates, rel=1e-13, abs=1e-20)


def pairs(text: str, separator: str) -> dict[str, str]:
    return dict(pair.split(separator) for pair in text.split())


def test_every_scheduler_has_numbers_from_outside():
    named = {pairs(keys, "=").get("scheduler", "cosine_decay") for keys, _ in MINDCV.values()}
    assert named == set(SCHEDULERS)
    assert {*named, "deit_cosine"} == set(get_args(get_type_hints(Recipe)["scheduler"]))


OFFICIAL = Recipe(
    "pvt_tiny",
    scheduler="deit_cosine",
    epoch_size=300,
    lr=1e-3,
    min_lr=1e-5,
    warmup_epochs=5,
    warmup_factor=1e-3,
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        # The scheduler is made with the first rate, and after epoch e given e: a step behind.
        (0, 1e-6),
        (1, 1e-6),
        (2, 2.008e-4),
        (3, 4.006e-4),
        (4, 6.004e-4),
        (5, 8.002e-4),
        (6, 1e-5 + 9.9e-4 * (1 + cos(5 * pi / 300)) / 2),
        (76, 1e-5 + 9.9e-4 * (1 + cos(pi / 4)) / 2),
        (151, 5.05e-4),
        (299, 1e-5 + 9.9e-4 * (1 + cos(298 * pi / 300)) / 2),
        (301, 1e-5),
        (400, 1e-5),
    ],
)
def test_the_official_schedule_changes_between_epochs_and_starts_late(epoch, expected):
    first, last = (learning_rate(epoch * STEPS + s, STEPS, OFFICIAL) for s in (0, STEPS - 1))
    assert first == last == pytest.approx(expected, rel=1e-12)


def test_decay_epochs_are_what_the_warm_up_leaves():
    given = Recipe("pvt_nano", epoch_size=30, warmup_epochs=10, decay_epochs=20, min_lr=1e-5)
    left = Recipe("pvt_nano", epoch_size=30, warmup_epochs=10, min_lr=1e-5)
    for step in range(PEAK + SPAN):
        assert learning_rate(step, STEPS, given) == learning_rate(step, STEPS, left)


@pytest.mark.parametrize(
    ("epochs", "warmup"), [(1, 1), (4, 1), (10, 1), (11, 2), (30, 3), (91, 10), (450, 10)]
)
def test_a_short_run_warms_up_for_a_tenth_of_it(epochs, warmup):
    assert warmup_epochs(Recipe("pvt_nano", epoch_size=epochs)) == warmup
    left = Recipe("pvt_nano", epoch_size=epochs)
    given = Recipe("pvt_nano", epoch_size=epochs, warmup_epochs=warmup)
    for step in range(STEPS * epochs):
        assert learning_rate(step, STEPS, left) == learning_rate(step, STEPS, given)


def test_a_longer_run_follows_its_own_schedule_from_where_it_is():
    """A rate is a function of the step, so another ``epoch_size`` needs nothing of the past."""
    longer = Recipe("pvt_nano", epoch_size=50, warmup_epochs=10, lr=1e-3, min_lr=1e-5)
    middle = 1e-5 + (1e-3 - 1e-5) * (1 + cos(pi * 20 / 40)) / 2
    assert learning_rate(PEAK + SPAN, STEPS, longer) == pytest.approx(middle, rel=1e-12)


@pytest.mark.parametrize("name", ["step_decay", "multi_step_decay", "exponential_decay"])
def test_a_rate_that_grows_beyond_all_numbers_is_infinite(name):
    recipe = Recipe(
        "pvt_tiny", scheduler=name, decay_rate=1e18, decay_epochs=1, warmup_epochs=0,
        multi_step_decay_milestones=tuple(range(100)),
    )  # fmt: skip
    assert learning_rate(100, 1, recipe) == float("inf")
