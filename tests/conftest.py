"""How every test runs, its parameters (kinds of PVT and runtimes), and the digits it trains on."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from pvt_data.sources.digits import write_digits
from pvt_ms.environment import prepare_environment
from pvt_spec import PVTConfig
from tests.support.models import KINDS, MAPS, SMALL
from tests.support.runtimes import RUNTIMES

# One thread per framework: the cores belong to pytest's workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Each of pytest's workers has a core of its own: where frameworks' threads wait, they spin, and
# would take another worker's.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# As in a terminal: behind a shell's "&", or under nohup, a signal is ignored, and is to stay so.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# As pvt_ms runs: what MindSpore computed before in a worker would otherwise decide how it goes on.
# Where it is not installed its tests fail by themselves.
with contextlib.suppress(ImportError):
    prepare_environment()

# The time of an example depends on who else uses the machine, so it decides nothing.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")


LONGEST = (
    "tests/test_readme.py",
    "tests/pvt_train/test_command_line.py",
    "tests/parity/diagnosis/test_diagnose.py",
    "tests/pvt_train/test_step.py",
    "tests/test_twins.py",
    "tests/parity/bundles/test_bundle.py",
    "tests/pvt_torch/test_emulation.py",
    "tests/pvt_train/test_compiled.py",
    "tests/pvt_train/test_distributed_command.py",
    "tests/pvt_train/test_parallel.py",
    "tests/test_round_trips.py",
    "tests/parity/measure/test_structure.py",
    "tests/parity/diagnosis/test_command.py",
    "tests/test_packages.py",
)
"""Files to begin with, so that no worker is left alone with one at the end."""


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is long
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; all but the first case of what is sampled are long."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.location[0], len(order)))
    seen: set[str] = set()
    for item in items:
        if item.get_closest_marker("sampled"):
            name = item.nodeid.partition("[")[0]
            if name in seen:
                item.add_marker("long")
            seen.add(name)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime in turn."""
    name: str = request.param
    return name


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> PVTConfig:
    """Each kind of PVT in turn."""
    return SMALL[request.param]


@pytest.fixture(params=MAPS)
def maps(request: pytest.FixtureRequest) -> PVTConfig:
    """Each kind of PVT that answers maps in turn."""
    return MAPS[request.param]


@pytest.fixture(params=KINDS)
def small_or_maps(request: pytest.FixtureRequest) -> PVTConfig:
    """Each kind of PVT in turn, with a head and with maps for an answer."""
    return KINDS[request.param]


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty digits to train on and twenty to validate with."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    for split, count in (("train", 6), ("val", 2)):
        for digit in range(10):
            for path in sorted((folder / split / str(digit)).iterdir())[count:]:
                path.unlink()
    return folder
