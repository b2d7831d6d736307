"""What a command writes is none of the files that it reads, whatever leads to them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from convert import convert_file, save_model
from convert.command_line import main as convert
from convert.options import OnnxOptions, Options
from parity.command_line import main as parity
from pvt_data.sources.listing import find_images
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec.errors import ConvertError
from pvt_spec.files.reading import open_regular, to_be_written
from pvt_spec.files.replacing import replacing
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import ROOT

_ANY = Options(allow_different_maths=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in several forms, and images of two classes."""
    tmp_path = tmp_path_factory.mktemp("made")
    weights, info = random_weights(SMALL["v2"]), info_of(SMALL["v2"])
    save_model(tmp_path / "a.onnx", weights, info)
    save_model(tmp_path / "b.onnx", weights, info, onnx=OnnxOptions(external_data=True))
    convert_file(tmp_path / "a.onnx", tmp_path / "hf", options=_ANY)
    cache = tmp_path / "models--a--b"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    convert_file(tmp_path / "a.onnx", cache / "snapshots" / "abc", options=_ANY)
    for name in ("0", "1"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for image in ("a", "b", "c"):
            Image.new("RGB", (40, 40)).save(tmp_path / "val" / name / f"{image}.png")
    (tmp_path / "link.html").symlink_to("b.onnx.data")
    return tmp_path


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "place", symlinks=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (parity, "run b.onnx --html b.onnx.data"),
        (parity, "run b.onnx --junit link.html"),
        (parity, "run hf --html hf/config.json"),
        (parity, "run hf --junit hf/model.safetensors"),
        (parity, "run models--a--b --html models--a--b/snapshots/abc/model.safetensors"),
        (parity, "run models--a--b --html models--a--b/refs/main"),
        (parity, "capture hf --runtime torch -o hf/config.json"),
        (parity, "run a.onnx --images val --limit 1 --html val/1/b.png"),
        (parity, "validate a.onnx --images val --limit 1 --html val/1/b.png"),
        (parity, "diagnose a.onnx b.onnx --html b.onnx.data"),
        (convert, "models--a--b c.pth --report models--a--b/refs/main"),
        (convert, "b.onnx c.pth --report b.onnx.data"),
        (pvt_onnx, "predict a.onnx val --csv -o val/0/b.png"),
        (pvt_onnx, "predict b.onnx val --csv -o b.onnx.data"),
        (pvt_onnx, "validate a.onnx b.onnx --data-dir val --csv -o link.html"),
        (pvt_onnx, "validate a.onnx --data-dir val --csv -o val/0/a.png"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.name,
)
def test_no_source_is_written_over(program, line: str, place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    before = contents(place)
    said = refusal(program, *line.split(), "--force")
    assert tells(said, "source"), said
    assert contents(place) == before


def test_a_report_in_a_folder_that_is_read_may_be_replaced(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    for target in ("hf/a.html", "val/a.html"):
        Path(target).write_text("old")
        line = f"run hf --runtime onnxruntime --taps logits --images val --html {target} --force"
        done = invoke(parity, *line.split())
        assert done.exit_code == 0 and Path(target).read_text() != "old", done.output


def test_what_should_have_been_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with to_be_written([path]):
        with pytest.raises(ConvertError, match=naming("a")):
            open_regular(path)
        with pytest.raises(ConvertError, match=naming("a")), replacing(path, True) as stream:
            stream.write(b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("target", ["none/x.file", "shut/x.file"])
@pytest.mark.parametrize(
    ("program", "line"),
    [
        (parity, "run a.onnx --html"),
        (parity, "run a.onnx --junit"),
        (parity, "capture a.onnx --runtime onnxruntime -o"),
        (convert, "a.onnx c.pth --report"),
        (pvt_onnx, "predict a.onnx val --csv -o"),
        (pvt_onnx, "validate a.onnx --data-dir val --csv"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.name,
)
def test_what_cannot_be_written_is_known_first(
    program, line: str, target: str, place: Path, monkeypatch
) -> None:
    monkeypatch.chdir(place)
    Path("shut").mkdir()

    def refuse(real: Path) -> None:
        if real.parent.name == "shut":
            raise PermissionError(13, "Permission denied")
        return open_new(real)

    from pvt_spec.files.temporary import open_new

    monkeypatch.setattr("pvt_spec.files.replacing.open_new", refuse)
    for later in ("convert.model.read.read_model", "parity.selection.read_models"):
        monkeypatch.setattr(later, lambda *_, **__: pytest.fail("it has begun"))
    said = refusal(program, *line.split(), target)
    assert tells(said, target)
    assert not Path("c.pth").exists()


def test_no_two_reports_are_one_file(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    said = refusal(parity, "run", "a.onnx", "--html", "x.a", "--junit", "./x.a")
    assert tells(said, "x.a", "twice") and "source" not in said


@pytest.mark.parametrize(
    "line",
    [["validate", "a.onnx", "--data-dir", ""], ["validate", "a.onnx", "--data-dir="]],
    ids=str,
)
def test_an_empty_folder_is_none(line: list[str], place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    done = CliRunner().invoke(pvt_onnx, line)
    assert done.exit_code == 2 and "empty" in done.output
    assert tells(refusal(parity, "run", "a.onnx", "--images", ""), "empty")


def test_a_folder_that_cannot_be_searched_is_an_unreadable_image(place: Path, monkeypatch) -> None:
    shut, scandir, stat = place / "val" / "0", os.scandir, os.stat

    def refusing(call):
        def checked(path=".", *given, **named):
            if str(path).startswith(str(shut)) and (call is scandir or str(path) != str(shut)):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *given, **named)

        return checked

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "stat", refusing(stat))
    others = [place / "val" / "1" / f"{name}.png" for name in "abc"]
    assert [*find_images([shut / "a.png", place / "val"], whole=False)] == [
        shut / "a.png", shut, *others,
    ]  # fmt: skip
    done = invoke(pvt_onnx, "predict", place / "a.onnx", shut / "a.png", place / "val", "--jsonl")
    assert done.exit_code == 1 and tells(done.stderr, shut)
    assert all(str(path) in done.stdout for path in others)
    assert tells(done.stderr, "1 of 5")


@pytest.mark.sampled
@pytest.mark.parametrize("output", ["names.jsonl", "more.jsonl", "names.csv"])
def test_a_list_on_stdin_is_a_source(place: Path, output: str) -> None:
    listed = place / ("more.jsonl.part" if output.startswith("more") else output)
    text = f"{place}/val/0/a.png\n"
    listed.write_text(text)
    line = [sys.executable, "-m", "pvt_onnx", "predict", str(place / "a.onnx"), "-", "--force"]
    with listed.open("rb") as stream:
        done = subprocess.run(
            [*line, "--output", str(place / output)],
            stdin=stream, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 1 and tells(done.stderr, "stdin", listed.name)
    assert listed.read_text() == text


@pytest.mark.parametrize("named", ["a.png", "b.jsonl"])
def test_an_image_that_is_listed_is_a_source(place: Path, named: str) -> None:
    first, image = place / "val/0/a.png", place / named
    image.write_bytes(before := first.read_bytes())
    line = [sys.executable, "-m", "pvt_onnx", "predict", str(place / "a.onnx"), "-", "--force"]
    done = subprocess.run(
        [*line, "--jsonl", "--batch-size", "1", "--output", str(image)],
        input=f"{first}\n" * 4 + f"{image}\n", cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and tells(done.stderr, "a source too", named)
    assert image.read_bytes() == before and not image.with_name(f"{named}.part").exists()


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo])
def test_what_goes_on_is_a_file(place: Path, make) -> None:
    make(place / "a.jsonl.part")
    given = ("predict", place / "a.onnx", place / "val/0/a.png", "--output", place / "a.jsonl")
    assert tells(refusal(pvt_onnx, *given, "--resume"), "a.jsonl.part", "device")


@pytest.mark.parametrize("make", ["symlink_to", "hardlink_to"])
def test_a_part_is_not_written_through_a_link(place: Path, make: str) -> None:
    mine = place / "mine.txt"
    mine.write_text("mine")
    getattr(place / "a.jsonl.part", make)(mine)
    given = ("predict", place / "a.onnx", place / "val/0/a.png", "--output", place / "a.jsonl")
    assert tells(refusal(pvt_onnx, *given, "--force"), "a.jsonl.part", "a link")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("make", ["symlink_to", "hardlink_to"])
def test_a_lock_is_not_written_through_a_link(place: Path, make: str) -> None:
    mine = place / "mine.txt"
    mine.write_text("mine")
    getattr(place / ".pvt-lock.tmp", make)(mine)
    given = (place / "a.onnx", place / "new.onnx")
    assert tells(refusal(convert, *given, "--external-data"), ".pvt-lock.tmp", "our lock")
    assert mine.read_text() == "mine" and not (place / "new.onnx").exists()


def test_a_part_that_is_read_is_not_written(place: Path) -> None:
    labels = place / "a.jsonl.part"
    labels.write_text("names")
    given = ("predict", place / "a.onnx", place / "val/0/a.png", "--output", place / "a.jsonl")
    assert tells(refusal(pvt_onnx, *given, "--force", "--labels", labels), "a source too")
    assert labels.read_text() == "names"
