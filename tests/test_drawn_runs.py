"""Pictures of a run, drawn where strangers left settings, of logs that strangers wrote."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest
from PIL import Image

from pvt_data.pictures import ENDINGS, draw_picture
from pvt_spec.errors import FileExists, PvtError
from pvt_train.command_line import main as pvt_train
from pvt_train.run.plot import plot_run
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.processes import ROOT, run_python

EPOCH = {"kind": "epoch", "step": 1, "epoch": 1, "loss": 1.0, "lr": 0.1}


def write_log(run: Path, *lines: object) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (run / "log.jsonl").write_text("".join(f"{text}\n" for text in texts))
    return run


def test_settings_of_strangers_are_not_taken(tmp_path: Path) -> None:
    write_log(tmp_path, EPOCH)
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nsavefig.dpi: 300\n")
    started = tmp_path / "started"
    for name in ("latex", "dvipng", "dvips"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {started}\n")
        program.chmod(0o755)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "none.such",
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
    }  # fmt: skip
    run_python("-m", "pvt_train", "plot", ".", "-o", "a.png", cwd=tmp_path, env=environment)
    assert not started.exists()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1000, 700)


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ({**EPOCH, "loss": {}}, ("line 2", "loss", "a number")),
        ({**EPOCH, "loss": [1, 2]}, ("line 2", "loss")),
        ({**EPOCH, "top1": "99"}, ("line 2", "top1")),
        ({**EPOCH, "lr": True}, ("line 2", "lr")),
        ({**EPOCH, "epoch": 1.5}, ("line 2", "epoch")),
        ({**EPOCH, "kind": ["epoch"]}, ("line 2", "kind")),
        ({**EPOCH, "step": "1"}, ("line 2", "step")),
        ({"kind": "epoch", "step": 7, "loss": 1.0}, ("step 7", "epoch")),
        ({**EPOCH, "loss": 1e308}, ("loss", "epoch 1")),
        ({"epoch": 1}, ("line 2", "kind", "step")),
        ([1], ("line 2",)),
        ("[" * 100_000, ("line 2",)),
        ('{"kind": "epoch", "step": 1, "epoch": 1, "loss": NaN}', ("line 2",)),
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_is_no_record_is_one_error(line: object, facts: tuple[str, ...], tmp_path) -> None:
    write_log(tmp_path, EPOCH, line, EPOCH)
    said = refusal(pvt_train, "plot", tmp_path)
    assert tells(said, "log.jsonl", *facts) and len(said) < 600
    assert not (tmp_path / "curves.png").exists()


def test_a_log_is_a_file_of_some_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    assert tells(refusal(pvt_train, "plot", tmp_path), "log.jsonl", "pipe")
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "log.jsonl").symlink_to("/dev/zero")
    assert tells(refusal(pvt_train, "plot", tmp_path), "log.jsonl", "device")
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "log.jsonl").touch()
    os.truncate(tmp_path / "log.jsonl", 1 << 40)
    assert tells(refusal(pvt_train, "plot", tmp_path), "log.jsonl", "bytes")


def test_a_picture_is_not_drawn_over_its_log(tmp_path: Path) -> None:
    log = write_log(tmp_path, EPOCH) / "log.jsonl"
    (tmp_path / "curves.png").symlink_to("log.jsonl")
    before = log.read_bytes()
    for output in ((), ("-o", tmp_path / "curves.png")):
        assert tells(refusal(pvt_train, "plot", tmp_path, *output, "--force"), "curves.png")
    with pytest.raises(PvtError, match=naming("curves.png")):
        plot_run(tmp_path, tmp_path / "curves.png", force=True)
    assert log.read_bytes() == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_is_whole_or_the_old_one(ending: str, tmp_path: Path) -> None:
    write_log(tmp_path, EPOCH)
    picture = tmp_path / f"curves{ending}"
    assert invoke(pvt_train, "plot", tmp_path, "-o", picture).exit_code == 0
    before = picture.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        said = refusal(pvt_train, "plot", tmp_path, "-o", picture, "--force")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert tells(said, picture.name) and picture.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {picture.name, "log.jsonl"}


def test_a_picture_that_another_draws_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.svg"
    with pytest.raises(FileExists):
        draw_picture(target, (2, 2), lambda figure: target.write_text("theirs"), force=False)
    assert target.read_text() == "theirs"
    write_log(tmp_path, EPOCH)
    with pytest.raises(FileExists):
        plot_run(tmp_path, target)
