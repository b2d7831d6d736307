"""A benchmark of one model file: each contestant reads it, and has a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pvt_data.benchmark.contestants import CONTESTANTS, GRAPHS, Setting, command, environment
from pvt_data.benchmark.measure import Plan, measure
from pvt_data.benchmark.report import Benchmark
from pvt_data.benchmark.turns import Worker
from pvt_data.progress import Show


def run_benchmark(
    model: Path,
    names: Sequence[str],
    settings: Sequence[Setting],
    plan: Plan,
    tell: Callable[[str], None],
    show: Show,
) -> Benchmark:
    """Times contestants on one model.

    Args:
        model: A file that ``convert`` reads.
        names: Keys of :data:`CONTESTANTS`, the one that others are compared to first.
        settings: How they run.
        plan: How long is measured.
        tell: A function that is told what is done on the way.
        show: A function that is told of each turn.

    Raises:
        ContestantFailed: None could be opened.
    """
    with tempfile.TemporaryDirectory() as folder:
        packages = {CONTESTANTS[name].package for name in names}
        files = dict.fromkeys(packages, model)
        if GRAPHS in packages and model.suffix.lower() != ".onnx":
            files[GRAPHS] = _as_graph(model, Path(folder), tell)

        def start(name: str, setting: Setting) -> Worker:
            file = files[CONTESTANTS[name].package]
            return Worker(command(name, file, setting), environment(setting.threads))

        rows, hellos = measure(names, settings, plan, start, show)
    return Benchmark(str(model), plan, rows, hellos)


def _as_graph(model: Path, folder: Path, tell: Callable[[str], None]) -> Path:
    """Returns a model as an ``.onnx`` file; where that cannot be made, the model's own."""
    graph = folder / "model.onnx"
    tell(f"converting {model} for the engines that take .onnx files")
    made = [sys.executable, "-m", "convert", str(model.absolute()), str(graph)]
    done = subprocess.run(made, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        tell(done.stderr.strip())
        return model
    return graph
