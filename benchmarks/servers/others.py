"""Other people's servers as processes on a core of their own."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT
from benchmarks.servers.clients import in_base64, of_tensor, throughput


class Others:
    """Other people's servers, each on the core, and what they are asked; a context manager."""

    def __init__(self, pythons: Mapping[str, str], model: Path, core: int, images: np.ndarray):
        self._processes, self.sent = [], {}
        self.ports = dict(zip(pythons, free_ports(len(pythons)), strict=True))
        for name, python_ in pythons.items():
            words = [python_, ROOT / f"benchmarks/servers/of_{name}.py", model, self.ports[name]]
            self._processes.append(
                subprocess.Popen(
                    ["taskset", "-c", str(core), *map(str, words)],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip
            self.sent[name] = of_tensor(images) if name == "kserve" else in_base64(images)

    def wait(self, seconds: float = 120) -> None:
        """Waits until each has answered."""
        end = time.perf_counter() + seconds
        for name, port in self.ports.items():
            while True:
                try:
                    asyncio.run(throughput(port, [self.sent[name]], 0, 1))
                    break
                except (OSError, EOFError, RuntimeError):
                    if time.perf_counter() > end:
                        raise
                    time.sleep(0.5)

    def __enter__(self) -> "Others":
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
