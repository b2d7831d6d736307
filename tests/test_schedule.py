"""The learning rate against closed forms."""

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvt_train.recipe import Recipe
from pvt_train.schedule import learning_rate

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
