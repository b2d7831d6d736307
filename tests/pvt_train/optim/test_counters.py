"""The counters of a state, which may be anybody's."""

import numpy as np
import pytest

from pvt_train.optim.counters import Counters
from pvt_train.optim.loss_scale import LossScale
from pvt_train.twin import TrainingError
from tests.support.messages import naming

DYNAMIC = Counters(0, LossScale(2.0**24, 0, 2.0, 10))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("updates", -1),
        ("updates", 2**63 - 1),
        ("good_steps", -1),
        ("loss_scale", 0.0),
        ("loss_scale", -1.0),
        ("loss_scale", float("nan")),
        ("loss_scale", float("inf")),
    ],
)
def test_numbers_that_updates_do_not_come_to_are_refused(name, value):
    state = DYNAMIC.to_arrays()
    state[name] = np.array(value, state[name].dtype)
    with pytest.raises(TrainingError, match=naming(name)):
        DYNAMIC.from_arrays(state)


def test_what_was_given_comes_back():
    counted = Counters(7, LossScale(2.0**80, 3, 2.0, 10))
    assert DYNAMIC.from_arrays(counted.to_arrays()) == counted
    fixed = Counters(0, LossScale(1.0))
    assert fixed.from_arrays(Counters(9, LossScale(1.0)).to_arrays()).updates == 9
