"""``convert.formats.ckpt`` against MindSpore itself, its golden files, and files that mean harm."""

import zipfile
import zlib
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from convert.formats import ckpt
from pvt_spec.errors import ConvertError
from pvt_spec.files.wire import FIRST, NUMBER, SECOND, THIRD, encode_field, encode_header
from tests.support import formats
from tests.support.formats import sample
from tests.support.messages import naming
from tests.support.models import GOLDEN, assert_cost_grows_with_the_file, assert_same
from tests.support.processes import run_python

read_bytes = partial(formats.read_bytes, "ckpt")
written = partial(formats.written, "ckpt")

FORMAT = GOLDEN / "ckpt_format"
MINDCV = sorted(GOLDEN.glob("mindcv_*/*.ckpt"))


def entry(name=b"a", type=b"Float32", dims=(1,), contents=bytes(4)) -> bytes:
    tensor = b"".join(encode_header(NUMBER, dim) for dim in dims)
    tensor += encode_field(SECOND, type) + encode_field(THIRD, contents)
    return encode_field(FIRST, encode_field(FIRST, name) + encode_field(SECOND, tensor))


def save_with_mindspore(path: Path, tensors, **options) -> bytes:
    import mindspore

    parameters = [{"name": n, "data": mindspore.Tensor(a)} for n, a in tensors.items()]
    mindspore.save_checkpoint(parameters, str(path), **options)
    return path.read_bytes()


# What MindSpore wrote


@pytest.mark.parametrize("name", ["plain.ckpt", "crc.ckpt", "appended.ckpt"])
def test_reads_golden_values(name):
    file = ckpt.read(FORMAT / name)
    with np.load(FORMAT / "values.npz") as values:
        expected = {key: values[key] for key in values if key != "bf16_as_f32"}
        assert {key: file.tensors[key].dtype for key in expected} == {
            key: array.dtype for key, array in expected.items()
        }
        for key, array in expected.items():
            np.testing.assert_array_equal(file.tensors[key], array)
        assert file.tensors["bf16"].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(
            file.tensors["bf16"].astype(np.float32), values["bf16_as_f32"]
        )


def test_reads_appended_entries():
    file = ckpt.read(FORMAT / "appended.ckpt")
    assert file.metadata == {"note": "héllo"}
    appended = {name: file.tensors[name] for name in ("epoch_num", "step_num", "lr", "flag")}
    assert {name: (array.shape, array.item()) for name, array in appended.items()} == {
        "epoch_num": ((), 3),
        "step_num": ((), 7),
        "lr": ((), pytest.approx(0.1)),
        "flag": ((), True),
    }


@pytest.mark.parametrize("path", MINDCV, ids=lambda path: path.parent.name)
def test_reads_what_mindspore_reads(path):
    import mindspore

    expected = mindspore.load_checkpoint(str(path))
    assert_same(
        ckpt.read(path).tensors, {name: value.asnumpy() for name, value in expected.items()}
    )


@pytest.mark.parametrize("path", [FORMAT / "plain.ckpt", *MINDCV], ids=lambda p: p.parent.name)
def test_writes_what_it_read_from_mindspore(path):
    assert written(ckpt.read(path).tensors) == path.read_bytes()


# Byte for byte


@pytest.mark.parametrize("shape", [(), (1,), (200,), (2, 3), (1, 1, 300, 1)], ids=str)
@pytest.mark.parametrize("name", ckpt.DTYPES)
def test_writes_what_mindspore_writes(tmp_path, name, shape):
    tensors = {"block1.0.norm1.gamma": sample(ckpt.DTYPES[name], shape)}
    assert written(tensors) == save_with_mindspore(tmp_path / "a.ckpt", tensors)


def test_writes_texts_as_mindspore_appends_them(tmp_path):
    import mindspore

    tensors = {"a": sample(np.dtype("f4"))}
    texts = {"empty": "", "note": "héllo 😀", "long": '{"variant": "pvt_tiny"}' * 99}
    path = tmp_path / "a.ckpt"
    assert written(tensors, texts) == save_with_mindspore(path, tensors, append_dict=texts)
    assert ckpt.read(path).metadata == texts
    assert {name: mindspore.load_checkpoint(str(path))[name] for name in texts} == texts


@pytest.mark.parametrize("size", [256, 257, 512, 700], ids="{} floats".format)
def test_splits_where_mindspore_splits(tmp_path, monkeypatch, size):
    from mindspore.train import serialization

    monkeypatch.setattr(serialization, "SLICE_SIZE", 1)  # KiB, for 512 * 1024
    monkeypatch.setattr(ckpt, "PIECE_BYTES", 1024)
    tensors = {"a": sample(np.dtype("f4"), (size,)), "b": sample(np.dtype("f2"), (2,))}
    path = tmp_path / "a.ckpt"
    assert written(tensors) == save_with_mindspore(path, tensors)
    assert_same(ckpt.read(path).tensors, tensors)


def test_split_size_is_mindspores():
    from mindspore.train import serialization

    assert serialization.SLICE_SIZE * 1024 == ckpt.PIECE_BYTES
    loadable = set(serialization.tensor_to_ms_type) - {"str", "Int4"}
    assert set(ckpt.DTYPES) == loadable


def test_reads_packed_dims_and_several_entries_in_one_message():
    tensor = encode_field(FIRST, b"\x02\x03") + encode_field(SECOND, b"Int8")
    tensor += encode_field(THIRD, bytes(range(6)))
    packed = encode_field(FIRST, encode_field(FIRST, b"p") + encode_field(SECOND, tensor))
    file = read_bytes(packed + entry())
    np.testing.assert_array_equal(file.tensors["p"], [[0, 1, 2], [3, 4, 5]])
    assert list(file.tensors) == ["p", "a"]


READ_AND_MEASURE = """
import re, sys
from pathlib import Path
from convert.formats import ckpt

def peak():  # since this program started; getrusage would count the one that started it, too
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

path = Path(sys.argv[1])
before = peak()
file = ckpt.read(path)
print((peak() - before) / path.stat().st_size)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a program's peak")
def test_joins_pieces_without_the_file_in_memory_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(ckpt, "PIECE_BYTES", 40_000_000)
    values = np.random.default_rng(0).standard_normal(50_000_000, np.float32)  # 200 MB
    data = written({"big": values, "small": values[:1000]})
    path = tmp_path / "a.ckpt"
    path.write_bytes(data + b"crc_num" + zlib.crc32(data).to_bytes(10, "big"))
    assert ckpt.read(path).tensors["big"].tobytes() == values.tobytes()
    assert 0.9 < float(run_python("-c", READ_AND_MEASURE, path).stdout) < 1.3


# What is no .ckpt


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_names_encryption(tmp_path, mode):
    path = tmp_path / "a.ckpt"
    tensors = {"a": np.ones(3, np.float32)}
    save_with_mindspore(path, tensors, enc_key=b"0" * 16, enc_mode=mode)
    with pytest.raises(ConvertError, match=naming(mode, "dec_key")):
        ckpt.read(path)


def test_names_golden_encryption():
    with pytest.raises(ConvertError, match="encrypted"):
        ckpt.read(FORMAT / "encrypted.ckpt")


def test_refuses_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ConvertError, match=naming("PyTorch", ".pth")):
        ckpt.read(tmp_path / "a.ckpt")


def test_refuses_map_parameters():
    from mindspore.train.checkpoint_pb2 import Checkpoint

    message = Checkpoint()
    value = message.value.add()
    value.tag = "embedding"
    tensor = value.maptensor.tensor.add()
    tensor.dims.append(1)
    tensor.tensor_type = "float32"
    tensor.tensor_content = bytes(4)
    with pytest.raises(ConvertError, match=naming("'embedding'")):
        read_bytes(entry() + message.SerializeToString())


def test_refuses_types_that_numpy_has_not(tmp_path):
    import mindspore

    tensor = mindspore.Tensor(np.ones((2, 4), np.int8), dtype=mindspore.qint4x2)
    path = tmp_path / "a.ckpt"
    mindspore.save_checkpoint([{"name": "q", "data": tensor}], str(path))
    with pytest.raises(ConvertError, match=naming("'q'", "'Int4'", "Int8")):
        ckpt.read(path)


# What is damaged or means harm


@pytest.mark.long
def test_every_flipped_bit_fails_the_crc(tmp_path):
    path = tmp_path / "file.ckpt"
    data = bytearray((FORMAT / "crc.ckpt").read_bytes())
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(ConvertError):
            ckpt.read(path)
        data[bit // 8] ^= 1 << bit % 8


HUGE = encode_header(THIRD, 1 << 62)[1:]


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (entry() + entry(b"b") + entry(), ("'a'",)),
        (entry() + entry(), ("'a'", 8, 2, 4)),
        (entry(dims=(2,)) + entry(type=b"Int32", dims=(2,)), ("'a'",)),
        (entry() + entry(type=b"str", dims=(0,)), ("'a'",)),
        (entry(type=b"str") + entry(type=b"str"), ("'a'",)),
        (entry(type=b"str") + entry(b"b") + entry(), ("'a'",)),
        (entry(type=b"str", contents=b"abc"), ("utf-32-le",)),
        (entry(type=b"str", contents=b"\0\xd8\0\0"), ("utf-32-le",)),
        (entry(name=b"\xff"), ("utf-8",)),
        (entry(dims=(2,)), (4, 1, 8, "Float32")),
        (entry(dims=(1 << 62, 1 << 62)), (1 << 126,)),
        (entry(dims=(1 << 63,)), ("shape",)),
        (entry(dims=(1,) * 33), ("shape",)),
        (entry(dims=(0, 1 << 62), contents=b""), ("array",)),
        (entry(dims=(0,), contents=b""), (0, 1, 4)),
        (entry(type=b"Float99"), ("'Float99'",)),
        (entry(type=b"Bool", contents=b"\x02"), ("Bool",)),
        (b"\x0a" + HUGE, (1 << 62, 0)),
        (b"\x0a" + b"\xff" * 20, ("number", 10)),
        (b"\x0a\x80", ("number", 10)),
        (b"\x0a\x00", ("name",)),
        (encode_field(FIRST, encode_field(FIRST, b"a")), ("'a'", "tensor")),
        (encode_field(FIRST, b"\x0a\x01a\x12\x00"), ("'a'", "type")),
        (encode_field(FIRST, b"\x0a\x01a\x15abcd"), (5, "0x15")),
        (entry() + b"crc_num" + bytes(10), ("CRC-32", 0)),
    ],
)
def test_refuses_harm(data, facts):
    with pytest.raises(ConvertError, match=naming(*facts)):
        read_bytes(data)


def test_names_may_be_anything():
    assert list(read_bytes(entry(name=b"\x1b[2J")).tensors) == ["\x1b[2J"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "data",
    [
        b"".join(entry(name=b"%d" % i) for i in range(5_000)),
        b"".join(entry(dims=(5_000,)) for _ in range(5_000)),
        entry(dims=(1,) * 400_000),
        b"\x0a\x00" * 400_000,
        entry(name=b"a" * 1_000_000),
    ],
    ids=["many", "pieces", "dims", "nameless", "long name"],
)
def test_time_and_memory_grow_with_the_file(data):
    assert_cost_grows_with_the_file(read_bytes, data)
