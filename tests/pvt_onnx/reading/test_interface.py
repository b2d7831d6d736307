"""Models of ours that other tools changed answer as before, however they take images now."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from parity import run as parity
from parity.inputs.samples import Inputs, default_samples
from parity.selection import read_models
from pvt_data.images.pixels import normalise, pixel_mean, pixel_std
from pvt_data.sources.digits import write_digits
from pvt_onnx import build, load_forward
from pvt_onnx.command_line import main
from pvt_onnx.reading.files import OnnxFileError
from pvt_spec import ModelInfo
from tests.support.messages import naming
from tests.support.models import SMALL, info_of, random_weights

Edit = Callable[[onnx.ModelProto, ModelInfo], None]


def small_model(kind: str = "v2", dynamic: bool = False) -> tuple[onnx.ModelProto, ModelInfo]:
    """A small model for images of 32 pixels."""
    config = dataclasses.replace(SMALL[kind], image_size=(32, 32), depths=(1, 1, 1, 1))
    info = info_of(config)
    weights = random_weights(config)
    return build(config, info.numerics, weights, info=info, dynamic_size=dynamic), info


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Another name for an input or output."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new if name == old else name


def rename_both(model: onnx.ModelProto, info: ModelInfo) -> None:
    rename(model, "images", "input")
    rename(model, "logits", "output")


def take_half(model: onnx.ModelProto, info: ModelInfo) -> None:
    """float16 at both ends."""
    rename(model, "images", "images/float32")
    before = helper.make_node("Cast", ["images"], ["images/float32"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, before)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", 10, ["b", 3, 32, 32]))
    rename(model, "logits", "logits/float32")
    after = helper.make_node("Cast", ["logits/float32"], ["logits"], to=TensorProto.FLOAT16)
    model.graph.node.append(after)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", 10, ["b", 7]))


def fix_batch(model: onnx.ModelProto, info: ModelInfo) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 2


def take_channels_last(model: onnx.ModelProto, info: ModelInfo) -> None:
    rename(model, "images", "images/map")
    node = helper.make_node("Transpose", ["images"], ["images/map"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, node)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", 1, ["b", 32, 32, 3]))


def take_pixels(model: onnx.ModelProto, info: ModelInfo) -> None:
    """uint8 (B, H, W, C), normalised in the graph."""
    take_channels_last(model, info)
    rename(model, "images", "images/normalised")
    kept = info.preprocessing
    values = {"mean": pixel_mean(kept), "std": pixel_std(kept)}
    tensors = [numpy_helper.from_array(array, f"pixel/{n}") for n, array in values.items()]
    model.graph.initializer.extend(tensors)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixel/float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixel/float", "pixel/mean"], ["pixel/centred"]),
        helper.make_node("Div", ["pixel/centred", "pixel/std"], ["images/normalised"]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", 2, ["b", 32, 32, 3]))


EDITS: dict[str, tuple[Edit, float]] = {
    "renamed": (rename_both, 0),
    "float16": (take_half, 2e-3),
    "fixed batch": (fix_batch, 1e-6),
    "channels last": (take_channels_last, 0),
    "pixels": (take_pixels, 1e-6),
}
"""Edits, and how far answers may be off then, as a share of the largest."""


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_an_edited_model_answers_as_before(edit: str, dynamic: bool, tmp_path: Path) -> None:
    model, info = small_model(dynamic=dynamic)
    onnx.save(model, tmp_path / "a.onnx")
    change, most = EDITS[edit]
    change(model, info)
    onnx.save(model, tmp_path / "b.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    images = np.stack([normalise(each, info.preprocessing) for each in pixels])
    (before, _), (after, _) = (load_forward(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    expected, found = before(images)["logits"], after(images)["logits"]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= most * np.abs(expected).max()


@pytest.mark.sampled
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_model_is_said_to_be_changed_and_predicts(edit: str, tmp_path: Path) -> None:
    model, info = small_model()
    EDITS[edit][0](model, info)
    onnx.save(model, tmp_path / "b.onnx")
    write_digits(tmp_path / "digits")
    image = sorted((tmp_path / "digits").rglob("*.png"))[0]
    done = CliRunner().invoke(main, ["predict", str(tmp_path / "b.onnx"), str(image)])
    assert done.exit_code == 0, done.output
    assert "changed since it was written" in done.stderr


@pytest.mark.sampled
@pytest.mark.parametrize("runtime", ["onnxruntime", "onnx-reference", "openvino"])
@pytest.mark.parametrize("edit", ["renamed", "fixed batch", "channels last", "pixels"])
def test_parity_sees_through_an_edit_that_changes_nothing(
    edit: str, runtime: str, tmp_path: Path
) -> None:
    model, info = small_model()
    EDITS[edit][0](model, info)
    path = tmp_path / "b.onnx"
    onnx.save(model, path)
    models = read_models([path])
    samples = default_samples(info.preprocessing)
    inputs = Inputs(samples, info.preprocessing.image_size)
    (comparison,) = parity.run([(path, runtime)], models, inputs).comparisons
    assert comparison.same


@pytest.mark.sampled
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("opset", [11, 20])
def test_a_graph_of_pixels_normalises_as_predict_does(
    opset: int, dynamic: bool, kind: str, tmp_path: Path
) -> None:
    config = SMALL[kind]
    info, weights = info_of(config), random_weights(config)
    form: dict[str, Any] = {"opset": opset, "dynamic_size": dynamic}
    for name, uint8 in (("a.onnx", False), ("b.onnx", True)):
        model = build(config, info.numerics, weights, info=info, uint8=uint8, **form)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    images = np.stack([normalise(each, info.preprocessing) for each in pixels])
    said: list[str] = []
    (before, _), (after, _) = (
        load_forward(tmp_path / name, said.append) for name in ("a.onnx", "b.onnx")
    )
    assert np.array_equal(after(images)["logits"], before(images)["logits"])
    session = onnxruntime.InferenceSession(tmp_path / "b.onnx")
    assert np.array_equal(session.run(None, {"images": pixels})[0], before(images)["logits"])
    assert said == []


def test_noise_is_no_image_of_pixels(tmp_path: Path) -> None:
    model, info = small_model()
    take_pixels(model, info)
    onnx.save(model, tmp_path / "a.onnx")
    forward, _ = load_forward(tmp_path / "a.onnx")
    with pytest.raises(OnnxFileError, match=naming("a.onnx", "pixels")):
        forward(np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32))
