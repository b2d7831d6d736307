"""A few thousand damaged files for every reader, and the judge of it judged."""

import itertools
import re
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.onnx import file as onnx_file
from convert.formats.onnx.tensors import find_beside
from convert.formats.pth import file as pth
from convert.formats.weight_file import WeightFile
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_ENTRIES
from pvt_spec.files.wire import FIRST, SECOND, encode_field, encode_header
from tests.support.fuzzing import (
    damage_json,
    damage_messages,
    damage_pickles,
    damage_zips,
    fuzz as fuzzing,
    references,
    seeds,
)
from tests.support.fuzzing.fuzz import READERS, Failure, Judge, run
from tests.support.fuzzing.inputs import Input
from tests.support.messages import naming

COUNT = 250
"""Inputs of each format: a second."""

MANY = 4000
"""Inputs of each where there is time for them."""

SEEDS = {
    "ckpt": seeds.ckpt_seeds,
    "pth": seeds.pth_seeds,
    "safetensors": seeds.safetensors_seeds,
    "onnx": seeds.onnx_seeds,
}


@pytest.fixture(autouse=True)
def _keep_here(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "KEPT", tmp_path / "kept")


@pytest.mark.sampled
@pytest.mark.parametrize("count", [COUNT, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("ending", READERS)
def test_every_input_is_an_error_or_a_correct_read(tmp_path, ending, count):
    tally = run(ending, count, 20_240, tmp_path / "files")
    assert tally.inputs >= count
    assert tally.inputs == tally.errors + tally.reads
    # Damage of every sort was done, and reached what is deep in the readers.
    assert len(tally.distinct) > count * 0.6
    assert min(tally.errors, tally.reads) > count * 0.05
    assert tally.compared > count * 0.04
    assert len(tally.damage) >= 10
    assert len(tally.messages) >= min(count // 25, 25)


@pytest.mark.parametrize("ending", READERS)
def test_seeds_are_read_as_what_they_were_made_of(tmp_path, ending):
    judge = Judge(ending, tmp_path)
    for seed in SEEDS[ending]():
        judge.judge(Input(seed.data, seed, ()))
    assert judge.tally.reads == judge.tally.inputs > 4


def test_the_same_seed_makes_the_same_inputs(tmp_path):
    runs = [run("ckpt", 60, seed, tmp_path / str(i)) for i, seed in enumerate((1, 1, 2))]
    assert runs[0].distinct == runs[1].distinct != runs[2].distinct


# What the judge has to see


def broken(ending: str, how: Callable[[Path, WeightFile], WeightFile | None]):
    """A reader that goes wrong where the format's own has read a file."""

    def read(path: Path) -> WeightFile:
        file = READERS[ending](path)
        return how(path, file) or file

    return read


def raise_key_error(path, file):
    raise KeyError("w")


def recurse(path, file):
    return recurse(path, file)


def exit_at_once(path, file):
    raise SystemExit(1)


def loop(path, file):
    while True:
        pass


def loop_and_catch(path, file):
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


def allocate(path, file):
    len(bytearray(200_000_000))


def hide_memory_error(path, file):
    try:
        raise MemoryError
    except MemoryError as error:
        raise ConvertError(f"{path}: damaged") from error


def name_no_file(path, file):
    raise ConvertError("the file is damaged")


def unguarded(text):
    """An error whose message is not made fit to be shown, as ours are."""
    error = ConvertError("")
    error.args = (text,)
    return error


def send_control_characters(path, file):
    raise unguarded(f"{path}: '\x1b[2J' is missing")


def say_too_much(path, file):
    raise unguarded(f"{path}: {'a' * 100_000}")


def refuse(path, file):
    raise ConvertError(f"{path}: no")


def holding(file: WeightFile, tensors: dict[str, Any]) -> WeightFile:
    """The file with other tensors, in the same place."""
    (place,) = file.places
    return replace(file, places={place: tensors})


def changed(change: Callable[[np.ndarray], np.ndarray]):
    def how(path, file):
        name = max(file.tensors, key=lambda name: file.tensors[name].nbytes)
        array = change(file.tensors[name].copy())
        array.flags.writeable = False
        return holding(file, {**file.tensors, name: array})

    return how


def flip_bit(array):
    array.reshape(-1).view(np.uint8)[-1] ^= 1
    return array


def writeable(path, file):
    return holding(file, {name: array.copy() for name, array in file.tensors.items()})


def drop_tensor(path, file):
    return holding(file, dict(itertools.islice(file.tensors.items(), 1, None)))


def read_outside(path, file):
    data = np.frombuffer((path.parent.parent / "outside.bin").read_bytes(), np.uint8)
    return holding(file, {**file.tensors, "outside": data})


def make_far_too_long(path, file):
    array = np.broadcast_to(np.float32(1), (1 << 40,))
    return holding(file, {**file.tensors, "long": array})


def answer_lists(path, file):
    return holding(file, {name: array.tolist() for name, array in file.tensors.items()})


def name_with_surrogate(path, file):
    return replace(file, metadata={"a": "\ud800"})


BROKEN = {
    "KeyError: 'w'": raise_key_error,
    "RecursionError": recurse,
    "SystemExit": exit_at_once,
    "no end within": loop,
    "no end within 0": loop_and_catch,
    "bytes of memory for a file of": allocate,
    "more memory than there is": hide_memory_error,
    "does not start with the file": name_no_file,
    "control characters": send_control_characters,
    "a message of 100": say_too_much,
    "without damage is refused": refuse,
    "has other values than by the seed": changed(flip_bit),
    "by the seed": changed(lambda array: array.reshape(-1)[:-1]),
    "int8.* by the seed": changed(lambda array: array.view(np.int8)),
    "can be written to": writeable,
    "the seed has": drop_tensor,
    "from outside the folder": read_outside,
    "is too long": make_far_too_long,
    "is a list": answer_lists,
    "lone surrogate": name_with_surrogate,
}


@pytest.mark.parametrize("problem", BROKEN)
@pytest.mark.parametrize("ending", ["ckpt", "onnx"])
def test_sees_a_broken_reader(tmp_path, monkeypatch, ending, problem):
    if "no end" in problem:
        monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    seed = SEEDS[ending]()[-1 if ending == "onnx" else 0]
    judge = Judge(ending, tmp_path / "files", broken(ending, BROKEN[problem]))
    with pytest.raises(Failure, match=problem) as caught:
        judge.judge(Input(seed.data, seed, ()))
    kept = re.search(r"kept as (.*)", str(caught.value))[1]
    assert Path(kept).read_bytes() == seed.data
    assert repr(seed.name) in str(caught.value)


@pytest.mark.parametrize("ending", READERS)
def test_references_see_changed_values_of_damaged_files(tmp_path, ending):
    """Without the seed's values to compare with: the file is known as damaged."""
    judge = Judge(ending, tmp_path / "files", broken(ending, changed(flip_bit)))
    seed = SEEDS[ending]()[0]
    with pytest.raises(Failure, match=naming("reference")):
        judge.judge(Input(seed.data, seed, ("harmless",)))


@pytest.mark.parametrize("how", [raise_key_error, changed(flip_bit), allocate])
def test_a_run_ends_at_the_first_failure_and_keeps_its_input(tmp_path, how):
    with pytest.raises(Failure, match="kept as"):
        run("safetensors", COUNT, 0, tmp_path / "files", broken("safetensors", how))
    (kept,) = (tmp_path / "kept").iterdir()
    fuzzing.replay(kept, tmp_path / "again")  # by the reader that is not broken


def test_a_reader_that_takes_what_the_reference_refuses(tmp_path):
    seed = SEEDS["safetensors"]()[-2]
    tensors = WeightFile({"": {"a": np.frombuffer(bytes(24), "f4").reshape(2, 3)}})
    judge = Judge("safetensors", tmp_path, lambda path: tensors)
    with pytest.raises(Failure, match=naming("reference")):
        judge.judge(Input(seed.data[:-1], seed, ("cut",)))


# The damage does what it says


@pytest.mark.parametrize("ending", ["ckpt", "onnx"])
def test_messages_are_written_as_they_were(ending):
    schema = {"ckpt": {1: {2: {}}}, "onnx": {7: {5: {13: {}}}, 14: {}}}[ending]
    for seed in SEEDS[ending]():
        if b"crc_num" not in seed.data:
            fields = damage_messages.parse_message(seed.data, schema)
            assert damage_messages.encode_message(fields) == seed.data


def test_zips_pickles_and_headers_are_written_as_they_were():
    for seed in SEEDS["pth"]():
        if not seed.data.startswith(b"PK"):
            parts = damage_pickles.split_pickles(seed.data, 5)
            assert b"".join(parts) == seed.data
            assert len(parts) == 6
            continue
        records = seeds.records_of(seed.data)
        whole = [damage_zips.Record(n.encode(), d, {}, {}) for n, d in records.items()]
        assert seeds.records_of(damage_zips.Zip(whole, {}).encode()) == records
        program = next(data for name, data in records.items() if name.endswith("data.pkl"))
        assert b"".join(damage_pickles.parse_pickle(program)) == program
    for seed in SEEDS["safetensors"]():
        text = seed.data[8 : 8 + int.from_bytes(seed.data[:8], "little")]
        header = damage_json.parse_json(text)
        assert damage_json.encode_json(header) == text.decode().rstrip()


# What fuzzing found


def read_bytes(tmp_path: Path, ending: str, data: bytes) -> WeightFile:
    path = tmp_path / f"file.{ending}"
    path.write_bytes(data)
    return READERS[ending](path)


def test_two_tensors_in_one_entry_are_refused(tmp_path):
    """protobuf adds the second's dims to the first's."""
    tensor = encode_field(FIRST, b"\x01") + encode_field(SECOND, b"Int8") + b"\x1a\x01x"
    twice = encode_field(FIRST, b"a") + encode_field(SECOND, tensor) * 2
    data = encode_field(FIRST, twice)
    (value,) = references.checkpoint_class().FromString(data).value
    assert list(value.tensor.dims) == [1, 1]
    with pytest.raises(ConvertError, match=naming("parameter")):
        read_bytes(tmp_path, "ckpt", data)


def assert_refused_in_memory(folder, pickle):
    """Holds a refused ``.pth`` of this pickle to the memory that its size allows."""
    path = folder / "file.pth"
    path.write_bytes(seeds.zipped({"archive/data.pkl": pickle}))
    tracemalloc.start()
    with pytest.raises(ConvertError, match=r"file\.pth"):
        pth.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < fuzzing.most_memory(len(pickle))


@pytest.mark.sampled
@pytest.mark.parametrize(
    "program",
    [
        b"]",
        b"}",
        b"(",
        b")\x85",
        b"\x8f",
        b"N\x94",
        b"N",
        b"K\x01",
        b"M\x01\x02",
        b"(l",
        b"2",
        b"h\0",
        b"ca\nb\n",
        b"ca\nb\n)\x81",
        b"(ia\nb\n",
        b"\x82\x01",
        b"}(]NNNu",
    ],
    ids=str,
)
def test_memory_of_a_pickle_is_bounded_by_its_file(tmp_path, program):
    start = b"c__builtin__\nset\nq\0" if program in (b"h\0", b"2") else b""
    data = start + program * (400_000 // len(program))
    assert_refused_in_memory(tmp_path, data)


def test_memory_of_names_that_are_not_known_is_bounded_by_the_file(tmp_path):
    data = b"".join(b"ca\n%d\n" % number for number in range(40_000))
    assert_refused_in_memory(tmp_path, data)


LONG = b"X" + (200_000).to_bytes(4, "little") + b"k" * 200_000 + b"q\x010"
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR"
    b"(K\x01K\x01\x85cnumpy\ndtype\n(Vi1\ntR\x89C\x01xtbq\x020"
)


def nested(levels: int, inner: bytes) -> bytes:
    """A dict in a dict, by the long key each."""
    return b"}h\x01" * levels + inner + b"s" * levels


@pytest.mark.parametrize(
    "inner",
    [
        b"}Va\nh\x02s",
        b"}(Va\nh\x02"
        + b"".join(b"J" + i.to_bytes(4, "little") + b"N" for i in range(20_000))
        + b"u",
        b"](" + b"".join(b"}Va\nh\x02s" for _ in range(900)) + b"e",
        b"](" + b"".join(b"}h\x01h\x02s" for _ in range(5_000)) + b"e",
        b"](" + b"K\x01" * 20_000 + b"}Va\nh\x02se",
    ],
    ids=["one", "beside", "places", "long names", "list"],
)
def test_memory_of_places_is_bounded_by_the_file(tmp_path, inner):
    """Where keys to what lies under them are put together, a short file could make long ones."""
    data = LONG + ARRAY + nested(7, inner) + b"."
    path = tmp_path / "file.pth"
    path.write_bytes(seeds.zipped({"archive/data.pkl": data, "archive/data/0": bytes(600_000)}))
    tracemalloc.start()
    try:
        pth.read(path)
    except ConvertError as error:
        assert str(error).startswith(str(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < fuzzing.most_memory(path.stat().st_size)


def test_names_of_records_are_escaped(tmp_path):
    with pytest.raises(ConvertError, match=naming("'\\x1b[2J'")) as caught:
        read_bytes(tmp_path, "pth", seeds.zipped({"\x1b[2J": b"", "a" * 5000: b""}))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", ["\x1b[2J", "a" * 30_000])
def test_names_of_storages_are_escaped(tmp_path, key):
    identity = f"(Vstorage\nctorch\nFloatStorage\nV{key}\nNK\x01tQ.".encode()
    records = {"archive/data.pkl": identity, f"archive/data/{key}": b""}
    with pytest.raises(ConvertError, match=naming("storage")) as caught:
        read_bytes(tmp_path, "pth", seeds.zipped(records))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("location", ["\x1b[2J", "a" * 30_000, "a\u202eb"])
def test_places_that_no_terminal_shows_are_refused(tmp_path, location):
    with pytest.raises(ConvertError, match=naming("folder")) as caught:
        find_beside(tmp_path, location)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("order", [b"BIG", b"", b"big\n"])
def test_an_unknown_byte_order_is_refused_as_torch_does(tmp_path, order):
    (seed,) = (seed for seed in seeds.pth_seeds() if seed.name == "big-endian")
    records = {**seeds.records_of(seed.data), "archive/byteorder": order}
    with pytest.raises(ConvertError, match=naming("byteorder", "b'little'", "b'big'")):
        read_bytes(tmp_path, "pth", seeds.zipped(records))


def test_long_types_are_cut_in_messages(tmp_path):
    tensor = encode_field(SECOND, b"Float" + b"t" * 5000) + encode_field(3 << 3 | 2, bytes(4))
    data = encode_field(FIRST, encode_field(FIRST, b"a") + encode_field(SECOND, tensor))
    with pytest.raises(ConvertError, match=naming("5005", "500")) as caught:
        read_bytes(tmp_path, "ckpt", data)
    assert len(str(caught.value)) < 600


# --- files of nothing but tiny entries


def tiny_entries(kind: str) -> bytes:
    """Some MB of the smallest entries that a format has: the dearest that a byte can be."""
    numbers = range(100_000, 300_000)
    if kind == "ckpt":
        value = b"\x12\x09\x12\x04Int8\x1a\x01a"
        entries = (b"\x0a\x06%d" % n + value for n in numbers)
        return b"".join(b"\x0a" + bytes([len(entry)]) + entry for entry in entries)
    if kind == "onnx":
        tensors = b"".join(b"\x2a\x08\x42\x06%d" % n for n in numbers)
        return b"\x3a" + encode_header(0, len(tensors))[1:] + tensors
    header = {
        "metadata": '{"__metadata__":{' + ",".join(f'"{n}":""' for n in numbers) + "}}",
        "objects": "{" + ",".join(f'"{n}":{{}}' for n in numbers) + "}",
        "lists": '{"a":[' + "[],[[]],0," * 200_000 + "0]}",
    }[kind].encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["ckpt", "onnx", "metadata", "objects", "lists"])
def test_tiny_entries_take_no_more_than_a_few_times_the_file(kind, tmp_path):
    path = tmp_path / "hostile"
    path.write_bytes(tiny_entries(kind))
    read = {"ckpt": ckpt.read, "onnx": onnx_file.read}.get(kind, safetensors_file.read)
    tracemalloc.start()
    with pytest.raises(ConvertError, match=f"{MAX_ENTRIES}"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * path.stat().st_size
