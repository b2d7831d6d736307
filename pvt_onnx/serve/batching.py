"""Requests that wait for the same model are answered together."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from pvt_spec.arrays import Array

Answers = Mapping[str, Array]
"""A model's answers by name, of B images each."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Images of one request, which are answered in one call of the model."""

    images: Array
    answers: "asyncio.Future[Answers]"


class Batcher:
    """What puts images of several requests into one call of a model, one call at a time.

    Images that come while no call goes on are computed at once, those that come meanwhile together
    in the next. Images that nobody waits for any more are not computed. Where a call fails, the
    requests in it are answered one by one, so that none fails for another. All of it happens in the
    thread of one event loop, but for the calls.

    Args:
        run: The function from images (B, …) to answers of B images each, which may take long.
        most: The function from the shape of one image to how many a call may have.
        delay: Seconds that a call waits for more images than there are.
        together: Whether images of several requests may be in a call.
        told: The function that is told the number of images of each call, in the thread of calls.
    """

    def __init__(
        self,
        run: Callable[[Array], Answers],
        most: Callable[[tuple[int, ...]], int],
        delay: float = 0.0,
        together: bool = True,
        told: Callable[[int], None] = lambda images: None,
    ):
        self._run, self._most, self._told = run, most, told
        self._delay, self._together = delay if together else 0.0, together
        self._waiting: deque[_Part] = deque()
        self._calling = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "model")
        self._loop = asyncio.get_running_loop()

    async def answer(self, images: list[Array]) -> Answers:
        """Returns the answers of one request's images, in their order.

        Args:
            images: Arrays (b, …), b images of one shape each.

        Raises:
            Exception: What running the model raised.
            CancelledError: It is closed.
        """
        if self._closed:
            raise asyncio.CancelledError
        parts = []
        for each in images:
            most = self._most(each.shape[1:])
            for n in range(0, len(each), most):
                parts.append(_Part(each[n : n + most], self._loop.create_future()))
        self._waiting.extend(parts)
        self._go_on()
        if len(parts) == 1:
            return await parts[0].answers
        found = await asyncio.gather(*(part.answers for part in parts))
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    async def close(self) -> None:
        """Ends it; what still waits is not answered."""
        self._closed = True
        for part in self._waiting:
            part.answers.cancel()
        self._waiting.clear()
        self._thread.shutdown()

    def _go_on(self) -> None:
        """Begins a call, or a while for more images to come, where there is something to do."""
        if self._calling or self._closed or not self._waiting:
            return
        if not self._delay or self._rows() >= self._most(self._waiting[0].images.shape[1:]):
            self._begin()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._delay, self._begin)

    def _begin(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not (self._calling or self._closed) and (parts := self._take()):
            self._calling = True
            self._thread.submit(self._call, parts)

    def _rows(self) -> int:
        return sum(len(part.images) for part in self._waiting)

    def _take(self) -> list[_Part]:
        """Takes the images that go first, and those after them that fit into the same call."""
        taken: list[_Part] = []
        left: deque[_Part] = deque()
        rows = most = 0
        for part in self._waiting:
            if part.answers.done():  # nobody waits for them
                continue
            shape, count = part.images.shape[1:], len(part.images)
            if not taken:
                most = self._most(shape)
            other = taken and shape != taken[0].images.shape[1:]
            if taken and (other or rows + count > most or not self._together):
                left.append(part)
            else:
                taken.append(part)
                rows += count
        self._waiting = left
        return taken

    def _call(self, parts: list[_Part]) -> None:
        """Computes images, in the thread of calls."""
        self._loop.call_soon_threadsafe(self._called, parts, self._compute(parts))

    def _compute(self, parts: list[_Part]) -> list[Answers | Exception]:
        try:
            images = [part.images for part in parts]
            whole = images[0] if len(images) == 1 else np.concatenate(images)
            self._told(len(whole))
            found = self._run(whole)
        except Exception as error:
            return [error] if len(parts) == 1 else [self._compute([part])[0] for part in parts]
        ends = [*accumulate(map(len, images))]
        return [
            {name: rows[end - len(part.images) : end] for name, rows in found.items()}
            for part, end in zip(parts, ends, strict=True)
        ]

    def _called(self, parts: list[_Part], found: list[Answers | Exception]) -> None:
        """Begins the next call, and hands the answers of the last to those who wait for them."""
        self._calling = False
        self._go_on()
        for part, answers in zip(parts, found, strict=True):
            if part.answers.done():
                continue
            if isinstance(answers, Exception):
                part.answers.set_exception(answers)
            else:
                part.answers.set_result(answers)
