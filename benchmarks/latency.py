"""Our ONNX beside other files and runtimes of the same weights, in turn.

    python -m benchmarks.latency --variants pvt_tiny,pvt_v2_b0:mindcv --batch-size 1,8 --threads 1,2
    python -m benchmarks.latency --starts --variants pvt_large --rounds 5
    python -m benchmarks.latency --table FILE.json …

Contestants are processes of ``pvt_data.benchmark``. Run it under ``taskset`` for one core. Targets:
at most 1.0 times any other file's time in the same onnxruntime and 1.05 times OpenVINO's; opening
at most twice as long as the export's.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import add_json_option, machine, python, report, run
from pvt_data.benchmark.contestants import CONTESTANTS, Setting, command, environment
from pvt_data.benchmark.measure import Plan, measure
from pvt_data.benchmark.turns import Worker, answer_turns
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.table import open_engine

VARIANTS = "pvt_tiny,pvt_small,pvt_v2_b0,pvt_v2_b0:mindcv,pvt_v2_b2,pvt_v2_b2_li"

FILES = {"ours": "ours.onnx", "export": "torch.onnx", "optimised": "optimised.onnx"}
"""Contestants that are files in onnxruntime: what ``convert`` writes, PyTorch's exporter, and what
onnxruntime's optimiser for transformers makes of that."""

ALL = (*FILES, "openvino", "torch", "gemm")
"""Every contestant; those that are no files run ours, or the checkpoint."""


def prepare(model: str, folder: Path, wanted: Iterable[str]) -> None:
    """Writes the files of one random model, ``variant`` or ``variant:profile``, but those there."""
    variant, _, profile = model.partition(":")
    source, ours, export, optimised = (
        folder / name for name in ("model.ckpt", *(FILES[name] for name in FILES))
    )
    models = partial(python, "-m", "benchmarks.models")
    steps = {
        source: models("random", variant, profile or "official", source),
        ours: python("-m", "convert", "ckpt-to-onnx", source, ours),
        export: models("export", source, export),
        optimised: models("optimise", export, optimised),
    }
    needed = {source, ours, *(folder / FILES[name] for name in FILES if name in wanted)}
    if optimised in needed:
        needed.add(export)
    for target, step in steps.items():
        if target in needed and not target.exists():
            run(step)


def be_file(path: Path, setting: Setting, starts: bool) -> None:
    """Is the process of a file in onnxruntime, whoever wrote it: it runs it, or opens it again."""
    from pvt_data.answers.accuracy import Opened
    from pvt_onnx.engines.session import read_info
    from pvt_onnx.reading.files import load_proto

    info = read_info(load_proto(path.parent / FILES["ours"], weights=False), str(path))
    options = EngineOptions(threads=setting.threads)
    open_: Callable[[], Any] = partial(open_engine, path, str(path), options)

    def opened() -> Opened:
        engine = open_()

        def forward(images: Any) -> Any:
            return open_() if starts else engine.run({"images": images}, ["logits"])

        return Opened(forward, info, engine.facts)

    answer_turns(str(path), opened, setting)


def start_worker(folder: Path, starts: bool, name: str, setting: Setting) -> Worker:
    """Starts the process of one of :data:`ALL`."""
    if name in FILES:
        given = ("--be", folder / FILES[name], "--threads", setting.threads)
        batch = ("--batch-size", setting.batch, *(["--starts"] if starts else []))
        started = python("-m", "benchmarks.latency", *given, *batch)
    else:
        graphs = CONTESTANTS[name].package == "pvt_onnx"
        file = folder / (FILES["ours"] if graphs else "model.ckpt")
        started = command(name, file, setting)
    return Worker(started, environment(setting.threads))


def difference(folder: Path, names: Iterable[str]) -> dict[str, float]:
    """Returns how far the logits of other files are from ours, at most."""
    import numpy as np

    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)

    def answer(name: str) -> Any:
        return open_engine(folder / FILES[name], name).run({"images": images}, ["logits"])[0]

    ours = answer("ours")
    others = [name for name in names if name in FILES and name != "ours"]
    return {name: float(abs(answer(name) - ours).max()) for name in others}


def measure_model(model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a record for each setting of one model: the figures of every contestant."""
    variant, _, profile = model.partition(":")
    if options.models:
        holder: Any = nullcontext(str(options.models / model.replace(":", "-")))
    else:
        holder = tempfile.TemporaryDirectory()
    with holder as place:
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(model, folder, options.contestants)
        if options.prepare:
            return []
        apart = difference(folder, options.contestants)
        settings = [Setting(t, batch) for t in options.threads for batch in options.batch_size]
        plan = Plan(options.rounds, options.seconds, options.pause)
        start = partial(start_worker, folder, options.starts)
        rows, _ = measure(options.contestants, settings, plan, start, lambda *done: None)
    head = {"variant": variant, "profile": profile or "official", "starts": options.starts}
    return [{**head, **vars(row), "difference": apart.get(row.contestant, 0.0)} for row in rows]


def table(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what the README shows: ours in ms, and how many times another's time ours is."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        key = ("variant", "profile", "threads", "batch")
        line = lines.setdefault(
            tuple(record[name] for name in key), {name: record[name] for name in key}
        )
        if record["error"]:
            line[record["contestant"]] = record["error"]
        elif record["contestant"] == "ours":
            line["ours ms"] = record["p50_ms"]
        else:
            low, high = (1 / ratio for ratio in reversed(record["ratio_quartiles"]))
            middle = 1 / record["ratio"]
            line[f"/ {record['contestant']}"] = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    columns = dict.fromkeys(name for line in lines.values() for name in line)
    return [{name: line.get(name, "") for name in columns} for line in lines.values()]


def numbers(text: str) -> list[int]:
    """Returns ``"1,8"`` as [1, 8]."""
    return [int(number) for number in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default=VARIANTS, help="variant or variant:profile, …")
    parser.add_argument("--contestants", default=",".join(ALL), help="the first is ours")
    parser.add_argument("--batch-size", type=numbers, default=[1, 8])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of calls, per turn")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds before each turn")
    parser.add_argument("--starts", action="store_true", help="time how long files take to open")
    parser.add_argument("--models", type=Path, help="a folder in which the models' files stay")
    parser.add_argument("--prepare", action="store_true", help="only write the models' files")
    parser.add_argument("--table", type=Path, nargs="+", help="show these figures, measure none")
    parser.add_argument("--be", type=Path, help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    options.contestants = options.contestants.split(",")
    if options.be:
        be_file(options.be, Setting(options.threads[0], options.batch_size[0]), options.starts)
        return
    if options.table:
        held = [record for file in options.table for record in json.loads(file.read_text())["rows"]]
        report(table(held), None)
        return
    records: list[dict[str, Any]] = []
    for model in options.variants.split(","):
        records += measure_model(model, options)
        if options.json:
            options.json.write_text(json.dumps({"machine": machine(), "rows": records}, indent=1))
    if records:
        print(f"{options.rounds} rounds of {options.seconds} s, {options.pause} s before each\n")
        report(table(records), None)


if __name__ == "__main__":
    sys.exit(main())
