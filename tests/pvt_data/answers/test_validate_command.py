"""``validate`` as a user gives it: several models, tables, files that it goes on from."""

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from convert import save_model
from pvt_onnx import load_forward
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import make_config
from pvt_spec.model_info import Preprocessing
from pvt_torch.command_line import main as pvt_torch
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import info_of, random_weights

LABELS = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of other weights, and one that answers NaN."""
    folder = tmp_path_factory.mktemp("models")
    config = make_config("pvt_nano", num_classes=3)
    info = dataclasses.replace(
        info_of(config, "official", *LABELS), preprocessing=Preprocessing((32, 32), 0.9)
    )
    for seed, name in enumerate(("a.onnx", "b.onnx", "nan.onnx", "a.pth")):
        weights = random_weights(config, seed=seed % 3)
        if name == "nan.onnx":
            weights["head.bias"] = np.full(3, np.nan, np.float32)
        save_model(folder / name, weights, info)
    return folder


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in LABELS:
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "val" / name / f"{number}.png")
    return tmp_path / "val"


def test_several_models_have_a_row_each_in_every_form(models, images, tmp_path):
    files = (models / "a.onnx", models / "b.onnx")
    common = (pvt_onnx, "validate", *files, "--data-dir", images, "--batch-size", 5)
    done = invoke(*common, "--per-class", "--workers", 2)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(file) for file in files]
    assert lines[3] == "" and lines[4] == str(files[0]) and lines[5].split()[0] == "class"
    assert "images/s" in done.stderr and "images/s" not in done.stdout
    found = json.loads(invoke(*common, "--json", "--per-class").stdout)
    rows = list(csv.DictReader(invoke(*common, "--csv").stdout.splitlines()))
    for file, record, row in zip(files, found, rows, strict=True):
        assert record["model"] == row["model"] == str(file) and record["count"] == 12
        assert float(row["top1"]) == pytest.approx(record["top1"], abs=1e-4)
        assert float(row["top1"]) + float(row["top1_err"]) == pytest.approx(100, abs=1e-3)
        assert (row["param_count"], row["img_size"]) == ("0.49", "32")
        low, high = record["top1_interval"]
        assert low <= record["top1"] <= high
        right = sum(each["count"] * each["top1"] for each in record["classes"]) / 12
        assert right == pytest.approx(record["top1"])
        assert "onnxruntime" in record["engine"]["framework"]
    one = json.loads(
        invoke(pvt_torch, *common[1:2], models / "a.pth", *common[4:], "--json").stdout
    )
    assert one["top1"] == found[0]["top1"] and one["loss"] == pytest.approx(found[0]["loss"], 1e-4)
    assert "classes" not in one


def test_files_are_not_replaced_without_force(models, images, tmp_path):
    (tmp_path / "r.csv").write_text("mine")
    common = (pvt_onnx, "validate", models / "a.onnx", "--data-dir", images)
    assert tells(refusal(*common, "-o", tmp_path / "r.csv"), tmp_path / "r.csv", "--force")
    assert (tmp_path / "r.csv").read_text() == "mine"
    done = invoke(*common, "-o", tmp_path / "r.csv", "--force")
    assert done.exit_code == 0 and not done.stdout
    assert (tmp_path / "r.csv").read_text() == invoke(*common, "--csv").stdout
    for option in ("--output", "--resume"):
        done = (*common, option, models / "a.onnx", "--force", "--json")
        assert tells(refusal(*done), models / "a.onnx", "source")
    assert tells(refusal(*common, "--resume", tmp_path / "r.csv"), "r.csv")


@pytest.mark.parametrize(
    ("flags", "facts"),
    [
        (["--csv", "--json"], ["--csv", "--json"]),
        (["--csv", "--per-class"], ["--per-class", "--json"]),
        (["-o", "r.dat"], ["r.dat", "--csv", ".json"]),
    ],
)
def test_forms_that_do_not_go_together_are_a_wrong_command_line(models, images, flags, facts):
    done = invoke(pvt_onnx, "validate", models / "a.onnx", "--data-dir", images, *flags)
    assert done.exit_code == 2 and tells(done.stderr, *facts)


def test_a_model_is_counted_once_and_told_from_another_by_its_bytes(models, images, tmp_path):
    shutil.copy(models / "a.onnx", tmp_path / "m.onnx")
    common = (pvt_onnx, "validate", tmp_path / "m.onnx", "--data-dir", images)
    resumed = (*common, "--resume", tmp_path / "kept.json")
    first = invoke(*resumed)
    assert first.exit_code == 0 and first.stdout == invoke(*common).stdout
    again = invoke(*resumed, "--threads", 1)
    assert again.stdout == first.stdout and tells(again.stderr, "12 images", "goes on")
    shutil.copy(models / "b.onnx", tmp_path / "m.onnx")
    other = invoke(*resumed)
    assert tells(other.stderr, "anew") and other.stdout == invoke(*common).stdout
    assert invoke(*resumed).stdout == other.stdout


def test_nor_is_a_model_of_other_weights_beside_it_that_one(models, images, tmp_path):
    path, beside = tmp_path / "m.onnx", tmp_path / "weights.bin"  # as other programs call them
    resumed = ("validate", path, "--data-dir", images, "--resume", tmp_path / "kept.json")
    for name in ("a", "b"):
        beside.unlink(missing_ok=True)
        model = onnx.load(models / f"{name}.onnx")
        onnx.save(model, path, save_as_external_data=True, location=beside.name)
        if name == "a":
            main, first = path.read_bytes(), invoke(pvt_onnx, *resumed)
        path.write_bytes(main)  # the same, whose weights are others
    other = invoke(pvt_onnx, *resumed)
    assert first.exit_code == other.exit_code == 0 and tells(other.stderr, "anew")


def test_a_model_that_gives_no_answers_is_named_after_the_others(models, images):
    files = (models / "nan.onnx", models / "a.onnx")
    done = invoke(pvt_onnx, "validate", *files, "--data-dir", images)
    assert done.exit_code == 1 and str(files[1]) in done.stdout
    assert tells(done.stderr, files[0], "no numbers", "1 of 2 models")
    found = json.loads(invoke(pvt_onnx, "validate", *files, "--data-dir", images, "--json").stdout)
    assert [*found[0]] == ["model", "error"] and found[1]["count"] == 12
    assert tells(refusal(pvt_onnx, "validate", files[0], "--data-dir", images), "no numbers")


def test_unreadable_images_are_named_once_for_all_models(models, images):
    (images / "ant" / "0.png").write_bytes(b"")
    files = (models / "a.onnx", models / "b.onnx")
    done = invoke(pvt_onnx, "validate", *files, "--data-dir", images)
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == 3
    assert done.stderr.count("ant/0.png") == 1 and tells(done.stderr, "1 of 12 images")


def test_an_engines_threads_leave_the_cores_to_those_that_decode(models, images, monkeypatch):
    made = []

    class Recorded(onnxruntime.InferenceSession):
        def __init__(self, source, settings, **others):
            made.append(settings)
            super().__init__(source, settings, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorded)
    spinning = "session.intra_op.allow_spinning"
    invoke(pvt_onnx, "validate", models / "a.onnx", "--data-dir", images, "--threads", 2)
    assert made[-1].get_session_config_entry(spinning) == "0"
    load_forward(models / "a.onnx")
    with pytest.raises(RuntimeError, match="allow_spinning"):
        made[-1].get_session_config_entry(spinning)


def test_names_need_not_be_unicode(models, images, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "m") + b"\xff.pth"))
    shutil.copy(models / "a.pth", odd)
    (images / "ant" / os.fsdecode(b"x\xff.png")).write_bytes(b"")
    table, kept = tmp_path / "r.csv", tmp_path / "kept.json"
    common = (pvt_torch, "validate", odd, "--data-dir", images, "--resume", kept)
    assert tells(refusal(*common, "--output", table), "1 of 13 images")
    assert os.fsencode(odd) in table.read_bytes()
    again = invoke(*common)
    assert again.exit_code == 1 and tells(again.stderr, "13 images", "goes on")
