"""The packages as a user's processes find them: among files of the same names, and installed."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from pvt_packages import PACKAGES
from tests.support.processes import ROOT, Ended, run_python


def run(folder: Path, *words: str, home: Path = ROOT) -> Ended:
    """Run Python in a folder that holds other files than the project's."""
    environment = {**os.environ, "PYTHONPATH": str(home)}
    return run_python(*words, cwd=folder, env=environment, check=False)


def put_in_the_way(folder: Path, name: str, kind: str) -> Path:
    """Write a file, or a package, that has a package's name; importing it is an error."""
    path = folder / (f"{name}.py" if kind == "file" else name)
    if kind == "package":
        path.mkdir()
    (path / "__init__.py" if kind == "package" else path).write_text("raise SystemError")
    return path


def refused(done: Ended, path: Path) -> bool:
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
        ("pvt_spec", "pvt_data.sources.digits"),
        ("pvt_data", "pvt_onnx"),
        ("pvt_torch", "parity"),
    ],
)
def test_a_file_in_the_way_is_named_in_one_line(
    hidden: str, module: str, kind: str, tmp_path: Path
) -> None:
    path = put_in_the_way(tmp_path, hidden, kind)
    assert refused(run(tmp_path, "-m", module, "--help"), path)


def test_every_package_looks_at_each_that_it_may_import(tmp_path: Path) -> None:
    for number, package in enumerate(PACKAGES):
        for hidden in PACKAGES[:number]:
            path = put_in_the_way(tmp_path, hidden, "file")
            assert refused(run(tmp_path, "-c", f"import {package}"), path)
            path.unlink()


def test_what_a_package_never_imports_is_not_in_its_way(tmp_path: Path) -> None:
    put_in_the_way(tmp_path, "parity", "file")
    put_in_the_way(tmp_path, "convert", "package")
    assert run(tmp_path, "-m", "pvt_onnx", "--help").returncode == 0


def test_a_folder_that_is_no_package_hides_nothing_installed(tmp_path: Path) -> None:
    (tmp_path / "pvt_data").mkdir()
    assert run(tmp_path, "-m", "pvt_onnx", "--help").returncode == 0


def test_a_program_can_catch_it_and_sees_its_other_errors_as_ever(tmp_path: Path) -> None:
    path = put_in_the_way(tmp_path, "convert", "file")
    program = (
        "try:\n    import pvt_torch\nexcept ImportError as error:\n"
        "    print(error.name, error.path)\n1 / 0\n"
    )
    done = run(tmp_path, "-c", program)
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
    done = run(tmp_path, Path(sys.executable).with_name(command), "--help")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of a copy of the repository and unpack it, as installing it does."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "repository"
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pvt_packages.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    done = run(copy, "-c", build, home=copy)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_a_wheel_holds_every_file_of_the_packages(installed: Path) -> None:
    for name in PACKAGES:
        expected = {
            path.relative_to(ROOT)
            for path in (ROOT / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        found = {path.relative_to(installed) for path in (installed / name).rglob("*.*")}
        assert expected <= found
    recipes = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    folder = installed / "pvt_train" / "configs"
    assert recipes == {path.relative_to(folder) for path in folder.rglob("*.yaml")}


RECIPE = Path("configs", "pvt", "pvt_tiny_ascend.yaml")


def train(folder: Path, recipe: str, home: Path) -> list[str]:
    """Return what a training says on stderr that ends because it has no images."""
    words = ("-m", "pvt_ms", "train", "--config", recipe, "--data_dir", "absent")
    done = run(folder, *words, home=home)
    assert done.returncode == 1 and done.stdout == ""
    assert "absent" in done.stderr.splitlines()[-1]
    return done.stderr.splitlines()


@pytest.mark.parametrize("written", [str(RECIPE), f"./{RECIPE}"])
def test_the_recipes_are_found_where_they_are_installed(
    written: str, installed: Path, tmp_path: Path
) -> None:
    taken = str(installed / "pvt_train" / RECIPE)
    assert taken in train(tmp_path, written, installed)[0]


def test_the_recipes_of_the_repository_are_found_from_elsewhere(tmp_path: Path) -> None:
    assert str(ROOT / RECIPE) in train(tmp_path, str(RECIPE), ROOT)[0]


def test_a_recipe_of_this_folder_comes_first(installed: Path, tmp_path: Path) -> None:
    (tmp_path / RECIPE).parent.mkdir(parents=True)
    (tmp_path / RECIPE).write_text("model: pvt_nano\n")
    assert str(RECIPE) not in "".join(train(tmp_path, str(RECIPE), installed))


@pytest.mark.parametrize("recipe", ["configs/pvt/absent.yaml", "pvt/pvt_tiny_ascend.yaml"])
def test_other_names_are_not_looked_for_elsewhere(
    recipe: str, installed: Path, tmp_path: Path
) -> None:
    words = ("-m", "pvt_ms", "train", "--config", recipe)
    done = run(tmp_path, *words, home=installed)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: {recipe}: ")
    assert str(installed) not in done.stderr
