"""The twins of both frameworks, for what is tested of each alike."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support import training


@pytest.fixture(params=training.FRAMEWORKS)
def open_twin(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function that opens a twin under training of each framework in turn."""
    return partial(training.open_twin, framework=request.param)
