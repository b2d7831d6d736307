"""Requests that wait for the same model are answered together."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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

    All of it happens in the thread of one event loop, but for the calls. Images that nobody waits
    for any more are not computed. Where a call fails, the requests in it are answered one by one,
    so that none fails for another.

    Args:
        run: The function from images (B, …) to answers of B images each, which may take long.
        most: The function from the shape of one image to how many a call may have.
        delay: Seconds that a call waits for more images than there are.
        together: Whether images of several requests may be in a call.
        told: The function that is told the number of images of each call.
    """

    def __init__(
        self,
        run: Callable[[Array], Answers],
        most: Callable[[tuple[int, ...]], int],
        delay: float = 0.0,
        together: bool = True,
        told: Callable[[int], None] = lambda images: None,
    ):
        self._run, self._most, self._delay, self._told = run, most, delay, told
        self._together = together
        self._waiting: deque[_Part] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def answer(self, images: list[Array]) -> Answers:
        """Returns the answers of one request's images, in their order.

        Args:
            images: Arrays (b, …), b images of one shape each.

        Raises:
            Exception: What running the model raised.
        """
        parts = []
        for each in images:
            most = self._most(each.shape[1:])
            parts += [self._begin(each[n : n + most]) for n in range(0, len(each), most)]
        found = await asyncio.gather(*(part.answers for part in parts))
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    async def close(self) -> None:
        """Ends it; what still waits is not answered."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for part in self._waiting:
            part.answers.cancel()
        self._thread.shutdown()

    def _begin(self, images: Array) -> _Part:
        part = _Part(images, asyncio.get_running_loop().create_future())
        self._waiting.append(part)
        self._arrived.set()
        return part

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if self._delay and self._together:
                await self._wait_for_more()
            parts = self._take()
            if parts:
                await self._answer(parts)

    async def _wait_for_more(self) -> None:
        """Waits until there are as many images as a call may have, but not for long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._delay
        most = self._most(self._waiting[0].images.shape[1:])
        while (left := end - loop.time()) > 0 and self._rows() < most:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

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
        if not left:
            self._arrived.clear()
        return taken

    async def _answer(self, parts: list[_Part]) -> None:
        images = [part.images for part in parts]
        loop = asyncio.get_running_loop()
        try:
            whole = images[0] if len(images) == 1 else np.concatenate(images)
            self._told(len(whole))
            found = await loop.run_in_executor(self._thread, self._run, whole)
        except Exception as error:
            if len(parts) > 1:
                for part in parts:
                    await self._answer([part])
            elif not parts[0].answers.done():
                parts[0].answers.set_exception(error)
            return
        start = 0
        for part in parts:
            end = start + len(part.images)
            if not part.answers.done():
                part.answers.set_result({name: rows[start:end] for name, rows in found.items()})
            start = end
