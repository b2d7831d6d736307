"""What a recipe is read from: MindCV's words, its keys that decide nothing here, and oddities."""

from typing import Any

import pytest

from pvt_spec import ConfigError
from pvt_train.recipe.checks import recipe_warnings
from tests.support.messages import tells
from tests.support.recipes import load_recipe


def problems(**keys: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load_recipe(None, {"model": "pvt_tiny", **keys})
    return str(error.value)


class TestWhatAFileMaySay:
    """What YAML makes of MindCV's files, and what its parser makes of text."""

    @pytest.mark.parametrize(
        ("text", "key", "expected"),
        [
            ("distribute: true", "distribute", True),
            ("distribute: 'True'", "distribute", True),
            ("distribute: yes", "distribute", True),
            ("distribute: '0'", "distribute", False),
            ("distribute: 0", "distribute", False),
            ("mode: graph", "mode", 0),
            ("mode: pynative", "mode", 1),
            ("batch_size: '64'", "batch_size", 64),
            ("pretrained: False", "pretrained", ""),
            ("pretrained: 'False'", "pretrained", ""),
            ("pretrained:", "pretrained", ""),
            ("pretrained: pvt.pth", "pretrained", "pvt.pth"),
            ("ckpt_path: ''", "ckpt_path", ""),
            ("ckpt_path: null", "ckpt_path", ""),
            ("auto_augment: null", "auto_augment", None),
            ("auto_augment: None", "auto_augment", None),
            ("crop_pct: null", "crop_pct", None),
            ("loss: ce", "loss", "CE"),
            ("scheduler: warmup_cosine_decay", "scheduler", "cosine_decay"),
            ("ckpt_save_policy: null", "ckpt_save_policy", "all"),
            ("color_jitter: 0", "color_jitter", 0.0),
            ("color_jitter: [0.1, 0.2, 0.3]", "color_jitter", (0.1, 0.2, 0.3)),
            ("color_jitter: null", "color_jitter", None),
            ("re_value: random", "re_value", "random"),
            ("re_value: 1", "re_value", 1.0),
            ("scale: [0.2, 1]", "scale", (0.2, 1.0)),
            ("scale: 0.2, 1", "scale", (0.2, 1.0)),
            ("multi_step_decay_milestones: [5]", "multi_step_decay_milestones", (5,)),
            ("freeze: block1.*, head.*", "freeze", ("block1.*", "head.*")),
            ("freeze: [head.*]", "freeze", ("head.*",)),
            ("freeze: []", "freeze", ()),
        ],
    )
    def test_it_is_read(self, tmp_path, text, key, expected):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"model: pvt_tiny\n{text}\n")
        recipe = load_recipe(path, {})
        found = getattr(recipe, key)
        assert found == expected
        assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("drop_rate", 0.1, "drop_rate is 0.1, which is not supported: there is no dropout"),
            ("dataset_download", True, "nothing is downloaded"),
            ("aug_splits", 3, "there is no AugMix"),
            ("reduction", "sum", "the loss is the mean"),
            ("amp_cast_list", "[nn.Conv2d]", "amp_level decides"),
            ("filter_bias_and_bn", True, "write weight_decay_filter: norm_and_bias"),
            ("dynamic_loss_scale", True, "write loss_scale_type: dynamic"),
        ],
    )
    def test_what_asks_for_another_training_is_refused(self, key, value, expected):
        assert expected in problems(**{key: value})

    @pytest.mark.parametrize("text", ["False", "false", False])
    def test_what_asks_for_nothing_is_taken_without_a_word(self, text):
        values = {"model": "pvt_tiny", "dataset_download": text, "drop_rate": "0", "aug_splits": 0}
        assert recipe_warnings(load_recipe(None, values), values) == []

    def test_what_decides_nothing_is_said_in_one_line(self):
        values = {"model": "pvt_tiny", "dataset": "cifar10", "drop_remainder": "False"}
        (line,) = recipe_warnings(load_recipe(None, values), values)
        assert line.startswith("not used here: dataset (data_dir says")
        assert tells(line, "drop_remainder")


WARNINGS: dict[str, tuple[dict[str, Any], str]] = {
    "the rate stays": ({"decay_epochs": 390}, "stays at min_lr from epoch 400 on"),
    "the rate is cut": ({"decay_epochs": 500}, "does not come down to min_lr"),
    "cycles": ({"decay_epochs": 100, "num_cycles": 2}, "decay_epochs 100 × num_cycles 2 end"),
    "a first epoch of nothing": ({"lr_epoch_stair": True}, "0 in the whole first epoch"),
    "two of them": ({"scheduler": "deit_cosine"}, "0 in the whole first epoch"),
    "jitter": ({"color_jitter": 0.4}, "color_jitter does nothing beside auto_augment"),
    "loss scale": ({"amp_level": "O2", "loss_scale_type": "dynamic"}, "loss_scale is 1 and rises"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_odd_is_said(name):
    keys, expected = WARNINGS[name]
    values = {"model": "pvt_tiny", "epoch_size": 450, **keys}
    (line,) = recipe_warnings(load_recipe(None, values), values)
    assert expected in line


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"lr_epoch_stair": True, "warmup_factor": 0.01},
        {"lr_epoch_stair": True, "warmup_epochs": 0},
        {"color_jitter": 0.0},
        {"color_jitter": 0.4, "auto_augment": None},
        {"scheduler": "deit_cosine", "decay_epochs": 3, "warmup_factor": 0.001},
        {"decay_epochs": 220, "num_cycles": 2},
        {"amp_level": "O2", "loss_scale_type": "dynamic", "loss_scale": 65536},
    ],
)
def test_what_is_not_odd_is_not_said(keys):
    values = {"model": "pvt_tiny", "epoch_size": 450, **keys}
    assert recipe_warnings(load_recipe(None, values), values) == []


def test_top_k_needs_accuracies():
    message = problems(ckpt_save_policy="top_k", val_while_train=False)
    assert tells(message, "ckpt_save_policy", "'top_k'", "val_while_train")
