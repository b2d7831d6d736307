"""``convert.formats.safetensors`` against the reference, MindSpore, and files that mean harm."""

import json
from functools import partial

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from convert.formats import safetensors as safetensors_file
from pvt_spec.errors import ConvertError
from tests.support import formats
from tests.support.formats import sample
from tests.support.messages import naming
from tests.support.models import GOLDEN, assert_cost_grows_with_the_file, assert_same
from tests.support.runtimes import import_mindspore

read_bytes = partial(formats.read_bytes, "safetensors")
written = partial(formats.written, "safetensors")

FORMAT = GOLDEN / "ckpt_format"
OTHERS = [GOLDEN / "timm_v2_linear_small" / "weights.safetensors"]

MINDSPORE_READS = sorted(
    key for key in safetensors_file.DTYPES if key != "C64" and not key.startswith("F8")
)


def framed(header: bytes, values: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + values


def file_of(values: bytes, **entries) -> bytes:
    return framed(json.dumps(entries).encode(), values)


def entry(dtype="F32", shape=(1,), data_offsets=(0, 4), **others) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **others}


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype.name == expected.dtype.name
    assert found.tobytes() == expected.tobytes()


# What others wrote


def test_reads_what_mindspore_wrote():
    file = safetensors_file.read(FORMAT / "plain.safetensors")
    assert file.metadata == {"format": "ms"}
    with np.load(FORMAT / "values.npz") as values:
        for name in (key for key in values if key != "bf16_as_f32"):
            assert_same_bits(file.tensors[name], values[name])
        assert file.tensors["bf16"].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(
            file.tensors["bf16"].astype(np.float32), values["bf16_as_f32"]
        )


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.parent.name)
def test_reads_what_the_reference_reads(path):
    expected = safetensors.numpy.load_file(path)
    found = safetensors_file.read(path)
    assert found.tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert_same_bits(found.tensors[name], array)
    with safetensors.safe_open(path, "np") as judge:
        assert found.metadata == (judge.metadata() or {})


@pytest.mark.parametrize(
    "path", [FORMAT / "plain.safetensors", *OTHERS], ids=lambda p: p.parent.name
)
def test_writes_what_it_read(path):
    file = safetensors_file.read(path)
    assert written(file.tensors, file.metadata) == path.read_bytes()


# Byte for byte


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (200,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", safetensors_file.DTYPES)
def test_writes_what_the_reference_writes(name, shape):
    tensors = {"block1.0.norm1.gamma": sample(safetensors_file.DTYPES[name], shape)}
    for metadata in (None, {"format": "pt"}, {"note": '"héllo"\n\t\x01\x7f\u2028😀\\/'}):
        assert written(tensors, metadata) == safetensors.numpy.save(tensors, metadata)


def test_writes_what_torch_and_the_reference_write():
    import torch
    from safetensors.torch import save

    tensors = {name: sample(np.dtype("f4"), (3, size)) for name, size in (("a", 2), ("é\x01", 5))}
    theirs = save({name: torch.from_numpy(array) for name, array in tensors.items()})
    assert written(tensors) == theirs


def test_every_dtype_in_the_references_order():
    dtypes = safetensors_file.DTYPES.values()
    tensors = {dtype.name: sample(dtype, (3,)) for dtype in reversed([*dtypes])}
    assert written(tensors) == safetensors.numpy.save(tensors)


def test_aligns_every_tensor(tmp_path):
    tensors = {
        name: sample(np.dtype(dtype), (3,))
        for name, dtype in (("a", "f2"), ("b", "f4"), ("c", "i1"), ("d", "f8"), ("e", "f4"))
    }
    data = written(tensors)
    found = read_bytes(data).tensors
    assert list(found) == ["d", "b", "e", "a", "c"]  # by width, otherwise as they came
    assert all(array.flags.aligned for array in found.values())
    assert_same({name: found[name] for name in tensors}, tensors)
    assert written(found) == data


def test_without_tensors():
    assert written({}) == safetensors.numpy.save({})
    file = read_bytes(written({}, {"a": "b"}))
    assert (file.tensors, file.metadata) == ({}, {"a": "b"})


# MindSpore, both ways


def test_mindspore_loads_what_we_write(tmp_path):
    mindspore = import_mindspore()
    dtypes = {name: safetensors_file.DTYPES[name] for name in MINDSPORE_READS}
    tensors = {f"{key}.{shape}": sample(d, shape) for key, d in dtypes.items() for shape in SHAPES}
    path = tmp_path / "a.safetensors"
    path.write_bytes(written(tensors, {"format": "ms", "pvt_model_info": '{"é": 1}'}))
    theirs = mindspore.load_checkpoint(str(path), format="safetensors")
    assert theirs.keys() == tensors.keys()
    for name, array in tensors.items():
        assert_same_bits(theirs[name].asnumpy(), array)


SHAPES = ((), (1,), (3,), (2, 3))


def test_reads_what_mindspore_writes(tmp_path):
    mindspore = import_mindspore()
    tensors = {name: sample(safetensors_file.DTYPES[name]) for name in MINDSPORE_READS}
    parameters = [{"name": n, "data": mindspore.Tensor(a)} for n, a in tensors.items()]
    path = tmp_path / "a.safetensors"
    appended = {"epoch_num": 3, "lr": 0.5, "flag": True}
    mindspore.save_checkpoint(parameters, str(path), format="safetensors", append_dict=appended)
    file = safetensors_file.read(path)
    assert file.metadata == {"format": "ms"}
    for name, array in tensors.items():
        assert_same_bits(file.tensors[name], array)
    assert {name: file.tensors[name].item() for name in appended} == appended
    assert {file.tensors[name].shape for name in appended} == {()}
    assert written(file.tensors, file.metadata) == path.read_bytes()


def test_names_packed_values_of_mindspore(tmp_path):
    mindspore = import_mindspore()
    tensor = mindspore.Tensor(np.ones((2, 4), np.int8), dtype=mindspore.qint4x2)
    path = tmp_path / "a.safetensors"
    parameters = [{"name": "q", "data": tensor}]
    mindspore.save_checkpoint(parameters, str(path), format="safetensors")
    with pytest.raises(ConvertError, match=naming("a.safetensors", "'q'", "'Int4'")):
        safetensors_file.read(path)


# What is no .safetensors


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (b"\x80\x02}q\x00.", ("safetensors", "byte 8")),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ("LFS",)),
    ],
)
def test_refuses_other_contents(data, facts):
    with pytest.raises(ConvertError, match=naming(*facts)):
        read_bytes(data)


# What is damaged or means harm


TWICE = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":1}'
FOUR = bytes(4)


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (
            (1 << 63).to_bytes(8, "little") + b"{}",
            ("9223372036854775808",),
        ),
        ((3).to_bytes(8, "little") + b"{}", ("3", "2")),
        (framed(b"{"), ("JSON",)),
        (framed(b'{"a'), ("JSON",)),
        (framed(b"{} x"), ("JSON",)),
        (framed(b'{"\xff": 1}'), ("UTF-8",)),
        (framed(b'{"\\ud800": 1}'), ("surrogate",)),
        (framed(TWICE, b"x"), ("'a'",)),
        (framed(b'{"__metadata__":{"k":"a","k":"b"}}'), ("'k'",)),
        (framed(b'{"a":{"dtype":"F32","dtype":"F32"}}'), ("'dtype'",)),
        (framed(b'{"a":' + b"[" * 100_000), ("nested",)),
        (framed(b'{"a":' + b'{"a":' * 100_000), ("nested",)),
        (framed(b'{"a":' + b"1" * 5000 + b"}"), ("JSON",)),
        (framed(b'{"a":NaN}'), ("NaN", "JSON")),
        (framed(b'{"a":-Infinity}'), ("JSON",)),
        (file_of(b"", a=1), ("'a'", "1", "data_offsets")),
        (file_of(b"", a={"dtype": "F32"}), ("data_offsets",)),
        (file_of(FOUR, a=entry(stride=[1])), ("data_offsets",)),
        (file_of(FOUR, a=entry(dtype="F4")), ("'a'", "'F4'", "BOOL", "U8")),
        (file_of(FOUR, a=entry(dtype=["F32"])), ("dtype",)),
        (file_of(FOUR, a=entry(shape=1)), ("1", "counts")),
        (file_of(FOUR, a=entry(shape=[1.0])), ("shape",)),
        (file_of(FOUR, a=entry(shape=[True])), ("shape",)),
        (file_of(FOUR, a=entry(shape=[-1, -1])), ("shape",)),
        (file_of(FOUR, a=entry(shape=[1 << 63, 0])), ("64", "JSON")),
        (file_of(FOUR, a=entry(shape=[1 << 62, 1 << 62])), ("4", 1 << 126)),
        (file_of(FOUR, a=entry(shape=[2])), ("'a'", "4", "8", "F32", "2")),
        (file_of(FOUR, a=entry(shape=[1] * 65)), ("shape", "32")),
        (file_of(b"", a=entry(shape=[0, 1 << 62], data_offsets=[0, 0])), ("array",)),
        (file_of(FOUR, a=entry(data_offsets=[4, 0])), ("data_offsets",)),
        (file_of(FOUR, a=entry(data_offsets=[-4, 0])), ("data_offsets",)),
        (file_of(FOUR, a=entry(data_offsets=[0, 4, 8])), ("data_offsets",)),
        (file_of(FOUR, a=entry(data_offsets=[0.0, 4.0])), ("data_offsets",)),
        (file_of(FOUR, a=entry(data_offsets=[False, 4])), ("data_offsets",)),
        (file_of(FOUR, a=entry(data_offsets="04")), ("data_offsets",)),
        (file_of(FOUR, a=entry(data_offsets=[4, 8])), ("'a'", "4", "0")),
        (file_of(FOUR, a=entry(), b=entry()), ("'b'", "0", "4")),
        (file_of(bytes(12), a=entry(), b=entry(data_offsets=[8, 12])), ("'b'", "8")),
        (file_of(bytes(5), a=entry()), ("5", "4")),
        (file_of(b"", a=entry()), ("0", "4")),
        (file_of(b"", a=entry(data_offsets=[1 << 62, (1 << 62) + 4])), ("0", 1 << 62)),
        (file_of(b"\x02", a=entry("BOOL", [1], [0, 1])), ("BOOL", "0", "1")),
        (file_of(b"", __metadata__=None), ("__metadata__",)),
        (file_of(b"", __metadata__=["a"]), ("__metadata__", "'a'")),
        (file_of(b"", __metadata__={"a": 1}), ("__metadata__", "'a'", "1")),
        (file_of(b"", __metadata__={"a": "\ud800"}), ("text",)),
        (file_of(FOUR, a=entry(), __metadata__={"a": "Int4"}), ("'a'", "'Int4'", "MindSpore")),
    ],
)
def test_refuses_harm(data, facts):
    with pytest.raises(ConvertError, match=naming(*facts)) as caught:
        read_bytes(data)
    assert "file.safetensors: " in str(caught.value)


def test_refuses_headers_over_the_references_limit(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as stream:  # a hole of 200 MB
        stream.write((100_000_001).to_bytes(8, "little") + b"{")
        stream.truncate(200_000_000)
    with pytest.raises(ConvertError, match=naming("100000001", "100000000")):
        safetensors_file.read(path)


def test_header_and_bytes_may_have_different_orders():
    data = file_of(b"abcd", b=entry("U8", [1], [3, 4]), a=entry("U8", [3], [0, 3]))
    found = read_bytes(data).tensors
    assert {name: array.tobytes() for name, array in found.items()} == {"b": b"d", "a": b"abc"}
    assert list(found) == ["b", "a"]


@pytest.mark.parametrize(
    "data",
    [
        file_of(bytes(5000), **{str(i): entry("U8", [1], [i, i + 1]) for i in range(5000)}),
        framed(b'{"a":0,' + b",".join(b'"%d":0' % i for i in range(50_000)) + b',"a":0}'),
        file_of(FOUR, a=entry(shape=[1] * 400_000)),
        framed(b'{"a":' + b"[" * 2_000_000),
        file_of(FOUR, **{"a" * 1_000_000: entry()}),
    ],
    ids=["many", "twice at the end", "dims", "nested", "long name"],
)
def test_time_and_memory_grow_with_the_file(data):
    assert_cost_grows_with_the_file(read_bytes, data)


# What cannot be written


def test_refuses_to_write_headers_over_the_limit(monkeypatch):
    monkeypatch.setattr(safetensors_file, "MAX_TEXT_BYTES", 100)
    with pytest.raises(ConvertError, match=naming("100")):
        written({}, {"a": "x" * 100})


def test_a_shape_of_more_dims_than_any_array_is_refused():
    """Of a product of so many digits, Python would not even write them."""
    with pytest.raises(ConvertError, match=naming("shape", "32")):
        read_bytes(file_of(bytes(4), a=entry(shape=[1 << 62] * 300)))
