"""A model's taps in every runtime.

Frameworks are imported where they run, so that a worker pays for those it needs.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pvt_spec import Numerics, PVTConfig
from tests.support.models import Taps, Weights


def run_torch(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
    """Every tap, in PyTorch."""
    import pvt_torch

    return pvt_torch.run_taps(pvt_torch.model_from_weights(config, numerics, weights), images)


def run_float64(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
    """Every tap, in PyTorch in float64: what the runtimes are measured against."""
    import pvt_torch

    twin = pvt_torch.model_from_weights(config, numerics, weights).double()
    return pvt_torch.run_taps(twin, images)


@cache
def import_mindspore() -> Any:
    """MindSpore without its asynchronous queue, which on two cores waits eight times as long."""
    import mindspore

    mindspore.runtime.launch_blocking()
    return mindspore


def run_mindspore(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
    """Every tap, in MindSpore, op by op."""
    import_mindspore()
    import pvt_ms

    return pvt_ms.run_taps(pvt_ms.model_from_weights(config, numerics, weights), images)


def run_onnx_static(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
    """Every tap, in onnxruntime, of a graph for these images' size."""
    import pvt_onnx

    model = pvt_onnx.build(config, numerics, weights, image_size=images.shape[2:])
    return pvt_onnx.open_taps(model, "static")(images)


def run_onnx_dynamic(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
    """Every tap, in onnxruntime, of a graph for any size."""
    import pvt_onnx

    model = pvt_onnx.build(config, numerics, weights, dynamic_size=True)
    return pvt_onnx.open_taps(model, "dynamic")(images)


Run = Callable[[PVTConfig, Numerics, Weights, Any], Taps]


RUNTIMES: Mapping[str, Run] = {
    "torch": run_torch,
    "mindspore": run_mindspore,
    "onnx_static": run_onnx_static,
    "onnx_dynamic": run_onnx_dynamic,
}
