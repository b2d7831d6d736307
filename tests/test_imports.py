"""What a process loads: no framework where none is needed, nothing heavy for a page of help.

Who may import whom is held by the contracts in ``pyproject.toml`` (``make lint``).
"""

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.messages import naming
from tests.support.processes import ROOT, run_blocked

FRAMEWORKS = ("mindspore", "torch")

PACKAGES = (
    "pvt_spec",
    "pvt_data",
    "pvt_onnx",
    "convert",
    "pvt_train",
    "pvt_ms",
    "pvt_torch",
    "parity",
)

PROGRAMS = ("convert", "parity", "pvt_ms", "pvt_onnx", "pvt_torch", "pvt_train")


def modules(package: str) -> dict[str, Path]:
    """Module name -> file, of a whole package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def needing_no_framework() -> list[str]:
    packages = ("pvt_spec", "pvt_data", "pvt_train", "pvt_onnx", "convert", "parity")
    names = [name for package in packages for name in modules(package)]
    names += ["pvt_ms", "pvt_ms.command_line", "pvt_torch", "pvt_torch.command_line"]
    return [name for name in names if not name.endswith("__main__")]


def test_everything_but_the_two_twins_can_be_imported_without_frameworks() -> None:
    names = needing_no_framework()
    assert {
        "convert.formats.pth.file",
        "convert.formats.ckpt",
        "parity.runtimes.table",
        "pvt_onnx.engines.session",
    } <= set(names)
    found = run_blocked(FRAMEWORKS, names)[0]
    assert set(names) <= found
    assert not found & {*FRAMEWORKS, "pvt_ms.model", "pvt_torch.model"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_needs_no_framework_and_loads_no_numpy(program: str) -> None:
    """One process for all commands of a program: none may load it."""
    main = importlib.import_module(f"{program}.command_line").main
    pages = [[program, "--help"], *([program, name, "--help"] for name in main.commands)]
    found = run_blocked(FRAMEWORKS, commands=pages)[0]
    assert "click" in found
    assert not found & {*FRAMEWORKS, "numpy", "onnx", "onnxruntime", "PIL", "yaml"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "source", ["import {}", "def f():\n    import {}\nf()", "__import__('{}')", "from {} import nn"]
)
def test_a_module_that_imports_a_framework_is_caught(
    framework: str, source: str, tmp_path: Path
) -> None:
    (tmp_path / "offender.py").write_text(source.format(framework))
    with pytest.raises(AssertionError, match=naming(framework)):
        run_blocked(FRAMEWORKS, ["offender"], path=tmp_path)


FORBIDDEN = {
    "pvt_spec/errors.py": "import convert",
    "pvt_spec/config.py": "import click",
    "pvt_data/answers/accuracy.py": "import sklearn",
    "pvt_onnx/graph/model.py": "from convert.formats import ckpt",
    "convert/formats/pth/file.py": "import torch.nn as nn",
    "convert/formats/ckpt.py": "import pvt_onnx.graph.operators",
    "convert/formats/onnx/file.py": "def late():\n    import onnx",
    "pvt_train/run/loop.py": "from pvt_ms import model",
    "pvt_ms/weights.py": "import ml_dtypes",
    "pvt_torch/runtime.py": "import pvt_ms",
    "pvt_torch/model.py": "def late():\n    from mindspore import nn",
    "parity/measure/compare.py": "try:\n    import torch\nexcept ImportError:\n    torch = None",
    "parity/inputs/samples.py": "from PIL import Image",
}
"""File -> lines that break a contract when they are added to it."""

LAZY = {
    "convert": {"onnx", "pvt_onnx.graph.build", "pvt_onnx.engines.session"},
    "parity": {
        "onnx",
        "onnxruntime",
        "pvt_onnx.engines.session",
        "pvt_ms.model",
        "pvt_torch.model",
    },
    "pvt_data": {"rich", "sklearn"},
    "pvt_train": {"matplotlib", "rich", "tensorboardX", "yaml"},
}
"""Package -> what its modules import inside functions only, so that importing them stays cheap."""


@pytest.mark.parametrize("package", LAZY)
def test_importing_a_package_stays_cheap(package: str) -> None:
    names = [name for name in modules(package) if not name.endswith("__main__")]
    found = run_blocked(FRAMEWORKS, names)[0]
    assert set(names) <= found
    assert not found & LAZY[package]


def test_the_help_of_convert_needs_no_numpy() -> None:
    run_blocked(["numpy"], ["convert.command_line"], [["convert", "--help"]])


def test_every_package_is_under_contract() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"benchmarks", "tests"} == set(PACKAGES)
    contracts = (ROOT / "pyproject.toml").read_text().partition("root_packages = [")[2]
    assert {name.strip(' ",\n') for name in contracts.partition("]")[0].split(",")} - {""} == set(
        PACKAGES
    )


def lint_imports(folder: Path) -> str:
    """Return what import-linter says of a copy of the packages."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_contracts_see_what_breaks_them(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, lines in FORBIDDEN.items():
        with (tmp_path / name).open("a") as file:
            file.write(f"\n{lines}\n")
    said = lint_imports(tmp_path)
    for name in FORBIDDEN:
        module = name.removesuffix(".py").replace("/", ".")
        assert re.search(rf"^-? *{re.escape(module)} -> ", said, re.MULTILINE), module


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_tests_import_support_and_benchmarks_each_other_alone() -> None:
    tests, benchmarks = (sorted((ROOT / name).rglob("*.py")) for name in ("tests", "benchmarks"))
    assert tests and benchmarks
    for path in tests:
        ours = {name for name in imported(path) if name.startswith(("tests.", "benchmarks"))}
        assert {name for name in ours if not name.startswith("tests.support.")} == set(), path
    for path in benchmarks:
        assert not {name for name in imported(path) if name.startswith("tests")}, path


def test_the_walk_sees_every_module() -> None:
    for package in PACKAGES:
        names = {m.name for m in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")}
        assert names | {package} == set(modules(package))


@pytest.mark.parametrize("package", ["convert", "pvt_ms", "pvt_onnx", "pvt_torch"])
def test_a_package_lists_what_it_exports(package: str) -> None:
    module = importlib.import_module(package)
    assert {*module.__all__, "__doc__"} <= {*dir(module)}
