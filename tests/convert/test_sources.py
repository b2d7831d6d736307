"""Sources that cannot be read, whatever they are: exit code 1 and the reason, at once."""

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from convert.command_line import main
from convert.model.write import save_model
from tests.support.converting import save
from tests.support.messages import tells
from tests.support.models import SMALL, info_of, random_weights

ENDINGS = (".ckpt", ".pth", ".safetensors", ".onnx", "")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = os.getcwd()
        os.chdir(path.parent)  # a socket's address is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(before)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").symlink_to(path)


def empty(path: Path) -> None:
    path.touch()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def missing(path: Path) -> None:
    pass


def under_a_file(path: Path) -> None:
    path.with_name("file").touch()


MADE = (pipe, unix_socket, link_to_itself, link_to_nothing, folder, empty, device, missing)


def refuse(*arguments: object) -> str:
    """What a command says that ends in exit code 1 and one message."""
    done = CliRunner().invoke(main, [str(word) for word in arguments])
    assert done.exit_code == 1, (done.exit_code, done.output, done.exception)
    assert isinstance(done.exception, SystemExit)
    assert "fault of ours" not in done.stderr and "Error: " in done.stderr
    return done.stderr


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_what_is_no_readable_file_is_refused_by_name(
    make: Any, ending: str, tmp_path: Path
) -> None:
    source = tmp_path / f"a{ending}"
    make(source)
    for arguments in (
        ("inspect", source),
        (source, tmp_path / "b.onnx"),
        ("inspect", source, "--diff", source),
        (source, tmp_path / "hub"),
    ):
        assert source.name in refuse(*arguments)
    assert not (tmp_path / "b.onnx").exists() and not (tmp_path / "hub").exists()


LONG = "a" * 300


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_that_no_system_has_are_refused_in_any_place(ending: str, tmp_path: Path) -> None:
    good = save(tmp_path / "good.ckpt", SMALL["v1"], "official")
    name = tmp_path / f"{LONG}{ending}"
    for arguments in (
        ("inspect", name),
        ("inspect", good, "--diff", name),
        (name, tmp_path / "b.onnx"),
        (good, name),
        (good, name / "b.onnx"),
        (good, tmp_path / "b.onnx", "--report", name),
        (good, tmp_path / "b.onnx", "--labels", name),
        (good.with_name("good.ckpt") / "inside.ckpt", tmp_path / "b.onnx"),
    ):
        refuse(*arguments)
    assert [*tmp_path.iterdir()] == [good]


@pytest.mark.parametrize("what", ["stat", "open", "scandir", "listdir"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_we_may_not_read_is_refused_with_the_reason(
    kind: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file without the right to read it, in a folder without that to search it."""
    source = tmp_path / "hub" / ("model.safetensors" if kind == "file" else "")
    save_model(tmp_path / "hub", random_weights(SMALL["v2"]), info_of(SMALL["v2"], "hf"))
    real = getattr(os, what)

    def refuses(path: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(path, (str, bytes, Path)) and "hub" in os.fsdecode(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, what, refuses)
    if what == "open":
        opened = Path.open
        monkeypatch.setattr(
            Path,
            "open",
            lambda path, *a, **k: (refuses if "hub" in str(path) else opened)(path, *a, **k),
        )
    arguments = [str(source), str(tmp_path / "b.onnx")]
    done = CliRunner().invoke(main, arguments)
    if done.exit_code == 0:  # nothing had to be listed
        assert what in ("scandir", "listdir")
        return
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    assert tells(done.stderr, "hub") and "ermission" in done.stderr


CONFIGS = ("config.json", "preprocessor_config.json", "model.safetensors")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("make", [pipe, link_to_itself, folder, empty, device])
def test_parts_of_a_folder_that_cannot_be_read_are_named(
    make: Any, name: str, tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    save_model(hub, random_weights(SMALL["v2"]), info_of(SMALL["v2"], "hf"))
    (hub / name).unlink()
    make(hub / name)
    said = [*map(str.strip, refuse(hub, tmp_path / "b.onnx").splitlines())]
    assert "hub" in said[0]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_labels_that_cannot_be_read_are_refused(make: Any, tmp_path: Path) -> None:
    good = save(tmp_path / "good.ckpt", SMALL["v1"], "official")
    make(tmp_path / "names.txt")
    said = refuse(good, tmp_path / "b.onnx", "--labels", tmp_path / "names.txt")
    assert tells(said, "names.txt")


ABSURD = ("9" * 5000, "-1", "1e9", "1000000000", "9" * 20, "\x1b[2J", "nan", "0x10", "²")


@pytest.mark.parametrize("value", ABSURD, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    "option",
    ("--image-size", "--from-image-size", "--num-classes", "--in-chans", "--opset", "--num-heads"),
)
def test_absurd_numbers_are_usage_or_bad_data(option: str, value: str, tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", SMALL["v1"], "official")
    done = CliRunner().invoke(main, [str(source), str(tmp_path / "b.onnx"), option, value])
    assert done.exit_code in (1, 2), (done.output, done.exception)
    assert isinstance(done.exception, SystemExit)
    assert len(done.stderr) < 6000 and done.stderr.replace("\n", "").isprintable()
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize(
    "pair",
    ["mean=[1e400]", "std=NaN", "crop_pct=Infinity", "rescale=" + "9" * 400, "resize=[1]",
     "mean=" + "[" * 9000, "mean=" + json.dumps([0.5] * 9), "orientation=1", "normalise=1",
     "crop_pct=true", "resize=" + "a" * 60_000, "interpolation=\x1b[2J"],
    ids=lambda pair: pair[:14],
)  # fmt: skip
def test_preprocessing_that_cannot_be_is_refused(pair: str, tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", SMALL["v1"], "official")
    said = refuse(source, tmp_path / "b.onnx", "--preprocessing", pair)
    assert tells(said, pair.partition("=")[0]) and len(said) < 3000
    assert said.replace("\n", "").isprintable()


def test_the_folder_that_one_is_in_is_a_source(tmp_path: Path, monkeypatch) -> None:
    info = info_of(SMALL["v2"], "hf")
    save_model(tmp_path / "model", random_weights(info.config), info)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    done = CliRunner().invoke(main, [".", "../model.onnx"])
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(tmp_path / "empty")
    for line in ([".", "../other.onnx"], ["inspect", "."], ["/", "../other.onnx"]):
        done = CliRunner().invoke(main, line)
        assert done.exit_code == 1 and tells(done.output, "config.json"), done.output
