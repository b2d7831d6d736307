"""Ranges of values: those of all images, whatever batches they came in, without keeping them."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import TensorsData

from pvt_onnx.quantize.measuring.calibration import find_largest, find_ranges
from pvt_onnx.quantize.options import CALIBRATIONS

IMAGES = np.random.default_rng(3).standard_normal((24, 3, 32, 32)).astype(np.float32)
IMAGES[7, 0, 0, 0] = 90  # which is one in 73,728


def _values(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": images, "y": 3 * images + 1}


def _ranges(how: str, size: int) -> TensorsData:
    return find_ranges(_values, lambda: np.split(IMAGES, len(IMAGES) // size), how)


@pytest.mark.parametrize("size", [1, 4, 24])
def test_extremes_are_those_of_all_images(size: int) -> None:
    found = _ranges("minmax", size)
    for name, array in _values(IMAGES).items():
        low, high = found[name].range_value
        assert (low, high) == (array.min(), array.max())


def test_percentiles_leave_out_what_is_rare_and_entropy_what_costs_more_than_it_is_worth() -> None:
    for how in ("percentile", "entropy"):
        for name, array in _values(IMAGES).items():
            low, high = (float(each) for each in _ranges(how, 4)[name].range_value)
            assert high < array.max() / 2, how
            inside = np.mean((array >= low) & (array <= high))
            assert inside > 0.99, (how, name, low, high)


@pytest.mark.sampled
@pytest.mark.parametrize("how", CALIBRATIONS)
def test_memory_does_not_grow_with_the_number_of_images(how: str) -> None:
    def peak(count: int) -> int:
        def batches() -> Iterator[np.ndarray]:
            return (np.random.default_rng(i).standard_normal((1, 3, 64, 64)) for i in range(count))

        tracemalloc.start()
        find_ranges(lambda images: {"x": images.astype(np.float32)}, batches, how)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(40) < 1.5 * peak(8)


def test_largest_values_are_of_each_channel() -> None:
    tokens = np.random.default_rng(0).standard_normal((6, 5, 8)).astype(np.float32)
    found = find_largest(lambda images: {"norm": images}, np.split(tokens, 3))
    assert np.array_equal(found["norm"], np.abs(tokens).max(axis=(0, 1)))
