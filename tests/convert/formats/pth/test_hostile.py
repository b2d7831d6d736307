"""``convert.formats.pth.file`` on files with code, of another format, damaged or hostile."""

import io
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from convert.formats.pth import budget
from pvt_spec.errors import ConvertError
from tests.support import formats
from tests.support.fuzzing.seeds import by_torch as saved, records_of, zipped
from tests.support.messages import naming, tells
from tests.support.models import assert_cost_grows_with_the_file

read_bytes = partial(formats.read_bytes, "pth")

W = {"head.weight": torch.ones(2)}


def pickled(program: bytes) -> bytes:
    return zipped({"archive/data.pkl": program, "archive/data/0": bytes(16)})


# What holds code


class Calls:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(mark) -> dict[str, object]:
    """What would leave a file, if it ran, by the name that is complained about."""
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    return {
        "posix.system": Calls(os.system, f"touch {mark}"),
        "builtins.eval": Calls(eval, code),
        "builtins.exec": [{"a": (Calls(exec, code),)}],
        "posix.mkdir": Calls(os.mkdir, str(mark)),
    }


@pytest.mark.parametrize("name", attacks(""))
@pytest.mark.parametrize("protocol", [2, 4])
def test_runs_no_code_beside_tensors(tmp_path, name, protocol):
    mark = tmp_path / "executed"
    value = {"state_dict": W, "extra": attacks(mark)[name]}
    data = saved(value, pickle_protocol=protocol)
    file = read_bytes(data)
    assert name in file.unread
    np.testing.assert_array_equal(file.tensors["head.weight"], np.ones(2))
    assert not mark.exists()
    torch.load(io.BytesIO(data), weights_only=False)
    assert mark.exists()  # so the attack was one


PROGRAMS = {
    "builtins.getattr": b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(Vos\ntRVsystem\ntR"
    b"(Vtouch executed\ntR.",
    "posix.system": b"(Vtouch executed\niposix\nsystem\n.",
    "os.execv": b"(cos\nexecv\nVtouch\no.",
    "collections.OrderedDict.__init__": b"\x80\x04Vcollections\nVOrderedDict.__init__\n\x93.",
    "argparse.ArgumentParser": b"cargparse\nArgumentParser\n)\x81.",
    "this.zen": b"cthis\nzen\n.",
    r"'x\x1b[2J.y'": b"cx\x1b[2J\ny\n.",
    "extension 1": b"\x82\x01.",
    "opcode NEXT_BUFFER": b"\x80\x05\x97.",
    "a call of a str": b"Vos.system\n(Vtouch executed\ntR.",
    "a call of a Namespace": b"cargparse\nNamespace\n)\x81)R.",
    "torch.float32": b"ctorch\nfloat32\n)R.",
    "numpy.ndarray": b"cnumpy\nndarray\n(K\x01tR.",
    "builtins.list": b"c__builtin__\nlist\n)R.",
    "torch._utils._rebuild_sparse_tensor": b"ctorch._utils\n_rebuild_sparse_tensor\n.",
    "torch.nn.modules.linear.Linear": b"ctorch.nn.modules.linear\nLinear\n)\x81.",
    "torch.storage._load_from_bytes": b"ctorch.storage\n_load_from_bytes\n(U\x01xtR.",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_runs_no_hand_made_code(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConvertError) as caught:
        read_bytes(pickled(PROGRAMS[name]))
    assert tells(caught.value, name)
    beside = PROGRAMS[name].replace(b"\x80\x04", b"").removesuffix(b".")
    if "call of a" not in name and "opcode" not in name:
        file = read_bytes(pickled(b"}(" + beside_tensor() + b"Vbeside\n" + beside + b"u."))
        assert name in file.unread
        np.testing.assert_array_equal(file.tensors["a"], np.zeros(4))
    assert list(tmp_path.iterdir()) == []
    assert "this" not in sys.modules


# What is another format


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (pickle.dumps(W["head.weight"].tolist(), 2), ("pickle", "torch.save")),
        (pickle.dumps({"a": 1}, 2), ("pickle",)),
        (bytes(300), ("torch.save",)),
        (b"PK\x05\x06" + bytes(18), ("records",)),
        (zipped({"a/b.txt": b""}), ("FOLDER/data.pkl",)),
        (zipped({"data.pkl": b""}), ("FOLDER/data.pkl",)),
        (zipped({"a/data.pkl": b"", "b/data.pkl": b""}), ("FOLDER/data.pkl",)),
        (zipped({"a/data.pkl": b"", "a/constants.pkl": b""}), ("TorchScript",)),
        (saved(torch.ones(2)), ("ndarray",)),
        (saved([torch.ones(2)]), ("list",)),
        (saved({"epoch": 3, "lr": 0.1}), ("'epoch'", "'lr'")),
        (saved({}), ("tensors",)),
    ],
)
def test_refuses_other_formats(data, facts):
    with pytest.raises(ConvertError, match=naming(*facts)):
        read_bytes(data)


# What is damaged or means harm


SMALL = saved({"model": {"a": torch.arange(5), "b": torch.ones(2, 2).T}, "epoch": 3})


def same_or_refused(data: bytes) -> None:
    try:
        file = read_bytes(data)
    except ConvertError as error:
        assert "file.pth" in str(error)
        return
    # The checksums cover the pickle and the values; what they leave open is the zip's own data.
    np.testing.assert_array_equal(file.tensors["a"], range(5))
    np.testing.assert_array_equal(file.tensors["b"], np.ones((2, 2)))
    assert file.extras == {"epoch": 3}


@pytest.mark.long
@settings(max_examples=600, deadline=None)
@given(st.integers(0, len(SMALL) * 8 - 1))
def test_flipped_bits_are_an_error_or_change_nothing(bit):
    changed = bytearray(SMALL)
    changed[bit // 8] ^= 1 << bit % 8
    same_or_refused(bytes(changed))


def beside_tensor() -> bytes:
    """The name and the call of a tensor of four zeros, as items of a dict."""
    return tensor_program()[3:-2]


def tensor_program(size=(4,), stride=(1,), offset=0, count=4, kind="Float", key="0") -> bytes:
    def pushed(value):
        return pickle.dumps(value, 2)[2:-1]

    identity = b"(Vstorage\nctorch\n%sStorage\n" % kind.encode()
    identity += pushed(key) + b"Vcpu\n" + pushed(count) + b"tQ"
    view = pushed(offset) + pushed(size) + pushed(stride)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + view + b"\x89}tR"
    return b"\x80\x02}Va\n" + tensor + b"s."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"size": (5,)}, r"a tensor \[5\] in a storage of 4 elements"),
        ({"size": (3, 4), "stride": (0, 1)}, ""),
        ({"offset": 1}, "in a storage of 4"),
        ({"offset": -1}, "a shape's numbers"),
        ({"stride": (2,)}, "in a storage of 4"),
        ({"stride": (-1,)}, "a shape's numbers"),
        ({"size": (2, 2)}, "cannot be read"),
        ({"size": [4]}, "a shape"),
        ({"size": (4.0,)}, "a shape's numbers"),
        ({"size": (True,)}, "a shape's numbers"),
        ({"size": (1 << 40,), "stride": (0,)}, "in a storage of 4"),
        ({"size": (1 << 70,), "stride": (0,)}, "a shape's numbers"),
        ({"size": (1 << 62, 1 << 62), "stride": (0, 0)}, "in a storage of 4"),
        ({"size": (0, 1 << 62), "stride": (1, 1)}, "cannot be read"),
        ({"size": (1,) * 33, "stride": (0,) * 33}, "a shape"),
        ({"count": 5}, "has 16 bytes, expected 20"),
        ({"count": 3}, "has 16 bytes, expected 12"),
        ({"count": -4}, "a shape's numbers"),
        ({"kind": "Double"}, "has 16 bytes, expected 32"),
        ({"kind": "QInt8"}, "left unread: torch.QInt8Storage"),
        ({"key": "1"}, "record data/1 is missing"),
        ({"key": "../data/0"}, "record data/../data/0 is missing"),
        ({"key": 0}, "a persistent id"),
    ],
    ids=str,
)
def test_refuses_tensors_beyond_their_storage(change, message):
    data = pickled(tensor_program(**change))
    if not message:
        np.testing.assert_array_equal(
            read_bytes(data).tensors["a"], np.zeros(change.get("size", 4))
        )
        return
    with pytest.raises(ConvertError, match=message):
        read_bytes(data)


NESTED = b"\x80\x02}" + b")" + b"\x85" * 300_000
LONG = pickle.dumps(list(range(20_000)), 2)[:-1]
FLOAT = b"cnumpy\ndtype\n(Vf4\ntR"
NUMPY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR"
HARM = {
    "hash of a deep tuple": NESTED + b"Ns.",
    "deep tuple in a set": b"c__builtin__\nset\n(](" + NESTED[3:] + b"e" + b"tR.",
    "deep list": b"]" * 300_000 + b"a" * 299_999 + b".",
    "memo index": b"\x80\x02}r\xff\xff\xff\xff.",
    "bytes length": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.",
    "bytearray length": b"\x80\x05\x96" + b"\xff\xff\xff\xff\x0f\0\0\0.",
    "text length": b"X\xff\xff\xff\xffa.",
    "frame length": b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
    "bytes of a number": b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.",
    "number of digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "same list over and over": LONG
    + b"0c__builtin__\nset\nq\x010"
    + b"h\x01h\0\x85R0" * 50_000
    + b"N.",
    "same dict over and over": b"}q\0("
    + b"".join(b"M%c%cN" % (i & 255, i >> 8) for i in range(9000))
    + b"ucargparse\nNamespace\n)\x81"
    + b"h\0b" * 50_000
    + b".",
    "long numpy text": b"cnumpy\ndtype\n(V" + b"i4," * 100_000 + b"\ntR.",
    "numpy objects": b"cnumpy\ndtype\n(VO8\ntR.",
    "no stop": b"}",
    "too much on the stack": b"}}.",
    "nothing on the stack": b".",
    "mark without end": b"(.",
    "tuple of nothing": b"t.",
    "unhashable key": b"}]]s.",
    "lone surrogate": b"X\x03\0\0\0\xed\xa0\x80.",
    "items of a text": b"Va\nNa.",
    "keys of a list": b"]NNs.",
    "state of a list": b"]}b.",
    "members of a dict": b"\x80\x04}(N\x90.",
    "keyword arguments": b"\x80\x04cargparse\nNamespace\n)}NNs\x92.",
    "tensor of nothing": b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
    "parameter of nothing": b"ctorch._utils\n_rebuild_parameter\n(NNNtR.",
    "persistent text": b"Pstorage\n.",
    "storage that is none": b"(Nctorch\nFloatStorage\nNNK\x01tQ.",
    "conjugated tensor": b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNNN}Vconj\nI01\nstR.",
    "long tuple as a key": b"}(" + b"N" * 17 + b"tNs.",
    "key beyond 64 bits": b"}\x8a\x09" + b"\x7f" * 9 + b"Ns.",
    "mark that is taken back": b"(0(N1NN0.",
    "numpy byte order": b"cnumpy\ndtype\n(Vf4\ntR(K\x03V?\ntb.",
    "numpy array of objects": NUMPY_ARRAY + b"(K\x01)N\x89]tb.",
    "numpy array of another size": NUMPY_ARRAY + b"(K\x01K\x09\x85" + FLOAT + b"\x89C\x01xtb.",
    "numpy scalar of objects": b"cnumpy.core.multiarray\nscalar\n(NNtR.",
    "numpy scalar of another size": b"cnumpy.core.multiarray\nscalar\n(" + FLOAT + b"C\x01xtR.",
    "numpy array without state": NUMPY_ARRAY + b".",
    "device of a dict": b"ctorch\ndevice\n(}tR.",
}


def with_many(pushed: bytes, count: int, also: bytes = b"") -> bytes:
    """A tensor, and beside it a list of many that are all the same, before it what they share."""
    return b"\x80\x02}(" + beside_tensor() + b"V_\n](" + also + pushed * count + b"eu."


MEGABYTE = b"X" + struct.pack("<I", 1 << 20) + bytes(1 << 20)
LONG_TUPLE = b"(N" + b"2" * 200_000 + b"tq\x01"
TENSOR = beside_tensor()[3:]
SHARED = {
    "long name": with_many(b"h\1h\1\x93", 10_000, MEGABYTE + b"q\1"),
    "tuple in a storage's key": with_many(
        b"(Vstorage\nctorch\nFloatStorage\nNq\1" + b"2\x86" * 40 + b"Vcpu\nK\4tQ", 1
    ),
    "arguments within arguments": with_many(
        b"h\2h\3R",
        10_000,
        LONG_TUPLE
        + b"ctorch._tensor\n_rebuild_from_type_v2\nq\2ctorch._utils\n_rebuild_parameter_with_state"
        + b"\nq\4(h\4N(" + TENSOR + b"\x89Nh\1t}tq\3",
    ),
    "texts of one module": b"\x80\x02ccollections\nOrderedDict\n)R(" + beside_tensor()
    + b"u}V_metadata\n}(NN" + b"".join(b"M%c%cN" % (i & 255, i >> 8) for i in range(9000))
    + b"uq\1}(Nh\1" + b"".join(b"M%c%ch\1" % (i & 255, i >> 8) for i in range(9000))
    + b"usb.",
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_is_looked_at_once(name):
    """Each took from twenty seconds to forever."""
    padding = bytes(10_000_000)
    data = zipped(
        {"archive/data.pkl": SHARED[name], "archive/data/0": bytes(16), "archive/_": padding}
    )
    assert_cost_grows_with_the_file(read_bytes, data)


def test_a_storage_has_one_name():
    """A record was verified for each way of writing its key in small and large letters."""
    data = pickled(tensor_program(key="A"))
    data = data.replace(b"data/0", b"data/a")
    with pytest.raises(ConvertError, match=naming("data/A")):
        read_bytes(data)


@pytest.mark.parametrize("name", HARM)
def test_refuses_harm(name):
    data = pickled(HARM[name])
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(ConvertError, match=r"file\.pth"):
        read_bytes(data)
    assert time.perf_counter() - started < 15
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 1 << 19  # KiB


def test_refuses_endless_programs(monkeypatch):
    monkeypatch.setattr(budget, "MAX_OPCODES", 1000)
    with pytest.raises(ConvertError, match=naming("1000")):
        read_bytes(pickled(b"N0" * 1000 + b"N."))


def test_refuses_compressed_records():
    bomb = zipped({"a/data.pkl": b"}." + bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ConvertError, match=naming("compressed")):
        read_bytes(bomb)
    small = zipped({"a/data.pkl": b"}."}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ConvertError, match=naming("data.pkl")):
        read_bytes(small)


def test_refuses_records_in_one_place_or_of_one_name():
    """Many names for the same bytes would be checked over and over."""
    data = zipped({"archive/data.pkl": b"}.", "archive/data/0": bytes(1000)})
    start = data.index(b"PK\x01\x02", data.rindex(b"PK\x01\x02"))
    directory = data[start : data.index(b"PK\x05\x06")]
    for repeated in (directory.replace(b"data/0", b"data/1"), directory):
        count, size = 3, len(data[data.index(b"PK\x01\x02") : start]) + 2 * len(directory)
        end = struct.pack(
            "<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, data.index(b"PK\x01\x02"), 0
        )
        with pytest.raises(ConvertError, match=naming("record")):
            read_bytes(data[:start] + directory + repeated + end)


def test_refuses_values_that_more_tensors_share_than_a_model_may_have_in_memory():
    shared = torch.ones(50_000)
    assert len(read_bytes(saved({f"w{number}": shared for number in range(7)})).tensors) == 7
    with pytest.raises(ConvertError, match=naming("share", "8")):
        read_bytes(saved({f"w{number}": shared for number in range(10)}))


def test_refuses_damaged_values():
    data = bytearray(SMALL)
    at = data.index(np.arange(5).tobytes())
    data[at] ^= 1
    with pytest.raises(ConvertError, match=naming("data/0", at, "CRC-32")):
        read_bytes(bytes(data))


ONES, ZEROS = torch.ones(4), torch.zeros(4)


def with_a_record_in_capitals() -> bytes:
    """torch looks a record up without regard to case, and finds the other one."""
    names = [f"w{number}" for number in range(8)]
    records = records_of(saved({name: ONES.clone() for name in names}))
    zeros = {f"archive/DATA/{number}": bytes(16) for number in range(8)}
    return zipped({**records, **zeros})


def with_a_second_directory() -> bytes:
    """torch takes the directory where the zip's end says it is, zipfile the one before the end."""
    theirs, ours = (zipped(records_of(saved({"w": w}))) for w in (ZEROS, ONES))
    starts = [data.index(b"PK\x01\x02") for data in (theirs, ours)]
    body, directory = theirs[: starts[0]], theirs[starts[0] : -22]
    gap = bytes(1000)  # so that no offset is below 0
    second = bytearray(ours[starts[1] : -22])
    at = 0
    while at < len(second):
        name, extra, offset = struct.unpack_from("<28xHH10xI", second, at)
        offset += len(body) + len(gap) - len(directory)
        struct.pack_into("<I", second, at + 42, offset)
        at += 46 + name + extra
    place = len(body) + len(gap) + starts[1]
    end = theirs[-22:-6] + struct.pack("<IH", place, 0)
    return body + gap + ours[: starts[1]] + directory + bytes(second) + end


def with_a_storage_of_two_types() -> bytes:
    """torch keeps a storage of the type that it was first asked for in."""
    records = records_of(saved({"before": torch.zeros(4, dtype=torch.int32), "w": ONES}))
    key = b"X\x01\x00\x00\x00"
    pickle = records["archive/data.pkl"].replace(key + b"1", key + b"0")
    ones = records["archive/data/1"]
    return zipped({**records, "archive/data.pkl": pickle, "archive/data/0": ones})


def with_other_values_as_an_attribute() -> bytes:
    """torch sets a parameter's attributes, of which ``data`` are its values."""
    parameter = torch.nn.Parameter(ONES.clone())
    parameter.__dict__["data"] = ZEROS
    return saved({"w": parameter})


@pytest.mark.parametrize(
    "make",
    [
        with_a_record_in_capitals,
        with_a_second_directory,
        with_a_storage_of_two_types,
        with_other_values_as_an_attribute,
    ],
)
def test_refuses_what_torch_reads_otherwise(make):
    data = make()
    read = torch.load(io.BytesIO(data), weights_only=True)
    assert any(not torch.equal(w, ONES) for name, w in read.items() if name.startswith("w"))
    with pytest.raises(ConvertError):
        read_bytes(data)
