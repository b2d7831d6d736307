"""Graphs that resize, crop and normalise pixels of any size, as Pillow does it."""

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from convert import load_model, save_model
from convert.command_line import main as convert
from convert.options import OnnxOptions
from parity.command_line import main as parity
from pvt_data.images.pixels import normalise
from pvt_data.images.preprocessing import load_pixels
from pvt_data.sources.digits import write_digits
from pvt_onnx import build
from pvt_onnx.command_line import main as pvt_onnx
from pvt_onnx.embedded import without_preprocessing
from pvt_onnx.engines.table import open_engine
from pvt_onnx.engines.tapped import with_outputs
from pvt_onnx.graph.preprocess import CROPPED
from pvt_onnx.predictor import load
from pvt_onnx.reading.changes import find_changes
from pvt_onnx.reading.files import OnnxFileError, load_proto
from pvt_onnx.reading.interface import check_graph
from pvt_onnx.reading.precision import read_precision
from pvt_onnx.targets import TARGETS
from pvt_spec import ConfigError, ModelInfo
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import KINDS, SMALL, golden_file, info_of, random_weights

PHOTO, FLOWER = load_sample_images().images
SOURCES = {
    "wide": PHOTO,
    "tall": FLOWER.transpose(1, 0, 2),
    "small": PHOTO[:40, :51],
    "odd": FLOWER[:201, :399],
    "noise": np.random.default_rng(0).integers(0, 256, (333, 217, 3), np.uint8),
    "its own size": PHOTO[:64, :64],
}
RULES: dict[str, dict[str, Any]] = {
    "usual": {},
    "bilinear": {"interpolation": "bilinear"},
    "squash": {"resize": "squash", "crop_mode": "none", "crop_pct": 1.0},
    "shortest": {"resize": "shortest", "crop_mode": "center_floor", "crop_pct": 0.8},
    "oblong": {"image_size": (64, 96), "crop_pct": 0.9},
    "unnormalised": {"normalise": False, "rescale": 1.0},
}


def described(kind: str = "v2", **changes: Any) -> ModelInfo:
    info = info_of(KINDS[kind])
    preprocessing = dataclasses.replace(info.preprocessing, **changes)
    return dataclasses.replace(info, preprocessing=preprocessing)


def built(info: ModelInfo, **form: Any) -> onnx.ModelProto:
    weights = random_weights(info.config)
    return build(info.config, info.numerics, weights, info=info, embed=True, **form)


@pytest.mark.parametrize("rule", RULES)
def test_pixels_are_within_one_of_pillows(rule: str) -> None:
    """A value that is a half before it is rounded may go either way: few are."""
    info = described(**RULES[rule])
    model = built(info)
    onnx.checker.check_model(model, full_check=True)
    engine = open_engine(with_outputs(model, rule, [CROPPED]).SerializeToString(), rule)
    pixels = dataclasses.replace(info.preprocessing, normalise=False, rescale=1.0)
    for source, given in SOURCES.items():
        (found,) = engine.run({"images": given[None]}, [CROPPED])
        difference = np.abs(found[0] - load_pixels(given, pixels))
        assert difference.max() <= 1 and (difference > 0).mean() < 0.02, source


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_answers_are_those_of_prepared_images(kind: str, precision: str) -> None:
    info = described(kind)
    model = built(info, precision=precision)
    assert find_changes(model, info) == [] and read_precision(model) == precision
    names = [value.name for value in model.graph.output]
    engine = open_engine(model.SerializeToString(), kind)
    exact = open_engine(without_preprocessing(model).SerializeToString(), kind)
    # Whose pixels are Pillow's to the bit, and several at a time.
    given = np.stack([PHOTO[:64, :64], FLOWER[:64, :64]])
    whole = dataclasses.replace(info.preprocessing, crop_pct=1.0)
    model = built(dataclasses.replace(info, preprocessing=whole), precision=precision)
    engine = open_engine(model.SerializeToString(), kind)
    found = engine.run({"images": given}, names)
    prepared = np.stack([load_pixels(each, whole) for each in given])
    for ours, theirs in zip(found, exact.run({"images": prepared}, names), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())


def test_without_its_preprocessing_it_is_the_model_of_prepared_images() -> None:
    info = described("v1")
    form = {"info": info, "opset": 20}
    plain = build(info.config, info.numerics, random_weights(info.config), **form)
    stripped = without_preprocessing(built(info))
    assert [node for node in stripped.graph.node] == [node for node in plain.graph.node]


@pytest.mark.parametrize("target", TARGETS)
def test_targets_that_cannot_resize_so_refuse(target: str) -> None:
    if TARGETS[target].embeds:
        (version,) = {each.version for each in built(described(), target=target).opset_import}
        assert version >= 18
    else:
        with pytest.raises(ConfigError, match=naming(target, "--embed-preprocess")):
            built(described(), target=target)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"interpolation": "lanczos"}, "lanczos"),
        ({"resize": "inside"}, "inside"),
        ({"crop_pct": 1.5}, "1.5"),
        ({"crop_mode": "none"}, "none"),
        ({"resize": "shortest", "image_size": (96, 64)}, "73x73"),
    ],
)
def test_preprocessing_that_nodes_cannot_do_is_refused(changes: Any, fact: str) -> None:
    with pytest.raises(ConfigError, match=naming(fact, "--uint8")):
        built(described(**changes))


@pytest.mark.parametrize("form", [{"opset": 17}, {"dynamic_size": True}])
def test_other_forms_are_refused(form: Any) -> None:
    with pytest.raises(ConfigError, match=naming("--embed-preprocess")):
        built(described(), **form)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model as it is, ``a.onnx``, and with its preprocessing; photos; digits."""
    folder = tmp_path_factory.mktemp("embedded")
    source = golden_file("official_v1_small")
    assert invoke(convert, source, folder / "a.onnx").exit_code == 0
    done = invoke(convert, source, folder / "b.onnx", "--embed-preprocess")
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, "Pillow's", "255"), done.stderr
    for name, pixels in (("wide", PHOTO), ("small", PHOTO[:70, :90])):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_predict_gives_photos_of_different_sizes_whole(files: Path) -> None:
    photos = [files / f"{name}.png" for name in ("wide", "small")]
    answers = []
    for name in ("a.onnx", "b.onnx"):
        done = invoke(pvt_onnx, "predict", files / name, *photos, "--json")
        assert done.exit_code == 0, done.output
        answers.append(json.loads(done.stdout)["images"])
        assert tells(done.stderr, "b.onnx", "whole") == (name == "b.onnx")
    shares = [
        [[each["probability"] for each in image["classes"]] for image in answer]
        for answer in answers
    ]
    np.testing.assert_allclose(shares[0], shares[1], atol=5e-3)


def test_a_photo_reaches_the_graph_as_its_pixels(files: Path, tmp_path: Path) -> None:
    """Normalised and made pixels again it took 94 bytes of memory a pixel, and most of the time."""
    predictor = load(files / "b.onnx")
    prepared = predictor.prepare(PHOTO)
    assert prepared.dtype == np.uint8 and np.array_equal(prepared.transpose(1, 2, 0), PHOTO)
    info = load(files / "a.onnx").info
    kept = info.preprocessing
    logits = predictor.logits(prepared[None])
    assert np.array_equal(logits, predictor.logits(normalise(PHOTO, kept)[None]))
    with pytest.raises(OnnxFileError, match=naming("float32", "uint8", "int16")):
        predictor.logits(prepared[None].astype(np.int16))
    with pytest.raises(OnnxFileError, match=naming("float32", "uint8")):
        load(files / "a.onnx").logits(prepared[None, :, :64, :64])
    Image.fromarray(PHOTO).resize((2000, 1500)).save(tmp_path / "large.ppm")
    interface = check_graph(load_proto(files / "b.onnx"), info, "b")
    tracemalloc.start()
    given = interface.feed(predictor.prepare(tmp_path / "large.ppm")[None], kept)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert next(iter(given.values())).shape == (1, 1500, 2000, 3)
    assert peak < 8 * 2000 * 1500 + (1 << 20)


def test_parity_judges_the_model_within(files: Path) -> None:
    done = invoke(parity, "run", files / "a.onnx", files / "b.onnx", "--random", 2, "--json")
    assert done.exit_code == 0, done.output
    _, embedded = json.loads(done.stdout)["runtimes"]
    assert embedded["same"] and "left out" in embedded["facts"]["images"]


def test_weights_and_description_are_read_back(files: Path) -> None:
    (ours, said), (theirs, other) = (load_model(files / f"{name}.onnx") for name in "ab")
    assert said == other and [*ours] == [*theirs]
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_what_runs_it_otherwise_is_refused(files: Path) -> None:
    photo = files / "wide.png"
    text = refusal(pvt_onnx, "predict", files / "b.onnx", photo, "--engine", "openvino")
    assert tells(text, "OpenVINO", "onnxruntime")


def test_validate_counts_as_for_prepared_images(tmp_path: Path) -> None:
    info = dataclasses.replace(
        described("v2"), config=dataclasses.replace(SMALL["v2"], num_classes=10)
    )
    weights = random_weights(info.config)
    write_digits(tmp_path / "digits")
    results = []
    for name, embed in (("a.onnx", False), ("b.onnx", True)):
        save_model(tmp_path / name, weights, info, onnx=OnnxOptions(embed=embed))
        command = ["validate", tmp_path / name, "--data-dir", tmp_path / "digits/val"]
        done = invoke(pvt_onnx, *command, "--limit", 60, "--json")
        assert done.exit_code == 0, done.output
        results.append(json.loads(done.stdout))
    assert results[0]["top1"] == pytest.approx(results[1]["top1"], abs=2)


def test_an_image_that_would_be_resized_to_far_more_than_is_cropped_is_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.onnx"
    info = described()
    save_model(path, random_weights(info.config), info, onnx=OnnxOptions(embed=True))
    Image.new("RGB", (2, 20_000)).save(tmp_path / "long.png")
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    done = invoke(pvt_onnx, "predict", path, tmp_path / "long.png", tmp_path / "photo.png")
    assert done.exit_code == 1 and "photo.png" in done.stdout
    assert tells(done.stderr, "long.png", "2x20000", "--embed-preprocess")
