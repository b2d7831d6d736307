"""Starting from a model file: any dialect, other classes, another image size, the right maths."""

import dataclasses

import numpy as np
import pytest

from convert import ConvertError, save_model
from convert.model.read import read_model
from convert.training.checkpoint import save_training
from pvt_ms.command_line import main
from pvt_spec import ModelInfo, PVTConfig, make_config
from pvt_spec.initial import initial_weights
from pvt_train.run.fine_tuning import fit_weights, read_pretrained, read_variant
from tests.support.commands import invoke
from tests.support.messages import naming, tells
from tests.support.models import (
    GOLDEN_SMALL,
    SMALL,
    assert_same,
    golden_case,
    golden_config,
    golden_file,
    golden_weights,
    info_of,
    random_weights,
)


def described(config: PVTConfig, profile: str = "official") -> ModelInfo:
    info = info_of(config, profile)
    numerics = dataclasses.replace(info.numerics, pos_embed_dtype="float32")
    return dataclasses.replace(info, numerics=numerics)


def fit(path, config, profile="official"):
    fresh = initial_weights(config, 1)
    return (*fit_weights(read_model(path), described(config, profile), fresh), fresh)


@pytest.mark.parametrize("case", GOLDEN_SMALL)
def test_every_dialect_and_format_with_its_own_maths(case):
    config = dataclasses.replace(golden_config(case), drop_path_rate=0.2)
    profile = golden_case(case)["profile"]
    weights, notes, _ = fit(golden_file(case), config, profile)
    wide = {name: array.astype(np.float32) for name, array in golden_weights(case).items()}
    assert_same(weights, wide)
    assert not [note for note in notes if note.startswith("warning")]


def test_other_maths_is_warned_of():
    case = "mindcv_v2_small"
    _, notes, _ = fit(golden_file(case), golden_config(case))
    assert tells(notes[-1], "mindcv", "official")


@pytest.mark.parametrize("classes", [3, 20])
def test_other_classes_take_a_fresh_head_alone(tmp_path, small, classes):
    path = tmp_path / "model.safetensors"
    save_model(path, random_weights(small), described(small))
    config = dataclasses.replace(small, num_classes=classes)
    weights, notes, fresh = fit(path, config)
    for name, array in random_weights(small).items():
        expected = fresh[name] if name.startswith("head.") else array
        assert np.array_equal(weights[name], expected), name
    assert tells(notes, "7", classes)


def test_another_image_size_resizes_positions(tmp_path):
    import torch

    config = SMALL["v1"]
    save_model(tmp_path / "model.ckpt", random_weights(config), described(config))
    larger = dataclasses.replace(config, image_size=(96, 64))
    weights, notes, _ = fit(tmp_path / "model.ckpt", larger)
    old = torch.from_numpy(random_weights(config)["pos_embed1"]).reshape(1, 16, 16, -1)
    resized = torch.nn.functional.interpolate(
        old.permute(0, 3, 1, 2), (24, 16), mode="bilinear", align_corners=False
    )
    expected = resized.permute(0, 2, 3, 1).reshape(1, 384, -1).numpy()
    assert np.allclose(weights["pos_embed1"], expected, atol=1e-6)
    assert weights["pos_embed4"].shape == (1, 3 * 2 + 1, 32)
    assert tells(notes, "64x64", "96x64")


def test_other_class_names_are_said(tmp_path):
    config = SMALL["v2"]
    named = dataclasses.replace(described(config), labels=tuple("abcdefg"))
    save_model(tmp_path / "model.ckpt", random_weights(config), named)
    notes = fit(tmp_path / "model.ckpt", config)[1]
    assert tells(notes, "head")


def test_another_architecture_is_refused(tmp_path):
    save_model(tmp_path / "model.ckpt", random_weights(SMALL["v2"]), described(SMALL["v2"]))
    with pytest.raises(ConvertError, match=naming("2", "1")):
        fit(tmp_path / "model.ckpt", SMALL["v1"])


def test_version_2_has_no_positions_to_resize(tmp_path):
    config = SMALL["v2"]
    save_model(tmp_path / "model.ckpt", random_weights(config), described(config))
    larger = dataclasses.replace(config, image_size=(96, 64))
    weights, notes, _ = fit(tmp_path / "model.ckpt", larger)
    assert_same(weights, random_weights(config))
    assert len(notes) == 1 and notes[0].startswith("pretrained: ")


def test_a_file_without_class_names_is_not_said_to_have_others(tmp_path):
    config = SMALL["v2"]
    save_model(tmp_path / "model.ckpt", random_weights(config), described(config))
    here = dataclasses.replace(described(config), labels=tuple("abcdefg"))
    model = read_model(tmp_path / "model.ckpt")
    assert len(fit_weights(model, here, random_weights(config))[1]) == 1


def test_the_variant_that_the_file_holds_is_proposed(tmp_path):
    nano = make_config("pvt_nano", num_classes=7)
    save_model(tmp_path / "model.ckpt", random_weights(nano), described(nano))
    with pytest.raises(ConvertError, match=naming("pvt_nano", "pvt_v2_b0", "--model")):
        fit(tmp_path / "model.ckpt", make_config("pvt_v2_b0", num_classes=7))


def test_only_a_model_with_a_name_is_trained(tmp_path):
    path = tmp_path / "model.ckpt"
    save_model(path, random_weights(SMALL["v2"]), described(SMALL["v2"]))
    widths = ", ".join(map(str, SMALL["v2"].embed_dims))
    with pytest.raises(ConvertError, match=naming(str(path), widths, "pvt_nano")):
        read_variant(path)


def test_grey_images_take_filters_of_colours(tmp_path):
    config = SMALL["v2"]
    save_model(tmp_path / "model.ckpt", random_weights(config), described(config))
    weights, notes, _ = fit(tmp_path / "model.ckpt", dataclasses.replace(config, in_chans=1))
    first = "patch_embed1.proj.weight"
    summed = random_weights(config)[first].sum(axis=1, keepdims=True)
    assert_same(weights, {**random_weights(config), first: summed})
    assert tells(notes, first, "3", "1")


def test_averaged_weights_are_taken_where_they_are_asked_for(tmp_path):
    config = SMALL["v2"]
    average = {f"ema.{name}": a for name, a in random_weights(config, seed=1).items()}
    save_training(tmp_path / "last.ckpt", random_weights(config) | average, info_of(config), {})
    for weights, seed in (("raw", 0), ("ema", 1)):
        model = read_pretrained(tmp_path / "last.ckpt", weights)
        fitted, notes = fit_weights(model, described(config), initial_weights(config, 1))
        assert_same(fitted, random_weights(config, seed=seed))
        assert tells(notes, "taken") and tells(notes, "not") == (weights == "raw")
        assert tells(notes, "--pretrained-weights ema") == (weights == "raw")


def test_averaged_weights_that_are_not_there_are_refused_by_the_options_name(tmp_path):
    save_model(tmp_path / "model.ckpt", random_weights(SMALL["v2"]), described(SMALL["v2"]))
    with pytest.raises(ConvertError, match=naming("model.ckpt", "--pretrained-weights raw")):
        read_pretrained(tmp_path / "model.ckpt", "ema")


def test_the_model_is_the_pretrained_files_where_none_is_named(tmp_path):
    nano = make_config("pvt_nano", num_classes=7)
    save_model(tmp_path / "nano.pth", random_weights(nano), described(nano))
    save_model(tmp_path / "other.pth", random_weights(SMALL["v2"]), described(SMALL["v2"]))
    command = ("train", "--data-dir", tmp_path / "nowhere", "--output", tmp_path / "run")
    said = invoke(main, *command, "--pretrained", tmp_path / "nano.pth").stderr
    assert tells(said, "model", "pvt_nano", "nano.pth") and tells(said, "nowhere")
    said = invoke(main, *command, "--pretrained", tmp_path / "other.pth").stderr
    assert tells(said, "other.pth", "pvt_nano") and "nowhere" not in said
    said = invoke(main, *command, "--pretrained", "False").stderr
    assert tells(said, "model", "--model") and "nowhere" not in said
