"""How every test runs, and its parameters: kinds of PVT and runtimes."""

import contextlib
import os

import pytest
from hypothesis import settings

from pvt_ms.environment import prepare_environment
from pvt_spec import PVTConfig, PvtError
from tests.support.models import MAPS, SMALL
from tests.support.runtimes import RUNTIMES

# One thread per framework: the cores belong to pytest's workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# As pvt_ms runs: what MindSpore computed before in a worker would otherwise decide how it goes on.
# Where it is not installed its tests fail by themselves.
with contextlib.suppress(PvtError):
    prepare_environment()

# The time of an example depends on who else uses the machine, so it decides nothing.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")


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


@pytest.fixture(params=SMALL | MAPS)
def small_or_maps(request: pytest.FixtureRequest) -> PVTConfig:
    """Each kind of PVT in turn, with a head and with maps for an answer."""
    return (SMALL | MAPS)[request.param]
