"""The programs of ``docs/howto/many-files.md`` answer as one process does, as they stand there."""

import csv
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import pvt_onnx
from tests.support.documents import NOT_RUN, read_commands
from tests.support.processes import ROOT, run_python
from tests.support.serving.models import save

PAGE = ROOT / "docs/howto/many-files.md"

FILES = "demo/digits/val"

DYING = """
import os, signal
import pvt_onnx

class Dying(pvt_onnx.Predictor):
    def predict(self, *given, **more):
        records = super().predict(*given, **more)
        with open("calls", "a") as calls:  # of all actors
            count = calls.write(f"{len(records)}\\n") and calls.tell()
        if count > 3 * len("64\\n"):
            try:
                os.close(os.open("died", os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass  # one has
        return records

pvt_onnx.load = lambda path, threads: Dying(path, pvt_onnx.EngineOptions(threads=threads))
"""
"""What stands before a program so that the first worker that has answers after some dies."""


def program(library):
    """The program of the page that imports a library."""
    found = [each.text for each in read_commands(PAGE.read_text(), ["python", NOT_RUN])]
    (text,) = [text for text in found if re.search(rf"^(from|import) .*\b{library}\b", text, re.M)]
    return text


def command_of(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []


def write_files(folder, count):
    """Writes a model and digits, and one file that is no image; returns their records by name."""
    save(folder / "digits.onnx")
    for number, pixels in enumerate(load_digits().images[:count]):
        path = folder / FILES / f"{number % 10}/{number:04}.{('png', 'jpg')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(pixels * 15)).save(path)
    (folder / FILES / "7/none.png").write_bytes(b"none")
    paths = [str(path.relative_to(folder)) for path in (folder / FILES).rglob("*.*")]
    with pvt_onnx.load(folder / "digits.onnx") as predictor:
        records = predictor.predict([folder / path for path in paths])
    return dict(zip(paths, records, strict=True))


@pytest.mark.sampled
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_pool_of_processes_answers_as_one_does(method, tmp_path):
    expected = write_files(tmp_path, 30)
    begin = f"import multiprocessing\nmultiprocessing.set_start_method({method!r}, force=True)\n"
    (tmp_path / "program.py").write_text(begin + program("ProcessPoolExecutor"))
    printed = run_python("program.py", cwd=tmp_path, timeout=300).stdout.splitlines()
    found = dict(line.split(" ", 1) for line in printed)
    assert found == {
        path: record.get("error") or record["classes"][0]["label"]
        for path, record in expected.items()
    }
    assert len(printed) == 31


@pytest.mark.long
def test_ray_answers_as_one_process_does_though_a_worker_is_killed(tmp_path):
    expected = write_files(tmp_path, 1000)
    (tmp_path / "program.py").write_text(DYING + program("ray"))
    own = Path(tempfile.mkdtemp(prefix="r"))  # a socket's path is short
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(own)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **quiet}
    try:
        run_python("program.py", cwd=tmp_path, env=environment, timeout=900)
        left = [each for each in psutil.process_iter() if str(own) in " ".join(command_of(each))]
        assert not psutil.wait_procs(left, timeout=60)[1]
    finally:
        shutil.rmtree(own)
    assert (tmp_path / "died").exists()
    rows = [
        row
        for path in (tmp_path / "ray-answers").iterdir()
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    assert len(rows) == 1001 and {row["path"] for row in rows} == expected.keys()
    for row in rows:
        record = expected[row["path"]]
        assert bool(row["error"]) == ("error" in record)
        if "classes" in record:
            best = record["classes"][0]
            assert row["label"] == best["label"]
            assert float(row["probability"]) == pytest.approx(best["probability"], abs=1e-6)
