"""Repositories of Hugging Face: pinned to a commit, verified by what the hub says, kept by it."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from convert.hub import fetching
from convert.hub.download import network
from convert.hub.fetched import Fetched
from convert.hub.fetching import fetch
from convert.hub.registry import record
from pvt_spec import make_config
from pvt_spec.errors import ConvertError
from tests.support.hub import LocalHub, Served, publish
from tests.support.hub.hosts import Repository
from tests.support.hub.published import COMMIT
from tests.support.messages import tells
from tests.support.processes import ROOT, run_python

NAME, NANO = "Zetatech/pvt-tiny-224", make_config("pvt_nano")


@pytest.fixture
def data(hub: LocalHub) -> bytes:
    """The weights of a repository with one commit."""
    return publish(hub, NAME, NANO)


def again(name: str = NAME) -> Fetched:
    """What another process would get."""
    fetching._fetched.clear()
    return fetch(name, tell=lambda _: None)


def refused(name: str = NAME) -> str:
    fetching._fetched.clear()
    with pytest.raises(ConvertError) as error:
        fetch(name, tell=lambda _: None)
    return str(error.value)


def blobs(hub: LocalHub) -> list[int]:
    """The sizes of what the cache of Hugging Face holds of files."""
    folder = f"{hub.environment['HF_HOME']}/hub/models--{NAME.replace('/', '--')}/blobs"
    held = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(os.path.getsize(os.path.join(folder, each)) for each in held)


def test_a_branch_becomes_a_commit(hub, data):
    found = fetch(NAME)
    assert found.commit == COMMIT and found.path.name == COMMIT and found.fresh
    assert (found.path / "model.safetensors").read_bytes() == data
    assert [*found.hashes] == ["model.safetensors", "config.json"]  # and no page of the model
    assert found.sha256 == hashlib.sha256(data).hexdigest() and found.licence == "apache-2.0"
    assert tells(found.address, NAME) and tells(str(found), COMMIT, found.sha256)
    before = len(hub.asked)
    assert not again().fresh and len(hub.asked) == before + 1  # which commit main is now
    pinned = again(f"{NAME}@{COMMIT}")
    assert pinned.path == found.path and len(hub.asked) == before + 1


def test_a_branch_that_moves_takes_nobody_along_who_named_a_commit(hub, data):
    first = fetch(NAME)
    publish(hub, NAME, NANO, seed=1)
    second = again()
    assert second.commit != COMMIT and second.sha256 != first.sha256
    assert again(f"{NAME}@{COMMIT}").sha256 == first.sha256
    record(hub.registry, NAME, {"commit": COMMIT, "sha256": first.sha256})
    recorded = again()
    assert recorded.commit == COMMIT and tells(recorded.against, hub.registry)
    assert again(f"{NAME}@main").commit == second.commit
    record(hub.registry, NAME, {"sha256": second.sha256})
    assert tells(refused(), first.sha256, second.sha256)


@pytest.mark.parametrize("size", ["same", "short", "page"])
def test_what_is_not_what_the_hub_says_is_refused(size, hub, data):
    large = hub.files[f"cdn/{hashlib.sha256(data).hexdigest()}"] = Served(data)
    bodies = {"same": data[:-1] + b"x", "short": data[:-9], "page": b"<html>Log in</html>"}
    large.data = bodies[size]
    said = refused()
    assert tells(said, NAME) and "Traceback" not in said
    assert all(held < 2000 for held in blobs(hub))
    large.data = data
    assert again().sha256 == hashlib.sha256(data).hexdigest()


def test_a_cut_transfer_goes_on(hub, data, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.files[f"cdn/{hashlib.sha256(data).hexdigest()}"] = Served(data, cuts=[500_000])
    assert (fetch(NAME).path / "model.safetensors").read_bytes() == data
    assert any(each.range for each in hub.asked)


def test_a_wish_to_wait_is_said_and_granted(hub, data):
    wish = (429, {"Retry-After": "1"})
    hub.api = [wish]
    hub.files[f"cdn/{hashlib.sha256(data).hexdigest()}"] = Served(data, answers=[wish])
    said: list[str] = []
    assert fetch(NAME, said.append).commit == COMMIT
    assert sum("wait" in line for line in said) == 2
    fetching._fetched.clear()
    hub.api = [(429, {"Retry-After": "3600"})]
    assert tells(refused(), f"{network.MOST_WAIT:.0f}")


def test_a_page_in_the_place_of_the_hub_is_named(hub, data):
    page = Served(b"<!DOCTYPE html><title>Log in</title>", kind="text/html")
    hub.files[f"api/models/{NAME}/revision/main"] = page
    assert tells(refused(), "HF_ENDPOINT") and blobs(hub) == []


def test_what_is_not_there_or_not_for_all_is_said(hub, data):
    assert tells(refused(f"{NAME}@nightly"), "nightly", "revision")
    hub.repositories[NAME].gated = True
    assert "HF_TOKEN" in refused()
    del hub.repositories[NAME]
    assert tells(refused(), NAME, "HF_TOKEN")
    hub.repositories[NAME] = Repository({COMMIT: {"README.md": b"x"}}, {"main": COMMIT})
    assert tells(refused(), "config.json", "model.safetensors", "README.md")


def test_offline_takes_what_is_here_and_says_of_when(hub, data, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert tells(refused(), "HF_HUB_OFFLINE") and hub.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    found = again()
    before = len(hub.asked)
    monkeypatch.setenv("PVT_HUB_OFFLINE", "1")
    kept = again()
    assert kept.path == found.path and kept.hashes == found.hashes and len(hub.asked) == before
    assert any("main" in note for note in kept.notes)
    shutil.rmtree(hub.cache)  # what was noted: then names in the cache are hashes
    unnoted = again()
    assert unnoted.hashes == found.hashes and "cache" in unnoted.against


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_file_in_the_cache_is_not_waited_for(make, hub, data, monkeypatch):
    path = fetch(NAME).path / "model.safetensors"
    path.unlink()
    make(path)
    monkeypatch.setenv("PVT_HUB_OFFLINE", "1")
    assert tells(refused(), path, "pipe")


def test_a_damaged_cache_is_noticed(hub, data, monkeypatch):
    path = fetch(NAME).path / "model.safetensors"
    real = path.resolve()
    real.write_bytes(data[:-1] + b"x")
    monkeypatch.setenv("PVT_HUB_OFFLINE", "1")
    assert tells(refused(), real.name)
    monkeypatch.delenv("PVT_HUB_OFFLINE")
    assert "again" in refused() and not path.exists()
    assert again().sha256 == hashlib.sha256(data).hexdigest()


def test_a_hub_that_cannot_be_reached_is_done_without(hub, data, monkeypatch):
    from huggingface_hub import constants

    found = fetch(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    kept = again()
    assert kept.path == found.path and any("reached" in note for note in kept.notes)
    shutil.rmtree(found.path.parents[1])
    assert tells(refused(), "127.0.0.1:9") and "reached" in refused()


def test_the_environment_of_its_library_is_heeded(hub, data, tmp_path):
    # Its library reads it when it is imported, so in a process of its own.
    environment = {**os.environ, **hub.environment, "PYTHONPATH": str(ROOT)}
    words = ("-m", "convert", "inspect", f"hub:{NAME}", "--json")
    facts = json.loads(run_python(*words, env=environment).stdout)
    assert facts["taken"].startswith(hub.environment["HF_HOME"])
    assert facts["notes"]["from"] == f"commit {COMMIT}"
    assert facts["provenance"]["commit"] == COMMIT and facts["provenance"]["hub"] == NAME
    offline = {**environment, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "other")}
    done = run_python(*words, check=False, env=offline)
    assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr and not done.stdout
