"""``convert.formats.pth.file`` against torch itself, its golden files, and files that mean harm."""

import argparse
import collections
import io
import pathlib
import struct
import types
import zipfile
from functools import partial

import numpy as np
import pytest
import torch

from convert.formats.pth import file as pth, zip_records
from convert.formats.pth.tensors import DTYPES
from tests.support import formats
from tests.support.fuzzing.seeds import by_torch as saved, records_of as records, zipped
from tests.support.models import GOLDEN

read_bytes = partial(formats.read_bytes, "pth")
written = partial(formats.written, "pth")

OFFICIAL = sorted(GOLDEN.glob("official_*/*.pth"))


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())


def assert_holds(found: dict, expected: dict) -> None:
    """Arrays of the same names, shapes, dtypes and bytes as torch's tensors."""
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].shape == tuple(tensor.shape), name
        assert found[name].dtype == DTYPES[str(tensor.dtype).removeprefix("torch.")], name
        assert found[name].tobytes() == raw(tensor), name


def torch_sample(name: str, *shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 2, shape).to(getattr(torch, name))


# What torch wrote


@pytest.mark.parametrize("path", OFFICIAL, ids=lambda path: path.parent.name)
def test_reads_golden_files(path):
    loaded = torch.load(path, weights_only=False)
    file = pth.read(path)
    assert_holds(file.tensors, loaded.get("model", loaded))
    if "model" in loaded:
        assert [*file.places] == ["model"]
        assert file.extras == {"epoch": loaded["epoch"], "args": vars(loaded["args"])}


@pytest.mark.parametrize("name", DTYPES)
def test_reads_every_dtype(name):
    tensors = {"a": torch_sample(name, 2, 3), "b": torch_sample(name), "c": torch_sample(name, 0)}
    assert_holds(read_bytes(saved(tensors)).tensors, tensors)


def test_reads_views_of_shared_storages():
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {
        "whole": base,
        "part": base[1:, ::2],
        "turned": base.permute(2, 0, 1),
        "diagonal": base[0].diagonal(),
        "same": base.expand(1, 3, 4, 5),
        "few": base[0, 0, :1].expand(3, 2),
        "none": base[:, 4:],
        "number": base[1, 1, 1],
    }
    assert_holds(read_bytes(saved(tensors)).tensors, tensors)


def test_reads_parameters():
    plain = torch.nn.Parameter(torch.ones(2))
    marked = torch.nn.Parameter(torch.zeros(3))
    marked.is_shared = True
    frozen = torch.nn.Parameter(torch.arange(2), requires_grad=False)
    tensors = {"plain": plain, "marked": marked, "frozen": frozen}
    assert_holds(read_bytes(saved(tensors)).tensors, tensors)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_state_dict_of_module(protocol):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    file = read_bytes(saved(module.state_dict(), pickle_protocol=protocol))
    assert_holds(file.tensors, module.state_dict())
    assert ([*file.places], file.metadata, file.extras) == ([""], {}, {})


def test_reads_storages_without_checksums():
    torch.serialization.set_crc32_options(False)
    try:
        data = saved({"a": torch.arange(4)})
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(read_bytes(data).tensors["a"], [0, 1, 2, 3])


@pytest.mark.parametrize("name", ["float32", "bfloat16", "complex64", "uint16", "bool"])
def test_reads_big_endian(name, tmp_path):
    tensors = {"a": torch_sample(name, 5), "b": torch_sample(name, 2, 3).T}
    parts = records(saved(tensors))
    width = tensors["a"].element_size() // (2 if name == "complex64" else 1)
    for record in ("archive/data/0", "archive/data/1"):
        parts[record] = np.frombuffer(parts[record], f"<u{width}").byteswap().tobytes()
    path = tmp_path / "a.pth"
    path.write_bytes(zipped({**parts, "archive/byteorder": b"big"}))
    if name != "uint16":  # torch 2.13 swaps typed storages only, which uint16 has none of
        assert_holds(pth.read(path).tensors, torch.load(path))
    assert_holds(pth.read(path).tensors, tensors)


# Containers and what is beside the tensors


W = {"head.weight": torch.ones(2)}
EMA = {"head.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("checkpoint", "places", "extras"),
    [
        (W, {"": W}, set()),
        ({**W, "epoch": 3}, {"": W}, {"epoch"}),
        ({"model": W, "optimizer": {"state": {}}}, {"model": W}, {"optimizer"}),
        ({"net": W, "optimizer": {"state": {0: EMA}}}, {"net": W}, {"optimizer"}),
        ({"ema": EMA, "a": {"b": W, "epoch": 1}}, {"ema": EMA, "a.b": W}, {"a.epoch"}),
        ({"state_dict": {**W, "version": 2}}, {"state_dict": W}, {"state_dict.version"}),
        ({"state_dict": {}, "model": W}, {"model": W}, {"state_dict"}),
        ({**W, "net": EMA}, {"": W, "net": EMA}, set()),
        ({**W, 7: "seven"}, {"": W}, {"7"}),
        ([3, W, (EMA,)], {"1": W, "2.0": EMA}, set()),
    ],
)
def test_finds_every_dict_of_tensors(checkpoint, places, extras):
    file = read_bytes(saved(checkpoint))
    assert file.places.keys() == places.keys()
    for keys, held in places.items():
        assert_holds(file.places[keys], held)
    assert set(file.extras) == extras


def test_one_dict_under_two_keys_is_found_once():
    assert [*read_bytes(saved({"a": W, "b": {"c": W}})).places] == ["a"]


def test_looks_no_deeper_than_it_has_to():
    deep: object = W
    for _ in range(100):
        deep = {"a": deep}
    assert [*read_bytes(saved({"model": W, "deep": deep})).places] == ["model"]


def test_keeps_the_other_container_and_texts():
    file = read_bytes(saved({"model": W, "model_ema": EMA, "arch": "pvt_tiny", "epoch": 12}))
    assert [*file.tensors] == ["model.head.weight", "model_ema.head.weight"]
    assert file.metadata == {"arch": "pvt_tiny"}
    assert file.extras == {"epoch": 12}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_harmless_python_as_data(protocol):
    args = {
        "lr": 5e-4,
        "output_dir": pathlib.PurePosixPath("/data/out"),
        "resume": pathlib.PureWindowsPath("C:/a"),
        "betas": (0.9, 0.999),
        "many": list(range(2000)),
        "deep": [[{"a": ({"b": [None, True, False, -1, 1 << 70, "é"]},)}]],
        "seen": {1, 2},
        "frozen": frozenset({"a"}),
        "counts": collections.Counter("aab"),
        "groups": collections.defaultdict(list, x=[1]),
        "ordered": collections.OrderedDict(b=1, a=2),
        "recent": collections.deque([1, 2], maxlen=5),
        "bytes": b"\x00\xff",
        "nothing": b"",
        "buffer": bytearray(b"\x01"),
        "complex": 1 - 2j,
        "device": torch.device("cuda", 1),
        "cpu": torch.device("cpu"),
        "size": torch.Size([2, 3]),
        "nested": types.SimpleNamespace(a=argparse.Namespace(b=1)),
        "float": np.float64(2.5),
        "half": np.float16(0.5),
        "int": np.int64(-3),
        "flag": np.bool_(True),
        "text": np.str_("é"),
        "array": np.arange(6, dtype=">f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    value = {"model": W, "args": argparse.Namespace(**args, dtype=torch.bfloat16, kind=list)}
    # numpy pickles arrays another way from protocol 5 on, which is not among what is read
    if protocol == 5:
        del value["args"].array, value["args"].fortran
    found = read_bytes(saved(value, pickle_protocol=protocol)).extras["args"]
    for name in ("array", "fortran"):
        if (array := found.pop(name, None)) is not None:
            np.testing.assert_array_equal(array, args[name])
        del args[name]
    assert (found.pop("dtype").name, found.pop("kind").name) == ("torch.bfloat16", "builtins.list")
    assert found == {
        **args,
        "output_dir": "/data/out",
        "resume": "C:\\a",
        "recent": [1, 2],
        "device": "cuda:1",
        "cpu": "cpu",
        "size": (2, 3),
        "nested": {"a": {"b": 1}},
    }
    plain = (int, float, str, bytes, complex, bool, dict, list, tuple, set, frozenset)
    assert all(isinstance(item, (*plain, bytearray)) for item in found.values())


# What we write, read by torch


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_what_we_write(tmp_path, mmap):
    expected = {
        f"{name}.{i}": torch_sample(name, *shape)
        for name in DTYPES
        for i, shape in enumerate([(2, 3), (), (0, 2), (300, 1)])
    }
    arrays = {
        name: np.frombuffer(raw(tensor), DTYPES[str(tensor.dtype)[6:]]).reshape(tensor.shape)
        if tensor.numel()
        else np.zeros(tensor.shape, DTYPES[str(tensor.dtype)[6:]])
        for name, tensor in expected.items()
    }
    path = tmp_path / "a.pth"
    path.write_bytes(written(arrays, {"note": "héllo 😀"}))
    loaded = torch.load(path, weights_only=True, mmap=mmap)
    assert list(loaded) == ["state_dict", "note"]
    assert loaded["note"] == "héllo 😀"
    assert type(loaded["state_dict"]) is collections.OrderedDict
    assert list(loaded["state_dict"]) == list(expected)
    for name, tensor in loaded["state_dict"].items():
        assert tensor.dtype == expected[name].dtype
        assert tensor.shape == expected[name].shape
        assert tensor.is_contiguous()
        assert raw(tensor) == raw(expected[name])


@pytest.mark.parametrize("zip64_from", [1 << 30, 0], ids=["zip", "zip64"])
def test_records_are_aligned_and_sound(monkeypatch, zip64_from):
    monkeypatch.setattr(zip_records, "_ZIP64_BYTES", zip64_from)
    data = written({f"layer{i}": np.ones(i, np.int8) for i in range(130)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            assert (info.header_offset + 30 + name + extra) % 64 == 0
    assert len(torch.load(io.BytesIO(data), weights_only=True)["state_dict"]) == 130
    assert len(read_bytes(data).tensors) == 130


@pytest.mark.parametrize("keys", [("a.b", "a"), ("k" * 70 + "1", "k" * 70 + "2")])
def test_dicts_whose_keys_read_alike_are_all_found(keys):
    """What a reader does not show is what other code may take."""
    first, second = keys
    file = read_bytes(saved({first: W, second: {"b": EMA} if second == "a" else EMA}))
    found, other = file.places.values()
    assert_holds(found, W)
    assert_holds(other, EMA)
    assert len(file.tensors) == len(W) + len(EMA)


def test_tensors_whose_names_read_alike_are_all_found():
    file = read_bytes(saved({"a": {"b.head.weight": W["head.weight"], "b": W}}))
    assert len(file.tensors) == 1 + len(W)


def test_a_text_of_numpy_that_is_no_unicode_is_left_unread():
    lone = np.frombuffer(struct.pack("<I", 0xD800), "<U1")[0]
    file = read_bytes(saved({**W, "arch": lone, "name": np.str_("b0")}))
    assert file.metadata == {"name": "b0"}
    (unread,) = file.unread
    assert unread.endswith(".multiarray.scalar")


@pytest.mark.parametrize("kind", ["U3", "S3", "U0", "S0"])
def test_arrays_of_texts_are_no_tensors(kind):
    file = read_bytes(saved({**W, "names": np.zeros(2, kind)}))
    assert file.tensors.keys() == W.keys()
    assert file.unread == ("numpy.ndarray",)
