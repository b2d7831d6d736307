"""What other systems lack is not needed: everything is imported and used without those names."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.models import GOLDEN
from tests.support.processes import run_python

MODEL = GOLDEN / "model_info/format_2.ckpt"

WITHOUT = """
import os, signal, sys
try:
    import platformdirs  # of pooch: goes by sys.platform, not by what os has
except ImportError:
    pass

for name in ("fcntl", "resource", "pwd", "grp", "termios", "syslog"):
    sys.modules[name] = None
for module, names in {
    os: "pread preadv pwrite fork getuid geteuid sched_getaffinity mkfifo sysconf killpg "
    "setsid posix_fallocate posix_fadvise link O_NONBLOCK O_NOFOLLOW O_DIRECTORY",
    signal: "SIGHUP SIGURG SIGPIPE SIGBUS SIGUSR1 SIGUSR2 SIGALRM pthread_sigmask "
    "pthread_kill sigwait sigwaitinfo setitimer alarm SIG_BLOCK SIG_SETMASK SIG_UNBLOCK",
}.items():
    for name in names.split():
        delattr(module, name)
"""
"""Takes away what Windows has not; its locks, of msvcrt, it has not either then."""

IMPORT_ALL = """
import importlib, pkgutil
for package in ("pvt_spec", "pvt_data", "pvt_onnx", "convert", "pvt_train", "pvt_torch", "parity"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import pvt_ms.command_line, pvt_ms.environment
"""

COMMANDS = """
from pvt_data.edge import run

def go(*words):
    sys.argv = list(words)
    try:
        run(words[0])
    except SystemExit as end:
        assert not end.code, (words, end.code)

go("convert", "a.ckpt", "b.onnx")
go("convert", "b.onnx", "b.onnx.pth")
go("convert", "a.ckpt", "b.onnx", "--external-data", "--force")
go("convert", "b.onnx", "c.ckpt")
go("convert", "inspect", "c.ckpt")
go("pvt_onnx", "predict", "b.onnx", "a.png")
go("parity", "run", "b.onnx", "--runtime", "onnxruntime", "--random", "2", "--html", "a.html")
"""

TRAINING = """
import numpy as np
from pathlib import Path
from pvt_train.input.processes import ImageProcesses
from pvt_train.run.folder import sole_run
from pvt_train.run.stopping import stop_request
from tests.test_platforms import fill

if __name__ == "__main__":
    items = np.arange(12).reshape(2, 3, 2)
    with stop_request(), sole_run(Path()), ImageProcesses(fill, 2, (3, 2), (4, 4, 3)) as workers:
        assert [int(made.pixels.sum()) for made in workers.make(items)] == [6 * 48, 24 * 48]
"""


def fill(item: np.ndarray, out: np.ndarray) -> tuple[int, list]:
    """Makes an image of one number."""
    out[...] = item[0]
    return int(item[0]), []


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a model and an image."""
    shutil.copy(MODEL, tmp_path / "a.ckpt")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.long
def test_every_module_is_imported_without_what_windows_lacks() -> None:
    run_python("-c", WITHOUT + IMPORT_ALL)


@pytest.mark.long
def test_commands_run_without_what_windows_lacks(here: Path) -> None:
    done = run_python("-c", WITHOUT + COMMANDS, cwd=here)
    assert "a.png" in done.stdout
    names = {path.name for path in here.iterdir()}
    expected = {"a.ckpt", "a.png", "b.onnx", "b.onnx.data", "b.onnx.pth", "c.ckpt", "a.html"}
    assert names == expected


def test_processes_that_read_images_run_without_what_windows_lacks(here: Path) -> None:
    (here / "train.py").write_text(WITHOUT + TRAINING)
    run_python(here / "train.py", cwd=here)
