"""The engines that run a graph, and what they run on, a row each; each is imported when it opens.

Where an engine cannot do what it was asked to, that is an error: none goes on elsewhere, or in
another precision, without a word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pvt_onnx.engines.options import EngineOptions
from pvt_packages import require
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.words import is_unicode

if TYPE_CHECKING:
    from pvt_spec.arrays import Array


@dataclass(frozen=True)
class Provider:
    """What onnxruntime calls an execution provider, and is told of it.

    Attributes:
        own: Its name in onnxruntime.
        build: The distribution of onnxruntime that has it.
        precisions: Precision -> every option that changes numbers, which by themselves are set
            for speed.
        needs: Precision -> environment variable and the value without which it is another.
    """

    own: str
    build: str
    precisions: Mapping[str, Mapping[str, str]]
    needs: Mapping[str, tuple[str, str]]


def _tensorrt(**changes: str) -> dict[str, str]:
    off = dict.fromkeys(("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"), "0")
    return {**off, "trt_layer_norm_fp32_fallback": "1", **changes}


def _cann(mode: str) -> dict[str, str]:
    return {"precision_mode": mode, "op_select_impl_mode": "high_precision"}


PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime", {"fp32": {}}, {}),
    "cuda": Provider(
        "CUDAExecutionProvider",
        "onnxruntime-gpu",
        {"fp32": {"use_tf32": "0"}, "tf32": {"use_tf32": "1"}},
        {},
    ),
    "cann": Provider(
        "CANNExecutionProvider",
        "onnxruntime-cann",
        {"fp32": _cann("must_keep_origin_dtype"), "fp16": _cann("force_fp16")},
        {},
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu",
        {
            "fp32": _tensorrt(),
            "tf32": _tensorrt(),
            "fp16": _tensorrt(trt_fp16_enable="1"),
            "bf16": _tensorrt(trt_bf16_enable="1"),
            "int8": _tensorrt(trt_int8_enable="1"),
        },
        # It has no option for this.
        {"fp32": ("NVIDIA_TF32_OVERRIDE", "0"), "tf32": ("NVIDIA_TF32_OVERRIDE", "1")},
    ),
}
"""The execution providers of onnxruntime, by what users call them."""

OPENVINO_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Precision -> OpenVINO's name. By itself it takes bfloat16 where the CPU has it."""

ENGINES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "onnxruntime": {name: [*row.precisions] for name, row in PROVIDERS.items()},
    "openvino": {"cpu": [*OPENVINO_HINTS]},
}
"""Engine, which is its library too, -> what it runs on -> the precisions of that."""


@dataclass(frozen=True)
class Engine:
    """An open graph; threads may share it.

    Attributes:
        run: The function from inputs by name, and the names of the values that are wanted, to
            those values.
        facts: What really runs: ``framework``, ``device``, ``mode``, ``provider``, ``threads`` and
            ``precision``.
    """

    run: "Callable[[Mapping[str, Array], Sequence[str]], list[Array]]"
    facts: Mapping[str, str]


def obstacle(options: EngineOptions) -> str | None:
    """Returns why an engine that is installed cannot run as asked here, or None where it can."""
    problem: str | None = _home(options).obstacle(options)
    return problem


def find_engine(options: EngineOptions) -> "Callable[[Path | bytes, str], Engine]":
    """Returns the function that opens graphs; refuses what cannot be had, before one is read.

    It takes a file, or a serialized model without weights elsewhere, and the model's name in an
    error, and raises OnnxFileError where the engine cannot load the model, RuntimeUnusable where
    its path is no Unicode, in which engines are told of it.

    Raises:
        RuntimeUnusable: No engine is or does what is asked, here or at all.
        LibraryMissing: The engine is not installed.
    """
    options.check(ENGINES)
    require(options.engine)
    if problem := obstacle(options):
        raise RuntimeUnusable(problem)
    open_session = _home(options).open_session

    def open_(model: Path | bytes, name: str) -> Engine:
        if isinstance(model, Path) and not is_unicode(str(model)):
            raise RuntimeUnusable(f"{name}: a path that is not Unicode throughout: rename it")
        if isinstance(model, Path) and not model.is_file():
            from pvt_onnx.reading.files import OnnxFileError

            raise OnnxFileError(f"{model}: no such file")
        engine: Engine = open_session(model, name, options)
        return engine

    return open_


def open_engine(model: Path | bytes, name: str, options: EngineOptions = EngineOptions()) -> Engine:
    """Opens a graph in an engine; see :func:`find_engine`."""
    return find_engine(options)(model, name)


def _home(options: EngineOptions) -> ModuleType:
    return import_module(f"pvt_onnx.engines.{options.engine}")
