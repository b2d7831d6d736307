"""One small object per runtime: the same weights, every tap, and the model's own attributes.

Each framework is imported only when its runner is opened. May import everything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from convert.file_formats import file_format
from convert.model_file import Model
from parity.structure import (
    Attributes,
    mindspore_attributes,
    onnx_attributes,
    torch_attributes,
)
from pvt_spec.arrays import Array

Taps = dict[str, Array]


@dataclass(frozen=True)
class Runner:
    """An open model in one runtime.

    Attributes:
        runtime: Its name.
        taps: From float32 (B, in_chans, H, W), normalised, to every tap in forward order.
        attributes: Read from the runtime's own objects; see :mod:`parity.structure`.
    """

    runtime: str
    taps: Callable[[Array], Taps]
    attributes: Attributes


def open_mindspore(model: Model, path: Path) -> Runner:
    """MindSpore on the current device, op by op."""
    from pvt_ms.environment import prepare_environment

    prepare_environment()
    import pvt_ms

    twin = pvt_ms.model_from_weights(model.info.config, model.info.numerics, model.weights)
    return Runner("mindspore", lambda x: pvt_ms.run_taps(twin, x), mindspore_attributes(twin))


def open_torch(model: Model, path: Path) -> Runner:
    """PyTorch on the CPU, eager, float32."""
    import pvt_torch

    twin = pvt_torch.model_from_weights(model.info.config, model.info.numerics, model.weights)
    return Runner("torch", lambda x: pvt_torch.run_taps(twin, x), torch_attributes(twin))


def open_onnxruntime(model: Model, path: Path) -> Runner:
    """onnxruntime on the CPU: the file's own graph if it is ONNX, else the one convert writes."""
    import pvt_onnx

    if file_format(path) == "onnx":
        proto = pvt_onnx.load_proto(path)
    else:
        info = model.info
        proto = pvt_onnx.build(info.config, info.numerics, model.weights, info=info)
    return Runner("onnxruntime", pvt_onnx.open_taps(proto, str(path)), onnx_attributes(proto))


def open_reference(model: Model) -> Callable[[Array], Taps]:
    """What every runtime is measured against: the PyTorch twin in float64."""
    import pvt_torch

    twin = pvt_torch.model_from_weights(model.info.config, model.info.numerics, model.weights)
    twin = twin.double()
    return lambda images: pvt_torch.run_taps(twin, images)


RUNTIMES: dict[str, Callable[[Model, Path], Runner]] = {
    "mindspore": open_mindspore,
    "torch": open_torch,
    "onnxruntime": open_onnxruntime,
}


def installed(runtime: str) -> bool:
    """Whether the runtime's package can be imported, told without importing it."""
    return find_spec(runtime) is not None
