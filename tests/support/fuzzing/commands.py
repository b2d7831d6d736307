"""Fuzzing of whole commands, in this process: hostile files in, one clear line out.

Every input has to end as a command may end: exit code 0, 1 or 2 and, where it is not 0, one error
that a user can read. Time and memory are in proportion to the input.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import strategies as st

from tests.support.fuzzing import fuzz
from tests.support.fuzzing.damage_bytes import Draw, index
from tests.support.fuzzing.fuzz import Failure, Hang, check, time_limit
from tests.support.fuzzing.inputs import Input
from tests.support.fuzzing.seeds import Seed

ROOM = 50 << 20
"""Bytes that a command may take whatever it is given, beside ten times its input."""

FEW_CHARACTERS = 3000

_BATCH = 1000


@dataclass
class Ends:
    """How commands ended.

    Attributes:
        inputs: How many there were.
        distinct: Digests of those that differ.
        codes: How many ended with each exit code.
        damage: The kinds of damage, and how many inputs had each.
        messages: The errors without what differs from file to file, and how many of each.
        slowest: Seconds of the slowest.
        largest: Most bytes that one took beside what its input may.
    """

    inputs: int = 0
    distinct: set[bytes] = field(default_factory=set)
    codes: Counter[int] = field(default_factory=Counter)
    damage: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: int = 0

    def __str__(self) -> str:
        codes = ", ".join(f"{n} with {code}" for code, n in sorted(self.codes.items()))
        return (
            f"{self.inputs} inputs ({len(self.distinct)} distinct): {codes}, errors of "
            f"{len(self.messages)} kinds; memory at most {self.largest >> 20} MiB beside what the "
            f"input may take; slowest {self.slowest * 1000:.0f} ms"
        )


@dataclass(frozen=True)
class Given:
    """An input: what is in the file, and the command that is given it.

    Attributes:
        file: The bytes, and what was done to them.
        command: Which of a kind's commands.
    """

    file: Input
    command: int

    def __repr__(self) -> str:
        return f"{self.file!r}, command {self.command}"


Command = Callable[[Path, Path], tuple[Any, Sequence[object]]]
"""From the hostile file and the folder of good ones: a program's ``main``, and its arguments."""


@dataclass
class CommandJudge:
    """Gives files to commands and says whether they end as they have to.

    Attributes:
        folder: Where the file is put; what else is in it stays as it is.
        name: The file's.
        commands: What is given it.
        allowance: A function from the file's bytes to those of memory that it may take.
    """

    folder: Path
    name: str
    commands: Sequence[Command]
    allowance: Callable[[bytes], int]
    ends: Ends = field(default_factory=Ends)

    def judge(self, given: Given) -> None:
        """Holds if the command ends as it has to.

        Raises:
            Failure: It does not; where the input is kept.
        """
        path, data = self.folder / self.name, given.file.data
        path.write_bytes(data)
        self.ends.inputs += 1
        self.ends.distinct.add(hashlib.blake2b(data, digest_size=8).digest())
        self.ends.damage.update({*given.file.damage})
        main, arguments = self.commands[given.command](path, self.folder)
        before = {each.name for each in self.folder.iterdir()}
        try:
            self.run(main, [str(argument) for argument in arguments], data)
            left = {each.name for each in self.folder.iterdir()} - before
            check(not left, f"it left {left}")
        except Failure as failure:
            raise Failure(f"{failure}\n{given!r}: kept as {self.keep(data)}") from failure

    def warm_up(self) -> None:
        """Has every command import what it needs, which is no input's to answer for."""
        for command in {*self.commands}:
            for good in self.folder.glob("good.*"):
                main, arguments = command(good, self.folder)
                CliRunner().invoke(main, [str(argument) for argument in arguments])

    def run(self, main: Any, arguments: list[str], data: bytes) -> None:
        """Runs a command, and looks at how it ends."""
        problem, done, allowed = "", None, self.allowance(data)
        before, started = _reset_peak(), time.perf_counter()
        try:
            with time_limit(fuzz.SECONDS):
                done = CliRunner().invoke(main, arguments)
        except Hang:
            problem = f"no end within {fuzz.SECONDS} s"
        taken, memory = time.perf_counter() - started, _peak() - before - allowed
        check(done is not None, problem)
        self.ends.slowest = max(self.ends.slowest, taken)
        self.ends.largest = max(self.ends.largest, memory)
        check(memory <= ROOM, f"{memory} bytes of memory beside the {allowed} of the file")
        self.ends.codes[done.exit_code] += 1
        self.look(done)

    def look(self, done: Any) -> None:
        """Looks at exit code and words."""
        error, said = done.exception, done.stderr[-FEW_CHARACTERS:]
        if error is not None and not isinstance(error, SystemExit):
            raise Failure(f"{type(error).__name__}: {error}") from error
        check(done.exit_code in (0, 1, 2), f"exit code {done.exit_code}: {said}")
        check("fault of ours" not in done.stderr, said)
        plain = done.output.replace("\n", " ")
        check(plain.isprintable(), f"control characters: {plain[-FEW_CHARACTERS:]!r}")
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        if done.exit_code and errors:
            check(len(errors) == 1, f"errors: {errors}")
            check(len(errors[0]) <= FEW_CHARACTERS, f"{len(errors[0])} characters: {errors[0]}")
            self.ends.messages[fuzz._kind(errors[0])] += 1
        check(not done.exit_code or bool(done.output), "no word")
        if done.stdout.startswith(("{", "[")):
            json.loads(done.stdout, parse_constant=_refuse)

    def keep(self, data: bytes) -> Path:
        fuzz.KEPT.mkdir(parents=True, exist_ok=True)
        kept = fuzz.KEPT / f"{hashlib.sha256(data).hexdigest()[:16]}-{self.name}"
        kept.write_bytes(data)
        return kept.resolve()


def _refuse(constant: str) -> None:
    raise Failure(f"{constant} in JSON")


def _reset_peak() -> int:
    """Bytes that this process has now, from which its peak counts; 0 where nothing tells."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM") if Path("/proc/self/clear_refs").exists() else 0


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


@dataclass(frozen=True)
class Program:
    """A kind of hostile file, and the commands that it is given to.

    Attributes:
        file: The name of the file, whose end tells the kind.
        prepare: A function that fills a folder with the good files that commands need.
        files: A strategy's maker, for :class:`Input`.
        commands: The commands.
        allowance: A function from the file's bytes to those of memory that it may take, beside
            :data:`ROOM`.
    """

    file: str
    prepare: Callable[[Path], None]
    files: Callable[[], Any]
    commands: Sequence[Command]
    allowance: Callable[[bytes], int] = lambda data: 10 * len(data)

    def _judge(self, folder: Path) -> CommandJudge:
        folder.mkdir(parents=True, exist_ok=True)
        self.prepare(folder)
        judge = CommandJudge(folder, self.file, self.commands, self.allowance)
        judge.warm_up()
        return judge

    def replay(self, path: Path, folder: Path) -> None:
        """Gives a file that was kept to every command."""
        judge = self._judge(folder)
        for number in range(len({*self.commands})):
            given = Input(path.read_bytes(), Seed(str(path), b""), ("replay",))
            judge.judge(Given(given, number))

    def run(self, count: int, seed: int, folder: Path) -> Ends:
        """Gives ``count`` files to commands, the same for the same seed.

        Args:
            count: How many.
            seed: Of the random numbers.
            folder: An empty folder for them.

        Raises:
            Failure: A command did not end as it has to.
        """
        judge = self._judge(folder)

        @st.composite
        def given(draw: Draw) -> Given:
            return Given(draw(self.files()), index(draw, len(self.commands)))

        fuzz.give(given(), judge.judge, lambda: count - judge.ends.inputs, seed, batch=_BATCH)
        return judge.ends
