"""Commands that are given names of published weights."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from convert.command_line import main as convert
from convert.hub.fetching import fetch
from convert.hub.listing import list_rows
from convert.hub.places import find_places
from convert.hub.registry import DETECTION, read_registry
from convert.model.read import read_model
from pvt_spec import make_config
from tests.support.commands import invoke, refusal
from tests.support.hub import publish
from tests.support.hub.asking import REAL
from tests.support.hub.hosts import Repository
from tests.support.hub.published import COMMIT
from tests.support.messages import tells
from tests.support.models import SMALL

NANO = make_config("pvt_nano")


def draw(folder: Path) -> Path:
    """An image of a class, in a folder of such."""
    path = folder / "val" / "0" / "grey.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (32, 32), "grey").save(path)
    return path


SMALLEST = (
    "official/pvt_v2_b0",
    "mindcv/pvt_v2_b0",
    "mindcv/pvt_v2_b0-910v2",
    "timm/pvt_v2_b0.in1k",
    "OpenGVLab/pvt_v2_b0",
    "Zetatech/pvt-tiny-224",
    "mmdet/retinanet_pvtv2-b0_fpn_1x_coco",
)
"""The smallest weights of each source and kind."""


@pytest.mark.sampled
@pytest.mark.parametrize("name", SMALLEST)
def test_each_source_is_fetched_verified_and_understood(name, hosts, tmp_path):
    if hosts:
        publish(hosts, name)
    row = read_registry(tmp_path / "none.json")[name]
    report = tmp_path / "report.json"
    done = invoke(convert, f"hub:{name}", tmp_path / "m.safetensors", "--report", report)
    assert done.exit_code == 0, done.output
    facts = json.loads(report.read_text())
    assert facts["hub"] == name and facts["dialect"] == row.dialect
    assert facts["variant"] == row.variant and facts["profile"] == row.profile
    assert "is known of this name" not in done.stderr
    assert tells(done.stderr, facts["sha256"])
    if REAL and row.digits:
        assert facts["sha256"].startswith(row.digits)
    info = read_model(tmp_path / "m.safetensors").info
    assert info.provenance["hub"] == name and info.provenance["sha256"] == facts["sha256"]
    assert (info.provenance.get("commit") is None) == (row.repository is None)


@pytest.mark.long
def test_every_row_is_fetched_at_its_own_shapes(hosts, tmp_path):
    for name, row in read_registry(tmp_path / "none.json").items():
        if hosts:
            publish(hosts, name)
        found = fetch(name, tell=lambda _: None)
        model = read_model(f"hub:{name}", keep_head=row.task != DETECTION)
        assert model.info.variant == row.variant, name
        if hosts:
            hosts.files.clear()
            hosts.repositories.clear()
            for path in found.path.iterdir() if found.path.is_dir() else [found.path]:
                os.unlink(os.path.realpath(path))


def test_a_default_is_printed_and_asked_for_once(hub, tmp_path):
    publish(hub, "official/pvt_tiny", NANO)
    done = invoke(convert, "hub:pvt_tiny", tmp_path / "t.onnx")
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, "official/pvt_tiny", "mindcv/pvt_tiny", "Zetatech/pvt-tiny-224")
    assert "pvt_nano" in done.stderr and "pvt_tiny is known of this name" in done.stderr
    assert len(hub.asked) == 1
    assert invoke(convert, "pth-to-onnx", "hub:pvt_tiny", tmp_path / "u.onnx").exit_code == 0
    assert (tmp_path / "t.onnx").read_bytes() == (tmp_path / "u.onnx").read_bytes()
    inspected = json.loads(invoke(convert, "inspect", "hub:pvt_tiny", "--json").stdout)
    assert inspected["hub"] == "official/pvt_tiny" and inspected["provenance"]["address"]
    same = invoke(convert, "inspect", "hub:pvt_tiny", "--diff", tmp_path / "t.onnx")
    assert "other bytes" not in same.stdout


def test_nothing_is_downloaded_for_a_target_that_cannot_be(hub, tmp_path):
    publish(hub, "official/pvt_tiny", NANO)
    (tmp_path / "t.onnx").write_text("x")
    assert "--force" in refusal(convert, "hub:pvt_tiny", tmp_path / "t.onnx")
    assert "hub:x" in refusal(convert, tmp_path / "t.onnx", "hub:x")
    missing = invoke(convert, "hub:pvt_tiny")
    assert missing.exit_code == 2 and "DST" in missing.stderr
    assert hub.asked == []


def test_weights_are_listed_with_what_is_known(hub):
    publish(hub, "mindcv/pvt_tiny", NANO)
    fetch("mindcv/pvt_tiny")
    done = invoke(convert, "hub")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and len(lines) == 50
    for head in ("name", "variant", "from", "size", "dialect", "maths", "licence", "top-1"):
        assert head in lines[0]
    (line,) = [line for line in lines if line.startswith("mindcv/pvt_tiny ")]
    assert tells(line, "download.mindspore.cn", "mindcv", "Apache-2.0", "74.81", "yes")
    assert sum(line.endswith(" yes") for line in lines) == 1
    rows = json.loads(invoke(convert, "hub", "--json", "pvt_tiny").stdout)
    assert [row["name"] for row in rows][:2] == ["official/pvt_tiny", "mindcv/pvt_tiny"]
    assert rows[1]["cached"] and rows[0]["cached"] is None and rows[0]["top1"] == 75.1
    assert len(json.loads(invoke(convert, "hub", "--json", "timm").stdout)) == 7
    assert "hub:pvt_tiny" in refusal(convert, "hub", "pvt_tinny")


def test_what_a_registry_says_moves_no_cursor_and_fills_no_screen(hub):
    row = {"name": "lab/x", "address": "https://a.example/x.pth", "top1": 1e308}
    files = [{**row, "licence": "\x1b[2J" + "y" * 60_000}]
    find_places().registry.write_text(json.dumps({"format": 1, "files": files}))
    done = invoke(convert, "hub", "lab")
    assert done.exit_code == 0 and len(done.stdout) < 3000
    assert done.stdout.replace("\n", "").isprintable()


def test_what_was_verified_is_recorded(hub):
    data = publish(hub, "official/pvt_v2_b0")
    publish(hub, "OpenGVLab/pvt_v2_b0")
    done = invoke(convert, "hub", "--record", "hub:official/pvt_v2_b0", "OpenGVLab/pvt_v2_b0")
    assert done.exit_code == 0 and tells(done.stderr, len(data)), done.output
    rows = read_registry(hub.registry)
    row, other = rows["official/pvt_v2_b0"], rows["OpenGVLab/pvt_v2_b0"]
    assert row.size == len(data) and row.sha256 and row.licence == "Apache-2.0"
    assert other.commit == COMMIT and other.licence == "apache-2.0" and other.sha256
    assert [each.path is not None for each in list_rows(["pvt_v2_b0"])][:1] == [True]
    before = hub.registry.read_text()
    again = invoke(convert, "hub", "--record")
    assert again.exit_code == 0 and hub.registry.read_text() == before


def test_another_model_than_the_row_s_is_not_recorded(hub):
    publish(hub, "official/pvt_tiny", NANO)
    assert tells(refusal(convert, "hub", "--record", "official/pvt_tiny"), "pvt_nano", "pvt_tiny")
    assert not hub.registry.exists()


def test_pvt_onnx_says_how_to_make_a_file(hub, tmp_path):
    from pvt_onnx import load
    from pvt_onnx.command_line import main
    from pvt_spec.errors import PvtError

    image = draw(tmp_path)
    typed = "convert hub:mindcv/pvt_tiny pvt_tiny.onnx"
    for words in (
        ("predict", "hub:mindcv/pvt_tiny", image),
        ("validate", "hub:mindcv/pvt_tiny", "--data-dir", tmp_path / "val"),
        ("benchmark", "hub:mindcv/pvt_tiny"),
        ("quantize", "hub:mindcv/pvt_tiny", tmp_path / "q.onnx", "--method", "dynamic"),
        ("repository", "hub:mindcv/pvt_tiny", tmp_path / "models"),
        ("serve", "hub:mindcv/pvt_tiny"),
    ):
        assert typed in refusal(main, *words), words
    with pytest.raises(PvtError, match=typed):
        load("hub:mindcv/pvt_tiny")
    assert "pvt_v2_b0.in1k.onnx" in refusal(main, "benchmark", "hub:timm/pvt_v2_b0.in1k@main")
    assert hub.asked == []


def test_parity_and_pvt_torch_take_names(hub, tmp_path):
    from parity.command_line import main as parity
    from pvt_torch.command_line import main as pvt_torch

    publish(hub, "official/pvt_tiny", NANO)
    words = ("run", "hub:official/pvt_tiny", "--runtime", "onnxruntime", "--random", 1)
    done = invoke(parity, *words)
    assert done.exit_code == 0 and tells(done.stderr, "official/pvt_tiny"), done.output
    image = draw(tmp_path)
    done = invoke(pvt_torch, "predict", "hub:official/pvt_tiny", image, "--json")
    assert done.exit_code == 0 and tells(done.stderr, "official/pvt_tiny"), done.output
    options = ("--engine", "torch", "--rounds", 1, "--seconds", 0, "--pause", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVT_HUB_OFFLINE", "1")
        done = invoke(pvt_torch, "benchmark", "hub:official/pvt_tiny", *options)
    assert done.exit_code == 0 and tells(done.stderr, "official/pvt_tiny"), done.output
    assert len(hub.asked) == 1


@pytest.mark.long
def test_pvt_ms_takes_names(hub, tmp_path):
    from pvt_ms.command_line import main

    publish(hub, "mindcv/pvt_tiny", NANO)
    image = draw(tmp_path)
    done = invoke(main, "predict", "hub:mindcv/pvt_tiny", image)
    assert done.exit_code == 0 and tells(done.stderr, "mindcv/pvt_tiny"), done.output


def test_training_starts_from_a_name(hub):
    from pvt_train.recipe.keys import Recipe
    from pvt_train.run.launch import starting_point

    data = publish(hub, "mindcv/pvt_tiny", NANO)
    recipe = Recipe(model="pvt_nano", pretrained="hub:mindcv/pvt_tiny", num_classes=10)
    weights, info, notes = starting_point(recipe, [str(n) for n in range(10)], None)
    assert info.profile.startswith("mindcv") and any("mindcv/pvt_tiny" in note for note in notes)
    name = "block1.0.mlp.fc1.weight"
    expected = read_model("hub:mindcv/pvt_tiny").weights[name]
    assert weights[name].tobytes() == expected.tobytes() and expected.tobytes() in data


def test_other_sizes_of_a_repository_are_taken(hub):
    publish(hub, "OpenGVLab/pvt_v2_b0", SMALL["v2"])
    assert isinstance(hub.repositories["OpenGVLab/pvt_v2_b0"], Repository)
    model = read_model("hub:OpenGVLab/pvt_v2_b0")
    assert model.info.config.depths == SMALL["v2"].depths and model.info.variant is None
    assert model.info.provenance["commit"] == COMMIT
