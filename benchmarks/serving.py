"""The server beside the bare session and ``predict``, on one core each, in turn.

    python -m benchmarks.serving --variant pvt_v2_b0 --rounds 5

The server, the session and ``predict`` have one thread on the first core, the client another core.
Targets: JPEG files at 16 connections at least 0.9 of the images a second of ``predict``;
binary tensors at least 0.95 of the session's at the same batch; at 70 % of the most requests a
second the 99th percentile of the latency at most 3 times its median; a single binary request on an
idle server within 1.3 ms of the session's own time.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import ROOT, Worker, add_json_option, in_turn, python, report, run

CONNECTIONS = 16
PHOTOS = 32


def write_photos(folder: Path) -> list[Path]:
    """Writes JPEG files of 500 x 375 pixels, as smooth as photos are."""
    paths = []
    for seed in range(PHOTOS):
        coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        paths.append(folder / f"{seed}.jpg")
        image.save(paths[-1], quality=90)
    return paths


def request(body: bytes, header_length: int) -> bytes:
    """Returns a request for answers on a connection that stays."""
    head = (
        "POST /v2/models/model/infer HTTP/1.1\r\nhost: localhost\r\n"
        f"inference-header-content-length: {header_length}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def of_tensor(images: np.ndarray) -> bytes:
    """Returns a request with a binary tensor, whose answer is one too."""
    row = {
        "name": "images",
        "datatype": "FP32",
        "shape": [*images.shape],
        "parameters": {"binary_data_size": images.nbytes},
    }
    wanted = {"name": "logits", "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [row], "outputs": [wanted]}).encode()
    return request(text + images.tobytes(), len(text))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> float:
    """Returns the seconds that an answer took."""
    began = time.perf_counter()
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    if b"inference-header-content-length: " in head:
        length = int(head.rpartition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    return time.perf_counter() - began


async def throughput(port: int, sent: Sequence[bytes], seconds: float, at_once: int) -> float:
    """Returns the requests a second that some connections get answered."""
    end, done = time.perf_counter() + seconds, 0

    async def client(number: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            await ask(reader, writer, sent[(done + number) % len(sent)])
            done += 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(at_once)))
    return done / (time.perf_counter() - began)


async def under_load(port: int, sent: bytes, rate: float, seconds: float) -> list[float]:
    """Returns the latencies of requests that come at random, so many a second, come what may."""
    free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
    for _ in range(64):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    found: list[float] = []

    async def one(due: float) -> None:
        streams = await free.get()
        await ask(*streams, sent)
        found.append(time.perf_counter() - due)
        free.put_nowait(streams)

    tasks, due = [], time.perf_counter()
    end, generator = due + seconds, random.Random(0)
    while due < end:
        due += generator.expovariate(rate)
        await asyncio.sleep(max(0, due - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return found


async def alone(port: int, sent: bytes, seconds: float) -> float:
    """Returns the median seconds of requests one after another, with a pause before each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        await asyncio.sleep(0.005)
        found.append(await ask(reader, writer, sent))
    writer.close()
    return median(found)


def be_bare(pipe: Any, model: Path, photos: list[Path], core: int) -> None:
    """Is the process of the bare session and of ``predict``, on a core of its own."""
    os.sched_setaffinity(0, {core})
    import pvt_onnx
    from pvt_onnx.engines.options import EngineOptions
    from pvt_onnx.engines.session import open_file

    options = EngineOptions(threads=1, spin=False)
    engine, interface, _ = open_file(model, options=options)
    predictor = pvt_onnx.load(model, threads=1)
    while (asked := pipe.recv()) is not None:
        kind, seconds, batch = asked
        end, times = time.perf_counter() + seconds, []
        images = np.zeros((batch, 3, 224, 224), np.float32)
        while not times or time.perf_counter() < end:
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


def measure(model: Path, photos: list[Path], rounds: int, seconds: float) -> dict[str, Any]:
    """Returns the figures: medians of the rounds' own ratios."""
    core, other = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {other})
    process, port = serve(model, core)
    files = [request(path.read_bytes(), 0) for path in photos]
    one, four = (of_tensor(np.zeros((n, 3, 224, 224), np.float32)) for n in (1, 4))

    def of_server(what: Callable[..., Any], *given: Any) -> float:
        return float(asyncio.run(what(port, *given)))

    try:
        with Worker(be_bare, model, photos, core) as bare:

            def per_second(kind: str, batch: int, images: int) -> float:
                return images / median(bare.call((kind, seconds, batch)))

            turns: dict[str, Callable[[], float]] = {
                "predict": lambda: per_second("predict", 16, len(photos)),
                "jpeg": lambda: of_server(throughput, files, seconds, CONNECTIONS),
                "session": lambda: per_second("session", 1, 1),
                "binary": lambda: of_server(throughput, [one], seconds, CONNECTIONS),
                "session of 4": lambda: per_second("session", 4, 1),
                "binary of 4": lambda: of_server(throughput, [four], seconds, CONNECTIONS),
                "idle": lambda: of_server(alone, one, seconds),
            }
            found: dict[str, list[float]] = {name: [] for name in turns}
            for name in in_turn(turns, rounds):
                found[name].append(turns[name]())
        rate = 0.7 * median(found["binary"])
        latencies = asyncio.run(under_load(port, one, rate, 4 * seconds))
    finally:
        process.terminate()
        process.communicate()
    return figures(found, latencies)


def figures(found: dict[str, list[float]], latencies: list[float]) -> dict[str, Any]:
    """Returns a row of figures of what was measured."""

    def ratio(over: str, under: str) -> float:
        return median(a / b for a, b in zip(found[over], found[under], strict=True))

    cuts = quantiles(latencies, n=100)
    beyond = [
        1000 * (idle - 1 / session)
        for idle, session in zip(found["idle"], found["session"], strict=True)
    ]
    return {
        "session ms": 1000 / median(found["session"]),
        "jpeg / predict": ratio("jpeg", "predict"),
        "binary / session": ratio("binary", "session"),
        "binary of 4 / session of 4": ratio("binary of 4", "session of 4"),
        "p99 / median at 70 %": cuts[98] / cuts[49],
        "idle beyond session, ms": median(beyond),
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="pvt_v2_b0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each turn")
    add_json_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, model = folder / "model.ckpt", folder / "model.onnx"
        run(python("-m", "benchmarks.models", "random", given.variant, "official", weights))
        run(python("-m", "convert", weights, model))
        row = measure(model, write_photos(folder), given.rounds, given.seconds)
    report([{"variant": given.variant, **row}], given.json)


if __name__ == "__main__":
    main()
