"""Recipes: what is read, what is refused, and what a model is made from."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pvt_spec import ConfigError, ModelInfo, Preprocessing, make_config, profile_numerics
from pvt_train.command_line import read_recipe
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import model_info
from tests.support.messages import naming, tells
from tests.support.processes import ROOT
from tests.support.recipes import load_recipe

DEMO = ROOT / "configs/demo/pvt_nano_digits.yaml"


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


def test_options_are_stronger_than_the_file():
    recipe = load_recipe(DEMO, {"epoch_size": 3, "scale": (0.5, 0.9)})
    assert (recipe.epoch_size, recipe.scale) == (3, (0.5, 0.9))
    assert recipe.batch_size == 96


def test_all_problems_are_told_at_once_with_the_nearest_keys(tmp_path):
    text = "model: pvt_nano\nepochs_size: 3\nlearning_rte: 1\nbatch_size: many\nhflip: true\n"
    path = written(tmp_path, text)
    assert problems(path) == (
        f"{path}: batch_size is 'many', expected a whole number; "
        "epochs_size is not a known key (the nearest is epoch_size); "
        "hflip is True, expected a number; "
        "learning_rte is not a known key (the nearest is lr)"
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
        ("in_channels", 0, "expected at least 1"),
        ("num_classes", 0, "expected at least 1"),
        ("mode", 2, "expected 0 (graph) or 1 (pynative)"),
        ("mode", "static", "expected a whole number"),
        ("device_target", "NPU", "expected one of Ascend, GPU, CPU"),
        ("distribute", "perhaps", "expected True or False"),
        ("distribute", 2, "expected True or False"),
        ("shuffle", 1.0, "expected True or False"),
        ("pretrained", True, "expected a model file or"),
        ("pretrained", "True", "expected a model file or"),
        ("freeze", 3, "expected a list of texts"),
        ("log_interval", 0, "expected at least 1"),
        ("num_parallel_workers", -1, "expected at least 0"),
        ("num_samples", 0, "expected at least 1"),
        ("max_unreadable", -1, "expected at least 0"),
        ("interpolation", "nearest", "expected bicubic or bilinear"),
        ("vflip", -0.1, "expected 0 to 1"),
        ("ckpt_save_dir", "", "expected a folder"),
        ("color_jitter", [0.4, 0.4], "expected one number from 0 on, or three"),
        ("color_jitter", "strong", "expected a number or a list of numbers or null"),
        ("auto_augment", "autoaug", "expected rand or randaug as its first word"),
        ("auto_augment", "randaug-m9-x3", "'x3' is none of its parts"),
        ("re_prob", 2, "expected 0 to 1"),
        ("re_scale", [0.5, 0.1], "expected 0 < smallest <= largest <= 1"),
        ("re_ratio", [3.3, 0.3], "expected 0 < smallest <= largest"),
        ("re_value", "noise", "expected random, pixel, rand or a number"),
        ("re_max_attempts", 0, "expected 1 to 1,000"),
        ("re_max_attempts", 10**15, "expected 1 to 1,000"),
        ("aug_repeats", -1, "expected at least 0"),
        ("mixup", -0.8, "expected at least 0"),
        ("cutmix", float("inf"), "expected at least 0"),
        ("cutmix_prob", 1.1, "expected 0 to 1"),
        ("mixup_switch_prob", -1, "expected 0 to 1"),
        ("mean", [123.7], "expected 3 numbers, as in_channels"),
        ("std", [58.4, 0.0, 57.4], "expected more than 0 each"),
        ("loss", "BCE", "expected one of CE"),
        ("scheduler", "one_cycle", "expected one of cosine_decay, step_decay, multi_step_decay"),
        ("scheduler", "cyclic", "expected one of cosine_decay, step_decay, multi_step_decay"),
        ("warmup_factor", 1.5, "expected 0 to 1"),
        ("decay_epochs", 0, "expected at least 1"),
        ("decay_rate", 0, "expected more than 0"),
        ("multi_step_decay_milestones", [-1], "expected at least 0 each"),
        ("num_cycles", 0, "expected at least 1"),
        ("cycle_decay", 0, "expected more than 0, up to 1"),
        ("opt", "adam", "expected one of adamw, sgd, momentum, lamb"),
        ("weight_decay_filter", "none", "expected one of disable, norm_and_bias, auto"),
        ("layer_decay", 1.5, "expected more than 0, up to 1"),
        ("momentum", 1.0, "expected 0 <= share < 1"),
        ("eps", 0, "expected more than 0"),
        ("clip_value", 0, "expected more than 0"),
        ("gradient_accumulation_steps", 0, "expected at least 1"),
        ("ema_decay", 1.0, "expected 0 <= share < 1"),
        ("amp_level", "O4", "expected one of O0, O1, O2, O3"),
        ("loss_scale_type", "static", "expected one of fixed, dynamic, auto"),
        ("loss_scale", 0.5, "expected at least 1"),
        ("loss_scale_factor", 1, "expected more than 1"),
        ("scale_window", 0, "expected at least 1"),
        ("val_interval", 0, "expected at least 1"),
        ("ckpt_save_interval", 0, "expected at least 1"),
        ("ckpt_save_policy", "newest", "expected one of latest_k, top_k, all"),
        ("keep_checkpoint_max", 0, "expected at least 1"),
        ("profile", "timm", "expected one of official, mindcv, hf"),
        ("image_resize", 224.0, "expected a whole number or null"),
        ("epoch_size", 0, "expected at least 1"),
        ("batch_size", 0, "expected at least 1"),
        ("batch_size", True, "expected a whole number"),
        ("lr", 0.0, "expected more than 0"),
        ("lr", float("nan"), "expected more than 0"),
        ("lr", "fast", "expected a number"),
        ("lr", 10**400, "expected a number"),
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
        ("ratio", [1e-320, 1.0], "of 1e-9 to 1e9"),
        ("re_ratio", [1.0, 1e10], "of 1e-9 to 1e9"),
        ("auto_augment", f"rand-m9-mmax1{'0' * 308}", "up to 1000"),
        ("hflip", 1.5, "expected 0 to 1"),
        ("crop_pct", 0.0, "expected more than 0, up to 1"),
        ("seed", -1, "expected at least 0"),
        ("seed", 2**63, "in 64 bits or float32"),
        ("freeze", ["*"] * 1001, "at most 1,000 patterns"),
        ("multi_step_decay_milestones", [1, 10**30], "in 64 bits or float32"),
        ("weight_decay", 1e300, "in 64 bits or float32"),
        ("drop_path_rate", 1e300, "in 64 bits or float32"),
        ("ckpt_save_dir", "a\0b", "expected text"),
        ("data_dir", "\ud800", "expected text"),
    ],
)
def test_values_that_cannot_be_are_refused(key, value, expected):
    message = problems(None, **{"model": "pvt_tiny", key: value})
    assert tells(message, key)
    assert expected in message


def test_a_model_that_cannot_be_is_refused():
    assert tells(problems(None, model="pvt_tyni"), "pvt_tiny")
    assert tells(problems(None, model="pvt_tiny", image_resize=16), "32", "pixels")


def test_what_is_frozen_must_be_there():
    assert tells(problems(None, model="pvt_tiny", freeze=["block9.*"]), "'block9.*'")
    assert tells(problems(None, model="pvt_tiny", freeze=["*"]), "train")


def test_a_model_is_needed():
    assert problems(None) == "recipe: model is missing: name a variant there or with --model"


@pytest.mark.parametrize("text", ["- a list\n", "", "key: [unclosed\n", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    path = written(tmp_path, text)
    assert str(path) in problems(path, model="pvt_nano")


def test_a_file_that_is_missing_is_refused(tmp_path):
    assert tells(problems(tmp_path / "none.yaml", model="pvt_nano"), "--config")


@pytest.mark.parametrize(
    ("profile", "crop_pct", "expected"),
    [(None, None, 0.875), ("official", None, 0.875), ("mindcv", None, 0.9), ("mindcv", 1.0, 1.0)],
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


class TestModelInfo:
    def test_the_number_of_classes_is_the_folders(self):
        recipe = Recipe("pvt_tiny", num_classes=1000)
        with pytest.raises(ConfigError, match=naming("2", "--num-classes")):
            model_info(recipe, ["cat", "dog"])
        assert model_info(Recipe("pvt_tiny", num_classes=2), ["a", "b"]).labels == ("a", "b")

    def test_channels_and_normalisation_are_the_recipes(self):
        keys = {"in_channels": 1, "mean": (127.5,), "std": (51.0,)}
        info = model_info(Recipe("pvt_tiny", **keys), ["a"])
        assert info.config.in_chans == 1
        assert (info.preprocessing.mean, info.preprocessing.std) == ((0.5,), (0.2,))

    def pretrained(self, **changes: Any) -> ModelInfo:
        config = make_config("pvt_tiny", num_classes=1000)
        numerics = dataclasses.replace(profile_numerics("mindcv", 1), **changes)
        return ModelInfo(config, numerics, Preprocessing((224, 224), 0.8, (0.5,) * 3, (0.5,) * 3))

    def test_what_the_recipe_leaves_open_is_the_pretrained_models(self):
        theirs = self.pretrained(norm1_eps=1e-3)
        info = model_info(Recipe("pvt_tiny", image_resize=96), ["a", "b"], theirs)
        assert info.numerics == dataclasses.replace(theirs.numerics, pos_embed_dtype="float32")
        assert info.preprocessing == Preprocessing((96, 96), 0.8, (0.5,) * 3, (0.5,) * 3)
        assert info.config.num_classes == 2

    def test_images_are_prepared_as_the_pretrained_models(self):
        theirs = self.pretrained()
        squashed = Preprocessing(
            (224, 224), 1.0, resize="squash", crop_mode="none", interpolation="bilinear"
        )
        theirs = dataclasses.replace(theirs, preprocessing=squashed)
        info = model_info(Recipe("pvt_tiny", image_resize=96), ["a", "b"], theirs)
        assert info.preprocessing == dataclasses.replace(squashed, image_size=(96, 96))
        # Where a share is to be cropped, something is.
        info = model_info(Recipe("pvt_tiny", crop_pct=0.9), ["a", "b"], theirs)
        assert (info.preprocessing.crop_mode, info.preprocessing.crop_pct) == ("center_floor", 0.9)
        # The recipe's are of pixels, whatever theirs are of.
        raw = dataclasses.replace(squashed, rescale=1.0, normalise=False)
        theirs = dataclasses.replace(theirs, preprocessing=raw)
        recipe = Recipe("pvt_tiny", mean=(120.0,) * 3, std=(60.0,) * 3)
        prepared = model_info(recipe, ["a", "b"], theirs).preprocessing
        assert (prepared.mean, prepared.std, prepared.normalise) == ((120,) * 3, (60,) * 3, True)

    def test_what_the_recipe_says_is_stronger_than_the_pretrained_model(self):
        recipe = Recipe("pvt_tiny", profile="official", crop_pct=1.0, mean=(0.0, 0.0, 0.0))
        info = model_info(recipe, ["a"], self.pretrained())
        assert info.numerics == profile_numerics("official", 1)
        assert info.preprocessing == Preprocessing((224, 224), 1.0, (0.0,) * 3, (0.5,) * 3)


LONG = 45_000
BOMB = "a: &a [1, 1]\n" + "".join(f"b{i}: &b [*a, *a, *a]\na{i}: &a [*b, *b]\n" for i in range(99))
MERGES = "m0: &m0 {x: 1}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 6)}]}}\n" for i in range(1, 13)
)
HOSTILE = {
    "lists": "a: " + "[" * LONG,
    "mappings": "a: " + "{a: " * (LONG // 4),
    "dashes": "- " * (LONG // 2),
    "aliases": BOMB,
    "merges": MERGES,
    "keys": "".join(f"key{number}: 1\n" for number in range(LONG // 12)),
    "a long key": "a" * LONG + ": 1",
    "patterns": "model: pvt_tiny\nfreeze: ['" + "*a" * (LONG // 2) + "']",
    "a date": "a: 2020-99-99",
    "digits": "model: pvt_tiny\nepoch_size: " + "9" * 5000,
    "hexadecimal": "model: pvt_tiny\nepoch_size: 0x" + "f" * 9000,
    "a class": "a: !!python/object/apply:os.system [ls]",
    "control characters": "'\\x1b[2J': 1\nmodel: \"\\e[2J\"",
    "too long": "a: 1\n" * 20_000,
}


@pytest.mark.sampled
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_recipes_end_in_one_error_at_once(text, tmp_path):
    path, started = written(tmp_path, text), time.process_time()
    said = problems(path)
    assert time.process_time() - started < 5
    assert said.startswith(str(path)) and len(said) < 5000
    assert said.replace("\n", "").isprintable()


def test_what_is_merged_into_a_mapping_is_read(tmp_path):
    path = written(tmp_path, "<<: {model: pvt_tiny, lr: 0.5}\nepoch_size: 3\n")
    recipe = load_recipe(path, {})
    assert (recipe.model, recipe.lr, recipe.epoch_size) == ("pvt_tiny", 0.5, 3)


@pytest.mark.parametrize("wrong", ["[1]", "{a: 1}", "5", "[.nan]"])
def test_what_names_no_pretrained_file_is_said(tmp_path, wrong):
    (tmp_path / "recipe.yaml").write_text(f"pretrained: {wrong}\nlr: fast\n")
    with pytest.raises(ConfigError, match=naming("pretrained", "lr", "model")):
        read_recipe(tmp_path / "recipe.yaml", {})
