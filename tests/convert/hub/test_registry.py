"""What is known of published weights, and a user's own registry."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from convert.hub.places import find_places
from convert.hub.registry import DETECTION, read_registry, record
from convert.names.dialects import find_dialect
from pvt_spec import PROFILES, VARIANTS
from pvt_spec.errors import ConvertError
from tests.support.messages import tells

NOWHERE = Path("no registry of a user's")


def test_every_row_is_whole():
    rows = read_registry(NOWHERE)
    counts = {"official": 11, "mindcv": 11, "timm": 7, "OpenGVLab": 7, "Zetatech": 4, "mmdet": 9}
    assert Counter(row.source for row in rows.values()) == counts
    for row in rows.values():
        assert row.variant in VARIANTS and row.profile in PROFILES, row
        assert row.dialect and find_dialect(row.dialect, VARIANTS[row.variant].version)
        assert (row.task == DETECTION) == (row.source == "mmdet")
        assert (row.top1 is None) == (row.reported is None)
        assert row.size is row.sha256 is row.commit is None  # nobody has downloaded them here
        if row.address:
            assert row.address.startswith("https://") and row.licence == "Apache-2.0"
            assert row.digits is None or row.digits in row.file
            assert (row.digits is None) == (row.source == "official")
    assert rows["mindcv/pvt_v2_b4"].digits == "1cf4bc03" and rows["mindcv/pvt_v2_b4"].top1 == 83.14
    assert rows["timm/pvt_v2_b2_li.in1k"].top1 == 82.2
    assert rows["official/pvt_v2_b5"].hosts == ("githubusercontent.com",)


def test_what_is_recorded_fills_rows_in_and_adds_some(tmp_path):
    own = tmp_path / "deep" / "registry.json"
    record(own, "official/pvt_tiny", {"size": 9, "sha256": "ab" * 32})
    record(own, "lab/birds", {"address": "https://lab.example/birds.pth", "top1": 91.0})
    record(own, "official/pvt_tiny", {"size": 10})
    rows = read_registry(own)
    tiny = rows["official/pvt_tiny"]
    assert (tiny.size, tiny.sha256, tiny.top1) == (10, "ab" * 32, 75.1)
    assert {"size", "sha256"} <= {*tiny.recorded}
    assert rows["lab/birds"].file == "birds.pth" and [*rows][-1] == "lab/birds"
    assert [*own.parent.iterdir()] == [own]


def test_threads_record_one_after_the_other(tmp_path):
    own = tmp_path / "registry.json"
    facts = {"address": "https://lab.example/x.pth"}
    threads = [
        threading.Thread(target=record, args=(own, f"lab/n{number}", facts)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(own.read_text())["files"]) == 8


@pytest.mark.parametrize(
    "files, said",
    [
        ({}, "files"),
        ([{"size": 1}], "name"),
        ([{"name": "a/b"}, {"name": "a/b"}], "twice"),
        ([{"name": "a/b"}], "address"),
        ([{"name": "../b", "address": "https://x.example/y.pth"}], "'../b'"),
        ([{"name": "a/b", "address": "file:///etc/passwd"}], "address"),
        ([{"name": "a/b", "address": "https://x.example/y.pth?z"}], "address"),
        ([{"name": "a/b", "address": "https://x.example/.."}], "address"),
        (
            [
                {
                    "name": "a/b",
                    "address": "https://x.example/y.pth",
                    "reported": "javascript:alert(1)",
                    "top1": 75.0,
                }
            ],
            "reported",
        ),
        ([{"name": "a/b", "address": "https://x.example/a/."}], "address"),
        ([{"name": "a/b", "address": "https://x.example/hub.json"}], "address"),
        ([{"name": "a/b", "address": "https://x.example/a\0b.pth"}], "address"),
        ([{"name": "official/pvt_tiny", "sha256": "xyz"}], "sha256"),
        ([{"name": "official/pvt_tiny", "size": "large"}], "size"),
        ([{"name": "official/pvt_tiny", "colour": "red"}], "colour"),
        ([{"name": "a/b", "repository": "../x"}], "repository"),
        ([{"name": "timm/pvt_v2_b0.in1k", "commit": "main"}], "commit"),
    ],
)
def test_a_registry_that_says_what_cannot_be_is_refused(files, said, tmp_path):
    own = tmp_path / "registry.json"
    own.write_text(json.dumps({"format": 1, "files": files}))
    with pytest.raises(ConvertError) as error:
        read_registry(own)
    assert tells(error.value, own) and said in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2, "files": []}', "\x00"])
def test_what_is_no_registry_is_refused(text, tmp_path):
    own = tmp_path / "registry.json"
    own.write_text(text)
    with pytest.raises(ConvertError) as error:
        read_registry(own)
    assert tells(error.value, own)
    with pytest.raises(ConvertError):
        record(own, "a/b", {"size": 1})
    assert own.read_text() == text


def test_places_are_what_the_environment_says(tmp_path):
    home = Path.home()
    usual = find_places({})
    assert usual.cache == home / ".cache/pvt-twins/hub" and not usual.offline and not usual.mirror
    assert usual.registry == home / ".local/share/pvt-twins/hub.json"
    xdg = find_places({"XDG_CACHE_HOME": str(tmp_path), "XDG_DATA_HOME": "relative"})
    assert xdg.cache == tmp_path / "pvt-twins/hub" and xdg.registry == usual.registry
    own = {"PVT_HUB_CACHE": str(tmp_path / "c"), "PVT_HUB_REGISTRY": str(tmp_path / "r.json")}
    said = find_places({**own, "PVT_HUB_MIRROR": "https://m.example/x/", "HF_HUB_OFFLINE": "1"})
    assert (said.cache, said.registry) == (tmp_path / "c", tmp_path / "r.json") and said.offline
    assert said.mirrored("https://a.example/b") == "https://m.example/x/a.example/b"
    for mirror in ("m.example", "ftp://m.example", "https://", "https://[", "https://m.example?x"):
        with pytest.raises(ConvertError, match="PVT_HUB_MIRROR"):
            find_places({"PVT_HUB_MIRROR": mirror})


def test_a_login_in_the_mirror_is_refused_and_not_told():
    with pytest.raises(ConvertError, match="netrc") as error:
        find_places({"PVT_HUB_MIRROR": "https://user:password@m.example/x"})
    assert "password" not in str(error.value)
