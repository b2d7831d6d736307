"""Images, folders and tar files that are none: one clear error each, and never a wait."""

import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert import save_model
from convert.command_line import main as convert
from parity.command_line import main as parity
from pvt_data.images.preprocessing import load_image
from pvt_data.sources.folders import open_source
from pvt_data.sources.listing import LeftOut, list_images, list_labelled
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import ImageError, Preprocessing, make_config
from pvt_spec.files.limits import MAX_CLASS_NAME, MAX_IMAGE_BYTES
from pvt_spec.files.reading import open_regular
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import info_of, random_weights

SECONDS = 20


@pytest.fixture(autouse=True)
def _in_time():
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    config = make_config("pvt_nano", num_classes=2)
    save_model(path, random_weights(config), info_of(config, "official", "ant", "bee"))
    return path


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have some hundred letters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


def link_to_itself(path):
    path.symlink_to(path.name)


MADE = [make_pipe, make_socket, link_to_a_device, link_to_itself, Path.mkdir]


@pytest.mark.parametrize("make", MADE)
def test_what_is_no_file_is_refused_where_one_is_named(model, tmp_path, make):
    (tmp_path / "val").mkdir()
    for name in ("a.png", "val/n01.tar", "names.txt"):
        make(tmp_path / name)
    for command in (
        (pvt_onnx, "predict", model, tmp_path / "a.png"),
        (pvt_onnx, "validate", model, "--data-dir", tmp_path / "val"),
        (convert, model, tmp_path / "x.onnx", "--labels", tmp_path / "names.txt"),
        (parity, "run", model, "--runtime", "onnxruntime", "--images", tmp_path / "a.png"),
    ):
        message = refusal(*command)
        assert any(name in message for name in ("a.png", "val", "names.txt")), message
    with pytest.raises(OSError):
        open_regular(tmp_path / "a.png")


def test_what_is_no_file_is_left_out_of_folders(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "a" / "good.png")
    make_pipe(tmp_path / "a" / "pipe.png")
    make_socket(tmp_path / "a" / "socket.png")
    link_to_itself(tmp_path / "a" / "self.png")
    (tmp_path / "a" / "up").symlink_to("..")
    for list_them, source in ((list_images, [tmp_path]), (list_labelled, tmp_path)):
        list_them(source, left_out := LeftOut())
        assert tells(left_out, "pipes, sockets and devices 2", "broken links 1")
        assert tells(left_out, "links to folders 1")
    assert len(open_source(tmp_path)) == 1


def test_a_folder_of_links_to_folders_alone_is_told_to_be_one(tmp_path):
    """predict said that it holds no image, and which endings those have."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a").symlink_to(tmp_path)
    with pytest.raises(ImageError, match=naming("no image", "links to folders 1")):
        list_images([tmp_path / "links"])


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".png", "x/" * 3000, "\0", "a\0.png"])
def test_names_that_no_file_has_are_refused(model, tmp_path, name):
    given = tmp_path / name
    assert len(refusal(pvt_onnx, "predict", model, given)) < 1500
    if "\0" not in name:  # which no system passes on
        assert len(refusal(pvt_onnx, "validate", model, "--data-dir", given)) < 1500
    for call in (
        lambda: list_images([given]),
        lambda: open_source(given),
        lambda: load_image(given, Preprocessing()),
    ):
        with pytest.raises(ImageError):
            call()


@pytest.mark.parametrize("where", ["val", "val/ant", "val/ant/deep"])
def test_folders_that_may_not_be_searched_are_named(model, tmp_path, monkeypatch, where):
    """Not taken for empty ones; of images, the others are answered."""
    (tmp_path / "val" / "ant" / "deep").mkdir(parents=True)
    for folder in ("ant", "ant/deep"):
        Image.new("L", (8, 8)).save(tmp_path / "val" / folder / "a.png")
    closed, scandir, image = str(tmp_path / where), os.scandir, tmp_path / "b.png"
    Image.new("L", (8, 8)).save(image)

    def scan(path="."):
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    # The tests may be run by somebody who may search everything.
    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(os, "listdir", lambda path: [entry.name for entry in scan(path)])
    said = refusal(pvt_onnx, "validate", model, "--data-dir", tmp_path / "val")
    assert tells(said, closed, "denied")
    done = invoke(pvt_onnx, "predict", model, tmp_path / "val", image)
    assert done.exit_code == 1 and tells(done.stderr, closed)
    assert str(image) in done.stdout


@pytest.mark.parametrize("size", ["9" * 9, "9" * 5000, "100000x32", "32x100000", "0", "-1", "1e9"])
def test_absurd_image_sizes_are_refused(model, tmp_path, size):
    given = [f"--image-size={size}"]
    for command in (
        (convert, model, tmp_path / "x.onnx", *given),
        (parity, "run", model, "--runtime", "onnxruntime", "--random", "1", *given),
    ):
        assert len(refusal(*command)) < 1000
    assert not (tmp_path / "x.onnx").exists()


def test_patterns_do_not_reach_what_systems_leave(tmp_path):
    for name in ("a", "__MACOSX", "a/@eaDir", ".hidden", "a/.ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "0.png")
    (tmp_path / "a" / "._0.png").write_bytes(b"x")
    for pattern in ("**/*.png", "*/0.png", "**/0.*"):
        assert list_images([f"{tmp_path}/{pattern}"]) == [tmp_path / "a" / "0.png"]
    # What is named in full is meant.
    assert len(list_images([f"{tmp_path}/__MACOSX/*.png"])) == 1


# Tar files


def add(tar: tarfile.TarFile, name: str, data: bytes, **facts) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def test_headers_that_lead_back_do_not_run_for_ever(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "0.png", png())
        add(tar, "1.png", png())
    data = bytearray((tmp_path / "a.tar").read_bytes())
    at = data.index(b"1.png")
    data[at + 124 : at + 136] = b"\xff" + (256**11 - 1024).to_bytes(11, "big")
    total = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + 512])
    data[at + 148 : at + 156] = b"%06o\0 " % total
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ImageError, match=naming("a.tar")):
        open_source(tmp_path)


def test_headers_within_headers_are_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 512
    (tmp_path / "a.tar").write_bytes((header.tobuf() + b"x".ljust(512, b"\0")) * 5000 + bytes(1024))
    with pytest.raises(ImageError, match=naming("a.tar")):
        open_source(tmp_path)


def records(count: int) -> bytes:
    """So many of a pax header, each of fifteen bytes."""
    return b"".join(b"15 key%06d=a\n" % number for number in range(count))


def pax(kind: bytes, data: bytes) -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"


@pytest.mark.parametrize(
    ("start", "fine"),
    [
        (pax(tarfile.XGLTYPE, records(100)), True),
        (pax(tarfile.XGLTYPE, records(101)), False),
        (pax(tarfile.XHDTYPE, records(1000)), True),
        (pax(tarfile.XHDTYPE, records(70_000)), False),
        (
            pax(tarfile.XHDTYPE, SPARSE) + pax(tarfile.REGTYPE, b"400000\n" + b"0\n" * 800_000),
            False,
        ),
    ],
)
def test_what_a_tar_file_says_beside_its_members_is_bounded(tmp_path, start, fine):
    """All that is said of all members is gone through for each; a number becomes an object."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "0.png", png())
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(start + data)
    with nullcontext() if fine else pytest.raises(ImageError, match=naming("a.tar")):
        open_source(tmp_path)


def test_a_class_of_many_bytes_is_no_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "0.png", png())
        add(tar, "0.cls", b"x" * (MAX_CLASS_NAME + 1))
    with pytest.raises(ImageError, match=naming("0.cls", MAX_CLASS_NAME)):
        open_source(tmp_path)


@pytest.fixture
def tars(tmp_path):
    """More tar files than are kept open, and the bytes of their images."""
    expected = {}
    for number in range(8):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for image in range(5):
                data = bytes([number, image]) * 100
                add(tar, f"{image}.png", data)
                expected[f"{tmp_path}/{number}.tar/{image}.png"] = data
    return tmp_path, expected


@pytest.mark.parametrize("lacking", [(), ("pread", "O_NONBLOCK", "mkfifo")])
def test_tar_files_are_read_by_many_threads_and_on_any_system(tars, monkeypatch, lacking):
    for name in lacking:
        monkeypatch.delattr(os, name)
    monkeypatch.setattr("pvt_data.sources.tars.OPEN_FILES", 3)
    folder, expected = tars
    source = pickle.loads(pickle.dumps(open_source(folder)))
    numbers = np.random.default_rng(0).integers(0, len(source), 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        for number, data in zip(numbers, pool.map(source.read, numbers), strict=True):
            assert data == expected[source.name(number)]
    assert len(source._files) <= 3


def test_a_file_without_an_end_is_not_read(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "0.png").open("wb") as stream:
            stream.truncate(2 << 30)
    with pytest.raises(ImageError, match=naming("0.png", f"{MAX_IMAGE_BYTES:,}")):
        open_source(tmp_path).read(0)


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """Folders in each other, more than Python calls functions: nor would pytest remove them."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        Path("a").mkdir()
        os.chdir("a")
    Path("0.png").write_bytes(png())
    os.chdir(tmp_path)
    yield
    subprocess.run(["rm", "-r", tmp_path / "a"], check=True)


@pytest.mark.usefixtures("deep")
def test_folders_in_each_other_without_an_end_are_one_error():
    assert len(list_images(["a"])) == 1
    # In a process of its own, as pathlib leaves open what it has begun.
    code = "from pvt_data.sources.listing import list_images; list_images(['a/**/*.png'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImageError: a/**/*.png: " in done.stderr
