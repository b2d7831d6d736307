"""The recipe's keys as options of a command."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from pvt_data.command_line import Commands
from pvt_train.recipe.keys import ROWS
from pvt_train.recipe.mindcv import OTHER_KEYS
from pvt_train.recipe.options import RecipeCommand, recipe_options
from pvt_train.recipe.synonyms import SYNONYMS
from tests.support.messages import tells
from tests.support.recipes import load_recipe

GIVEN: dict[str, Any] = {}


@click.group(cls=Commands)
def main() -> None:
    """Commands."""


@main.command(cls=RecipeCommand)
@click.option("--config", help="A file.")
@recipe_options
def train(config: str | None, keys: dict[str, Any]) -> None:
    """Train."""
    GIVEN.clear()
    GIVEN.update(keys)


def given(*arguments: str) -> dict[str, Any]:
    """What comes in as options that were given."""
    result = CliRunner().invoke(main, ["train", *arguments])
    assert result.exit_code == 0, result.output
    return dict(GIVEN)


def test_nothing_given_is_nothing():
    assert given() == {}


def test_every_key_is_an_option_and_so_are_mindcvs_others():
    names = {parameter.name for parameter in train.params}
    assert set(ROWS) | set(OTHER_KEYS) <= names


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--epoch-size 3", {"epoch_size": 3}),
        ("--epoch_size=3", {"epoch_size": 3}),
        ("--lr 1e-3", {"lr": 1e-3}),
        ("--distribute False", {"distribute": False}),
        ("--distribute", {"distribute": True}),
        ("--ema --clip_grad true", {"ema": True, "clip_grad": True}),
        ("--scale 0.2 1", {"scale": (0.2, 1.0)}),
        ("--multi-step-decay-milestones 3,6", {"multi_step_decay_milestones": (3, 6)}),
        ("--freeze block1.*,pos_embed*", {"freeze": ("block1.*", "pos_embed*")}),
        ("--freeze [bh]*", {"freeze": ("[bh]*",)}),
        ("--freeze [block1.*,[h]*]", {"freeze": ("block1.*", "[h]*")}),
        ("--color-jitter 0.1,0.2,0.3", {"color_jitter": (0.1, 0.2, 0.3)}),
        ("--color-jitter 0.4", {"color_jitter": 0.4}),
        ("--mode pynative", {"mode": 1}),
        ("--output runs/1", {"ckpt_save_dir": "runs/1"}),
        ("--ckpt_save_dir runs/1", {"ckpt_save_dir": "runs/1"}),
        ("--resume runs/1", {"ckpt_path": "runs/1"}),
        ("--pretrained False", {"pretrained": ""}),
        ("--dataset cifar10", {"dataset": "cifar10"}),
    ],
)
def test_an_option_is_read_as_the_file_would_be(arguments, expected):
    assert given(*arguments.split()) == expected


@pytest.mark.parametrize("word", ["null", "None", "none"])
def test_an_option_can_take_a_key_of_the_file_away(word):
    found = given("--auto-augment", word, "--decay_epochs", word)
    assert found == {"auto_augment": None, "decay_epochs": None}
    recipe = load_recipe(None, {"model": "pvt_tiny", **found})
    assert (recipe.auto_augment, recipe.decay_epochs) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--epoch-size many", "'many', expected a whole number"),
        ("--distribute maybe", "'maybe', expected True or False"),
        ("--scale 0.2 x", "'x' is not a valid float"),
        ("--pretrained True", "expected a model file or"),
        ("--epochs 3", "--epoch-size"),
        ("--num_train_epochs=3", "--epoch-size"),
        ("--output-dir x", "--output"),
        ("--resume-from x", "--resume"),
        ("--workerz 4", "--num-parallel-workers"),
        ("--epoch-sise 4", "--epoch-size"),
        ("--confi 4", "--config"),
        ("--xyzzy 4", "No such option"),
    ],
)
def test_an_option_that_cannot_be_read_is_wrong_usage(arguments, expected):
    result = CliRunner().invoke(main, ["train", *arguments.split()])
    assert result.exit_code == 2
    assert expected in result.output


def test_other_programs_names_are_of_keys_and_are_none():
    names = " ".join(SYNONYMS.values()).split()
    assert {*SYNONYMS} <= {*ROWS} and len(names) == len(set(names))
    options = {option.strip("-").replace("-", "_") for p in train.params for option in p.opts}
    assert not options & {*names}


def test_help_has_the_keys_in_their_sections_with_defaults():
    text = CliRunner().invoke(main, ["train", "--help"], terminal_width=100).output
    titles = dict.fromkeys(["Options", *(row.section for row in ROWS.values())])
    places = [text.index(f"\n{title}:\n") for title in titles]
    assert places == sorted(places)
    assert "--config" in text[: places[1]]
    assert tells(text[places[7] : places[8]], "--weight-decay", "NUMBER")
    assert "[randaug-m9-mstd0.5-inc1]" in text
    assert "--dataset " not in text
