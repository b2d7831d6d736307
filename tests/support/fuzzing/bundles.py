"""Hostile bundles: for ``parity compare``, ``check`` and ``diagnose``, and for ``--images``."""

import io
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.fuzzing import damage_json, damage_zips, seeds
from tests.support.fuzzing.commands import Command, Program
from tests.support.fuzzing.damage_bytes import HOSTILE, Draw, chosen, damaged_bytes, several
from tests.support.fuzzing.damage_zips import Record, Zip
from tests.support.fuzzing.inputs import NOISE, Input
from tests.support.fuzzing.seeds import Seed

GOOD, JUDGE, MODEL = "good.npz", "reference.npz", "model.pth"


@cache
def write_good(folder: Path) -> None:
    """Writes what commands are given: models, a bundle, and images in folders of classes."""
    from PIL import Image

    from convert import convert_file

    files = good_files()
    for name in (MODEL, GOOD):
        (folder / name).write_bytes(files[name])
    convert_file(folder / MODEL, folder / "model.onnx")
    for place in ("image.png", *(f"val/{name}/a.png" for name in "abcdefg")):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(folder / place)


def good_files() -> dict[str, bytes]:
    """A small model, its bundle in onnxruntime and that of its reference."""
    import tempfile

    from convert import save_model
    from parity.bundles.capture import Shot, capture
    from parity.bundles.record import REFERENCE
    from parity.inputs.samples import Inputs, noise_samples
    from parity.selection import read_models
    from pvt_spec import tap_names
    from tests.support.models import SMALL, info_of, random_weights

    config = replace(SMALL["v2"], image_size=(32, 32), depths=(1, 1, 1, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        save_model(path, random_weights(config), info_of(config))
        (model,) = read_models([path]).values()
        inputs = Inputs(noise_samples(3, 0), (32, 32), batch_size=2)
        shot = Shot(path, model, tuple(tap_names(config)), inputs, "onnxruntime", ["fp32"])
        found = {MODEL: path.read_bytes()}
        for name, runtime in ((GOOD, "onnxruntime"), (JUDGE, REFERENCE)):
            stream = io.BytesIO()
            precisions = ["fp32"] if runtime == REFERENCE else []
            capture(replace(shot, runtime=runtime, precisions=precisions), stream)
            found[name] = stream.getvalue()
    return found


@cache
def bundle_seeds() -> list[Seed]:
    """Bundles of both kinds, plain arrays, and the same compressed."""
    files = good_files()
    arrays = seeds.records_of(files[GOOD])
    plain = {
        name: np.load(io.BytesIO(arrays[f"0/{name}.npy"]))
        for name in ("input", "logits", "block1.0.attn", "features")
    }
    saved, packed = io.BytesIO(), io.BytesIO()
    np.savez(saved, **plain)
    np.savez_compressed(packed, **plain)
    return [
        Seed("bundle", files[GOOD]),
        Seed("reference", files[JUDGE]),
        Seed("compressed", seeds.zipped(arrays, zipfile.ZIP_DEFLATED)),
        Seed("plain", saved.getvalue()),
        Seed("plain, compressed", packed.getvalue()),
    ]


DTYPES = ("<f4", "<f8", "<f2", ">f4", "|O", "<i8", "|b1", "<U9", "<c8", "|V4", "<M8[s]", "f4,f4")
DTYPES += ("<f4'*9**9", "<U1000000000", "|S0", "\\x1b[2J", "<f16", "")
SHAPES = ("(2, 3)", "()", "(0,)", "(2, 0, 1)", "(1000000000000,)", "(-1, 4)", "(2.5,)", "(2L, 3L)")
SHAPES += ("(" + "1, " * 40 + ")", "(" * 3000, f"({1 << 70},)", "2", "None", "(True,)")
SHAPES += ("(1, 3, 32, 32)",)
RANKS = ((2,), (), (2, 7, 1), (1, 2, 7), (2, 0), (0, 7), (7, 2), (2, 3, 4, 5, 6))


def _npy(draw: Draw) -> tuple[bytes, str]:
    """An array that lies about itself, or one of another kind."""
    way = chosen(draw, ("header", "values", "values", "pickle", "rank", "rank", "long header"))
    if way == "pickle":
        stream = io.BytesIO()
        np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
        return stream.getvalue(), "array: pickle"
    if way == "header":
        order = chosen(draw, ("False", "True"))
        dtype, shape = chosen(draw, DTYPES), chosen(draw, SHAPES)
        text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}"
        version = chosen(draw, (1, 1, 2, 3, 4))
        width = 2 if version == 1 else 4
        size = chosen(draw, (len(text), len(text), len(text), *HOSTILE)) % (1 << 8 * width)
        head = b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(width, "little")
        return head + text.encode() + bytes(24), "array: header"
    if way == "long header":
        text = chosen(draw, ("[" * 96_000, "{'a': " * 10_000, "1" * 96_000, "(" * 9000))
        head = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little")
        return head + text.encode(), "array: long header"
    shapes = RANKS if way == "rank" else ((2, 7), (2, 32), (2, 3, 32, 32), (1, 7))
    shape = chosen(draw, shapes)
    value = chosen(draw, (0.0, 1.0, np.nan, np.inf, -1e38, 1e-42))
    with np.errstate(all="ignore"):
        values = np.full(shape, value).astype(chosen(draw, ("f4", "f4", "f8", "f2", "i4", "?")))
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(values) if chosen(draw, (True, False)) else values)
    return stream.getvalue(), f"array: {way}"


def _description(draw: Draw, text: bytes) -> tuple[bytes, str]:
    """Another description: values of the wrong kind, in any place of it."""
    described, done = damage_json.parse_json(text), []
    for _ in range(several(draw, 1, 2)):
        pairs = [pair for pair in _pairs(described) if len(pair) == 2]
        if pairs and chosen(draw, (True, True, False)):
            own = [pair for pair in described if isinstance(pair, list)]
            pair = chosen(draw, [*own, *pairs])
            pair[1:] = [chosen(draw, ODD)]
            done.append("json: odd")
        else:
            done.append(damage_json.damage_json(draw, described))
    try:
        return damage_json.encode_json(described).encode(errors="surrogatepass"), done[0]
    except (TypeError, RecursionError):
        return text, "json: none"


def _pairs(value: Any) -> list[list[Any]]:
    """The pairs of objects, wherever they are."""
    if not isinstance(value, list):
        return []
    own = (
        [pair for pair in value if isinstance(pair, list)]
        if isinstance(value, damage_json.Pairs)
        else []
    )
    return own + [pair for each in value for pair in _pairs(each)]


Pairs, Raw = damage_json.Pairs, damage_json.Raw

ODD: tuple[Any, ...] = (
    *("", "x", 0, -1, 1e300, 2.5, True, None, [], [1], [[1]], [0, 0], [10**9, 10**9], [32, 32.0]),
    *(Pairs(), Pairs([["logits", []]]), Raw("NaN"), Raw("9" * 4400), Raw("[" * 500 + "]" * 500)),
    *(["logits"], ["\x1b[2J"], [1, 1, 1], [-2, 5], ["logits", "logits"]),
    Pairs([["fp32", Pairs([["logits", Pairs([["noise", [0] * 5]])]])]]),
    Pairs([["block1.0.norm1.epsilon", "big"], ["head.gelu", []]]),
)
"""Values that are hardly right anywhere."""


@st.composite
def bundle_files(draw: Draw) -> Input:
    """Bundles and plain files of arrays, damaged in every part."""
    if chosen(draw, range(32)) == 31:
        return Input(b"PK\x03\x04" + draw(st.binary(max_size=200)), NOISE, ("noise",))
    seed = chosen(draw, bundle_seeds())
    data, done = seed.data, []
    way = chosen(draw, ("grammar", "grammar", "grammar", "bytes", "none"))
    if way == "grammar":
        parts = seeds.records_of(seed.data)
        archive = Zip([Record(n.encode(), d, {}, {}) for n, d in parts.items()], {})
        for _ in range(several(draw, 1, 3)):
            part = chosen(draw, ("description", "description", "array", "array", "zip"))
            described = [r for r in archive.records if r.name == b"bundle.json"]
            arrays = [r for r in archive.records if r.name.endswith(b".npy")]
            if part == "description" and described and described[0].data == parts["bundle.json"]:
                described[0].data, how = _description(draw, described[0].data)
            elif part == "array" and arrays:
                target = chosen(draw, arrays)
                target.data, how = _npy(draw)
            else:
                how = damage_zips.damage_zip(draw, archive)
            done.append(how)
        data = archive.encode()
    elif way == "bytes":
        for _ in range(several(draw, 1, 3)):
            data = damaged_bytes(draw, data)
            done.append("bytes")
    return Input(data, seed, tuple(done))


def _compare(first: bool, good: str) -> Command:
    def command(path: Path, folder: Path) -> tuple[Any, list[object]]:
        from parity.command_line import main

        pair = [path, folder / good]
        return main, ["compare", *(pair if first else pair[::-1]), "--json"]

    return command


def _check(path: Path, folder: Path) -> tuple[Any, list[object]]:
    from parity.command_line import main

    return main, ["check", path, folder / MODEL, "--runtime", "onnxruntime"]


COMPARING = (_compare(True, GOOD), _compare(False, GOOD), _compare(False, JUDGE))
RUNNING = (_check,)


def _prepare(folder: Path) -> None:
    for name, data in good_files().items():
        (folder / name).write_bytes(data)


BUNDLES = Program("hostile.npz", _prepare, bundle_files, (*COMPARING * 10, *RUNNING))
"""Hostile bundles for ``parity``."""
