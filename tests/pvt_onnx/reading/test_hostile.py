"""Models that are damaged, strange or at odds with their metadata: one clear error, in time."""

import json
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pvt_onnx import build, load_forward, load_proto, open_taps
from pvt_onnx.command_line import main
from pvt_onnx.engines.session import read_info
from pvt_onnx.reading.changes import find_changes
from pvt_onnx.reading.files import OnnxFileError, check_onnx_file
from pvt_spec import METADATA_KEY, ConfigError
from pvt_spec.errors import RuntimeUnusable
from tests.support.commands import invoke
from tests.support.fuzzing import fuzz
from tests.support.fuzzing.commands import Ends
from tests.support.fuzzing.predictions import GOOD, IMAGE, PREDICTIONS, model_seeds
from tests.support.messages import naming, tells
from tests.support.models import SMALL, info_of, random_images, random_weights

COUNT, MANY = 200, 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good model and images."""
    found = tmp_path_factory.mktemp("models") / "files"
    found.mkdir()
    PREDICTIONS.prepare(found)
    return found


@pytest.mark.long
@pytest.mark.parametrize("count", [COUNT, pytest.param(MANY, marks=pytest.mark.long)])
def test_every_hostile_model_is_an_answer_or_one_error(count, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    commands = PREDICTIONS.commands[:-1]  # without those that need torch
    ends: Ends = replace(PREDICTIONS, commands=commands).run(count, 1, tmp_path / "files")
    assert ends.inputs >= count and len(ends.distinct) > count * 0.5
    assert ends.codes[1] > count * 0.5 and ends.codes[0] + ends.codes[1] == ends.inputs
    assert len(ends.damage) > 10 and len(ends.messages) > 15


def small(name: str = "v2", dynamic: bool = False) -> onnx.ModelProto:
    config = replace(SMALL[name], image_size=(32, 32), depths=(1, 1, 1, 1))
    info = info_of(config)
    return build(config, info.numerics, random_weights(config), info=info, dynamic_size=dynamic)


def answering(model: onnx.ModelProto, operator: str, *inputs: str, **attributes: Any) -> Any:
    """The model with one more node, which answers in the place of the last."""
    node = next(node for node in model.graph.node if "logits" in node.output)
    node.output[0] = "before"
    last = helper.make_node(operator, ["before", *inputs], ["logits"], **attributes)
    model.graph.node.append(last)
    return model


def holding(model: onnx.ModelProto, **values: Any) -> onnx.ModelProto:
    for name, value in values.items():
        tensor = numpy_helper.from_array(np.array(value, np.int64), f"a/{name}")
        model.graph.initializer.append(tensor)
    return model


def declared(model: onnx.ModelProto, name: str, kind: int, dims: Any) -> onnx.ModelProto:
    for value in (*model.graph.input, *model.graph.output):
        if value.name == name:
            value.CopyFrom(helper.make_tensor_value_info(name, kind, dims))
    return model


def described(model: onnx.ModelProto, part: str, **changes: Any) -> onnx.ModelProto:
    entry = next(each for each in model.metadata_props if each.key == METADATA_KEY)
    said = json.loads(entry.value)
    (said[part] if part else said).update(changes)
    entry.value = json.dumps(said)
    return model


def reshaped(model: onnx.ModelProto, shape: list[int]) -> onnx.ModelProto:
    changed = answering(holding(model, shape=shape), "Reshape", "a/shape")
    return declared(changed, "logits", 1, None)


def looping(model: onnx.ModelProto) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", 7, []), value("c", 9, []), value("x", 1, None)],
        [value("d", 9, []), value("y", 1, None)],
    )
    holding(model, times=1 << 62)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "a/go"))
    node = next(node for node in model.graph.node if "logits" in node.output)
    node.output[0] = "before"
    loop = helper.make_node("Loop", ["a/times", "a/go", "before"], ["logits"], body=body)
    model.graph.node.append(loop)
    return model


def allocating(model: onnx.ModelProto, operator: str = "ConstantOfShape") -> onnx.ModelProto:
    holding(model, count=[1 << 34])
    zeros = helper.make_node(operator, ["a/count"], ["a/zeros"])
    model.graph.node.insert(0, zeros)
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["a/zeros"], ["a/sum"], keepdims=0))
    return answering(model, "Add", "a/sum")


def _node(model: onnx.ModelProto, operator: str, inputs: str, output: str, **given: Any) -> None:
    model.graph.node.append(helper.make_node(operator, inputs.split(), [output], **given))


def counting(model: onnx.ModelProto, operator: str) -> onnx.ModelProto:
    """The model with an array as large as a logit says."""
    holding(model, one=[1], step=1, zero=0)
    _node(model, "ReduceMax", "before", "a/most", keepdims=0)
    _node(model, "Cast", "a/most", "a/whole", to=7)
    _node(model, "Reshape", "a/whole a/one", "a/size")
    inputs = {
        "Range": "a/zero a/whole a/step",
        "Tile": "a/one a/size",
        "Expand": "a/one a/size",
        "ConstantOfShape": "a/size",
        "NonZero": "before",
    }
    _node(model, operator, inputs[operator], "a/grown")
    _node(model, "Cast", "a/grown", "a/float", to=1)
    _node(model, "ReduceSum", "a/float", "a/sum", keepdims=0)
    return answering(model, "Add", "a/sum")


def growing(model: onnx.ModelProto, operator: str, times: int, side: int) -> onnx.ModelProto:
    """The model with as many large results, which are all kept until the end or one by one."""
    holding(model, shape=[side, side], axes=[0, 1])
    _node(model, "ReduceMax", "before", "a/most", keepdims=0)
    _node(model, "Expand", "a/most a/shape", "a/0")
    for number in range(times):
        two = "" if operator == "Exp" else f" a/{number}"
        _node(model, operator, f"a/{number}{two}", f"a/{number + 1}")
    last = " ".join(f"a/{number}" for number in range(times + 1))
    _node(model, "Sum", last if operator == "Exp" else f"a/{times}", "a/all")
    _node(model, "ReduceMax", "a/all a/axes", "a/end", keepdims=0)
    return answering(model, "Add", "a/end")


def multiplying(model: onnx.ModelProto, side: int, operator: str = "ReduceProd") -> onnx.ModelProto:
    """The model with an array whose sides are products of what it holds."""
    holding(model, sides=[2, side], axes=[0, 1])
    _node(model, operator, "a/sides", "a/side", keepdims=1)
    _node(model, "Concat", "a/side a/side", "a/shape", axis=0)
    _node(model, "ReduceMax", "before", "a/most", keepdims=0)
    _node(model, "Expand", "a/most a/shape", "a/grown")
    _node(model, "ReduceMax", "a/grown a/axes", "a/end", keepdims=0)
    return answering(model, "Add", "a/end")


def joining(model: onnx.ModelProto, times: int) -> onnx.ModelProto:
    """The model with a sequence of its images, put together."""
    holding(model, axes=[0, 1, 2, 3])
    _node(model, "SequenceConstruct", "images " * times, "a/several")
    _node(model, "ConcatFromSequence", "a/several", "a/grown", axis=0)
    _node(model, "ReduceMax", "a/grown a/axes", "a/end", keepdims=0)
    return answering(model, "Add", "a/end")


def multiplied(model: onnx.ModelProto, operator: str) -> onnx.ModelProto:
    """The model with all products of what an operator of onnxruntime's own makes of its images."""
    model.opset_import.add(domain="com.microsoft", version=1)
    holding(model, column=[-1, 1], row=[1, -1], axes=[0, 1])
    _node(model, operator, "images", "a/own", domain="com.microsoft")
    _node(model, "Concat", "a/own " * 20, "a/more", axis=0)
    _node(model, "Reshape", "a/more a/column", "a/columns")
    _node(model, "Reshape", "a/more a/row", "a/rows")
    _node(model, "MatMul", "a/columns a/rows", "a/grown")
    _node(model, "ReduceMax", "a/grown a/axes", "a/end", keepdims=0)
    return answering(model, "Add", "a/end")


def padding(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with zeros around a number, as many as onnxruntime's own operator is told late."""
    model.opset_import.add(domain="com.microsoft", version=1)
    for name, value in (("logs", [0, 0, 10, 10]), ("number", [[1]])):
        tensor = numpy_helper.from_array(np.array(value, np.float32), f"a/{name}")
        model.graph.initializer.append(tensor)
    _node(model, "Exp", "a/logs", "a/pads")
    _node(model, "Cast", "a/pads", "a/whole", to=7)
    _node(model, "Pad", "a/number a/whole", "a/padded", domain="com.microsoft")
    _node(model, "Abs", "a/padded", "a/grown")
    _node(model, "ReduceMax", "a/grown", "a/end", keepdims=0)
    return answering(model, "Add", "a/end")


def sparse(model: onnx.ModelProto) -> onnx.ModelProto:
    values, places = np.ones(1, np.float32), np.zeros(1, np.int64)
    held = [numpy_helper.from_array(values, "a/sparse"), numpy_helper.from_array(places, "")]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(*held, [10_000, 10_000]))
    holding(model, axes=[0, 1])
    last = helper.make_node("ReduceMax", ["a/sparse", "a/axes"], ["a/end"], keepdims=0)
    model.graph.node.insert(0, last)
    return answering(model, "Add", "a/end")


def of_many(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The model for so many images at a time, of which it looks at one."""
    holding(model, start=[0], stop=[1], times=[count, 1])
    for node in model.graph.node:
        node.input[:] = ["a/one" if name == "images" else name for name in node.input]
    first = helper.make_node("Slice", ["images", "a/start", "a/stop"], ["a/one"])
    model.graph.node.insert(0, first)
    answering(model, "Expand", "a/times")
    return declared(declared(model, "images", 1, [count, 3, 32, 32]), "logits", 1, [count, 7])


def packed(model: onnx.ModelProto, inner: int) -> onnx.ModelProto:
    """The model with a weight of which a scale stands for as many inputs as it says."""
    weight, attributes = "block1.0.mlp.fc1.weight", {"K": inner, "N": 1, "block_size": inner}
    bytes_, one = np.zeros((1, 1, 16), np.uint8), np.ones(1, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bytes_, f"{weight}_quantized"))
    model.graph.initializer.append(numpy_helper.from_array(one, "a/scale"))
    return answering(
        model, "MatMulNBits", f"{weight}_quantized", "a/scale",
        domain="com.microsoft", bits=4, **attributes,
    )  # fmt: skip


def working(model: onnx.ModelProto, operator: str, *inputs: str, **given: Any) -> onnx.ModelProto:
    """The model with an operator that takes more time or memory than its values are."""
    shapes = {
        "square": [1000, 1000], "map": [1, 1, 1000, 1000], "kernel": [1, 1, 31, 31],
        "rows": [1, 1, 30_000, 32], "few": [150, 150], "matrix": [128, 8000], "turned": [8000, 128],
    }  # fmt: skip
    holding(model, **{name: shapes[name] for name in inputs})
    model.opset_import[0].version = 23 if operator == "Attention" else 20
    kind = np.uint8 if operator.endswith("Integer") else np.float32
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, kind), "a/value"))
    given.setdefault("times", 1)
    for name in dict.fromkeys(inputs):
        _node(model, "Expand", f"a/value a/{name}", f"b/{name}")
    times = given.pop("times")
    for number in range(times):
        _node(model, operator, " ".join(f"b/{name}" for name in inputs), f"c/{number}", **given)
        _node(model, "Cast", f"c/{number}", f"d/{number}", to=1)
        _node(model, "ReduceMax", f"d/{number}", f"e/{number}", keepdims=0)
    return answering(model, "Sum", *(f"e/{number}" for number in range(times)))


def with_function(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = helper.make_opsetid("", 20)
    calls = helper.make_node("f", ["x"], ["y"], domain="local")
    own = helper.make_function("local", "f", ["x"], ["y"], [calls], [opset])
    model.functions.append(own)
    return model


def with_input(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input.append(helper.make_tensor_value_info("more", 1, [1]))
    return model


def without(model: onnx.ModelProto, field: str) -> onnx.ModelProto:
    model.graph.ClearField(field)
    return model


def crowded(model: onnx.ModelProto) -> onnx.ModelProto:
    names = [f"n{number}" for number in range(6000)]
    model.graph.node.extend(helper.make_node("Relu", ["images"], [name]) for name in names)
    return model


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[0].op_type = "Evil"
    model.graph.node[0].domain = "evil"
    return model


STRANGE = {
    "image size": (lambda m: described(m, "preprocessing", image_size=[64, 64]), ("images", "32")),
    "channels": (
        lambda m: described(described(m, "config", in_chans=1), "preprocessing", mean=[0], std=[1]),
        ("images", "3"),
    ),
    "classes": (lambda m: described(m, "config", num_classes=9), ("logits", "7", "9")),
    "no head": (lambda m: described(m, "config", num_classes=0), ("features",)),
    "text": (lambda m: described(m, "config", num_classes="7"), ("metadata",)),
    "width": (lambda m: described(m, "config", embed_dims=[8, 16, 24, "x"]), ("metadata",)),
    "another input": (lambda m: declared(m, "images", 1, [1, 3]), ("images", "3")),
    "input of integers": (
        lambda m: declared(m, "images", 7, ["b", 3, 32, 32]),
        ("images", "int64"),
    ),
    "two inputs": (
        with_input,
        ("more", "images"),
    ),
    "no input": (lambda m: without(m, "input"), ("images",)),
    "no output": (lambda m: without(m, "output"), ("logits",)),
    "no nodes": (lambda m: without(m, "node"), ("a.onnx",)),
    "no weights": (lambda m: without(m, "initializer"), ()),
    "boolean": (lambda m: answering(m, "Cast", to=9), ("logits",)),
    "declared boolean": (
        lambda m: declared(answering(m, "Cast", to=9), "logits", 9, ["b", 7]),
        ("logits", "bool"),
    ),
    "strings": (
        lambda m: declared(answering(m, "Cast", to=8), "logits", 8, ["b", 7]),
        ("logits", "string"),
    ),
    "empty": (
        lambda m: declared(
            answering(holding(m, start=[0, 0], stop=[9, 0]), "Slice", "a/start", "a/stop"),
            "logits", 1, None,
        ),
        ("logits", "7"),
    ),
    "rank": (
        lambda m: reshaped(m, [-1]),
        ("logits", "7"),
    ),
    "fails when it runs": (
        lambda m: reshaped(m, [5, 9]),
        ("a.onnx",),
    ),
    "loop": (looping, ("Loop",)),
    "gigabytes": (allocating, ("a/zeros",)),
    **{
        f"{each} by an answer": (lambda m, each=each: counting(m, each), (each,))
        for each in ("Range", "Tile", "Expand", "ConstantOfShape", "NonZero")
    },
    "many at a time": (lambda m: growing(m, "Exp", 40, 1000), ("holds", "values")),
    "many in a row": (lambda m: growing(m, "Mul", 300, 1000), ("results", "values")),
    "large products": (lambda m: growing(m, "MatMul", 30, 1000), ("multiplications",)),
    "computed size": (lambda m: multiplying(m, 50_000), ("a/grown", "values")),
    "size that nobody computes": (
        lambda m: multiplying(m, 50_000, "ReduceLogSumExp"), ("a/grown", "Expand"),
    ),
    "onnxruntime's own": (lambda m: multiplied(m, "Gelu"), ("a/grown", "holds")),
    "a large window": (
        lambda m: working(m, "MaxPool", "map", kernel_shape=[401, 401], pads=[200] * 4),
        ("multiplications",),
    ),
    "what a convolution gathers": (
        lambda m: working(m, "ConvInteger", "map", "kernel", pads=[15] * 4), ("c/0", "holds"),
    ),
    "what a convolution scatters": (
        lambda m: working(m, "ConvTranspose", "map", "kernel", pads=[15] * 4), ("c/0", "holds"),
    ),
    "scores of attention": (
        lambda m: working(m, "Attention", "rows", "rows", "rows"), ("c/0", "holds"),
    ),
    "between four matrices": (
        lambda m: working(m, "Einsum", *["few"] * 4, equation="ij,kl,ik,jl->"),
        ("multiplications",),
    ),
    "products of integers": (
        lambda m: working(m, "MatMulInteger", "matrix", "turned", times=10), ("multiplications",),
    ),
    "work that nobody knows": (
        lambda m: working(m, "LRN", "map", size=1999), ("LRN", "work"),
    ),
    "sparse": (sparse, ("sparse", "a/sparse")),
    "onnxruntime's own of any size": (padding, ("a/padded", "Pad")),
    "sequence": (lambda m: joining(m, 1000), ("a/grown", "ConcatFromSequence")),
    "images at a time": (lambda m: of_many(m, 100_000), ("holds", "values")),
    "nodes": (crowded, ("nodes",)),
    "function": (with_function, ("functions",)),
    "custom operator": (renamed, ("evil",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_models_are_refused_in_one_line(kind, folder, tmp_path):
    change, facts = STRANGE[kind]
    path = tmp_path / "a.onnx"
    path.write_bytes(change(small()).SerializeToString())
    started = time.perf_counter()
    done = invoke(main, "predict", path, folder / IMAGE)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit) and not done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and tells(last, "a.onnx", *facts)
    assert time.perf_counter() - started < 5


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("place", "values"),
    [
        ({"location": "absent.bin"}, None),
        ({"location": "../outside.bin"}, None),
        ({"location": "pipe.bin"}, None),
        ({"location": "weights.bin"}, b"short"),
        ({"location": "weights.bin", "offset": "far"}, bytes(1 << 20)),
        ({"location": "weights.bin", "offset": str(1 << 40)}, bytes(1 << 20)),
    ],
    ids=str,
)
@pytest.mark.parametrize("told", [True, False])
def test_weights_beside_a_model_that_are_not_there(place, values, told, tmp_path):
    model = small()
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(1 << 20))
    os.mkfifo(tmp_path / "in" / "pipe.bin")
    if values is not None:
        (tmp_path / "in" / place["location"]).write_bytes(values)
    path = tmp_path / "in" / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=naming("a.onnx")):
        load_forward(path, (lambda line: None) if told else None)


def test_metadata_that_is_there_twice_is_refused(tmp_path):
    """The last was believed, where convert refuses the file."""
    model = small()
    (said,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    model.metadata_props.add(key=METADATA_KEY, value=said.value.replace("0.485", "0.9"))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=naming("a.onnx", METADATA_KEY, "2 times")):
        load_forward(tmp_path / "a.onnx")


def test_a_name_that_is_no_unicode_is_one_error(tmp_path, capfd):
    """onnxruntime told stdout of it, where programs read JSON, and tried again."""
    model = small()
    model.graph.node[5].input[0] = "of no node"
    data = model.SerializeToString().replace(b"of no node", b"of \xffo node")
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(OnnxFileError, match=naming("a.onnx", "utf-8")):
        load_forward(tmp_path / "a.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_file_that_every_weight_is_all_of_is_not_read_for_each(tmp_path):
    model = small()
    for number in range(30):
        tensor = model.graph.initializer.add(name=f"a/{number}", data_type=1, dims=[1 << 18])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="shared.bin")
    (tmp_path / "shared.bin").write_bytes(bytes(1 << 20))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    for opens in (load_forward, load_proto):
        with pytest.raises(OnnxFileError, match=naming("a.onnx", "31,457,280", "1,048,576")):
            opens(path)


@pytest.mark.parametrize("place", ["in a function", "by other names"])
def test_nor_is_one_that_is_read_elsewhere_or_by_other_names(place, tmp_path):
    model = small()
    function = onnx.FunctionProto(name="f", domain="d")
    for number in range(30):
        if place == "in a function":
            tensor = function.node.add(op_type="Constant").attribute.add(name="value", type=4).t
        else:
            tensor = model.graph.initializer.add(name=f"a/{number}")
        tensor.MergeFrom(onnx.TensorProto(data_type=1, dims=[1 << 18], data_location=1))
        name = "./" * (number if place == "by other names" else 0) + "shared.bin"
        tensor.external_data.add(key="location", value=name)
    if function.node:
        model.functions.append(function)
    (tmp_path / "shared.bin").write_bytes(bytes(1 << 20))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=naming("a.onnx", "31,457,280", "1,048,576")):
        load_proto(path)


def test_weights_of_integers_are_read_as_far_as_they_are_there():
    model = packed(small(), 50_000_000)
    tracemalloc.start()
    try:
        (found,) = find_changes(model, read_info(model, "a"))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert tells(found, "block1.0.mlp.fc1.weight", "50000000")


def test_sizes_are_computed_where_they_are_small(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(multiplying(small(), 4).SerializeToString())
    images = random_images(SMALL["v2"], (32, 32))[:1]
    assert load_forward(path)[0](images)["logits"].shape == (1, 7)


@pytest.mark.parametrize("size", ["static", "dynamic"])
def test_operators_of_a_good_model_may_be_in_another_order(size, tmp_path, folder):
    plain, turned = (tmp_path / f"{name}.onnx" for name in ("plain", "turned"))
    model = small(dynamic=size == "dynamic")
    onnx.save(model, plain)
    nodes = [*model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))  # which engines put in order
    onnx.save(model, turned)
    answers = {invoke(main, "predict", path, folder / IMAGE).stdout for path in (plain, turned)}
    assert len(answers) == 1 and "".join(answers)


def test_a_size_may_come_by_way_of_a_constant_of_a_shape(tmp_path):
    model = holding(small(), one=[1])  # as torch writes what is repeated for each image
    answer = next(node for node in model.graph.node if "logits" in node.output)
    answer.output[0] = "before"
    _node(model, "Shape", "images", "a/sides")
    _node(model, "Shape", "a/sides", "a/count")
    _node(model, "ConstantOfShape", "a/count", "a/zeros")
    _node(model, "Cast", "a/zeros", "a/whole", to=7)
    _node(model, "Add", "a/whole a/one", "a/ones")
    _node(model, "Expand", "a/zeros a/ones", "a/grown")
    _node(model, "ReduceMax", "a/grown", "a/most", keepdims=0)
    _node(model, "Add", "before a/most", "logits")
    onnx.save(model, tmp_path / "a.onnx")
    forward, _ = load_forward(tmp_path / "a.onnx")
    assert np.isfinite(forward(np.zeros((1, 3, 32, 32), np.float32))["logits"]).all()


def test_operators_that_take_their_own_results_are_one_error(tmp_path):
    model = small()
    model.graph.node[0].input[0] = model.graph.node[3].output[0]
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(OnnxFileError, match="own results"):
        load_forward(tmp_path / "a.onnx")


def test_a_result_that_is_left_out_is_none_that_a_size_comes_from(tmp_path):
    model = holding(small(), sizes=[1, 3, 32, 32])
    for node in model.graph.node:
        node.input[:] = ["a/same" if name == "images" else name for name in node.input]
    dropped = helper.make_node("Dropout", ["images"], ["a/kept", ""])
    resized = helper.make_node("Resize", ["a/kept", "", "", "a/sizes"], ["a/same"])
    model.graph.node.insert(0, resized)
    model.graph.node.insert(0, dropped)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    images = random_images(SMALL["v2"], (32, 32))[:1]
    assert load_forward(path)[0](images)["logits"].shape == (1, 7)


def test_a_path_that_is_no_unicode_is_one_error(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff.onnx")
    path.write_bytes(small().SerializeToString())
    with pytest.raises(RuntimeUnusable, match="Unicode"):
        load_forward(path)


def test_taps_of_a_strange_graph(tmp_path):
    for kind in ("loop", "gigabytes", "classes", "custom operator"):
        with pytest.raises(OnnxFileError, match=naming("name")):
            open_taps(STRANGE[kind][0](small()), "name")


def test_no_taps_are_none_that_a_graph_could_answer():
    with pytest.raises(ConfigError, match="no tap"):
        open_taps(small(), "name", [])


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.onnx")
    for opens in (load_forward, load_proto):
        with pytest.raises(OnnxFileError, match=naming("a.onnx")):
            opens(tmp_path / "a.onnx")


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(32, 32), (96, 64)])
def test_good_models_run_as_they_did(size, tmp_path):
    for seed in model_seeds():
        if "dynamic" in seed.name or size == (32, 32):
            model = onnx.load_model_from_string(seed.data)
            config = SMALL["v2"]
            assert open_taps(model, "name")(random_images(config, size))


def test_a_good_model_answers(folder):
    done = invoke(main, "predict", folder / GOOD, folder / IMAGE)
    assert done.exit_code == 0 and "runs in onnxruntime" in done.stderr


def test_a_link_that_leads_to_itself_is_no_model(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OnnxFileError, match=r"expected an \.onnx file"):
        check_onnx_file(loop)


def test_sizes_may_be_kept_beside_a_model(tmp_path):
    model, images = small(), np.zeros((2, 3, 32, 32), np.float32)
    (tmp_path / "whole.onnx").write_bytes(model.SerializeToString())
    expected = load_forward(tmp_path / "whole.onnx")[0](images)
    kept = {"save_as_external_data": True, "location": "all", "size_threshold": 0}
    onnx.save(model, tmp_path / "model.onnx", **kept)
    found = load_forward(tmp_path / "model.onnx")[0](images)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-6)
