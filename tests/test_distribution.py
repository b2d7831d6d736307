"""What is given to others: wheel and sdist, the site, licence and citation, and the version."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from pvt_packages import LIBRARIES, PACKAGES
from tests.support.models import info_of, random_weights
from tests.support.processes import ROOT, run_python

PROGRAMS = ("convert", "parity", "pvt_ms", "pvt_onnx", "pvt_torch", "pvt_train")
MANIFEST = ("pvt_packages.py", "setup.py", "pyproject.toml", "MANIFEST.in", "constraints.txt")
DOCUMENTS = ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_says_its_version(program: str) -> None:
    main = import_module(f"{program}.command_line").main
    words = [[], *([name] for name in main.list_commands(click.Context(main)))]
    for each in words:
        done = CliRunner().invoke(main, [*each, "--version"], prog_name=program)
        assert done.exit_code == 0
        assert done.output == f"{program}, of pvt-twins {version('pvt-twins')}\n"


def test_the_citation_is_of_this_version_and_licence() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == version("pvt-twins")
    assert cited["license"] == "Apache-2.0" and cited["cff-version"] == "1.2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


# --- long: what is built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what ``make dist`` makes of a copy of the repository."""
    copy = tmp_path_factory.mktemp("dist") / "repository"
    unwanted = shutil.ignore_patterns("__pycache__", "generated")
    for name in (*PACKAGES, "configs", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    for name in (*MANIFEST, *DOCUMENTS):
        shutil.copy(ROOT / name, copy)
    run_python("-m", "build", "--no-isolation", "--outdir", copy.parent / "dist", cwd=copy)
    return copy.parent / "dist"


@pytest.mark.long
def test_wheel_and_sdist_are_complete_and_small(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert wheel.stat().st_size < 2e6 and sdist.stat().st_size < 2e6
    code = {
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    assert code <= in_wheel
    assert not [name for name in in_wheel if name.startswith(("tests/", "benchmarks/", "docs/"))]
    assert any(name.endswith("licenses/LICENSE") for name in in_wheel)
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert code | {*MANIFEST, *DOCUMENTS, "docs/index.md", "docs/conf.py"} <= in_sdist
    assert not [name for name in in_sdist if name.startswith("tests/")]


def requirements(built: Path) -> list[str]:
    """The ``Requires-Dist`` of the wheel."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    return metadata.get_all("Requires-Dist") or []


@pytest.mark.long
def test_every_library_is_required_by_the_extra_that_is_named_for_it(built: Path) -> None:
    names = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn"}
    required = [row.lower().replace("_", "-") for row in requirements(built)]
    for library, wanted in LIBRARIES.items():
        extra = re.search(r"\[(\w+)\]", wanted)
        name = names.get(library, library).lower().replace("_", "-")
        if wanted.startswith("pvt-twins"):
            rows = [row for row in required if re.match(rf"{name}\b(?!-)", row)]
            assert any(
                (f'extra == "{extra[1]}"' in row) if extra else "extra" not in row for row in rows
            ), library


class Fresh:
    """An environment without anything but a wheel."""

    def __init__(self, folder: Path, wheel: Path):
        self.folder, self.wheel = folder, wheel
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.install("")

    def install(self, extra: str) -> None:
        """Installs the wheel with an extra, at the versions that are tested."""
        what = f"{self.wheel}{extra and f'[{extra}]'}"
        words = ("-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"))
        subprocess.run([self.folder / "venv/bin/python", *words, what], check=True)

    def run(self, *words: str, code: int = 0) -> str:
        """Returns what a command prints, on either stream."""
        program = self.folder / "venv/bin" / words[0]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [program, *words[1:]], cwd=self.folder, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def fresh(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """The wheel without extras, a model and a bundle of its reference."""
    from convert import save_model
    from pvt_spec import make_config

    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("fresh")
    config = make_config("pvt_nano")
    save_model(folder / "m.ckpt", random_weights(config), info_of(config, "mindcv"))
    run_python(
        "-m", "parity", "capture", folder / "m.ckpt", "--runtime", "reference",
        "-o", folder / "reference.npz",
    )  # fmt: skip
    Image.new("RGB", (40, 30), "teal").save(folder / "teal.png")
    return Fresh(folder, wheel)


@pytest.mark.long
def test_the_wheel_alone_converts_answers_and_compares(fresh: Fresh) -> None:
    assert version("pvt-twins") in fresh.run("convert", "--version")
    assert "mindcv" in fresh.run("convert", "m.ckpt", "m.onnx")
    fresh.run("convert", "m.onnx", "back.ckpt")
    fresh.run("convert", "inspect", "m.ckpt", "--diff", "back.ckpt")
    assert "teal.png" in fresh.run("pvt-onnx", "predict", "m.onnx", "teal.png")
    fresh.run("parity", "capture", "m.onnx", "--runtime", "onnxruntime", "-o", "ours.npz")
    assert "same" in fresh.run("parity", "compare", "reference.npz", "ours.npz")


EXTRAS = {
    "openvino": (["pvt-onnx", "predict", "m.onnx", "teal.png", "--engine", "openvino"], "teal.png"),
    "serve": (["pvt-onnx", "serve", "absent.onnx"], "absent.onnx"),
    "train": (["pvt-train", "plot", "absent"], "absent"),
}
"""An extra -> a command that needs it, and what that says where the extra is there.

Those of the frameworks, which are large, are in the environment of all other tests.
"""


@pytest.mark.long
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_it_names(extra: str, fresh: Fresh) -> None:
    words, said = EXTRAS[extra]
    assert f"pvt-twins[{extra}]" in fresh.run(*words, code=1)
    fresh.install(extra)
    code = 0 if said == "teal.png" else 1
    after = fresh.run(*words, code=code)
    assert said in after and "pvt-twins[" not in after
    libraries = [name for name, wanted in LIBRARIES.items() if wanted.endswith(f"[{extra}]")]
    fresh.run("python", "-c", f"import {', '.join(libraries)}")


@pytest.mark.long
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = ("--fail-on-warning", "--nitpicky", "--quiet", "--builder", "html")
    run_python(
        "-m", "sphinx", *words, "--doctree-dir", tmp_path / "trees", "docs", tmp_path / "site"
    )
    pages = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html")}
    for program in PROGRAMS:
        assert Path("generated/commands", f"{program.replace('_', '-')}.html") in pages
    text = (tmp_path / "site/generated/commands/pvt-onnx.html").read_text()
    assert "--min-agreement" in text and "--max-delay" in text
    assert "pvt_torch.create_model" in (tmp_path / "site/generated/api/pvt_torch.html").read_text()
    run = (tmp_path / "site/tutorials/pth-to-ascend.html").read_text()
    assert "Not run by the tests: needs CANN" in run
