"""Fuzzing of the readers of ``.ckpt``, ``.pth``, ``.safetensors`` and ``.onnx``.

Every input has to end in a ``ConvertError`` that a user can read, or in a correct read: whole,
read-only arrays, equal to the seed's where nothing was damaged and to those of the format's own
reader where that takes the file too. Nothing else may happen: no other exception, no hang, no
memory beyond :func:`most_memory`, nothing from outside the file's folder. An input that fails is
kept, and its path told.
"""

import faulthandler
import hashlib
import resource
import signal
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.onnx import file as onnx_file
from convert.formats.pth import file as pth
from convert.formats.weight_file import WeightFile
from pvt_spec.errors import ConvertError
from tests.support.fuzzing.inputs import Input, inputs
from tests.support.fuzzing.references import DEVIATIONS, REFERENCES, STRICT, Differs
from tests.support.fuzzing.seeds import SECRET, Seed, make_folder

Reader = Callable[[Path], WeightFile]

READERS: dict[str, Reader] = {
    "ckpt": ckpt.read,
    "pth": pth.read,
    "safetensors": safetensors_file.read,
    "onnx": onnx_file.read,
}

KEPT = Path("build") / "fuzzing"
"""Where inputs that fail are kept."""

SECONDS = 5.0
"""Most time that a file of some kilobytes may take."""

MESSAGE = 3000
"""Most characters of a message."""

_BATCH = 2500  # inputs whose history hypothesis keeps in memory
_ROOM = 1 << 32  # bytes of address space that a run may grow by, the peers' readers too


class Failure(AssertionError):
    """A reader did what it may not do."""


class Hang(BaseException):
    """The time is over. No Exception, which readers may catch."""


def most_memory(size: int) -> int:
    """Bytes that a reader may ask for at once, for a file of ``size`` bytes."""
    return 10 * size + (50 << 20)


@dataclass
class Tally:
    """What became of the inputs.

    Attributes:
        inputs: How many there were.
        distinct: Digests of those that differ.
        errors: How many ended in an error.
        reads: How many were read.
        compared: How many of these the reference read as well.
        refused: Of the others, what the reference said.
        messages: The errors by the text before their first number or name, and how many of each.
        damage: The kinds of damage, and how many inputs had each.
        peak: Most bytes that a reader asked for at once.
        ratio: Most bytes that it asked for, by those of the file, of files of 16 KiB and more.
        slowest: Seconds of the slowest input.
    """

    inputs: int = 0
    distinct: set[bytes] = field(default_factory=set)
    errors: int = 0
    reads: int = 0
    compared: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    damage: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    ratio: float = 0.0
    slowest: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.inputs} inputs ({len(self.distinct)} distinct): {self.errors} errors of "
            f"{len(self.messages)} kinds, {self.reads} reads ({self.compared} compared with the "
            f"reference); memory at most {self.peak / 1024:.0f} KiB and, of files from 16 KiB, "
            f"{self.ratio:.1f} times the file; slowest {self.slowest * 1000:.0f} ms"
        )


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises Hang in the block that computes longer, or waits four times as long, until it is left.

    The time of a clock depends on who else uses the machine. What no signal can end (a loop in C)
    ends the process, its input left in the folder.
    """

    def stop(*_: Any) -> None:
        raise Hang

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)
    signal.setitimer(signal.ITIMER_REAL, 4 * seconds, 1)
    faulthandler.dump_traceback_later(20 * seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class Judge:
    """Gives inputs to one reader and says whether it does what it has to."""

    def __init__(self, ending: str, folder: Path, read: Reader | None = None):
        self.read = read or READERS[ending]
        self.ending, self.folder = ending, make_folder(folder)
        self.path = self.folder / f"file.{ending}"
        self.beside = sum(p.stat().st_size for p in self.folder.glob("*.bin") if p.is_file())
        self.tally = Tally()

    def judge(self, given: Input) -> None:
        """Holds if the reader does right by the input.

        Raises:
            Failure: It does not; where the input is kept.
        """
        self.path.write_bytes(given.data)
        tally = self.tally
        tally.inputs += 1
        tally.distinct.add(hashlib.blake2b(given.data, digest_size=8).digest())
        tally.damage.update({*given.damage})
        try:
            file = self.outcome(len(given.data))
            if file is None:
                tally.errors += 1
                check(bool(given.damage), "a file without damage is refused")
            else:
                tally.reads += 1
                self.check_read(file, given)
        except Failure as failure:
            raise Failure(f"{failure}\n{given}: kept as {self.keep(given.data)}") from failure

    def outcome(self, size: int) -> WeightFile | None:
        """What was read; None where that ended in an error as it should be."""
        problem, file = "", None
        tracemalloc.start()
        started = time.perf_counter()
        try:
            with time_limit(SECONDS):
                file = self.read(self.path)
        except ConvertError as error:
            problem = self.complaint(error)
        except Hang:
            problem = f"no end within {SECONDS} s"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            problem = f"{type(error).__name__}: {error}"
        finally:
            taken = time.perf_counter() - started
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        check(not problem, problem)
        check(peak <= most_memory(size), f"{peak} bytes of memory for a file of {size}")
        self.tally.slowest = max(self.tally.slowest, taken)
        self.tally.peak = max(self.tally.peak, peak)
        if size >= 1 << 14:
            self.tally.ratio = max(self.tally.ratio, peak / size)
        return file

    def complaint(self, error: ConvertError) -> str:
        """What is wrong with an error; "" for nothing."""
        text = str(error)
        cause: BaseException | None = error
        while cause:
            if isinstance(cause, MemoryError):
                return "asked for more memory than there is"
            cause = cause.__cause__ or cause.__context__
        if not text.startswith(str(self.path)):
            return f"a message that does not start with the file: {text!r:.300}"
        plain = text.removeprefix(str(self.path))
        self.tally.messages[_kind(plain)] += 1
        if len(text) > MESSAGE:
            return f"a message of {len(text)} characters: {text!r:.300}"
        if not plain.isprintable():
            return f"a message with control characters: {text!r:.300}"
        return ""

    def check_read(self, file: WeightFile, given: Input) -> None:
        """The arrays are whole and read-only, and have the values that they should have."""
        size = len(given.data) + self.beside
        for name, array in file.tensors.items():
            check_array(name, array, size)
        texts = [*file.tensors, *file.metadata, *file.metadata.values(), *file.extras]
        check(all(isinstance(text, str) for text in texts), "a name or text that is none")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            check(False, "a name or text with a lone surrogate")
        if not given.damage:
            # By name: safetensors itself chooses the order that it writes in.
            check_same(
                *(dict(sorted(t.items())) for t in (file.tensors, given.seed.tensors)), "the seed"
            )
        self.compare(file)

    def compare(self, file: WeightFile) -> None:
        """Where the format's own reader takes the file too, it finds the same."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = REFERENCES[self.ending](self.path, file)
        except Differs as error:
            raise Failure(str(error)) from error
        except Exception as error:
            refused = f"{type(error).__name__}: {error}"
            self.tally.refused[f"{type(error).__name__}: {_kind(str(error))}"] += 1
            known = any(text in refused for text in DEVIATIONS.get(self.ending, {}))
            check(
                known or self.ending not in STRICT,
                f"read what the reference refuses ({refused:.500})",
            )
            return
        self.tally.compared += 1
        both = {name: array for name, array in file.tensors.items() if name in theirs}
        check_same(both, {name: theirs[name] for name in both}, "the reference")

    def keep(self, data: bytes) -> Path:
        KEPT.mkdir(parents=True, exist_ok=True)
        kept = KEPT / f"{hashlib.sha256(data).hexdigest()[:16]}.{self.ending}"
        kept.write_bytes(data)
        return kept.resolve()


def _kind(message: str) -> str:
    """A message without what differs from file to file."""
    words = message.replace("'", " ' ").replace('"', ' " ').split()
    return " ".join(word for word in words if word.isascii() and word.rstrip(",.;:").isalpha())[:60]


def check(right: bool, problem: str) -> None:
    if not right:
        raise Failure(problem)


def check_array(name: str, array: Any, size: int) -> None:
    """An array that may be used: read-only, of numbers, no longer than its file."""
    check(type(array) is np.ndarray, f"{name!r:.100} is a {type(array).__name__}")
    check(not array.flags.writeable, f"{name!r:.100} can be written to")
    check(array.dtype.kind in "biufcV" and not array.dtype.hasobject, f"{name!r:.100} of objects")
    check(array.nbytes == array.size * array.itemsize <= size, f"{name!r:.100} is too long")
    steps = zip(array.shape, array.strides, strict=True)
    reach = sum((length - 1) * abs(stride) for length, stride in steps) + array.itemsize
    check(not array.size or reach <= size, f"{name!r:.100} reaches beyond the file")
    values = array.tobytes()  # touches all of it
    check(SECRET not in values, f"{name!r:.100} was read from outside the folder")


def check_same(found: dict[str, Any], expected: dict[str, Any], whose: str) -> None:
    check(list(found) == list(expected), f"found {[*found]}, {whose} has {[*expected]}")
    for name, array in found.items():
        ours, theirs = ((a.dtype, a.shape) for a in (array, expected[name]))
        check(ours == theirs, f"{name!r:.100} is {ours}, {theirs} by {whose}")
        same = array.tobytes() == expected[name].tobytes()
        check(same, f"{name!r:.100} has other values than by {whose}")


def run(
    ending: str,
    count: int,
    seed: int,
    folder: Path,
    read: Reader | None = None,
    shrink: bool = False,
) -> Tally:
    """Gives a reader ``count`` inputs or some more, the same for the same seed.

    Args:
        ending: Of the format's files.
        count: How many inputs.
        seed: Of the random numbers.
        folder: An empty folder for them.
        read: Another reader than the format's own.
        shrink: Look for a smaller input that fails in the same way.

    Raises:
        Failure: The reader did not do right by an input.
    """
    judge = Judge(ending, folder, read)

    give(inputs(ending), judge.judge, lambda: count - judge.tally.inputs, seed, shrink=shrink)
    return judge.tally


def give(
    drawn: SearchStrategy[Any],
    judge: Callable[[Any], None],
    left: Callable[[], int],
    seed: int,
    *,
    batch: int = _BATCH,
    shrink: bool = False,
) -> None:
    """Gives a judge what is drawn, batch by batch, until none is left; the same for the same seed.

    Args:
        drawn: The inputs.
        judge: A function that raises for an input that fails.
        left: A function that tells how many there are to be yet.
        seed: Of the random numbers.
        batch: How many are drawn at a time: hypothesis keeps their history in memory.
        shrink: Look for a smaller input that fails in the same way.
    """

    def judge_one(given: Any) -> None:
        judge(given)

    number = 0
    while (more := left()) > 0:
        limits = settings(
            max_examples=min(batch, more),
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            database=None,
            deadline=None,
            derandomize=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        judge_batch = limits(hypothesis.given(drawn)(judge_one))
        hypothesis.seed(seed * 1_000_003 + number)(judge_batch)()
        number += 1


def replay(path: Path, folder: Path) -> None:
    """Judges a file that was kept."""
    given = Input(path.read_bytes(), Seed(str(path), b""), ("replay",))
    Judge(path.suffix[1:], folder).judge(given)


def limit_memory() -> None:
    """Lets this process grow by no more than :data:`_ROOM`, where the system tells its size."""
    if (sizes := Path("/proc/self/statm")).exists():
        now = int(sizes.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (now + _ROOM, hard))
