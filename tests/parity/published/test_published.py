"""Weights of a local hub are ported and proved one after the other; the disk is left as it was."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from convert.hub.registry import record
from parity.command_line import main
from parity.published.entry import Entry, read_entry, write_entry
from parity.published.work import _clear
from pvt_spec.files.locks import held
from tests.support.commands import invoke, refusal
from tests.support.hub import LocalHub
from tests.support.hub.published import publish
from tests.support.messages import tells
from tests.support.models import SMALL

FAST = ("--runtime", "torch", "--runtime", "onnxruntime", "--random", "1", "--taps", "stages")
NAMES = ("official/pvt_v2_b0", "mindcv/pvt_v2_b0")


def table(folder: Path) -> dict:
    rows = json.loads((folder / "published.json").read_bytes())["weights"]
    return {row["name"]: row for row in rows}


def small(hub: LocalHub, *names: str) -> dict[str, bytes]:
    """Small random weights in the place of published ones."""
    data = {name: publish(hub, name, SMALL["v2"]) for name in names}
    for name in names:
        # They are of no variant, as the registry's are.
        record(hub.registry, name, {"top1": 70.5})
    return data


def test_all_is_told_nothing_is_left_and_nothing_done_twice(hub, tmp_path):
    data, folder = small(hub, *NAMES), tmp_path / "table"
    done = invoke(main, "published", *NAMES, "--output", folder, *FAST)
    assert done.exit_code == 0, done.output
    rows = table(folder)
    for name in NAMES:
        row = rows[name]
        assert row["good"] and row["top1"] == 70.5 and row["problem"] == ""
        assert row["sha256"] == hashlib.sha256(data[name]).hexdigest()
        assert [run["runtime"] for run in row["runtimes"]] == ["torch", "onnxruntime"]
        assert all(run["same"] and 0 < run["worst"] < 1 for run in row["runtimes"])
        assert {"download", "convert", "prove", "verify"} == {*row["seconds"]}
        left = [path.name for path in (folder / name.replace("/", "--")).iterdir()]
        assert sorted(left) == ["port.json", "result.json"]
        certificate = (folder / name.replace("/", "--") / "port.json").read_bytes()
        assert hashlib.sha256(certificate).hexdigest() == row["certificate"]
    written = {each["name"]: each["problem"] for each in rows[NAMES[0]]["formats"]}
    assert len(written) == 5 and [name for name, problem in written.items() if problem] == [
        "huggingface"
    ]
    assert "answer otherwise" in written["huggingface"], "transformers has other epsilons"
    assert not [path for path in hub.cache.rglob("*") if path.suffix in (".pth", ".ckpt")]
    page = (folder / "index.html").read_text()
    assert all(name in page for name in NAMES) and "70.5 %" in page
    asked = len(hub.asked)
    again = invoke(main, "published", *NAMES, "--output", folder, *FAST)
    assert again.exit_code == 0 and again.stderr.count("was done before") == 2
    assert len(hub.asked) == asked


def test_what_fails_is_told_and_tried_again_and_what_was_here_stays(hub, tmp_path):
    folder = tmp_path / "table"
    (name,) = small(hub, NAMES[1])
    good = hub.served(
        "https://download.mindspore.cn/toolkits/mindcv/pvt_v2/pvt_v2_b0-1c4f6683.ckpt"
    )
    data, good.data = good.data, good.data[:-1] + b"\0"
    done = invoke(main, "published", name, "--output", folder, *FAST)
    assert done.exit_code == 1, done.output
    row = table(folder)[name]
    assert not row["good"] and row["problem"] and row["runtimes"] == []
    good.data = data
    fetched = invoke(main, "published", name, "--output", folder, *FAST, "--keep")
    assert fetched.exit_code == 0, fetched.output
    kept = {path.suffix for path in (folder / "mindcv--pvt_v2_b0").iterdir()}
    assert kept >= {".ckpt", ".pth", ".onnx", ".safetensors"}
    cached = [path for path in hub.cache.rglob("*.ckpt")]
    assert cached, "kept"
    again = invoke(main, "published", name, "--output", folder, *FAST, "--again")
    assert again.exit_code == 0, again.output
    assert [path for path in hub.cache.rglob("*.ckpt")] == cached, "it was here before"


@pytest.mark.parametrize("name", ["mine.txt", "result.json", "port.json"])
def test_what_is_the_users_own_stays(name, hub, tmp_path):
    small(hub, NAMES[0])
    mine = tmp_path / "table/official--pvt_v2_b0" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    told = refusal(main, "published", NAMES[0], "--output", tmp_path / "table", *FAST)
    assert tells(told, mine.parent, name) and mine.read_text() == "mine"


def test_a_file_beside_what_an_earlier_run_has_left_stays(hub, tmp_path):
    small(hub, NAMES[0])
    folder = tmp_path / "official--pvt_v2_b0"
    folder.mkdir()
    write_entry(folder, Entry(NAMES[0], "0", "others"))
    (folder / "mine.txt").write_text("mine")
    told = refusal(main, "published", NAMES[0], "--output", tmp_path, *FAST)
    assert tells(told, folder, "mine.txt") and (folder / "mine.txt").exists()


@pytest.mark.parametrize("name", ["index.html", "published.json"])
def test_a_page_or_table_of_the_users_stays(name, hub, tmp_path):
    small(hub, NAMES[0])
    (tmp_path / name).write_text("mine")
    told = refusal(main, "published", NAMES[0], "--output", tmp_path, *FAST)
    assert str(tmp_path / name) in told and (tmp_path / name).read_text() == "mine"
    assert tells(told, "--output") and "--force" not in told, "there is none"


def test_two_do_not_write_into_one_folder(hub, tmp_path):
    small(hub, NAMES[0])
    (tmp_path / "table").mkdir()
    with held(tmp_path / "table/.published.lock"):
        told = refusal(main, "published", NAMES[0], "--output", tmp_path / "table", *FAST)
    assert tells(told, f"process {os.getpid()}", "--output")
    assert not [*(tmp_path / "table").iterdir()]


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "row"
    for path in (mine, folder):
        path.mkdir()
    (mine / "a.txt").write_text("mine")
    (folder / "link").symlink_to(mine)
    _clear(folder, everything=True)
    assert not [*folder.iterdir()] and (mine / "a.txt").exists()


@pytest.mark.long
def test_the_smallest_at_its_published_shapes_from_every_source(hub, tmp_path):
    names = [f"{source}/pvt_v2_b0" for source in ("official", "mindcv", "OpenGVLab")]
    names += ["timm/pvt_v2_b0.in1k", "mmdet/retinanet_pvtv2-b0_fpn_1x_coco"]
    for name in names:
        publish(hub, name)
    done = invoke(main, "published", *names, "--output", tmp_path / "table", "--random", 1)
    assert done.exit_code == 0, done.output
    rows = table(tmp_path / "table")
    assert all(rows[name]["good"] for name in names)
    for name in names:
        assert [run["runtime"] for run in rows[name]["runtimes"]] == [
            *("mindspore", "torch", "onnxruntime")
        ]
    written = {each["name"]: each for each in rows["OpenGVLab/pvt_v2_b0"]["formats"]}
    assert written["huggingface"]["verified"] and len(written["huggingface"]["parts"]) == 3
    left = [path for path in tmp_path.joinpath("hf").rglob("*.safetensors")]
    assert left == [], "what was downloaded is gone"


def test_a_pipe_in_the_place_of_what_is_kept_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    assert read_entry(tmp_path) is None


def test_a_file_in_the_place_of_the_folder_is_one_error(hub, tmp_path):
    (tmp_path / "table").write_text("mine")
    assert "expected a folder" in refusal(main, "published", "--output", tmp_path / "table", *FAST)
    assert (tmp_path / "table").read_text() == "mine"
