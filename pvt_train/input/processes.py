"""Processes that fill batches of images ahead of their use, in memory shared with this one.

They are started afresh, not forked, as a framework may have threads by then.
"""

import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from math import prod
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from pvt_data.command_line import hush_pillow
from pvt_data.edge import SIGNALS
from pvt_data.images.ahead import usable_cores
from pvt_spec.arrays import Array
from pvt_spec.words import counted, reason
from pvt_train.twin import TrainingError

RING = 3
"""Batches in shared memory: one that is taken, and two that are filled meanwhile."""

_PATIENCE = 0.5
"""Seconds between looks at whether what starts processes is still there."""

_BY_POOL = (0, -signal.SIGTERM)
"""Exit codes of processes that a pool ends."""

CHUNK = 4
"""Images per task."""

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
        pixels: The images, uint8 (B, H, W, C).
        used: Their numbers, int64 (B,).
        unreadable: The images that could not be read, in the order of those that needed them.
    """

    pixels: Array
    used: Array
    unreadable: list[Unreadable]


def process_count(asked: int) -> int:
    """Returns the processes to start where ``asked`` are wanted: no more than usable cores."""
    return min(asked, usable_cores())


def make_here(make: Make, shape: tuple[int, int, int], batches: Iterable[Array]) -> Iterator[Made]:
    """Yields batches made one at a time when they are asked for, in this process.

    Args:
        make: What makes an image.
        shape: The size (H, W, C) of each.
        batches: The items of each batch, int64 (B, K).
    """
    for items in batches:
        made = Made(np.empty((len(items), *shape), np.uint8), np.empty(len(items), np.int64), [])
        made.unreadable.extend(_make_all(make, items, made.pixels, made.used))
        yield made


def _make_all(make: Make, items: Array, pixels: Array, used: Array) -> list[Unreadable]:
    unreadable: list[Unreadable] = []
    for position, item in enumerate(items):
        used[position], failed = make(item, pixels[position])
        unreadable += failed
    return unreadable


class _Ring:
    """Batches in memory that child processes share; without a name, so that none is left."""

    def __init__(self, items: tuple[int, int], shape: tuple[int, int, int]):
        B = items[0]
        self._arrays = [
            (RawArray("b", prod(size) * np.dtype(dtype).itemsize), size, dtype)
            for size, dtype in (
                ((RING, *items), "int64"), ((RING, B, *shape), "uint8"), ((RING, B), "int64"),
            )
        ]  # fmt: skip

    def open(self) -> list[Array]:
        """Returns the items (RING, B, K), pixels (RING, B, H, W, C) and numbers (RING, B)."""
        return [np.frombuffer(m, dtype).reshape(size) for m, size, dtype in self._arrays]


class ImageProcesses:
    """Processes that make batches; started when first needed, and kept until closed.

    A context manager that ends them. They leave :data:`SIGNALS` to this process, and end when it
    does, however it does.
    """

    def __init__(self, make: Make, count: int, items: tuple[int, int], shape: tuple[int, int, int]):
        """Starts nothing yet.

        Args:
            make: What makes an image.
            count: The number of processes, at least 1.
            items: The shape (B, K) of every batch's items.
            shape: The size (H, W, C) of each image.
        """
        self._make, self._count, self._ring = make, count, _Ring(items, shape)
        self._items, self._pixels, self._used = self._ring.open()
        self._pool: ProcessPoolExecutor | None = None
        self._processes: list[BaseProcess] = []
        self._tasks: list[Future[list[Unreadable]]] = []

    def __enter__(self) -> "ImageProcesses":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes at once; what they were making is lost."""
        for process in self._processes:
            process.kill()
        if self._pool:
            self._pool.shutdown()
        self._pool, self._processes, self._tasks = None, [], []

    def make(self, batches: Iterable[Array]) -> Iterator[Made]:
        """Yields batches in order, the next ones being made while one is used.

        Args:
            batches: The items of each batch, int64 (B, K).

        Yields:
            Copies, which are the caller's.

        Raises:
            TrainingError: A process has ended; the others are ended too.
            Exception: What making an image failed with, in a process; all are ended.
        """
        try:
            yield from self._made(batches, self._pool or self._start())
        except BrokenProcessPool:
            raise self._dead() from None

    def _made(self, batches: Iterable[Array], pool: ProcessPoolExecutor) -> Iterator[Made]:
        wait(self._tasks)  # what an iteration before this one has left behind
        ahead: deque[tuple[int, list[Future[list[Unreadable]]]]] = deque()
        for number, items in enumerate(batches):
            slot = number % RING
            self._items[slot] = items
            chunks = range(0, len(items), CHUNK)
            ahead.append((slot, [pool.submit(_fill, slot, start) for start in chunks]))
            self._tasks = [task for _, tasks in ahead for task in tasks]
            if len(ahead) == RING:
                yield self._take(*ahead.popleft())
        while ahead:
            yield self._take(*ahead.popleft())

    def _take(self, slot: int, tasks: list[Future[list[Unreadable]]]) -> Made:
        try:
            unreadable = [one for task in tasks for one in task.result()]
        except BrokenProcessPool:
            raise
        except Exception:  # its cause is the process's own traceback
            self.close()
            raise
        return Made(self._pixels[slot].copy(), self._used[slot].copy(), unreadable)

    def _dead(self) -> TrainingError:
        connection.wait([process.sentinel for process in self._processes])
        over = [process for process in self._processes if process.exitcode is not None]
        over = over or self._processes  # another thread is about to learn which
        if not over:
            self.close()
            return TrainingError(
                "the processes that read images end as they are started; if memory ran out, try a "
                "lower --num-parallel-workers"
            )
        # The others are ended by the pool, once it knows.
        ended = next((each for each in over if each.exitcode not in _BY_POOL), over[0])
        self.close()
        code = ended.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return TrainingError(
            f"process {ended.pid}, which reads images, {how}; if memory ran out, try a lower "
            "--num-parallel-workers"
        )

    def _start(self) -> ProcessPoolExecutor:
        try:
            self._pool = self._open_pool()
        except (RuntimeError, OSError) as error:
            for process in self._processes:
                process.kill()
            raise TrainingError(
                f"{counted(self._count, 'process')} to read images cannot be started "
                f"({reason(error)}): allow more processes and threads (ulimit -u, or the "
                "container's limit), or give a lower --num-parallel-workers"
            ) from error
        # Where nobody closes it, before the interpreter takes itself apart.
        weakref.finalize(self, self._pool.shutdown)
        return self._pool

    def _open_pool(self) -> ProcessPoolExecutor:
        """Returns a pool whose processes are at work.

        Raises:
            RuntimeError: No more threads can be started.
            OSError: No more processes can.
        """
        spawn = multiprocessing.get_context("spawn")
        made = bytes(ForkingPickler.dumps(self._make))
        with _threads_watched() as ended:
            with _started_quietly():
                before = multiprocessing.active_children()
                pool = ProcessPoolExecutor(self._count, spawn, _begin, (made, self._ring))
                try:
                    # Each task that finds no idle process starts one.
                    self._tasks = [pool.submit(list) for _ in range(self._count)]
                finally:
                    every = multiprocessing.active_children()
                    self._processes = [each for each in every if each not in before]
            while wait(self._tasks, _PATIENCE).not_done:
                if ended:
                    raise RuntimeError(str(ended[0]))
        return pool


@contextmanager
def _threads_watched() -> Iterator[list[BaseException | None]]:
    """Yields a list that gets what ends threads started meanwhile, in place of a traceback.

    Where a pool's own thread can start no other it ends, and what waits for its tasks would wait
    for ever.
    """
    before, hook = {*threading.enumerate()}, threading.excepthook
    ended: list[BaseException | None] = []

    def note(given: threading.ExceptHookArgs) -> None:
        if given.thread in before:
            hook(given)
        else:
            ended.append(given.exc_value)

    threading.excepthook = note
    try:
        yield ended
    finally:
        threading.excepthook = hook


@contextmanager
def _started_quietly() -> Iterator[None]:
    """Lets processes be started that do not run this one's script, and take none of its signals."""
    main = sys.modules["__main__"]
    with _signals_blocked():
        # They would import the script, and what it imports, under another name.
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Blocks what ends a run, where the system can, also in what is started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # Started by the first lock otherwise, after which some signals are no longer blocked.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_HERE: Any = None
"""What makes images, and the ring's arrays, in a process of the pool."""


def _begin(make: bytes, ring: _Ring) -> None:
    """Makes a process of the pool ready; it ends with the one that started it."""
    global _HERE
    # Ctrl-C in a terminal is everybody's; where signals cannot be blocked, it is ignored.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hush_pillow()
    _HERE = (ForkingPickler.loads(make), *ring.open())
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    except RuntimeError:  # there are too many; who started this process says that it ended
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _fill(slot: int, start: int) -> list[Unreadable]:
    make, *arrays = _HERE
    return _make_all(make, *(array[slot, start : start + CHUNK] for array in arrays))
