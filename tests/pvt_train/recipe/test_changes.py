"""A saved run's recipe: to JSON and back, what may change in it, and that the tables are whole."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvt_spec import ConfigError
from pvt_train.recipe.changes import FIXED, FREE, what_changed
from pvt_train.recipe.checks import RANGES
from pvt_train.recipe.keys import SECTIONS
from pvt_train.recipe.mindcv import OTHER_KEYS
from pvt_train.recipe.read import Recipe, load_recipe, make_recipe, to_dict
from tests.support.processes import ROOT

DEMO = ROOT / "configs/demo/pvt_nano_digits.yaml"


class TestTheTablesAreWhole:
    """Each key has its place in every table, so that a new one cannot be forgotten."""

    KEYS = tuple(field.name for field in dataclasses.fields(Recipe))

    def test_each_key_has_a_meaning(self):
        for field in dataclasses.fields(Recipe):
            meaning = field.metadata["meaning"]
            assert meaning[0].isupper() or meaning[0].isdigit() or "," in meaning
            assert meaning.endswith(".")

    def test_each_key_is_checked_or_needs_no_check(self):
        types = {field.name: field.type for field in dataclasses.fields(Recipe)}
        free = {name for name in self.KEYS if types[name] in (bool, str)}
        by_others = {
            *("model", "image_resize", "drop_path_rate", "freeze"),
            *("interpolation", "color_jitter", "auto_augment", "re_value"),
        }
        assert set(self.KEYS) - free - by_others <= set(RANGES) <= set(self.KEYS)

    def test_each_key_may_change_in_a_run_or_may_not(self):
        may = [key for keys in FREE.values() for key in keys]
        assert sorted([*may, *FIXED]) == sorted(self.KEYS)

    def test_no_key_is_mindcvs_alone_and_ours(self):
        assert not set(OTHER_KEYS) & set(self.KEYS)
        assert set(SECTIONS) <= set(self.KEYS) and next(iter(SECTIONS)) == self.KEYS[0]


class TestChanges:
    OLD = load_recipe(DEMO, {})

    def test_the_same_is_no_change(self):
        assert what_changed(self.OLD, load_recipe(DEMO, {})) == ((), ())

    def test_a_run_may_go_on_longer_and_elsewhere(self):
        new = load_recipe(DEMO, {"epoch_size": 200, "data_dir": "/data", "lr": 2e-3})
        allowed, refused = what_changed(self.OLD, new)
        assert [change.key for change in allowed] == ["data_dir", "epoch_size", "lr"]
        assert str(allowed[1]) == "epoch_size was 20, is 200"
        assert refused == ()

    def test_a_run_may_not_become_another(self):
        new = load_recipe(DEMO, {"model": "pvt_tiny", "seed": 1, "hflip": 0.5, "opt": "sgd"})
        allowed, refused = what_changed(self.OLD, new)
        assert [change.key for change in allowed] == ["hflip"]
        assert [change.key for change in refused] == ["model", "seed", "opt"]
        assert str(refused[1]) == (
            "seed was 42, is 1 (it decides which images a step has and what is drawn for it)"
        )


class TestSaved:
    @pytest.mark.parametrize("name", ["demo/pvt_nano_digits", "official/pvt_v2_b5"])
    def test_a_recipe_comes_back_from_json(self, name):
        recipe = load_recipe(DEMO.parents[1] / f"{name}.yaml", {"color_jitter": [0.1, 0.2, 0.3]})
        assert make_recipe(json.loads(json.dumps(to_dict(recipe))), "state") == recipe

    @given(st.floats(1e-7, 1), st.floats(0, 0.999), st.lists(st.integers(0, 500)))
    def test_numbers_come_back_to_the_last_bit(self, lr, smoothing, milestones):
        recipe = Recipe(
            "pvt_tiny",
            lr=lr,
            min_lr=0.0,
            label_smoothing=smoothing,
            multi_step_decay_milestones=tuple(milestones),
        )
        assert make_recipe(json.loads(json.dumps(to_dict(recipe))), "state") == recipe

    def test_a_recipe_of_another_version_is_told_of(self):
        with pytest.raises(ConfigError, match=r"^run\.ckpt: new_key is not a known key"):
            make_recipe({**to_dict(Recipe("pvt_tiny")), "new_key": 1}, "run.ckpt")
