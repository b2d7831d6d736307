"""``convert.formats.onnx`` against onnx; and external weights."""

import io
import os
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert import load_model, save_model
from convert.formats.onnx import file as onnx_file, tensors as tensors_file
from convert.formats.onnx.encoding import model_size, write_model
from convert.formats.onnx.layout import ALIGNMENT, MAX_BYTES
from convert.options import OnnxOptions
from pvt_onnx.engines.session import OnnxFileError, load_forward, load_proto
from pvt_onnx.engines.tapped import open_taps
from pvt_onnx.graph.build import as_initializers, build_skeleton
from pvt_onnx.graph.layers import INPUT
from pvt_spec import (
    METADATA_KEY,
    ConfigError,
    ModelInfo,
    PVTConfig,
    output_names,
    tensor_specs,
)
from pvt_spec.errors import ConvertError
from pvt_spec.files.wire import encode_field
from pvt_spec.hashes import GRAPH_KEY, PAIR_BYTES, PAIR_KEY
from tests.support import formats
from tests.support.messages import naming, tells
from tests.support.models import SMALL, assert_same, info_of, random_images, random_weights
from tests.support.processes import run_python

read_bytes = partial(formats.read_bytes, "onnx")

CONFIG = SMALL["v2"]
DTYPES = [
    *(np.dtype(code) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8")),
    *(np.dtype(code) for code in ("u1", "u2", "u4", "u8", "?")),
    np.dtype(ml_dtypes.bfloat16),
]


def skeleton_of(config: PVTConfig, weights) -> onnx.ModelProto:
    return build_skeleton(info_of(config), {name: array.dtype for name, array in weights.items()})


def write_small(path: Path, config: PVTConfig = CONFIG, beside: str = "") -> dict:
    """A small model in a file, and its initializers; with their bytes in the file ``beside``."""
    weights = as_initializers(config, random_weights(config))
    with path.open("wb") as stream:
        if not beside:
            write_model(stream, skeleton_of(config, weights), weights)
            return weights
        with (path.parent / beside).open("wb") as data:
            write_model(stream, skeleton_of(config, weights), weights, (beside, data))
    return weights


def model_of(*tensors: TensorProto, key: str = METADATA_KEY) -> onnx.ModelProto:
    graph = helper.make_graph([], "graph", [], [], [*tensors])
    model = helper.make_model(graph)
    helper.set_model_props(model, {key: "{}", "note": "héllo"})
    return model


def tensor(name="w", array=None) -> TensorProto:
    return numpy_helper.from_array(np.ones(2, np.float32) if array is None else array, name)


# What onnx writes


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (2, 3), (1,) * 9], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reads_what_onnx_writes(dtype, shape):
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    file = read_bytes(model_of(tensor("a.weight", array), tensor("b/c")).SerializeToString())
    assert_same(file.tensors, {"a.weight": array})
    assert file.metadata == {METADATA_KEY: "{}", "note": "héllo"}
    assert not file.tensors["a.weight"].flags.writeable


@pytest.mark.parametrize("kind", SMALL)
def test_reads_our_models_also_after_onnx_saved_them_again(tmp_path, kind):
    path = tmp_path / "a.onnx"
    weights = write_small(path, SMALL[kind])
    ours = onnx_file.read(path)
    onnx.save(onnx.load(path), tmp_path / "b.onnx")
    theirs = onnx_file.read(tmp_path / "b.onnx")
    for file in (ours, theirs):
        assert_same(file.tensors, weights)
        assert ModelInfo.from_json(file.metadata[METADATA_KEY]) == info_of(SMALL[kind])
        assert file.metadata[GRAPH_KEY] == file.graph_hash


def test_fields_come_in_any_order_and_in_pieces():
    """As protobuf merges them: repeated fields add up, of others the last counts."""
    whole = model_of(tensor("a"), tensor("b", np.zeros((2, 3), np.int64)))
    one, two = onnx.ModelProto(), onnx.ModelProto()
    one.graph.initializer.append(whole.graph.initializer[0])
    two.graph.initializer.append(whole.graph.initializer[1])
    rest = onnx.ModelProto()
    rest.CopyFrom(whole)
    rest.ClearField("graph")
    data = two.SerializeToString() + rest.SerializeToString() + one.SerializeToString()
    judge = onnx.ModelProto.FromString(data)
    found = read_bytes(data).tensors
    assert_same(found, {t.name: numpy_helper.to_array(t) for t in judge.graph.initializer})

    twice = TensorProto(name="x", data_type=1, dims=[5], raw_data=b"1234").SerializeToString()
    later = TensorProto(name="w", data_type=6, dims=[2], raw_data=bytes(40)).SerializeToString()
    packed = encode_field(1 << 3 | 2, b"\x01\x01")
    field = encode_field(7 << 3 | 2, encode_field(5 << 3 | 2, twice + later + packed))
    data = rest.SerializeToString() + field
    (expected,) = onnx.ModelProto.FromString(data).graph.initializer
    assert_same(read_bytes(data).tensors, {"w": numpy_helper.to_array(expected)})


def test_skips_fields_that_it_does_not_know():
    unknown = b"".join(
        bytes([0x80 | (200 << 3 | kind) & 0x7F, (200 << 3 | kind) >> 7]) + value
        for kind, value in ((0, b"\x96\x01"), (1, bytes(8)), (2, b"\x03abc"), (5, bytes(4)))
    )
    data = unknown + model_of(tensor()).SerializeToString() + unknown
    assert onnx.ModelProto.FromString(data).graph.initializer[0].name == "w"
    assert list(read_bytes(data).tensors) == ["w"]


def test_reads_without_onnx(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(model_of(tensor()).SerializeToString())
    code = (
        "import sys; from pathlib import Path; from convert.formats.onnx import file as onnx_file; "
        "onnx_file.read(Path(sys.argv[1])); "
        "sys.exit(any(name in sys.modules for name in ('onnx', 'google.protobuf')))"
    )
    run_python("-c", code, path)


# What is no ONNX model, or not ours


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (b"\x08\x08", ("ONNX",)),
        (b"\x3a\xff\xff\xff\xff\x07", ("2147483647", "0")),
        (b"\x0b\x0c", ("0", "field")),
        (model_of(tensor(), key="other").SerializeToString(), (METADATA_KEY,)),
    ],
)
def test_refuses_other_contents(data, facts):
    with pytest.raises(ConvertError, match=naming(*facts)) as caught:
        read_bytes(data)
    assert "file.onnx: " in str(caught.value)
    assert "ire format" not in str(caught.value)


def typed(field: str, **fields) -> TensorProto:
    return TensorProto(name="w", dims=[1], **{"data_type": 1, field: [1]} | fields)


def outside(location: str, **place) -> TensorProto:
    made = TensorProto(name="w", dims=[2], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **place}.items():
        made.external_data.add(key=key, value=value)
    return made


BAD = TensorProto(name="w", dims=[2], data_type=1)


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ([tensor(), tensor()], ("'w'",)),
        ([tensor("a/b"), tensor("a/b")], ("'a/b'",)),
        ([typed("float_data")], ("'w'", "float_data", "raw_data")),
        ([typed("int32_data", data_type=6)], ("int32_data",)),
        ([typed("int32_data", data_type=10)], ("int32_data",)),
        ([typed("int64_data", data_type=7)], ("int64_data",)),
        ([typed("double_data", data_type=11)], ("double_data",)),
        ([typed("uint64_data", data_type=13)], ("uint64_data",)),
        ([helper.make_tensor("w", 8, [1], [b"x"])], ("'w'", "data_type", "8", "1", "float32")),
        ([helper.make_tensor("w", TensorProto.INT4, [1], [1])], ("'w'", "data_type", "22")),
        ([TensorProto(name="w", dims=[2], raw_data=bytes(8))], ("'w'", "data_type", "0")),
        ([BAD], ("'w'", "0", "8", "float32", "2")),
        ([TensorProto(name="w", dims=[-1], data_type=1)], ("shape",)),
        ([TensorProto(name="w", dims=[1] * 33, data_type=1, raw_data=bytes(4))], ("shape",)),
        ([TensorProto(name="w", dims=[0, 1 << 62], data_type=1)], ("array",)),
        ([TensorProto(name="w", dims=[1 << 62] * 2, data_type=1)], (1 << 126,)),
        ([TensorProto(name="w", dims=[1], data_type=9, raw_data=b"\2")], ("0", "bool")),
    ],
)
def test_refuses_harm(tensors, facts):
    with pytest.raises(ConvertError, match=naming(*facts)) as caught:
        read_bytes(model_of(*tensors).SerializeToString())
    assert tells(str(caught.value), "file.onnx")


def test_refuses_sparse_tensors_and_twins_in_metadata():
    model = model_of()
    model.graph.sparse_initializer.add().values.CopyFrom(tensor())
    with pytest.raises(ConvertError, match=naming("sparse")):
        read_bytes(model.SerializeToString())
    model = model_of(tensor())
    model.metadata_props.add(key=METADATA_KEY, value="{}")
    with pytest.raises(ConvertError, match=naming(f"'{METADATA_KEY}'")):
        read_bytes(model.SerializeToString())


# Weights in a file beside the model


@pytest.mark.sampled
@pytest.mark.parametrize("kind", SMALL)
def test_weights_beside_the_model(tmp_path, kind):
    config = SMALL[kind]
    write_small(tmp_path / "one.onnx", config)
    path = tmp_path / "two.onnx"
    weights = write_small(path, config, beside="two.onnx.data")
    assert path.stat().st_size < sum(array.nbytes for array in weights.values())
    assert_same(onnx_file.read(path).tensors, weights)
    for entry in onnx.load(path, load_external_data=False).graph.initializer:
        place = {item.key: item.value for item in entry.external_data}
        assert bool(place) == ("/" not in entry.name)
        assert int(place.get("offset", 0)) % ALIGNMENT == 0

    onnx.checker.check_model(path, full_check=True)
    loaded = load_proto(path)
    for entry in loaded.graph.initializer:
        entry.ClearField("data_location")  # onnx sets it to what it is without
    assert loaded == load_proto(tmp_path / "one.onnx")
    images = random_images(config)
    (one, _), (two, info) = load_forward(tmp_path / "one.onnx"), load_forward(path)
    assert info == info_of(config)
    expected = onnxruntime.InferenceSession(str(tmp_path / "one.onnx")).run(None, {INPUT: images})
    found = onnxruntime.InferenceSession(str(path)).run(None, {INPUT: images})
    np.testing.assert_array_equal(found, expected)
    assert type(one(images)) is type(two(images))
    taps = open_taps(load_proto(path), "two")(images)
    (output,) = output_names(config)
    np.testing.assert_array_equal(taps[output], expected[0])


def test_reads_what_onnx_keeps_beside_a_model(tmp_path):
    path = tmp_path / "a.onnx"
    weights = write_small(path)
    for folder, options in (("one", {}), ("many", {"all_tensors_to_one_file": False})):
        (tmp_path / folder).mkdir()
        copy = tmp_path / folder / "b.onnx"
        onnx.save(
            onnx.load(path), copy, save_as_external_data=True, size_threshold=100, **options
        )  # fmt: skip
        assert len(list(copy.parent.iterdir())) > 1
        assert_same(onnx_file.read(copy).tensors, weights)


def test_places_without_offset_or_length(tmp_path):
    array = np.arange(2, dtype=np.float32)
    (tmp_path / "w.data").write_bytes(array.tobytes() + b"more")
    (tmp_path / "a.onnx").write_bytes(model_of(outside("w.data")).SerializeToString())
    assert_same(onnx_file.read(tmp_path / "a.onnx").tensors, {"w": array})


@pytest.fixture
def folder(tmp_path):
    """A model's folder, with files that its tensors may not and may be kept in."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(100))
    (folder / "w.data").write_bytes(bytes(100))
    (folder / "empty").write_bytes(b"")
    (folder / "inside").symlink_to("w.data")
    (folder / "outside").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


PLAIN, LINK = ("folder",), ("link", "secret")


@pytest.mark.parametrize(
    ("location", "place", "facts"),
    [
        ("", {}, PLAIN),
        ("/etc/passwd", {}, PLAIN),
        ("../secret", {}, PLAIN),
        ("sub/../../secret", {}, PLAIN),
        ("..\\secret", {}, PLAIN),
        ("C:secret", {}, PLAIN),
        ("C:\\secret", {}, PLAIN),
        ("//server/secret", {}, PLAIN),
        ("w.data\0", {}, PLAIN),
        ("outside", {}, LINK),
        ("up/secret", {}, LINK),
        ("loop", {}, ()),
        ("missing", {}, ("such",)),
        ("w.data/a", {}, ("read",)),
        (".", {}, ("device",)),
        ("pipe", {}, ("device",)),
        ("empty", {}, ("empty",)),
        ("w.data", {"offset": "96"}, (8, 96, 100)),
        ("w.data", {"offset": "0", "length": "4"}, (4, 8, "float32")),
        ("w.data", {"length": "12"}, (12,)),
        ("w.data", {"offset": "-4"}, ("offset", "'-4'")),
        ("w.data", {"offset": "1e1"}, ("offset", "'1e1'")),
        ("w.data", {"offset": "¹"}, ("offset", "'¹'")),
        ("w.data", {"length": ""}, ("length", "''")),
        ("w.data", {"offset": "9" * 5000}, ("offset",)),
        ("w.data", {"prepacked_0": "w|0;8;1"}, ("prepacked_0", "offset", "length")),
        ("w.data", {"offset": "9" * 19}, (9999999999999999999, 100)),
    ],
)
def test_refuses_to_look_elsewhere(folder, location, place, facts):
    path = folder / "a.onnx"
    path.write_bytes(model_of(outside(location, **place)).SerializeToString())
    with pytest.raises(ConvertError, match=naming("'w'", repr(location), *facts)) as caught:
        onnx_file.read(path)
    assert str(caught.value).startswith(f"{path}: at byte ")


def test_follows_links_that_stay_in_the_folder(folder, tmp_path):
    (folder / "a.onnx").write_bytes(model_of(outside("inside")).SerializeToString())
    assert onnx_file.read(folder / "a.onnx").tensors["w"].shape == (2,)
    (tmp_path / "link").symlink_to(folder)
    assert onnx_file.read(tmp_path / "link" / "a.onnx").tensors["w"].shape == (2,)


def test_a_file_by_many_names_is_mapped_once(folder, monkeypatch):
    """Each way of writing its name was a map of its own, of megabytes in memory."""
    tensors = [outside(location) for location in ("w.data", "./w.data", "././w.data", "inside")]
    for number, each in enumerate(tensors):
        each.name = f"w{number}"
    (folder / "a.onnx").write_bytes(model_of(*tensors).SerializeToString())
    mapped = []
    original = tensors_file.map_file
    monkeypatch.setattr(
        tensors_file, "map_file", lambda path: (mapped.append(path), original(path))[1]
    )
    assert len(onnx_file.read(folder / "a.onnx").tensors) == 4
    assert mapped == [folder / "w.data"]


def test_refuses_bytes_in_both_places(folder):
    both = outside("w.data")
    both.raw_data = bytes(8)
    (folder / "a.onnx").write_bytes(model_of(both).SerializeToString())
    with pytest.raises(ConvertError, match=naming("both")):
        onnx_file.read(folder / "a.onnx")
    both.ClearField("raw_data")
    both.external_data.add(key="location", value="empty")
    (folder / "a.onnx").write_bytes(model_of(both).SerializeToString())
    with pytest.raises(ConvertError, match=naming("'location'")):
        onnx_file.read(folder / "a.onnx")


def test_maps_a_file_once(folder, monkeypatch):
    tensors = [outside("w.data", offset=str(i * 8)) for i in range(5)]
    for index, made in enumerate(tensors):
        made.name = str(index)
    (folder / "a.onnx").write_bytes(model_of(*tensors).SerializeToString())
    mapped = []
    original = onnx_file.map_file
    for home in (onnx_file, tensors_file):
        monkeypatch.setattr(home, "map_file", lambda path: mapped.append(path) or original(path))
    assert len(onnx_file.read(folder / "a.onnx").tensors) == 5
    assert [path.name for path in mapped] == ["a.onnx", "w.data"]


def test_names_the_files_that_it_read(tmp_path):
    write_small(tmp_path / "a.onnx")
    assert onnx_file.read(tmp_path / "a.onnx").files == (tmp_path / "a.onnx",)
    write_small(tmp_path / "b.onnx", beside="b.onnx.data")
    assert onnx_file.read(tmp_path / "b.onnx").files == (
        tmp_path / "b.onnx",
        tmp_path / "b.onnx.data",
    )


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "outside", "up/secret", "loop"])
def test_runtimes_refuse_to_look_elsewhere_too(folder, location):
    """onnx's and onnxruntime's own checks, told as our errors."""
    path = folder / "a.onnx"
    write_small(path, beside="w.onnx.data")
    model = onnx.load(path, load_external_data=False)
    for made in model.graph.initializer:
        for item in made.external_data:
            if item.key == "location":
                item.value = location
    path.write_bytes(model.SerializeToString())
    for load in (load_forward, load_proto):
        with pytest.raises(OnnxFileError, match=r"a\.onnx"):
            load(path)


def test_onnxruntime_on_damaged_metadata_is_told_as_our_error(tmp_path):
    path = tmp_path / "a.onnx"
    write_small(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"config"', b'"\xffonfig"'))
    with pytest.raises(OnnxFileError, match=naming("a.onnx", "metadata")):
        load_forward(path)


# Sizes


def test_model_size_is_the_files(tmp_path):
    path = tmp_path / "a.onnx"
    weights = write_small(path)
    assert model_size(skeleton_of(CONFIG, weights), weights) == path.stat().st_size


class Sink:
    """A stream that only counts."""

    size = 0

    def write(self, data) -> None:
        self.size += len(data)


def test_more_than_two_gigabytes_need_a_second_file():
    config = PVTConfig(2, (1024, 2048, 4096, 8192), (1,) * 4, (1,) * 4, (4,) * 4, (2, 2, 2, 1))
    zero = np.float32(0)
    weights = {s.name: np.broadcast_to(zero, s.shape) for s in tensor_specs(config)}
    skeleton = skeleton_of(config, weights)
    assert model_size(skeleton, weights) > MAX_BYTES
    with pytest.raises(ConfigError, match=naming("weights")):
        write_model(Sink(), skeleton, weights)
    largest = max(weights, key=lambda name: weights[name].nbytes)
    few = {largest: np.ones(weights[largest].shape[:1], np.float32)}
    stream, data = io.BytesIO(), Sink()
    write_model(stream, skeleton, few, ("data", data))
    assert data.size == few[largest].nbytes
    assert len(stream.getvalue()) < 1 << 20


def test_weights_of_another_pair_are_refused_by_every_reader(tmp_path):
    config = SMALL["v2"]
    mixed, other = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for seed, path in enumerate((mixed, other)):
        weights = random_weights(config, seed=seed)
        save_model(path, weights, info_of(config), onnx=OnnxOptions(external_data=True))
    load_model(mixed)
    load_forward(mixed)
    data = Path(f"{other}.data").read_bytes()
    Path(f"{mixed}.data").write_bytes(data)
    for read in (load_model, load_forward, load_proto, partial(load_forward, tell=print)):
        with pytest.raises(ConvertError, match=naming("a.onnx.data", "another")):
            read(mixed)
    Path(f"{other}.data").write_bytes(data[:-10_000])
    with pytest.raises(ConvertError):
        load_model(other)


@pytest.mark.parametrize("one", [True, False])
def test_a_pair_that_another_tool_saved_again_is_read(one, tmp_path):
    """Its data ends in no mark, which was called another model's."""
    path, again, config = tmp_path / "a.onnx", tmp_path / "b.onnx", SMALL["v2"]
    save_model(path, random_weights(config), info_of(config), onnx=OnnxOptions(external_data=True))
    kept = {"save_as_external_data": True, "all_tensors_to_one_file": one, "size_threshold": 0}
    onnx.save(onnx.load(path), again, **kept)
    assert_same(load_model(again)[0], random_weights(config))
    load_forward(again, tell=pytest.fail)


def test_a_pair_without_a_mark_is_read(tmp_path):
    """As convert wrote them before there were marks."""
    path = tmp_path / "a.onnx"
    config = SMALL["v2"]
    save_model(path, random_weights(config), info_of(config), onnx=OnnxOptions(external_data=True))
    model = onnx.load(path, load_external_data=False)
    props = [entry for entry in model.metadata_props if entry.key != PAIR_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(props)
    path.write_bytes(model.SerializeToString())
    data = Path(f"{path}.data")
    data.write_bytes(data.read_bytes()[:-PAIR_BYTES])
    assert_same(load_model(path)[0], random_weights(config))
    load_forward(path)
