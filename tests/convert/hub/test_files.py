"""Files of hosts: verified by what is known of them, kept, gone on with, refused."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from convert.hub.download import network, transfer
from convert.hub.fetching import fetch
from convert.hub.registry import read_registry, record
from pvt_spec import make_config
from pvt_spec.errors import ConvertError
from tests.support.hub import LocalHub, Served, publish
from tests.support.hub.hosts import CERTIFICATE
from tests.support.messages import tells
from tests.support.processes import ROOT

NAME, NANO = "mindcv/pvt_tiny", make_config("pvt_nano")


@pytest.fixture
def served(hub: LocalHub) -> Served:
    """The file of a name that carries digits of its hash."""
    publish(hub, NAME, NANO)
    return hub.served(str(read_registry(hub.registry)[NAME].address))


def refused(name: str = NAME) -> str:
    with pytest.raises(ConvertError) as error:
        fetch(name, tell=lambda _: None)
    return str(error.value)


def left(hub: LocalHub) -> list[str]:
    """Names of the files in the cache."""
    return sorted(path.name for path in hub.cache.rglob("*") if path.is_file())


def fetched_again(name: str = NAME) -> Path:
    """What another process would get."""
    from convert.hub import fetching

    fetching._fetched.clear()
    return fetch(name, tell=lambda _: None).path


def test_digits_of_the_name_are_checked_and_the_file_is_kept(hub, served):
    found = fetch(NAME)
    assert found.path.read_bytes() == served.data and found.fresh
    sha256 = hashlib.sha256(served.data).hexdigest()
    assert found.sha256 == sha256 and found.size == len(served.data)
    assert tells(found.against, sha256[:8])
    assert left(hub) == sorted([found.row.file, "hub.json"])
    assert fetched_again() == found.path
    assert len(hub.asked) == 1


def test_what_has_no_published_hash_says_so(hub):
    publish(hub, "official/pvt_tiny", NANO)
    found = fetch("official/pvt_tiny")
    assert found.against == "" and "--record" in str(found)
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()


def test_a_part_that_a_host_says_is_all_is_not_kept(hub):
    """It was, and every later command found it damaged."""
    data = publish(hub, "official/pvt_tiny", NANO)
    address = str(read_registry(hub.registry)["official/pvt_tiny"].address)
    served = hub.served(address)
    served.data = data[: len(data) // 2]
    assert tells(refused("official/pvt_tiny"), "pvt_tiny.pth", "cut off") and left(hub) == []
    served.data = data
    assert fetched_again("official/pvt_tiny").read_bytes() == data


def test_interim_answers_without_end_are_no_answer():
    """Each kept the time of a read from passing, and the transfer from its end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                while True:
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a"
        with (
            transfer._Session() as session,
            pytest.raises(requests.ConnectionError, match="interim"),
        ):
            session.get(address, timeout=10)


def test_a_file_whose_length_is_not_said_has_an_end(tmp_path, monkeypatch):
    """It took all of the disk."""

    class Endless:
        raw = SimpleNamespace(read=lambda size: b"PK\3\4".ljust(size, b"\0"))

    monkeypatch.setattr(transfer, "MAX_UNSAID", 100_000)
    wanted = transfer.Wanted("https://lab.example/a.pth", (), None, sure=False)
    attempt = transfer._Attempt(None, wanted, tmp_path / "a", print, lambda *_: None)
    with (tmp_path / "a").open("wb") as stream, pytest.raises(ConvertError, match="after 100,000"):
        attempt._receive(Endless(), stream, 0, None)


def test_another_file_of_the_same_size_is_refused(hub, served):
    changed = bytearray(served.data)
    changed[len(changed) // 2] ^= 1
    served.data = bytes(changed)
    digits = read_registry(hub.registry)[NAME].digits
    assert tells(refused(), hashlib.sha256(changed).hexdigest(), digits)
    assert left(hub) == []


def test_a_recorded_hash_is_checked_too(hub):
    data = publish(hub, "official/pvt_tiny", NANO)
    record(hub.registry, "official/pvt_tiny", {"sha256": hashlib.sha256(data).hexdigest()})
    assert tells(fetch("official/pvt_tiny").against, hub.registry)
    publish(hub, "official/pvt_tiny", NANO, seed=1)
    (hub.cache / "official/pvt_tiny/pvt_tiny.pth").unlink()
    from convert.hub import fetching

    fetching._fetched.clear()
    assert tells(refused("official/pvt_tiny"), hashlib.sha256(data).hexdigest(), hub.registry)


@pytest.mark.parametrize(
    "body, kind, said",
    [
        (b"<!DOCTYPE html><title>Log in</title>", "text/html; charset=utf-8", "Log in"),
        (b"<!DOCTYPE html><title>Log in</title>", "application/octet-stream", "Log in"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "text/plain", "LFS"),
        (b'{"error": "no"}', "application/json", "JSON"),
    ],
    ids=["page", "page as a file", "pointer", "json"],
)
def test_something_else_than_a_file_is_named_and_not_kept(body, kind, said, hub, served):
    served.data, served.kind = body, kind
    assert said in refused() and left(hub) == []


def test_a_shorter_file_than_was_recorded_is_refused(hub, served):
    record(hub.registry, NAME, {"size": len(served.data) + 1})
    assert tells(refused(), f"{len(served.data):,}", f"{len(served.data) + 1:,}")
    assert left(hub) == []


def test_a_cut_transfer_goes_on_where_it_was_cut(hub, served):
    served.cuts = [200_000, 300_000]
    said: list[str] = []
    found = fetch(NAME, said.append)
    assert found.path.read_bytes() == served.data
    ranges = [each.range for each in hub.asked]
    assert ranges[0] is None and len(ranges) == 3 and None not in ranges[1:]
    assert {each.if_range for each in hub.asked[1:]} == {served.etag}
    assert sum("once more" in line for line in said) == 2


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_is_not_spliced(heeds, hub, served):
    served.heeds = heeds
    good, tag = served.data, served.etag
    served.data, served.etag = bytes(len(good)), '"old"'
    served.cuts = [300_000] * 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "MOST_CUTS", -1)
        assert "kept" in refused()
    assert f".{Path(found_file(hub)).name}.part" in left(hub)
    served.data, served.etag, served.cuts = good, tag, []
    said: list[str] = []
    assert fetch(NAME, said.append).path.read_bytes() == good
    assert '"old"' in {each.if_range for each in hub.asked[1:]}
    assert any("begun again" in line or "once more" in line for line in said)
    assert left(hub) == sorted([found_file(hub), "hub.json"])


def found_file(hub: LocalHub) -> str:
    return read_registry(hub.registry)[NAME].file


def test_another_process_goes_on_with_what_is_there(hub, served):
    served.cuts = [400_000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "MOST_CUTS", -1)
        refused()
    assert fetched_again().read_bytes() == served.data
    assert hub.asked[-1].range is not None


def test_a_part_that_ends_before_it_begins_is_no_whole(hub, served):
    served.cuts = [400_000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "MOST_CUTS", -1)
        refused()
    place = {"Content-Range": "bytes 400000-99/100", "ETag": served.etag}
    served.answers = [(206, place)]
    assert fetch(NAME).path.read_bytes() == served.data


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_kept_of_a_cut_transfer(etag, hub, served):
    served.headers, served.cuts = {"ETag": etag}, [400_000] * 9
    refused()
    assert left(hub) == [] and {each.range for each in hub.asked} == {None}


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
@pytest.mark.parametrize("name", [".{}.part", ".{}.part.json"])
def test_pipes_and_links_in_the_cache_are_neither_waited_for_nor_followed(name, make, hub, served):
    row = read_registry(hub.registry)[NAME]
    folder = hub.cache / NAME
    folder.mkdir(parents=True)
    make(folder / name.format(row.file))
    assert fetch(NAME).path.read_bytes() == served.data
    assert sorted(each.name for each in folder.iterdir() if each.suffix != ".tmp") == sorted(
        [row.file, "hub.json"]
    )


def test_a_link_where_the_note_is_to_be_is_not_followed_and_empty_files_go(hub, served, tmp_path):
    (folder := hub.cache / NAME).mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (folder / "hub.json").symlink_to(tmp_path / "mine")
    (folder / "tmpabcd_123").touch()  # as pooch leaves it where it is killed
    assert fetch(NAME).path.read_bytes() == served.data
    assert (tmp_path / "mine").read_text() == "mine" and not (folder / "tmpabcd_123").exists()
    assert not (folder / "hub.json").is_symlink()


def test_a_pipe_where_the_note_is_to_be_is_said(hub, served):
    (folder := hub.cache / NAME).mkdir(parents=True)
    os.mkfifo(folder / "hub.json")
    assert str(folder / "hub.json") in refused()


def test_a_folder_where_a_part_is_to_be_is_said(hub, served):
    row = read_registry(hub.registry)[NAME]
    (part := hub.cache / NAME / f".{row.file}.part").mkdir(parents=True)
    assert str(part) in refused()


def test_a_host_that_sends_no_parts_sends_all_again(hub, served):
    served.ranges, served.cuts = False, [300_000]
    assert fetch(NAME).path.read_bytes() == served.data


def test_a_host_that_sends_no_length_is_checked_by_the_hash(hub, served):
    served.length = -1
    assert fetch(NAME).path.read_bytes() == served.data


def test_a_file_that_is_always_too_short_is_refused(hub, served):
    served.headers = {"ETag": ""}
    served.length = len(served.data) + 10
    assert "ended" in refused() or "failed" in refused()
    assert left(hub) == []


def test_a_wish_to_wait_is_said_and_granted(hub, served):
    served.answers = [(429, {"Retry-After": "1"}), (503, {"Retry-After": "0"}), (500, {})]
    said: list[str] = []
    started = time.monotonic()
    assert fetch(NAME, said.append).path.exists()
    assert time.monotonic() - started >= 1 and sum("wait" in line for line in said) == 2
    assert any("500" in line for line in said)


@pytest.mark.parametrize("when", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_nobody_waits_for_an_hour(when, hub, served):
    served.answers = [(429, {"Retry-After": when})]
    assert tells(refused(), f"{network.MOST_WAIT:.0f}") and left(hub) == []


@pytest.mark.parametrize("when", ["0", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_a_host_that_is_always_busy_for_no_time_is_given_up(when, hub, served):
    served.answers = [(503, {"Retry-After": when})] * 20
    assert tells(refused(), f"{network.MOST_WAIT:.0f}") and left(hub) == []
    assert len(hub.asked) < 10


@pytest.mark.parametrize("place", ["http://[", "http://ex\xe9/", "http://\xb2/x"])
def test_what_leads_to_no_address_is_said(place, hub, served):
    path = str(read_registry(hub.registry)[NAME].address).partition("://")[2]
    hub.files[path] = Served(b"", location=place)
    assert tells(refused(), "PVT_HUB_MIRROR") and left(hub) == []
    assert len(hub.asked) == 1


@pytest.mark.parametrize("status, said", [(404, "no such file"), (403, "403"), (401, "login")])
def test_what_is_not_there_is_said_at_once(status, said, hub, served):
    served.answers = [(status, {})]
    assert said in refused() and left(hub) == [] and len(hub.asked) == 1


def test_another_host_is_refused_and_the_same_followed(hub, served):
    path = str(read_registry(hub.registry)[NAME].address).partition("://")[2]
    hub.files["elsewhere"] = Served(served.data)
    hub.files[path] = Served(b"", location="/elsewhere")
    assert fetch(NAME).path.read_bytes() == served.data
    for place in (f"http://localhost:{hub.port}/elsewhere", "https://mirror.example/x"):
        hub.files[path] = Served(b"", location=place)
        for file in hub.cache.rglob("*.*"):
            file.unlink()
        from convert.hub import fetching

        fetching._fetched.clear()
        assert tells(refused(), "PVT_HUB_MIRROR") and left(hub) == []


def test_endless_redirects_end(hub, served):
    path = str(read_registry(hub.registry)[NAME].address).partition("://")[2]
    hub.files[path] = Served(b"", location=f"/{path}")
    refused()
    assert len(hub.asked) < 10


def test_a_cache_of_somebody_else_is_only_read(hub, served, monkeypatch):
    path = fetch(NAME).path
    monkeypatch.setattr("convert.hub.download.files.held", lambda *_, **__: 1 / 0)
    assert fetched_again() == path and len(hub.asked) == 1


def test_offline_takes_what_is_here(hub, served, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert tells(refused(), "HF_HUB_OFFLINE") and hub.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    path = fetch(NAME).path
    monkeypatch.setenv("PVT_HUB_OFFLINE", "1")
    assert fetched_again() == path and len(hub.asked) == 1


def test_a_kept_file_that_was_changed_is_downloaded_again(hub, served):
    path = fetch(NAME).path
    os.utime(path, ns=(1, 1))
    assert fetched_again() == path and len(hub.asked) == 1  # its hash is what it was
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said: list[str] = []
    from convert.hub import fetching

    fetching._fetched.clear()
    assert fetch(NAME, said.append).path.read_bytes() == served.data
    assert len(hub.asked) == 2 and any(str(path) in line for line in said)


def test_a_file_put_there_by_hand_is_verified(hub, served, monkeypatch):
    monkeypatch.setenv("PVT_HUB_OFFLINE", "1")
    path = hub.cache / NAME / found_file(hub)
    path.parent.mkdir(parents=True)
    path.write_bytes(served.data[:-1] + b"x")
    assert tells(refused(), path)
    path.write_bytes(served.data)
    assert fetched_again() == path


def test_a_full_disk_is_said_before_and_meanwhile(hub, served, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "disk_usage", lambda _: type("", (), {"free": 1000}))
        assert tells(refused(), f"{len(served.data):,}", "1,000") and left(hub) == []
    with monkeypatch.context() as patch:
        patch.setattr(transfer.os, "fsync", full)
        assert "No space left" in refused() and left(hub) == []


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_two_processes_download_a_file_once(hub, served):
    served.pause = 0.002
    code = f"from convert.hub.fetching import fetch; print(fetch({NAME!r}).sha256)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    done = [process.communicate(timeout=60) for process in started]
    assert {out.strip() for out, _ in done} == {hashlib.sha256(served.data).hexdigest()}
    assert len(hub.asked) == 1
    assert sum("waiting" in error for _, error in done) == 1


def test_a_proxy_is_used(hub, served, monkeypatch):
    data = served.data
    facts = {"address": "http://models.example/birds.ckpt"}
    record(hub.registry, "lab/birds", {**facts, "sha256": hashlib.sha256(data).hexdigest()})
    hub.files["models.example/birds.ckpt"] = Served(data)
    monkeypatch.delenv("PVT_HUB_MIRROR")
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    assert fetch("lab/birds").path.read_bytes() == data
    assert hub.paths() == ["/models.example/birds.ckpt"]


def test_without_a_hash_an_unprotected_connection_is_refused(hub, served, monkeypatch):
    monkeypatch.setenv("PVT_HUB_MIRROR", "http://mirror.example")
    assert tells(refused(), "https") and left(hub) == []


def test_certificates_are_verified(settled, tmp_path, monkeypatch):
    with LocalHub(tmp_path, tls=True) as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        publish(hub, NAME, NANO)
        assert tells(refused(), "REQUESTS_CA_BUNDLE") and left(hub) == [] and hub.asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        assert fetch(NAME).path.exists()


def test_interrupted_processes_leave_what_can_be_gone_on_with(hub, served):
    served.pause = 0.05
    code = f"from convert.hub.fetching import fetch; fetch({NAME!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    part = hub.cache / NAME / f".{found_file(hub)}.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    served.pause = 0
    assert fetch(NAME).path.read_bytes() == served.data
    assert hub.asked[-1].range == f"bytes={hub.asked[-1].range.split('=')[1]}"  # type: ignore[union-attr]


def test_notes_are_json(hub, served):
    path = fetch(NAME).path
    note = json.loads((path.parent / "hub.json").read_text())
    assert note["files"][path.name]["sha256"] == hashlib.sha256(served.data).hexdigest()
    assert threading.active_count() < 20
