"""Mistakes that users make, and files that say less than is needed: told, not guessed around."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest

from convert import ConvertError, Given, convert_file, load_model, read_model, save_model
from convert.findings import to_dict
from convert.inspection import inspect_file
from convert.options import OnnxOptions
from pvt_spec import EPSILONS, PROFILES, ConfigError, make_config
from tests.support.converting import refused, report_of, save, save_plain, succeed
from tests.support.messages import naming, tells
from tests.support.models import SMALL, golden_file, info_of, random_weights

HF = PROFILES["hf"]


def test_config_beside_a_pickled_file_of_weights_is_read(tmp_path: Path) -> None:
    """Heads and epsilon cannot be told from the tensors."""
    import torch
    from safetensors.torch import load_file

    config = dataclasses.replace(SMALL["v2"], num_heads=(1, 4, 3, 2))
    numerics = dataclasses.replace(HF[2], **dict.fromkeys(EPSILONS, 1e-5))
    folder = save(tmp_path / "hub", config, numerics)
    expected = read_model(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for path in (folder, folder / "pytorch_model.bin"):
        model = read_model(path)
        assert model.info.config == expected.info.config
        assert model.info.config.num_heads == (1, 4, 3, 2)
        assert model.info.numerics == numerics == expected.info.numerics
        assert not model.guesses


def test_heads_are_not_guessed_where_no_rule_holds(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL["v2"], embed_dims=(8, 16, 20, 32), num_heads=(1, 2, 4, 4))
    source = save_plain(tmp_path / "a.pth", random_weights(config))
    said = refused(tmp_path, source, tmp_path / "b.onnx")
    assert tells(said, "num_heads", "--num-heads") and tells(said, "8", "16", "20", "32")
    said = succeed(source, tmp_path / "b.onnx", "--num-heads", "1,2,4,4")
    assert tells(said, "num heads", "1", "2", "4", "given")
    assert read_model(tmp_path / "b.onnx").info.config.num_heads == (1, 2, 4, 4)


def test_heads_of_a_named_variant_are_a_guess_that_an_option_replaces(tmp_path: Path) -> None:
    """No tensor shows them: the same names and shapes, and other answers."""
    source, target = tmp_path / "a.pth", tmp_path / "b.onnx"
    save_plain(source, random_weights(make_config("pvt_nano")))
    said = succeed(source, target)
    assert "variant  pvt_nano (its num_heads are a guess)\n" in said
    guess = next(line for line in said.splitlines() if "guess  num_heads" in line)
    assert tells(guess, "1", "2", "3", "4", "pvt_nano", "--num-heads")
    said = succeed(source, target, "--num-heads", "2,4,6,8", "--force")
    assert "guess  num_heads" not in said and "none named" in said
    assert read_model(target).info.config.num_heads == (2, 4, 6, 8)
    assert "guess" not in succeed(target, tmp_path / "c.ckpt")
    said = succeed(target, tmp_path / "d.ckpt", "--num-heads", "1,2,3,4")
    assert tells(said, "given", "2", "4", "6", "8")


@pytest.mark.parametrize("heads", ["1,2,3", "1,2,3,a", "1,2,3,5", "0,2,3,4"])
def test_heads_that_cannot_be_are_told(heads: str, tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(make_config("pvt_nano")))
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--num-heads", heads)
    assert tells(said, "num_heads")


@pytest.mark.parametrize(
    "case", ["official_v1_small", "official_v2_small", "timm_v2_linear_small", "mindcv_v2_small"]
)
def test_the_maths_of_a_file_that_says_nothing_is_a_guess(case: str, tmp_path: Path) -> None:
    source, target = golden_file(case), tmp_path / "a.onnx"
    profile = "mindcv" if case.startswith("mindcv") else "official"
    said = succeed(source, target)
    assert tells(said, f"guess  profile {profile}", "--profile")
    assert "guess  profile" not in succeed(source, target, "--profile", "hf", "--force")
    assert "guess" not in succeed(target, tmp_path / "b.ckpt")


def test_paths_may_be_text(tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.pth", SMALL["v1"], "official"), tmp_path / "b.ckpt"
    model = convert_file(str(source), str(target))
    assert "\n" not in repr(model) and len(repr(model)) < 300 and tells(repr(model), source)
    weights, info = load_model(str(target))
    assert save_model(str(tmp_path / "c.pth"), weights, info) == [tmp_path / "c.pth"]
    assert (tmp_path / "c.pth").read_bytes() == source.read_bytes()


def test_a_folder_with_other_weights_is_not_written_into(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", SMALL["v2"], "hf")
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text("{}")
    said = refused(tmp_path, source, folder, "--force")
    assert tells(said, "model.safetensors.index.json")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_pointer_in_a_folder_is_named(name: str, tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", SMALL["v2"], "hf")
    folder = tmp_path / "hub"
    save_model(folder, *load_model(source), dialect="hf")
    (folder / name).write_text(POINTER)
    assert tells(refused(tmp_path, folder, tmp_path / "b.onnx"), name, "Git LFS")


def test_a_pointer_in_place_of_the_weights_beside_a_model_is_named(tmp_path: Path) -> None:
    source = tmp_path / "a.onnx"
    onnx = OnnxOptions(external_data=True)
    save_model(source, random_weights(SMALL["v2"]), info_of(SMALL["v2"]), onnx=onnx)
    (tmp_path / "a.onnx.data").write_text(POINTER)
    assert tells(refused(tmp_path, source, tmp_path / "b.pth"), "a.onnx.data", "Git LFS")


def test_folders_of_other_things_say_what_could_be_meant(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    save(folder / "a.pth", SMALL["v2"], "official")
    assert tells(refused(tmp_path, folder, tmp_path / "b.onnx"), folder / "a.pth")
    with zipfile.ZipFile(folder / "a.pth") as archive:
        archive.extractall(tmp_path)
    said = refused(tmp_path, tmp_path / "archive", tmp_path / "b.onnx")
    assert tells(said, "zip -0 -r")


def test_a_lightning_checkpoint_under_its_own_ending_is_read(tmp_path: Path) -> None:
    """It is a zip of torch, and ends in .ckpt."""
    made = save(tmp_path / "a.pth", SMALL["v2"], "official")
    model = read_model(made.rename(tmp_path / "epoch=3.ckpt"))
    assert model.findings[0].what == "format"
    assert (model.findings[0].value, bool(model.findings[0].note)) == ("pth", True)


def test_names_of_another_dialect_than_was_given_are_told(tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(SMALL["v1"]))
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--from-dialect", "mindcv")
    assert tells(said, "official", "mindcv")


def test_problems_without_end_are_counted(tmp_path: Path) -> None:
    source = save_plain(tmp_path / "a.pth", random_weights(SMALL["v1"]))
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--model", "pvt_large")
    assert tells(said, "official", "pvt_large")
    assert said.count("\n  ") == 41 and " more" in said


def test_an_empty_list_of_labels_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", SMALL["v2"], "official")
    (tmp_path / "labels.txt").write_text("")
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--labels", tmp_path / "labels.txt")
    assert tells(said, "empty")


def test_what_is_not_finite_is_shown(tmp_path: Path) -> None:
    weights = random_weights(SMALL["v2"])
    weights["head.bias"][:2] = np.nan, np.inf
    source = save_plain(tmp_path / "a.pth", weights)
    facts = to_dict(inspect_file(source))
    assert facts["not_finite"] == {"head.bias": "1 NaN, 1 infinite, of 7"}
    said = succeed(source, tmp_path / "b.onnx", "--allow-nonfinite")
    assert "not finite  head.bias 1 NaN, 1 infinite, of 7" in said


def test_what_the_model_becomes_is_told_and_reported(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", SMALL["v1"], "official")
    changes = ("--image-size", "96x64", "--num-classes", "0")
    facts = report_of(source, tmp_path / "b.onnx", *changes)
    assert facts["image_size"] == [64, 64] and facts["classes"] == 7
    assert facts["becomes"] == {"classes": "0", "answers": "features", "image size": "96x64"}


def test_labels_of_a_timm_folder_are_read() -> None:
    from convert.formats.huggingface.timm import parse_timm

    trained = {"crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.2] * 3}
    names = {"label_names": ["cat", "dog"], "num_classes": 2}
    info = parse_timm({"architecture": "pvt_v2_b0", "pretrained_cfg": trained, **names})
    assert info.labels == ("cat", "dog")


def test_a_variant_that_a_dialect_has_no_names_for_is_told() -> None:
    """Before anything else is asked of its tensors."""
    source = golden_file("mmdet_v2_small")
    with pytest.raises(ConvertError, match=naming("mmdet", "pos_embed1")):
        read_model(source, Given(model="pvt_tiny"))


def test_a_v2_without_a_head_may_be_a_backbone_which_is_said(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL["v2"], num_classes=0)
    source, target = save_plain(tmp_path / "a.pth", random_weights(config)), tmp_path / "b.onnx"
    assert tells(succeed(source, target), "guess  answers features", "--features")
    for asked in (("--features",), ("--num-classes", 0)):
        assert "guess  answers" not in succeed(source, target, "--force", *asked)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_head_that_is_a_number_is_told_where_the_variant_is_given(
    part: str, tmp_path: Path
) -> None:
    weights = random_weights(make_config("pvt_nano"))
    for name in ("head.weight", "head.bias", "block2.0.mlp.fc1.weight"):
        del weights[name]
    weights[f"head.{part}"] = np.float32(1).reshape(())
    source = save_plain(tmp_path / "a.pth", weights)
    said = refused(tmp_path, source, tmp_path / "b.pth", "--model", "pvt_nano")
    assert tells(said, f"head.{part}", "block2.0.mlp.fc1.weight")


def test_weights_that_are_not_the_models_are_not_written(tmp_path: Path) -> None:
    """``save_model`` is called by programs, with whatever they have."""
    config = SMALL["v2"]
    weights, info = random_weights(config), info_of(config)
    without = {name: array for name, array in weights.items() if name != "head.bias"}
    norm = weights["norm1.weight"]
    for wrong in (
        without,
        {**weights, "more": norm},
        {**weights, "norm1.weight": norm[:-1]},
        {**weights, "norm1.weight": norm[None]},
        {**weights, "norm1.weight": norm.astype(np.int64)},
        {**weights, "norm1.weight": norm.astype(object)},
    ):
        for name in ("a.pth", "a.onnx"):
            with pytest.raises(ConfigError, match="weights"):
                save_model(tmp_path / name, wrong, info)
    assert not [*tmp_path.iterdir()]
