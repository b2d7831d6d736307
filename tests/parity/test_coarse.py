"""Graphs that tools made int8 or float16 are the same at that precision, if made well."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convert import load_model, save_model
from convert.command_line import main as convert
from parity.command_line import main as parity
from parity.inputs.samples import Inputs, default_samples, load_batch
from parity.measure.compare import Comparison
from parity.report.text import verdict
from parity.run import run
from parity.selection import read_models
from pvt_data.sources.digits import write_digits
from pvt_onnx import build
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import tap_names
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import SMALL, info_of, random_weights
from tests.support.quantised import HALVERS, QUANTISERS

SEVEN_BITS = {"dynamic", "static", "channels", "operators"}
"""Whose weights have a bit less here: without VNNI onnxruntime's sums of others saturate."""

FEW = [("v2", tool) for tool in (*QUANTISERS, *HALVERS)] + [("v1", "channels"), ("v1", "float16")]
ALL = [(kind, tool) for kind in SMALL for tool in (*QUANTISERS, *HALVERS)]


@cache
def made(kind: str, tool: str) -> bytes:
    """What a tool makes of a small model."""
    info, images = info_of(SMALL[kind]), calibration(kind)
    before = build(info.config, info.numerics, random_weights(info.config), info=info)
    options = {"reduce_range": True} if tool in SEVEN_BITS else {}
    after: bytes = (QUANTISERS | HALVERS)[tool](before, images, **options).SerializeToString()
    return after


def calibration(kind: str) -> np.ndarray:
    """Images like those that parity shows, but others."""
    kept = info_of(SMALL[kind]).preprocessing
    batch: np.ndarray = load_batch(default_samples(kept, seed=7), kept)
    return batch


def model_of(kind: str, tool: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(made(kind, tool))


def compared(
    kind: str, model: onnx.ModelProto, folder: Path, runtime: str = "onnxruntime"
) -> Comparison:
    """What ``parity run`` finds of a graph, by the float model that it was made of."""
    exact, coarse = folder / "float.safetensors", folder / "coarse.onnx"
    save_model(exact, random_weights(SMALL[kind]), info_of(SMALL[kind]), force=True)
    onnx.save(model, coarse)
    models = read_models([exact, coarse])
    size = models[exact].info.preprocessing.image_size
    given = Inputs(default_samples(models[exact].info.preprocessing)[:4], size)
    (comparison,) = run([(coarse, runtime)], models, given).comparisons
    return comparison


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kind", "tool"),
    [*FEW, *(pytest.param(*each, marks=pytest.mark.long) for each in ALL if each not in FEW)],
)
def test_what_a_tool_made_well_is_the_same_at_its_precision(
    kind: str, tool: str, tmp_path: Path
) -> None:
    found = compared(kind, model_of(kind, tool), tmp_path)
    assert found.same, verdict(found)
    assert found.precision == ("fp16" if tool in HALVERS else "int8")
    assert found.checked["weights"] == len(random_weights(SMALL[kind]))
    assert tells(verdict(found), "same", found.precision)
    assert bool(found.missing) == (tool == "operators")


@pytest.mark.parametrize("kind", ["v1", "v2", pytest.param("linear", marks=pytest.mark.long)])
def test_taps_that_a_tool_removed_are_said(kind: str, tmp_path: Path) -> None:
    found = compared(kind, model_of(kind, "operators"), tmp_path)
    names = tap_names(SMALL[kind])
    assert [*found.names] == [name for name in names if name not in found.missing]
    assert "logits" in found.names and found.missing
    assert tells(verdict(found), f"{len(found.names)} of {len(names)}", found.missing[0])


Edit = Callable[[onnx.ModelProto], None]


def change(name: str, how: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Other values of an initializer."""

    def edit(model: onnx.ModelProto) -> None:
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        values = how(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return edit


def swapped(values: np.ndarray) -> np.ndarray:
    return values[:, [1, 0, *range(2, values.shape[1])]]


def nudged(values: np.ndarray) -> np.ndarray:
    return np.where(values == values.max(), values - np.sign(values), values).astype(values.dtype)


def set_epsilon(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon" and node.name == "block2.0.norm2":
                attribute.f = 1e-3


def gauge_otherwise(model: onnx.ModelProto) -> None:
    """One result is taken for 1.3 times what it is."""
    kept = {tensor.name: tensor for tensor in model.graph.initializer}
    name = "block2.0.mlp.act_DequantizeLinear"
    (node,) = (node for node in model.graph.node if node.name == name)
    scale = numpy_helper.to_array(kept[node.input[1]])
    node.input[1] = "another/scale"
    model.graph.initializer.append(
        numpy_helper.from_array(scale * np.float32(1.3), "another/scale")
    )


FC1, KV = "block2.0.mlp.fc1.weight", "block2.0.attn.kv.weight"
BROKEN: dict[str, tuple[str, Edit, str, str]] = {
    "scale": ("channels", change(f"{FC1}_scale", lambda s: s * np.float32(1.3)), FC1, "mlp"),
    "zero point": (
        "channels",
        change(f"{FC1}_zero_point", lambda z: z + z.dtype.type(1)),
        FC1,
        "mlp",
    ),
    "column": ("channels", change(f"{KV}_quantized", swapped), KV, "attn"),
    "one weight": ("channels", change(f"{KV}_quantized", nudged), KV, "attn"),
    "column of integers": ("operators", change(f"{KV}_quantized", swapped), KV, "attn"),
    "scale of products": (
        "dynamic",
        change(f"{KV}_scale", lambda s: s * np.float32(1.3)),
        KV,
        "attn",
    ),
    "epsilon": ("channels", set_epsilon, "block2.0.norm2.epsilon", "mlp"),
    "half": ("float16", change(KV, nudged), KV, "attn"),
}
"""A tool, what is wrong with what it made, what is named, and the branch that it enters."""


@pytest.mark.sampled
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_in_a_coarse_graph_is_named(what: str, tmp_path: Path) -> None:
    tool, edit, subject, branch = BROKEN[what]
    model = model_of("v2", tool)
    edit(model)
    found = compared("v2", model, tmp_path)
    assert not found.same
    assert [d.subject for d in found.differences] == [subject]
    assert found.first_different in (f"block2.0.{branch}", "block2.0")  # not all show the former


def test_a_scale_of_results_that_is_wrong_shows_at_a_tap(tmp_path: Path) -> None:
    model = model_of("v2", "channels")
    gauge_otherwise(model)
    found = compared("v2", model, tmp_path)
    assert found.differences == [] and found.first_different == "block2.0.mlp"


@pytest.mark.long
def test_onnx_own_evaluator_and_openvino_run_integers_too(tmp_path: Path) -> None:
    for runtime, shown in (("onnx-reference", True), ("openvino", False)):
        found = compared("v2", model_of("v2", "channels"), tmp_path, runtime)
        assert found.same and found.precision == "int8", verdict(found)
        assert bool(found.missing) != shown


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, ``float.onnx``, and its int8 and float16 forms."""
    folder = tmp_path_factory.mktemp("coarse")
    save_model(folder / "float.onnx", random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    onnx.save(model_of("v2", "channels"), folder / "int8.onnx")
    onnx.save(model_of("v2", "float16"), folder / "half.onnx")
    return folder


def test_bundles_of_coarse_graphs_are_judged(files: Path) -> None:
    bundle = files / "int8.npz"
    done = invoke(parity, "capture", files / "int8.onnx", "--runtime", "onnxruntime", "-o", bundle)
    assert done.exit_code == 0, done.output
    done = invoke(parity, "check", bundle, files / "float.onnx", "--json")
    runtime = json.loads(done.stdout)["runtimes"][-1]
    assert done.exit_code == 0 and runtime["precision"] == "int8" and runtime["structure"] == []


def test_reports_say_what_is_coarse(files: Path) -> None:
    page = files / "page.html"
    command = ["run", files / "float.onnx", files / "int8.onnx", "--html", page, "--json"]
    done = invoke(parity, *command)
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, "int8.onnx", "quantised") and not tells(done.stderr, "changed")
    _, int8 = json.loads(done.stdout)["runtimes"]
    assert int8["missing_taps"] == [] and "int8" in page.read_text()
    assert int8["facts"]["weights in steps"] == "122 of 122"


@pytest.mark.parametrize(("name", "precision"), [("int8", "int8"), ("half", "fp16")])
def test_inspect_says_how_a_file_computes(files: Path, name: str, precision: str) -> None:
    done = invoke(convert, "inspect", files / f"{name}.onnx", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["precision"] == precision and "changed" not in facts
    assert {"int8": "int8", "fp16": "float16"}[precision] in facts["dtypes"]


@pytest.mark.parametrize("name", ["int8", "half"])
def test_a_bundle_of_a_rounded_model_is_the_same_as_in_a_run(
    files: Path, name: str, tmp_path: Path
) -> None:
    """Attributes that were rounded with the rest were called others."""
    bundle, source = tmp_path / "a.npz", files / f"{name}.onnx"
    options = ("--runtime", "onnxruntime", "--random", 2, "-o", bundle)
    assert invoke(parity, "capture", source, *options).exit_code == 0
    done = invoke(parity, "check", bundle, files / "float.onnx", "--runtime", "onnxruntime")
    assert done.exit_code == 0 and tells(done.stdout, "a.npz", "same"), done.output


@pytest.mark.parametrize("name", ["int8", "half"])
def test_weights_that_a_tool_rounded_are_converted_only_when_asked(
    files: Path, name: str, tmp_path: Path
) -> None:
    source, target = files / f"{name}.onnx", tmp_path / "a.pth"
    assert tells(refusal(convert, source, target), source, "--allow-changed")
    assert not target.exists()
    assert invoke(convert, source, target, "--allow-changed").exit_code == 0
    weights, _ = load_model(target)
    exact, _ = load_model(files / "float.onnx")
    for name, array in weights.items():
        assert (
            np.abs(array.astype(np.float32) - exact[name]).max()
            < 0.02 * np.abs(exact[name]).max() + 0.02
        )


@pytest.mark.parametrize(("name", "words"), [("int8", "quantised"), ("half", "fp16")])
def test_predict_says_how_a_file_computes(files: Path, name: str, words: str) -> None:
    images = files / "images"
    if not images.exists():
        write_digits(images)
    image = next(images.rglob("*.png"))
    done = invoke(pvt_onnx, "predict", files / f"{name}.onnx", image)
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, words) and not tells(done.stderr, "changed")


@pytest.mark.long
@pytest.mark.parametrize("tool", ["channels", "operators"])
def test_diagnose_finds_nothing_in_what_is_sound_and_the_weight_that_is_not(
    tool: str, tmp_path: Path
) -> None:
    exact, coarse = tmp_path / "float.safetensors", tmp_path / "int8.onnx"
    save_model(exact, random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    model = model_of("v2", tool)
    onnx.save(model, coarse)
    done = invoke(parity, "diagnose", exact, coarse)
    assert done.exit_code == 0 and tells(done.stdout, "no difference", "int8"), done.output
    change(f"{KV}_quantized", swapped)(model)
    onnx.save(model, coarse)
    done = invoke(parity, "diagnose", exact, coarse)
    assert done.exit_code == 1 and tells(done.stdout, KV, "int8.onnx's own"), done.output


@pytest.mark.long
def test_accuracy_is_compared_with_that_of_coarse_graphs(tmp_path: Path) -> None:
    info = info_of(dataclasses.replace(SMALL["v2"], num_classes=10))
    weights = random_weights(info.config)
    save_model(tmp_path / "float.onnx", weights, info)
    model = onnx.load(tmp_path / "float.onnx")
    for tool in ("channels", "float16"):
        options = {"reduce_range": True} if tool in SEVEN_BITS else {}
        after = (QUANTISERS | HALVERS)[tool](model, calibration("v2"), **options)
        onnx.save(after, tmp_path / f"{tool}.onnx")
    write_digits(tmp_path / "digits")
    names = [tmp_path / f"{name}.onnx" for name in ("float", "channels", "float16")]
    command = ["validate", *names, "--images", tmp_path / "digits/val", "--limit", 30, "--json"]
    done = invoke(parity, *command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["runtimes"]
    assert [each["precision"] for each in found] == ["fp32", "int8", "fp16"]
    assert all(each["decisions"]["accuracy"]["images"] == 30 for each in found)
