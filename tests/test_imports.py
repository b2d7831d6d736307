"""Who may import whom (DESIGN.md), in the source and in a process without any framework."""

import ast
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED: dict[str, set[str]] = {
    "pvt_spec": set(),
    "pvt_train": {"numpy", "PIL", "yaml", "click", "rich", "pvt_spec"},
    "pvt_onnx": {"numpy", "onnx", "onnxruntime", "google.protobuf", "click", "pvt_spec"},
    "convert": {
        "numpy",
        "ml_dtypes",
        "onnx",
        "google.protobuf",
        "click",
        "pvt_spec",
        "pvt_onnx.graph.build",
        "pvt_onnx.graph.model",
        "pvt_onnx.session",
    },
    "pvt_torch": {"torch", "numpy", "click", "pvt_spec", "pvt_train", "convert"},
    "pvt_ms": {"mindspore", "numpy", "click", "pvt_spec", "pvt_train", "convert"},
    "parity": {
        "numpy",
        "click",
        "pvt_spec",
        "convert",
        "pvt_onnx",
        "pvt_torch",
        "pvt_ms",
    },
}
"""What a package may import beside the standard library and itself."""

ALSO: dict[str, set[str]] = {
    "pvt_spec.arrays": {"numpy"},
    "pvt_data.preprocessing": {"numpy", "PIL"},
    "pvt_data.accuracy": {"numpy"},
    "pvt_data.folders": {"numpy"},
    "pvt_data.command_line": {"click"},
    "pvt_train.input.decoding": {"simplejpeg"},
    "pvt_data.digits": {"sklearn"},
    "pvt_train.run.log": {"tensorboardX"},
    "pvt_train.run.plot": {"matplotlib"},
    "parity.runtimes.table": {"mindspore", "torch", "onnx", "onnxruntime"},
}
"""What one module of a package may import in addition."""

LAZY: dict[str, set[str]] = {
    "parity": {"pvt_ms", "pvt_torch", "pvt_onnx"},
    "convert": {"onnx", "pvt_onnx"},
    "convert.command_line": {"numpy"},
    "parity.command_line": {"numpy"},
    "parity.options": {"numpy"},
    "parity.runtimes.table": {"mindspore", "torch", "onnx", "onnxruntime"},
    "pvt_ms.command_line": {"numpy", "mindspore"},
    "pvt_onnx.command_line": {"numpy", "onnx", "onnxruntime"},
    "pvt_data.command_line": {"numpy"},
    "pvt_torch.command_line": {"numpy", "torch"},
    "pvt_train.command_line": {"numpy", "yaml"},
    "pvt_train.run.log": {"tensorboardX"},
    "pvt_train.run.plot": {"matplotlib"},
    "pvt_train.recipe.keys": {"numpy", "yaml", "click"},
    "pvt_train.recipe.options": {"numpy", "yaml"},
}
"""What may be imported inside functions only, so that importing the module stays cheap."""

FRAMEWORKS = ("mindspore", "torch")

PROGRAMS = ("convert", "parity", "pvt_ms", "pvt_onnx", "pvt_torch", "pvt_train")


# --- in the source


@dataclass(frozen=True)
class Import:
    name: str
    line: int
    inside: bool


def imports(source: str) -> Iterator[Import]:
    """Every import of a module, but for those that only a type checker sees."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from walk(child, inside)
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where a name comes from"
            # Of "from a import b", b may be a module: "a.b" is within what "a" is allowed.
            yield Import(node.module or "", node.lineno, inside)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(ast.parse(source), inside=False)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def violations(module: str, source: str) -> list[str]:
    """One line for every import that the tables forbid."""
    package = module.partition(".")[0]
    allowed = ALLOWED[package] | ALSO.get(module, set()) | {package}
    lazy = LAZY.get(package, set()) | LAZY.get(module, set())
    found = []
    for each in imports(source):
        if each.name.partition(".")[0] in sys.stdlib_module_names:
            continue
        if not within(each.name, allowed):
            found.append(f"{module}:{each.line} may not import {each.name}")
        elif not each.inside and within(each.name, lazy - {package}):
            found.append(f"{module}:{each.line} may import {each.name} inside functions only")
    return found


def modules(package: str) -> dict[str, Path]:
    """Module name -> file, of a whole package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_what_they_may(package: str) -> None:
    files = modules(package)
    assert len(files) > 2
    found = [line for name, path in files.items() for line in violations(name, path.read_text())]
    assert found == []


def test_every_package_has_its_rules() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"benchmarks", "tests"} == set(ALLOWED)


def test_exceptions_are_for_modules_that_exist() -> None:
    names = {name for package in ALLOWED for name in modules(package)}
    assert {*ALSO, *LAZY} <= names


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (
            "convert.formats.pth.file",
            "import torch",
            "convert.formats.pth.file:1 may not import torch",
        ),
        (
            "convert.formats.pth.file",
            "import torch.nn as nn",
            "convert.formats.pth.file:1 may not import torch.nn",
        ),
        (
            "convert.formats.ckpt",
            "def f():\n    from mindspore import nn",
            "convert.formats.ckpt:2 may not import mindspore",
        ),
        (
            "convert.formats.ckpt",
            "import pvt_onnx.graph.operators",
            "convert.formats.ckpt:1 may not import pvt_onnx.graph.operators",
        ),
        (
            "convert.formats.ckpt",
            "try:\n    import torch\nexcept ImportError:\n    pass",
            "convert.formats.ckpt:2 may not import torch",
        ),
        ("pvt_spec.config", "import numpy as np", "pvt_spec.config:1 may not import numpy"),
        (
            "pvt_onnx.graph.model",
            "from convert import ckpt",
            "pvt_onnx.graph.model:1 may not import convert",
        ),
        ("pvt_torch.model", "import mindspore", "pvt_torch.model:1 may not import mindspore"),
        (
            "pvt_train.run.loop",
            "from pvt_ms import model",
            "pvt_train.run.loop:1 may not import pvt_ms",
        ),
        (
            "parity.runtimes.table",
            "import pvt_ms",
            "parity.runtimes.table:1 may import pvt_ms inside functions only",
        ),
        (
            "convert.model.write",
            "from pvt_onnx.graph.build import write",
            "convert.model.write:1 may import pvt_onnx.graph.build inside functions only",
        ),
        (
            "convert.command_line",
            "import numpy",
            "convert.command_line:1 may import numpy inside functions only",
        ),
    ],
)
def test_forbidden_imports_are_found(module: str, source: str, message: str) -> None:
    assert violations(module, source) == [message]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("convert.model.write", "def save():\n    from pvt_onnx.graph.build import write"),
        ("pvt_data.preprocessing", "import numpy\nfrom PIL import Image\nimport json"),
        ("parity.runtimes.table", "def open_torch():\n    import pvt_torch"),
        ("pvt_torch.model", "from torch.nn import functional"),
        ("pvt_onnx.command_line", "if TYPE_CHECKING:\n    from convert import anything"),
    ],
)
def test_allowed_imports_are_left_alone(module: str, source: str) -> None:
    assert violations(module, source) == []


# --- in a process

BLOCKED = """
import importlib, json, runpy, sys

blocked, modules, arguments = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for module in modules:
    importlib.import_module(module)
if arguments:
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
print()
print(json.dumps(sorted(sys.modules)))
"""


def loaded(
    *, modules: list[str] | None = None, arguments: list[str] | None = None, path: Path = ROOT
) -> set[str]:
    """What is in ``sys.modules`` of a process without frameworks after importing, or running.

    Raises:
        AssertionError: Something asked for a framework, or failed.
    """
    task = json.dumps([FRAMEWORKS, modules or [], arguments or []])
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, task],
        cwd=path,
        env={"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def needing_no_framework() -> list[str]:
    packages = ("pvt_spec", "pvt_train", "pvt_onnx", "convert", "parity")
    names = [name for package in packages for name in modules(package)]
    names += ["pvt_ms", "pvt_ms.command_line", "pvt_torch", "pvt_torch.command_line"]
    return [name for name in names if not name.endswith("__main__")]


def test_everything_but_the_two_twins_can_be_imported_without_frameworks() -> None:
    names = needing_no_framework()
    assert {
        "convert.formats.pth.file",
        "convert.formats.ckpt",
        "parity.runtimes.table",
        "pvt_onnx.session",
    } <= set(names)
    found = loaded(modules=names)
    assert set(names) <= found
    assert not found & {*FRAMEWORKS, "pvt_ms.model", "pvt_torch.model"}


def commands() -> list[list[str]]:
    """Every command of every program, asked for its help."""
    import importlib

    asked = []
    for program in PROGRAMS:
        main = importlib.import_module(f"{program}.command_line").main
        asked += [[program, "--help"], *([program, name, "--help"] for name in main.commands)]
    return asked


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_help_needs_no_framework_and_loads_no_numpy(arguments: list[str]) -> None:
    found = loaded(arguments=arguments)
    assert "click" in found
    assert not found & {*FRAMEWORKS, "numpy", "onnx", "onnxruntime", "PIL"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "source", ["import {}", "def f():\n    import {}\nf()", "__import__('{}')", "from {} import nn"]
)
def test_a_module_that_imports_a_framework_is_caught(
    framework: str, source: str, tmp_path: Path
) -> None:
    (tmp_path / "offender.py").write_text(source.format(framework))
    with pytest.raises(AssertionError, match=f"{framework} is blocked"):
        loaded(modules=["offender"], path=tmp_path)


def test_an_import_that_is_swallowed_is_still_seen_in_the_source() -> None:
    """The blocked process would not notice it; the table does."""
    source = "try:\n    import torch\nexcept ImportError:\n    torch = None"
    assert violations("parity.measure.compare", source) == [
        "parity.measure.compare:2 may not import torch"
    ]


def test_the_walk_sees_every_module() -> None:
    for package in ALLOWED:
        names = {m.name for m in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")}
        assert names | {package} == set(modules(package))
