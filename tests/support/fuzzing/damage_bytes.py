"""Damage to the bytes of any file, and the choices that all damage is made of.

Every function takes hypothesis's ``draw`` and something whole, which it damages.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

POWERS = (7, 8, 15, 16, 24, 31, 32, 40, 53, 62, 63, 64, 70)
HOSTILE = (0, 1, 2, 3, 16, 1000, *(n for p in POWERS for n in ((1 << p) - 1, 1 << p)))
"""Numbers at the edges of what formats and languages count with."""

MOST = 1 << 16
"""Bytes, about, that repetition makes a file grow to."""


@cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.sampled_from(range(count))  # evenly, which integers() is not


def chosen(draw: Draw, options: Sequence[Any]) -> Any:
    return options[index(draw, len(options))]


def index(draw: Draw, count: int) -> int:
    """A place in something of ``count``; 0 where there is none."""
    return int(draw(_below(count if count > 0 else 1)))


def several(draw: Draw, least: int, most: int) -> int:
    return least + index(draw, most - least + 1)


def varint(number: int, padding: int = 0) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    if padding:
        return bytes([*groups, number | 0x80, *[0x80] * (padding - 1), 0])
    return bytes([*groups, number])


def flip(draw: Draw, data: bytearray) -> None:
    for _ in range(several(draw, 1, 8)):
        data[index(draw, len(data))] ^= 1 << index(draw, 8)


def overwrite(draw: Draw, data: bytearray) -> None:
    at, values = index(draw, len(data)), draw(st.binary(min_size=1, max_size=8))
    data[at : at + len(values)] = values[: len(data) - at]


def overwrite_number(draw: Draw, data: bytearray) -> None:
    width, order = chosen(draw, (1, 2, 4, 8)), chosen(draw, ("little", "big"))
    number = chosen(draw, HOSTILE) % (1 << 8 * width)
    at = index(draw, len(data) - width)
    data[at : at + width] = number.to_bytes(width, order)


def insert(draw: Draw, data: bytearray) -> None:
    at = index(draw, len(data) + 1)
    data[at:at] = draw(st.binary(min_size=1, max_size=16))


def insert_varint(draw: Draw, data: bytearray) -> None:
    at = index(draw, len(data))
    data[at : at + index(draw, 3)] = varint(chosen(draw, HOSTILE))


def cut(draw: Draw, data: bytearray) -> None:
    del data[index(draw, len(data)) :]


def cut_start(draw: Draw, data: bytearray) -> None:
    del data[: index(draw, len(data))]


def drop_slice(draw: Draw, data: bytearray) -> None:
    at = index(draw, len(data))
    del data[at : at + several(draw, 1, 64)]


def double_slice(draw: Draw, data: bytearray) -> None:
    at, to = index(draw, len(data)), index(draw, len(data) + 1)
    data[to:to] = data[at : at + several(draw, 1, 64)]


def repeat_slice(draw: Draw, data: bytearray) -> None:
    at = index(draw, len(data))
    piece = data[at : at + several(draw, 1, 16)]
    data[at:at] = piece * min(chosen(draw, (10, 100, 5000)), MOST // len(piece))


def append_itself(draw: Draw, data: bytearray) -> None:
    data += data[index(draw, len(data)) :]


BYTES: dict[str, Callable[[Draw, bytearray], None]] = {
    "flip": flip,
    "overwrite": overwrite,
    "number": overwrite_number,
    "insert": insert,
    "varint": insert_varint,
    "cut": cut,
    "cut start": cut_start,
    "drop slice": drop_slice,
    "double slice": double_slice,
    "repeat slice": repeat_slice,
    "append itself": append_itself,
}


def damaged_bytes(draw: Draw, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    BYTES[chosen(draw, list(BYTES))](draw, changed)
    return bytes(changed)
