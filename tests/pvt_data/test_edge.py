"""How a command ends where nobody foresaw it, on Ctrl-C, and where its output goes nowhere."""

import dataclasses
import errno
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NoReturn

import pytest

from convert import load_model, save_model
from pvt_data import edge as edge_module
from pvt_data.command_line import Commands
from pvt_data.edge import SIGNALS
from pvt_spec import profile_numerics
from pvt_spec.files import locks, replacing
from tests.support.commands import invoke
from tests.support.models import GOLDEN
from tests.support.processes import ROOT, launch_environment, run_python

MODEL = GOLDEN / "model_info/format_2.ckpt"
TRAINED = GOLDEN / "trained_v1_small.safetensors"

LONG = pytest.mark.long

PROGRAMS = ("convert", "parity", "pvt_ms", "pvt_onnx", "pvt_torch", "pvt_train")


def raising(error: BaseException) -> Commands:
    """A program whose one command, of the name "it", ends in this."""

    def it() -> NoReturn:
        raise error

    group = Commands()
    group.command()(it)
    return group


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that reports go to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"), RecursionError(), OSError(errno.EPIPE, "Broken pipe"), AssertionError(),
        EOFError(), UnicodeEncodeError("ascii", "é", 0, 1, "no"), RuntimeError("a\nb\x1b[2J" * 99),
    ],
    ids=repr,
)  # fmt: skip
def test_what_nobody_foresaw_is_one_line_and_a_report(
    error: Exception, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush-hush")
    monkeypatch.setattr(sys, "argv", ["convert", "some file", "b"])
    done = invoke(raising(error), "it")
    assert done.exit_code == 70 and done.stdout == ""
    (report,) = reports.iterdir()
    assert "fault of ours" in done.stderr and str(report) in done.stderr
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr and len(done.stderr) < 600
    text = report.read_text()
    assert "hush" not in text and "'some file'" in text and "numpy 1" in text
    assert "Traceback" in text and f"in it\n    raise error\n{type(error).__name__}" in text


def test_a_report_that_cannot_be_written_leaves_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    done = invoke(raising(KeyError("x")), "it")
    assert done.exit_code == 70 and "test_edge.py:" in done.stderr
    assert done.stderr.count("\n") == 1 and "KeyError: 'x'" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "memory"),
        (OSError(errno.ENOMEM, "x"), 1, "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), 1, "memory"),
        (PermissionError(errno.EACCES, "no entry", "a\nfile"), 1, "a\\nfile: no entry"),
        (OSError(errno.ENOSPC, "no room"), 1, "no room"),
        (OSError(errno.EFBIG, "too large"), 1, "too large"),
        (BlockingIOError(errno.EAGAIN, "no more processes"), 1, "no more processes"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), 1, "TMPDIR"),
    ],
)
def test_what_comes_from_outside_is_one_line(
    error: BaseException, code: int, said: str, reports: Path
) -> None:
    done = invoke(raising(error), "it")
    assert done.exit_code == code and done.stdout == "" and not [*reports.iterdir()]
    assert said in done.stderr and done.stderr.count("\n") == 1


def started(*words: str, **options: Any) -> "subprocess.Popen[str]":
    environment = {**launch_environment(), **options.pop("env", {})}
    given: dict[str, Any] = {"cwd": ROOT, "env": environment, "text": True, "stderr": -1, **options}
    return subprocess.Popen([sys.executable, *words], **given)


SLOW = """
import os, sys, time, traceback
from importlib.machinery import ExtensionFileLoader

class Compiled(ExtensionFileLoader):
    def exec_module(self, module):
        try:
            time.sleep(0.5)
        except KeyboardInterrupt:
            traceback.print_exc()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name in os.environ["SLOW"].split():
            os.write(1, b"x")
            if os.environ["HOW"] == "destructor":
                Dying()
            if os.environ["HOW"] == "compiled":
                return Compiled(name, "").exec_module(None)
            try:
                time.sleep(30)
            except KeyboardInterrupt:
                if os.environ["HOW"] == "wrapped":
                    raise ImportError(name)
                raise

class Dying:
    def __del__(self):
        time.sleep(30)

sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("how", ["plain", "wrapped", "destructor", "compiled"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_during_imports_says_so_and_nothing_else(
    program: str, how: str, tmp_path: Path
) -> None:
    if how != "plain" and program != "convert":
        return
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    environment = {"PYTHONPATH": path, "HOW": how, "SLOW": "click numpy"}
    with started("-m", program, "--help", env=environment, stdout=-1) as process:
        assert process.stdout and process.stdout.read(1) == "x"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("words", "is_ours"),
    [
        (("-m", "convert", "--help"), True), (("pvt-parity", "--help"), True),
        (("pvt-onnx", "--help"), True), (("program", "--help"), False),
        (("-m", "program", "-m", "convert"), False),
    ],
    ids=str,
)  # fmt: skip
def test_ctrl_c_before_it_listens_ends_a_command_without_a_traceback(
    words: tuple[str, ...], is_ours: bool, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    for name in ("pvt-parity", "pvt-onnx", "program", "program.py"):
        (tmp_path / name).write_text("from pvt_onnx.__main__ import main\nmain()\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    environment = {"PYTHONPATH": path, "HOW": "plain", "SLOW": "pvt_data"}
    with started(*words, env=environment, stdout=-1, cwd=tmp_path) as process:
        assert process.stdout and process.stdout.read(1) == "x"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert (said == "") == is_ours and ("KeyboardInterrupt" in said) != is_ours


@pytest.mark.parametrize("words", [("--help",), ("inspect", "MODEL")])
def test_whoever_stops_reading_hears_nothing(words: tuple[str, ...]) -> None:
    words = tuple(str(MODEL) if word == "MODEL" else word for word in words)
    read, write = os.pipe()
    os.close(read)
    with started("-m", "convert", *words, stdout=write) as process:
        os.close(write)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (141, "")


def test_no_signal_ends_the_taking_of_an_imports_lock() -> None:
    """It stayed taken, and a thread that imported something waited for ever."""
    module = importlib._bootstrap

    def within(code: CodeType) -> Iterator[CodeType]:
        yield code
        for each in code.co_consts:
            if isinstance(each, CodeType):
                yield from within(each)

    holders = [*vars(module).values()]
    holders += [each for kind in holders if isinstance(kind, type) for each in vars(kind).values()]
    codes = [
        each
        for found in holders
        if isinstance(found, FunctionType)
        for each in within(found.__code__)
    ]
    taking = {"acquire", "release", "acquire_lock", "release_lock"}
    found = {code.co_name for code in codes if taking.intersection(code.co_names)}
    assert found >= {"acquire", "release", "_get_module_lock"}
    # These only read what it is about, and import nothing meanwhile.
    assert found - {"_load", "_exec"} <= {*edge_module._LOCKING}
    assert {(name, "acquire") for name in edge_module._IMPORTS} <= {*edge_module._WHOLE}


def test_a_signal_waits_for_the_end_of_a_frameworks_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code of torch calls Python meanwhile: what is raised there ended it by SIGABRT."""
    later: list[int] = []
    monkeypatch.setattr(edge_module, "_come_again", later.append)
    monkeypatch.setattr(edge_module, "_stopped", None)
    monkeypatch.setattr(edge_module, "_deaf_until", 0.0)
    module = compile("stop()", "module", "exec")

    def run(name: str) -> None:
        exec(module, {"__name__": name, "stop": lambda: edge_module._stop(15, sys._getframe())})

    run("torch.distributed")
    run("mindspore")
    assert later == [15, 15]
    with pytest.raises(KeyboardInterrupt):
        run("torchless")
    assert later == [15, 15]


@pytest.mark.parametrize(("closed", "code"), [(True, 141), (False, 1)])
def test_sockets_and_what_is_not_to_be_written_as_stdout(closed: bool, code: int) -> None:
    """They keep nothing that could be tried again, by which a stream was known."""
    if closed:
        out, other = socket.socketpair()
        other.close()
    else:
        out = open(os.devnull)  # noqa: SIM115
    with out, started("-m", "convert", "--help", stdout=out) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == code and ("cannot be written" in said) == (not closed)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_under_stdout_is_said() -> None:
    with open("/dev/full", "w") as full, started("-m", "convert", "--help", stdout=full) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and said.count("\n") == 1
    assert os.strerror(errno.ENOSPC) in said


def test_a_name_that_is_no_text_is_shown(tmp_path: Path) -> None:
    shutil.copy(MODEL, tmp_path / "\udcff.ckpt")
    environment = {**launch_environment(), "PYTHONIOENCODING": "utf-8"}
    done = run_python("-m", "convert", "inspect", tmp_path / "\udcff.ckpt", env=environment)
    assert "\\udcff.ckpt" in done.stdout


def test_the_installed_commands_start_there_too() -> None:
    scripts = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]\n")[2]
    rows = scripts.partition("\n\n")[0].splitlines()
    assert len(rows) == 8
    assert {row.partition(' = "')[2] for row in rows} == {f'{p}.__main__:main"' for p in PROGRAMS}


TAKING = """
import ctypes, os, signal, sys, time
from pvt_data.edge import run

class Main:
    def __call__(self, prog_name):
        ctypes.CDLL(None).signal(int(signal.SIGINT), None)  # as a framework takes it: not in Python
        if sys.argv[1] == "asked":
            signal.signal(signal.SIGINT, lambda number, frame: sys.exit(100 + number))
            ctypes.CDLL(None).signal(int(signal.SIGINT), None)
        os.write(1, b"x")
        time.sleep(30)

sys.modules["taking.command_line"] = sys.modules["taking"] = sys.modules["__main__"]
main = Main()
run("taking")
"""


@pytest.mark.parametrize(("how", "code"), [("plain", 130), ("asked", 102)])
def test_ctrl_c_reaches_us_where_a_framework_takes_the_signal(how: str, code: int) -> None:
    with started("-c", TAKING, how, stdout=-1) as process:
        assert process.stdout and process.stdout.read(1) == "x"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == code


KEEPING = """
import os, sys, tempfile, time
from pathlib import Path
from pvt_data.edge import run
from pvt_spec.files.replacing import replacing

how, number, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])

def signalling(call):
    def called(*arguments, **options):
        made = call(*arguments, **options)
        os.kill(os.getpid(), number)
        return made
    return called

def wait():
    try:
        os.write(1, b"x")
        time.sleep(0.2 if how == "ignored" else 30)
    finally:
        os.write(1, b"y")
        time.sleep(0.2)

class Main:
    def __call__(self, prog_name):
        if how == "while a folder is made":
            os.mkdir = signalling(os.mkdir)
        if how == "while a file is made":
            Path.open = signalling(Path.open)
            with replacing(folder / "a", force=False):
                wait()
        with tempfile.TemporaryDirectory(dir=folder):
            wait()

sys.modules["keeping.command_line"] = sys.modules["keeping"] = sys.modules["__main__"]
main = Main()
run("keeping")
"""
"""A command with a temporary file or folder, which takes its time to clear up."""


def ignore(*numbers: signal.Signals) -> Callable[[], None]:
    """What has a process ignore signals from its start, as nohup does and a shell's ``&``."""
    return lambda: [signal.signal(each, signal.SIG_IGN) for each in numbers] and None


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("how", ["twice", "while a folder is made", "while a file is made"])
def test_a_signal_has_a_command_clear_up_whenever_it_comes(
    how: str, number: signal.Signals, tmp_path: Path
) -> None:
    words = ("-c", KEEPING, how, str(int(number)), str(tmp_path))
    with started(*words, stdout=-1) as process:
        assert process.stdout
        for said in "xy":
            assert process.stdout.read(1) in said
            if how == "twice":
                process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number and not [*tmp_path.iterdir()]
    assert told == ("interrupted\n" if number == signal.SIGINT else f"stopped by {number.name}\n")


def test_a_signal_that_is_ignored_stays_so_and_another_is_heard(tmp_path: Path) -> None:
    ignored = ignore(signal.SIGHUP, signal.SIGINT)
    for number, code, said in ((1, 0, ""), (2, 0, ""), (15, 143, "stopped by SIGTERM\n")):
        words = ("-c", KEEPING, "ignored", "0", str(tmp_path))
        with started(*words, stdout=-1, preexec_fn=ignored) as process:
            assert process.stdout and process.stdout.read(1) == "x"
            process.send_signal(number)
            _, told = process.communicate(timeout=20)
        assert (process.returncode, told, [*tmp_path.iterdir()]) == (code, said, [])


def test_a_signal_that_comes_at_once_is_heard() -> None:
    """Once signals are listened to, before the command itself is imported."""
    early = (
        "import os, signal; from pvt_data import edge; before = edge._listen\n"
        "edge._listen = lambda: before() or os.kill(os.getpid(), signal.SIGTERM)\n"
        "edge.run('pvt_onnx')"
    )
    with started("-c", early, "--help", stdout=-1) as process:
        stdout, told = process.communicate(timeout=20)
    assert (process.returncode, stdout, told) == (143, "", "stopped by SIGTERM\n")


QUANTISE = ("--threads", "1", "--no-latency", "--ranking", "0", "--calibration-images", "2")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=LONG)])
@pytest.mark.parametrize("command", ["benchmark", pytest.param("quantize", marks=LONG)])
def test_a_command_that_is_stopped_leaves_nothing(
    command: str, number: signal.Signals, few_digits: Path, tmp_path: Path
) -> None:
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    words = ["benchmark", str(MODEL)]
    if command == "quantize":
        model = tmp_path / "a.onnx"
        run_python("-m", "convert", TRAINED, model)
        words = ["quantize", str(model), str(work / "b.onnx"), "--calibration", str(few_digits)]
        words += QUANTISE
    scratch_here = {"TMPDIR": str(scratch)}
    with started("-m", "pvt_onnx", *words, env=scratch_here, stdout=-1) as process:
        while process.poll() is None and not [*scratch.iterdir()]:
            time.sleep(0.001)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert told.splitlines()[-1] == f"stopped by {number.name}"
    assert not [*scratch.iterdir(), *work.iterdir()]


def test_files_of_a_set_come_to_their_places_before_a_signal_is_heeded(tmp_path, monkeypatch):
    """One of them stayed there alone."""
    again = []
    monkeypatch.setattr(edge_module, "_come_again", again.append)
    monkeypatch.setattr(
        replacing, "check_sources", lambda: edge_module._stop(signal.SIGTERM, sys._getframe())
    )
    with replacing.replacing_all([tmp_path / "a", tmp_path / "b"], force=False):
        pass
    assert again == [signal.SIGTERM] and sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What a SIGTERM calls where the code under test is; its ``again`` has those put off."""

    def stop(*_: object) -> None:
        edge_module._stop(signal.SIGTERM, sys._getframe())

    stop.again = []
    monkeypatch.setattr(edge_module, "_come_again", stop.again.append)
    monkeypatch.setattr(edge_module, "_stopped", None)
    monkeypatch.setattr(edge_module, "_deaf_until", 0.0)
    return stop


@pytest.mark.parametrize("step", ["_check_lock", "take", "is_at"])
def test_no_signal_leaves_the_file_of_a_lock(step, stop, tmp_path, monkeypatch):
    inner = getattr(locks, step)
    monkeypatch.setattr(locks, step, lambda *given: stop() or inner(*given))
    with locks.held(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
        with pytest.raises(KeyboardInterrupt):
            stop()
    assert stop.again == [signal.SIGTERM] and not [*tmp_path.iterdir()]


def test_a_signal_ends_waiting_for_another_process(stop, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "try_lock", lambda descriptor, wait=False: wait and stop())
    with pytest.raises(KeyboardInterrupt), locks.held(tmp_path / "lock", wait=True):
        pass
    assert not stop.again


@pytest.mark.parametrize("before", [True, False])
def test_a_signal_leaves_no_empty_folder(before, stop, tmp_path, monkeypatch):
    weights, info = load_model(TRAINED)
    info = dataclasses.replace(info, numerics=profile_numerics("hf", info.config.version))
    target, made = tmp_path / "out", Path.mkdir

    def mkdir(path: Path, *given: Any, **named: Any) -> None:
        made(path, *given, **named)
        stop()

    if before:
        target.mkdir()
    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(KeyboardInterrupt):
        save_model(target, weights, info, dialect="hf")
    assert target.exists() == before


HALF = """
import sys, types
from click import Command
from pvt_data.edge import run

def import_half():
    sys.modules["mindspore._c_expression"] = types.ModuleType("mindspore._c_expression")
    raise ModuleNotFoundError("No module named 'psutil'", name="psutil")

class Aborting:
    def __del__(self, exit=sys.exit, abort=__import__("os").abort):
        abort()

kept = Aborting()
sys.modules["half.command_line"] = sys.modules["half"] = sys.modules["__main__"]
main = Command("half", callback=import_half)
run("half")
"""
"""A command whose framework is half imported, and aborts as the interpreter takes itself apart."""


def test_what_is_half_imported_does_not_outlive_the_command() -> None:
    with started("-c", HALF, stdout=-1) as process:
        stdout, told = process.communicate(timeout=20)
    assert process.returncode not in (0, -signal.SIGABRT) and "psutil" in told and stdout == ""
