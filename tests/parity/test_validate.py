"""``parity validate``: the same labelled images in every runtime, counted in pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from convert import load_model, save_model
from parity.command_line import main
from parity.measure.decisions import mcnemar_p_value
from pvt_data.answers.accuracy import softmax
from pvt_data.images.preprocessing import load_image
from pvt_data.sources.labels import labelled_for
from pvt_torch.runtime import load_forward
from tests.support.messages import tells
from tests.support.models import GOLDEN

OFFICIAL_V2 = GOLDEN / "official_v2_small" / "weights.pth"
FAST = ("--runtime", "torch", "--runtime", "onnxruntime")


def validate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["validate", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four images of each of ten classes: one hue and some noise, to no model's liking."""
    root = tmp_path_factory.mktemp("val")
    rng = np.random.default_rng(0)
    for label in range(10):
        (root / f"class {label}").mkdir()
        for i in range(4):
            pixels = rng.integers(0, 256, (72, 80, 3)) // 2 + rng.integers(0, 128, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"class {label}" / f"{i}.png")
    return root


def exact_answers(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's logits and the labels, without anything of parity."""
    forward, info = load_forward(path)
    paths, labels = labelled_for(info, folder)
    images = np.stack([load_image(path, info.preprocessing) for path in paths])
    return forward(images)["logits"], labels


@pytest.mark.long
def test_accuracy_is_that_of_the_runtimes_themselves(folder):
    done = validate(OFFICIAL_V2, "--images", folder, *FAST, "--json")
    assert done.exit_code == 0, done.output
    logits, labels = exact_answers(OFFICIAL_V2, folder)
    best = np.argsort(-logits, axis=1, kind="stable")
    for runtime in json.loads(done.stdout)["runtimes"]:
        found = runtime["decisions"]["accuracy"]
        assert found["images"] == 40
        assert found["top1"] == found["reference_top1"] == np.mean(best[:, 0] == labels)
        assert found["top5"] == np.mean((best[:, :5] == labels[:, None]).any(axis=1))
        assert found["only_right"] == found["only_reference_right"] == 0
        assert found["mcnemar_p"] == 1.0
    assert 0 < found["top1"] < 1


def test_table_is_side_by_side(folder):
    done = validate(OFFICIAL_V2, "--data-dir", folder, *FAST, "--limit", 20)
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()[:4]]
    assert [row[0] for row in rows[1:]] == ["float64", "torch", "onnxruntime"]
    assert rows[2][1:] == rows[3][1:] and rows[2][1:3] == rows[1][1:]
    assert rows[2][3] == "20/20"
    assert done.stdout.splitlines()[-1].startswith("onnxruntime: same. ")


@pytest.mark.long
def test_another_function_is_counted_in_pairs(folder, tmp_path):
    """Biases moved so that other classes win: a bug beyond any margin, told with its cost."""
    weights, info = load_model(OFFICIAL_V2)
    wrong = {name: array.copy() for name, array in weights.items()}
    logits, labels = exact_answers(OFFICIAL_V2, folder)
    wrong["head.bias"] = np.roll(wrong["head.bias"], 3)
    save_model(tmp_path / "b.onnx", wrong, info)
    moved = logits - weights["head.bias"] + wrong["head.bias"]
    done = validate(OFFICIAL_V2, tmp_path / "b.onnx", "--images", folder, "--json")
    assert done.exit_code == 1
    torch, onnxruntime = json.loads(done.stdout)["runtimes"]
    assert torch["same"] and onnxruntime["first_out_of_bounds"] == "logits"
    right, exact = moved.argmax(axis=1) == labels, logits.argmax(axis=1) == labels
    only, only_exact = int((right & ~exact).sum()), int((exact & ~right).sum())
    found = onnxruntime["decisions"]["accuracy"]
    assert (found["only_right"], found["only_reference_right"]) == (only, only_exact)
    assert only + only_exact > 0
    assert found["mcnemar_p"] == mcnemar_p_value(only, only_exact)
    flips = int((moved.argmax(axis=1) != logits.argmax(axis=1)).sum())
    assert onnxruntime["decisions"]["flips_beyond_margin"] == flips > 0
    p, q = softmax(logits), softmax(moved)
    divergence = (p * np.log(p / q)).sum(axis=1).mean()
    assert onnxruntime["decisions"]["mean_kl"] == pytest.approx(divergence, rel=1e-3)


def test_models_without_classes_are_refused(folder, tmp_path):
    import dataclasses

    weights, info = load_model(OFFICIAL_V2)
    headless = dataclasses.replace(info.config, num_classes=0)
    del weights["head.weight"], weights["head.bias"]
    save_model(tmp_path / "a.pth", weights, dataclasses.replace(info, config=headless, labels=()))
    done = validate(tmp_path / "a.pth", "--images", folder, *FAST)
    assert done.exit_code == 1 and tells(done.stderr, "head")


def test_folders_without_classes_are_refused(folder, tmp_path):
    done = validate(OFFICIAL_V2, "--images", tmp_path, *FAST)
    assert done.exit_code == 1 and tells(done.stderr, "folders")


def test_an_unreadable_image_is_named(tmp_path):
    for label in range(10):
        (tmp_path / str(label)).mkdir()
        (tmp_path / str(label) / "a.png").write_text("no image")
    done = validate(OFFICIAL_V2, "--images", tmp_path, *FAST)
    assert done.exit_code == 1 and done.stderr.count("Error: ") == 1
    assert str(tmp_path / "0" / "a.png") in done.stderr
