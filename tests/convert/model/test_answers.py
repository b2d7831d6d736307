"""What convert says of images and answers: guesses, what is given, and what is done otherwise."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from convert.formats.huggingface.images import PREPROCESSOR, make_preprocessor
from convert.model.read import read_model
from convert.model.write import save_model
from convert.options import Given
from pvt_spec import ModelInfo, Preprocessing, PvtError
from tests.support.converting import convert, describe, save_plain, succeed
from tests.support.messages import Facts, naming, tells
from tests.support.models import SMALL, random_weights

CONFIG = SMALL["v2"]
SQUASHED = Preprocessing(
    CONFIG.image_size,
    1.0,
    resize="squash",
    crop_mode="none",
    interpolation="bilinear",
    rescale=1 / 128,
)


def folder(path: Path, **changes: Any) -> Path:
    """A folder of transformers that knows nothing of us: without our description."""
    from convert.formats import safetensors

    info = dataclasses.replace(describe(CONFIG, "hf"), labels=(), **changes)
    save_model(path, random_weights(CONFIG), info, dialect="hf")
    held = safetensors.read(path / "model.safetensors")
    tensors = {name: array.copy() for name, array in held.tensors.items()}
    (path / "model.safetensors").unlink()
    with (path / "model.safetensors").open("wb") as stream:
        safetensors.write(stream, tensors, {"format": "pt"})
    return path


def lines(said: str, what: str) -> list[str]:
    return [line.split(what, 1)[1].strip() for line in said.splitlines() if f" {what}  " in line]


def test_preprocessing_that_no_file_says_is_a_guess(tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(CONFIG))
    guesses = lines(succeed(source, tmp_path / "b.onnx"), "guess")
    (guess,) = [line for line in guesses if "crop_pct" in line]
    assert tells(guess, "0.875", "0.485/0.456/0.406", "bicubic", "--preprocessing")
    # What is written is no guess any more.
    assert not lines(succeed(tmp_path / "b.onnx", tmp_path / "c.ckpt"), "guess")


def test_what_is_given_is_no_guess(tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(CONFIG))
    given = ("crop_pct=1", "mean=[0.5,0.5,0.5]", "std=[0.25,0.25,0.25]", "resize=squash")
    options = [word for text in given for word in ("--preprocessing", text)]
    said = succeed(source, tmp_path / "b.onnx", *options, "--task", "multi_label")
    assert not any("crop_pct" in line for line in lines(said, "guess"))
    assert lines(said, "task") == ["multi_label (given)"]
    info = read_model(tmp_path / "b.onnx").info
    assert info.task == "multi_label"
    assert info.preprocessing == Preprocessing(
        info.config.image_size, 1.0, (0.5,) * 3, (0.25,) * 3, resize="squash"
    )


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("crop=1", ("crop=1", "crop_pct")),
        ("crop_pct", ("crop_pct",)),
        ("image_size=[64,64]", ("image_size",)),
        ("crop_pct=0", ("crop_pct", "0")),
        ("resize=other", ("resize", "squash")),
        ("mean=[0.5]", ("mean", "0.5")),
        ("mean=0.5", ("mean",)),
        ("rescale=on", ("rescale",)),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(text: str, facts: Facts, tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(CONFIG))
    done: Any = convert(source, tmp_path / "b.onnx", "--preprocessing", text)
    assert done.exit_code == 1 and tells(done.stderr, *facts)
    assert not (tmp_path / "b.onnx").exists()


def test_a_task_that_the_logits_cannot_have_is_refused(tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(CONFIG))
    with pytest.raises(PvtError, match=naming("binary", str(CONFIG.num_classes))):
        read_model(source, Given(task="binary"))


def test_a_folder_comes_back_with_the_preprocessing_and_task_it_had(tmp_path: Path) -> None:
    source = folder(tmp_path / "a", preprocessing=SQUASHED)
    succeed(source, tmp_path / "b.ckpt")
    info = read_model(tmp_path / "b.ckpt").info
    assert (info.preprocessing, info.task) == (SQUASHED, "multi_label")
    said = succeed(tmp_path / "b.ckpt", tmp_path / "c", "--to-dialect", "hf")
    assert not lines(said, "replaced")
    for name in (PREPROCESSOR, "config.json"):
        ours, theirs = (json.loads((tmp_path / each / name).read_text()) for each in "ac")
        assert ours == theirs


def test_what_transformers_does_otherwise_is_said(tmp_path: Path) -> None:
    prepared = Preprocessing(CONFIG.image_size, 0.9, crop_mode="border", resize="inside")
    info = dataclasses.replace(describe(CONFIG, "hf"), preprocessing=prepared)
    save_model(tmp_path / "a.ckpt", random_weights(CONFIG), info)
    said = lines(succeed(tmp_path / "a.ckpt", tmp_path / "b", "--to-dialect", "hf"), "replaced")
    assert len(said) == 3 and "inside" in said[0] and "border" in said[1] and "border" in said[2]


def test_a_folder_without_a_preprocessor_is_a_guess(tmp_path: Path) -> None:
    source = folder(tmp_path / "a")
    (source / PREPROCESSOR).unlink()
    (guess,) = lines(succeed(source, tmp_path / "b.onnx"), "guess")
    assert tells(guess, PREPROCESSOR, "--preprocessing")
    assert not lines(succeed(tmp_path / "b.onnx", tmp_path / "c.ckpt"), "guess")


def test_what_is_not_taken_from_a_preprocessor_is_said(tmp_path: Path) -> None:
    source = folder(tmp_path / "a")
    data = json.loads((source / PREPROCESSOR).read_text())
    data["do_flip_channel_order"] = True
    (source / PREPROCESSOR).write_text(json.dumps(data))
    (said,) = lines(succeed(source, tmp_path / "b.onnx"), "replaced")
    assert tells(said, "do_flip_channel_order")
    assert any("do_flip_channel_order" in remark for remark in read_model(source).remarks())


def test_a_guess_names_the_command_that_has_the_option(tmp_path: Path) -> None:
    remarks = read_model(save_plain(tmp_path / "a.pth", random_weights(SMALL["v1"]))).remarks()
    assert any("convert --preprocessing KEY=VALUE" in remark for remark in remarks)
    assert not any("(--" in remark for remark in remarks)


def test_a_folders_own_files_hold_where_they_were_changed(tmp_path: Path) -> None:
    info = describe(CONFIG, "hf")
    save_model(tmp_path / "a", random_weights(CONFIG), info, dialect="hf")
    assert read_model(tmp_path / "a").info == info
    changed = make_preprocessor(SQUASHED)
    (tmp_path / "a" / PREPROCESSOR).write_text(json.dumps(changed))
    assert read_model(tmp_path / "a").info.preprocessing == SQUASHED
    assert lines(succeed(tmp_path / "a", tmp_path / "b.onnx"), "warning")


@pytest.mark.parametrize(
    ("labels", "facts"),
    [(("crane", "crane"), ("crane", "2", "--labels")), (("cat", " "), ("1", "--labels"))],
)
def test_labels_that_name_no_class_are_said(
    labels: tuple[str, ...], facts: Facts, tmp_path: Path
) -> None:
    plain: ModelInfo = describe(CONFIG, "official")
    named = tuple(f"class {index}" for index in range(CONFIG.num_classes - len(labels)))
    info = dataclasses.replace(plain, labels=(*labels, *named))
    save_model(tmp_path / "a.ckpt", random_weights(CONFIG), info)
    (said,) = lines(succeed(tmp_path / "a.ckpt", tmp_path / "b.onnx"), "warning")
    assert tells(said, *facts)
