"""Having this process ask a local hub, or the real hosts."""

import os

import pytest

from tests.support.hub.hosts import LocalHub

REAL = os.environ.get("PVT_TEST_REAL_HOSTS", "") not in ("", "0")
"""Whether the tests that can be run against the real hosts are."""


def point_to(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has this process ask a hub."""
    from huggingface_hub import constants

    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    # Its library has read the environment when it was imported.
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{hub.environment['HF_HOME']}/hub")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def point_to_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has this process ask the real hosts again; what it downloads still goes elsewhere."""
    from huggingface_hub import constants

    monkeypatch.delenv("PVT_HUB_MIRROR")
    real = "https://huggingface.co"
    monkeypatch.setattr(constants, "ENDPOINT", real)
    template = f"{real}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
