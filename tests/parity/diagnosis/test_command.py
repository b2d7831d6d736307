"""``parity diagnose``: files and bundles in, causes out. The search itself: ``test_diagnose``."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from convert import load_model, save_model
from parity.command_line import main
from pvt_spec import profile_numerics
from tests.support.commands import refusal
from tests.support.messages import tells
from tests.support.models import GOLDEN

MINDCV_V1 = GOLDEN / "mindcv_v1_small"
MINDCV_V2 = GOLDEN / "mindcv_v2_small"


def diagnose(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["diagnose", *map(str, arguments)])


def causes(*arguments: object) -> list[str]:
    done = diagnose(*arguments, "--json")
    assert done.exit_code in (0, 1) and not done.stderr.count("Error"), done.output
    data = json.loads(done.stdout)
    assert data["closed"]
    assert done.exit_code == int(bool(data["findings"]))
    return sorted(finding["name"] for finding in data["findings"])


def as_official(source: Path, target: Path, crop_pct: float | None = None) -> Path:
    """MindCV's weights in a file that says that they are official, as renaming keys makes it."""
    weights, info = load_model(source / "weights.ckpt")
    preprocessing = info.preprocessing
    if crop_pct:
        preprocessing = dataclasses.replace(preprocessing, crop_pct=crop_pct)
    numerics = profile_numerics("official", info.config.version)
    save_model(
        target, weights, dataclasses.replace(info, numerics=numerics, preprocessing=preprocessing)
    )
    return target


V1 = ["attn_norm_eps=1e-05", "gelu=erf", "norm1_eps=1e-06"]


@pytest.mark.long
def test_two_files(tmp_path):
    other = as_official(MINDCV_V1, tmp_path / "a.pth")
    assert causes(MINDCV_V1 / "weights.ckpt", other) == V1
    page = tmp_path / "page.html"
    done = diagnose(MINDCV_V1 / "weights.ckpt", other, "--runtime", "onnxruntime", "--html", page)
    assert done.exit_code == 1
    html = page.read_text()
    assert "DIFFERENT" in html and html.count("instead of") >= 3 and "numerics.gelu" in html
    assert tells(refusal(main, "diagnose", other, other, "--html", page), page, "--force")
    assert tells(done.stdout, "GELU")
    assert tells(done.stdout, "block1.0.mlp") and "closed: " in done.stdout
    assert tells(done.stderr, "onnxruntime", "a.pth")
    assert tells(done.stdout, "numerics.gelu")


@pytest.mark.long
def test_another_crop_is_named_beside_the_maths(tmp_path):
    other = as_official(MINDCV_V1, tmp_path / "a.pth", crop_pct=0.875)
    assert causes(MINDCV_V1 / "weights.ckpt", other) == sorted([*V1, "crop=0.875"])


@pytest.mark.long
def test_a_file_and_a_bundle(tmp_path):
    other = as_official(MINDCV_V2, tmp_path / "a.pth")
    bundle = tmp_path / "a.npz"
    capture = ["capture", str(other), "--runtime", "torch", "-o", str(bundle), "--taps", "stages"]
    assert CliRunner().invoke(main, capture).exit_code == 0
    assert causes(MINDCV_V2 / "weights.ckpt", bundle) == [
        "attn_norm_eps=1e-05",
        "conv_padding=symmetric",
        "gelu=erf",
        "patch_norm_eps=1e-05",
    ]


@pytest.mark.long
def test_the_peers_answers_alone(tmp_path):
    """MindCV's logits and features of two images, and nothing else; they are judged, not judge."""
    found = causes(MINDCV_V2 / "case.npz", as_official(MINDCV_V2, tmp_path / "a.pth"))
    assert found == [
        "attn_norm_eps=1e-07",
        "conv_padding=same",
        "gelu=tanh",
        "patch_norm_eps=1e-07",
    ]


@pytest.mark.long
def test_averaged_weights_of_the_same_file(tmp_path):
    case = GOLDEN / "mindcv_v1_training_ema"
    target = tmp_path / "ema.pth"
    from convert.command_line import main as convert

    words = ["any-to-any", str(case / "weights.ckpt"), str(target), "--weights", "ema"]
    assert CliRunner().invoke(convert, words).exit_code == 0
    assert causes(case / "weights.ckpt", target) == ["weights=averaged weights"]


@pytest.mark.long
def test_a_weight_of_its_own_is_named(tmp_path):
    weights, info = load_model(MINDCV_V1 / "weights.ckpt")
    weights = {name: array.copy() for name, array in weights.items()}
    weights["block2.1.mlp.fc1.weight"] *= np.float32(1.01)
    save_model(tmp_path / "b.pth", weights, info)
    done = diagnose(MINDCV_V1 / "weights.ckpt", tmp_path / "b.pth")
    assert done.exit_code == 1
    assert tells(done.stdout, "block2.1.mlp.fc1.weight", "b.pth")
    assert tells(done.stdout, "block2.1.mlp") and "closed: " in done.stdout


def agree(trusted: Path, other: Path) -> tuple[int, str]:
    """What ``parity run`` and ``parity diagnose`` both end with, and what the latter tells."""
    files = [str(trusted), str(other)]
    run = CliRunner().invoke(main, ["run", *files, "--runtime", "torch", "--runtime", "torch"])
    done = diagnose(*files, "--runtime", "torch")
    assert done.exit_code == run.exit_code, (done.output, run.output)
    return done.exit_code, done.stdout


@pytest.mark.long
def test_a_weight_that_rounding_hides_differs_for_both(tmp_path):
    """Off by 1e-4 it is seen by its hash alone."""
    weights, info = load_model(MINDCV_V2 / "weights.ckpt")
    weights = {name: array.copy() for name, array in weights.items()}
    weights["block2.0.attn.q.weight"][0, 0] *= np.float32(1 + 1e-4)
    save_model(tmp_path / "b.pth", weights, info)
    code, told = agree(MINDCV_V2 / "weights.ckpt", tmp_path / "b.pth")
    assert code == 1 and tells(told, "says of itself", "block2.0.attn.q.weight", "DIFFERENT")
    assert "no difference" not in told


@pytest.mark.long
def test_what_an_edited_graph_says_of_itself_explains_it(tmp_path):
    """One GELU of several is the tanh form: no maths that a file can state."""
    import onnx

    weights, info = load_model(GOLDEN / "official_v2_small" / "weights.pth")
    save_model(tmp_path / "a.onnx", weights, info)
    edited = onnx.load(tmp_path / "a.onnx")
    node = next(node for node in edited.graph.node if node.op_type == "Gelu")
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))
    onnx.save(edited, tmp_path / "b.onnx")
    done = diagnose(GOLDEN / "official_v2_small" / "weights.pth", tmp_path / "b.onnx", "--json")
    assert done.exit_code == 1
    data = json.loads(done.stdout)
    assert data["closed"] and [each["name"] for each in data["findings"]] == ["attributes=its own"]
    assert tells(data["findings"][0]["says"], "gelu is tanh")
    assert tells(data["verdict"], "DIFFERENT", "gelu")


def test_a_trained_model_in_mindspore_is_the_same(tmp_path):
    weights, info = load_model(GOLDEN / "trained_v1_small.safetensors")
    save_model(tmp_path / "a.ckpt", weights, info)
    done = diagnose(GOLDEN / "trained_v1_small.safetensors", tmp_path / "a.ckpt")
    assert done.exit_code == 0 and tells(done.stdout, "no difference beyond fp32 rounding")


def test_nothing_to_explain():
    file = MINDCV_V1 / "weights.ckpt"
    done = diagnose(file, MINDCV_V1 / "case.npz")
    assert done.exit_code == 0, done.output
    assert tells(done.stdout, "difference")


class TestErrors:
    def test_two_bundles(self):
        message = refusal(main, "diagnose", MINDCV_V1 / "case.npz", MINDCV_V2 / "case.npz")
        assert tells(message, "bundles")

    def test_other_layers(self):
        message = refusal(main, "diagnose", MINDCV_V1 / "weights.ckpt", MINDCV_V2 / "weights.ckpt")
        assert tells(message, "layers")

    def test_a_runtime_for_a_bundle(self):
        done = diagnose(MINDCV_V1 / "weights.ckpt", MINDCV_V1 / "case.npz", "--runtime", "torch")
        assert done.exit_code == 2 and tells(done.stderr, "bundle")
