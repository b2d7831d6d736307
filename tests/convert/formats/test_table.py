"""The rows of the table of formats, and what derives from them."""

from itertools import permutations
from pathlib import Path

import pytest

from convert import ConvertError, save_model
from convert.command_line import main
from convert.formats.table import (
    FOLDER,
    FORMATS,
    START,
    SUFFIXES,
    Format,
    find_format,
    find_source,
    read_file,
    recognise,
)
from convert.model.read import read_model
from convert.names.dialects import DIALECTS, NAMES
from tests.support.models import SMALL, info_of, random_weights

FILES = [row for row in FORMATS if row is not FOLDER]
DOCUMENT = Path(__file__).parents[3] / "docs/reference/formats.md"


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
            assert recognise(stream.read(START)) is row


ENDINGS = (*SUFFIXES, ".tar", ".pkl", ".CKPT", "")


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.name)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_read_for_what_is_in_it(row: Format, ending: str, tmp_path: Path) -> None:
    save_small(tmp_path / f"model{row.suffixes[0]}")
    moved = (tmp_path / f"model{row.suffixes[0]}").rename(tmp_path / f"moved.v2{ending}")
    assert find_source(moved) is row
    model = read_model(moved)
    (said,) = (finding for finding in model.findings if finding.what == "format")
    assert said.value == row.name
    assert bool(said.note) == (ending.lower() not in row.suffixes)
    assert {*model.weights} == {*random_weights(SMALL["v1"])}


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.name)
def test_a_damaged_file_under_another_ending_says_how_it_was_read(
    row: Format, tmp_path: Path
) -> None:
    (path,) = save_small(tmp_path / f"model{row.suffixes[0]}")[:1]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ConvertError) as caught:
        read_file(path.rename(tmp_path / "moved.other"))
    assert f".{row.name}" in str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_model_is_named_by_every_command(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    for act in (read_file, find_source, read_model):
        with pytest.raises(ConvertError, match="Git LFS pointer"):
            act(path)
    path.write_bytes(b"\0" * 100)
    expected = "byte|file|format" if ending.lower() in SUFFIXES else "cannot tell its format"
    with pytest.raises(ConvertError, match=expected):
        read_file(path)


def test_commands_and_the_document_have_every_row() -> None:
    pairs = {f"{a.name}-to-{b.name}" for a, b in permutations(FILES, 2)}
    assert set(main.commands) == {*pairs, "any-to-any", "hub", "inspect"}
    text = DOCUMENT.read_text()
    assert all(f"`{suffix}`" in text for suffix in SUFFIXES)
    assert all(f"`{dialect.name}`" in text for dialect in DIALECTS)
