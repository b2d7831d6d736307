"""Everything random in training: orders, streams and stochastic depth."""

from math import sqrt

import numpy as np
import pytest

from pvt_spec import make_config
from pvt_train.input.randomness import RandomUse, drop_path_scales, epoch_order, generator

DRAWS = 4000
CONFIG = make_config("pvt_nano", drop_path_rate=0.3)


def test_every_epoch_has_an_order_of_its_own():
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert epoch_order(1, 2, 50).tolist() == orders[5]


def test_streams_and_places_share_no_numbers():
    """Zeros at the end of a place count too: SeedSequence pads its entropy with zeros."""
    places = [(), (0,), (0, 0), (1,), (0, 1), (1, 0)]
    first = {
        generator(s, stream, *p).random() for s in (0, 1) for stream in RandomUse for p in places
    }
    first |= {np.random.default_rng(seed).random() for seed in (0, 1)}
    assert len(first) == 2 * len(RandomUse) * len(places) + 2


def test_branches_are_dropped_at_their_blocks_rates():
    scales = drop_path_scales(CONFIG, 0, 7, DRAWS)
    assert scales.shape == (4, 2, DRAWS) and scales.dtype == np.float32
    for rate, block in zip([0.0, 0.1, 0.2, 0.3], scales, strict=True):
        assert set(np.unique(block)) <= {np.float32(0), np.float32(1 / (1 - rate))}
        error = 4 * sqrt(rate * (1 - rate) / (2 * DRAWS))
        assert (block == 0).mean() == pytest.approx(rate, abs=error)
    assert np.array_equal(scales, drop_path_scales(CONFIG, 0, 7, DRAWS))
    assert not np.array_equal(scales, drop_path_scales(CONFIG, 0, 8, DRAWS))


def test_no_drop_path_is_ones():
    config = make_config("pvt_nano", drop_path_rate=0.0)
    assert np.array_equal(drop_path_scales(config, 0, 0, 3), np.ones((4, 2, 3)))
