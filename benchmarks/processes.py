"""Whole processes timed in turn, and the tables that the benchmarks print.

Standard library only: Linux counts the memory of a process into the peak of the processes that it
starts, so whoever measures must stay small.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from pvt_data.benchmark.report import processor

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "mindspore",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pillow",
    "simplejpeg",
    "torch",
)


@dataclass(frozen=True)
class Usage:
    """What one process took, from start to end.

    Attributes:
        wall: Seconds on the clock.
        cpu: Seconds on all cores together, user and system.
        peak: Most bytes of memory at once; pages of mapped files count.
    """

    wall: float
    cpu: float
    peak: int


def python(*arguments: object) -> list[str]:
    """Returns the command that runs this Python with ``arguments``."""
    return [sys.executable, *map(str, arguments)]


def run(command: Sequence[str]) -> Usage:
    """Runs a command in the repository's root to its end.

    Raises:
        RuntimeError: It failed; the message has what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read().decode()}")
    return Usage(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def run_in_turn(commands: Mapping[str, Sequence[str]], repeat: int) -> dict[str, list[Usage]]:
    """Runs every command ``repeat`` times: A B C, then C B A, then A B C, …"""
    usages: dict[str, list[Usage]] = {name: [] for name in commands}
    for name in in_turn(commands, repeat):
        usages[name].append(run(commands[name]))
    return usages


def in_turn(names: Iterable[str], rounds: int) -> Iterator[str]:
    """Yields every name ``rounds`` times: A B C, then C B A, then A B C, …"""
    there = list(names)
    for turn in range(rounds):
        yield from there[:: -1 if turn % 2 else 1]


def quartiles(over: Sequence[float], under: Sequence[float]) -> tuple[float, str]:
    """Returns the median of the ratios, round by round, and a text with their quartiles."""
    low, middle, high = quantiles([a / b for a, b in zip(over, under, strict=True)], n=4)
    return middle, f"{low:.2f} to {high:.2f}"


class Worker:
    """A process that holds one contestant and answers requests; a context manager that ends it.

    Args:
        serve: What runs there, until it is sent None: given its end of the pipe, and ``given``.
        given: What it is to hold.
    """

    def __init__(self, serve: Callable[..., None], *given: object):
        context = multiprocessing.get_context("spawn")
        self.requests, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *given), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.requests.send(None)
        self.process.join()

    def call(self, request: Any) -> Any:
        """Returns what it answers to a request."""
        self.requests.send(request)
        return self.requests.recv()


def medians(usages: Sequence[Usage]) -> Usage:
    """Returns the median of each figure."""
    return Usage(
        median(u.wall for u in usages),
        median(u.cpu for u in usages),
        int(median(u.peak for u in usages)),
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def report(rows: Sequence[Mapping[str, Any]], file: Path | None) -> None:
    """Prints rows of the same keys as a Markdown table, and writes them with the machine."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(_show(value) for value in row.values()) + " |")
    if file:
        file.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def _show(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """Returns what the figures depend on, without names or paths."""
    versions = {package: version(package) for package in PACKAGES}
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }
