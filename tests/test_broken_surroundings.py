"""Folders, pipes and names around a command that ended in neither answers nor one clear error."""

import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from PIL import Image

from convert import save_model
from convert.command_line import main as convert
from convert.inspection import inspect_file
from parity.bundles.bundle import Bundle
from parity.command_line import main as parity
from pvt_data.edge import edge
from pvt_spec.words import show
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import ROOT

LATIN = os.fsdecode(b"\xff")
"""A letter in a name that is no UTF-8."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model."""
    path = tmp_path / "model.onnx"
    save_model(path, random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    return path


@pytest.mark.parametrize("line", ["convert MODEL b.pth", "pvt_train plot RUN -o a.png"])
def test_a_folder_that_is_gone_is_one_error(line: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "epoch", "step": 1, "epoch": 1, "loss": 1.0}\n')
    gone = tmp_path / "gone"
    gone.mkdir()
    words = line.replace("MODEL", str(model)).replace("RUN", str(tmp_path))
    done = subprocess.run(
        ["sh", "-c", f"rmdir {gone}; exec {sys.executable} -m {words}"],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and tells(done.stderr, "folder", "there")
    assert done.stderr.count("\n") == 1


def test_a_pipe_that_is_slow_gets_all(model: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = [sys.executable, "-m", "convert", "inspect", model, "--json"]
    process = subprocess.Popen(line, stdout=writing, cwd=ROOT)
    os.close(writing)
    # Of it no more fits into the pipe than is left of what is there already.
    held = bytearray()

    def read() -> None:
        while piece := os.read(reading, 1000):
            held.extend(piece)
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait() == 0
    reader.join()
    os.close(reading)
    assert held.endswith(b"}\n")


def test_the_streams_of_a_command_wait(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    done = subprocess.run([sys.executable, "-m", "convert", "--help"], stdout=writing, cwd=ROOT)
    assert done.returncode == 0 and os.get_blocking(writing)
    os.close(reading)
    os.close(writing)


def test_a_name_that_no_model_can_hold_is_refused(model: Path, tmp_path: Path) -> None:
    for name in (f"a{LATIN}.onnx", "a\nb.onnx", "a\\b.onnx"):
        said = refusal(convert, model, tmp_path / name, "--external-data")
        assert tells(said, "plain")
        assert not (tmp_path / name).exists() and not (tmp_path / f"{name}.data").exists()
        assert invoke(convert, model, tmp_path / name).exit_code == 0


def test_a_bundle_of_any_names_is_read(model: Path, tmp_path: Path) -> None:
    model = model.rename(tmp_path / f"m{LATIN}.onnx")
    image = tmp_path / f"i{LATIN}.png"
    Image.new("RGB", (40, 40)).save(image)
    for name in ("a.npz", "b.npz"):
        done = invoke(
            parity, "capture", model, "--runtime", "onnxruntime", "--taps", "logits",
            "--images", image, "-o", tmp_path / name,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "\\udcff" in Bundle(tmp_path / name).record.file
    done = invoke(parity, "compare", tmp_path / "a.npz", tmp_path / "b.npz")
    assert done.exit_code == 0, done.output


class _Own(OrderedDict):  # type: ignore[type-arg]
    pass


def test_showing_writes_no_numbers_out() -> None:
    array = torch.rand(500, 500).numpy()
    many = _Own({f"c{i}": _Own({f"t{j}": array for j in range(100)}) for i in range(300)})
    start = time.process_time()
    said = show(many)
    assert "float32 (500, 500)" in said and len(said) <= 200
    assert time.process_time() - start < 0.2


def test_a_file_of_many_containers_is_inspected_in_its_size(tmp_path: Path) -> None:
    state = {n: torch.from_numpy(a) for n, a in random_weights(SMALL["v2"]).items()}
    held = {"pad": torch.zeros(1_000_000)}
    torch.save(held | {f"c{i}": OrderedDict(state) for i in range(60)}, tmp_path / "a.pth")
    start = time.process_time()
    assert any(finding.what == "other_entries" for finding in inspect_file(tmp_path / "a.pth"))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libx.so: failed to map segment from shared object", name="onnxruntime"),
        ImportError("libx.so: Cannot allocate memory", name="torch"),
        RuntimeError("can't start new thread"),
    ],
    ids=str,
)
def test_too_little_memory_is_said_to_be_that(error: Exception, capsys) -> None:
    with pytest.raises(SystemExit) as ended, edge():
        raise error
    said = capsys.readouterr().err
    assert ended.value.code == 1 and tells(said, "memory") and "pip" not in said
