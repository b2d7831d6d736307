"""``benchmark`` of every runtime's command line, with real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from PIL import Image

from convert import OnnxOptions, load_model, save_model
from pvt_ms.command_line import main as pvt_ms
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import make_config
from pvt_spec.macs import count_macs
from pvt_torch.command_line import main as pvt_torch
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import info_of, random_weights
from tests.support.processes import ROOT

SHORT = ("--rounds", 2, "--seconds", 0, "--pause", 0, "--threads", 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A random pvt_nano as ``.onnx`` and ``.pth``."""
    folder = tmp_path_factory.mktemp("models")
    config = make_config("pvt_nano")
    for ending in ("onnx", "pth"):
        save_model(folder / f"m.{ending}", random_weights(config), info_of(config, "official"))
    return folder


def rows_of(document):
    return {(row["contestant"], row["batch"]): row for row in document["rows"]}


@pytest.mark.long
def test_engines_and_batches(models, tmp_path):
    picture = tmp_path / "figures.png"
    options = ("--engine", "onnxruntime,openvino", "--batch-size", "1,2", "--plot", picture)
    done = invoke(pvt_onnx, "benchmark", models / "m.onnx", *options, *SHORT, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    config = make_config("pvt_nano")
    macs = count_macs(config, info_of(config, "official").numerics, (32, 32))
    assert document["gmacs"] == pytest.approx(macs / 1e9)
    assert (document["variant"], document["image_size"]) == ("pvt_nano", [32, 32])
    assert document["contestants"]["onnxruntime"]["facts"]["threads"] == "1"
    rows = rows_of(document)
    assert set(rows) == {(n, b) for n in ("onnxruntime", "openvino", "gemm") for b in (1, 2)}
    for (name, batch), row in rows.items():
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["calls"] == 6 and row["error"] == "" and row["of_gemm"] > 0
        assert (row["ratio"] == 1) == (name == "onnxruntime")
        assert batch * 1e3 / row["p99_ms"] <= row["images_per_second"]
    with Image.open(picture) as drawn:
        assert drawn.width > 500


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 imports from there anyway")
def test_nothing_of_the_folder_that_one_is_in_is_run(models, tmp_path):
    """The processes that it starts took modules from there, of a downloaded model perhaps."""
    for name in ("pvt_onnx", "pvt_data", "random", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("open('run', 'w')")
    command = Path(sys.executable).with_name("pvt-onnx")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    words = ("benchmark", models / "m.onnx", *SHORT)
    done = subprocess.run(
        [command, *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and not (tmp_path / "run").exists(), done.stderr


@pytest.mark.parametrize("form", [OnnxOptions(uint8=True), OnnxOptions(embed=True)])
def test_a_graph_that_takes_pixels(form, models, tmp_path):
    """It was given noise, which no pixels make."""
    weights, info = load_model(models / "m.onnx")
    save_model(tmp_path / "m.onnx", weights, info, onnx=form)
    done = invoke(pvt_onnx, "benchmark", tmp_path / "m.onnx", *SHORT, "--json")
    assert done.exit_code == 0 and rows_of(json.loads(done.stdout))["onnxruntime", 1]["calls"]


@pytest.mark.long
def test_other_runtimes_on_the_same_weights(models):
    """A ``.pth``, which is converted for the engines that take graphs; and what is not there."""
    options = ("--against", "onnxruntime,onnxruntime-cuda", "--image-size", "64x32")
    done = invoke(pvt_torch, "benchmark", models / "m.pth", *options, *SHORT)
    assert done.exit_code == 1
    assert tells(done.stdout, "pvt_nano", "64x32", "torch", "onnxruntime", "gemm")
    # The graph has one size, and no CUDA is here: reasons, each in its row.
    assert tells(done.stdout, "onnxruntime-cuda", "CUDAExecutionProvider")
    assert tells(done.stderr, "onnxruntime-cuda")


@pytest.mark.long
def test_mindspore(models):
    done = invoke(pvt_ms, "benchmark", models / "m.pth", *SHORT, "--json")
    assert done.exit_code == 0, done.output
    assert rows_of(json.loads(done.stdout))["mindspore", 1]["p50_ms"] > 0


def test_what_is_no_model(models, tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    other = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [output])), other)
    assert tells(refusal(pvt_onnx, "benchmark", other, *SHORT), "other.onnx", "metadata")
    assert tells(refusal(pvt_onnx, "benchmark", tmp_path / "none.onnx", *SHORT), "none.onnx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--batch-size", "1,0"), "0"),
        (("--batch-size", ""), "''"),
        (("--engine", ""), "''"),
        (("--threads", "two"), "two"),
        (("--engine", "torch"), "openvino"),
        (("--against", "tensorflow"), "mindspore-graph"),
    ],
)
def test_usage(models, options, said):
    done = invoke(pvt_onnx, "benchmark", models / "m.onnx", *options)
    assert done.exit_code == 2
    assert tells(done.stderr, said)


def test_a_picture_is_refused_before_anything_runs(models, tmp_path):
    held = tmp_path / "held.svg"
    held.write_text("mine")
    said = refusal(pvt_onnx, "benchmark", models / "m.onnx", "--plot", held)
    assert tells(said, "held.svg", "--force") and held.read_text() == "mine"
    said = refusal(pvt_onnx, "benchmark", models / "m.onnx", "--plot", tmp_path / "a.docx")
    assert tells(said, "a.docx", ".svg")
    said = refusal(pvt_onnx, "benchmark", models / "m.onnx", "--plot", models / "m.onnx", "--force")
    assert tells(said, "m.onnx")
