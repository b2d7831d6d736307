"""Sources that others write to, cut off or replace while they are converted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convert import conversion, convert_file, save_model
from pvt_spec.errors import ConvertError
from tests.support.messages import naming
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import ROOT, launch_environment

CONFIG = SMALL["v2"]


@pytest.mark.parametrize("when", ["_prepare", "save_model"])
@pytest.mark.parametrize("change", ["longer", "touched", "replaced", "removed"])
def test_a_source_that_changes_meanwhile_is_noticed(
    change: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    save_model(path, random_weights(CONFIG), info_of(CONFIG))
    original = getattr(conversion, when)

    def meanwhile(*given: object, **named: object) -> object:
        done = original(*given, **named)
        if change == "touched":
            os.utime(path, ns=(1, 1))
        elif change == "longer":
            with path.open("ab") as stream:
                stream.write(b"more")
        elif change == "removed":
            path.unlink()
        else:
            (tmp_path / "new").write_bytes(path.read_bytes())
            os.replace(tmp_path / "new", path)
        return done

    monkeypatch.setattr(conversion, when, meanwhile)
    with pytest.raises(ConvertError, match=naming("a.ckpt", "written")):
        convert_file(path, tmp_path / "b.pth")
    assert (tmp_path / "b.pth").exists() == (when == "save_model")


CUT = """
import os, sys
from convert.formats import weight_file
from pvt_data.edge import run

original = weight_file.mmap.mmap

def cut(*given, **named):
    mapped = original(*given, **named)
    os.truncate(sys.argv[-2], 5000)
    return mapped

weight_file.mmap.mmap = cut
run("convert")
"""


@pytest.mark.parametrize("ending", ["ckpt", "pth", "safetensors", "onnx"])
@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="a signal that this system has not")
def test_a_source_that_is_cut_off_meanwhile_is_one_error(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    save_model(path, random_weights(CONFIG), info_of(CONFIG))
    done = subprocess.run(
        [sys.executable, "-c", CUT, path, tmp_path / "b.pth"],
        cwd=ROOT, env=launch_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "b.pth").exists()
