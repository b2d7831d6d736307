"""A contestant's process, from both sides: JSON lines, a turn on stdin and its times on stdout.

The process first says what it is (:class:`Hello`). To each ``{"seconds": 0.3}`` it answers
``{"seconds": [0.031, 0.030, …]}``, one number for each call. It ends with its stdin, or with what
every command of ours says of an error on stderr.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import numpy as np

from pvt_data.answers.accuracy import Opened
from pvt_data.benchmark.contestants import GEMM, Setting
from pvt_data.images.pixels import as_taken
from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.records import read_record
from pvt_spec.macs import list_products

LEAST_CALLS = 3
"""Calls that a turn has at least, however long they take."""

_TEXT = "utf-8"
"""How both sides write, whatever the environment says of streams."""


class ContestantFailed(PvtError):
    """A contestant's process has ended: what it said."""


@dataclass(frozen=True)
class Hello:
    """What a contestant's process says of itself before its first turn.

    Attributes:
        facts: What really runs.
        opened: Seconds that it took to open the model, imports included.
        variant: The model's variant, "" where it has no name.
        image_size: (H, W) of the images that it runs on.
        macs: Multiply-accumulates that it makes of one image.
    """

    facts: dict[str, str]
    opened: float
    variant: str
    image_size: tuple[int, int]
    macs: int


def answer_turns(name: str, open_: Callable[[], Opened], setting: Setting) -> None:
    """Opens a model and computes when it is told to, until stdin ends.

    Args:
        name: The contestant's name.
        open_: What opens the model.
        setting: How it runs.
    """
    with _own_stdout() as answers:
        start = time.perf_counter()
        forward, info, facts, *_ = open_()
        opened = time.perf_counter() - start
        size = setting.image_size or info.preprocessing.image_size
        products = list_products(info.config, info.numerics, size)
        counted = [p for p in products if name != GEMM or p.kind != "depthwise"]
        macs = sum(product.macs for product in counted)
        shape = (setting.batch, *size, info.config.in_chans)
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        images = np.stack([as_taken(each, info.preprocessing) for each in pixels])
        forward(images)  # what cannot run says so before its first turn
        hello = Hello(dict(facts), opened, info.variant or "", size, macs)
        print(encode_json(asdict(hello)), file=answers, flush=True)
        serve(lambda: forward(images), sys.stdin, answers)


def serve(call: Callable[[], Any], turns: TextIO, answers: TextIO) -> None:
    """Answers each turn with the times of its calls, until there are no more turns."""
    for line in turns:
        times = time_calls(call, float(parse_json(line)["seconds"]))
        print(encode_json({"seconds": times}), file=answers, flush=True)


def time_calls(call: Callable[[], Any], seconds: float) -> list[float]:
    """Returns the seconds of each call, until they are so many together; one before counts not."""
    call()  # which brings the weights back into the cache
    times: list[float] = []
    while len(times) < LEAST_CALLS or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Yields this process's stdout; what libraries print meanwhile goes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        yield stream


class Worker:
    """A contestant's process, as whoever times it sees it; a context manager that ends it.

    Args:
        command: What runs :func:`answer_turns`.
        environment: Its environment; None for this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, for as long as the process
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        alike = {**(os.environ if environment is None else environment), "PYTHONIOENCODING": _TEXT}
        self._process = subprocess.Popen(
            command, stderr=self._errors, env=alike, text=True, encoding=_TEXT, **pipes
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        with suppress(OSError):
            self._process.communicate()
        self._errors.close()

    def hello(self) -> Hello:
        """Waits until the model is open, and returns what runs it.

        Raises:
            ContestantFailed: It cannot be opened.
        """
        return read_record(Hello, self._read(), "what a contestant says")

    def turn(self, seconds: float) -> list[float]:
        """Returns the seconds of each call of a turn.

        Raises:
            ContestantFailed: The process has ended.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # where it has ended, that is read below
            self._process.stdin.write(encode_json({"seconds": seconds}) + "\n")
            self._process.stdin.flush()
        return [float(number) for number in self._read()["seconds"]]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Who is killed has perhaps said half of it.
        if not (line := self._process.stdout.readline()).endswith("\n"):
            raise ContestantFailed(self._reason())
        answer: dict[str, Any] = parse_json(line)
        return answer

    def _reason(self) -> str:
        """Returns the last line that an ended process wrote to stderr, or how it ended."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if code < 0:
            known = {each.value: each.name for each in signal.Signals}
            return f"ended by {known.get(-code, f'signal {-code}')}"
        return said.removeprefix("Error: ") or f"ended with exit code {code}"
