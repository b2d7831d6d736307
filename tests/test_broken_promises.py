"""What strangers brought that was neither an answer nor one clear error, each of its own kind."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from convert import convert_file, load_model, save_model
from convert.command_line import main as convert
from convert.findings import Finding
from parity.command_line import main as parity
from pvt_data.images.decoding import open_image
from pvt_data.sources.folders import open_source
from pvt_data.sources.listing import list_images
from pvt_onnx import build
from pvt_onnx.command_line import main as pvt_onnx
from pvt_onnx.reading.changes import find_changes
from pvt_spec import ConfigError, ImageError, Preprocessing
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_IMAGE_BYTES
from pvt_spec.words import presentable
from pvt_train.recipe.read import read_values
from tests.support.commands import invoke
from tests.support.messages import naming, tells
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import ROOT


def encoded(format: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model."""
    path = tmp_path / "model.onnx"
    save_model(path, random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    return path


def test_stderr_may_be_closed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    line = f"{sys.executable} -m pvt_onnx predict {model} {tmp_path / 'a.png'} 2>&-"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "a.png" in done.stdout


@pytest.mark.sampled
@pytest.mark.parametrize("form", ["", "--json", "--jsonl"])
def test_an_answer_that_nobody_can_read_is_an_error(form: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    line = f"{sys.executable} -m pvt_onnx predict {model} {tmp_path / 'a.png'}"
    done = subprocess.run(
        ["sh", "-c", f"{line} {form} >&-; echo $? >&2; {line} -o {tmp_path / 'a.csv'} >&-"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "a.csv").exists()
    assert tells(done.stderr, "stdout cannot be written") and "\n1\n" in done.stderr


def test_a_pattern_does_not_follow_links_to_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for place in (tmp_path, tmp_path / "in"):
        (place / "a.png").write_bytes(encoded("PNG"))
        for name in ("one", "two"):
            (place / name).symlink_to(".", target_is_directory=True)
    expected = sorted([tmp_path / "a.png", tmp_path / "in" / "a.png"])
    for stars in ("**", "**/**", "/".join(["**"] * 30)):
        assert list_images([f"{tmp_path}/{stars}/*.png"]) == expected
    assert list_images([f"{tmp_path}/*.png"]) == expected[:1]


def test_no_name_begins_a_line_of_its_own() -> None:
    forged = presentable("left out: x\nError: done\r\n\x1b[31m")
    assert "\n" not in forged and "\x1b" not in forged
    assert presentable("a\n  b").splitlines() == ["a", "  b"]


@pytest.mark.parametrize(
    "kept",
    [
        {"rescale": 1e308},
        {"rescale": 1e-300},
        {"mean": (1e300, 0.0, 0.0)},
        {"std": (1e-45, 1e-45, 1e-45)},
    ],
    ids=str,
)
def test_preprocessing_is_what_float32_computes(kept: dict) -> None:
    with pytest.raises(ConfigError, match=naming("rescale", "float32")):
        Preprocessing(**kept)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("? [a,b]\n: 1\n", ("line 1",)),
        ("a: 1\n---\nb: 2\n", ("line 2",)),
        ('model: !!python/object/apply:os.system ["x"]\n', ("line 1",)),
        ("seed: !!timestamp x\n", ("value",)),
        (f"seed: {'1' * 5000}\n", ("value",)),
        ("model: a\nmodel: b\n", ("model", "twice")),
        ("a: {b: 1, b: 2}\n", ("b", "twice")),
    ],
    ids=lambda given: str(given)[:20],
)
def test_what_yaml_says_is_one_line(text: str, facts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=naming("a.yaml", *facts)) as caught:
        read_values(tmp_path / "a.yaml", {})
    said = str(caught.value)
    assert "\n" not in said and "unicode string" not in said and "sys." not in said
    assert len(said) < 300


def test_a_report_that_is_no_file_is_refused_before_anything_is_written(
    model: Path, tmp_path: Path
) -> None:
    done = invoke(convert, model, tmp_path / "b.pth", "--report", "/dev/full", "--force")
    assert done.exit_code == 1 and tells(done.stderr, "/dev/full", "file")
    assert not (tmp_path / "b.pth").exists()


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_file_that_is_padded_takes_no_time(format: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(format)[:-12] if format == "PNG" else encoded(format)[:100])
    os.truncate(path, 300 << 20)
    start = time.process_time()
    if format == "PNG":
        assert open_image(path, 3).size == (64, 64)
    else:
        with pytest.raises(ImageError, match=naming("a.png", "bytes")):
            open_image(path, 3)
    assert time.process_time() - start < 2


def test_an_image_is_not_of_gigabytes(tmp_path: Path) -> None:
    for format in ("PNG", "WEBP", "JPEG"):
        path = tmp_path / "a.png"
        path.write_bytes(encoded(format))
        os.truncate(path, MAX_IMAGE_BYTES + 1)
        with pytest.raises(ImageError, match=naming("a.png", "bytes")):
            open_image(path, 3)


def test_a_member_of_a_tar_file_is_not_of_gigabytes(tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "train").mkdir()
    for name in ("a", "b"):
        with tarfile.open(tmp_path / "train" / f"{name}.tar", "w") as tar:
            info = tarfile.TarInfo("big.png")
            info.size = 16
            tar.addfile(info, io.BytesIO(bytes(16)))
            info = tarfile.TarInfo("large.png")
            info.size = 6 << 30
            tar.fileobj.write(info.tobuf())  # type: ignore[union-attr]
            tar.fileobj.truncate(1536 + (6 << 30) + 1024)  # type: ignore[union-attr]
            tar.fileobj.seek(0, 2)  # type: ignore[union-attr]
    source = open_source(tmp_path / "train")
    large = next(i for i in range(len(source)) if source.name(i).endswith("large.png"))
    with pytest.raises(ImageError, match=naming("large.png", "bytes")):
        source.read(large)


@pytest.mark.parametrize(
    "options",
    [
        ("--random", "100000000000"),
        ("--atol", "nan"),
        ("--atol", "inf"),
        ("--rtol", "1e400"),
    ],
)
def test_numbers_that_cannot_be_are_usage_errors(options: tuple[str, str], model: Path) -> None:
    done = invoke(parity, "run", model, *options)
    assert done.exit_code == 2 and options[0] in done.stderr


@pytest.mark.parametrize(
    ("program", "arguments"),
    [(pvt_onnx, ("predict", "MODEL", "")), (convert, ("", "")), (convert, ("MODEL", ""))],
)
def test_an_empty_argument_is_no_folder(program, arguments, model: Path) -> None:
    given = [str(model) if each == "MODEL" else each for each in arguments]
    done = CliRunner().invoke(program, given)
    assert done.exit_code == 2 and "empty" in done.output


def test_what_is_in_a_graph_twice_is_a_change() -> None:
    config = SMALL["v2"]
    info, weights = info_of(config), random_weights(config)
    model = build(config, info.numerics, weights, info=info)
    assert find_changes(model, info) == []
    model.graph.output.append(model.graph.output[0])
    assert find_changes(model, info)
    model = build(config, info.numerics, weights, info=info)
    weight = next(t for t in model.graph.initializer if t.name == "head.weight")
    model.graph.initializer.append(weight)
    assert any("head.weight" in change for change in find_changes(model, info))


def test_v2_is_compared_whatever_size_its_files_were_made_for(tmp_path: Path) -> None:
    config = SMALL["v2"]
    save_model(tmp_path / "a.pth", random_weights(config), info_of(config))
    done = invoke(convert, tmp_path / "a.pth", tmp_path / "b.onnx", "--image-size", "96x64")
    assert done.exit_code == 0, done.output
    asked = ("--image-size", "96x64", "--runtime", "onnxruntime", "--taps", "logits")
    for first, last in (("a.pth", "b.onnx"), ("b.onnx", "a.pth")):
        done = invoke(parity, "run", tmp_path / first, tmp_path / last, *asked)
        assert done.exit_code == 0, done.output + done.stderr
    done = invoke(parity, "run", tmp_path / "b.onnx", tmp_path / "a.pth", *asked[2:])
    assert done.exit_code == 1 and tells(done.output, "preprocessing.image_size")


def test_a_graph_whose_nodes_were_fused_is_judged_by_what_it_shows(tmp_path: Path) -> None:
    import onnxruntime

    config = SMALL["v2"]
    save_model(tmp_path / "a.onnx", random_weights(config), info_of(config))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "b.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(tmp_path / "a.onnx", options)
    assert len(onnx.load(tmp_path / "b.onnx").graph.node) < len(
        onnx.load(tmp_path / "a.onnx").graph.node
    )
    done = invoke(parity, "run", tmp_path / "a.onnx", tmp_path / "b.onnx", "--taps", "logits")
    assert done.exit_code == 0, done.output + done.stderr


def test_float64_that_is_float32_is_taken_as_such(tmp_path: Path) -> None:
    config = SMALL["v1"]
    weights = random_weights(config)
    state = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    torch.save(state, tmp_path / "a.pth")
    told: list[Finding] = []
    convert_file(tmp_path / "a.pth", tmp_path / "b.ckpt", tell=told.append)
    assert any(finding.what == "narrowed" for finding in told)
    found, _ = load_model(tmp_path / "b.ckpt")
    assert all(found[name].tobytes() == weights[name].tobytes() for name in weights)
    state["head.bias"] += 1e-12
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(ConvertError, match=naming("head.bias", "float64", "float32")):
        convert_file(tmp_path / "c.pth", tmp_path / "d.ckpt")
