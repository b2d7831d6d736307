"""Bundles that are damaged or lie: one clear error, and no more time and memory than they have."""

import io
import json
import os
import time
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.bundles.arrays import MAX_GROWTH, SMALL
from parity.bundles.bundle import Bundle
from parity.command_line import main
from parity.errors import ParityError
from parity.measure.envelope import Envelope, Spread
from tests.support.commands import invoke, refusal
from tests.support.fuzzing import bundles, fuzz
from tests.support.fuzzing.bundles import BUNDLES
from tests.support.fuzzing.commands import ROOM
from tests.support.fuzzing.seeds import records_of, zipped
from tests.support.messages import naming, tells

COUNT, MANY = 200, 3000


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its bundle and its reference's."""
    folder = tmp_path_factory.mktemp("good")
    for name, data in bundles.good_files().items():
        (folder / name).write_bytes(data)
    return folder


def with_description(path: Path, **changes: Any) -> bytes:
    records = records_of(path.read_bytes())
    described = {**json.loads(records["bundle.json"]), **changes}
    return zipped({**records, "bundle.json": json.dumps(described).encode()})


@pytest.mark.long
@pytest.mark.parametrize("count", [COUNT, pytest.param(MANY, marks=pytest.mark.long)])
def test_every_hostile_bundle_is_an_answer_or_one_error(count, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    ends = replace(BUNDLES, commands=bundles.COMPARING).run(count, 1, tmp_path / "files")
    # Entries are all of one date, which made as many more of them differ.
    assert ends.inputs >= count and len(ends.distinct) > count * 0.55
    assert ends.codes[1] > count * 0.5 and ends.codes[0] + ends.codes[1] == ends.inputs
    assert len(ends.damage) > 10 and len(ends.messages) > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": 5},
        {"kind": "other"},
        {"info": None},
        {"info": []},
        {"info": {"format": 2}},
        {"image_size": [32, "32"]},
        {"image_size": [10**9, 10**9]},
        {"attributes": ["head.scale"]},
        {"attributes": {"head.scale": {"a": 1}}},
        {"attributes": {"block1.0.norm1.epsilon": "small"}},
        {"attributes": {"block1.0.attn.scale": None}},
        {"attributes": {"block1.0.attn.scale": [1, 2]}},
        {"hashes": {"head.weight": 1}},
        {"facts": {"precision": "fp33"}},
        {"facts": {"precision": ["fp32"]}},
        {"batches": [3]},
        {"batches": [-1, 4]},
        {"batches": [1] * 50_000},
        {"batches": [10**30]},
        {"seen": []},
        {"seen": [{"name": "a", "group": "b"}]},
        {"names": []},
        {"names": ["logits", "logits"]},
        {"names": ["absent"]},
        {"names": [f"n{i}" for i in range(10_000)]},
        {"inputs_kept": "yes"},
        {"envelopes": {"fp32": {"logits": {"noise": [0, 0, 0, 0, 0]}}}},
        {"envelopes": {"fp32": {"logits": {}}}},
        {"envelopes": {"fp32": {"logits": {"noise": [1, 1, "1", 1, 1]}}}},
        {"more": 1},
    ],
    ids=lambda changes: f"{changes!s:.40}",
)
def test_descriptions_that_cannot_be(changes, good, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(with_description(good / bundles.GOOD, **changes))
    assert tells(refusal(main, "compare", good / bundles.GOOD, path), "a.npz")


@pytest.mark.parametrize(
    "text", ["", "[", "nul", "[" * 10_000, '{"a":' * 10_000, "9" * 5000, "[]", "5", "\ud800"]
)
def test_descriptions_that_are_no_objects(text, good, tmp_path):
    records = records_of((good / bundles.GOOD).read_bytes())
    path = tmp_path / "a.npz"
    path.write_bytes(zipped({**records, "bundle.json": text.encode(errors="surrogatepass")}))
    with pytest.raises(ParityError, match=naming("a.npz", "bundle.json")):
        Bundle(path)


def test_one_flipped_bit_of_a_compressed_bundle(good, tmp_path):
    data = bytearray(zipped(records_of((good / bundles.GOOD).read_bytes()), zipfile.ZIP_DEFLATED))
    (place,) = [
        info.header_offset
        for info in zipfile.ZipFile(io.BytesIO(data)).infolist()
        if info.filename == "0/block1.0.attn.npy"
    ]
    path = tmp_path / "a.npz"
    for step in (60, 70, 90, 200):
        changed = bytearray(data)
        changed[place + step] ^= 4
        path.write_bytes(changed)
        assert tells(refusal(main, "compare", good / bundles.GOOD, path), "a.npz")


def plain(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"input": np.zeros((1, 3, 32, 32), np.float32), **arrays})
    return path


@pytest.mark.parametrize(
    "logits",
    [
        np.array(["a"]),
        np.array([b"abc"]),
        np.array([{}], object),
        np.ones((1, 7), bool),
        np.ones((1, 7), np.int64),
        np.ones((1, 7), complex),
        np.ones(1, [("a", "f4")]),
        np.float32(1),
        np.ones((0, 7), np.float32),
        np.ones((1, 0), np.float32),
        np.array(["2020-01-01"], "M8[D]"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_logits_that_are_none(logits, good, tmp_path):
    path = plain(tmp_path / "a.npz", logits=logits)
    said = refusal(main, "check", path, good / bundles.MODEL, "--runtime", "torch")
    assert tells(said, "a.npz", "logits")


@pytest.mark.parametrize("shape", [(1,), (1, 7, 1), (1, 1, 7), (1, 8)])
def test_logits_of_another_shape_are_different(shape, good, tmp_path):
    path = plain(tmp_path / "a.npz", logits=np.ones(shape, np.float32))
    done = invoke(main, "check", path, good / bundles.MODEL, "--runtime", "torch")
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert tells(done.stdout, "shape", "7")


@pytest.mark.long
def test_diagnosis_of_strange_bundles(good, tmp_path):
    """Which looks at more than a verdict does: shapes, and what attributes layers have."""
    for logits in (np.ones((1, 0)), np.ones((1, 7, 1)), np.full((1, 7), np.nan)):
        path = plain(tmp_path / "a.npz", logits=logits.astype(np.float32))
        done = invoke(main, "diagnose", good / bundles.MODEL, path)
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    described = Bundle(good / bundles.GOOD).record.attributes
    strange = {name: "x" for name in described if name.endswith((".gelu", ".stride", ".heads"))}
    path.write_bytes(with_description(good / bundles.GOOD, attributes=strange))
    done = invoke(main, "diagnose", good / bundles.MODEL, path)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output


def test_names_of_arrays_are_fit_for_a_terminal(good, tmp_path):
    arrays = {"\x1b[2J": np.ones(1), **{f"n{i}": np.ones(1) for i in range(200)}}
    path = plain(tmp_path / "a.npz", logits=np.ones((1, 7), np.float32), **arrays)
    done = invoke(main, "check", path, good / bundles.MODEL, "--runtime", "torch")
    assert "\x1b" not in done.output and len(done.stderr) < 2000
    changed = with_description(good / bundles.GOOD, runtime="\x1b[2J", facts={"device": "\x1b"})
    path.write_bytes(changed)
    assert "\x1b" not in invoke(main, "compare", good / bundles.GOOD, path, "-v").output
    changed = with_description(good / bundles.GOOD, runtime="r" * 60_000, facts={"a": "f" * 60_000})
    path.write_bytes(changed)
    done = invoke(main, "compare", good / bundles.GOOD, path)
    assert done.exit_code == 0 and len(done.output) < 5000


def test_pipes_and_folders(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "b.npz").mkdir()
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ParityError, match=naming(name)):
            Bundle(tmp_path / name)


# --- what a hostile file may cost


def npy(shape: str, dtype: str = "<f4", values: bytes = b"", version: int = 1) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + values


BOMBS = {
    "zeros": {"input.npy": npy("(300, 3, 224, 224)", values=bytes(300 * 3 * 224 * 224 * 4))},
    "text": {"bundle.json": b"[" * (90 << 20)},
    "lists": {"bundle.json": b"[[]," * 2_000_000},
    "objects": {"bundle.json": b'{"a":[' + b'{"":0},' * 1_000_000},
    "shape": {"input.npy": npy("(1000000000, 3, 224, 224)")},
    "dtype": {"input.npy": npy("(1, 3, 32, 32)", "<U100000000")},
    "header": {"input.npy": npy("(" + "1, " * 5_000_000 + ")", version=2)},
    "nested header": {"input.npy": npy("(" * 4000)},
}


@pytest.mark.sampled
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", BOMBS)
def test_memory_and_time_are_those_of_the_file(kind, method, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(zipped({**BOMBS[kind], "logits.npy": npy("(300, 7)")}, method))
    tracemalloc.start()
    started = time.perf_counter()
    if kind == "zeros" and method == zipfile.ZIP_STORED:
        Bundle(path)
    else:
        with pytest.raises(ParityError, match=naming("a.npz")):
            Bundle(path)
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + ROOM
    assert seconds < 5


def test_what_is_compressed_a_little_is_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 200, (20, 3, 64, 64)).astype(np.float32)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, input=images, logits=np.ones((20, 7), np.float32))
    assert images.nbytes < MAX_GROWTH * path.stat().st_size + SMALL
    assert Bundle(path).rows(("logits",), 3, 2)["logits"].shape == (2, 7)


def test_many_images_are_read_once(tmp_path, monkeypatch):
    """A plain file has one batch: it is not read again for each of ours."""
    path = plain(
        tmp_path / "a.npz", input=np.ones((64, 3, 32, 32), np.float32), logits=np.ones((64, 7))
    )
    bundle, opened = Bundle(path), []
    monkeypatch.setattr(
        bundle._entries, "array", lambda name: opened.append(name) or np.ones((64, 7))
    )
    for start in range(0, 64, 4):
        bundle.rows(("logits",), start, 4)
    assert opened == ["logits"]


def test_of_many_batches_each_is_looked_at_once(tmp_path):
    """And not all of them for each."""
    count = 5000
    path = plain(tmp_path / "a.npz", input=np.ones((1, 3, 32, 32), np.float32), logits=np.ones(1))
    bundle, read = Bundle(path), []
    bundle.record = replace(bundle.record, batches=(1,) * count, seen=(None,) * count)
    bundle._ends = Ends(range(1, count + 1))
    bundle._read = lambda number, name, size: np.full((size, 1), number)  # type: ignore
    assert bundle.rows(("logits",), 7, 3)["logits"].ravel().tolist() == [7, 8, 9]
    for start in range(count):
        read.append(bundle.rows(("logits",), start, 1)["logits"].item())
    assert read == [*range(count)] and bundle._ends.asked < 20 * count


class Ends(list):
    """Where batches end; counts how often that is asked for."""

    asked = 0

    def __getitem__(self, number):
        self.asked += 1
        return super().__getitem__(number)


def test_a_model_without_these_taps_is_told(good, tmp_path):
    path = tmp_path / "a.npz"
    info = json.loads(records_of((good / bundles.GOOD).read_bytes())["bundle.json"])["info"]
    info["config"]["num_classes"], info["labels"], info["hashes"] = 0, [], {}
    described = {"info": info, "names": ["logits"], "hashes": {}, "attributes": {}}
    path.write_bytes(with_description(good / bundles.GOOD, **described, envelopes={}))
    for options in ((), ("--json",), ("--html", tmp_path / "a.html")):
        assert tells(refusal(main, "compare", path, path, *options), path, "no taps", "logits")


def test_files_with_infinities_still_open(good, tmp_path):
    """What overflowed was written as Infinity and NaN, which JSON has not."""
    envelope = Envelope(["logits"])
    envelope.spreads["logits"]["noise"] = Spread(np.inf, np.nan, 4.0, 8, 0.5)
    kept = envelope.to_dict()
    assert "NaN" not in json.dumps(kept) and "Infinity" not in json.dumps(kept)
    for numbers in (kept["logits"]["noise"], [float("inf"), float("nan"), 4.0, 8, 0.5]):
        path = tmp_path / "a.npz"
        names = [
            *json.loads(records_of((good / bundles.GOOD).read_bytes())["bundle.json"])["names"]
        ]
        spreads = {name: {"noise": numbers} for name in names}
        path.write_bytes(with_description(good / bundles.GOOD, envelopes={"fp32": spreads}))
        unit = Bundle(path).record.envelopes["fp32"].unit("logits", "noise")
        assert unit.overflowed
