"""Files that grow, and what others have left or put where ours would be."""

import os
from pathlib import Path

import pytest

from pvt_spec import FileExists
from pvt_spec.errors import ConvertError
from pvt_spec.files import growing as module, temporary
from pvt_spec.files.growing import growing, part_of
from pvt_spec.files.replacing import replacing
from pvt_spec.files.temporary import new_folder
from tests.support.messages import naming, tells


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_grows_is_written_by_one_until_it_is_in_its_place(tmp_path, monkeypatch):
    """Who came between its last byte and its place wrote over it, in its place then."""
    target, put, refused = tmp_path / "a.csv", module.put_in_place, []

    def interrupted(*given):
        with pytest.raises(FileExists) as caught, growing(target, force=True, resume=False):
            pass
        refused.append(str(caught.value))
        put(*given)

    monkeypatch.setattr(module, "put_in_place", interrupted)
    with growing(target, force=False, resume=False) as stream:
        stream.write(b"first")
    assert tells(*refused, "another process") and target.read_bytes() == b"first"
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_was_taken_away_meanwhile_is_not_said_to_be_there(folder, tmp_path):
    (tmp_path / "o").mkdir()
    target = tmp_path / "o/a.csv"
    advice = "make the folder first" if folder else "write it again"
    refused = pytest.raises(ConvertError, match=naming(target, advice, "nothing of it is left"))
    with refused, growing(target, force=False, resume=False) as stream:
        stream.write(b"first")
        (tmp_path / "o/a.csv.part").unlink()
        if folder:
            (tmp_path / "o").rmdir()


def test_a_part_that_has_come_to_its_place_since_it_was_opened_is_not_written(
    tmp_path, monkeypatch
):
    target, take = tmp_path / "a.csv", module.take
    part_of(target).write_bytes(b"first")

    def late(descriptor):
        if not target.exists():
            part_of(target).replace(target)
        return take(descriptor)

    monkeypatch.setattr(module, "take", late)
    with growing(target, force=True, resume=False) as stream:
        stream.write(b"se")
        stream.flush()
        assert target.read_bytes() == b"first"
    assert target.read_bytes() == b"se"


@pytest.mark.parametrize("resume", [False, True])
def test_who_was_killed_with_both_names_has_the_target_as_it_is(tmp_path, resume):
    target = tmp_path / "a.csv"
    target.write_bytes(b"whole")
    part_of(target).hardlink_to(target)
    with growing(target, force=not resume, resume=resume) as stream:
        assert stream.read() == (b"whole" if resume else b"")
        stream.write(b"more")
        stream.flush()
        assert target.read_bytes() == b"whole"
    assert target.read_bytes() == (b"wholemore" if resume else b"more")


def test_what_has_a_temporary_name_and_is_none_of_ours_is_not_touched(tmp_path):
    """Opening a pipe waited for ever, and files that a link leads to were moved here."""
    theirs, folder = tmp_path / "theirs", tmp_path / "here"
    for path in (theirs, folder / ".pvt-0123456789abcdef.tmp"):
        path.mkdir(parents=True)
    (theirs / "mine").write_text("mine")
    (folder / ".pvt-0123456789abcdef.tmp" / "old").symlink_to(theirs)
    os.mkfifo(folder / ".pvt-0123456789abcde0.tmp")
    with replacing(folder / "a", force=False):
        pass
    assert names(theirs) == ["mine"] and "mine" not in names(folder)


def test_a_folder_that_is_taken_for_one_that_was_left_is_made_again(tmp_path, monkeypatch):
    """Its name was there without its lock for a moment."""
    answers = [False, True]
    monkeypatch.setattr(temporary, "try_lock", lambda _: answers.pop(0))
    with new_folder(tmp_path / "a") as folder:
        assert folder.is_dir() and not answers
