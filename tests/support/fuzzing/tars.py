"""Hostile tar files, for all that lists and reads them."""

import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from pvt_data.command_line import Commands
from tests.support.fuzzing.commands import Program
from tests.support.fuzzing.damage_bytes import Draw, chosen, damaged_bytes, index, several
from tests.support.fuzzing.images import MODEL, write_model
from tests.support.fuzzing.inputs import NOISE, Input
from tests.support.fuzzing.seeds import Seed

BLOCK = tarfile.BLOCKSIZE
FIELDS = {
    "name": (0, 100), "mode": (100, 8), "size": (124, 12), "time": (136, 12), "type": (156, 1),
    "link": (157, 100), "magic": (257, 8), "major": (329, 8), "prefix": (345, 155),
}  # fmt: skip
"""Field of a header -> where it begins, and its bytes."""

NUMBERS = (
    b"7" * 12, b"-1\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 9 + b"\xfc\0\0",
    b"\xff" * 10 + b"\xfe\0", b"\x80" + bytes(9) + b"\x02\0", b"0\0", b"1 000\0", b"8\0", b"",
)  # fmt: skip
TYPES = b"0\0" + b"1234567LKSxgXVDNM\xff"
NAMES = (
    b"a.png", b"a.cls", b".a.png", b"../../a.png", b"/etc/passwd.png", b"x/" * 49, b"\x1b[2J.png",
    b"\xff\xfe.png", b"__MACOSX/a.png", b".png", b"a..png", b"", b"a/.cls", b"0.cls",
)  # fmt: skip


@cache
def tar_seeds() -> list[Seed]:
    """Tar files of every kind that Python writes: of a class, of shards, with links and sparse."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    picture, found = stream.getvalue(), []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for shards in (False, True):
            made = io.BytesIO()
            headers = {"comment": "a", "GNU.sparse.map": "0,1"} if shards else None
            pax = headers if form == tarfile.PAX_FORMAT else None
            with tarfile.open(fileobj=made, mode="w", format=form, pax_headers=pax) as tar:
                for number in range(3):
                    long = "x" * 120 + "/" if number == 2 and form != tarfile.USTAR_FORMAT else ""
                    _add(tar, f"{long}{number}.png", picture)
                    if shards:
                        _add(
                            tar, f"{long}{number}.cls", (b"ant", b"hostile", b"0")[number % 2 :][0]
                        )
                _add(tar, "link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
                _add(tar, "sub", b"", type=tarfile.DIRTYPE)
            found.append(Seed(f"format {form}, {shards}", made.getvalue()))
    return found


def _add(tar: tarfile.TarFile, name: str, data: bytes, **facts: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def _header(draw: Draw, data: bytes) -> tuple[bytes, str]:
    """Another value in a header, whose sum is right."""
    changed = bytearray(data)
    starts = [at for at in range(0, len(data), BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    at = chosen(draw, starts or [0])
    field = chosen(draw, [*FIELDS, "size", "size", "type", "type", "name"])
    start, width = FIELDS[field]
    if field == "type":
        value = bytes([chosen(draw, TYPES)])
    elif field in ("name", "link", "prefix", "magic"):
        value = chosen(draw, NAMES)
    else:
        value = chosen(draw, NUMBERS)
    changed[at + start : at + start + width] = value[:width].ljust(width, b"\0")
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + BLOCK])
    return bytes(changed), f"header: {field}"


def _blocks(draw: Draw, data: bytes) -> tuple[bytes, str]:
    """Blocks that are again, left out, or in another place."""
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    at, to = index(draw, len(blocks)), index(draw, len(blocks))
    count = several(draw, 1, 4)
    way = chosen(draw, ("again", "often", "drop", "move", "swap"))
    piece = blocks[at : at + count]
    if way == "swap":
        blocks[at], blocks[to] = blocks[to], blocks[at]
    elif way in ("again", "often"):
        blocks[to:to] = piece * (1 if way == "again" else chosen(draw, (50, 1000)))
    else:
        del blocks[at : at + count]
        if way == "move":
            blocks[to:to] = piece
    return b"".join(blocks), f"blocks: {way}"


@st.composite
def tar_files(draw: Draw) -> Input:
    """Tar files that are damaged in headers, blocks and bytes."""
    if chosen(draw, range(32)) == 31:
        return Input(draw(st.binary(max_size=1500)), NOISE, ("noise",))
    seed = chosen(draw, tar_seeds())
    data, done = seed.data, []
    for _ in range(several(draw, 0, 4)):
        way = chosen(draw, ("header", "header", "header", "blocks", "bytes"))
        if way == "bytes":
            data, how = damaged_bytes(draw, data), "bytes"
        else:
            data, how = (_header if way == "header" else _blocks)(draw, data)
        done.append(how)
    return Input(data, seed, tuple(done))


readers = Commands("readers")
"""All that reads a tar file, without a model."""


@readers.command()
@click.argument("folder", type=click.Path(path_type=Path))
def read(folder: Path) -> None:
    from pvt_data.sources.folders import count_sideways, open_source
    from pvt_spec import ImageError

    source, failed = open_source(folder), []
    count_sideways(source, 100)
    for number in range(len(source)):
        try:
            source.read(number)
        except ImageError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _read(path: Path, folder: Path) -> tuple[Any, list[object]]:
    return readers, ["read", folder]


def _validate(path: Path, folder: Path) -> tuple[Any, list[object]]:
    from pvt_onnx.command_line import main

    return main, ["validate", folder / MODEL, "--data-dir", folder, "--json"]


TARS = Program("hostile.tar", write_model, tar_files, (*[_read] * 9, _validate))
"""Hostile tar files, for all that reads them and for ``validate``."""
