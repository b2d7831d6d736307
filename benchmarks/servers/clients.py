"""Clients in asyncio of servers on this machine: how many answers they get, and how soon."""

import asyncio
import json
import random
import time
from base64 import b64encode
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

CONNECTIONS = 16
PAUSE = 0.005
"""Seconds before a request to an idle server."""


def request(body: bytes, header_length: int | None) -> bytes:
    """Returns a request on a connection that stays; with a length, of binary tensors."""
    lines = ["POST /v2/models/model/infer HTTP/1.1", "host: localhost"]
    if header_length is None:
        lines.append("content-type: application/json")
    else:
        lines.append(f"inference-header-content-length: {header_length}")
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def of_tensor(images: np.ndarray) -> bytes:
    """Returns a request with a binary tensor, whose answer is one too."""
    row = {
        "name": "images",
        "datatype": "FP32",
        "shape": [*images.shape],
        "parameters": {"binary_data_size": images.nbytes},
    }
    wanted = {"name": "logits", "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [row], "outputs": [wanted]}).encode()
    return request(text + images.tobytes(), len(text))


def in_base64(images: np.ndarray) -> bytes:
    """Returns a request of a server without binary ones: the tensor in base64 in JSON."""
    said = {"images": b64encode(images.tobytes()).decode(), "shape": [*images.shape]}
    body = json.dumps(said).encode()
    return request(body, None)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> float:
    """Returns the seconds that an answer took."""
    began = time.perf_counter()
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    if b"inference-header-content-length: " in head:
        length = int(head.rpartition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    return time.perf_counter() - began


async def throughput(port: int, sent: Sequence[bytes], seconds: float, at_once: int) -> float:
    """Returns the requests a second that some connections get answered."""
    end, done = time.perf_counter() + seconds, 0

    async def client(number: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            await ask(reader, writer, sent[(done + number) % len(sent)])
            done += 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(at_once)))
    return done / (time.perf_counter() - began)


def arrivals(rate: float, seconds: float, evenly: bool) -> list[float]:
    """Returns when requests come, so many a second: evenly, or at random."""
    generator, found = random.Random(0), [0.0]
    while found[-1] < seconds:
        found.append(found[-1] + (1 / rate if evenly else generator.expovariate(rate)))
    return found


def queued(times: Sequence[float], each: float) -> list[float]:
    """Returns the latencies of requests that a queue answers one by one, in the same time each."""
    found, free = [], 0.0
    for time_ in times:
        free = max(free, time_) + each
        found.append(free - time_)
    return found


async def under_load(port: int, sent: bytes, times: Sequence[float]) -> list[float]:
    """Returns the latencies of requests that come at these times, come what may."""
    free: list[Any] = []
    found: list[float] = []

    async def one(due: float) -> None:
        streams = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        await ask(*streams, sent)
        found.append(time.perf_counter() - due)
        free.append(streams)

    tasks, began = [], time.perf_counter()
    for after in times:
        await asyncio.sleep(max(0, began + after - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(began + after)))
    await asyncio.gather(*tasks)
    for _, writer in free:
        writer.close()
    return found


async def alone(port: int, sent: bytes, seconds: float) -> float:
    """Returns the median seconds of requests one after another, with a pause before each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        await asyncio.sleep(PAUSE)
        found.append(await ask(reader, writer, sent))
    writer.close()
    return median(found)
