"""Hostile ``.onnx`` files: for ``pvt-onnx predict`` and ``validate``, and for ``parity run``."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.fuzzing import damage_json, damage_messages
from tests.support.fuzzing.commands import Command, Program
from tests.support.fuzzing.damage_bytes import Draw, chosen, damaged_bytes, several
from tests.support.fuzzing.inputs import NOISE, Input
from tests.support.fuzzing.seeds import LOCATIONS, Seed, make_folder

IMAGE, FOLDER = "image.png", "val"
GOOD = "good.onnx"

GRAPH = {
    7: {1: {5: {5: {}}}, 5: {13: {}}, 11: {2: {1: {2: {1: {}}}}}, 12: {2: {1: {2: {1: {}}}}}},
    14: {},
    8: {},
}
"""Which fields of a model are messages: nodes and attributes, weights, inputs, outputs, texts."""


@cache
def model_seeds() -> list[Seed]:
    """Small models of every kind, for one size of image and for any."""
    from pvt_onnx import build
    from tests.support.models import MAPS, SMALL, info_of, random_weights

    found = []
    for kind, config in {**SMALL, "maps": MAPS["v2 maps"]}.items():
        config = replace(config, image_size=(32, 32), depths=(1, 1, 1, 1))
        info = info_of(config)
        for dynamic in (False, True):
            model = build(
                config, info.numerics, random_weights(config), info=info, dynamic_size=dynamic
            )
            found.append(Seed(f"{kind}{' dynamic' * dynamic}", model.SerializeToString()))
    return found


def _value(name: str, kind: int, dims: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, dims)


def _append(graph: Any, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
    """A node before the one that answers, in whose place it answers."""
    from onnx import helper

    for node in graph.node:
        for at, name in enumerate(node.output):
            if name == output:
                node.output[at] = "before"
    graph.node.append(helper.make_node(op, ["before", *inputs], [output], **attributes))


def _cast(draw: Draw, graph: Any) -> None:
    output = graph.output[0]
    kind = chosen(draw, (9, 6, 7, 10, 11, 8, 16, 14))
    _append(graph, "Cast", [], output.name, to=kind)
    if chosen(draw, (True, True, False)):
        output.type.tensor_type.elem_type = kind


def _reshape(draw: Draw, graph: Any) -> None:
    from onnx import numpy_helper

    shape = chosen(draw, ([-1], [1, -1], [0, 0, 1, 1], [-1, 1], [], [0, 0, 0]))
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "a/shape"))
    output = graph.output[0]
    _append(graph, "Reshape", ["a/shape"], output.name)
    way = chosen(draw, ("undeclared", "right", "lie"))
    if way == "undeclared":
        output.type.tensor_type.ClearField("shape")
    elif way == "right":
        output.CopyFrom(_value(output.name, 1, [None] * len(shape)))


def _empty(draw: Draw, graph: Any) -> None:
    from onnx import numpy_helper

    ends = [("a/start", [0, 0]), ("a/stop", chosen(draw, ([99, 0], [0, 99], [1, 99])))]
    for name, values in ends:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    _append(graph, "Slice", [name for name, _ in ends], graph.output[0].name)
    graph.output[0].type.tensor_type.ClearField("shape")


def _large(draw: Draw, graph: Any) -> None:
    from onnx import helper, numpy_helper

    count = chosen(draw, (1 << 33, 1 << 31, 1 << 40, 1 << 62))
    graph.initializer.append(numpy_helper.from_array(np.array([count], np.int64), "a/count"))
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["a/count"], ["a/zeros"]))
    graph.node.insert(1, helper.make_node("ReduceSum", ["a/zeros"], ["a/sum"], keepdims=0))
    _append(graph, "Add", ["a/sum"], graph.output[0].name)


def _loop(draw: Draw, graph: Any) -> None:
    from onnx import helper, numpy_helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [_value("i", 7, []), _value("c", 9, []), _value("x", 1, None)],
        [_value("d", 9, []), _value("y", 1, None)],
    )
    graph.initializer.append(numpy_helper.from_array(np.array(1 << 62), "a/times"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "a/go"))
    name = graph.output[0].name
    for node in graph.node:
        for at, output in enumerate(node.output):
            if output == name:
                node.output[at] = "before"
    graph.node.append(helper.make_node("Loop", ["a/times", "a/go", "before"], [name], body=body))


SIDES = (32, 64, 1 << 40)


def _input(draw: Draw, graph: Any) -> None:
    way = chosen(draw, ("dtype", "rank", "dims", "more", "none", "name", "sequence", "symbols"))
    if way == "more":
        graph.input.append(_value("more", chosen(draw, (1, 7, 8)), chosen(draw, ([1], [], None))))
    elif way == "none":
        del graph.input[:]
    elif way == "name":
        graph.input[0].name = chosen(draw, ("x", "", "images2", "logits"))
    elif way == "sequence":
        graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif way == "dtype":
        graph.input[0].type.tensor_type.elem_type = chosen(draw, (0, 2, 7, 8, 9, 10, 11, 99))
    else:
        dims = {
            "rank": [1, 3],
            "symbols": ["a", "a", "a", "a"],
            "dims": [
                chosen(draw, (1, "b", -1, 0)),
                chosen(draw, (3, 1, 4)),
                chosen(draw, (32, 64, 1 << 40)),
                32,
            ],
        }[way]
        graph.input[0].CopyFrom(_value("images", 1, dims))


def _output(draw: Draw, graph: Any) -> None:
    way = chosen(draw, ("none", "name", "dtype", "more", "twice", "dims"))
    if way == "none":
        del graph.output[:]
    elif way == "name":
        graph.output[0].name = chosen(draw, ("x", "", "images"))
    elif way == "dtype":
        graph.output[0].type.tensor_type.elem_type = chosen(draw, (0, 7, 8, 9, 10, 99))
    elif way == "more":
        graph.output.append(_value("more", 1, [1]))
    elif way == "twice":
        graph.output.append(graph.output[0])
    else:
        graph.output[0].CopyFrom(
            _value(graph.output[0].name, 1, chosen(draw, ([1], [2, 3], ["b", 1 << 40], [])))
        )


def _operator(draw: Draw, graph: Any) -> None:
    node = chosen(draw, graph.node)
    way = chosen(draw, ("type", "domain", "input", "output", "attribute", "drop", "twice"))
    if way == "type":
        node.op_type = chosen(
            draw, ("Evil", "", "NonZero", "Det", "Tile", "Range", "Unique", "\x1b[2J")
        )
    elif way == "domain":
        node.domain = chosen(draw, ("evil", "com.microsoft", "ai.onnx.ml"))
    elif way == "input" and node.input:
        node.input[0] = chosen(draw, ("absent", "", "images", "logits"))
    elif way == "output":
        node.output[0] = chosen(draw, ("absent", "", "images"))
    elif way == "attribute" and node.attribute:
        node.attribute[0].ClearField("type")
    elif way == "drop":
        graph.node.remove(node)
    else:
        graph.node.append(node)


def _beside(draw: Draw, graph: Any) -> None:
    tensor = chosen(draw, graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    place = {"location": chosen(draw, (*LOCATIONS, "weights.bin"))}
    if chosen(draw, (True, False)):
        place["offset"] = chosen(draw, ("0", "x", "-1", "99999999999", "9" * 30, "64"))
    if chosen(draw, (True, False)):
        place["length"] = chosen(draw, ("0", "x", "-1", "99999999999", "4"))
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)


def _weight(draw: Draw, graph: Any) -> None:
    tensor = chosen(draw, graph.initializer)
    way = chosen(draw, ("dims", "dtype", "values", "name", "drop", "special"))
    if way == "dims":
        tensor.dims[:] = chosen(
            draw, ([], [1], [1 << 40], [-1], [0], [1 << 20, 1 << 20], [3, 1, 1])
        )
    elif way == "dtype":
        tensor.data_type = chosen(draw, (0, 2, 6, 7, 8, 9, 10, 11, 16, 17, 99))
    elif way == "values":
        tensor.raw_data = tensor.raw_data[: chosen(draw, (0, 1, 3, 4))]
    elif way == "name":
        tensor.name = chosen(draw, ("", "x", "head.weight", "\x1b[2J"))
    elif way == "drop":
        graph.initializer.remove(tensor)
    else:
        value = np.float32(chosen(draw, (np.nan, np.inf, 1e38))).tobytes()
        tensor.raw_data = (value * (len(tensor.raw_data) // 4 + 1))[: len(tensor.raw_data)]


GRAPH_WAYS: dict[str, Callable[[Draw, Any], None]] = {
    "cast": _cast,
    "reshape": _reshape,
    "empty": _empty,
    "large": _large,
    "loop": _loop,
    "input": _input,
    "output": _output,
    "operator": _operator,
    "beside": _beside,
    "weight": _weight,
}


DISAGREEING: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("config", "num_classes", (0, 1, 2, 8, 1000)),
    ("config", "in_chans", (1,)),
    ("config", "embed_dims", ([8, 8, 8, 8],)),
    ("config", "depths", ([2, 1, 1, 1], [200] * 4)),
    ("config", "version", (1, 2)),
    ("config", "linear", (True, False)),
    ("config", "features_only", (True, False)),
    ("preprocessing", "image_size", ([64, 64], [4096, 4096], [32, 64])),
    ("preprocessing", "crop_pct", (0.5,)),
    ("", "task", ("multi_label", "regression")),
    ("", "labels", (["a"] * 7, ["\x1b[2J"] * 7)),
    ("", "hashes", ({"x": "y"},)),
)
"""What metadata may say that is right by itself, and not of this graph: part, key and values."""


def _metadata(draw: Draw, model: Any) -> str:
    entries = {entry.key: entry for entry in model.metadata_props}
    entry = entries["pvt_model_info"]
    way = chosen(draw, ("near", "near", "damage", "drop", "text"))
    if way == "drop":
        model.metadata_props.remove(entry)
    elif way == "text":
        entry.value = chosen(draw, ("", "{}", "[]", "null", "[" * 5000, "\x1b[2J", '{"format": 2}'))
    elif way == "damage":
        described = damage_json.parse_json(entry.value.encode())
        damage_json.damage_json(draw, described)
        try:
            entry.value = damage_json.encode_json(described)
        except (TypeError, ValueError, RecursionError):
            return "metadata: none"
    else:  # right by itself, and not of this graph
        described = json.loads(entry.value)
        part, key, values = chosen(draw, DISAGREEING)
        part, value = {"": described, **described}[part], chosen(draw, values)
        part[key] = value
        if key == "image_size" and chosen(draw, (True, False)):
            described["config"]["image_size"] = value
        entry.value = json.dumps(described)
    return f"metadata: {way}"


@st.composite
def model_files(draw: Draw) -> Input:
    """Models that are damaged, or say of themselves what is not so."""
    import onnx

    if chosen(draw, range(64)) == 63:
        return Input(b":" + draw(st.binary(max_size=200)), NOISE, ("noise",))
    seed = chosen(draw, model_seeds())
    way = chosen(draw, ("graph",) * 5 + ("metadata",) * 2 + ("message", "bytes", "none"))
    if way == "bytes":
        data = seed.data
        for _ in range(several(draw, 1, 3)):
            data = damaged_bytes(draw, data)
        return Input(data, seed, ("bytes",))
    if way == "message":
        parts = damage_messages.parse_message(seed.data, GRAPH)
        done = [damage_messages.damage_message(draw, parts) for _ in range(several(draw, 1, 2))]
        return Input(damage_messages.encode_message(parts), seed, tuple(done))
    model, done = onnx.load_model_from_string(seed.data), []
    if way == "metadata":
        done.append(_metadata(draw, model))
    for _ in range(several(draw, 1, 2) if way == "graph" else 0):
        name = chosen(draw, [*GRAPH_WAYS])
        try:
            GRAPH_WAYS[name](draw, model.graph)
        except (
            IndexError,
            ValueError,
            TypeError,
            StopIteration,
        ):  # another took away what it needs
            continue
        done.append(f"graph: {name}")
    return Input(model.SerializeToString(), seed, tuple(done))


def _prepare(folder: Path) -> None:
    from PIL import Image

    for each in make_folder(folder.parent / f"{folder.name}-beside").iterdir():
        if each.name == "up":
            continue
        (folder / each.name).symlink_to(each)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    for name in (IMAGE, *(f"{FOLDER}/{label}/a.png" for label in "abcdefg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    (folder / GOOD).write_bytes(model_seeds()[2].data)


def _predict(path: Path, folder: Path) -> tuple[Any, list[object]]:
    from pvt_onnx.command_line import main

    return main, ["predict", path, folder / IMAGE, folder / IMAGE, "--json"]


def _validate(path: Path, folder: Path) -> tuple[Any, list[object]]:
    from pvt_onnx.command_line import main

    return main, ["validate", path, "--data-dir", folder / FOLDER]


def _run(path: Path, folder: Path) -> tuple[Any, list[object]]:
    from parity.command_line import main

    runtimes = ("onnxruntime", "onnx-reference")
    return main, ["run", path, "--random", 1, *(f"--runtime={name}" for name in runtimes)]


COMMANDS: tuple[Command, ...] = (*[_predict] * 20, *[_validate] * 5, _run)

PREDICTIONS = Program("hostile.onnx", _prepare, model_files, COMMANDS)
"""Hostile models for ``pvt-onnx`` and ``parity``."""
