"""Sources that others write to, cut off or replace while they are converted."""

import errno
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pvt_onnx
import pvt_torch
from convert import OnnxOptions, Options, conversion, convert_file, read_model, save_model
from convert.inspection import compare_files, inspect_file
from parity.judge import Judge
from pvt_spec import VARIANTS
from pvt_spec.errors import ConvertError
from pvt_spec.files.replacing import replacing
from pvt_spec.files.stamps import made_of, stamp_files
from pvt_spec.files.temporary import NewFile
from pvt_train.run.launch import starting_point
from tests.support.converting import tree
from tests.support.messages import naming, tells
from tests.support.models import SMALL, info_of, random_weights
from tests.support.processes import ROOT, launch_environment
from tests.support.recipes import load_recipe

CONFIG, NANO = SMALL["v2"], VARIANTS["pvt_nano"]


@pytest.mark.sampled
@pytest.mark.parametrize("target", ["b.pth", "b.onnx", "folder"])
@pytest.mark.parametrize("when", [(conversion, "_prepare"), (NewFile, "finish")], ids=str)
@pytest.mark.parametrize("change", ["longer", "touched", "replaced", "removed"])
def test_a_source_that_changes_meanwhile_is_noticed(
    change: str, when: Any, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    save_model(path, random_weights(CONFIG), info_of(CONFIG))
    external = OnnxOptions(external_data=target == "b.onnx")
    options = Options(force=True, onnx=external, allow_different_maths=True)
    convert_file(path, tmp_path / target, options=options)
    before = tree(tmp_path)
    original = getattr(*when)

    def meanwhile(*given: object, **named: object) -> object:
        done = original(*given, **named)
        if not path.exists():
            pass
        elif change == "touched":
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

    monkeypatch.setattr(*when, meanwhile)
    with pytest.raises(ConvertError, match=naming("a.ckpt", "written")):
        convert_file(path, tmp_path / target, options=options)
    after = tree(tmp_path)
    for changed in (before, after):
        changed.pop(str(path), None)
    assert after == before


def touching(monkeypatch: pytest.MonkeyPatch, where: str, path: Path) -> None:
    """Has a file written to at the end of a function that reads it."""
    module, _, name = where.rpartition(".")
    original = getattr(import_module(module), name)

    def meanwhile(*given: object, **named: object) -> object:
        done = original(*given, **named)
        os.utime(path, ns=(1, 1))
        return done

    monkeypatch.setattr(where, meanwhile)


@pytest.mark.parametrize(
    ("reads", "where"),
    [
        (pvt_torch.load_forward, "convert.model.read.read_file"),
        (lambda path: pvt_torch.load_weights(twin(), path), "convert.model.read.read_file"),
        (lambda path: judged(path), "convert.model.read.read_file"),
        (lambda path: trained_from(path), "convert.model.read.read_file"),
        (lambda path: [*inspect_file(path)], "convert.inspection.understand"),
        (lambda path: [*compare_files(path, path)], "convert.inspection.understand"),
        (pvt_onnx.load_proto, "onnx.load_model_from_string"),
        (pvt_onnx.load_forward, "pvt_onnx.engines.onnxruntime.open_session"),
    ],
)
def test_so_it_is_by_whatever_reads_it(reads, where, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / ("a.onnx" if "onnx" in where else "a.pth")
    save_model(path, random_weights(NANO), info_of(NANO))
    reads(path)
    touching(monkeypatch, where, path)
    with pytest.raises(ConvertError, match=naming(path.name, "written")):
        reads(path)


def twin() -> Any:
    return pvt_torch.create_model("pvt_nano")


def judged(path: Path) -> None:
    with Judge(read_model(path), ("logits",)) as judge:
        assert judge.reference


def trained_from(path: Path) -> None:
    recipe = load_recipe(None, {"model": "pvt_nano", "image_resize": 32, "pretrained": str(path)})
    starting_point(recipe, ("a", "b"), None)


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
    assert tells(done.stderr, path)
    assert not (tmp_path / "b.pth").exists()


def test_a_source_that_is_cut_off_is_named_and_not_the_target(tmp_path: Path) -> None:
    """Of a mapped file that was cut off, a write says that its address is bad."""
    source = tmp_path / "a.pth"
    source.write_bytes(bytes(100))
    refused = pytest.raises(ConvertError, match=naming(source, "was written to"))
    with refused, made_of(stamp_files(source)), replacing(tmp_path / "b.pth", False):
        os.truncate(source, 10)
        raise OSError(errno.EFAULT, "Bad address")
    assert [*tmp_path.iterdir()] == [source]
