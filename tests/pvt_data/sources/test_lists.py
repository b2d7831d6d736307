"""Lists of images and their classes, and tar files that are named themselves."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pvt_data.sources.folders import open_source
from pvt_data.sources.listing import LeftOut
from pvt_data.sources.lists import read_list
from pvt_spec.errors import ImageError, PvtError
from tests.support.labelled import read_all, write_folder, write_tar
from tests.support.messages import Facts, naming, tells
from tests.support.processes import ROOT


def lines_of(path: Path, text: str) -> list[tuple[int, str, str]]:
    path.write_text(text)
    return [tuple(line) for line in read_list(path, LeftOut())]


@pytest.mark.parametrize(
    ("text", "image", "label"),
    [
        ("a.jpg 3\n", "a.jpg", "3"),
        ("  a b.jpg   cat  \n", "a b.jpg", "cat"),
        ("a.jpg\tgolden retriever\n", "a.jpg", "golden retriever"),
        ("a b.jpg\t3", "a b.jpg", "3"),
        ("a.jpg,3\n", "a.jpg", "3"),
        ("a.jpg, golden retriever\n", "a.jpg", "golden retriever"),
        ('"a, b.jpg","tench, Tinca tinca"\n', "a, b.jpg", "tench, Tinca tinca"),
        ("\ufeffval/a.JPEG 65\r\n\r\n", "val/a.JPEG", "65"),
        ("no_ending 65\n", "no_ending", "65"),
    ],
)
def test_a_line_is_an_image_and_its_class(text: str, image: str, label: str, tmp_path) -> None:
    assert lines_of(tmp_path / "val.txt", text) == [(1, image, label)]


def test_one_sign_is_between_on_all_lines(tmp_path: Path) -> None:
    """A comma in one of several lines is a part of a name."""
    text = "a,b.jpg 1\n\nc.jpg 2\n"
    assert lines_of(tmp_path / "val.txt", text) == [(1, "a,b.jpg", "1"), (3, "c.jpg", "2")]


def test_a_header_and_what_is_said_twice_are_left_out_and_told(tmp_path: Path) -> None:
    path, left_out = tmp_path / "val.csv", LeftOut()
    path.write_text("image,label\na.jpg,cat\n./a.jpg,cat\nb.jpg,dog\n")
    lines = read_list(path, left_out)
    assert [line.image for line in lines] == ["a.jpg", "b.jpg"]
    assert tells(left_out, "header 1", "image label", "listed twice 1", "line 3")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ("empty",)),
        ("\n \n", ("empty",)),
        ("a.jpg\nb.jpg 1\nc.jpg\n", ("2 of its 3 lines", "line 1", "a.jpg", "line 3")),
        ("a.jpg,1,2\nb.jpg,1\n", ("1 of its 2 lines", "line 1")),
        ("a.jpg,\n", ("line 1",)),
        ("a.jpg 1\nb.jpg 1\n./a.jpg 2\n", ("a.jpg", "line 1", "'1'", "line 3", "'2'")),
    ],
)
def test_lists_of_another_form_are_refused(text: str, facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(PvtError, match=naming(str(tmp_path / "val.txt"), *facts)):
        open_source(tmp_path / "val.txt")


@given(st.text(st.sampled_from('a.jpg1 ,\t\n"\0\r\\/é\u2028'), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_list_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "val.txt"
    path.write_text(text)
    try:
        source = open_source(path)
    except PvtError as error:
        assert str(path) in str(error)
        return
    assert len(source) >= 1 and len({source.name(i) for i in range(len(source))}) == len(source)
    for number in range(len(source)):
        with pytest.raises(ImageError):
            source.read(number)


@pytest.mark.parametrize(("name", "facts"), [("a.jpg", ("image",)), ("list", ("UTF-8", "tar"))])
def test_what_is_no_text_is_refused(name: str, facts: Facts, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(PvtError, match=naming(str(tmp_path / name), *facts)):
        open_source(tmp_path / name)


def test_paths_are_relative_to_the_list_and_classes_are_names_or_numbers(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", [("x/1.jpg", b"1"), ("2.jpg", b"2")])
    (tmp_path / "in" / "val.txt").write_text(f"x/1.jpg dog\n{tmp_path}/in/2.jpg cat\n")
    source = open_source(str(tmp_path / "in" / "val.txt"))
    assert source.classes == ("cat", "dog") and not source.numbered
    assert read_all(source) == [("dog", b"1"), ("cat", b"2")]
    assert source.name(0) == str(tmp_path / "in" / "x/1.jpg")
    (tmp_path / "in" / "val.txt").write_text("x/1.jpg 2\n2.jpg 0\n")
    source = open_source(tmp_path / "in" / "val.txt")
    assert source.classes == ("0", "1", "2") and source.numbered
    assert source.labels.tolist() == [2, 0]


class TestTar:
    def test_folders_within_are_its_classes(self, tmp_path: Path) -> None:
        members = [("val/cat/1.jpg", b"1"), ("./dog/2.jpg", b"2"), ("val/cat/readme", b"")]
        source = open_source(write_tar(tmp_path / "val.tar", members))
        assert read_all(source) == [("cat", b"1"), ("dog", b"2")]
        assert source.name(1) == f"{tmp_path}/val.tar/./dog/2.jpg"

    def test_one_without_folders_is_a_class(self, tmp_path: Path) -> None:
        source = open_source(write_tar(tmp_path / "n01.tar", [("./a.jpg", b"a"), ("b.jpg", b"b")]))
        assert read_all(source) == [("n01", b"a"), ("n01", b"b")]

    def test_a_shard_says_its_classes(self, tmp_path: Path) -> None:
        members = [("x/a.jpg", b"a"), ("x/a.cls", b"3")]
        source = open_source(write_tar(tmp_path / "0.tar", members))
        assert source.labels.tolist() == [3] and source.numbered

    def test_images_in_folders_and_in_none_are_refused(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "val.tar", [("cat/1.jpg", b"1"), ("2.jpg", b"2")])
        with pytest.raises(PvtError, match=naming(f"{path}/2.jpg")):
            open_source(path)

    def test_a_compressed_one_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "val.tar.gz").write_bytes(b"\x1f\x8b\x08")
        with pytest.raises(PvtError, match=naming("val.tar.gz", "uncompressed")):
            open_source(tmp_path / "val.tar.gz")


@pytest.mark.long
def test_memory_is_in_proportion_to_a_list_that_says_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("val/3/0153.png 3\n" * 200_000)
    tracemalloc.start()
    try:
        (line,) = read_list(path, LeftOut())
        assert tracemalloc.get_traced_memory()[1] < 10 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert tuple(line) == (1, "val/3/0153.png", "3")


@pytest.mark.parametrize("line", ["a\n", "a,\n", "a 1\na 2\n"], ids=["wrong", "column", "two"])
def test_memory_is_in_proportion_to_a_list_of_wrong_lines(tmp_path: Path, line: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1.png 1\n" + line * 50_000)
    tracemalloc.start()
    try:
        with pytest.raises(PvtError, match=r"of another form|two classes"):
            read_list(path, LeftOut())
        assert tracemalloc.get_traced_memory()[1] < 10 * path.stat().st_size + 2_000_000
    finally:
        tracemalloc.stop()


def test_names_need_not_be_as_this_systems_are(tmp_path):
    """They are UTF-8 in a list, whatever a terminal has."""
    (tmp_path / "a.txt").write_text("ä.jpg cat\n日本.jpg dog\n", "utf-8")
    told = "from pvt_data.sources.folders import open_source as o; print(ascii(o('a.txt').name(1)))"
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **plain},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ascii("./日本.jpg")
