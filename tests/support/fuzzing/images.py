"""Hostile images: of every format that Pillow knows, under every ending, for all decoders."""

import io
import time
import warnings
import zlib
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from pvt_data.command_line import Commands
from pvt_data.sources.listing import FORMATS, SUFFIXES
from pvt_spec.files.limits import MAX_PIXELS
from tests.support.fuzzing.commands import Program
from tests.support.fuzzing.damage_bytes import (
    HOSTILE,
    Draw,
    chosen,
    damaged_bytes,
    index,
    overwrite_number,
    several,
)
from tests.support.fuzzing.inputs import NOISE, Input
from tests.support.fuzzing.seeds import Seed

MODEL = "model.onnx"
PIXEL = 8
"""Bytes that decoding may take for each pixel."""

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": (
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"keep_rgb": True},
        {"dpi": (9, 9)},
    ),
    "PNG": ({"compress_level": 0}, {"bits": 1}),
    "TIFF": tuple(
        {"compression": name}
        for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4", "zstd", "webp")
    ),
    "WEBP": ({"lossless": True}, {"quality": 1}),
}
"""Format -> other ways of writing it."""

ALWAYS = {"PDF": {"creationDate": time.gmtime(0), "modDate": time.gmtime(0)}}
"""Format -> what it is always written with: the same bytes each time."""

OTHERS = {
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x08" * 2 + b"\0\x08\0\3" + bytes(200),
    "FLI": bytes(4) + b"\x11\xaf\1\0\x08\0\x08\0\x08\0\3\0" + bytes(200),
    "PCD": bytes(2048) + b"PCD_" + bytes(3000),
    "FITS": b"SIMPLE  =                    T".ljust(2880) + bytes(100),
    "XPM": b'/* XPM */\nstatic char*x[]={"2 2 1 1","a c #fff","aa","aa"};',
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(100),
    "CUR": b"\0\0\2\0\1\0" + bytes(100),
    "DCX": b"\xb1\x68\xde\x3a" + bytes(100),
    "GBR": b"\0\0\0\x1c\0\0\0\2" + bytes(100),
    "MPEG": b"\0\0\1\xb3\x10\x01\x00" + bytes(50),
    "plain PPM": b"P3\n# a\n3 2\n255\n" + b"1 2 3 " * 6,
    "plain PBM": b"P1 9 2 101010101010101010",
    "PFM": b"Pf\n3 2\n-1.0\n" + bytes(24),
    "run length": b"BM" + bytes(8) + b"\x36\4\0\0(\0\0\0\x08\0\0\0\x08\0\0\0\1\0\x08\0\1\0\0\0"
    + bytes(1064) + b"\x08\1\0\2\3\3\0\0\0\1",
}  # fmt: skip


@cache
def image_seeds() -> list[Seed]:
    """An image in every format, mode and way that Pillow writes, and starts of the others."""
    Image.init()
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (5, 7, 4), np.uint8), np.ones((4, 4, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a"
    found = []
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "L", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F", "YCbCr"):
            for options in ({}, {"exif": exif}, *OPTIONS.get(kind, ())):
                if options.get("compression") == "group4" and mode != "1":
                    continue  # the last Pillow for Python 3.10 ends by SIGSEGV instead of refusing
                stream = io.BytesIO()
                with suppress(Exception):  # what a format does not take
                    image = Image.fromarray(pixels).convert("RGB").convert(mode)
                    image.save(stream, kind, **options, **ALWAYS.get(kind, {}))
                    found.append(Seed(f"{kind} {mode} {[*options]}", stream.getvalue()))
    found += [Seed(name, data) for name, data in OTHERS.items()]
    return found


def _chunks(draw: Draw, data: bytes) -> bytes:
    """A PNG whose chunks are damaged, and their sums right."""
    at, chunks = 8, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + size])))
        at += 12 + size
    for _ in range(several(draw, 1, 2)):
        chunks = chunks or [(b"IEND", bytearray())]
        number = index(draw, len(chunks))
        kind, body = chunks[number]
        way = chosen(draw, ("number", "bytes", "kind", "again", "drop", "text", "ahead"))
        if way == "number" and len(body) > 8:
            overwrite_number(draw, body)
        elif way == "bytes":
            chunks[number] = kind, bytearray(damaged_bytes(draw, bytes(body)))
        elif way == "kind":
            kinds = (
                b"tRNS",
                b"gAMA",
                b"iCCP",
                b"eXIf",
                b"pHYs",
                b"acTL",
                b"fcTL",
                b"fdAT",
                b"PLTE",
            )
            chunks[number] = chosen(draw, kinds), body
        elif way == "text":
            text = chosen(draw, (b"zTXta\0\0", b"iTXta\0\1\0\0\0"))
            packed = zlib.compress(bytes(chosen(draw, (10, 1 << 16, 1 << 20))))
            chunks[1:1] = [(text[:4], bytearray(text[4:] + packed))] * chosen(draw, (1, 10, 100))
        elif way == "ahead":
            chunks.insert(index(draw, len(chunks)), (kind, body))
        else:
            chunks[number : number + 1] = [(kind, body)] * (2 if way == "again" else 0)
    encoded = data[:8]
    for kind, body in chunks:
        total = zlib.crc32(kind + body)
        encoded += len(body).to_bytes(4, "big") + kind + body + total.to_bytes(4, "big")
    return encoded


def _number(draw: Draw, data: bytes) -> bytes:
    """A number near one of the ends, where most formats have what says how large things are."""
    changed = bytearray(data)
    at = index(draw, min(len(data), 200))
    at = chosen(draw, (at, len(data) - at - 1))
    width = chosen(draw, (1, 2, 4))
    number = chosen(draw, (*HOSTILE, 100, 5000, 20_000)) % (1 << 8 * width)
    changed[at : at + width] = number.to_bytes(width, chosen(draw, ("little", "big")))
    return bytes(changed)


@st.composite
def image_files(draw: Draw) -> Input:
    """Images that are damaged by their format's grammar, in their numbers and in their bytes."""
    if chosen(draw, range(32)) == 31:
        start = chosen(draw, image_seeds()).data[:12]
        return Input(start + draw(st.binary(max_size=200)), NOISE, ("noise",))
    ours = [seed for seed in image_seeds() if seed.name.startswith((*FORMATS.values(), "P", "run"))]
    seed = chosen(draw, ours if chosen(draw, range(5)) else image_seeds())
    data, done = seed.data, []
    for _ in range(several(draw, 0, 3)):
        ways = ("number", "number", "bytes", *["chunks"] * 2 * data.startswith(b"\x89PNG"))
        way = chosen(draw, ways)
        if way == "chunks":
            data = _chunks(draw, data)
        else:
            data = (_number if way == "number" else damaged_bytes)(draw, data)
        done.append(way)
    return Input(data, seed, tuple(done))


def allowance(data: bytes) -> int:
    """The bytes of memory that an image may take: by its pixels, if it has so many."""
    pixels = 0
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=[*FORMATS.values()]) as image:
            pixels = image.width * image.height
    return 10 * len(data) + PIXEL * (pixels if pixels <= MAX_PIXELS else 0)


decoders = Commands("decoders")
"""All that decodes an image, without a model."""


@decoders.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("rule")
def decode(path: Path, rule: str) -> None:
    from pvt_data.images.preprocessing import load_image
    from pvt_data.sources.folders import ClassFolders, count_sideways
    from pvt_spec import ImageError, Preprocessing
    from pvt_train.input.augmentation import crop_box
    from pvt_train.input.decoding import decode_crop

    encoded, failed = path.read_bytes(), []
    choose = partial(crop_box, scale=(0.08, 1.0), ratio=(0.75, 4 / 3), rng=np.random.default_rng(0))
    channels = 1 if rule == "squash" else 3
    preprocessing = Preprocessing((32, 32), 0.9, (0.5,) * channels, (0.5,) * channels, resize=rule)
    for read in (
        lambda: load_image(path, preprocessing),
        lambda: decode_crop(
            encoded, str(path), choose, (32, 32), channels, Image.Resampling.BICUBIC
        ),
    ):
        try:
            read()
        except ImageError as error:
            failed.append(error)
    count_sideways(ClassFolders(path.parent.parent), 1)
    if failed:
        raise failed[0]


def _place(path: Path, folder: Path, suffix: str) -> Path:
    """Puts an image under an ending, the only one of its class."""
    place = folder / "classes" / suffix[1:] / "ant" / f"x{suffix}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(path.read_bytes())
    return place


def _decode(suffix: str, rule: str, path: Path, folder: Path) -> tuple[Any, list[object]]:
    return decoders, ["decode", _place(path, folder, suffix), rule]


def _predict(suffix: str, path: Path, folder: Path) -> tuple[Any, list[object]]:
    from pvt_onnx.command_line import main

    return main, ["predict", folder / MODEL, _place(path, folder, suffix), "--json"]


def _validate(suffix: str, path: Path, folder: Path) -> tuple[Any, list[object]]:
    from pvt_onnx.command_line import main

    classes = _place(path, folder, suffix).parent.parent
    return main, ["validate", folder / MODEL, "--data-dir", classes, "--json"]


def write_model(folder: Path) -> None:
    """Writes a small model of two classes."""
    from convert import save_model
    from pvt_spec import make_config
    from tests.support.models import info_of, random_weights

    config = make_config("pvt_nano", num_classes=2)
    info = info_of(config, "official", "ant", "hostile")
    save_model(folder / MODEL, random_weights(config), info)


def _prepare(folder: Path) -> None:
    write_model(folder)
    (folder / "classes").mkdir()


RULES = ("cover", "shortest", "squash", "cover_nearest", "inside")

IMAGES = Program(
    "hostile.image",
    _prepare,
    image_files,
    (
        *(partial(_decode, suffix, rule) for suffix in SUFFIXES for rule in RULES),
        *(partial(_predict, suffix) for suffix in SUFFIXES[:2]),
        *(partial(_validate, suffix) for suffix in SUFFIXES[2:4]),
    ),
    allowance,
)
"""Hostile images, for all that decodes them and for ``predict`` and ``validate``."""
