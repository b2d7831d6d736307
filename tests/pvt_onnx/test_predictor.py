"""``pvt_onnx.load``: a model to keep, from threads, other processes and with any kind of image."""

import dataclasses
import io
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import pvt_onnx
from convert import save_model
from convert.options import OnnxOptions
from pvt_onnx import load_forward
from pvt_onnx.reading.files import OnnxFileError
from pvt_packages import LibraryMissing
from pvt_spec import ConfigError, ImageError, Preprocessing
from pvt_spec.errors import ArgumentError, PvtError, RuntimeUnusable
from tests.support.commands import invoke
from tests.support.messages import naming, tells
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import run_python


def save(path, *, dynamic=False, size=(32, 32), labels=("ant", "bee", "cat", "dog"), **changes):
    config = dataclasses.replace(SMALL["v2"], **{"num_classes": 4, "image_size": size, **changes})
    preprocessing = Preprocessing(size, 0.9, (0.4,) * config.in_chans, (0.2,) * config.in_chans)
    info = dataclasses.replace(info_of(config, "official", *labels), preprocessing=preprocessing)
    save_model(path, random_weights(config), info, onnx=OnnxOptions(dynamic_size=dynamic))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("predictor") / "m.onnx")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in "abc"]


def test_a_path_gives_its_record_and_several_a_list(model, pictures):
    predictor = pvt_onnx.load(str(model))
    record = predictor.predict(pictures[0])
    assert record["image"] == pictures[0] and len(record["classes"]) == 4
    assert sum(each["probability"] for each in record["classes"]) == pytest.approx(1)
    assert predictor.predict(Path(pictures[0])) == record
    several = predictor.predict(pictures, top_k=2, batch_size=2)
    assert [each["image"] for each in several] == pictures
    for each, whole in zip(several[0]["classes"], record["classes"][:2], strict=True):
        assert each["label"] == whole["label"]
        assert each["probability"] == pytest.approx(whole["probability"], abs=1e-6)


def test_files_pixels_and_pillows_images_are_one(model, pictures):
    predictor = pvt_onnx.load(model)
    image = Image.open(pictures[0])
    one, two, three = predictor.predict([pictures[0], np.asarray(image), image])
    assert one["classes"] == two["classes"] == three["classes"]
    assert (two["image"], three["image"]) == ("image 1", "image 2")
    prepared = [predictor.prepare(each) for each in (pictures[0], np.asarray(image), image)]
    assert all(np.array_equal(each, prepared[0]) for each in prepared)


def test_grey_pixels_are_a_grey_image(model):
    predictor = pvt_onnx.load(model)
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    expected = predictor.predict(Image.fromarray(grey))
    for each in (grey, grey[..., None]):
        assert predictor.predict(each)["classes"] == expected["classes"]


def test_one_of_several_that_is_no_image_has_an_error(model, pictures):
    for given in (None, 3, bytearray(b"a"), [pictures[0]]):
        good, bad = pvt_onnx.load(model).predict([pictures[0], given])
        assert "classes" in good and type(given).__name__ in bad["error"]


def test_a_photo_of_pillows_is_turned_as_its_file_is(model, tmp_path):
    exif, rng = Image.Exif(), np.random.default_rng(0)
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path, exif=exif)
    predictor = pvt_onnx.load(model)
    assert np.array_equal(predictor.prepare(path), predictor.prepare(Image.open(path)))


def test_logits_are_those_of_load_forward(model, pictures):
    predictor = pvt_onnx.load(model, threads=1)
    images = np.stack([predictor.prepare(path) for path in pictures])
    logits = predictor.logits(images)
    assert logits.dtype == np.float32 and logits.shape == (3, 4)
    forward, info = load_forward(model)
    assert np.allclose(logits, forward(images)["logits"], atol=1e-5)
    assert predictor.info == info and predictor.facts["threads"] == "1"


def test_the_session_is_opened_once_whoever_asks_first(model, pictures, monkeypatch):
    opened, really = [], pvt_onnx.predictor.open_model
    monkeypatch.setattr(
        "pvt_onnx.predictor.open_model", lambda *given: opened.append(given) or really(*given)
    )
    with pvt_onnx.load(model) as predictor:
        assert not opened
        with ThreadPoolExecutor(8) as pool:
            found = [*pool.map(predictor.predict, pictures * 8)]
        assert len(opened) == 1
    assert [each["image"] for each in found] == pictures * 8
    for number, record in enumerate(found):
        assert record["classes"] == found[number % 3]["classes"]
    for ask in (predictor.predict, predictor.prepare):
        with pytest.raises(RuntimeUnusable, match=naming("closed")):
            ask(pictures[0])
    assert len(opened) == 1


def test_it_goes_to_other_processes(model, pictures, monkeypatch):
    monkeypatch.chdir(model.parent)
    predictor = pvt_onnx.load("m.onnx", threads=1)
    expected = [each["classes"] for each in predictor.predict(pictures)]
    again = pickle.loads(pickle.dumps(predictor))
    monkeypatch.chdir("/")
    assert again.options == predictor.options
    assert [each["classes"] for each in again.predict(pictures)] == expected
    code = (
        "import os, sys, pvt_onnx; p = pvt_onnx.load(sys.argv[1]); p.predict(sys.argv[2]);"
        "pid = os.fork(); p.predict(sys.argv[2]); pid or os._exit(7);"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    if "fork" in multiprocessing.get_all_start_methods():
        assert run_python("-c", code, model, pictures[0]).stdout == "7\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a call that this system has not")
def test_openvino_in_a_forked_process_is_refused(model, pictures):
    """It waited for ever for threads that are not there."""
    code = (
        "import os, sys, pvt_onnx; p = pvt_onnx.load(sys.argv[1], engine='openvino');"
        "p.predict(sys.argv[2]); pid = os.fork()\n"
        "try: p.predict(sys.argv[2])\n"
        "except Exception as error: print(error, flush=True); os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    done = run_python("-c", code, model, pictures[0], timeout=100)
    assert done.stdout.split()[-1] == "7" and tells(done.stdout, "forked", "spawn")


def test_images_that_cannot_be_used(model, pictures, tmp_path):
    (tmp_path / "bad.png").write_text("none")
    predictor = pvt_onnx.load(model)
    for image in (
        tmp_path / "bad.png",
        tmp_path / "absent.png",
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
    ):
        with pytest.raises(ImageError):
            predictor.predict(image)
    good, bad = predictor.predict([pictures[0], tmp_path / "bad.png"])
    assert "classes" in good and bad["image"] == str(tmp_path / "bad.png") and bad["error"]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 32, 32), np.float32),
        np.zeros((1, 4, 32, 32), np.float32),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((1, 3, 32, 32), np.float64),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((0, 3, 32, 32), np.float32),
    ],
    ids=lambda images: f"{images.dtype}{images.shape}",
)
def test_arrays_that_the_graph_does_not_take_never_reach_an_engine(images, model, monkeypatch):
    predictor = pvt_onnx.load(model)
    predictor.logits(np.zeros((1, 3, 32, 32), np.float32))
    monkeypatch.setattr(
        "pvt_onnx.reading.interface.Interface.feed",
        lambda *_: pytest.fail("an engine is given them"),
    )
    with pytest.raises(OnnxFileError, match=naming("m.onnx", "float32", "3", images.dtype)):
        predictor.logits(images)


def test_sizes_that_a_graph_does_not_take_are_refused_before(model, pictures, tmp_path):
    predictor = pvt_onnx.load(model)
    with pytest.raises(RuntimeUnusable, match=naming("32x32", "64x64", "--dynamic-size")):
        predictor.logits(np.zeros((1, 3, 64, 64), np.float32))
    with pytest.raises(RuntimeUnusable, match=naming("32x32", "48x64")):
        pvt_onnx.load(model, image_size=(48, 64)).predict(pictures[0])
    dynamic = save(tmp_path / "d.onnx", dynamic=True)
    predictor = pvt_onnx.load(dynamic, image_size=(48, 64))
    assert predictor.prepare(pictures[0]).shape == (3, 48, 64)
    assert len(predictor.predict(pictures[0])["classes"]) == 4
    assert predictor.logits(np.zeros((1, 3, 100, 36), np.float32)).shape == (1, 4)
    for size in ((8, 8), (31, 64), (40_000, 40_000)):
        images = np.broadcast_to(np.float32(0), (1, 3, *size))
        with pytest.raises(RuntimeUnusable):
            pvt_onnx.engines.session.load_forward(dynamic)[0](images)
    with pytest.raises(ConfigError, match=naming(8)):
        pvt_onnx.load(dynamic, image_size=(8, 8)).predict(pictures[0])


def test_what_cannot_be_had_is_told_when_it_is_loaded(model, tmp_path, monkeypatch):
    with pytest.raises(OnnxFileError, match=naming("absent.onnx")):
        pvt_onnx.load(tmp_path / "absent.onnx")
    for options in ({"engine": "x"}, {"threads": 0}, {"provider": "cuda"}, {"precision": "bf16"}):
        with pytest.raises(RuntimeUnusable):
            pvt_onnx.load(model, **options)
    monkeypatch.setattr("pvt_packages.is_installed", lambda name: name != "openvino")
    with pytest.raises(LibraryMissing, match=naming("pvt-twins[openvino]")):
        pvt_onnx.load(model, engine="openvino")


def test_lists_are_no_images_of_a_call(model):
    with pytest.raises(ArgumentError, match="images"):
        pvt_onnx.load(model).logits([[1.0], [1.0, 2.0]])


def test_models_without_classes_have_no_logits(tmp_path):
    predictor = pvt_onnx.load(save(tmp_path / "f.onnx", num_classes=0, labels=()))
    for ask in (predictor.logits, predictor.predict):
        with pytest.raises(ConfigError, match=naming("head")):
            ask(np.zeros((1, 3, 32, 32), np.float32))


def test_it_answers_as_the_command_does(model, pictures):
    import json

    from pvt_onnx.command_line import main

    done = invoke(main, "predict", model, *pictures, "--json")
    assert json.loads(done.stdout)["images"] == pvt_onnx.load(model).predict(pictures)


@pytest.mark.parametrize("given", [bytearray(b"a file"), 3, None, io.BytesIO(b"a")])
def test_what_is_no_image_is_said(given, model):
    with pytest.raises(ImageError, match="expected a path"):
        pvt_onnx.load(model).predict(given)


def test_a_files_bytes_are_an_image_and_columns_of_tables_several(model, pictures):
    predictor = pvt_onnx.load(model)
    files = [Path(path).read_bytes() for path in pictures]
    expected = [each["classes"] for each in predictor.predict(pictures)]
    assert predictor.predict(files[0])["classes"] == predictor.predict(pictures[0])["classes"]
    import pandas
    import pyarrow

    plain = (files, np.array(files, object), np.array(pictures), np.array(pictures, object))
    tables = (pandas.Series(files), pyarrow.array(files), pyarrow.chunked_array([files]))
    for column in (*plain, *tables):
        assert [each["classes"] for each in predictor.predict(column)] == expected
    for whole in (pandas.DataFrame({"a": files}), {"a": files}, memoryview(files[0])):
        with pytest.raises(ImageError, match=naming(type(whole).__name__, "or several")):
            predictor.predict(whole)
    good, bad = predictor.predict([files[0], files[1][:50]])
    assert "classes" in good and tells(bad["error"], "cannot be read")
    with pytest.raises(ImageError, match=naming("none of PNG")):
        predictor.predict(b"none")


def test_images_of_pillows_may_be_one_object(model, tmp_path):
    """Threads loaded it at once, or while it went on to its next frame."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (90, 70, 3), np.uint8)) for _ in range(6)]
    frames[0].save(tmp_path / "a.jpg", quality=90)
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    predictor = pvt_onnx.load(model)
    expected = predictor.predict(tmp_path / "a.jpg")["classes"]
    for _ in range(5):
        with Image.open(tmp_path / "a.jpg") as image:
            assert all(each["classes"] == expected for each in predictor.predict([image] * 16))
    each = [predictor.predict(frame)["classes"] for frame in frames]
    with Image.open(tmp_path / "a.tif") as image:
        found = predictor.predict(ImageSequence.Iterator(image))
    assert [record["classes"] for record in found] == each
    buffer = np.empty((90, 70, 3), np.uint8)  # a camera's

    def taken():
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert [record["classes"] for record in predictor.predict(taken())] == each


def test_a_file_that_holds_another_variant_than_is_said_is_refused(model):
    """A file that says what it is was taken whatever was said, by ``serve --model`` too."""
    with pytest.raises(PvtError, match=naming("m.onnx", "pvt_tiny")):
        pvt_onnx.load(model, model="pvt_tiny").logits(np.zeros((1, 3, 32, 32), np.float32))


def test_numbers_below_one_are_refused(model, pictures):
    with pvt_onnx.load(model) as predictor:
        for given in ({"top_k": 0}, {"batch_size": 0}):
            with pytest.raises(ConfigError, match="1 or more"):
                predictor.predict([], **given)
