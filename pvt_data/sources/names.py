"""Lists of files on a stream, one after the other as other programs write them."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from pvt_spec.errors import ImageError

_LONGEST = 1 << 16
"""Bytes of the longest name; no system has one of as many."""


def read_names(stream: BinaryIO, null: bool = False) -> Iterator[str]:
    """Yields the names on a stream, each as soon as it is there.

    Args:
        stream: The names, each of which ends in a line's end.
        null: Whether each ends in a zero byte, as of ``find -print0``.

    Raises:
        ImageError: What is there is no list of names.
    """
    for number, name in enumerate(_split(stream) if null else _lines(stream), 1):
        if len(name) >= _LONGEST or b"\0" in name:
            what = "a zero byte" if b"\0" in name else f"over {_LONGEST:,} bytes"
            remedy = "" if null else "; names that end in zero bytes need --null"
            raise ImageError(f"stdin: name {number} has {what}, expected a file's name{remedy}")
        if name:
            yield os.fsdecode(name)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(_LONGEST):
        yield line.removesuffix(b"\n")


def _split(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_LONGEST):
        *names, rest = (rest + chunk).split(b"\0")
        yield from names
        if len(rest) >= _LONGEST:
            break
    yield rest
