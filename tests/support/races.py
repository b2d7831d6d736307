"""Two processes that write one target, and one that is killed while it writes: so many times.

``python -m tests.support.races ROUNDS KILLS [KIND…]`` prints what came of each kind.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from convert import load_model, save_model
from convert.options import OnnxOptions
from pvt_spec.errors import ConvertError, PvtError
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import ROOT, launch_environment

CONFIG = SMALL["v2"]

TARGETS = {"pair": "{}.onnx", "file": "{}.ckpt", "folder": "{}"}
"""What is written, and its name in a round."""


def write(path: Path, seed: int, force: bool) -> str:
    """Writes a model, or says what it was refused for."""
    info = info_of(CONFIG, "official" if path.suffix else "hf")
    onnx = OnnxOptions(external_data=True)
    try:
        save_model(path, random_weights(CONFIG, seed=seed), info, force=force, onnx=onnx)
    except PvtError as error:
        return type(error).__name__
    return "wrote"


def whose(path: Path) -> int:
    """Which of two seeds made a model.

    Raises:
        ConvertError: It cannot be read, or is neither's.
    """
    found = load_model(path)[0]
    for seed in (1, 2):
        expected = random_weights(CONFIG, seed=seed)
        if all((found[name] == array).all() for name, array in expected.items()):
            return seed
    raise ConvertError(f"{path}: mixed")


@contextmanager
def writers(count: int) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that write what their lines of input say, each its own model."""
    with ExitStack() as stack:
        command = [sys.executable, "-m", "tests.support.races", "--write"]
        given: dict[str, Any] = {"cwd": ROOT, "env": launch_environment(), "text": True}
        started = [
            subprocess.Popen([*command, str(1 + n)], stdin=-1, stdout=-1, **given)
            for n in range(count)
        ]
        for process in started:
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdin and process.stdout
            stack.callback(process.stdout.close)
            stack.enter_context(contextlib.suppress(BrokenPipeError))
            stack.callback(process.stdin.close)
            assert process.stdout.readline() == "ready\n"
        yield started


def race(folder: Path, rounds: int, kind: str, force: bool) -> Counter[str]:
    """What came of so many rounds in which two write one target at once."""
    seen: Counter[str] = Counter()
    with writers(2) as two:
        for number in range(rounds):
            path = folder / TARGETS[kind].format(number)
            for process in two:
                assert process.stdin
                print(path, int(force), file=process.stdin, flush=True)
            said = [process.stdout.readline().strip() for process in two if process.stdout]
            seen["+".join(sorted(said))] += 1
            try:
                winner = whose(path)
            except ConvertError:
                seen["MIXED"] += 1
                continue
            if said.count("wrote") == 1 and said[winner - 1] != "wrote":
                seen["OVERWRITTEN"] += 1
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return seen


def kill(folder: Path, kills: int, kind: str, choose: random.Random) -> Counter[str]:
    """What is there after a process was killed that replaced a model again and again."""
    seen: Counter[str] = Counter()
    path = folder / TARGETS[kind].format("killed")
    write(path, 1, True)
    for _ in range(kills):
        with writers(1) as (process,):
            assert process.stdin and process.stdout
            with contextlib.suppress(BrokenPipeError):
                for _ in range(200):
                    print(path, 1, file=process.stdin)
                process.stdin.flush()
            time.sleep(choose.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        try:
            seen[f"opens, of {whose(path)}"] += 1
        except ConvertError as error:
            seen["MIXED" if "mixed" in str(error) or "another" in str(error) else "gone"] += 1
    for beside in folder.iterdir():
        seen["left beside"] += beside.name.startswith(".pvt-")
    write(path, 2, True)
    for beside in folder.iterdir():
        seen["LEFT AFTER THE NEXT"] += ".pvt-" in beside.name
    return seen


def main() -> None:
    if sys.argv[1] == "--write":
        print("ready", flush=True)
        for line in sys.stdin:
            path, force = line.split()
            print(write(Path(path), int(sys.argv[2]), force == "1"), flush=True)
        return
    rounds, kills = map(int, sys.argv[1:3])
    for kind in sys.argv[3:] or TARGETS:
        for force in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                print(kind, f"force={force}", dict(race(Path(folder), rounds, kind, force)))
        with tempfile.TemporaryDirectory() as folder:
            print(kind, "killed", dict(kill(Path(folder), kills, kind, random.Random(0))))


if __name__ == "__main__":
    main()
