"""No command writes over what it reads, however the path is spelt, and with --force too."""

import os
import shutil
from pathlib import Path

import pytest

from convert.command_line import main as convert
from parity.command_line import main as parity
from tests.support.commands import invoke, refusal
from tests.support.converting import save, tree
from tests.support.models import GOLDEN, SMALL

MODEL = GOLDEN / "model_info/format_2.ckpt"
SPELLINGS = ("{}", "./{}", "{}/", "{}/.", "link", "../here/{}")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands are given in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_folder_is_not_converted_onto_itself(here: Path, spelling: str) -> None:
    save(here / "F", SMALL["v2"], "hf")
    os.symlink("F", "link")
    before = tree(here)
    target = spelling.format("F")
    refusal(convert, "F", target, "--force")
    refusal(convert, target, "F", "--force")
    refusal(convert, "F/model.safetensors", target, "--force")
    assert tree(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ("a.ckpt", "a.ckpt"),
        ("a.ckpt", "link.ckpt"),
        ("a.ckpt", "hard.ckpt"),
        ("a.ckpt", "b.ckpt", "--report", "a.ckpt"),
        ("a.ckpt", "b.ckpt", "--report", "./b.ckpt"),
        ("pair.onnx", "b.ckpt", "--report", "pair.onnx.data"),
        ("a.ckpt", "names.ckpt", "--labels", "names.ckpt"),
        ("a.ckpt", "b.ckpt", "--labels", "names.ckpt", "--report", "names.ckpt"),
    ],
)
def test_convert_writes_over_nothing_that_it_reads(here: Path, words: tuple[str, ...]) -> None:
    shutil.copy(MODEL, "a.ckpt")
    os.symlink("a.ckpt", "link.ckpt")
    os.link("a.ckpt", "hard.ckpt")
    assert invoke(convert, "a.ckpt", "pair.onnx", "--external-data").exit_code == 0
    Path("names.ckpt").write_text("dog\ncat\n")
    before = tree(here)
    refusal(convert, *words, "--force")
    assert tree(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "a.npz", "b.npz", "--html", "a.npz"),
        ("compare", "a.npz", "b.npz", "--html", "../here/b.npz"),
        ("compare", "a.npz", "b.npz", "--junit", "link"),
        ("compare", "a.npz", "b.npz", "--html", "c", "--junit", "c"),
        ("check", "a.npz", "a.ckpt", "--html", "a.npz"),
        ("run", "a.ckpt", "--html", "a.ckpt"),
        ("run", "a.ckpt", "--images", "a.npz", "--html", "a.npz"),
        ("diagnose", "a.ckpt", "b.npz", "--html", "b.npz"),
        ("capture", "a.ckpt", "--runtime", "onnxruntime", "-o", "a.ckpt"),
        ("capture", "a.ckpt", "--runtime", "onnxruntime", "--images", "b.npz", "-o", "b.npz"),
        ("capture", "a.ckpt", "--runtime", "onnxruntime", "--images", "photos", "-o",
         "photos/a.png"),
    ],
)  # fmt: skip
def test_parity_writes_over_nothing_that_it_reads(here: Path, words: tuple[str, ...]) -> None:
    shutil.copy(MODEL, "a.ckpt")
    for name in ("a.npz", "b.npz"):
        Path(name).write_bytes(b"a bundle")
    os.symlink("a.npz", "link")
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(b"a photo")
    before = tree(here)
    refusal(parity, *words, "--force")
    assert tree(here) == before


def test_a_label_of_the_targets_name_is_no_file(here: Path) -> None:
    shutil.copy(MODEL, "a.ckpt")
    Path("names.txt").write_text("b.ckpt\ncat\n")
    assert invoke(convert, "a.ckpt", "b.ckpt", "--labels", "names.txt").exit_code == 0
