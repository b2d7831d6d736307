"""``pvt-onnx quantize``, as a user gives it: what it writes, says and refuses."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from convert import load_model, save_model
from convert.options import OnnxOptions
from parity.command_line import main as parity
from pvt_onnx.command_line import main
from pvt_onnx.engines.session import read_info
from pvt_onnx.quantize.source import read_source
from pvt_onnx.reading.changes import find_changes
from pvt_onnx.reading.held import read_held
from pvt_onnx.reading.precision import read_precision, read_quantization
from pvt_spec import METADATA_KEY, ModelInfo
from pvt_spec.hashes import CERTIFICATE_KEY, QUANTIZATION_KEY
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import GOLDEN, SMALL, info_of, weights_for

QUICK = ("--threads", 1, "--no-latency", "--ranking", 0, "--calibration-images", 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small v1 that was trained on digits, as float32 ONNX."""
    weights, info = load_model(GOLDEN / "trained_v1_small.safetensors")
    path = tmp_path_factory.mktemp("trained") / "float.onnx"
    save_model(path, weights, info)
    return path


def _quantise(*arguments: object) -> Any:
    done = invoke(main, "quantize", *arguments)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.long
def test_a_trained_model_keeps_its_answers(trained: Path, few_digits: Path, tmp_path: Path) -> None:
    target, report, page = (tmp_path / name for name in ("a.onnx", "a.json", "a.html"))
    done = _quantise(
        *(trained, target, "--calibration", few_digits, "--data-dir", few_digits, "--threads", 1),
        *("--ranking", 2, "--report", report, "--html", page),
    )
    found = json.loads(report.read_text())
    assert found["agreement"]["share"] >= 0.95 and found["agreement"]["images"] == 20
    low, high = found["top1"]["interval"]
    assert low <= found["float_top1"]["share"] <= high
    assert found["size"]["after"] == target.stat().st_size < found["size"]["before"]
    assert found["latency"]["ratio"] > 0 and found["latency"]["threads"]
    margins = [row["margin"] for row in found["ranking"]]
    assert margins == sorted(margins, reverse=True) and margins[0] > 0
    assert {row["module"] for row in found["ranking"]} >= {"block1.0.attn", "block4.0.mlp"}
    assert 0 < found["taps"]["logits"] < 0.1
    for fact in ("agreement", "Top-1", "size", "latency", "costs"):
        assert fact in done.stdout
    assert found["ranking"][0]["module"] in page.read_text()

    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    before = {entry.key: entry.value for entry in onnx.load(trained).metadata_props}
    assert said[METADATA_KEY] == before[METADATA_KEY]
    made = read_quantization(model)
    assert read_precision(model) == "int8" and made and made.method == "static"
    assert "onnxruntime" in made.tool and "64 images" not in made.calibration

    digit = next((few_digits / "val/3").iterdir())
    answered = invoke(main, "predict", target, digit)
    assert answered.exit_code == 0 and "changed" not in answered.stderr
    assert "quantised" in answered.stderr
    assert "already" in refusal(main, "quantize", target, tmp_path / "b.onnx", *QUICK)


def test_a_certificate_is_not_dropped_without_a_word(trained: Path, tmp_path: Path) -> None:
    model, told = onnx.load(trained), list[str]()
    model.metadata_props.add(key=CERTIFICATE_KEY, value="5e" * 32)
    onnx.save(model, tmp_path / "stamped.onnx")
    read_source(tmp_path / "stamped.onnx", told.append)
    assert len(told) == 1 and "5e" * 32 in told[0] and "not carried" in told[0]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", SMALL)
def test_parity_takes_what_was_smoothed_for_the_same_model(
    kind: str, few_digits: Path, tmp_path: Path
) -> None:
    info = info_of(SMALL[kind], "mindcv" if kind == "v1" else "official")
    weights = weights_for(info.config, info.numerics)
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    save_model(source, weights, info)
    images = ("--calibration", few_digits / "train", "--unlabelled", "--smooth", 0.5)
    _quantise(source, target, *images, *QUICK)
    model = onnx.load(target)
    made = read_quantization(model)
    assert made and made.smooth == 0.5 and any(map(any, made.scales.values()))
    found = read_info(model, "a")
    assert found.hashes and find_changes(model, found) == []
    held = read_held(model, info.config)
    for name, array in weights.items():
        if name not in held.steps:
            assert np.array_equal(held.weights[name], array), name
    assert "block1.0.mlp.fc1.weight" in held.steps
    done = invoke(parity, "run", source, target, "--images", few_digits / "val")
    assert done.exit_code == 0 and "onnxruntime int8.onnx: same" in done.stdout, done.output


@pytest.mark.sampled
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(
    "how",
    [
        OnnxOptions(dynamic_size=True),
        OnnxOptions(uint8=True),
        OnnxOptions(target="tensorrt"),
        OnnxOptions(target="portable", opset=11),
    ],
)
def test_what_a_file_takes_and_says_stays(
    kind: str, how: OnnxOptions, few_digits: Path, tmp_path: Path
) -> None:
    info = info_of(SMALL[kind])
    info = ModelInfo(info.config, info.numerics, info.preprocessing, tuple("abcdefg"))
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    save_model(source, weights_for(info.config, info.numerics), info, onnx=how)
    digits = few_digits / "train"
    _quantise(source, target, "--calibration", digits, "--unlabelled", *QUICK)
    before, after = (onnx.load(path).graph.input[0] for path in (source, target))
    assert before == after
    digit = next((few_digits / "val/3").iterdir())
    answered = invoke(main, "predict", target, digit, "--top-k", 1)
    assert answered.exit_code == 0 and "changed" not in answered.stderr, answered.output


@pytest.mark.parametrize("opset", [21, 23])
def test_symmetric_activations_of_any_opset(opset: int, few_digits: Path, tmp_path: Path) -> None:
    """onnxruntime could not load the model that it was to measure."""
    info = info_of(SMALL["v2"])
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    weights = weights_for(info.config, info.numerics)
    save_model(source, weights, info, onnx=OnnxOptions(opset=opset))
    images = ("--calibration", few_digits / "train", "--unlabelled", "--activations", "int8")
    done = _quantise(source, target, *images, *QUICK)
    assert tells(done.stderr, "opset 20", "int8") and read_precision(onnx.load(target)) == "int8"


PLANTED = ("block2.0", "block2.1", "block3.0")


@pytest.fixture(scope="module")
def uneven(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, where some channels of three norms are 4,096 times as large."""
    weights, info = load_model(trained)
    weights = {name: array.copy() for name, array in weights.items()}
    for block in PLANTED:
        for part in ("weight", "bias"):
            weights[f"{block}.norm2.{part}"][::4] *= 4096
        weights[f"{block}.mlp.fc1.weight"][:, ::4] /= 4096
    path = tmp_path_factory.mktemp("uneven") / "float.onnx"
    save_model(path, weights, dataclasses.replace(info, hashes={}))
    return path


@pytest.mark.long
def test_the_worst_stay_in_float_until_it_agrees(
    uneven: Path, few_digits: Path, tmp_path: Path
) -> None:
    arguments = ("--calibration", few_digits, "--data-dir", few_digits, "--threads", 1)
    arguments = (*arguments, "--no-latency", "--ranking", 4)

    def made(name: str, *more: object) -> dict[str, Any]:
        report = tmp_path / f"{name}.json"
        _quantise(uneven, tmp_path / f"{name}.onnx", *arguments, *more, "--report", report)
        found: dict[str, Any] = json.loads(report.read_text())
        return found

    plain = made("plain")
    worst = {f"{block}.mlp" for block in PLANTED}
    assert {row["module"] for row in plain["ranking"][:3]} == worst
    assert plain["agreement"]["share"] < 1 and not plain["quantization"]["kept"]

    bound = made("bound", "--min-agreement", 1.0)
    kept = bound["quantization"]["kept"]
    assert bound["agreement"]["share"] == 1 and kept and bound["rounds"]
    assert set(kept) <= worst and all("of the margin" in why for why in kept.values())
    held = {tensor.name for tensor in onnx.load(tmp_path / "bound.onnx").graph.initializer}
    assert {f"{module}.fc1.weight" for module in kept} <= held
    assert "block4.0.mlp.fc1.weight" not in held

    dropped = made("dropped", "--max-drop", 5)
    assert dropped["top1"]["share"] >= dropped["float_top1"]["share"] - 0.05
    smooth = made("smooth", "--smooth", 0.5)
    assert smooth["agreement"]["share"] == 1 and not smooth["quantization"]["kept"]

    target = tmp_path / "none.onnx"
    said = refusal(
        main, "quantize", uneven, target, *arguments, "--min-agreement", 1.0, "--rounds", 1
    )
    assert "expected 100 %" in said and "--rounds" in said and not target.exists()


def test_modules_stay_in_float_because_they_are_named(
    trained: Path, few_digits: Path, tmp_path: Path
) -> None:
    target, report = tmp_path / "a.onnx", tmp_path / "a.json"
    arguments = ("--calibration", few_digits, "--threads", 1, "--no-latency", "--ranking", 2)
    _quantise(trained, target, *arguments, "--keep", "block1.*", "--report", report)
    kept = json.loads(report.read_text())["quantization"]["kept"]
    assert kept == {f"block1.0.{name}": "asked for" for name in ("attn", "mlp")}
    held = {tensor.name for tensor in onnx.load(target).graph.initializer}
    assert "block1.0.mlp.fc1.weight" in held and "block2.0.mlp.fc1.weight" not in held
    said = refusal(main, "quantize", trained, tmp_path / "b.onnx", *arguments, "--keep", "block9")
    assert "block9" in said and "block1.0.attn" in said


def test_dynamic_needs_no_images(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    _quantise(trained, target, "--method", "dynamic", "--no-latency", "--json")
    model = onnx.load(target)
    assert read_precision(model) == "int8"
    assert {"MatMulInteger", "DynamicQuantizeLinear", "Conv"} <= {
        n.op_type for n in model.graph.node
    }


def test_images_that_cannot_be_used_are_said(
    trained: Path, few_digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        pixels = np.full((8, 8), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    target = tmp_path / "a.onnx"
    done = invoke(main, "quantize", trained, target, "--calibration", folder, *QUICK)
    assert done.exit_code == 1 and target.exists()
    assert (
        "broken.png" in done.stderr
        and "1 of 5 images" in done.stderr
        and "only 5 images" in done.stderr
    )

    nothing = tmp_path / "b.onnx"
    for calibration in (tmp_path / "none", tmp_path):  # not there; with a folder of no class's name
        refusal(main, "quantize", trained, nothing, "--calibration", calibration, *QUICK)
    (tmp_path / "empty").mkdir()
    refusal(main, "quantize", trained, nothing, "--calibration", tmp_path / "empty", *QUICK)
    assert not nothing.exists()


def test_folders_of_other_classes_are_refused(few_digits: Path, tmp_path: Path) -> None:
    weights, info = load_model(GOLDEN / "trained_v1_small.safetensors")
    named = ModelInfo(info.config, info.numerics, info.preprocessing, tuple("abcdefghij"))
    save_model(tmp_path / "named.onnx", weights, named)
    given = (tmp_path / "named.onnx", tmp_path / "a.onnx", *QUICK)
    said = refusal(main, "quantize", *given, "--calibration", few_digits)
    assert "--unlabelled" in said and "none of the model's" in said
    said = refusal(
        main,
        "quantize",
        *given,
        "--calibration",
        few_digits,
        "--unlabelled",
        "--data-dir",
        few_digits,
    )
    assert "none of the model's" in said and "--unlabelled" not in said
    assert not (tmp_path / "a.onnx").exists()


def test_what_makes_no_sense_is_refused_and_nothing_written(
    trained: Path, few_digits: Path, tmp_path: Path
) -> None:
    calibration = ("--calibration", few_digits)
    for arguments, fact in (
        ((), "--calibration"),
        ((*calibration, "--max-drop", 0.2), "--data-dir"),
        ((*calibration, "--smooth", 2), "--smooth"),
        (("--method", "dynamic", "--min-agreement", 0.9), "images"),
        ((*calibration, "--keep", "*"), "nothing would be quantised"),
    ):
        assert fact in refusal(main, "quantize", trained, tmp_path / "a.onnx", *QUICK, *arguments)
    assert "a.txt" in refusal(main, "quantize", trained, tmp_path / "a.txt", *calibration)
    taken = tmp_path / "taken.onnx"
    taken.write_bytes(b"mine")
    assert "--force" in refusal(main, "quantize", trained, taken, *calibration)
    assert taken.read_bytes() == b"mine"
    assert "no folder" in refusal(main, "quantize", trained, tmp_path / "no/a.onnx", *calibration)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]


def test_models_that_are_not_ours_or_were_changed_are_refused(
    trained: Path, few_digits: Path, tmp_path: Path
) -> None:
    model = onnx.load(trained)
    weight = next(t for t in model.graph.initializer if t.name == "block1.0.mlp.fc1.weight")
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(model, tmp_path / "changed.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    for name, fact in (("changed", "fc1.weight"), ("bare", METADATA_KEY)):
        given = (tmp_path / f"{name}.onnx", tmp_path / "a.onnx", "--calibration", few_digits)
        assert fact in refusal(main, "quantize", *given, *QUICK)
    assert QUANTIZATION_KEY not in {entry.key for entry in onnx.load(trained).metadata_props}
