"""The recipes that come with the repository, against the values of MindCV and of whai362/PVT."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pvt_spec import VARIANTS
from pvt_train.recipe.checks import recipe_warnings
from pvt_train.recipe.read import model_config, read_values
from tests.support.messages import tells
from tests.support.processes import ROOT
from tests.support.recipes import load_recipe

CONFIGS = ROOT / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))

V1 = ("pvt_tiny", "pvt_small", "pvt_medium", "pvt_large")
V2 = tuple(f"pvt_v2_{size}" for size in ("b0", "b1", "b2", "b2_li", "b3", "b4", "b5"))

MINDCV_COMMON: dict[str, Any] = {
    "mode": 0,
    "distribute": True,
    "data_dir": "/path/to/imagenet",
    "shuffle": True,
    "batch_size": 128,
    "image_resize": 224,
    "scale": (0.08, 1.0),
    "ratio": (0.75, 1.333),
    "hflip": 0.5,
    "interpolation": "bicubic",
    "auto_augment": "randaug-m9-mstd0.5-inc1",
    "re_prob": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "cutmix_prob": 1.0,
    "crop_pct": 0.9,
    "num_classes": 1000,
    "pretrained": "",
    "ckpt_path": "",
    "keep_checkpoint_max": 10,
    "ckpt_save_dir": "./ckpt",
    "amp_level": "O2",
    "loss": "CE",
    "label_smoothing": 0.1,
    "scheduler": "cosine_decay",
    "warmup_factor": 0.0,
    "opt": "adamw",
    "weight_decay": 0.05,
    "use_nesterov": False,
    # Not in the files: what MindCV 0.3.0's config.py has for them.
    "vflip": 0.0,
    "re_scale": (0.02, 0.33),
    "re_ratio": (0.3, 3.3),
    "re_max_attempts": 10,
    "aug_repeats": 0,
    "seed": 42,
    "weight_decay_filter": "disable",
    "layer_decay": None,
    "ema": False,
    "ema_decay": 0.9999,
    "clip_grad": False,
    "clip_value": 15.0,
    "gradient_accumulation_steps": 1,
    "ckpt_save_policy": "latest_k",
    "ckpt_save_interval": 1,
    "log_interval": 100,
    "num_samples": None,
    "num_cycles": 1,
    "cycle_decay": 1.0,
}

MINDCV_V1 = {"num_parallel_workers": 8, "min_lr": 1e-6, "color_jitter": 0.0, "re_value": 0.0}
MINDCV_V2 = {"color_jitter": 0.4, "re_value": "random", "val_while_train": True, "momentum": 0.9}

COLUMNS = (
    "epoch_size",
    "warmup_epochs",
    "decay_epochs",
    "lr",
    "min_lr",
    "drop_path_rate",
    "loss_scale_type",
    "loss_scale",
    "drop_overflow_update",
    "lr_epoch_stair",
    "num_parallel_workers",
)
MINDCV_ROWS: dict[str, tuple[Any, ...]] = {
    "pvt_tiny": (450, 10, 440, 5e-4, 1e-6, 0.1, "fixed", 1024.0, False, False, 8),
    "pvt_small": (500, 10, 390, 5e-4, 1e-6, 0.1, "fixed", 1024.0, False, False, 8),
    "pvt_medium": (400, 10, 390, 1e-3, 1e-6, 0.3, "fixed", 1024.0, False, False, 8),
    "pvt_large": (400, 10, 390, 1e-3, 1e-6, 0.3, "fixed", 300.0, False, False, 8),
    "pvt_v2_b0": (500, 10, 490, 1e-3, 1e-5, 0.1, "fixed", 1024.0, False, True, 8),
    "pvt_v2_b1": (500, 10, 490, 1e-3, 1e-5, 0.1, "dynamic", 1.0, True, True, 8),
    "pvt_v2_b2": (550, 20, 530, 1e-3, 1e-6, 0.2, "dynamic", 1.0, True, False, 8),
    "pvt_v2_b2_li": (550, 20, 530, 1e-3, 1e-6, 0.2, "dynamic", 1.0, True, False, 8),
    "pvt_v2_b3": (550, 20, 530, 2e-3, 1e-6, 0.3, "auto", 1.0, False, False, 16),
    "pvt_v2_b4": (550, 20, 530, 2e-3, 1e-6, 0.3, "auto", 1.0, False, False, 16),
    "pvt_v2_b5": (550, 20, 530, 2e-3, 1e-6, 0.3, "auto", 1.0, False, False, 16),
}

OFFICIAL: dict[str, Any] = {
    "distribute": True,
    "seed": 0,
    "profile": "official",
    "num_classes": 1000,
    "batch_size": 128,
    "epoch_size": 300,
    "lr": 5e-4 * 1024 / 512,
    "min_lr": 1e-5,
    "warmup_epochs": 5,
    "opt": "adamw",
    "weight_decay": 0.05,
    "weight_decay_filter": "vectors_and_cls_token",
    "eps": 1e-8,
    "auto_augment": "rand-m9-mstd0.5-inc1",
    "mixup": 0.8,
    "cutmix": 1.0,
    "cutmix_prob": 1.0,
    "mixup_switch_prob": 0.5,
    "label_smoothing": 0.1,
    "re_prob": 0.25,
    "re_value": "pixel",
    "aug_repeats": 3,
    "interpolation": "bicubic",
    "scale": (0.08, 1.0),
    "crop_pct": 224 / 256,
    "ema": False,
}
SMALL_OFFICIAL = ("pvt_tiny", "pvt_small", "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b2_li")


def mindcv_file(model: str) -> Path:
    return CONFIGS / ("pvt" if model in V1 else "pvtv2") / f"{model}_ascend.yaml"


def test_there_is_one_of_each():
    named = {path.relative_to(CONFIGS).as_posix() for path in FILES}
    expected = {mindcv_file(model).relative_to(CONFIGS).as_posix() for model in V1 + V2}
    expected |= {f"official/{model}.yaml" for model in V1 + V2}
    assert named == expected | {"demo/pvt_nano_digits.yaml"}
    assert {*V1, *V2, "pvt_nano"} == set(VARIANTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_read_as_written(path):
    recipe, written = load_recipe(path, {}), yaml.safe_load(path.read_text())
    assert recipe.model in path.stem
    assert model_config(recipe, 1000).num_classes == 1000
    for key, value in written.items():
        if key in vars(recipe) and key not in ("pretrained", "loss"):
            assert getattr(recipe, key) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("model", V1 + V2)
def test_mindcvs_recipes(model):
    recipe = load_recipe(mindcv_file(model), {})
    expected = MINDCV_COMMON | (MINDCV_V1 if model in V1 else MINDCV_V2)
    expected |= dict(zip(COLUMNS, MINDCV_ROWS[model], strict=True))
    assert {key: getattr(recipe, key) for key in expected} == expected


@pytest.mark.parametrize("model", V1 + V2)
def test_official_recipes(model):
    recipe = load_recipe(CONFIGS / f"official/{model}.yaml", {})
    small = model in SMALL_OFFICIAL
    expected = OFFICIAL | {"drop_path_rate": 0.1 if small else 0.3, "clip_grad": not small}
    assert {key: getattr(recipe, key) for key in expected} == expected
    assert recipe.lr * recipe.warmup_factor == 1e-6
    assert recipe.clip_value == 1.0 or small
    assert recipe_warnings(recipe, read_values(CONFIGS / f"official/{model}.yaml", {})) == []


def test_what_is_odd_in_mindcvs_is_said():
    lines = {}
    for model in V1 + V2:
        values = read_values(mindcv_file(model), {})
        lines[model] = " ".join(recipe_warnings(load_recipe(mindcv_file(model), {}), values))
    assert tells(lines["pvt_small"], "min_lr", "400")
    assert [m for m, line in lines.items() if "min_lr" in line] == ["pvt_small"]
    assert [m for m, line in lines.items() if "0 in the whole first epoch" in line] == [
        "pvt_v2_b0",
        "pvt_v2_b1",
    ]
    assert all("dataset_sink_mode" in line for line in lines.values())
    assert not any("imagenet" in line or "dataset (" in line for line in lines.values())


def test_the_files_differ_in_their_model_and_the_table_alone():
    """So that a value that is changed in one of them shows."""
    free = {*COLUMNS, "model"}
    for family in (V1, V2):
        recipes = [vars(load_recipe(mindcv_file(model), {})) for model in family]
        for other in recipes[1:]:
            assert {key for key in other if other[key] != recipes[0][key]} <= free
