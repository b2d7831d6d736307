"""The steps of ``action.yml``, run as a runner does: by bash, with inputs in the environment."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from convert import load_model, save_model
from parity.command_line import main
from tests.support.commands import invoke
from tests.support.models import SMALL, enlarge, info_of, random_weights
from tests.support.processes import ROOT, run_python

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}


class Runner:
    """What a runner does with the steps, in a workspace of its own."""

    def __init__(self, workspace: Path, **inputs: str):
        self.workspace, self.output = workspace, workspace / "output.txt"
        self.summary = workspace / "summary.md"
        given = {name: said.get("default", "") for name, said in ACTION["inputs"].items()}
        self.context = {f"inputs.{name}": value for name, value in {**given, **inputs}.items()}
        self.context["github.action_path"] = str(ROOT)

    def step(self, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs one."""
        step = STEPS[name]
        told = {
            key: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: self.context[found[1]], text)
            for key, text in step["env"].items()
        }
        found = {"GITHUB_OUTPUT": self.output, "GITHUB_STEP_SUMMARY": self.summary}
        found |= {"GITHUB_WORKSPACE": self.workspace, "RUNNER_TEMP": self.workspace}
        # As setup-python leaves it: "python" is the one that has our packages.
        found["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        found["PYTHONPATH"] = ROOT
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.workspace,
            env={**os.environ, **found, **told, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def parity(self) -> tuple[dict[str, str], str]:
        """Runs the step of that name; returns what it leaves to the next, and what it prints."""
        done = self.step("Parity")
        assert done.returncode == 0, done.stderr
        left = dict(line.split("=", 1) for line in self.output.read_text().splitlines())
        self.context |= {f"steps.parity.outputs.{name}": value for name, value in left.items()}
        return left, done.stdout + done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("action")
    model = folder / "a model.safetensors"
    save_model(model, random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    weights, info = load_model(model)
    save_model(folder / "other.onnx", enlarge(weights, "head.weight"), info)
    options = ("--runtime", "onnxruntime", "--taps", "logits", "--random", "1")
    done = invoke(main, "certify", model, "-o", folder / "port.json", *options)
    assert done.exit_code == 0, done.output
    return folder


def workspace(files: Path, folder: Path) -> Path:
    for path in files.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_inputs_are_in_no_script():
    for step in STEPS.values():
        assert "${{" not in step["run"] and step["shell"] == "bash"
    assert {*ACTION["outputs"]} == {"code", "junit"}


def test_verified_files_pass_and_others_are_annotated(files, tmp_path):
    told = {"command": "verify", "certificate": "port.json"}
    good = Runner(workspace(files, tmp_path), files="a model.safetensors\n", **told)
    left, _ = good.parity()
    assert left["code"] == "0" and Path(left["junit"]).exists()
    done = good.step("Annotate")
    assert done.returncode == 0 and "::error" not in done.stdout
    good.output.unlink()
    bad = Runner(tmp_path, files="a model.safetensors\n\nother.onnx\r\n", **told)
    left, _ = bad.parity()
    assert left["code"] == "1"
    done = bad.step("Annotate")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("::error"))
    assert done.returncode == 1 and "file=other.onnx" in line and "head.weight" in line
    assert "other.onnx" in bad.summary.read_text()


def test_a_run_names_the_first_tap(files, tmp_path):
    options = "--taps\nlogits\n--random\n1\n--runtime\nonnxruntime"
    names = "a model.safetensors\nother.onnx"
    runner = Runner(workspace(files, tmp_path), files=names, arguments=options)
    left, printed = runner.parity()
    assert left["code"] == "1" and "DIFFERENT" in printed
    done = runner.step("Annotate")
    assert done.returncode == 1 and "logits" in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert errors and all("onnxruntime other.onnx" in line for line in errors)


OF_LATER_BASHES = (
    r"\b(mapfile|readarray|coproc)\b|\b(declare|local|typeset) -[\w]*[Ang]|&>>|\|&"
    r"|\$\{\w+(\[@\])?(\^|,|@[A-Za-z])"
)
"""What bash 3.2 has not, as macOS has it."""


def test_a_script_has_nothing_of_a_bash_after_that_of_macos():
    assert re.search(OF_LATER_BASHES, "mapfile -t files < <(lines)")
    for step in STEPS.values():
        assert not re.search(OF_LATER_BASHES, step["run"])


def test_it_runs_where_bash_has_no_mapfile(files, tmp_path):
    (tmp_path / "older").write_text("enable -n mapfile readarray\n")
    told = {"command": "verify", "certificate": "port.json"}
    runner = Runner(workspace(files, tmp_path), files="a model.safetensors", **told)
    runner.step = partial(runner.step, BASH_ENV=str(tmp_path / "older"))
    left, printed = runner.parity()
    assert left["code"] == "0" and "a model.safetensors" in printed


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize("arguments", ["--help", "--junit\n100%0A.xml\r"])
def test_what_gives_no_verdict_fails_and_says_what_was_asked(command, arguments, files, tmp_path):
    told = {"command": command, "certificate": "port.json", "arguments": arguments}
    if command == "run":
        told["arguments"] += "\n--taps\nlogits\n--random\n1\n--runtime\nonnxruntime"
    runner = Runner(workspace(files, tmp_path), files="a model.safetensors", **told)
    left, printed = runner.parity()
    (line,) = (each for each in printed.splitlines() if each.startswith("::error"))
    assert arguments.split("\n")[0] in line and "verdict" in line and "%0A" not in line
    assert left == {"code": "2", "junit": ""}
    assert runner.step("Annotate").returncode == 2


def test_nothing_of_an_input_is_run_or_obeyed(files, tmp_path):
    words = ("--html=owned.html", "$(touch owned)", "`touch owned`", ";touch owned", "::debug::a")
    hostile = "\n".join(words)
    runner = Runner(workspace(files, tmp_path), command="run", files=hostile)
    left, printed = runner.parity()
    assert left["code"] == "1" and left["junit"] == ""
    assert not [path for path in tmp_path.iterdir() if "owned" in path.name]
    first, last = printed.index("::stop-commands::"), printed.rindex("::")
    assert first < last
    done = runner.step("Annotate")
    assert done.returncode == 1 and "exit code 1" in done.stdout
    for inputs in ({"command": "run; touch owned"}, {"command": "capture"}):
        done = Runner(tmp_path, files="a", **inputs).step("Parity")
        assert done.returncode == 2 and "::error" in done.stdout
    for extras in ("torch]; touch owned", "torch'", "A", "../x"):
        assert Runner(tmp_path, files="a", extras=extras).step("Install").returncode == 2
    assert not (tmp_path / "owned").exists()


def test_a_package_of_the_repository_is_not_run_in_its_place(files, tmp_path):
    place = workspace(files, tmp_path)
    (place / "parity").mkdir()
    (place / "parity/__init__.py").write_text("")
    (place / "parity/__main__.py").write_text("raise SystemExit(0)")
    told = {"command": "verify", "certificate": "port.json"}
    left, _ = Runner(place, files="port.json", **told).parity()
    assert left["code"] == "1"


def test_it_installs_itself_with_the_extras(tmp_path):
    stub = tmp_path / "bin/python"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    found = {"PATH": f"{stub.parent}:{os.environ['PATH']}"}
    for extras, asked in (("torch,mindspore", f"{ROOT}[torch,mindspore]"), ("", str(ROOT))):
        done = Runner(tmp_path, files="a", extras=extras).step("Install", **found)
        assert done.returncode == 0 and done.stdout.splitlines()[-1] == asked


def test_an_annotation_is_one_command_whatever_a_file_says(tmp_path):
    report, table = tmp_path / "junit.xml", tmp_path / "summary.md"
    cases = (f'<testcase name="{i}"><failure>x%\n::a::y</failure></testcase>' for i in range(12))
    report.write_text(
        f'<testsuites><testsuite name="a:b,c" tests="12" failures="12">{"".join(cases)}'
        "<system-out>|&lt;b&gt;</system-out></testsuite></testsuites>"
    )
    done = run_python(ROOT / ".ci/annotate.py", report, table)
    lines = done.stdout.splitlines()
    assert len(lines) == 10 and all(line.startswith("::error ") for line in lines)
    assert "title=a%3Ab%2Cc%3A 0::x%25%0A::a::y" in lines[0] and "3 more" in lines[-1]
    assert "<b>" not in table.read_text() and table.read_text().count("\n") == 3
