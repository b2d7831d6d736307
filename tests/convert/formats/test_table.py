"""The rows of the table of formats, and what derives from them."""

from itertools import permutations
from pathlib import Path

import pytest

from convert import ConvertError, save_model
from convert.command_line import main
from convert.formats.table import (
    FOLDER,
    FORMATS,
    SUFFIXES,
    Format,
    find_format,
    read_file,
    recognise,
)
from convert.names.dialects import DIALECTS, NAMES
from tests.support.models import SMALL, info_of, random_weights

FILES = [row for row in FORMATS if row is not FOLDER]
README = Path(__file__).parents[3] / "README.md"


def save_small(path: Path) -> list[Path]:
    return save_model(path, random_weights(SMALL["v1"]), info_of(SMALL["v1"], "hf"))


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_format_reads_what_it_writes(row: Format, tmp_path: Path) -> None:
    path = tmp_path / f"model{'.'.join(row.suffixes[:1])}"
    assert find_format(path) is row
    written = save_small(path)
    assert row.read(path).tensors
    assert {row.dialect} <= set(NAMES)
    if row is not FOLDER:
        with written[0].open("rb") as stream:
            assert recognise(stream.read(9)) is row


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.name)
@pytest.mark.parametrize("other", FILES, ids=lambda row: row.name)
def test_a_file_under_another_ending_is_told_its_own(
    row: Format, other: Format, tmp_path: Path
) -> None:
    path = tmp_path / f"model{row.suffixes[0]}"
    save_small(path)
    moved = path.rename(tmp_path / f"moved{other.suffixes[0]}")
    if row is other:
        assert other.read(moved).tensors
        return
    with pytest.raises(ConvertError, match=rf"It looks like \.{row.name}: give it that ending"):
        read_file(moved)


def test_commands_and_the_readme_have_every_row() -> None:
    pairs = {f"{a.name}-to-{b.name}" for a, b in permutations(FILES, 2)}
    assert set(main.commands) == {*pairs, "any-to-any", "inspect"}
    text = README.read_text()
    assert all(f"`{suffix}`" in text for suffix in SUFFIXES)
    named = {"hf": "Hugging Face", "mindcv": "MindCV", "pvt_ms": "own twins"}
    assert all(named.get(dialect.name, dialect.name) in text for dialect in DIALECTS)
