"""Files that do not say what they are: options are asked for by name, and with them they work."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import pvt_onnx
from pvt_onnx import build
from pvt_onnx.command_line import main
from pvt_onnx.reading.files import OnnxFileError
from pvt_spec import METADATA_KEY, default_preprocessing, make_config
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import info_of, random_weights

CONFIG = make_config("pvt_nano", num_classes=4)
OPTIONS = ("--profile", "official")


def save(path, text=None, **options):
    """A model whose metadata is this, or lacks it."""
    info = info_of(CONFIG, "official")
    model = build(CONFIG, info.numerics, random_weights(CONFIG), info=info, **options)
    del model.metadata_props[:]
    if text is not None:
        model.metadata_props.add(key=METADATA_KEY, value=text)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return save(tmp_path_factory.mktemp("bare") / "m.onnx")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog"):
        (folder / name).mkdir()
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / name / "0.png")
    return folder


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"format": 2})])
def test_options_are_asked_for_by_name(text, tmp_path, images):
    path = save(tmp_path / "m.onnx", text)
    said = refusal(main, "predict", path, images / "ant")
    assert tells(said, path, METADATA_KEY, "--profile", "--preprocessing", "--labels", "--task")
    assert "--model" not in said
    done = invoke(main, "predict", path, images / "ant", *OPTIONS, "--json")
    assert done.exit_code == 0 and tells(done.stderr, "pvt_nano", "official", "crop_pct=0.875")


@pytest.mark.parametrize("uint8", [False, True])
def test_what_is_said_is_what_the_file_would_say(uint8, tmp_path, images):
    bare, whole = save(tmp_path / "bare.onnx", uint8=uint8), tmp_path / "whole.onnx"
    info = info_of(CONFIG, "official", "ant", "bee", "cat", "dog")
    model = build(CONFIG, info.numerics, random_weights(CONFIG), info=info, uint8=uint8)
    onnx.save(model, whole)
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\n")
    values = {"crop_pct": info.preprocessing.crop_pct}
    more = ("--preprocessing", f"crop_pct={values['crop_pct']}", "--labels", tmp_path / "names.txt")
    for command in ("predict", "validate"):
        asked = (images,) if command == "predict" else ("--data-dir", images)
        found = [
            json.loads(invoke(main, command, path, *asked, *given, "--json").stdout)
            for path, given in ((whole, ()), (bare, (*OPTIONS, *more)))
        ]
        for each in found:
            for key in ("model", "engine", "images_per_second", "model_images_per_second"):
                each.pop(key, None)
        assert found[0] == found[1]
    given = {"profile": "official", "labels": info.labels, "preprocessing": values}
    record = pvt_onnx.load(bare, **given).predict(images / "ant" / "0.png")
    assert record == pvt_onnx.load(whole).predict(images / "ant" / "0.png")


@pytest.mark.long
def test_a_benchmark_needs_no_more_than_the_maths(bare):
    asked = (main, "benchmark", bare, "--rounds", 1, "--seconds", 0, "--pause", 0, "--threads", 1)
    assert tells(refusal(*asked), METADATA_KEY, "--profile")
    done = invoke(*asked, *OPTIONS, "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and document["variant"] == "pvt_nano"
    assert {row["contestant"] for row in document["rows"]} == {"onnxruntime", "gemm"}


def test_a_graph_of_any_size_is_of_the_size_that_is_asked_for(tmp_path, images):
    path, told = save(tmp_path / "m.onnx", dynamic_size=True), []
    given = {"profile": "official", "image_size": (64, 96), "tell": told.append}
    info = pvt_onnx.load(path, **given).info
    assert info.preprocessing == default_preprocessing(
        make_config("pvt_nano", num_classes=4, image_size=(64, 96)), "official"
    )
    assert tells(" ".join(told), "64x96", "pvt_nano", "4 classes")


def test_weights_of_no_variant_need_a_name(tmp_path, bare):
    model = onnx.load(bare)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(10**5, np.int8), "more"))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(OnnxFileError, match=naming("--model VARIANT")):
        _ = pvt_onnx.load(tmp_path / "m.onnx", profile="official").info
    found = pvt_onnx.load(tmp_path / "m.onnx", profile="official", model="pvt_nano").info
    assert found.config == CONFIG


def test_a_graph_that_normalises_images_itself_is_asked_about(tmp_path, bare):
    """They were normalised twice without a word."""
    model = onnx.load(bare)
    (image,) = (value.name for value in model.graph.input)
    for node in model.graph.node:
        node.input[:] = ["centred" if name == image else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    model.graph.node.insert(0, helper.make_node("Sub", [image, "half"], ["centred"]))
    onnx.save(model, tmp_path / "m.onnx")
    told: list[str] = []
    _ = pvt_onnx.load(tmp_path / "m.onnx", profile="official", tell=told.append).info
    assert tells(" ".join(told), "Sub", "--preprocessing normalise")
    told.clear()
    said = {"profile": "official", "preprocessing": {"normalise": False}}
    info = pvt_onnx.load(tmp_path / "m.onnx", tell=told.append, **said).info
    assert not info.preprocessing.normalise and "Sub" not in " ".join(told)


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_a_graph_that_answers_probabilities_is_refused(last, tmp_path, bare):
    """A softmax was taken of them."""
    model = onnx.load(bare)
    (answer,) = (value.name for value in model.graph.output)
    model.graph.node.append(helper.make_node(last, [answer], ["shares"]))
    model.graph.node.append(helper.make_node("Identity", ["shares"], ["answer"]))
    model.graph.output[0].name = "answer"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(OnnxFileError, match=naming(last, "probabilities", "logits")):
        _ = pvt_onnx.load(tmp_path / "m.onnx", profile="official").info


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({"labels": ("a", "b")}, ["2 labels", "4 classes"]),
        ({"task": "binary"}, ["binary", "4 classes"]),
        ({"preprocessing": {"crop_pct": 9999.0}}, ["crop_pct"]),
        ({"preprocessing": {"crop": 0.9}}, ["crop"]),
        ({"model": "pvt_v3"}, ["pvt_v3"]),
    ],
)
def test_what_does_not_fit_is_said(given, facts, bare):
    with pytest.raises(OnnxFileError, match=naming(bare, *facts)):
        _ = pvt_onnx.load(bare, **{"profile": "official", **given}).info


@pytest.mark.parametrize(
    ("taken", "answered"),
    [((1, 3, 32), (1, 4)), ((1, 99, 99, 99), (1, 4)), ((1, 3, 32, 32), (1, 4, 8, 8))],
)
def test_a_graph_that_is_no_pvt_is_one_line(taken, answered, tmp_path, images):
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", taken), ("y", answered))
    ]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    said = refusal(main, "predict", tmp_path / "m.onnx", images / "ant", *OPTIONS)
    assert tells(said, "m.onnx", "'x'", "'y'", "(B, C, H, W)")


def test_a_file_that_says_what_it_is_is_believed_which_is_said(tmp_path, images):
    info = info_of(CONFIG, "official")
    model = build(CONFIG, info.numerics, random_weights(CONFIG), info=info)
    onnx.save(model, tmp_path / "m.onnx")
    done = invoke(
        main, "predict", tmp_path / "m.onnx", images / "ant", *OPTIONS, "--task", "binary"
    )
    assert done.exit_code == 0 and tells(done.stderr, "profile", "task", "convert")
