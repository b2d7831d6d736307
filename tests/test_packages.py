"""The packages in a folder where other files have their names, as the processes of users see it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pvt_packages import PACKAGES

ROOT = Path(__file__).parents[1]


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in a folder that holds other files than the project's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def put_in_the_way(folder: Path, name: str, kind: str) -> Path:
    """Write a file, or a package, that has a package's name; importing it is an error."""
    path = folder / (f"{name}.py" if kind == "file" else name)
    if kind == "package":
        path.mkdir()
    (path / "__init__.py" if kind == "package" else path).write_text("raise SystemError")
    return path


def refused(done: "subprocess.CompletedProcess[str]", path: Path) -> bool:
    """Tell whether a process ended with one line, which names what is in the way."""
    return (
        done.returncode == 1
        and done.stdout == ""
        and done.stderr.count("\n") == 1
        and done.stderr.startswith(f"{path} ")
        and "pvt-convert" in done.stderr
    )


@pytest.mark.parametrize("kind", ["file", "package"])
@pytest.mark.parametrize(
    ("hidden", "module"),
    [
        ("convert", "pvt_ms"),
        ("convert", "pvt_torch"),
        ("convert", "pvt_train"),
        ("convert", "parity"),
        ("pvt_spec", "convert"),
        ("pvt_spec", "pvt_onnx"),
        ("pvt_spec", "pvt_data.digits"),
        ("pvt_data", "pvt_onnx"),
        ("pvt_torch", "parity"),
    ],
)
def test_a_file_in_the_way_is_named_in_one_line(
    hidden: str, module: str, kind: str, tmp_path: Path
) -> None:
    path = put_in_the_way(tmp_path, hidden, kind)
    assert refused(run(tmp_path, sys.executable, "-m", module, "--help"), path)


def test_every_package_looks_at_each_that_it_may_import(tmp_path: Path) -> None:
    for number, package in enumerate(PACKAGES):
        for hidden in PACKAGES[:number]:
            path = put_in_the_way(tmp_path, hidden, "file")
            assert refused(run(tmp_path, sys.executable, "-c", f"import {package}"), path)
            path.unlink()


def test_what_a_package_never_imports_is_not_in_its_way(tmp_path: Path) -> None:
    put_in_the_way(tmp_path, "parity", "file")
    put_in_the_way(tmp_path, "convert", "package")
    assert run(tmp_path, sys.executable, "-m", "pvt_onnx", "--help").returncode == 0


def test_a_folder_that_is_no_package_hides_nothing_installed(tmp_path: Path) -> None:
    (tmp_path / "pvt_data").mkdir()
    assert run(tmp_path, sys.executable, "-m", "pvt_onnx", "--help").returncode == 0


def test_a_program_can_catch_it_and_sees_its_other_errors_as_ever(tmp_path: Path) -> None:
    path = put_in_the_way(tmp_path, "convert", "file")
    program = (
        "try:\n    import pvt_torch\nexcept ImportError as error:\n"
        "    print(error.name, error.path)\n1 / 0\n"
    )
    done = run(tmp_path, sys.executable, "-c", program)
    assert done.stdout.split() == ["convert", str(path)]
    assert done.stderr.startswith("Traceback") and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "convert",
        "parity",
        "pvt-convert",
        "pvt-parity",
        "pvt-ms",
        "pvt-onnx",
        "pvt-torch",
        "pvt-train",
    ],
)
def test_the_installed_commands_work_there(command: str, tmp_path: Path) -> None:
    for package in PACKAGES:
        put_in_the_way(tmp_path, package, "file")
    done = run(tmp_path, str(Path(sys.executable).with_name(command)), "--help")
    assert done.returncode == 0, done.stderr
