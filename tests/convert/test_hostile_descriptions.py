"""Hostile descriptions of a model, in each carrier and of each dialect: an answer or one error."""

from pathlib import Path

import pytest

from tests.support.fuzzing import fuzz
from tests.support.fuzzing.configurations import CONFIGURATIONS, INFO

COUNT, MANY = 120, 2000

PROGRAMS = {"info": INFO, "config": CONFIGURATIONS}


@pytest.mark.sampled
@pytest.mark.parametrize("count", [COUNT, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_every_hostile_description_is_an_answer_or_one_error(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    ends = PROGRAMS[kind].run(count, 3, tmp_path / "files")
    assert ends.inputs >= count and len(ends.distinct) > count * 0.5
    assert ends.codes[0] > 0 and ends.codes[1] > count * 0.3
    assert ends.codes[0] + ends.codes[1] == ends.inputs
    assert len(ends.damage) > 5 and len(ends.messages) > 8


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_is_not_damaged_is_taken(program, tmp_path: Path) -> None:
    """So that damage reaches what is behind the first check."""
    from tests.support.fuzzing import configurations
    from tests.support.fuzzing.commands import Given
    from tests.support.fuzzing.inputs import Input

    judge = program._judge(tmp_path / "files")
    seeds = configurations._info_seeds() if program is INFO else configurations._config_seeds()
    for role, seed in seeds:
        data = role.encode() + b"\n" + seed.data
        judge.judge(Given(Input(data, seed, ()), 3 if program is INFO else 2))
    assert judge.ends.codes[0] > 0.5 * len(seeds)
