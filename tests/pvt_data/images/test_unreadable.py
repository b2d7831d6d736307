"""``predict`` and ``validate`` of images of which some cannot be read."""

import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from convert import save_model
from pvt_data.answers.accuracy import Opened
from pvt_data.answers.predict import predict
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import ImageError, make_config
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import info_of, random_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path, config = (
        tmp_path_factory.mktemp("model") / "m.onnx",
        make_config("pvt_nano", num_classes=2),
    )
    save_model(path, random_weights(config), info_of(config, "official", "ant", "bee"))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of six images, of which one is cut off and one is none."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "val" / name / f"{number}.png")
    whole = (tmp_path / "val" / "ant" / "2.png").read_bytes()
    (tmp_path / "val" / "ant" / "2.png").write_bytes(whole[:1000])
    (tmp_path / "val" / "bee" / "0.png").write_text("none")
    return tmp_path / "val"


BAD = ("ant/2.png", "bee/0.png")


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_predict_answers_the_others_and_names_them(model, folder, batch):
    done = invoke(pvt_onnx, "predict", model, folder, "--batch-size", batch)
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == 10
    assert all(name not in done.stdout and name in done.stderr for name in BAD)
    assert tells(done.stderr, "Error", 2, 12)

    done = invoke(pvt_onnx, "predict", model, folder, "--json", "--batch-size", batch)
    rows = json.loads(done.stdout)["images"]
    assert done.exit_code == 1 and len(rows) == 12
    failed = [row for row in rows if "error" in row]
    assert [row["image"] for row in failed] == [f"{folder}/{name}" for name in BAD]
    assert all(row["error"] and "classes" not in row for row in failed)
    assert all(len(row["classes"]) == 2 for row in rows if "error" not in row)
    # The others are answered as without them.
    for name in BAD:
        (folder / name).unlink()
    alone = json.loads(invoke(pvt_onnx, "predict", model, folder, "--json").stdout)["images"]
    for row, other in zip([row for row in rows if "classes" in row], alone, strict=True):
        assert row["image"] == other["image"]
        shares, others = ([c["probability"] for c in r["classes"]] for r in (row, other))
        assert shares == pytest.approx(others, abs=1e-6)


def test_predict_of_bad_images_alone_answers_nothing(model, folder):
    bad = [folder / name for name in BAD]
    assert tells(refusal(pvt_onnx, "predict", model, *bad), *bad)
    done = invoke(pvt_onnx, "predict", model, *bad, "--json")
    assert done.exit_code == 1
    assert [row["image"] for row in json.loads(done.stdout)["images"]] == [*map(str, bad)]


@pytest.mark.parametrize("kind", ["folders", "tars"])
def test_validate_counts_the_others_and_names_them(model, folder, tmp_path, kind):
    if kind == "tars":
        (tmp_path / "tars").mkdir()
        for name in ("ant", "bee"):
            with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as tar:
                tar.add(folder / name, name)
        folder = tmp_path / "tars"
    for batch in (1, 64):
        given = (model, "--data-dir", folder, "--batch-size", batch)
        done = invoke(pvt_onnx, "validate", *given, "--json")
        found = json.loads(done.stdout)
        assert done.exit_code == 1 and found["count"] == 10
        assert len(found["unreadable"]) == 2
        assert all(any(name.endswith(bad) for name in found["unreadable"]) for bad in BAD)
        text = invoke(pvt_onnx, "validate", *given)
        assert text.exit_code == 1 and tells(text.stdout, 10) and tells(text.stderr, "Error", 2, 12)
        assert all(bad in text.stderr for bad in BAD)


def test_validate_of_good_images_says_that_there_were_no_bad_ones(model, folder):
    for name in BAD:
        (folder / name).unlink()
    done = invoke(pvt_onnx, "validate", model, "--data-dir", folder, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["unreadable"] == {}


def test_validate_of_bad_images_alone_is_refused(model, folder):
    for path in folder.glob("*/*.png"):
        path.write_text("none")
    message = refusal(pvt_onnx, "validate", model, "--data-dir", folder)
    assert tells(message, folder, 12)


def test_a_model_of_other_channels_is_refused_once(folder):
    config = make_config("pvt_nano", num_classes=2, in_chans=4)
    with pytest.raises(ImageError, match=naming(4)):
        predict(Opened(lambda images: {}, info_of(config), {}), [*folder.glob("*/*.png")], 4, 2)
