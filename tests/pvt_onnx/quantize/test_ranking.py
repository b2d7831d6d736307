"""What a module costs: that which is rounded worst costs most, and from it on taps are off."""

from pathlib import Path

import numpy as np
import pytest

from convert import save_model
from pvt_data.sources.labels import ignore
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.quantize.measuring.calibration import find_ranges, open_values
from pvt_onnx.quantize.measuring.ranking import rank_modules, relative_error, tap_errors
from pvt_onnx.quantize.quantizer import Scheme, find_nodes, find_values, quantise_static
from pvt_onnx.quantize.source import layers_of, quantisable, read_source
from tests.support.models import SMALL, info_of, random_images, weights_for

ONE_THREAD = EngineOptions(threads=1)
WORST = "block4.0.mlp"


def test_the_module_that_is_rounded_worst_costs_most(tmp_path: Path) -> None:
    info = info_of(SMALL["v2"])
    weights = weights_for(info.config, info.numerics)
    # A channel of norm2's answers is so large that all others are less than a step.
    weights[f"{WORST.removesuffix('mlp')}norm2.bias"][3] = 90_000
    weights[f"{WORST}.fc1.weight"][:, 3] *= np.float32(1e-6)
    save_model(tmp_path / "a.onnx", weights, info)
    source = read_source(tmp_path / "a.onnx", ignore)
    model = source.build(source.weights, quantisable(source.target), 20)
    images = random_images(info.config, count=4)
    values = open_values(model, "a", find_values(find_nodes(model)), ONE_THREAD)
    ranges = find_ranges(values, lambda: [images], "minmax")
    modules, told = layers_of(source), []

    def quantise(layers):  # type: ignore[no-untyped-def]
        return quantise_static(model, ranges, Scheme("uint8", reduce_range=True), layers)

    costs = rank_modules(
        model, quantise, modules, images, ONE_THREAD, lambda done, total: told.append(done)
    )
    assert costs[0].module == WORST, costs
    assert costs[0].error > 5 * np.median([cost.error for cost in costs])
    assert costs[0].margin > costs[1].margin
    assert told == [*range(1, len(modules) + 1)] and len(costs) == len(modules)
    assert all(cost.layers == modules[cost.module] for cost in costs)

    errors = {
        tap.tap: tap.error
        for tap in tap_errors(model, quantise(modules[WORST]), images, ONE_THREAD)
    }
    taps = [*errors]
    before, after = taps[: taps.index(WORST)], taps[taps.index(WORST) :]
    assert all(errors[tap] < 1e-6 for tap in before)
    assert all(errors[tap] > 1e-3 for tap in after)
    assert errors[WORST] == pytest.approx(costs[0].error, rel=1e-6)


def test_an_error_is_relative_to_what_is_exact() -> None:
    exact = np.array([3.0, 4.0])
    assert relative_error(exact, exact) == 0
    assert relative_error(exact * 1.5, exact) == 0.5
    assert relative_error(exact, np.zeros(2)) > 1
