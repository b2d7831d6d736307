"""Published weights: on a local hub, or with PVT_TEST_REAL_HOSTS=1 where they really are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from convert.hub import fetching
from convert.hub.download import network, transfer
from tests.support.hub import LocalHub
from tests.support.hub.asking import REAL, point_to, point_to_real


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's environment, nothing that was fetched before, and short pauses."""
    for name in [*os.environ]:
        if name.startswith(("PVT_HUB_", "HF_", "HTTP", "http", "NO_PROXY", "no_proxy", "REQUESTS")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(fetching, "_fetched", {})
    monkeypatch.setattr(transfer, "PAUSE", 0.001)
    monkeypatch.setattr(network, "MOST_WAIT", 3.0)


@pytest.fixture
def hub(settled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A local hub, which this process asks."""
    with LocalHub(tmp_path) as made:
        point_to(made, monkeypatch)
        yield made


@pytest.fixture
def hosts(
    settled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalHub | None]:
    """A local hub, or None where the real hosts are asked; what is downloaded goes elsewhere."""
    with LocalHub(tmp_path) as made:
        point_to(made, monkeypatch)
        if REAL:
            point_to_real(monkeypatch)
        yield None if REAL else made
