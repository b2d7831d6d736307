"""Processes that tests start: in this checkout, without some imports, as workers."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Ended = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[2]

BLOCKED = """
import importlib, json, runpy, sys

blocked, modules, commands = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for module in modules:
    importlib.import_module(module)
for command in commands:
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, (command, end.code)
print()
print(json.dumps(sorted(sys.modules)))
"""


def run_python(*words: object, check: bool = True, **options: Any) -> Ended:
    """What this Python ends with in this checkout: well, unless that is left to the caller."""
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, **options}
    done = subprocess.run(command, check=False, **given)
    assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def run_blocked(
    blocked: Sequence[str],
    modules: Sequence[str] = (),
    commands: Sequence[Sequence[str]] = (),
    path: Path = ROOT,
) -> tuple[set[str], str]:
    """What is in ``sys.modules`` after importing and running, and what that printed.

    Raises:
        AssertionError: Something asked for what is blocked, or failed.
    """
    task = json.dumps([blocked, modules, commands])
    done = run_python("-c", BLOCKED, task, cwd=path, env={"PYTHONPATH": str(path)})
    return set(json.loads(done.stdout.splitlines()[-1])), done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch_environment() -> dict[str, str]:
    """What a command gets that may start workers."""
    # msrun and mpirun set these for their workers; who finds them would wait for others.
    launched = ("MS_", "RANK_", "OMPI_")
    kept = {name: v for name, v in os.environ.items() if not name.startswith(launched)}
    # msrun starts the python that it finds in PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PYTHONPATH": str(ROOT), "PATH": path}
