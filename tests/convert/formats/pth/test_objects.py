"""Objects beside the tensors of a ``.pth``, and tensors that are pickled in odd ways."""

import datetime
import enum
import functools
import io
import sys
import types
import warnings
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch

from convert import convert_file
from convert.findings import Finding
from convert.formats.pth import tensors as torch_pickle
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_PARTS
from tests.support import formats
from tests.support.fuzzing.seeds import by_torch as saved, records_of, zipped
from tests.support.messages import naming
from tests.support.models import assert_cost_grows_with_the_file

read_bytes = partial(formats.read_bytes, "pth")

W = {"head.weight": torch.ones(2)}


def stranger(path: str, *bases: type) -> type:
    """A class of a package that is gone where the file is read."""
    module, _, name = path.rpartition(".")
    made = type(name, bases or (object,), {"__module__": module})
    for end in (*(i for i, letter in enumerate(module) if letter == "."), len(module)):
        sys.modules[module[:end]] = types.ModuleType(module[:end])
    setattr(sys.modules[module], name, made)
    return made


def with_attributes(value, **attributes):
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


def recursive():
    value = stranger("gone.tree.Node")()
    return with_attributes(value, parent=value, children=[value, {"again": value}])


def history():
    """mmengine's HistoryBuffer: arrays, and functions of its own class."""
    kind = stranger("gone.logging.HistoryBuffer")

    def mean(self):
        return 0.0

    kind.mean, mean.__module__, mean.__qualname__ = mean, kind.__module__, "HistoryBuffer.mean"
    return with_attributes(kind(), _log=np.array([0.5, 0.4]), _methods=OrderedDict(mean=mean))


def quantised(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is to make no more of them
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, dtype)


OBJECTS = {
    "gone.config.Config": lambda: with_attributes(stranger("gone.config.Config")(), lr=0.1),
    "gone.AttributeDict": lambda: stranger("gone.AttributeDict", dict)(lr=0.1),
    "gone.ListConfig": lambda: stranger("gone.ListConfig", list)([1, 2]),
    "gone.Names": lambda: stranger("gone.Names", set)({1, 2}),
    "gone.Colour": lambda: with_colour(),
    "gone.logging.HistoryBuffer": history,
    "gone.tree.Node": recursive,
    "datetime.timedelta": lambda: datetime.timedelta(1),
    "datetime.datetime": lambda: datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "functools.partial": lambda: functools.partial(print, 1, end=""),
    "torch.optim.adamw.AdamW": lambda: torch.optim.AdamW,
    "torch.nn.modules.loss.CrossEntropyLoss": torch.nn.CrossEntropyLoss,
    "torch.serialization._get_layout": lambda: torch.strided,
    "torch.qint8": lambda: torch.qint8,
    "numpy.dtype": lambda: np.array(["2020-01-01"], "M8[D]"),
    "numpy.ndarray": lambda: np.zeros(2, [("a", "f4")]),
    "numpy.core.multiarray.scalar": lambda: np.datetime64("2020-01-01"),
    "torch._utils._rebuild_sparse_tensor": lambda: torch.eye(3).to_sparse(),
    "torch._utils._rebuild_qtensor": lambda: quantised(torch.qint8),
    "torch._utils._rebuild_meta_tensor_no_storage": lambda: torch.ones(2, device="meta"),
    "torch._utils._rebuild_tensor_v2": lambda: torch.ones(2, dtype=torch.complex64).conj(),
    "key of type tuple": lambda: {(1, (2, 3)): 4},
}


def with_colour():
    kind = enum.Enum("Colour", ["RED"], module="gone")
    sys.modules["gone"] = types.ModuleType("gone")
    sys.modules["gone"].Colour = kind
    return {kind.RED: [kind.RED]}


@pytest.fixture(autouse=True)
def _forget_strangers():
    yield
    forget_strangers()


def forget_strangers():
    for module in [*sys.modules]:
        if module.partition(".")[0] in ("gone", "torch_npu"):
            del sys.modules[module]


@pytest.mark.parametrize("zipped_file", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beside_the_tensors_are_left_unread(name, protocol, zipped_file):
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped_file}
    data = saved({"state_dict": W, "extra": OBJECTS[name](), "epoch": 3}, **options)
    forget_strangers()
    file = read_bytes(data)
    np.testing.assert_array_equal(file.places["state_dict"]["head.weight"], np.ones(2))
    assert file.extras["epoch"] == 3
    assert name in file.unread
    # What has arrays under names may be a model's own kind of dict.
    assert ("extra" in file.places) == ("HistoryBuffer" in name)
    assert len(repr(file.extras.get("extra"))) < 300
    assert not any(name.startswith("gone") for name in sys.modules)


def test_what_is_left_unread_is_said_at_convert(tmp_path):
    from tests.support.models import SMALL, random_weights

    weights = {n: torch.from_numpy(a.copy()) for n, a in random_weights(SMALL["v2"]).items()}
    path = tmp_path / "model.pth"
    torch.save({"state_dict": weights, "when": datetime.timedelta(1)}, path)
    told: list[Finding] = []
    convert_file(path, tmp_path / "model.safetensors", tell=told.append)
    (said,) = (finding for finding in told if finding.what == "left_unread")
    assert said.value == ["datetime.timedelta"]
    del weights["head.weight"]
    torch.save({**weights, "head.weight": torch.ones(4, 2).to_sparse()}, path)
    with pytest.raises(ConvertError, match=naming("torch._utils._rebuild_sparse_tensor")):
        convert_file(path, tmp_path / "other.safetensors")


# Tensors


class Saved:
    """A tensor as a function would make it again that is not called when saving."""

    def __init__(self, make, *arguments):
        self.call = make, arguments

    def __reduce_ex__(self, protocol):
        return self.call


def npu_function():
    def _rebuild_npu_tensor(*parts):
        raise AssertionError("it is not called")

    module = stranger("torch_npu.utils.storage.Any").__module__
    _rebuild_npu_tensor.__module__, _rebuild_npu_tensor.__qualname__ = module, "_rebuild_npu_tensor"
    sys.modules[module]._rebuild_npu_tensor = _rebuild_npu_tensor
    return _rebuild_npu_tensor


def view(tensor):
    place = tensor.storage_offset(), tuple(tensor.size()), tensor.stride()
    return tensor._typed_storage(), *place, False, OrderedDict()


@pytest.mark.parametrize("layout", [(2,), (True,), ()], ids=["format", "flag", "none"])
def test_reads_what_torch_npu_saved(layout):
    tensor = torch.arange(6.0).reshape(2, 3).T
    file = read_bytes(saved({"a": Saved(npu_function(), *view(tensor), *layout)}))
    np.testing.assert_array_equal(file.tensors["a"], tensor.numpy())
    assert file.unread == ()


class Marked(torch.Tensor):
    """A class of tensors."""


def test_reads_tensors_of_classes_of_their_own_and_with_attributes():
    plain = torch.arange(6.0).reshape(2, 3)
    of_class, attributed = plain.as_subclass(Marked), plain.clone()
    attributed.tag = "x"
    buffer = torch.nn.Buffer(plain.clone())
    parameter = with_attributes(torch.nn.Parameter(plain.clone()), tag="x")
    values = {"class": of_class, "tag": attributed, "buffer": buffer, "parameter": parameter}
    file = read_bytes(saved(values))
    assert [*file.tensors] == [*values]
    for array in file.tensors.values():
        np.testing.assert_array_equal(array, plain.numpy())
        assert not array.flags.writeable


@pytest.mark.parametrize("name", ["from_numpy", "from_cpu_tensor"])
def test_reads_tensors_of_devices_without_storages(name):
    tensor = torch.arange(3.0)
    values = tensor.numpy() if name == "from_numpy" else tensor
    rest = (torch.float32, "xla:0", False)
    make = getattr(torch._utils, f"_rebuild_device_tensor_{name}")
    call, other = Saved(make, values, *rest), Saved(make, values, torch.bfloat16, *rest[1:])
    file = read_bytes(saved({"a": call, "b": other}))
    np.testing.assert_array_equal(file.tensors["a"], [0, 1, 2])
    assert [*file.tensors] == ["a"]  # without a cast, which a file could ask for over and over


@pytest.mark.parametrize("home", ["torch.cuda", "torch.npu"])
def test_reads_typed_storages_of_devices(home):
    records = records_of(saved({"a": torch.arange(3.0)}))
    program = records["archive/data.pkl"]
    records["archive/data.pkl"] = program.replace(b"ctorch\nF", b"c" + home.encode() + b"\nF")
    assert records["archive/data.pkl"] != program
    np.testing.assert_array_equal(read_bytes(zipped(records)).tensors["a"], [0, 1, 2])


# Modules that were pickled whole


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Linear(2, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("grid", torch.ones(2), persistent=False)
        self.shape = self.proj


@pytest.mark.parametrize("zipped_file", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", ["", "model"])
def test_reads_the_tensors_of_a_pickled_module(key, zipped_file):
    net = torch.nn.Sequential(Block(), torch.nn.GELU(), Block())
    options = {"_use_new_zipfile_serialization": zipped_file}
    file = read_bytes(saved({key: net, "epoch": 3} if key else net, **options))
    assert [*file.places] == [key]
    assert [*file.tensors] == [*net.state_dict()]
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(file.tensors[name], tensor.numpy())
    assert f"{Block.__module__}.Block" in file.unread


def module_program(children: bytes) -> bytes:
    """A module that is memoized as 1, with other modules as its children."""
    parts = b"V_parameters\n}V_buffers\n}V_modules\n}(" + children + b"u"
    return b"cgone\nNet\n)\x81q\x01}(" + parts + b"ub."


@pytest.mark.parametrize("names", [b"a", b"a" * 900], ids=["short", "long"])
def test_modules_without_end_are_refused(names):
    children = b"".join(b"V%s%d\nh\x01" % (names, i) for i in range(2))
    with pytest.raises(ConvertError, match=naming("file.pth", MAX_PARTS)):
        read_bytes(zipped({"archive/data.pkl": module_program(children)}))


def shared_by(count: int, parameters: bytes, more: bytes = b"") -> bytes:
    """A module with so many children, all the same one, which has these parameters."""
    child = b"cgone\nNet\n)\x81q\x02}(" + more + b"V_modules\n}V_parameters\n" + parameters + b"ub0"
    return module_program(b"".join(b"V%d\nh\x02" % i for i in range(count))).replace(
        b"V_parameters", child + b"V_parameters", 1
    )


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nK\4tQ"
TENSOR += b"K\0K\4\x85K\1\x85\x89}tR"
MANY = b"".join(b"V%d\nN" % i for i in range(4000))


@pytest.mark.parametrize(
    "program",
    [
        shared_by(1000, b"}V" + b"p" * 1_000_000 + b"\n" + TENSOR + b"s"),
        shared_by(
            4, b"}(" + MANY + b"u", b"V_non_persistent_buffers_set\n(N" + b"2" * 100_000 + b"t"
        ),
        shared_by(2000, b"}(" + MANY.replace(b"V", b"I") + b"u"),
    ],
    ids=["a long name", "a tuple of what is left out", "numbers for names"],
)
def test_modules_that_many_share_are_gone_through_within_bounds(program):
    """A name of 1 MB was one of its own in each, parts that have no name were not counted."""
    padding = bytes(10_000_000)
    data = zipped({"archive/data.pkl": program, "archive/data/0": bytes(16), "archive/_": padding})
    assert_cost_grows_with_the_file(read_bytes, data)


# Before torch 1.6


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", torch_pickle.DTYPES)
def test_reads_files_of_old_torch(name, protocol):
    base = torch.randint(0, 2, (3, 4), generator=torch.Generator().manual_seed(0))
    base = base.to(getattr(torch, name))
    tensors = {"all": base, "part": base[1:, ::2], "turned": base.T, "none": base[:0]}
    value = {"model": tensors, "epoch": 3}
    options = {"_use_new_zipfile_serialization": False, "pickle_protocol": protocol}
    file = read_bytes(saved(value, **options))
    assert ([*file.places], file.extras) == (["model"], {"epoch": 3})
    for key, tensor in tensors.items():
        expected = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        assert (file.tensors[key].tobytes(), file.tensors[key].shape) == (expected, tensor.shape)


def legacy(value) -> bytes:
    return saved(value, _use_new_zipfile_serialization=False)


def test_old_files_with_quantised_tensors_and_parts_of_storages_are_read():
    data = legacy({"q": quantised(torch.qint32), "a": torch.arange(6.0)})
    np.testing.assert_array_equal(read_bytes(data).tensors["a"], np.arange(6))
    # A part of a storage, as torch before 0.4 wrote it: (key, offset, number of elements).
    data = legacy({"a": torch.arange(6.0)[:2]})
    whole, a_part = b"K\x06Ntq", b"K\x06(V1\nK\x03K\x02ttq"
    part = data.replace(whole, a_part)
    assert part != data
    np.testing.assert_array_equal(read_bytes(part).tensors["a"], [3, 4])


def test_old_files_that_are_cut_off_are_refused():
    data = legacy({"a": torch.arange(6.0), "b": torch.ones(2, 2)})
    for length in range(len(data)):
        with pytest.raises(ConvertError, match=r"file\.pth"):
            read_bytes(data[:length])


def test_old_files_with_storages_that_are_not_theirs_are_refused():
    data = legacy({"a": torch.arange(6.0)})
    stream = io.BytesIO(data)
    assert torch.load(stream)["a"].numel() == 6
    for change in (b"\x07", b"\xff", b"\0"):
        at = len(data) - 24 - 8
        with pytest.raises(ConvertError, match=naming(6, "elements")):
            read_bytes(data[:at] + change + data[at + 1 :])
