"""Results of parity without a run: comparisons of a small model with answers that are made up."""

from functools import cache
from typing import Any

import numpy as np

from parity.inputs.samples import noise_samples
from parity.measure.compare import Comparison
from parity.measure.envelope import Envelope, emulated_runs
from parity.result import Result
from pvt_spec import Numerics, PVTConfig, output_names, tap_names
from tests.support.models import KINDS, Taps, Weights, info_of, random_images, weights_for
from tests.support.runtimes import run_float64

Given = tuple[PVTConfig, Numerics, Weights]


@cache
def reference_taps(kind: str, count: int = 2) -> dict[str, np.ndarray]:
    """Of a small model in float64, over images of noise."""
    config, numerics = KINDS[kind], info_of(KINDS[kind], "mindcv").numerics
    images = random_images(config, count=count)
    return run_float64(config, numerics, weights_for(config, numerics), images)


def compared(
    kind: str = "v1",
    name: str = "torch",
    changes: dict[str, Any] | None = None,
    count: int = 2,
    labels: np.ndarray | None = None,
    **given: Any,
) -> Comparison:
    """A runtime that answers the reference rounded to float32, but for some taps: 1× rounding."""
    reference = reference_taps(kind, count)
    actual = {tap: array.astype(np.float32) for tap, array in reference.items()}
    config = KINDS[kind]
    envelope = Envelope(tap_names(config))
    envelope.add("noise", actual, reference)
    for tap, change in (changes or {}).items():
        actual[tap] = change(actual[tap].copy())
    comparison = Comparison(
        **{
            "name": name,
            "runtime": name,
            "file": "a.pth",
            "precision": "fp32",
            "names": tuple(tap_names(config)),
            "answers": output_names(config),
            "facts": {"device": "CPU", "framework": f"{name} 1.0"},
            "envelope": envelope,
            "checked": {"weights": 129, "attributes": 81},
            **given,
        }
    )
    comparison.add(["noise"] * count, actual, reference, labels)
    return comparison


def result_of(*comparisons: Comparison, kind: str = "v1", **given: Any) -> Result:
    info = given.pop("info", info_of(KINDS[kind], "mindcv"))
    return Result(
        **{
            "info": info,
            "reference": "a.ckpt",
            "computed_in": "PyTorch, float64",
            "image_size": info.preprocessing.image_size,
            "samples": noise_samples(comparisons[0].images, 0),
            "comparisons": list(comparisons),
            "seconds": {"total": 1.5},
            **given,
        }
    )


def judged(model: Given, images: Any, actual: Taps, precision: str = "fp32") -> Comparison:
    """What a runtime answers, against float64 in units of its precision's rounding."""
    import pvt_torch

    config, numerics, weights = model
    exact = run_float64(config, numerics, weights, images)
    names = tuple(name for name in exact if name in actual)
    envelope = Envelope(names)
    twin = pvt_torch.model_from_weights(config, numerics, weights)
    for taps in emulated_runs(twin, images, precision):
        envelope.add("images", taps, exact)
    answers = tuple(name for name in output_names(config) if name in names)
    found = Comparison("a", "a", "a", precision, names, answers, envelope=envelope)
    found.add(["images"] * len(images), actual, exact)
    return found


def assert_same(found: Comparison) -> None:
    """Every tap is within its bound."""
    worst = {name: found.judge(name).times for name in found.names}
    assert found.same, f"differs from {found.first_out_of_bounds} on: {worst}"
