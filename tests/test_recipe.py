"""Recipes: what is read, what is refused, and what a model is made from."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from pvt_ms.command_line import main
from pvt_spec import ConfigError
from pvt_train.recipe import Recipe, load_recipe, model_info

DEMO = Path(__file__).parents[1] / "configs/demo/pvt_nano_digits.yaml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def problems(path: Path | None, **overrides: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load_recipe(path, overrides)
    return str(error.value)


def test_the_demo_recipe_says_what_it_does():
    recipe = load_recipe(DEMO, {})
    for key, value in yaml.safe_load(DEMO.read_text()).items():
        assert getattr(recipe, key) == (tuple(value) if isinstance(value, list) else value)


def test_defaults_are_mindcvs_pvt_tiny():
    """RECIPES.md, "PVT v1, common to all four" and the row of pvt_tiny."""
    recipe = load_recipe(None, {"model": "pvt_tiny"})
    assert (recipe.batch_size, recipe.epoch_size, recipe.warmup_epochs) == (128, 450, 10)
    assert (recipe.lr, recipe.min_lr, recipe.weight_decay) == (5e-4, 1e-6, 0.05)
    assert (recipe.label_smoothing, recipe.drop_path_rate, recipe.hflip) == (0.1, 0.1, 0.5)
    assert (recipe.scale, recipe.ratio) == ((0.08, 1.0), (0.75, 1.333))


def test_options_are_stronger_than_the_file():
    recipe = load_recipe(DEMO, {"epoch_size": 3, "scale": (0.5, 0.9)})
    assert (recipe.epoch_size, recipe.scale) == (3, (0.5, 0.9))
    assert recipe.batch_size == 96


def test_every_key_is_an_option():
    names = {parameter.name for parameter in main.commands["train"].params}
    assert {field.name for field in dataclasses.fields(Recipe)} <= names


def test_all_problems_are_told_at_once_with_the_nearest_keys(tmp_path):
    text = "model: pvt_nano\nepochs_size: 3\nlearning_rte: 1\nbatch_size: many\nhflip: true\n"
    path = written(tmp_path, text)
    assert problems(path) == (
        f"{path}: batch_size is 'many', expected a whole number; "
        "epochs_size is not a known key (the nearest is epoch_size); "
        "hflip is True, expected a number; "
        "learning_rte is not a known key (the nearest is min_lr)"
    )


@pytest.mark.parametrize(
    ("text", "lr"), [("lr: 1e-3", 1e-3), ("lr: 1.0e-3", 1e-3), ("lr: 1", 1.0), ("lr: '2'", 2.0)]
)
def test_a_number_may_be_written_as_mindcv_writes_it(tmp_path, text, lr):
    """YAML reads ``1e-3``, without a point, as text."""
    recipe = load_recipe(written(tmp_path, f"model: pvt_tiny\n{text}\n"), {})
    assert recipe.lr == lr
    assert type(recipe.lr) is float


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model", 3, "expected text"),
        ("profile", "timm", "expected one of official, mindcv, hf"),
        ("image_resize", 224.0, "expected a whole number or null"),
        ("epoch_size", 0, "expected at least 1"),
        ("batch_size", 0, "expected at least 1"),
        ("batch_size", True, "expected a whole number"),
        ("lr", 0.0, "expected more than 0"),
        ("lr", float("nan"), "expected more than 0"),
        ("lr", "fast", "expected a number"),
        ("min_lr", 1.0, "expected 0 to lr"),
        ("warmup_epochs", 451, "expected 0 to epoch_size"),
        ("weight_decay", -0.1, "expected at least 0"),
        ("label_smoothing", 1.0, "expected 0 <= share < 1"),
        ("drop_path_rate", 1.0, "expected 0 <= rate < 1"),
        ("drop_path_rate", float("nan"), "expected 0 <= rate < 1"),
        ("scale", [0.5], "expected two numbers"),
        ("scale", "01", "expected two numbers"),
        ("scale", 1.0, "expected two numbers"),
        ("scale", [0.9, 0.5], "expected 0 < smallest <= largest <= 1"),
        ("ratio", [0.0, 1.0], "expected 0 < smallest <= largest"),
        ("hflip", 1.5, "expected 0 to 1"),
        ("crop_pct", 0.0, "expected more than 0, up to 1"),
        ("seed", -1, "expected at least 0"),
    ],
)
def test_values_that_cannot_be_are_refused(key, value, expected):
    message = problems(None, **{"model": "pvt_tiny", key: value})
    assert f"{key} is" in message
    assert expected in message


def test_a_model_that_cannot_be_is_refused():
    assert "did you mean pvt_tiny?" in problems(None, model="pvt_tyni")
    assert "at least 32 pixels" in problems(None, model="pvt_tiny", image_resize=16)


def test_a_model_is_needed():
    assert problems(None) == "recipe: model is missing: name a variant there or with --model"


@pytest.mark.parametrize("text", ["- a list\n", "", "key: [unclosed\n", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    path = written(tmp_path, text)
    assert str(path) in problems(path, model="pvt_nano")


def test_a_file_that_is_missing_is_refused(tmp_path):
    assert "No such file" in problems(tmp_path / "none.yaml", model="pvt_nano")


@pytest.mark.parametrize(
    ("profile", "crop_pct", "expected"),
    [("official", None, 0.875), ("mindcv", None, 0.9), ("mindcv", 1.0, 1.0)],
)
def test_a_model_is_described_as_the_recipe_says(profile, crop_pct, expected):
    recipe = Recipe("pvt_tiny", profile, image_resize=96, crop_pct=crop_pct, drop_path_rate=0.2)
    info = model_info(recipe, ["cat", "dog"])
    assert (info.config.num_classes, info.labels) == (2, ("cat", "dog"))
    assert (info.config.image_size, info.config.drop_path_rate) == ((96, 96), 0.2)
    assert info.preprocessing.image_size == (96, 96)
    assert info.preprocessing.crop_pct == expected
    assert info.numerics.gelu == ("tanh" if profile == "mindcv" else "erf")


def test_every_weight_is_trained_in_float32():
    info = model_info(Recipe("pvt_tiny", "mindcv"), ["a"])
    assert info.numerics.pos_embed_dtype == "float32"
    assert info.profile == "mindcv with pos_embed_dtype=float32"
