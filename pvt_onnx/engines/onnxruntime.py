"""Opening graphs in onnxruntime; it is imported when one is opened."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.table import PROVIDERS, Engine
from pvt_onnx.reading.files import reporting
from pvt_spec.arrays import Array
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.words import reason

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}

_SILENT = 4
"""Severity of what a logger of onnxruntime tells at least: of what ends the process."""


def obstacle(options: EngineOptions) -> str | None:
    """Returns why onnxruntime cannot run a graph as asked here, or None where it can."""
    row = PROVIDERS[options.provider]
    if options.provider == "cpu":
        return None  # which every build has, without the time that importing it takes
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if row.own not in there:
        return (
            f"provider {options.provider}: this build of onnxruntime has no {row.own} "
            f"({', '.join(there)}): pip install {row.build} in its place, or take provider cpu"
        )
    name, value = row.needs.get(options.computes, ("", ""))
    if name and os.environ.get(name) != value:
        return (
            f"provider {options.provider} computes {options.computes} where {name}={value} is "
            f"set in the environment, found {os.environ.get(name, 'nothing')}"
        )
    return None


def open_session(model: Path | bytes, name: str, options: EngineOptions) -> Engine:
    """Opens a graph; see :func:`pvt_onnx.engines.table.open_engine`.

    onnxruntime's default logger is silent from then on: it tells, in terminals' escape codes, what
    is raised as well. What it says while it is imported (that it does not know the processor, where
    there is no /proc) stays: it has no setting for that, and to take stderr from the process would
    lose what other threads say meanwhile.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(_SILENT)
    asked = PROVIDERS[options.provider].own
    with reporting(name, "onnxruntime cannot load it as an ONNX model"):
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _SILENT  # what goes wrong is raised
        # To plan which result has whose memory takes the square of their number, 40 s for 13,000;
        # the allocator gives what is free to the next one as well.
        settings.enable_mem_reuse = False
        level = _LEVELS[options.optimization]
        settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        if options.each:
            settings.intra_op_num_threads = options.each
        if options.calls:
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = model if isinstance(model, bytes) else str(model)
        providers = _providers(options)
        try:
            # Its fallback tells stdout of it, and runs on another provider.
            session = onnxruntime.InferenceSession(
                source, settings, providers=providers, enable_fallback=0
            )
            # Where a provider cannot start, onnxruntime warns, or raises, and goes on.
            fate = f"it runs on {found}" if (found := session.get_providers()[0]) != asked else ""
        except Exception as error:
            if options.provider == "cpu":
                raise
            fate = f"it does not start ({reason(error)})"
    if fate:
        raise RuntimeUnusable(
            f"{name}: asked onnxruntime for {asked}, but {fate}: install what "
            f"{PROVIDERS[options.provider].build} needs, or take provider cpu"
        )

    def run(inputs: Mapping[str, Array], values: Sequence[str]) -> list[Array]:
        return list(session.run(list(values), dict(inputs)))

    return Engine(run, _facts(options))


def _providers(options: EngineOptions) -> list[Any]:
    """Returns a provider, and those that run what it has no kernels for."""
    others = {"cpu": ("cpu",), "tensorrt": ("tensorrt", "cuda", "cpu")}
    names = others.get(options.provider, (options.provider, "cpu"))
    rows = [PROVIDERS[name] for name in names]
    # What TensorRT leaves to CUDA is in its precision or, of the float16 kind, in float32.
    chosen = [row.precisions.get(options.computes, row.precisions["fp32"]) for row in rows]
    return [(row.own, dict(one)) if one else row.own for row, one in zip(rows, chosen, strict=True)]


def _facts(options: EngineOptions) -> dict[str, str]:
    import onnxruntime

    on_cpu = options.provider == "cpu"
    return {
        "framework": f"onnxruntime {onnxruntime.__version__}",
        "device": "CPU" if on_cpu else onnxruntime.get_device(),
        "mode": f"optimisation: {options.optimization}",
        "provider": PROVIDERS[options.provider].own,
        "threads": options.of_each(str(options.each or "one for each core")),
        "precision": options.computes,
    }
