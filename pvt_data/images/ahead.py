"""Images are loaded, and answered, by threads while those before them are used.

Threads are enough: Pillow decodes and resizes, numpy normalises, and engines run graphs without
holding Python's lock.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from threading import current_thread
from typing import TypeVar

from pvt_spec.errors import ImageError

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

MOST_IMAGES, MOST_THREADS = 1 << 16, 1024
"""The most images of a batch, and threads, that can be asked for."""

BATCHES = {"predict": 16, "validate": 64}
"""Command -> images in a call of a model, unless others are asked for or suit it."""

_THREADS = "ahead"
"""What names of threads begin with here."""

MOST_WORKERS = 16
"""The most threads that load images unless more are asked for: each may hold a large one."""


def usable_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(
    make: Callable[[_Item], _Made], items: Iterable[_Item], workers: int, most: int
) -> Generator[tuple[_Item, _Made], None, None]:
    """Yields items in their order, each with what was made of it.

    Where the iterator is closed before its end, what has not begun is never made.

    Args:
        make: The function that makes it, called in several threads at once.
        items: The items; they are taken as they are needed.
        workers: How many threads there are.
        most: How many items are made, or wait for it or to be yielded.

    Raises:
        Exception: ``make`` raised it of the item whose turn it is.
    """
    coming = iter(items)
    waiting: deque[tuple[_Item, Future[_Made]]] = deque()
    pool = ThreadPoolExecutor(workers, _THREADS)

    def begin(count: int) -> None:
        waiting.extend((item, pool.submit(make, item)) for item in islice(coming, count))

    try:
        begin(most)
        while waiting:
            item, future = waiting.popleft()
            made = future.result()
            begin(1)
            yield item, made
    finally:
        # One that nobody closed is garbage, which any thread may collect: one of these too, which
        # cannot wait for itself.
        pool.shutdown(not current_thread().name.startswith(_THREADS), cancel_futures=True)


def answer_ahead(
    answer: Callable[[_Item], _Made], batches: Generator[_Item, None, None], calls: int
) -> Generator[tuple[_Item, _Made], None, None]:
    """Yields batches in their order, each with what a model answers.

    Args:
        answer: The function that runs the model.
        batches: The batches, which are closed in the end.
        calls: How many calls of it are made at once. One is made by the caller's own thread, which
            not every model lets go.
    """
    with closing(batches):
        if calls == 1:
            yield from ((batch, answer(batch)) for batch in batches)
        else:  # while one is answered the next waits for its thread
            with closing(ahead(answer, batches, calls, calls + 1)) as answered:
                yield from answered


def load_ahead(
    load: Callable[[_Item], _Made], items: Iterable[_Item], size: int, workers: int | None = None
) -> Generator[list[tuple[_Item, _Made | ImageError]], None, None]:
    """Yields batches of items in their order, each with what it gave or why it gave nothing.

    At most ``2 * size + workers`` images are in memory: a batch that is used, and those that are
    loaded meanwhile.

    Args:
        load: The function that loads an item, called in several threads at once.
        items: The items; they are taken as they are needed.
        size: Items of a batch; the last one may have fewer.
        workers: How many threads load; as many as there are cores by default.

    Raises:
        Exception: ``load`` raised it, and it is no ImageError.
    """
    workers = workers or min(usable_cores(), MOST_WORKERS)

    def attempt(item: _Item) -> _Made | ImageError:
        try:
            return load(item)
        except ImageError as error:
            return error

    with closing(ahead(attempt, items, workers, size + workers)) as loaded:
        while batch := [*islice(loaded, size)]:
            yield batch
