"""A saved run's recipe: to JSON and back, what may change in it, and that the tables are whole."""

import dataclasses
import json
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from pvt_spec import ConfigError
from pvt_train.recipe.changes import Change, list_changes
from pvt_train.recipe.keys import ROWS, Recipe, at_least
from pvt_train.recipe.mindcv import OTHER_KEYS
from pvt_train.recipe.read import make_recipe, to_dict
from pvt_train.recipe.rows import Row, key, read_rows
from tests.support.messages import naming
from tests.support.processes import ROOT
from tests.support.recipes import load_recipe

DEMO = ROOT / "configs/demo/pvt_nano_digits.yaml"


class TestTable:
    def test_each_key_has_a_meaning(self):
        for row in ROWS.values():
            assert row.meaning[0].isupper() or row.meaning[0].isdigit() or "," in row.meaning
            assert row.meaning.endswith(".")

    def test_each_key_is_checked_or_needs_no_check(self):
        free = {name for name, row in ROWS.items() if row.check is None}
        by_others = {"image_resize", "drop_path_rate", "freeze", "color_jitter", "re_value"}
        assert {name for name in free if not {str, bool} & {*ROWS[name].kinds}} <= by_others

    def test_what_a_run_cannot_go_on_with_is_named(self):
        assert [name for name, row in ROWS.items() if row.on_resume] == [
            "model", "profile", "in_channels", "num_classes", "freeze", "seed", "shuffle",
            "num_samples", "image_resize", "aug_repeats", "mean", "std", "opt", "ema",
        ]  # fmt: skip

    def test_no_key_is_mindcvs_alone_and_ours(self):
        assert not set(OTHER_KEYS) & set(ROWS)
        assert all(row.section for row in ROWS.values())

    def test_a_new_key_is_one_row(self):
        @dataclasses.dataclass
        class Table:
            old: bool = key(False, "Old.", section="Both")
            new: Literal["a", "b", "c"] | None = key(None, "New.", words={"z": "a"})
            count: int = key(3, "Count.", check=at_least(1), on_resume="it counts", section="Rest")

        old, new, count = read_rows(Table).values()
        assert isinstance(old, Row) and (old.name, old.kinds) == ("old", (bool,))
        assert (new.section, count.section) == ("Both", "Rest")
        assert [new.read(word) for word in ("z", "null", None)] == ["a", None, None]
        assert (new.expected, new.metavar, new.problem("b")) == ("text or null", "TEXT", None)
        assert new.problem("d") == "new is 'd', expected one of a, b, c"
        assert count.problem(0) == "count is 0, expected at least 1"


class TestChanges:
    OLD = load_recipe(DEMO, {})

    def test_the_same_is_no_change(self):
        assert list_changes(self.OLD, load_recipe(DEMO, {})) == []

    def test_a_run_may_go_on_longer_and_elsewhere(self):
        new = load_recipe(DEMO, {"epoch_size": 200, "data_dir": "/data", "lr": 2e-3})
        changes = list_changes(self.OLD, new)
        assert [change.key for change in changes] == ["data_dir", "epoch_size", "lr"]
        assert changes[1] == Change("epoch_size", 20, 200, "")
        assert str(changes[1]) == "epoch_size was 20, is 200"

    def test_a_run_may_not_become_another(self):
        new = load_recipe(DEMO, {"model": "pvt_tiny", "seed": 1, "hflip": 0.5, "opt": "sgd"})
        changes = list_changes(self.OLD, new)
        refused = [change for change in changes if change.why_not]
        assert [change.key for change in changes] == ["model", "seed", "hflip", "opt"]
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
        with pytest.raises(ConfigError, match=naming("run.ckpt", "new_key")):
            make_recipe({**to_dict(Recipe("pvt_tiny")), "new_key": 1}, "run.ckpt")
