"""The runtimes that can be compared: a row each, which imports its framework when it is opened."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from parity.errors import ParityError
from pvt_ms.runtime import MindSporeRuntime
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.runtime import OnnxEngine, OnnxReference
from pvt_packages import LIBRARIES, explain_import, is_installed
from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes
from pvt_spec.hashes import hash_weights
from pvt_spec.runtime import Runtime, Taps, Task
from pvt_torch.runtime import TorchRuntime

_ROWS: tuple[Runtime, ...] = (
    MindSporeRuntime("mindspore"),
    MindSporeRuntime("mindspore-graph", compiled=True),
    MindSporeRuntime("mindspore-o2", precision="fp16"),
    MindSporeRuntime("mindspore-graph-o2", compiled=True, precision="fp16"),
    MindSporeRuntime("mindspore-hf32", precision="hf32-conv"),
    MindSporeRuntime("mindspore-graph-hf32", compiled=True, precision="hf32-conv"),
    TorchRuntime("torch"),
    TorchRuntime("torch-compile", compiled=True),
    TorchRuntime("cuda", device="cuda"),
    OnnxEngine("onnxruntime"),
    OnnxEngine("onnxruntime-extended", EngineOptions(optimization="extended")),
    OnnxEngine("onnxruntime-basic", EngineOptions(optimization="basic")),
    OnnxEngine("onnxruntime-disabled", EngineOptions(optimization="disabled")),
    OnnxEngine("onnxruntime-cuda", EngineOptions(provider="cuda")),
    OnnxReference("onnx-reference"),
    OnnxEngine("openvino", EngineOptions("openvino")),
    OnnxEngine("openvino-bf16", EngineOptions("openvino", precision="bf16")),
)

RUNTIMES: dict[str, Runtime] = {row.name: row for row in _ROWS}
"""The runtimes by name, in the order that they are listed."""

DEFAULT_RUNTIMES = ("mindspore", "torch", "onnxruntime")

SWITCHES = (
    "MS_ASCEND_CHECK_OVERFLOW_MODE",
    "MS_DEV_FORCE_ACL",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables that change numbers or how they are computed."""


@dataclass(frozen=True)
class Runner:
    """An open model in one runtime.

    Attributes:
        runtime: The runtime's name.
        kind: What its objects are: ``"torch"``, ``"mindspore"`` or ``"onnx"``.
        taps: The function from float32 (B, in_chans, H, W), normalised, to the wanted taps in
            forward order.
        attributes: What the runtime's own objects hold; see :mod:`pvt_spec.attributes`.
        hashes: The hash of every weight in them; see :func:`pvt_spec.hashes.hash_weights`.
        facts: What ran: ``framework``, ``device``, ``mode``, ``precision`` (a tolerance class),
            ``platform``, and the switches of :data:`SWITCHES` that are set.
        steps: How far apart the numbers are that an attribute or weight can have, of those that
            are rounded.
        coarse: The weights that are, which have no hash.
        names: The wanted taps that it has; None for all.
    """

    runtime: str
    kind: str
    taps: Callable[[Array], Taps]
    attributes: Attributes
    hashes: Mapping[str, str]
    facts: dict[str, str]
    steps: Mapping[str, Array | float] = field(default_factory=dict)
    coarse: Mapping[str, Array] = field(default_factory=dict)
    names: Sequence[str] | None = None


def machine_facts() -> dict[str, str]:
    """Returns the machine, and the switches that are set on it."""
    facts = {"platform": platform.platform(), "python": platform.python_version()}
    return facts | {name: os.environ[name] for name in SWITCHES if name in os.environ}


def open_runner(runtime: str, task: Task) -> Runner:
    """Returns a model in one runtime.

    Raises:
        PvtError: The runtime cannot be used, or the model in it.
    """
    row = RUNTIMES[runtime]
    try:
        model = row.open(task)
    except Exception as error:
        if problem := broken_import(runtime, error):
            raise problem from error
        raise
    coarse = {name: array for name, array in model.weights.items() if name in model.steps}
    hashes = hash_weights({n: array for n, array in model.weights.items() if n not in coarse})
    inside = model.attributes, hashes, model.facts | machine_facts(), model.steps, coarse
    return Runner(row.name, row.kind, model.taps, *inside, model.names)


def broken_import(runtime: str, error: Exception) -> ParityError | None:
    """Returns what to tell of a framework that cannot be imported; None of any other error."""
    words = explain_import(error)
    if words and isinstance(error, ModuleNotFoundError):
        return ParityError(f"{runtime}: {words}")
    if not (words or isinstance(error, ImportError)):
        return None
    return ParityError(
        f"{runtime}: what it needs is installed but cannot be imported ({error}): repair that, or "
        "name the other runtimes with --runtime"
    )


def is_graph(runtime: str) -> bool:
    """Returns whether a runtime runs a file's own ONNX graph where it has one."""
    return runtime in RUNTIMES and RUNTIMES[runtime].kind == "onnx"


def missing_for(runtime: str) -> str | None:
    """Returns why a runtime cannot be run here and what to do, or None where it can."""
    row = RUNTIMES[runtime]
    if not is_installed(row.library):
        needs = f"{runtime} needs {row.library}, which" if runtime != row.library else row.library
        return f"{needs} is not installed: pip install '{LIBRARIES[row.library]}'"
    return row.obstacle()
