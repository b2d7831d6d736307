"""Hostile and good clients at a time on one server, in asyncio."""

import asyncio
import json
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.serving.hostile import STATUS, good_requests, hostile, what_is_wrong

PATIENCE = 0.5
"""Seconds that a hostile client waits for an answer: the end of most is never sent."""

GOOD_PATIENCE = 600
"""Seconds that a good one waits: a busy machine is no fault of the server's."""


@dataclass
class Found:
    """What came of it.

    Attributes:
        statuses: How often each status came; 0 stands for a connection closed without one.
        problems: What was wrong, with the bytes that were sent.
        good: How many good requests were answered as they are alone.
        again: How often one was told to come again, as the server was busy, and did.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    problems: list[tuple[str, bytes]] = field(default_factory=list)
    good: int = 0
    again: int = 0


BUSY = re.compile(rb"HTTP/1\.1 503 (?s:.)*\r\nretry-after: 1\r\n")
"""What a server answers that asks a client to come again in a second."""


class Heard(NamedTuple):
    """What came back on a connection, and what ended it."""

    answer: bytes
    end: str


async def ask(host: str, port: int, sent: bytes, seconds: float) -> Heard:
    """What comes back on a connection of its own, as far as it comes within some seconds."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(host, port)
    answer, end = b"", "closed by the server"
    try:
        writer.write(sent)
        while part := await asyncio.wait_for(reader.read(1 << 16), seconds):
            answer += part
    except asyncio.TimeoutError:
        end = "given up by the client"
    except OSError as error:
        end = f"{type(error).__name__}"
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return Heard(answer, f"{end} after {time.monotonic() - began:.1f} s")


async def attack(
    host: str,
    port: int,
    image: bytes,
    count: int,
    good: int,
    at_once: int = 32,
    seed: int = 0,
    patience: float = PATIENCE,
) -> Found:
    """Asks a server so many hostile and good requests, mixed, and some at a time."""
    goods, found = good_requests(image), Found()
    generator = random.Random(seed)
    alone = [_tensors((await ask(host, port, each, 30)).answer) for each in goods]
    assert all(alone), alone
    kinds = [True] * good + [False] * count
    generator.shuffle(kinds)
    places = asyncio.Semaphore(at_once)

    async def one(is_good: bool, number: int) -> None:
        async with places:
            mine = random.Random(f"{seed} {number}")
            which = mine.randrange(len(goods))
            sent = goods[which] if is_good else hostile(mine, goods)
            try:
                heard = await ask(host, port, sent, GOOD_PATIENCE if is_good else patience)
                while is_good and BUSY.match(heard.answer):
                    found.again += 1
                    await asyncio.sleep(1)
                    heard = await ask(host, port, sent, GOOD_PATIENCE)
            except OSError as error:
                found.problems.append((f"no connection: {error}", sent))
                return
        _note(found, heard, sent, alone[which] if is_good else None)

    for start in range(0, len(kinds), 1000):  # tasks take memory too
        part = kinds[start : start + 1000]
        await asyncio.gather(*(one(each, start + n) for n, each in enumerate(part)))
    return found


def _note(found: Found, heard: Heard, sent: bytes, alone: "list[float] | None") -> None:
    answer = heard.answer
    status = int(match[1]) if (match := STATUS.match(answer)) else 0
    found.statuses[status] = found.statuses.get(status, 0) + 1
    problem = what_is_wrong(answer)
    if alone is not None:
        values = _tensors(answer)
        close = len(values) == len(alone) and all(
            abs(a - b) <= 1e-4 * (1 + abs(b)) for a, b in zip(values, alone, strict=True)
        )
        found.good += close
        problem = problem or (None if close else f"a good request: {heard.end}: {answer[:300]!r}")
    if problem:
        found.problems.append((problem, sent))


def _tensors(answer: bytes) -> list[float]:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head:
        return []
    return [value for each in json.loads(body)["outputs"] for value in each["data"]]
