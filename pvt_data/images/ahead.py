"""Images are loaded by threads while those before them are used.

Threads are enough: Pillow decodes and resizes, and numpy normalises, without holding Python's lock.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from pvt_spec.errors import ImageError

_Item = TypeVar("_Item")
_Loaded = TypeVar("_Loaded")

MOST_IMAGES, MOST_THREADS = 1 << 16, 1024
"""The most images of a batch, and threads, that can be asked for."""

MOST_WORKERS = 16
"""The most threads that load images unless more are asked for: each may hold a large one."""


def usable_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_ahead(
    load: Callable[[_Item], _Loaded], items: Iterable[_Item], size: int, workers: int | None = None
) -> Generator[list[tuple[_Item, _Loaded | ImageError]], None, None]:
    """Yields batches of items in their order, each with what it gave or why it gave nothing.

    At most ``2 * size + workers`` images are in memory: a batch that is used, and those that are
    loaded meanwhile. Where the iterator is closed before its end, what has not begun to load never
    does.

    Args:
        load: The function that loads an item, called in several threads at once.
        items: The items; they are taken as they are needed.
        size: Items of a batch; the last one may have fewer.
        workers: How many threads load; as many as there are cores by default.

    Raises:
        Exception: ``load`` raised it, and it is no ImageError.
    """
    workers = workers or min(usable_cores(), MOST_WORKERS)
    coming = iter(items)
    waiting: deque[tuple[_Item, Future[_Loaded | ImageError]]] = deque()
    pool = ThreadPoolExecutor(workers, "load")

    def attempt(item: _Item) -> _Loaded | ImageError:
        try:
            return load(item)
        except ImageError as error:
            return error

    def begin(count: int) -> None:
        waiting.extend((item, pool.submit(attempt, item)) for item in islice(coming, count))

    try:
        begin(size + workers)
        while waiting:
            batch: list[tuple[_Item, _Loaded | ImageError]] = []
            while waiting and len(batch) < size:
                item, future = waiting.popleft()
                batch.append((item, future.result()))
                begin(1)
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
