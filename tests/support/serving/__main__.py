"""Hostile requests for a real server, good ones among them: what it answered, and its memory.

    python -m tests.support.serving --count 100000 --good 10000

Exit code 1 where an answer was none that a server may give, a good request was lost, or the server
was not ready afterwards.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import free_port
from tests.support.serving.attack import PATIENCE, Found, ask, attack
from tests.support.serving.hostile import STATUS, request
from tests.support.serving.models import picture, save

HOST = "127.0.0.1"


class Memory(threading.Thread):
    """The most bytes of memory that a process has at a time, looked at ten times a second."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._process, self.most, self.ended = psutil.Process(pid), 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.most = max(self.most, self._process.memory_info().rss)


def start(folder: Path, port: int) -> "subprocess.Popen[str]":
    """A server of one small model, which is ready."""
    words = ("serve", save(folder / "m.onnx"), "--port", port, "--log", "none", "--threads", 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "pvt_onnx", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if "ready" in line:
            return process
    raise RuntimeError("it did not start")


def run(count: int, good: int, *how: Any) -> tuple[Found, bool, int, int]:
    """What came of it, whether the server is ready, its memory before, and the most it had."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = start(Path(folder), port)
        try:
            memory = Memory(process.pid)
            before = psutil.Process(process.pid).memory_info().rss
            memory.start()
            found = asyncio.run(attack(HOST, port, picture(), count, good, *how))
            asked = request(b"", path="/v2/health/ready", method="GET")
            ready = STATUS.match(asyncio.run(ask(HOST, port, asked, 30)).answer)
            memory.ended.set()
        finally:
            process.terminate()
            process.communicate()
    return found, bool(ready and ready[1] == b"200"), before, memory.most


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="hostile requests")
    parser.add_argument("--good", type=int, default=300, help="good requests among them")
    parser.add_argument("--at-once", type=int, default=64, help="connections at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help="seconds that a hostile client waits"
    )
    given = parser.parse_args()
    found, ready, before, most = run(*vars(given).values())
    print("status  answers")
    for status, times in sorted(found.statuses.items()):
        print(f"{status or 'none':>6}  {times:,}")
    print(f"good requests answered: {found.good:,} of {given.good:,}; came again: {found.again:,}")
    print(f"memory: {before / 1e6:.0f} MB before, {most / 1e6:.0f} MB at most; ready: {ready}")
    for problem, sent in found.problems[:20]:
        print(f"{problem}\n  {sent[:300]!r}")
    sys.exit(bool(found.problems) or found.good < given.good or not ready)


if __name__ == "__main__":
    main()
