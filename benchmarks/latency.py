"""Our ONNX against PyTorch's export of the same weights, in the same onnxruntime on the CPU.

    python -m benchmarks.latency --variants pvt_tiny,pvt_v2_b0:mindcv --batch 1,8 --threads 2

Each contestant lives in a process of its own and computes when told to, in turn: A B, B A, A B, …
Target: at most 1.0 times the export's time.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import Worker, add_json_option, in_turn, python, quartiles, report, run

VARIANTS = "pvt_tiny,pvt_small,pvt_v2_b0,pvt_v2_b0:mindcv,pvt_v2_b2,pvt_v2_b2_li"
LEAST_CALLS = 3


def serve(requests: Connection, model: Path, threads: int) -> None:
    """Answers, as a worker, each (batch, seconds) with its calls' median time and its logits."""
    import numpy as np
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, session_options, ["CPUExecutionProvider"])
    images_input = session.get_inputs()[0]
    while (request := requests.recv()) is not None:
        batch, seconds = request
        shape = (batch, *images_input.shape[1:])
        feed = {images_input.name: np.random.default_rng(0).standard_normal(shape, np.float32)}
        logits = session.run(None, feed)[0]  # and brings the weights back into the cache
        times: list[float] = []
        while len(times) < LEAST_CALLS or sum(times) < seconds:
            start = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - start)
        requests.send((median(times), logits))


def compare(
    workers: Mapping[str, Worker], batch: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds per call of every worker, round by round, in an order that turns each time."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    for name in in_turn(workers, rounds):
        times[name].append(workers[name].call((batch, seconds))[0])
    return times


def prepare(variant: str, profile: str, folder: Path) -> tuple[Path, Path]:
    """Files of one random model: ours, and PyTorch's export."""
    source, ours, theirs = (folder / name for name in ("model.ckpt", "ours.onnx", "torch.onnx"))
    run(python("-m", "benchmarks.models", "random", variant, profile, source))
    run(python("-m", "convert", "ckpt-to-onnx", source, ours, "--force"))
    run(python("-m", "benchmarks.models", "export", source, theirs))
    return ours, theirs


def measure(model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each batch size of one model, ``variant`` or ``variant:profile``."""
    variant, _, profile = model.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = prepare(variant, profile or "official", Path(folder))
        workers = [Worker(serve, model, options.threads) for model in (ours, theirs)]
        with workers[0], workers[1]:
            return [
                row(variant, profile or "official", batch, *workers, options)
                for batch in options.batch
            ]


def row(
    variant: str, profile: str, batch: int, ours: Worker, theirs: Worker, options: Any
) -> dict[str, Any]:
    """Returns the figures of one model at one batch size."""
    difference = abs(ours.call((batch, 0))[1] - theirs.call((batch, 0))[1]).max()
    times = compare({"ours": ours, "torch": theirs}, batch, options.rounds, options.seconds)
    middle, spread = quartiles(times["ours"], times["torch"])
    return {
        "variant": variant,
        "profile": profile,
        "batch": batch,
        "ours ms": 1e3 * median(times["ours"]),
        "torch's export ms": 1e3 * median(times["torch"]),
        "ratio": middle,
        "quartiles": spread,
        "max abs difference": float(difference),
    }


def numbers(text: str) -> list[int]:
    """Returns ``"1,8"`` as [1, 8]."""
    return [int(number) for number in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default=VARIANTS, help="variant or variant:profile, …")
    parser.add_argument("--batch", type=numbers, default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.4, help="of calls, per turn")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print(f"{options.threads} threads, {options.rounds} rounds\n")
    report([r for m in options.variants.split(",") for r in measure(m, options)], options.json)


if __name__ == "__main__":
    main()
