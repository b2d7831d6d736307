"""Distances between float32 numbers in units in the last place."""

from collections import Counter

import numpy as np

from pvt_spec.arrays import Array

_EDGES = (0, *(2**i for i in range(33)))

ULP_BINS = ("0", "1", "2", *(f"{edge // 2 + 1}-{edge}" for edge in _EDGES[3:]), "infinite")
"""Names of the bins, by distance: 0, 1, 2, 3-4, 5-8, …, and infinite for NaN and Inf.

The largest distance between two finite float32 numbers is 4278190078.
"""


def count_ulps(actual: Array, reference: Array) -> Counter[str]:
    """Returns how many values are in each of :data:`ULP_BINS`.

    Args:
        actual: The values, float32.
        reference: What they should be, float64 of the same shape; rounded to float32 first.
    """
    rounded = reference.astype(np.float32)
    distances = ulp_distances(actual, rounded)
    finite = np.isfinite(actual) & np.isfinite(rounded)
    if not finite.all():
        distances = distances[finite]
    counts, within = Counter(infinite=finite.size - distances.size), 0
    for name, edge in zip(ULP_BINS, _EDGES, strict=False):
        # Few values are far: the last dozen of edges is seldom looked at.
        if within < distances.size:
            before, within = within, int(np.count_nonzero(distances <= edge))
            counts[name] = within - before
    return counts


def ulp_distances(first: Array, second: Array) -> Array:
    """Returns how many steps from one float32 to the next lie between two finite ones.

    The numbers are counted in their order, through denormals and one zero: -0.0 and 0.0 are
    0 apart, the smallest positive and the smallest negative number 2.

    Args:
        first: An array of float32.
        second: Another of the same shape.

    Returns:
        uint32 of that shape; at NaN and Inf it says nothing.
    """
    ours, theirs = first.view(np.int32), second.view(np.int32)
    # Numbers of one sign are in the order of their bits; the others' difference may wrap.
    distances: Array = np.abs(ours - theirs).view(np.uint32)
    crossing = (ours ^ theirs) < 0
    if crossing.any():
        magnitude = np.int32(0x7FFFFFFF)
        # The sum of two magnitudes, each below 2^31, fits 32 bits.
        through_zero = (ours & magnitude).view(np.uint32) + (theirs & magnitude).view(np.uint32)
        distances = np.where(crossing, through_zero, distances)
    return distances
