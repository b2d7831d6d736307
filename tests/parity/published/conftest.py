"""The local hub of the hub's own tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from convert.hub import fetching
from tests.support.hub import LocalHub
from tests.support.hub.asking import point_to


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A local hub, which this process asks; nothing was fetched before."""
    for name in [*os.environ]:
        if name.startswith(("PVT_HUB_", "HF_", "HTTP", "http", "NO_PROXY", "no_proxy", "REQUESTS")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(fetching, "_fetched", {})
    with LocalHub(tmp_path) as made:
        point_to(made, monkeypatch)
        yield made
