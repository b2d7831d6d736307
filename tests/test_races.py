"""Two commands that write one target at once, and one that is killed; many rounds are
``python -m tests.support.races`` and ``tests.support.training_races``."""

import random
from pathlib import Path

import pytest

from tests.support import training_races
from tests.support.races import kill, race


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["pair", "folder"])
def test_two_writers_neither_mix_nor_overwrite(kind: str, tmp_path: Path) -> None:
    for force in (False, True):
        (tmp_path / str(force)).mkdir()
        seen = race(tmp_path / str(force), 5, kind, force)
        assert seen == {"wrote+wrote" if force else "FileExists+wrote": 5}


def test_a_killed_writer_leaves_a_pair_that_opens(tmp_path: Path) -> None:
    seen = kill(tmp_path, 3, "pair", random.Random(0))
    assert sum(count for what, count in seen.items() if what.startswith("opens")) == 3
    assert not seen["LEFT AFTER THE NEXT"]


@pytest.mark.parametrize("kind", ["new", "resume"])
def test_of_two_trainings_into_one_folder_one_has_it(kind: str, tmp_path: Path) -> None:
    seen = training_races.race(tmp_path, 2, kind, random.Random(0))
    assert sum(seen.values()) == 2 and {*seen} <= {"TrainingError+trained", "FileExists+trained"}


def test_a_training_that_is_killed_ends_in_the_same_files(tmp_path: Path) -> None:
    assert training_races.kill(tmp_path, 2, random.Random(0))["same"] == 2
