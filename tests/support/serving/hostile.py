"""What hostile clients write on a connection to a server of models, and what may come back."""

import gzip
import json
import random
import re
from collections.abc import Callable

Random = random.Random

WORDS = (
    *(b"POST", b"GET", b"HTTP/1.1", b"\r\n", b"\r\n\r\n", b":", b"%00", b"%2e%2e/", b"\x00"),
    *(b"\xff", b"content-length: 0\r\n", b"content-length: 99999999999999999999\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"0\r\n\r\n", b"expect: 100-continue\r\n"),
    *(b"inference-header-content-length: 4\r\n", b"content-encoding: gzip\r\n"),
    *(b"upgrade: websocket\r\nconnection: upgrade\r\n", b"{", b"}", b"[", b"]", b",", b'"'),
    *(b"1e999", b"-1", b"null", b"NaN", b'"\\ud800"', b"9" * 40, b'"shape"', b'"data"'),
    *(b'"BYTES"', b'"FP32"', b'"binary_data_size"', b'"inputs"', b'"image"'),
)
"""What is put in here and there."""


def request(
    body: bytes, *headers: str, path: str = "/v2/models/m/infer", method: str = "POST"
) -> bytes:
    """A request that is alone on its connection."""
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", *headers]
    if not any(line.startswith(("content-length", "transfer")) for line in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def infer(head: object, *tensors: bytes) -> bytes:
    """A request for answers with binary tensors."""
    text = json.dumps(head).encode()
    return request(b"".join([text, *tensors]), f"inference-header-content-length: {len(text)}")


def row(name: str, datatype: str, shape: list[int], size: int) -> dict[str, object]:
    """A binary tensor's row in the JSON."""
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def good_requests(image: bytes) -> list[bytes]:
    """Requests that are answered: of an image, and of a tensor of 32 x 32 pixels."""
    packed = len(image).to_bytes(4, "little") + image
    listed = {"name": "images", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": [0.5] * 3072}
    text = json.dumps({"inputs": [listed]}).encode()
    return [
        request(image, "inference-header-content-length: 0"),
        infer({"inputs": [row("image", "BYTES", [1], len(packed))]}, packed),
        infer({"inputs": [row("images", "FP32", [1, 3, 32, 32], 12288)]}, bytes(12288)),
        request(text, "content-type: application/json"),
        request(gzip.compress(text), "content-encoding: gzip"),
    ]


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes some of which are others, gone, twice, or words of the protocol."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        place = random.randrange(len(found) + 1)
        end = place + random.choice((0, 1, 2, 8, 100))
        kind = random.randrange(4)
        if kind == 0:
            found[place:end] = random.randbytes(end - place)
        elif kind == 1:
            found[place:end] = random.choice(WORDS)
        elif kind == 2:
            del found[place:end]
        else:
            found[place:place] = found[place:end] * random.choice((1, 3))
    return bytes(found)


def hostile(random: Random, goods: list[bytes]) -> bytes:
    """What a hostile client writes on one connection."""

    def damaged_body() -> bytes:
        head, _, body = random.choice(goods).partition(b"\r\n\r\n")
        body = damaged(body, random)
        head = re.sub(rb"content-length: \d+$", b"content-length: %d" % len(body), head)
        return head + b"\r\n\r\n" + body

    def damaged_head() -> bytes:
        head, end, body = random.choice(goods).partition(b"\r\n\r\n")
        return damaged(head, random) + end + body

    def nested() -> bytes:
        what = random.choice((b"[", b'{"a":', b'{"inputs":['))
        return request(what * random.choice((10, 1000, 20_000)))

    def large() -> bytes:
        shape = [random.choice((0, 1, 1 << 31, (1 << 63) - 1)) for _ in range(random.randrange(6))]
        return infer({"inputs": [row("images", "FP32", shape, 8)]}, bytes(8))

    def bomb() -> bytes:
        return request(
            gzip.compress(bytes(random.choice((1000, 1 << 20)))), "content-encoding: gzip"
        )

    def elsewhere() -> bytes:
        word = "".join(random.choice("abc/%2e.0~\\v") for _ in range(random.randrange(40)))
        method = random.choice(("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"))
        return request(b"", path=f"/v2/{word}", method=method)

    def chunks() -> bytes:
        size = random.choice(("5", "0", "ffffffffffffffff", "-1", "g", "5;x=y"))
        return request(f"{size}\r\n".encode() + b"12345\r\n0\r\n\r\n", "transfer-encoding: chunked")

    kinds: list[Callable[[], bytes]] = [
        *(damaged_body, damaged_body, damaged_body, damaged_head, damaged_head),
        *(nested, large, bomb, elsewhere, chunks),
        lambda: random.randbytes(random.randrange(1, 300)),
        lambda: random.choice(goods)[: random.randrange(1, 200)],
        lambda: damaged(random.choice(goods), random),
    ]
    return random.choice(kinds)()


STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def what_is_wrong(answer: bytes) -> str | None:
    """What a server has done wrong that answered so: nothing is right, where no request was whole.

    An answer is good, or of an error of the client's, or says that the server is busy.
    """
    for status in STATUS.findall(answer):
        code = int(status)
        if code not in (100, 200, 503) and not 400 <= code < 500:
            return f"status {code}"
    if answer and not STATUS.match(answer):
        return f"no HTTP: {answer[:80]!r}"
    return None
