"""Everything random in training, as functions of the seed and the place in the run.

Nothing here has a state, so a run can be taken up at any step, and two frameworks can be given
the same randomness.
"""

from enum import IntEnum

import numpy as np

from pvt_spec import PVTConfig
from pvt_spec.arrays import Array


class RandomUse(IntEnum):
    """What random numbers are used for; one use takes none of another's."""

    ORDER = 1
    AUGMENTATION = 2
    DROP_PATH = 3
    MIXING = 4
    REPLACEMENT = 5


def generator(seed: int, use: RandomUse, *place: int) -> np.random.Generator:
    """Returns random numbers of their own for each seed, use and place.

    Args:
        seed: The run's, at least 0.
        use: What they are for.
        place: The place in the run: epoch, index, step.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(use, *place)))


def epoch_order(seed: int, epoch: int, count: int) -> Array:
    """Returns the order of ``count`` images in one epoch: int64 (count,), a permutation."""
    return generator(seed, RandomUse.ORDER, epoch).permutation(count)


def drop_path_scales(config: PVTConfig, seed: int, step: int, batch: int) -> Array:
    """Draws what stochastic depth scales the branches of one step by.

    A branch is dropped for a sample with its block's rate, and otherwise scaled so that its
    expectation stays (Huang et al., ECCV 2016, in timm's ``DropPath`` form).

    Args:
        config: The architecture; its ``drop_path_rates`` are the blocks' rates.
        seed: The run's.
        step: The step's number over all epochs, from 0.
        batch: Number of samples, B.

    Returns:
        float32 (blocks, 2, B): for the attention and the MLP branch of each block and sample, 0
        or 1 / (1 - rate).
    """
    rates = np.array(config.drop_path_rates())[:, None, None]
    drawn = generator(seed, RandomUse.DROP_PATH, step).random((len(rates), 2, batch))
    return np.where(drawn < rates, 0.0, 1 / (1 - rates)).astype(np.float32)
