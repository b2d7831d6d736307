"""Processes that fill batches of images ahead of their use, in memory shared with this one.

Tasks are records of one size in a pipe that all workers read from, so that whoever is free takes
the next and no lock is left behind by a worker that is killed. Workers are started afresh, not
forked, as a framework may have threads by then.
"""

import multiprocessing
import os
import signal
import struct
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from pvt_spec.arrays import Array
from pvt_train.twin import TrainingError

RING = 3
"""Batches in shared memory: one that is taken, and two that are filled meanwhile."""

CHUNK = 4
"""Images per task."""

# The ring's slot, first image, image after the last, unused: 32 bytes, which a page holds whole
# numbers of, so that a read never gets part of a task.
_TASK = struct.Struct("=4q")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Unreadable = tuple[int, str]
"""Number of an image that could not be read, and why."""


class Make(Protocol):
    """Makes one image; can be sent to another process."""

    def __call__(self, item: Array, out: Array) -> tuple[int, list[Unreadable]]:
        """Makes what an item asks for.

        Args:
            item: int64 (K,): which image, in whatever numbers say so.
            out: uint8 (H, W, C), to be filled.

        Returns:
            The number of the image that it is now, and the images that could not be read.
        """
        ...


class Made(NamedTuple):
    """A batch of images.

    Attributes:
        pixels: uint8 (B, H, W, C).
        used: int64 (B,): numbers of the images.
        unreadable: Images that could not be read, in the order of those that needed them.
    """

    pixels: Array
    used: Array
    unreadable: list[Unreadable]


def worker_count(asked: int) -> int:
    """Processes to start where ``asked`` are wanted: no more than cores that may be used."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return min(asked, cores)


def make_here(make: Make, shape: tuple[int, int, int], batches: Iterable[Array]) -> Iterator[Made]:
    """Batches made one at a time when they are asked for, in this process.

    Args:
        make: Makes an image.
        shape: (H, W, C) of each.
        batches: int64 (B, K): the items of each batch.
    """
    for items in batches:
        made = Made(np.empty((len(items), *shape), np.uint8), np.empty(len(items), np.int64), [])
        for position, item in enumerate(items):
            made.used[position], unreadable = make(item, made.pixels[position])
            made.unreadable.extend(unreadable)
        yield made


@dataclass(frozen=True)
class _Shared:
    """An array in memory that child processes share; without a name, so that none is left."""

    memory: Any
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: str) -> "_Shared":
        return cls(RawArray("b", prod(shape) * np.dtype(dtype).itemsize), shape, dtype)

    def array(self) -> Array:
        return np.frombuffer(self.memory, self.dtype).reshape(self.shape)


class _Ring(NamedTuple):
    items: _Shared  # int64 (RING, B, K)
    pixels: _Shared  # uint8 (RING, B, H, W, C)
    used: _Shared  # int64 (RING, B)


class Workers:
    """Processes that make batches; started when first needed, and kept until closed.

    A context manager that ends them. They leave SIGINT and SIGTERM to this process, and end when
    it does, however it does.
    """

    def __init__(self, make: Make, count: int, items: tuple[int, int], shape: tuple[int, int, int]):
        """Starts nothing yet.

        Args:
            make: Makes an image.
            count: Number of processes, at least 1.
            items: (B, K) of every batch's items.
            shape: (H, W, C) of each image.
        """
        self._make, self._count, self._batch = make, count, items[0]
        self._ring = _Ring(
            _Shared.zeros((RING, *items), "int64"),
            _Shared.zeros((RING, items[0], *shape), "uint8"),
            _Shared.zeros((RING, items[0]), "int64"),
        )
        self._items, self._pixels, self._used = (shared.array() for shared in self._ring)
        self._unreadable: list[dict[int, list[Unreadable]]] = [{} for _ in range(RING)]
        self._pending = [0] * RING
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def process_ids(self) -> list[int]:
        """Of the workers; none before they are needed."""
        return [process.pid for process in self._processes if process.pid is not None]

    def close(self) -> None:
        """Ends the processes at once; what they were making is lost."""
        if self._processes:
            self._stop()
        for connection in self._connections:
            connection.close()
        self._processes, self._connections, self._pending = [], [], [0] * RING

    def make(self, batches: Iterable[Array]) -> Iterator[Made]:
        """Batches in order, the next ones being made while one is used.

        Args:
            batches: int64 (B, K): the items of each batch.

        Yields:
            Copies, which are the caller's.

        Raises:
            TrainingError: A worker failed, or has ended; the others are ended too.
        """
        if not self._processes:
            self._start()
        while any(self._pending):
            self._collect()  # what an iteration before this one has left behind
        ahead: deque[int] = deque()
        for number, items in enumerate(batches):
            ahead.append(number % RING)
            self._submit(ahead[-1], items)
            if len(ahead) == RING:
                yield self._take(ahead.popleft())
        while ahead:
            yield self._take(ahead.popleft())

    def _submit(self, slot: int, items: Array) -> None:
        self._items[slot], self._pending[slot], self._unreadable[slot] = items, self._batch, {}
        for start in range(0, self._batch, CHUNK):
            stop = min(start + CHUNK, self._batch)
            # Where all workers are gone, waiting for them will tell.
            with suppress(BrokenPipeError):
                # Each is written at once or not at all; the pipe has room for 2000 of them.
                os.write(self._tasks.fileno(), _TASK.pack(slot, start, stop, 0))

    def _take(self, slot: int) -> Made:
        while self._pending[slot]:
            self._collect()
        unreadable = [one for _, some in sorted(self._unreadable[slot].items()) for one in some]
        return Made(self._pixels[slot].copy(), self._used[slot].copy(), unreadable)

    def _collect(self) -> None:
        """Waits for a task to be done."""
        for connection in wait(self._connections):
            assert isinstance(connection, Connection)
            try:
                done = connection.recv()
            except (EOFError, OSError):
                raise self._dead(self._connections.index(connection)) from None
            if isinstance(done, str):
                self.close()
                raise TrainingError(f"a process that reads images failed:\n{done}")
            slot, start, stop, unreadable = done
            self._pending[slot] -= stop - start
            self._unreadable[slot][start] = unreadable

    def _dead(self, number: int) -> TrainingError:
        process = self._processes[number]
        process.join()
        code, pid = process.exitcode or 0, process.pid
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.close()
        return TrainingError(
            f"process {pid}, which reads images, {how}; if memory ran out, try a lower "
            "--num-parallel-workers"
        )

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, self._tasks = context.Pipe(duplex=False)
        made = bytes(ForkingPickler.dumps(self._make))
        # At exit too, before the interpreter waits for them.
        self._stop = Finalize(self, _stop, (self._processes, self._tasks), exitpriority=1)
        with _started_quietly():
            for _ in range(self._count):
                ours, answers = context.Pipe()
                process = context.Process(target=_serve, args=(self._ring, theirs, answers))
                process.start()
                # Theirs alone now, so that it ends when they do.
                answers.close()
                self._processes.append(process)
                self._connections.append(ours)
        theirs.close()
        for number, connection in enumerate(self._connections):
            try:
                connection.send_bytes(made)
            except OSError:
                raise self._dead(number) from None


@contextmanager
def _started_quietly() -> Iterator[None]:
    """Processes started meanwhile do not run this one's script, and take none of its signals."""
    # Started by the first process otherwise, after which signals are no longer blocked.
    resource_tracker.ensure_running()
    main = sys.modules["__main__"]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    # They would import the script, and what it imports, under another name.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _stop(processes: Sequence[BaseProcess], tasks: Connection) -> None:
    tasks.close()
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _serve(ring: _Ring, tasks: Connection, answers: Connection) -> None:
    """A worker: takes tasks until there is nobody left to give any."""
    try:
        make: Make = answers.recv()
        items, pixels, used = (shared.array() for shared in ring)
        while task := os.read(tasks.fileno(), _TASK.size):
            slot, start, stop, _ = _TASK.unpack(task)
            unreadable: list[Unreadable] = []
            for position in range(start, stop):
                used[slot, position], failed = make(items[slot, position], pixels[slot, position])
                unreadable += failed
            answers.send((slot, start, stop, unreadable))
    except (ConnectionError, EOFError):
        return  # nobody is left to tell
    except Exception:
        answers.send(traceback.format_exc())
