"""The ranges of a graph's values over some images, a batch at a time.

onnxruntime's own calibrators keep every value of every image until they have seen all; here its
histograms are given a batch at a time.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import (
    CalibrationMethod,
    HistogramCollector,
    TensorData,
    TensorsData,
)

from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import read_info
from pvt_onnx.engines.table import open_engine
from pvt_onnx.engines.tapped import serialize, with_outputs
from pvt_onnx.reading.files import reporting
from pvt_onnx.reading.interface import check_graph
from pvt_spec.arrays import Array

Values = Callable[[Array], dict[str, Array]]
"""From images float32 (B, C, H, W), normalised, to values of a graph by name."""

_BINS = {"percentile": 2048, "entropy": 512}

_PERCENTILE = 99.99
"""The share of a tensor's values, in percent, that a range of percentiles has."""


def open_values(
    model: onnx.ModelProto, name: str, wanted: Sequence[str], options: EngineOptions
) -> Values:
    """Opens a graph for any of its values, its input among them, as they are."""
    info = read_info(model, name)
    interface = check_graph(model, info, name)
    answered = {value.name for value in model.graph.output}
    inner = [value for value in wanted if value not in {interface.image, *answered}]
    tapped = with_outputs(model, name, inner)
    engine = open_engine(serialize(tapped, name), name, options)
    made = [value for value in wanted if value != interface.image]

    def values(images: Array) -> dict[str, Array]:
        feed = interface.feed(images, info.preprocessing)
        with reporting(name, f"it cannot be run on images {images.shape}"):
            found = dict(zip(made, engine.run(feed, made), strict=True))
        return found | ({interface.image: feed[interface.image]} if len(made) < len(wanted) else {})

    return values


def find_ranges(values: Values, batches: Callable[[], Iterable[Array]], how: str) -> TensorsData:
    """Returns the range of each value.

    Args:
        values: What answers them.
        batches: What goes through the images, float32 (B, C, H, W), normalised: for histograms
            twice, as their bins are of equal width between the extremes.
        how: One of :data:`pvt_onnx.quantize.options.CALIBRATIONS`.
    """
    extremes = _find_extremes(values, batches())
    if how == "minmax":
        return extremes
    collector = HistogramCollector(
        method=how,
        symmetric=False,
        num_bins=_BINS[how],
        num_quantized_bins=128,
        percentile=_PERCENTILE,
        scenario="same",
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        # Where values lie outside of a histogram it grows, and entropy takes the square of that.
        collector.collect({name: [np.stack(each.range_value)] for name, each in extremes.items()})
        for images in batches():
            collector.collect({name: [array] for name, array in values(images).items()})
        found = collector.compute_collection_result()
    return TensorsData(CalibrationMethod[how.capitalize()], found)


def _find_extremes(values: Values, batches: Iterable[Array]) -> TensorsData:
    lowest: dict[str, Array] = {}
    highest: dict[str, Array] = {}
    for images in batches:
        for name, array in values(images).items():
            low, high = array.min(), array.max()
            lowest[name] = np.minimum(lowest.get(name, low), low)
            highest[name] = np.maximum(highest.get(name, high), high)
    found = {
        name: TensorData(lowest=np.asarray(low), highest=np.asarray(highest[name]))
        for name, low in lowest.items()
    }
    return TensorsData(CalibrationMethod.MinMax, found)


def find_largest(values: Values, batches: Iterable[Array]) -> dict[str, Array]:
    """Returns the largest absolute value of each channel, (C,), of tokens (B, N, C)."""
    largest: dict[str, Array] = {}
    for images in batches:
        for name, array in values(images).items():
            found = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
            largest[name] = np.maximum(largest.get(name, found), found)
    return largest
