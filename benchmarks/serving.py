"""The server beside the bare session and ``predict``, on one core each, in turn.

    python -m benchmarks.serving --variant pvt_v2_b0 --rounds 5

The server, the session and ``predict`` have one thread on the first core, the client another core.
Targets: JPEG files at 16 connections at least 0.9 of the images a second of ``predict``;
binary tensors at least 0.95 of the session's at the same batch; at 70 % of the most requests a
second the 99th percentile of the latency at most 3 times its median; a single binary request on an
idle server within 1.3 ms of the session's own time after the same pause.

Requests at 70 % come evenly, as a program that measures sends them, and at random, as people do.
Of random ones a figure is beside it that nothing with one thread is much better than: that of a
queue that answers them one by one, each in the server's time for a request where all hurry.

    python -m benchmarks.serving --against kserve=PYTHON --against litserve=PYTHON

also asks other people's servers of the same file, which a Python of another environment has.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import ROOT, Worker, add_json_option, in_turn, python, report, run
from benchmarks.servers.clients import (
    CONNECTIONS,
    PAUSE,
    alone,
    arrivals,
    of_tensor,
    queued,
    request,
    throughput,
    under_load,
)
from benchmarks.servers.others import Others

PHOTOS = 32
LOAD = 4
"""How many times as long as a turn the load at 70 % is."""


def write_photos(folder: Path) -> list[Path]:
    """Writes JPEG files of 500 x 375 pixels, as smooth as photos are."""
    paths = []
    for seed in range(PHOTOS):
        coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        paths.append(folder / f"{seed}.jpg")
        image.save(paths[-1], quality=90)
    return paths


def be_bare(pipe: Any, model: Path, photos: list[Path], core: int) -> None:
    """Is the process of the bare session and of ``predict``, on a core of its own."""
    os.sched_setaffinity(0, {core})
    import pvt_onnx
    from pvt_onnx.engines.options import EngineOptions
    from pvt_onnx.engines.session import open_file

    options = EngineOptions(threads=1)
    engine, interface, *_ = open_file(model, options=options)
    predictor = pvt_onnx.load(model, threads=1)
    while (asked := pipe.recv()) is not None:
        kind, seconds, batch = asked
        end, times = time.perf_counter() + seconds, []
        images = np.zeros((batch, 3, 224, 224), np.float32)
        while not times or time.perf_counter() < end:
            time.sleep(PAUSE if kind == "pause" else 0)
            began = time.perf_counter()
            if kind == "predict":
                predictor.predict(photos, batch_size=batch)
            else:
                engine.run({interface.image: images}, ["logits"])
            times.append(time.perf_counter() - began)
        pipe.send(times)


def serve(model: Path, core: int, *options: str) -> tuple["subprocess.Popen[str]", int]:
    """Starts the server on a core, and returns it and its port once it is ready."""
    words = ("-m", "pvt_onnx", "serve", model, "--port", 0, "--threads", 1, "--log", "none")
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *python(*words, *options)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    port = 0
    for line in process.stderr or ():
        if "listening on" in line:
            port = int(line.rpartition(":")[2])
        if "ready" in line:
            return process, port
    raise RuntimeError("the server did not start")


def measure(
    model: Path, photos: list[Path], rounds: int, seconds: float, against: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the figures: medians of the rounds' own ratios."""
    core, other = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {other})
    files = [request(path.read_bytes(), 0) for path in photos]
    one, four = (np.zeros((n, 3, 224, 224), np.float32) for n in (1, 4))
    with ExitStack() as stack:
        process, port = serve(model, core)
        stack.callback(lambda: (process.terminate(), process.communicate()))
        others = stack.enter_context(Others(against, model, core, one))
        bare = stack.enter_context(Worker(be_bare, model, photos, core))
        others.wait()

        def of(what: Callable[..., Any], sent: Any, to: int = port) -> Callable[[], float]:
            more = (CONNECTIONS,) if what is throughput else ()
            return lambda: float(asyncio.run(what(to, sent, seconds, *more)))

        def session(kind: str, batch: int, images: int = 1) -> Callable[[], float]:
            return lambda: images / median(bare.call((kind, seconds, batch)))

        turns: dict[str, Callable[[], float]] = {
            "predict": session("predict", 16, len(photos)),
            "jpeg": of(throughput, files),
            "session": session("session", 1),
            "binary": of(throughput, [of_tensor(one)]),
            "session of 4": session("session", 4),
            "binary of 4": of(throughput, [of_tensor(four)]),
            "pause": session("pause", 1),
            "idle": of(alone, of_tensor(one)),
        }
        for name, to in others.ports.items():
            turns[name] = of(throughput, [others.sent[name]], to)
            turns[f"idle {name}"] = of(alone, others.sent[name], to)
        found: dict[str, list[float]] = {name: [] for name in turns}
        for name in in_turn(turns, rounds):
            found[name].append(turns[name]())
            print(f"{name}: {found[name][-1]:.4g}", file=sys.stderr)
        tails = []
        for _ in range(rounds):  # each at 70 % of what the machine does just then
            rate = 0.7 * of(throughput, [of_tensor(one)])()
            tails.append(under_loads(port, of_tensor(one), rate, LOAD * seconds))
    middle = {name: median(each[name] for each in tails) for name in tails[0]}
    return {**figures(found, [*others.ports]), **middle}


def under_loads(port: int, sent: bytes, rate: float, seconds: float) -> dict[str, float]:
    """Returns the 99th percentile of the latencies of each load over their median."""
    even, drawn = (arrivals(rate, seconds, each) for each in (True, False))
    loads = {
        "evenly": asyncio.run(under_load(port, sent, even)),
        "at random": asyncio.run(under_load(port, sent, drawn)),
        "of a queue": queued(drawn, 0.7 / rate),
    }
    cuts = {name: quantiles(each, n=100) for name, each in loads.items()}
    found = {f"p99 / median at 70 %, {name}": each[98] / each[49] for name, each in cuts.items()}
    print(found, file=sys.stderr)
    return found


def figures(found: dict[str, list[float]], others: Sequence[str]) -> dict[str, Any]:
    """Returns a row of figures of what was measured."""

    def ratio(over: str, under: str) -> float:
        return median(a / b for a, b in zip(found[over], found[under], strict=True))

    def beyond(name: str) -> float:
        pairs = zip(found[name], found["pause"], strict=True)
        return median(1000 * (idle - 1 / session) for idle, session in pairs)

    row = {
        "session ms": 1000 / median(found["session"]),
        "session after a pause, ms": 1000 / median(found["pause"]),
        "jpeg / predict": ratio("jpeg", "predict"),
        "binary / session": ratio("binary", "session"),
        "binary of 4 / session of 4": ratio("binary of 4", "session of 4"),
        "idle beyond session, ms": beyond("idle"),
    }
    for name in others:
        row[f"{name} / session"] = ratio(name, "session")
        row[f"{name}, idle beyond session, ms"] = beyond(f"idle {name}")
    return row


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="pvt_v2_b0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each turn")
    parser.add_argument(
        "--against", action="append", default=[], help="kserve=PYTHON or litserve=PYTHON"
    )
    add_json_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, model = folder / "model.ckpt", folder / "model.onnx"
        run(python("-m", "benchmarks.models", "random", given.variant, "official", weights))
        run(python("-m", "convert", weights, model))
        against = dict(each.split("=", 1) for each in given.against)
        row = measure(model, write_photos(folder), given.rounds, given.seconds, against)
    report([{"variant": given.variant, **row}], given.json)


if __name__ == "__main__":
    main()
