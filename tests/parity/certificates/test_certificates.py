"""What is certified gives the same bytes, and a file that is another is told, with what differs."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from convert import Changes, Options, convert_file, load_model, save_model
from convert.certificates.record import encode_canonical, read_certificate
from parity.certificates import command
from parity.command_line import main
from parity.runtimes.table import machine_facts
from pvt_data.images.preprocessing import encode_png
from pvt_spec.hashes import hash_weights
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import SMALL, enlarge, info_of, random_weights
from tests.support.processes import run_blocked

RUN = ("--runtime", "onnxruntime", "--taps", "stages")

TENSOR = "block1.0.attn.q.weight"


def verified(certificate: Path, *arguments: object) -> dict:
    done = invoke(main, "verify", certificate, *arguments, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == (0 if found["good"] else 1), done.output
    return found


def changes(certificate: Path, path: Path) -> str:
    (file,) = verified(certificate, path)["files"]
    assert not file["good"] and not file["same_bytes"]
    return "; ".join(file["changes"])


def test_the_claim_is_of_the_file_as_others_read_it(certified):
    model, path = certified
    said = json.loads(path.read_bytes())
    claim = said["claim"]
    (file,), (held,) = claim["files"], claim["models"]
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert file["parts"] == [{"name": model.name, "bytes": model.stat().st_size, "sha256": digest}]
    weights, info = load_model(model)
    assert held["weights"] == hash_weights(weights) and held["labels"] == list(info.labels)
    assert held["numerics"] == dataclasses.asdict(info.numerics)
    assert claim["same"] and [r["runtime"] for r in claim["runtimes"]] == ["onnxruntime"]
    assert [image["group"] for image in claim["inputs"]["images"]].count("natural") == 4
    assert said["machine"]["runtimes"][0]["platform"] == machine_facts()["platform"]
    taps = said["measured"]["runtimes"][0]["taps"]
    assert "logits" in taps
    assert all(0 <= tap["times"] <= tap["allowed"] for tap in taps.values())
    assert said["measured"]["runtimes"][0]["decisions"]["top1_agreement"] == 1


def test_what_is_claimed_gives_the_same_bytes_again(certified, tmp_path):
    model, path = certified
    moved = tmp_path / model.name
    moved.write_bytes(model.read_bytes())
    done = invoke(main, "certify", moved, "-o", tmp_path / "again.json", *RUN)
    assert done.exit_code == 0, done.output
    claims = [json.loads(p.read_bytes())["claim"] for p in (path, tmp_path / "again.json")]
    assert encode_canonical(claims[0]) == encode_canonical(claims[1])
    assert path.read_bytes().find(encode_canonical(claims[0])) > 0, "the claim as it stands there"
    assert "exists" in refusal(main, "certify", moved, "-o", tmp_path / "again.json", *RUN)


def test_same_bytes_and_the_same_weights_in_every_container_verify(certified, tmp_path):
    model, path = certified
    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes(model.read_bytes())
    targets = [tmp_path / name for name in ("a.ckpt", "a.pth", "a.onnx")]
    for target in targets:
        convert_file(model, target)
    found = verified(path, copy, *targets)
    assert found["good"]
    assert [file["same_bytes"] for file in found["files"]] == [True, False, False, False]


@pytest.mark.parametrize("name", ["a.safetensors", "a.onnx"])
def test_what_differs_is_named(name, certified, tmp_path):
    model, path = certified
    weights, info = load_model(model)
    target = tmp_path / name
    preprocessing = dataclasses.replace(info.preprocessing, crop_pct=0.9)
    numerics = dataclasses.replace(info.numerics, norm1_eps=1e-5)
    labels = (*info.labels[:3], "another", *info.labels[4:])
    for word, held, said in (
        (TENSOR, enlarge(weights, TENSOR), info),
        ("label 3", weights, dataclasses.replace(info, labels=labels)),
        ("crop_pct", weights, dataclasses.replace(info, preprocessing=preprocessing)),
        ("norm1_eps", weights, dataclasses.replace(info, numerics=numerics)),
        ("labels", weights, dataclasses.replace(info, labels=())),
    ):
        save_model(target, held, said, force=True)
        told = changes(path, target)
        assert word in told and told.count("certified") == ("certified" in told), told
    convert_file(model, target, changes=Changes(num_classes=0), options=Options(force=True))
    told = changes(path, target)
    assert "num_classes" in told and "head.weight" in told


def test_weights_beside_those_that_were_compared_are_told(certified, tmp_path):
    import torch

    model, path = certified
    convert_file(model, target := tmp_path / "a.pth")
    held = torch.load(target, weights_only=True)
    (file,) = verified(path, target)["files"]
    assert file["good"] and not file["remarks"]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in held["state_dict"].items()}
    torch.save({**held, "state_dict_ema": zeros}, target)
    (file,) = verified(path, target)["files"]
    assert file["good"] and "beside" in file["remarks"][0]


def test_a_changed_byte_of_a_weight_is_named(certified, tmp_path):
    model, path = certified
    data, target = bytearray(model.read_bytes()), tmp_path / "a.safetensors"
    length = int.from_bytes(data[:8], "little")
    begin, _ = json.loads(data[8 : 8 + length])[TENSOR]["data_offsets"]
    data[8 + length + begin] ^= 1
    target.write_bytes(data)
    assert TENSOR in changes(path, target)


def test_a_graph_that_nobody_certified_is_told_though_it_says_it_is_as_written(certified, tmp_path):
    from pvt_onnx.graph.build import hash_graph
    from pvt_spec import METADATA_KEY
    from pvt_spec.hashes import GRAPH_KEY

    model, path = certified
    target = tmp_path / "a.onnx"
    convert_file(model, target)
    proto = onnx.load(target)
    node = next(node for node in proto.graph.node if node.op_type == "LayerNormalization")
    next(a for a in node.attribute if a.name == "epsilon").f = 1e-3
    texts = {each.key: each for each in proto.metadata_props}
    texts[GRAPH_KEY].value = hash_graph(proto, texts[METADATA_KEY].value)
    onnx.save(proto, target)
    assert "graph" in changes(path, target)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of Hugging Face, and its certificate."""
    made = tmp_path_factory.mktemp("folder")
    model, path = made / "model", made / "port.json"
    save_model(model, random_weights(SMALL["v2"]), info_of(SMALL["v2"], "hf"))
    done = invoke(main, "certify", model, "-o", path, *RUN, "--random", 1)
    assert done.exit_code == 0, done.output
    return model, path


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("config.json", {"dtype": "float16"}),
        ("config.json", {"torch_dtype": "float16"}),
        ("config.json", {"auto_map": {"AutoModelForImageClassification": "other.Model"}}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "other.Processor"}}),
        ("preprocessor_config.json", {"do_pad": True, "pad_size": {"height": 80, "width": 80}}),
        ("preprocessor_config.json", {"image_processor_type": "BeitImageProcessor"}),
    ],
)
def test_of_a_folder_what_is_not_compared_is_told(name, more, folder, tmp_path):
    model, path = folder
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    said = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(said))
    (file,) = verified(path, copy)["files"]
    assert file["good"] and not file["same_bytes"], file
    (copy / name).write_text(json.dumps({**said, **more}))
    assert name in (told := changes(path, copy)) and str(next(iter(more.values()))) in told


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("adapter_config.json", {"peft_type": "LORA"}),
        ("processor_config.json", {"image_processor": {"image_mean": [0, 0, 0]}}),
    ],
)
def test_a_folder_with_more_than_transformers_needs_is_refused(name, holds, folder, tmp_path):
    model, path = folder
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / name).write_text(json.dumps(holds))
    assert name in refusal(main, "verify", path, copy)


def test_run_again_this_machine_gets_the_verdict(certified, tmp_path):
    model, path = certified
    found = verified(path, model, "--rerun", "--html", tmp_path / "page.html")
    assert found["good"] and found["same_verdict"] and found["not_run"] == []
    assert hashlib.sha256(path.read_bytes()).hexdigest() in (tmp_path / "page.html").read_text()


def test_image_files_are_to_be_the_same_ones(certified, tmp_path):
    model, _ = certified
    rng = np.random.default_rng(0)
    images, path = tmp_path / "images", tmp_path / "port.json"
    images.mkdir()
    for name in ("0.png", "1.png"):
        (images / name).write_bytes(encode_png(rng.integers(0, 256, (80, 90, 3), np.uint8), 90))
    certify = ("certify", model, "-o", path, *RUN, "--images", images)
    assert invoke(main, *certify).exit_code == 0
    named = json.loads(path.read_bytes())["claim"]["inputs"]["images"]
    assert [image["name"] for image in named] == ["0.png", "1.png"]
    digests = [hashlib.sha256((images / i["name"]).read_bytes()).hexdigest() for i in named]
    assert [image["file"] for image in named] == digests
    done = invoke(main, "verify", path, model, "--rerun")
    assert done.exit_code == 2 and "--images" in done.output
    assert verified(path, model, "--rerun", "--images", images)["same_verdict"]
    (images / "1.png").write_bytes((images / "0.png").read_bytes())
    assert "1.png" in refusal(main, "verify", path, model, "--rerun", "--images", images)


def test_a_bundle_that_is_replaced_meanwhile_is_not_certified(certified, tmp_path, monkeypatch):
    model, _ = certified
    bundle, run = tmp_path / "b.npz", command.run_asked
    assert invoke(main, "capture", model, *RUN, "-o", bundle).exit_code == 0

    def run_and_replace(*given):
        found = run(*given)
        bundle.write_bytes(bundle.read_bytes())
        return found

    monkeypatch.setattr(command, "run_asked", run_and_replace)
    told = refusal(main, "certify", model, bundle, "-o", tmp_path / "port.json", *RUN)
    assert tells(told, "b.npz", "was written to") and not (tmp_path / "port.json").exists()


def test_a_difference_is_certified_as_one(certified, tmp_path):
    model, _ = certified
    weights, info = load_model(model)
    other, path = tmp_path / "other.onnx", tmp_path / "port.json"
    save_model(other, enlarge(weights, TENSOR), info)
    done = invoke(main, "certify", model, other, "-o", path, "--runtime", "onnxruntime")
    assert done.exit_code == 1, done.output
    claim = read_certificate(path).certificate.claim
    assert not claim.same and [ruling.same for ruling in claim.runtimes] == [True, False]
    assert [file.model for file in claim.files] == [0, 1]
    assert claim.runtimes[1].first_different == "block1.0.attn"
    found = verified(path, model, other, "--rerun")
    assert not found["good"] and all(file["good"] for file in found["files"])


def test_another_image_size_is_of_the_run_not_of_the_model(certified, tmp_path):
    model, _ = certified
    path = tmp_path / "port.json"
    done = invoke(main, "certify", model, "-o", path, *RUN, "--image-size", "96", "--random", 1)
    assert done.exit_code == 0, done.output
    claim = json.loads(path.read_bytes())["claim"]
    assert claim["inputs"]["image_size"] == [96, 96] and claim["inputs"]["source"] == "noise"
    assert claim["models"][0]["preprocessing"]["image_size"] == [64, 64]
    assert verified(path, model, "--rerun")["same_verdict"]


def test_verify_needs_no_framework(certified):
    model, path = certified
    blocked = ["torch", "mindspore", "onnxruntime"]
    command = ["parity", "verify", str(path), str(model)]
    imported, printed = run_blocked(blocked, commands=[command])
    assert "the same bytes" in printed and not {*blocked} & imported
