"""Labelled images from folders and tar files, which Python's tarfile wrote."""

import os
import pickle
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pvt_data.sources import tars
from pvt_data.sources.folders import ClassFolders, count_sideways, open_source
from pvt_data.sources.source import Texts
from pvt_data.sources.tars import TarFiles
from pvt_spec import ImageError
from tests.support.labelled import read_all, write_folder, write_tar
from tests.support.messages import Facts, naming, tells

ITEMS = [("cat/1.jpg", b"one"), ("cat/2.JPEG", b"22"), ("dog/1.png", b""), ("dog/x.y.jpg", b"4444")]


def test_a_folder_gives_its_images_in_order(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path, [*ITEMS, ("cat/notes.txt", b"no")]))
    assert source.classes == ("cat", "dog")
    assert read_all(source) == [("cat", b"one"), ("cat", b"22"), ("dog", b""), ("dog", b"4444")]
    assert source.name(3) == str(tmp_path / "dog" / "x.y.jpg")


def test_shards_with_the_names_of_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "1.tar", [("b.jpg", b"bee"), ("b.cls", b"dog\n"), ("b.json", b"{}")])
    write_tar(
        tmp_path / "0.tar",
        [("a.cls", b"cat"), ("a.png", b"aye"), ("c.jpg", b"c"), ("c.cls", b"ant")],
    )
    source = open_source(tmp_path)
    assert source.classes == ("ant", "cat", "dog")
    assert read_all(source) == [("cat", b"aye"), ("ant", b"c"), ("dog", b"bee")]
    assert source.name(2) == f"{tmp_path}/1.tar/b.jpg"


def test_shards_with_the_numbers_of_classes(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar", [("a.jpg", b"a"), ("a.cls", b"10"), ("b.jpg", b"b"), ("b.cls", b"2")]
    )
    source = open_source(tmp_path)
    assert source.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
    assert source.labels.tolist() == [10, 2]


def test_a_number_that_cannot_count_classes_is_a_name(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("a.jpg", b"a"), ("a.cls", b"100000"), ("b.jpg", b"b"), ("b.cls", b"2")],
    )
    assert open_source(tmp_path).classes == ("100000", "2")


def test_a_sample_is_named_up_to_the_first_dot_after_the_last_slash(tmp_path: Path) -> None:
    members = [
        ("d.1/a.left.jpg", b"l"),
        ("d.1/a.cls", b"x"),
        ("d.2/a.jpg", b"r"),
        ("d.2/a.cls", b"y"),
    ]
    write_tar(tmp_path / "0.tar", members)
    assert read_all(open_source(tmp_path)) == [("x", b"l"), ("y", b"r")]


def test_the_same_key_in_two_shards_is_two_samples(tmp_path: Path) -> None:
    for number, label in enumerate((b"x", b"y")):
        write_tar(tmp_path / f"{number}.tar", [("a.jpg", label * 2), ("a.cls", label)])
    assert read_all(open_source(tmp_path)) == [("x", b"xx"), ("y", b"yy")]


def test_tar_files_of_one_class_each(tmp_path: Path) -> None:
    write_tar(tmp_path / "n02.tar", [("n02_1.JPEG", b"2-1"), ("n02_9.JPEG", b"2-9")])
    write_tar(tmp_path / "n01.tar", [("n01_5.JPEG", b"1-5")])
    source = open_source(tmp_path)
    assert source.classes == ("n01", "n02")
    assert read_all(source) == [("n01", b"1-5"), ("n02", b"2-1"), ("n02", b"2-9")]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_and_long_names(form: int, tmp_path: Path) -> None:
    name = f"{'f' * 90}/{'ü' * 40 if form != tarfile.USTAR_FORMAT else 'u' * 90}.jpg"
    write_tar(tmp_path / "n01.tar", [(name, bytes(range(256)) * 9), ("b.jpg", b"b")], format=form)
    source = open_source(tmp_path)
    assert read_all(source) == [("n01", bytes(range(256)) * 9), ("n01", b"b")]
    assert source.name(0) == f"{tmp_path}/n01.tar/{name}"


def test_a_header_of_digits_is_refused_at_once(tmp_path: Path) -> None:
    path, size = tmp_path / "n01.tar", 1_000_000
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, size
    digits = b"1" * size + bytes(-size % tarfile.BLOCKSIZE)
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + digits + bytes(2 * tarfile.BLOCKSIZE))
    before = time.process_time()
    with pytest.raises(ImageError, match=naming(str(path), "header", "digits")):
        open_source(tmp_path)
    assert time.process_time() - before < 5


def test_only_regular_files_that_are_not_hidden_count(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "n01.tar", [("a.jpg", b"a"), ("._a.jpg", b"x"), ("b.txt", b"x")])
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"d/{kind.decode()}.jpg")
            info.type, info.linkname = kind, "a.jpg"
            tar.addfile(info)
    (tmp_path / ".n02.tar").write_bytes(b"half a download")
    source = open_source(tmp_path)
    assert read_all(source) == [("n01", b"a"), ("n01", b"a")]  # a hard link is one more
    names = ", ".join(
        f"{path}/d/{kind.decode()}.jpg" for kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE)
    )
    assert f"links, sparse files and devices 2 ({names})" in str(source.left_out)


def test_many_tar_files_are_never_open_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "OPEN_FILES", 3)
    for number in range(8):
        write_tar(tmp_path / f"n{number}.tar", [("a.jpg", bytes([number]))])
    before = len(os.listdir("/proc/self/fd"))
    source = open_source(tmp_path)
    for index in [0, 1, 2, 0, 7, 6, 0, 5, 4, 3, *range(8)]:
        assert source.read(index) == bytes([index])
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    del source
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", ["folder", "tars"])
def test_a_source_can_be_sent_to_another_process(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        source = open_source(write_folder(tmp_path, ITEMS))
    else:
        write_tar(tmp_path / "n01.tar", [("a.jpg", b"a"), ("b.jpg", b"bb")])
        source = open_source(tmp_path)
    expected = read_all(source)
    sent = pickle.loads(pickle.dumps(source))
    assert read_all(sent) == expected
    assert [sent.name(i) for i in range(len(sent))] == [source.name(i) for i in range(len(source))]


def test_names_may_be_any_text_and_none(tmp_path: Path) -> None:
    texts = ["a", "", "ü/ß", os.fsdecode(b"\xff\xfe"), "z" * 1000]
    names = Texts(texts)
    assert [names[index] for index in range(len(texts))] == texts


# --- what cannot be used


def refused(folder: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_source(folder)
    assert str(caught.value).startswith(str(folder))
    return str(caught.value)


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    assert tells(refused(tmp_path / "missing"), "such")
    assert tells(refused(tmp_path), "folders")


def test_tar_files_beside_folders_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, ITEMS)
    write_tar(tmp_path / "cat.tar", [("a.jpg", b"a")])
    assert tells(refused(tmp_path), "cat.tar")


@pytest.mark.parametrize(
    ("tars", "facts"),
    [
        ({"0": [("a.jpg", b"a"), ("a.cls", b"x"), ("b.jpg", b"b")]}, ("b.jpg", "b.cls")),
        (
            {"0": [("a.jpg", b"a"), ("a.cls", b"x")], "n01": [("b.jpg", b"b")]},
            ("n01.tar/b.jpg", "b.cls"),
        ),
        ({"0": [("a.jpg", b"a"), ("a.cls", b" \n")]}, ("a.cls",)),
        ({"n01": [("n01_1.tar", b"a")]}, ("n01.tar", "archives", "n01_1.tar")),
        ({"n01": [("a.jpg", b"a"), ("a.jpg", b"b")]}, ("a.jpg", "twice")),
        (
            {"0": [("a.0.jpg", b"a"), ("a.0.cls", b"x"), ("a.1.jpg", b"b"), ("a.1.cls", b"y")]},
            ("a.0.cls", "a.1.cls", "first dot"),
        ),
        (
            {"0": [("a.in.jpg", b"a"), ("a.mask.png", b"b"), ("a.cls", b"x")]},
            ("a.in.jpg", "a.mask.png", "image"),
        ),
        ({"0": [("a.jpg", b"a"), ("a.png", b"b"), ("a.cls", b"x")]}, ("a.jpg", "a.png")),
    ],
    ids=[
        "no class",
        "a class tar among shards",
        "empty class",
        "no images",
        "a file twice",
        "two classes of a sample",
        "two images of a sample",
        "two of its name",
    ],
)
def test_tar_files_that_cannot_be_used_are_refused(tars: Any, facts: Facts, tmp_path: Path) -> None:
    for name, members in tars.items():
        write_tar(tmp_path / f"{name}.tar", members)
    assert tells(refused(tmp_path), *facts)


def test_the_image_of_a_sample_is_that_of_its_name(tmp_path: Path) -> None:
    """A mask beside it was one more image of the class."""
    members = [("a.jpg", b"a"), ("a.seg.png", b"m"), ("a.cls", b"x"), ("b.in.jpg", b"b")]
    write_tar(tmp_path / "0.tar", [*members, ("b.cls", b"y")])
    source = open_source(tmp_path)
    assert read_all(source) == [("x", b"a"), ("y", b"b")]
    assert tells(str(source.left_out), "further images of a sample 1", "a.seg.png")


@pytest.mark.parametrize("blocking", [20, 1, 200])
def test_tar_files_that_were_joined_are_refused(blocking: int, tmp_path: Path) -> None:
    """All but the first were left out without a word, as tar leaves them; zeros are no other."""
    (tmp_path / "tars").mkdir()
    path = write_tar(tmp_path / "tars/n01.tar", [("a.jpg", b"a")])
    end = 1024 + 1024  # a header, its file, two blocks of zeros
    first = path.read_bytes()[:end].ljust(-(-end // (512 * blocking)) * 512 * blocking, b"\0")
    path.write_bytes(first)
    assert read_all(open_source(path.parent)) == [("n01", b"a")]
    other = write_tar(tmp_path / "other.tar", [("b.jpg", b"b")])
    path.write_bytes(first + other.read_bytes())
    assert tells(refused(path.parent), "n01.tar", "another tar file")


def test_compressed_tar_files_of_classes_are_named(tmp_path: Path) -> None:
    (tmp_path / "n01.tar.gz").write_bytes(b"\x1f\x8b")
    assert tells(refused(tmp_path), "not compressed", "n01.tar.gz")


def damaged(content: bytes) -> dict[str, bytes]:
    """A tar file of three members of 600 bytes, which take 512 + 1024 each, damaged."""
    return {
        "empty": b"",
        "no tar": b"\xff\xd8" * 600,
        "cut in a header": content[: 1536 + 100],
        "cut in a file": content[: 1536 + 700],
        "cut behind a file": content[: 2 * 1536],
        "header overwritten": content[:1536] + b"\x55" * 512 + content[2048:],
        "header of random bytes": content[:1600] + bytes(range(200)) + content[1800:],
    }


@pytest.mark.parametrize("how", damaged(b""))
def test_a_damaged_tar_file_is_refused(how: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "n01.tar", [(f"{i}.jpg", bytes(600)) for i in range(3)])
    path.write_bytes(damaged(path.read_bytes())[how])
    assert tells(refused(tmp_path), "n01.tar")


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_compressed_tar_file_is_refused(kind: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "n01.tar", f"w:{kind}") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    assert tells(refused(tmp_path), "uncompressed")


def test_a_file_that_has_gone_is_named(tmp_path: Path) -> None:
    source = ClassFolders(write_folder(tmp_path, ITEMS))
    (tmp_path / "cat" / "1.jpg").unlink()
    with pytest.raises(ImageError, match=naming("cat/1.jpg")):
        source.read(0)


def test_a_tar_file_that_has_gone_or_shrunk_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "n01.tar", [("a.jpg", bytes(600))])
    source = TarFiles([path])
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(ImageError, match=naming("n01.tar/a.jpg", "288", "600")):
        source.read(0)
    again = pickle.loads(pickle.dumps(source))
    path.unlink()
    with pytest.raises(ImageError, match=naming("n01.tar/a.jpg")):
        again.read(0)


def test_photos_that_are_to_be_turned_are_counted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    (tmp_path / "a").mkdir()
    for index in range(10):
        kept = {"exif": exif} if index % 2 else {}
        ending = "png" if index % 4 == 1 else "jpg"
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"{index}.{ending}", **kept)
    (tmp_path / "a" / "broken.jpg").write_bytes(b"")
    source = open_source(tmp_path)
    assert count_sideways(source, 1000) == (5, 11)
    assert count_sideways(source, 1)[1] == 1
