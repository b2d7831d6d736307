"""A request's bytes to what they mean, without sockets: JSON, binary tensors, compressed bodies.

Whatever the bytes are, it is a request or a :class:`ProtocolError`, in time and memory in
proportion to them.
"""

import zlib
from collections.abc import Mapping
from typing import Any

from pvt_onnx.serve.protocol.messages import (
    HEADER_LENGTH,
    InferRequest,
    ProtocolError,
    Wanted,
    refused,
)
from pvt_onnx.serve.protocol.tensors import check_kind, get_field, read_tensor, short_text
from pvt_spec.files.json_text import parse_json
from pvt_spec.files.limits import (
    MAX_CLASSES,
    MAX_NAME,
    MAX_REQUEST,
    MAX_REQUEST_ID,
    MAX_REQUEST_TENSORS,
    MAX_REQUEST_VALUES,
)
from pvt_spec.words import show

CONTENT_TYPES = (
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
)
"""What a body may be called, and nothing; the last is what curl calls any. It decides nothing."""

_RAW = f"; an image, or a tensor's bytes, goes alone with the header {HEADER_LENGTH}: 0"
"""What who sends an image as it is has likely left out."""

Body = bytes | memoryview
"""The bytes of a body."""

WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""How a body may be compressed, and what zlib is told of it."""

UNSUPPORTED = {
    **dict.fromkeys(("sequence_id", "sequence_start", "sequence_end"), "models keep no state"),
    "priority": "requests are answered in their order",
    "shared_memory_region": "tensors come in the request",
}
"""Parameters that would change an answer, and why there are none; any other says nothing to us."""


def read_request(
    body: Body, headers: Mapping[str, str], most_bytes: int = MAX_REQUEST
) -> InferRequest:
    """Returns what a request for answers asks.

    Args:
        body: What came after the headers.
        headers: Their values, by their names in lower case.
        most_bytes: How long a body may be when it is no longer compressed.

    Raises:
        ProtocolError: 400: it is none; 413: it is too long; 415: it is in a form that is not read.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind not in CONTENT_TYPES:
        raise ProtocolError(
            415, f"a body of {show(kind)}, expected {CONTENT_TYPES[0]} or {CONTENT_TYPES[1]}{_RAW}"
        )
    body = decompressed(body, headers.get("content-encoding", ""), most_bytes)
    length = _json_length(headers, len(body))
    if length == 0:
        if not body:
            raise refused(f"{HEADER_LENGTH}: 0 says that it has no JSON, and it is empty")
        return InferRequest((), raw=bytes(body))
    try:
        asked = parse_json(bytes(body[:length]), most_values=MAX_REQUEST_VALUES)
    except ValueError as error:
        hint = "" if HEADER_LENGTH in headers else _RAW
        raise refused(f"its JSON cannot be read: {error}{hint}") from None
    return _read(asked, memoryview(body)[length:])


def header_length(headers: Mapping[str, str]) -> int | None:
    """Returns how many bytes of a body its headers say are JSON, if they say so in a number."""
    digits = headers.get(HEADER_LENGTH, "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def decompressed(body: Body, encoding: str, most: int) -> Body:
    """Returns a body as it was before it was compressed.

    Raises:
        ProtocolError: 400: it is damaged; 413: it becomes longer than ``most`` bytes; 415: it is
            compressed in a way that is not read.
    """
    name = encoding.strip().lower()
    if len(body) <= most and name in ("", "identity"):
        return body
    if name in WINDOWS:
        unpack = zlib.decompressobj(WINDOWS[name])
        try:
            body = unpack.decompress(body, most + 1)
        except zlib.error as error:
            raise refused(f"its body cannot be decompressed ({name}: {error})") from None
        if len(body) <= most and (not unpack.eof or unpack.unused_data):
            raise refused(f"its body is not all of one {name}")
    elif name not in ("", "identity"):
        raise ProtocolError(415, f"content-encoding {show(name)}, expected {' or '.join(WINDOWS)}")
    if len(body) > most:
        raise ProtocolError(413, f"a body of over {most:,} bytes, which is the most that is read")
    return body


def _json_length(headers: Mapping[str, str], body: int) -> int:
    """Returns how many bytes of a body are JSON."""
    if HEADER_LENGTH not in headers:
        return body
    length = header_length(headers)
    if length is None or length > body:
        given = show(headers[HEADER_LENGTH])
        raise refused(f"{HEADER_LENGTH} {given}, expected at most the body's {body} bytes")
    return length


def _read(asked: Any, rest: memoryview) -> InferRequest:
    """Returns what a JSON value asks, whose binary tensors are the bytes that follow it."""
    check_kind(asked, dict, "its JSON")
    said = _parameters(asked, "the request")
    inputs = []
    for row in _rows(asked, "inputs"):
        size = get_field(_parameters(row, "an input"), "binary_data_size", int, -1, "an input")
        if size > len(rest):
            raise refused(f"binary_data_size {size}, but {len(rest)} bytes are left of the body")
        inputs.append(read_tensor(row, rest[:size] if size >= 0 else None))
        rest = rest[max(size, 0) :]
    if len(rest):
        raise refused(f"{len(rest)} bytes follow the tensors that it names, expected none")
    if not inputs:
        raise refused("it has no inputs")
    name = get_field(asked, "id", str, "", "the request")
    timeout = get_field(said, "timeout", int, 0, "the request")
    if timeout < 0:
        raise refused(f"timeout {timeout}, expected microseconds")
    return InferRequest(
        tuple(inputs),
        tuple(_wanted(row) for row in _rows(asked, "outputs")),
        short_text(name, MAX_REQUEST_ID, "id"),
        get_field(said, "binary_data_output", bool, False, "the request"),
        timeout or None,
    )


def _rows(asked: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows: list[Any] = get_field(asked, name, list, [], "the request")
    if len(rows) > MAX_REQUEST_TENSORS:
        raise refused(f"{len(rows)} {name}, expected at most {MAX_REQUEST_TENSORS}")
    for row in rows:
        check_kind(row, dict, f"one of its {name}")
    names = [short_text(get_field(row, "name", str, None, name), MAX_NAME, "name") for row in rows]
    if len({*names}) < len(names):
        raise refused(f"{name} {show(names)}, expected each once")
    return rows


def _parameters(row: dict[str, Any], of: str) -> dict[str, Any]:
    said: dict[str, Any] = get_field(row, "parameters", dict, {}, of)
    for name in (each for each in UNSUPPORTED if each in said):
        raise refused(f"parameter {name} of {of}: not supported: {UNSUPPORTED[name]}")
    return said


def _wanted(row: dict[str, Any]) -> Wanted:
    said = _parameters(row, "an output")
    classes = get_field(said, "classification", int, 0, "an output")
    if not 0 <= classes <= MAX_CLASSES:
        raise refused(f"classification {classes}, expected how many classes are wanted")
    return Wanted(row["name"], get_field(said, "binary_data", bool, None, "an output"), classes)
