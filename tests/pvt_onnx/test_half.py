"""Graphs that compute in float16: norms and softmax in float32, and judged as float16."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import pvt_onnx
from convert import load_model, save_model
from convert.command_line import main as convert
from convert.options import OnnxOptions
from parity.inputs.samples import Inputs, default_samples
from parity.report.text import verdict
from parity.run import run
from parity.selection import read_models
from pvt_onnx import build, open_taps
from pvt_onnx.reading.changes import find_changes
from pvt_onnx.reading.precision import read_precision
from pvt_onnx.targets import TARGETS
from pvt_spec import ConfigError, ModelInfo, output_names, tensor_specs
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.hashes import PRECISION_KEY
from pvt_spec.precisions import PRECISIONS
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import (
    GOLDEN_SMALL,
    KINDS,
    SMALL,
    golden_file,
    info_of,
    random_images,
    weights_for,
)

HALF, SINGLE = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
FORMS: dict[str, dict[str, Any]] = {
    "usual": {},
    "any size": {"dynamic_size": True, "half_ends": True},
    "old": {"opset": 11},
    "portable": {"target": "portable", "dynamic_size": True},
    "openvino": {"target": "openvino", "half_ends": True},
    "tensorrt": {"target": "tensorrt"},
}


def info(kind: str) -> ModelInfo:
    return info_of(KINDS[kind], "mindcv" if kind.startswith("v2") else "official")


def built(kind: str, precision: str = "fp16", **form: Any) -> onnx.ModelProto:
    said = info(kind)
    weights = weights_for(said.config, said.numerics)
    return build(said.config, said.numerics, weights, info=said, precision=precision, **form)


@pytest.mark.sampled
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tap_is_within_what_float16_does(kind: str, form: str) -> None:
    model, images = built(kind, **FORMS[form]), random_images(KINDS[kind])
    onnx.checker.check_model(model, full_check=True)
    found, expected = (
        open_taps(each, kind)(images) for each in (model, built(kind, "fp32", **FORMS[form]))
    )
    for name, exact in expected.items():
        error = np.sqrt(np.square(found[name] - exact).mean() / np.square(exact).mean())
        assert error < PRECISIONS["fp16"].relative, name
    ends = HALF if FORMS[form].get("half_ends") else SINGLE
    values = (*model.graph.input, *model.graph.output)
    assert {value.type.tensor_type.elem_type for value in values} == {ends}
    assert [value.name for value in model.graph.output] == [*output_names(KINDS[kind])]
    assert read_precision(model) == "fp16" and find_changes(model, info(kind)) == []


@pytest.mark.parametrize("kind", SMALL)
def test_products_take_float16_and_norms_and_softmax_float32(kind: str) -> None:
    model = onnx.shape_inference.infer_shapes(built(kind), strict_mode=True)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    for node in model.graph.node:
        taken = {kinds[name] for name in node.input if kinds.get(name) in (HALF, SINGLE)}
        if node.op_type in ("Conv", "Gemm", "MatMul", "Gelu"):
            assert taken == {SINGLE if ".pool" in node.name else HALF}, node.name
        elif node.op_type in ("LayerNormalization", "Softmax", "ReduceMean"):
            assert taken == {SINGLE}, node.name


def test_a_changed_graph_in_float16_is_named() -> None:
    model = built("v2")
    (node,) = (node for node in model.graph.node if node.name == "block2.0.norm2/wide")
    next(a for a in node.attribute if a.name == "epsilon").f = 1e-3
    (change,) = find_changes(model, info("v2"))
    assert tells(change, "block2.0.norm2/wide", "epsilon")


def test_pixels_go_in_and_float16_comes_out() -> None:
    model = built("v2", uint8=True, half_ends=True)
    kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    assert kinds == [onnx.TensorProto.UINT8, HALF]
    assert find_changes(model, info("v2")) == []


@pytest.mark.parametrize("target", TARGETS)
def test_targets_whose_own_tools_do_that_refuse(target: str) -> None:
    if "fp16" in TARGETS[target].precisions:
        assert read_precision(built("v2", target=target)) == "fp16"
    else:
        with pytest.raises(ConfigError, match=naming(target, "fp16", "fp32")):
            built("v2", target=target)


@pytest.mark.sampled
@pytest.mark.parametrize("case", GOLDEN_SMALL)
def test_a_converted_checkpoint_is_the_same_at_float16(case: str, tmp_path: Path) -> None:
    source, target = golden_file(case), tmp_path / "half.onnx"
    done = invoke(convert, source, target, "--precision", "fp16")
    assert done.exit_code == 0 and tells(done.stderr, "float16"), done.output
    models = read_models([source, target])
    kept = models[source].info.preprocessing
    engines = ["onnxruntime", "openvino", "onnx-reference"][: 3 if case == GOLDEN_SMALL[0] else 1]
    pairs = [(target, engine) for engine in engines]
    for found in run(pairs, models, Inputs(default_samples(kept)[:4], kept.image_size)).comparisons:
        assert found.same and found.precision == "fp16", verdict(found)
        assert found.checked["weights"] == len(models[source].weights) and not found.missing
    assert not models[target].rounded and not models[target].changed
    exact, held = models[source], models[target]
    assert held.info.numerics == exact.info.numerics
    for spec in tensor_specs(exact.info.config):
        kind = exact.weights[spec.name].dtype if spec.kind == "norm" else np.float16
        assert held.weights[spec.name].dtype == kind
        expected = exact.weights[spec.name].astype(kind).tobytes()
        assert held.weights[spec.name].tobytes() == expected, spec.name


def test_the_library_writes_what_the_command_does(tmp_path: Path) -> None:
    weights, said = load_model(golden_file("official_v2_small"))
    for name in ("a.onnx", "b.onnx"):
        save_model(tmp_path / name, weights, said, onnx=OnnxOptions(precision="fp16"))
        weights, said = load_model(tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata[PRECISION_KEY] == "fp16"
    assert find_changes(model, said) == []


def test_only_an_onnx_computes_in_something(tmp_path: Path) -> None:
    source = golden_file("official_v2_small")
    done = invoke(convert, source, tmp_path / "a.pth", "--precision", "fp16")
    assert done.exit_code == 2 and tells(done.output, "--precision", ".onnx")
    done = invoke(convert, source, tmp_path / "a.pth", "--float16-ends")
    assert done.exit_code == 2 and tells(done.output, "--float16-ends")
    text = refusal(convert, source, tmp_path / "a.onnx", "--precision=fp16", "--target=ascend")
    assert tells(text, "ascend", "fp16")
    text = refusal(convert, source, tmp_path / "a.onnx", "--float16-ends")
    assert tells(text, "--precision fp16")


def test_what_computes_in_float16_is_not_run_as_float32(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(built("v2").SerializeToString())
    assert pvt_onnx.load(tmp_path / "a.onnx").facts["precision"] == "fp16"
    with pytest.raises(RuntimeUnusable) as refusal:
        pvt_onnx.load(tmp_path / "a.onnx", precision="fp32").info  # noqa: B018, opens it
    assert tells(str(refusal.value), "a.onnx", "fp16", "fp32", "leave precision out")
