"""Commands and programs where a library is not installed: which one, and what to install."""

import json
import os
from pathlib import Path

import pytest

from pvt_packages import LIBRARIES, explain_import
from tests.support.fuzzing.bundles import write_good
from tests.support.messages import tells
from tests.support.processes import ROOT, run_python

HIDING = """
import contextlib, io, json, sys
from pvt_data import edge

hidden, how, commands = json.loads(sys.argv[1])

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

if how == "finder":
    sys.meta_path.insert(0, Finder())
for command in commands:
    sys.argv, said, code, fault = command, io.StringIO(), 0, ""
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            edge.run(command[0])
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        fault = repr(error)
    print(json.dumps([code, fault, said.getvalue()]))
"""

COMMANDS = {
    "torch": [
        "pvt_torch predict model.pth image.png",
        "pvt_torch validate model.pth --data-dir val",
        "parity run model.pth --random 1",
        "parity run model.pth --random 1 --emulate fp16",
        "parity check good.npz model.pth",
        "parity diagnose model.pth good.npz",
        "parity validate model.pth --images val",
        "parity capture model.pth --runtime torch -o new.npz",
        "parity capture model.pth --runtime reference -o new.npz",
    ],
    "mindspore": [
        "pvt_ms predict model.pth image.png",
        "pvt_ms validate model.pth --data-dir val",
        "pvt_ms train --model pvt_nano --data-dir data --output run",
        "parity capture model.pth --runtime mindspore -o new.npz",
        "parity run model.pth --runtime mindspore --random 1",
    ],
    "onnxruntime": [
        "pvt_onnx predict model.onnx image.png",
        "pvt_onnx validate model.onnx --data-dir val",
        "pvt_onnx serve model.onnx",
        "parity capture model.pth --runtime onnxruntime -o new.npz",
    ],
    "httptools": ["pvt_onnx serve model.onnx"],
    "starlette": ["pvt_onnx serve model.onnx"],
    "uvicorn": ["pvt_onnx serve model.onnx"],
    "prometheus_client": ["pvt_onnx serve model.onnx"],
    "onnx": ["pvt_onnx predict model.onnx image.png", "convert model.pth new.onnx"],
    "pooch": ["convert inspect hub:mindcv/pvt_tiny"],
    "requests": ["convert hub:official/pvt_tiny new.onnx"],
    "huggingface_hub": ["parity run hub:Zetatech/pvt-tiny-224"],
    "jinja2": [
        "parity run model.pth --random 1 --html new.html",
        "parity compare good.npz good.npz --html new.html",
        "parity diagnose model.pth good.npz --html new.html",
    ],
    "matplotlib": [
        "pvt_train plot run",
        "pvt_ms train --model pvt_nano --data-dir data --output run --plot",
    ],
    "simplejpeg": ["pvt_ms train --model pvt_nano --data-dir data --output run"],
    "tensorboardX": ["pvt_ms train --model pvt_nano --data-dir data --output run"],
    "yaml": ["pvt_ms train --config configs/pvt/pvt_tiny_ascend.yaml --data-dir data"],
    "PIL": ["pvt_onnx predict model.onnx image.png", "parity run model.pth --runtime torch"],
    "ml_dtypes": ["convert model.pth new.onnx", "pvt_torch predict model.pth image.png"],
    "numpy": ["convert model.pth new.onnx", "parity compare good.npz good.npz"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands are given."""
    found = tmp_path_factory.mktemp("files")
    write_good(found)
    (found / "run").mkdir()
    (found / "run" / "log.jsonl").write_text('{"event": "epoch", "epoch": 1}\n')
    return found


def hide(
    library: str, how: str, commands: list[str], folder: Path, error: str = "ImportError"
) -> list[list[object]]:
    """What commands end with where a library is not to be found, or what stands for it fails."""
    paths = [str(ROOT)]
    if how == "stub":
        stubs = folder / "stubs" / f"{library} {error}"
        stubs.mkdir(parents=True)
        (stubs / f"{library}.py").write_text(f"raise {error}('it is a stub')")
        paths.insert(0, str(stubs))
    task = json.dumps([library, how, [command.split() for command in commands]])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = run_python("-c", HIDING, task, cwd=folder, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.sampled
@pytest.mark.parametrize("library", COMMANDS)
def test_commands_say_in_one_line_what_to_install(library, folder):
    before = {path.name for path in folder.iterdir()}
    for command, (code, fault, said) in zip(
        COMMANDS[library], hide(library, "finder", COMMANDS[library], folder), strict=True
    ):
        assert (code, fault) == (1, ""), (command, code, fault, said)
        last = said.splitlines()[-1]
        assert tells(last, library, LIBRARIES[library]), (command, said)
        assert "Traceback" not in said and "fault" not in said
    assert {path.name for path in folder.iterdir()} - {"stubs"} == before - {"stubs"}


@pytest.mark.sampled
@pytest.mark.parametrize("error", ["ImportError", "OSError", "AttributeError"])
@pytest.mark.parametrize("library", ["onnxruntime", "jinja2", "torch"])
def test_what_is_installed_and_cannot_be_imported(library, error, folder, tmp_path):
    at = {"jinja2": (1,), "torch": (0, 2), "onnxruntime": (0,)}[library]
    commands = [COMMANDS[library][number] for number in at]
    for code, fault, said in hide(library, "stub", commands, folder, error):
        assert (code, fault) == (1, "") and tells(said, library, "it is a stub"), said
        assert "fault of ours" not in said


def test_what_a_library_needs_itself_is_told_with_it():
    """It was a fault of ours."""
    imports = compile(
        "raise ModuleNotFoundError(\"No module named 'dill'\", name='dill')", "a", "exec"
    )
    with pytest.raises(ModuleNotFoundError) as raised:
        exec(imports, {"__name__": "mindspore.common"})
    assert tells(explain_import(raised.value), "mindspore", "dill", LIBRARIES["mindspore"])
    with pytest.raises(ModuleNotFoundError) as raised:
        exec(imports, {"__name__": "mine"})
    assert explain_import(raised.value) is None


def test_every_library_is_in_an_extra():
    text = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[0].lower()
    names = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn"}
    lines = {"pvt-twins": text.partition("[project.optional")[0].partition("dependencies = [")[2]}
    for extra in ("train", "mindspore", "openvino", "hub", "serve", "torch"):
        lines[f"pvt-twins[{extra}]"] = text.partition(f"\n{extra} = [")[2].partition("]\n")[0]
    for library, package in LIBRARIES.items():
        held = lines.get(package, package).replace("_", "-")
        assert names.get(library, library).lower().replace("_", "-") in held, library


LIBRARY = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "mindspore", "onnxruntime"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
import convert, pvt_ms, pvt_onnx, pvt_torch
for package in (pvt_ms, pvt_torch, pvt_onnx):
    for name in ("load_forward", "create_model"):
        if name in package.__all__:
            try:
                getattr(package, name)("absent.ckpt")
            except ImportError as error:
                print(type(error).__name__, error)
    assert package.list_models()
"""


def test_programs_are_told_too():
    said = run_python("-c", LIBRARY).stdout.splitlines()
    for line, library in zip(
        said, ["mindspore"] * 2 + ["torch"] * 2 + ["onnxruntime"], strict=True
    ):
        assert tells(line, "LibraryMissing", library, LIBRARIES[library]), line
