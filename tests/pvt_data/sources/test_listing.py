"""Which files of a folder are images, and what is said of the others."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from pvt_data.sources.folders import open_source
from pvt_data.sources.listing import LeftOut, is_hidden, list_images, list_labelled
from pvt_spec import ImageError
from tests.support.messages import naming, tells


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two images, with what systems and notebooks leave beside them."""
    for name in ("a", "b", "a/.ipynb_checkpoints", "a/@eaDir", "__MACOSX/a", ".thumbs"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "a" / "._0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    Image.new("L", (8, 8)).save(tmp_path / "b" / "moving.gif")
    (tmp_path / "b" / "photo.jfif").write_bytes(b"x")
    (tmp_path / "b" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "readme.txt").write_text("what it is")
    return tmp_path


def relative(paths: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


IMAGES = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def test_hidden_and_system_folders_hold_no_images(folder: Path) -> None:
    left_out = LeftOut()
    assert relative(list_images([folder], left_out), folder) == IMAGES
    said = str(left_out)
    assert tells(said, "hidden", "broken links", "gone.png", "not ending as images do")
    assert ".ipynb_checkpoints" in said or "__MACOSX" in said
    # Each folder counts once, whatever is in it.
    assert tells(said, "hidden 6", "broken links 1", "not ending as images do 3")


def test_classes_are_folders_that_are_shown(folder: Path) -> None:
    left_out = LeftOut()
    samples, classes = list_labelled(folder, left_out)
    assert classes == ["a", "b"]
    assert relative([path for path, _ in samples], folder) == IMAGES
    assert tells(
        str(left_out), "hidden 6", "not ending as images do 2", "beside the classes 1", "readme.txt"
    )
    assert tells(str(open_source(folder).left_out), "hidden 6")


def test_nothing_left_out_is_nothing_to_say(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    left_out = LeftOut()
    list_images([tmp_path], left_out)
    assert not left_out


def test_a_hidden_folder_that_is_named_is_searched(folder: Path) -> None:
    assert len(list_images([folder / ".thumbs"])) == 2
    assert list_images([folder / "a" / "._0.png"]) == [folder / "a" / "._0.png"]


def test_a_class_of_hidden_images_alone_holds_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "a" / "._0.png")
    with pytest.raises(ImageError, match=naming("image")):
        list_labelled(tmp_path)


@pytest.mark.parametrize("name", [".a", "__MACOSX", "@eaDir", "THUMBS.DB", "desktop.ini"])
def test_names_that_systems_leave(name: str) -> None:
    assert is_hidden(name)
    assert not is_hidden(f"x{name}")


def test_hidden_members_of_tar_files_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "n01.tar", "w") as tar:
        stream = io.BytesIO()
        Image.new("L", (8, 8)).save(stream, "PNG")
        for name in ("./x.png", "x/y.png", "x/._y.png", "__MACOSX/x.png", ".thumbs/x.png"):
            info = tarfile.TarInfo(name)
            info.size = len(stream.getvalue())
            tar.addfile(info, io.BytesIO(stream.getvalue()))
    source = open_source(tmp_path)
    assert [source.name(i).split(".tar/")[1] for i in range(len(source))] == ["./x.png", "x/y.png"]
    assert tells(str(source.left_out), "hidden 3", "__MACOSX/x.png")
