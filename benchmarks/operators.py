"""Where a model's time goes: each kind of operator in onnxruntime and in OpenVINO, one thread.

    taskset -c 0 python -m benchmarks.operators model.onnx --batch-size 1 --calls 40

Both profile themselves, which costs some time; the lower quartile of the calls of each operator is
taken, and those of a kind are added.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from benchmarks.processes import add_json_option, report

Times = dict[tuple[str, str], list[float]]
"""The milliseconds of each call of an operator, by its kind and name."""


def time_onnxruntime(model: Path, images: Any, calls: int) -> Times:
    """Returns the times of onnxruntime's operators."""
    import onnxruntime

    times: Times = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 4
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, settings, ["CPUExecutionProvider"])
        for _ in range(calls):
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    return times


def time_openvino(model: Path, images: Any, calls: int) -> Times:
    """Returns the times of OpenVINO's operators."""
    import openvino

    from pvt_onnx.engines.openvino import numbers

    core = openvino.Core()
    settings = {**numbers("f32"), "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request, times = compiled.create_infer_request(), defaultdict(list)
    for _ in range(calls):
        request.infer([images])
        for node in request.profiling_info:
            times[node.node_type, node.node_name].append(1e3 * node.real_time.total_seconds())
    return times


ENGINES: dict[str, Callable[[Path, Any, int], Times]] = {
    "onnxruntime": time_onnxruntime,
    "openvino": time_openvino,
}


def rows(engine: str, times: Times) -> list[dict[str, Any]]:
    """Returns a row for each kind of operator, the one that takes longest first."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), calls in times.items():
        if any(calls):  # what was folded into another takes no time
            kinds[kind].append(quantiles(calls, n=4)[0])
    total = sum(map(sum, kinds.values()))
    longest = sorted(kinds.items(), key=lambda item: -sum(item[1]))
    return [
        {
            "engine": engine,
            "operator": kind,
            "number": len(each),
            "ms": sum(each),
            "share": f"{sum(each) / total:.1%}",
        }
        for kind, each in longest
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--calls", type=int, default=40)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    found = []
    for engine, time_operators in ENGINES.items():
        found += rows(engine, time_operators(options.model, images, options.calls))
    report(found, options.json)


if __name__ == "__main__":
    main()
