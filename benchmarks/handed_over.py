"""The digit demo in one framework, and half in each: whether a run that is handed over ends alike.

    python -m benchmarks.handed_over RECORDS --data-dir demo/digits --folder runs [--seconds 300]
    python -m benchmarks.handed_over RECORDS --table [--json FILE]

For each seed four runs of ``configs/demo``: all of it in MindSpore, all of it in PyTorch, and the
first half of the epochs in one and the rest in the other. The learning rate is the same in all of
them: its cosine is given as many epochs as the whole run has after the warm-up.

RECORDS has a line of JSON for each run. What is there is not run again, so it may be stopped and
started, or run in pieces of some seconds; ``--table`` sums it up: each way's accuracy, and its
differences from the run of the same seed that stays in the framework that it began in.
"""

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.processes import ROOT, add_json_option, python, report

RECIPE, EPOCHS, WARMUP = "configs/demo/pvt_nano_digits.yaml", 20, 2
SEEDS = range(5)
MS, TORCH = "pvt_ms", "pvt_torch"
WAYS = {
    "MindSpore": (MS, MS),
    "PyTorch": (TORCH, TORCH),
    "MindSpore, then PyTorch": (MS, TORCH),
    "PyTorch, then MindSpore": (TORCH, MS),
}
"""The package of the first half of the epochs, and of the rest."""


def train(package: str, folder: Path, data: Path, *options: object) -> None:
    """Runs a ``train`` to its end.

    Raises:
        RuntimeError: It failed; the message has what it wrote to stderr.
    """
    command = python("-m", package, "train", "--data-dir", data, "--output", folder, *options)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


def run_job(seed: int, way: str, data: Path, folder: Path) -> dict[str, Any]:
    """Trains once, and returns what the log says of the last epoch and of the best."""
    first, second = WAYS[way]
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    half = EPOCHS if first == second else EPOCHS // 2
    train(
        first, folder, data, "--config", RECIPE, "--seed", seed, "--epoch-size", half,
        "--warmup-epochs", WARMUP, "--decay-epochs", EPOCHS - WARMUP, "--num-parallel-workers", 0,
    )  # fmt: skip
    if half < EPOCHS:
        train(second, folder, data, "--resume", folder, "--epoch-size", EPOCHS)
    seconds = time.perf_counter() - begin
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    epochs = [line for line in lines if line["kind"] == "epoch"]
    shutil.rmtree(folder)
    if len(epochs) != EPOCHS:
        raise RuntimeError(f"{way}, seed {seed}: the log has {len(epochs)} epochs")
    last = epochs[-1]
    averaged = [line["ema_top1"] for line in epochs]
    return {
        **{"seed": seed, "way": way, "loss": last["loss"], "top1": last["top1"]},
        **{"averaged": averaged[-1], "best": max(averaged), "seconds": seconds},
    }


def jobs() -> Iterator[tuple[int, str]]:
    """Yields the seed and the way of each run."""
    yield from product(SEEDS, WAYS)


def rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row for each way."""
    by = {(each["seed"], each["way"]): each for each in records}
    return [row for way in WAYS if (row := _row(by, way))]


def _row(by: dict[tuple[int, str], dict[str, Any]], way: str) -> dict[str, Any]:
    unbroken = next(each for each, halves in WAYS.items() if halves == (WAYS[way][0],) * 2)
    pairs = [(by[s, way], by[s, unbroken]) for s in SEEDS if {(s, way), (s, unbroken)} <= by.keys()]
    if len(pairs) < 2:
        return {}
    own = [one for one, _ in pairs]

    def spread(key: str) -> str:
        values = [one[key] for one in own]
        return f"{mean(values):.2f} ± {stdev(values):.2f}"

    off = [one["averaged"] - other["averaged"] for one, other in pairs]
    losses = [abs(one["loss"] / other["loss"] - 1) for one, other in pairs]
    return {
        "run": way,
        "seeds": len(pairs),
        "last Top-1 %": spread("top1"),
        "of averages": spread("averaged"),
        "best": spread("best"),
        "against unbroken": f"{mean(off):+.3f} ({min(off):+.2f} to {max(off):+.2f})",
        "last loss off by": max(losses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, metavar="RECORDS")
    parser.add_argument("--data-dir", type=Path, default=Path("demo/digits"), metavar="DIR")
    parser.add_argument("--folder", type=Path, default=Path("demo/halves"), metavar="DIR")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin none after so many")
    parser.add_argument("--table", action="store_true", help="sum up what was run")
    add_json_option(parser)
    options = parser.parse_args()
    lines = options.records.read_text().splitlines() if options.records.exists() else []
    records = [json.loads(line) for line in lines]
    if options.table:
        report(rows(records), options.json)
        return
    done = {(each["seed"], each["way"]) for each in records}
    stop = time.monotonic() + options.seconds
    data, folder = options.data_dir.resolve(), options.folder.resolve()
    for job in jobs():
        if job not in done and time.monotonic() < stop:
            record = run_job(*job, data, folder)
            with options.records.open("a") as stream:
                stream.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
