"""Opening graphs in OpenVINO; it is imported when one is opened."""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import local
from typing import Any

import numpy as np

from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.table import OPENVINO_HINTS, Engine
from pvt_onnx.reading.files import reporting
from pvt_spec.arrays import Array
from pvt_spec.errors import RuntimeUnusable

DEVICE = "CPU by OpenVINO"
"""What its kernels are called; see :mod:`pvt_spec.kernels`."""


_INSTRUCTIONS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""The variables that say which instructions oneDNN may use, here or in any other framework."""


def open_core() -> Any:
    """Returns this process's ``openvino.Core``, whose kernels use what the CPU has.

    There is one, for good: each has a stack for signals of its own, and where two end in the order
    that they began in, the next signal that Python handles is a SIGSEGV.

    OpenVINO asks the CPU which kernels to take, and the oneDNN in it the environment: where that
    allows less, as MindSpore's does on a CPU with AVX-512, it ends by SIGSEGV or answers zeros.
    Its oneDNN reads the environment once, with the first property that is asked for.
    """
    return _core_of(os.getpid())


_began: list[int] = []
"""The process in which OpenVINO was used first; it stays in those that are forked off."""


@cache
def _core_of(process: int) -> Any:
    """Returns a process's own.

    Raises:
        RuntimeUnusable: It was forked off one that had used OpenVINO, whose threads it waits for.
    """
    if _began and process not in _began:
        raise RuntimeUnusable(
            "OpenVINO was used before this process was forked, and would wait for ever here: start "
            "processes by spawn or forkserver, or take engine onnxruntime"
        )
    _began.append(process)
    import openvino

    said = {name: os.environ.pop(name) for name in _INSTRUCTIONS if name in os.environ}
    try:
        core = openvino.Core()
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    finally:
        os.environ.update(said)
    return core


def obstacle(options: EngineOptions) -> str | None:
    """Returns why OpenVINO cannot run a graph as asked here, or None where it can."""
    if options.optimization != "all":
        return f"optimization {options.optimization}: OpenVINO has no levels, expected all"
    there = open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if options.computes.upper() in there:
        return None
    return (
        f"precision {options.computes}: this CPU computes in none such ({', '.join(there)}), "
        "where OpenVINO would go on in float32 without a word: take precision fp32"
    )


def open_session(model: Path | bytes, name: str, options: EngineOptions) -> Engine:
    """Opens a graph; see :func:`pvt_onnx.engines.table.open_engine`."""
    import openvino

    asked = OPENVINO_HINTS[options.computes]
    with reporting(name, "OpenVINO cannot load it"):
        core = open_core()
        read = core.read_model(model if isinstance(model, bytes) else str(model))
        settings = numbers(asked) | {"PERFORMANCE_HINT": "LATENCY"}
        if options.each:
            settings["INFERENCE_NUM_THREADS"] = options.each * options.at_once
        if options.at_once > 1:
            settings["NUM_STREAMS"] = options.calls
        compiled = core.compile_model(read, "CPU", settings)
    threads = max(compiled.get_property("INFERENCE_NUM_THREADS") // options.at_once, 1)
    found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if found != asked:
        raise RuntimeUnusable(f"{name}: asked for {asked}, OpenVINO computes in {found}")
    own = local()  # a request is one thread's

    def run(inputs: Mapping[str, Array], values: Sequence[str]) -> list[Array]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        answer = own.request.infer(dict(inputs), share_inputs=True)
        return [np.asarray(answer[value]) for value in values]

    return Engine(
        run,
        {
            "framework": f"openvino {openvino.__version__}",
            "device": DEVICE,
            "mode": f"inference precision {found}",
            "provider": "CPU",
            "threads": options.of_each(str(threads)),
            "precision": options.computes,
        },
    )


def numbers(precision: str) -> dict[str, Any]:
    """Returns the options that change numbers, each explicitly.

    Args:
        precision: One of :data:`OPENVINO_HINTS`'s values.
    """
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
