"""Files that were changed after they were written: weights by hash, graphs node by node."""

import copy
import json
from collections.abc import Callable
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from convert import read_model, save_model
from convert.formats import ckpt
from convert.inspection import compare_files, is_good
from convert.training.checkpoint import save_training
from parity.command_line import main as parity
from pvt_onnx import load_forward
from pvt_onnx.engines.session import read_info
from pvt_onnx.graph.build import build
from pvt_onnx.reading.changes import find_changes, is_ours
from pvt_onnx.reading.files import load_proto
from pvt_onnx.targets import TARGETS
from pvt_spec import METADATA_KEY, ModelInfo
from pvt_spec.hashes import GRAPH_KEY, can_compare, describe_changes, hash_weights
from tests.support.commands import invoke
from tests.support.converting import refused, save, succeed
from tests.support.messages import Facts, tells
from tests.support.models import SMALL, info_of, random_images, random_weights

Edit = Callable[[onnx.ModelProto], None]


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def set_attribute(output: str, name: str, value: object) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return edit


def scale(model: onnx.ModelProto) -> None:
    name = node_of(model, "block1.0.attn.scaled").input[1]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.array(0.3, np.float32), name))


def subtract(model: onnx.ModelProto) -> None:
    node_of(model, "block1.0").op_type = "Sub"


def swap(model: onnx.ModelProto) -> None:
    node = node_of(model, "block1.0.attn.scaled")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def insert(model: onnx.ModelProto) -> None:
    node = node_of(model, "block1.0.attn.softmax")
    model.graph.node.insert(0, helper.make_node("Neg", [node.input[0]], ["negative"]))
    node.input[0] = "negative"


def rename(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def raise_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def say(field: str, key: str, value: object) -> Edit:
    """Changes what the metadata says, and not the graph."""

    def edit(model: onnx.ModelProto) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        said = json.loads(entry.value)
        said[field][key] = value
        entry.value = json.dumps(said)

    return edit


def repeat_node(model: onnx.ModelProto) -> None:
    """Puts another node before the one that is there, which alone was looked at."""
    set_attribute("block2.1.norm1", "epsilon", 0.5)(other := copy.deepcopy(model))
    model.graph.node.insert(0, node_of(other, "block2.1.norm1"))


def repeat_attribute(model: onnx.ModelProto) -> None:
    node = node_of(model, "block2.1.norm1")
    kept = [*map(copy.deepcopy, node.attribute)]
    del node.attribute[:]
    node.attribute.extend([helper.make_attribute("epsilon", 0.5), *kept])


EDITS: dict[str, tuple[Edit, Facts]] = {
    "node twice": (repeat_node, ("block2.1.norm1", "2 times")),
    "attribute twice": (repeat_attribute, ("block2.1.norm1", "epsilon", "2 times")),
    "gelu": (
        set_attribute("block1.0.mlp.act", "approximate", "tanh"),
        ("block1.0.mlp.act", "approximate", "tanh", "none"),
    ),
    "epsilon": (
        set_attribute("block2.1.norm1", "epsilon", 1e-3),
        ("block2.1.norm1", "epsilon"),
    ),
    "softmax": (
        set_attribute("block3.0.attn.softmax", "axis", -2),
        ("block3.0.attn.softmax", "axis", "-2", "3"),
    ),
    "padding": (
        set_attribute("patch_embed2.proj/map", "pads", [1, 0, 0, 0]),
        ("patch_embed2.proj/map", "pads"),
    ),
    "axis": (set_attribute("features", "axis", 0), ("features", "axis")),
    "scale": (scale, ("constant", "value")),
    "operator": (subtract, ("block1.0", "operator", "Sub", "Add")),
    "inputs": (swap, ("block1.0.attn.scaled", "inputs")),
    "inserted": (insert, ("node negative is new", "block1.0.attn.softmax")),
    "input": (rename, ("input pixels is new", "input images is missing")),
    "batch": (fix_batch, ("input images", "shape")),
    "opset": (raise_opset, ("opset", "21", "20")),
    "said gelu": (say("numerics", "gelu", "tanh"), ("block1.0.mlp.act.gelu", "erf", "tanh")),
    "said heads": (say("config", "num_heads", [2, 4, 6, 8]), ("block1.0.attn.heads", "1", "2")),
}


def edited(folder: Path, name: str) -> tuple[Path, Path]:
    """A file of ours, and another that was edited."""
    source = folder / "a.onnx"
    save_model(source, random_weights(SMALL["v1"]), info_of(SMALL["v1"]))
    model = onnx.load(source)
    EDITS[name][0](model)
    onnx.save(model, folder / "b.onnx")
    return source, folder / "b.onnx"


@pytest.mark.sampled
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_graph_is_not_converted_unasked(name: str, tmp_path: Path) -> None:
    _, other = edited(tmp_path, name)
    said = refused(tmp_path, other, tmp_path / "c.ckpt")
    error = said.partition("Error: ")[2]
    assert tells(error, "changed since it was written", "--allow-changed", *EDITS[name][1])
    said = succeed(other, tmp_path / "c.ckpt", "--allow-changed")
    assert tells(said, "changed", *EDITS[name][1])
    assert read_model(tmp_path / "c.ckpt").changed == ()


@pytest.mark.sampled
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_graph_differs(name: str, tmp_path: Path) -> None:
    source, other = edited(tmp_path, name)
    for files in ((source, other), (other, source)):
        assert not is_good([*compare_files(*files)])
    assert is_good([*compare_files(source, source)])
    assert is_good([*compare_files(other, other)])


@pytest.mark.parametrize("name", ["gelu", "scale", "said heads"])
def test_a_runtime_says_that_a_file_was_changed_and_runs_it(name: str, tmp_path: Path) -> None:
    source, other = edited(tmp_path, name)
    said: list[str] = []
    load_forward(source, said.append)
    assert said == []
    forward, _ = load_forward(other, said.append)
    assert len(said) == 1 and tells(said[0], other, *EDITS[name][1])
    assert forward(random_images(SMALL["v1"]))["logits"].shape == (2, 7)


def test_parity_says_that_a_file_was_changed_and_runs_it(tmp_path: Path) -> None:
    _, other = edited(tmp_path, "gelu")
    bundle = ("-o", tmp_path / "a.npz", "--without-inputs")
    done = invoke(parity, "capture", other, "--runtime", "onnxruntime", *bundle)
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, other, "changed since it was written", *EDITS["gelu"][1])


@pytest.mark.sampled
@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    "options",
    [("--opset", 17), ("--dynamic-size",), ("--dtype", "float16")]
    + [("--target", name) for name in TARGETS]
    + [("--uint8",)],
)
def test_a_graph_that_was_only_saved_again_is_the_same(
    options: tuple[object, ...], external: bool, tmp_path: Path
) -> None:
    """Also where onnx keeps the constants in another file then, as onnxruntime cannot read them."""
    save(tmp_path / "a.ckpt", SMALL["linear"], "official")
    succeed(tmp_path / "a.ckpt", tmp_path / "a.onnx", *options)
    kept = {"save_as_external_data": True, "size_threshold": 0} if external else {}
    onnx.save(onnx.load(tmp_path / "a.onnx"), tmp_path / "b.onnx", **kept)
    assert is_good([*compare_files(tmp_path / "a.onnx", tmp_path / "b.onnx")])
    succeed(tmp_path / "b.onnx", tmp_path / "b.ckpt")
    if not external:
        said: list[str] = []
        load_forward(tmp_path / "b.onnx", said.append)
        assert said == []


@pytest.mark.parametrize("options", [(), ("--dtype", "float16")])
def test_a_graph_that_holds_its_tensors_as_operators_is_the_same(
    options: tuple[object, ...], tmp_path: Path
) -> None:
    """As some tools write them; these were weights that are damaged, or none at all."""
    save(tmp_path / "a.ckpt", SMALL["v2"], "official")
    succeed(tmp_path / "a.ckpt", tmp_path / "a.onnx", *options)
    model = onnx.load(tmp_path / "a.onnx")
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "b.onnx")
    said: list[str] = []
    load_forward(tmp_path / "b.onnx", said.append)
    assert said == []
    for name in "ab":
        succeed(tmp_path / f"{name}.onnx", tmp_path / f"{name}.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def document(model: onnx.ModelProto) -> None:
    model.graph.name, model.graph.doc_string = "another", "text"
    for node in model.graph.node:
        node.name = node.doc_string = "text"


def name_domain(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx"


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("edit", [document, name_domain])
def test_a_graph_that_was_saved_by_another_tool_is_ours(
    edit: Edit, external: bool, tmp_path: Path
) -> None:
    """``verify`` found it to be none that convert writes."""
    save(tmp_path / "a.ckpt", SMALL["v2"], "official")
    succeed(tmp_path / "a.ckpt", tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    edit(model)
    kept = {"save_as_external_data": True, "size_threshold": 0} if external else {}
    onnx.save(model, tmp_path / "b.onnx", **kept)
    info = read_model(tmp_path / "b.onnx").info
    assert is_ours(load_proto(tmp_path / "b.onnx"), info)
    for name in "ab":
        succeed(tmp_path / f"{name}.onnx", tmp_path / f"{name}.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    model = onnx.load(tmp_path / "b.onnx")
    scale(model)
    assert not is_ours(model, info)


def test_a_graph_without_a_hash_is_judged_by_its_attributes(tmp_path: Path) -> None:
    """As files of format 1 are, whose nodes may have been written otherwise."""

    def strip(path: Path, edit: Edit) -> None:
        model = onnx.load(path)
        kept = {entry.key: entry.value for entry in model.metadata_props}
        said = json.loads(kept[METADATA_KEY]) | {"hashes": {}}
        helper.set_model_props(model, {METADATA_KEY: json.dumps(said)})
        assert GRAPH_KEY in kept
        edit(model)
        onnx.save(model, path)

    source, other = edited(tmp_path, "gelu")
    strip(source, lambda model: None)
    succeed(source, tmp_path / "c.ckpt")
    strip(other, lambda model: None)
    said = refused(tmp_path, other, tmp_path / "d.ckpt")
    assert tells(said, "block1.0.mlp.act.gelu", "tanh", "erf")


# --- weights


def flip(path: Path, held: bytes, count: int, value: int) -> None:
    """Overwrites bytes in the middle of a tensor's values, as a bad disk does."""
    data = bytearray(path.read_bytes())
    at = data.index(held) + len(held) // 2
    for place in range(at, at + count):
        data[place] ^= value
    path.write_bytes(data)


@pytest.mark.parametrize("count", [1, 64])
@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors", "a.onnx", "folder"])
def test_a_changed_tensor_is_named(name: str, count: int, tmp_path: Path) -> None:
    path = save(tmp_path / name, SMALL["v2"], "hf")
    tensor = "block2.1.mlp.fc1.weight"
    file = path / "model.safetensors" if path.is_dir() else path
    flip(file, read_model(path).weights[tensor].tobytes(), count, 1)
    said = refused(tmp_path, path, tmp_path / "b.pth")
    assert tells(said.partition("Error: ")[2], path, tensor, "--allow-changed")
    said = succeed(path, tmp_path / "b.pth", "--allow-changed")
    assert f"changed  {tensor} (since it was written)\n" in said
    assert read_model(tmp_path / "b.pth").changed == ()


def test_many_changed_tensors_are_counted(tmp_path: Path) -> None:
    """Of a model that was trained on, with what it said of itself kept beside it."""
    save_model(tmp_path / "a.ckpt", random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    file = ckpt.read(tmp_path / "a.ckpt")
    trained = {name: array + np.float32(0.5) for name, array in file.tensors.items()}
    with (tmp_path / "b.ckpt").open("wb") as stream:
        ckpt.write(stream, trained, file.metadata)
    said = refused(tmp_path, tmp_path / "b.ckpt", tmp_path / "c.onnx")
    assert tells(said.partition("Error: ")[2], f"and {len(trained) - 5} more")


def test_a_tensor_keeps_its_hash_whatever_it_is_kept_as(tmp_path: Path) -> None:
    halves = random_weights(SMALL["v1"], "float16")
    save_model(tmp_path / "a.pth", halves, info_of(SMALL["v1"]))
    written = read_model(tmp_path / "a.pth").info.hashes
    assert written == hash_weights({n: a.astype(np.float32) for n, a in halves.items()})
    for target, *options in (
        ("b.safetensors", "--to-dialect", "official"),
        ("c.ckpt", "--dtype", "float32"),
        ("d.onnx",),
    ):
        succeed(tmp_path / "a.pth", tmp_path / target, *options)
        model = read_model(tmp_path / target)
        assert model.info.hashes == written and model.changed == ()


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_a_training_checkpoint_has_hashes_of_both_kinds_of_weights(
    weights: str, tmp_path: Path
) -> None:
    raw, averaged = random_weights(SMALL["v1"]), random_weights(SMALL["v1"], seed=1)
    state = {**raw, **{f"ema.{name}": array for name, array in averaged.items()}}
    path = tmp_path / "last.ckpt"
    save_training(path, state, info_of(SMALL["v1"]), {})
    succeed(path, tmp_path / "a.onnx", "--weights", weights)
    held = (averaged if weights == "ema" else raw)["head.weight"]
    flip(path, held.tobytes(), 1, 1)
    said = refused(tmp_path, path, tmp_path / "b.onnx", "--weights", weights)
    assert tells(said, "head.weight")
    other = "raw" if weights == "ema" else "ema"
    succeed(path, tmp_path / "b.onnx", "--weights", other)


def test_files_of_format_1_have_no_hashes_and_open(tmp_path: Path) -> None:
    info = info_of(SMALL["v1"])
    said = json.loads(info.to_json())
    del said["hashes"]
    assert ModelInfo.from_json(json.dumps(said)).hashes == {}


def test_hashes_are_those_that_files_have() -> None:
    """What they are of is fixed: a file that was written is compared with it years later."""
    values = np.array([[1.5, -2.0]], np.float16)
    encoded = b"('<f4', (1, 2))" + values.astype("<f4").tobytes()
    new, old = (make(encoded).hexdigest() for make in (sha256, blake2b_16))
    assert hash_weights({"a": values}) == {"a": new[:40]}
    assert hash_weights({"a": values}, {"b": old}) == {"a": old}
    assert can_compare({"a": new[:40]}, {}) and not can_compare({"a": new[:40]}, {"a": old})


def blake2b_16(data: bytes) -> "blake2b":
    return blake2b(data, digest_size=16)


# --- graphs that are damaged on purpose


def lose_inputs(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.input[1:], node.attribute[:]


def lose_outputs(model: onnx.ModelProto) -> None:
    for node in model.graph.node[::3]:
        del node.output[:]


def cut_constants(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if "/" in tensor.name:
            tensor.raw_data = b"\1"


def name_no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def say_many_blocks(model: onnx.ModelProto) -> None:
    say("config", "depths", [200] * 4)(model)


def say_a_large_image(model: onnx.ModelProto) -> None:
    say("preprocessing", "image_size", [4096] * 2)(model)
    node_of(model, "block1.0").op_type = "Sub"


def hold_a_large_constant(model: onnx.ModelProto) -> None:
    values = np.zeros(1_000_000, np.int64)
    model.graph.initializer.append(numpy_helper.from_array(values, "a/b"))
    node = model.graph.node[0]
    node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(values)))


@pytest.mark.sampled
@pytest.mark.parametrize(
    "damage",
    [
        lose_inputs,
        lose_outputs,
        cut_constants,
        name_no_opset,
        say_many_blocks,
        say_a_large_image,
        hold_a_large_constant,
    ],
)
def test_a_damaged_graph_ends_in_one_line(damage: Edit, tmp_path: Path) -> None:
    save_model(tmp_path / "a.onnx", random_weights(SMALL["v1"]), info_of(SMALL["v1"]))
    model = onnx.load(tmp_path / "a.onnx")
    damage(model)
    onnx.save(model, tmp_path / "b.onnx")
    said = refused(tmp_path, tmp_path / "b.onnx", tmp_path / "c.ckpt")
    assert len(said) < 10_000
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    changes = find_changes(model, ModelInfo.from_json(metadata[METADATA_KEY]))
    assert changes and max(map(len, changes)) < 500


def test_many_changes_of_a_graph_are_counted_by_kind(tmp_path: Path) -> None:
    info = info_of(SMALL["v1"])
    model = build(info.config, info.numerics, random_weights(info.config), info=info)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.attribute[0].i = 2
        elif node.op_type == "Gelu":
            node.output[0] += "/renamed"
    text = describe_changes(find_changes(model, read_info(model, "a model")))
    softmaxes = sum(node.op_type == "Softmax" for node in model.graph.node)
    gelus = sum(node.op_type == "Gelu" for node in model.graph.node)
    facts = (f"{softmaxes} changed ({softmaxes} Softmax)", f"{gelus} missing ({gelus} Gelu)")
    assert tells(text, *facts, f"{gelus} new ({gelus} Gelu)", "node block1.0.attn.softmax: axis")
    assert len(text) < 600
