"""A certificate's hash travels in every format, and a folder's card says what is known."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from convert import Changes, ConvertError, Options, convert_file, load_model, read_model, save_model
from convert.command_line import main as convert_main
from convert.formats.huggingface.card import Known, Reported, make_card
from convert.model.changes import CHANGED
from convert.model.write import find_reported
from parity.command_line import main as parity_main
from pvt_data.sources.imagenet import imagenet_names
from pvt_spec import ModelInfo, make_config
from pvt_spec.errors import FileExists
from tests.support.commands import invoke, refusal
from tests.support.messages import naming
from tests.support.models import SMALL, enlarge, info_of, random_weights

TARGETS = ("a.ckpt", "a.pth", "a.safetensors", "a.onnx", "folder")
RUN = ("--runtime", "onnxruntime", "--taps", "logits", "--random", "1")


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of transformers' maths, which every format can hold, and its certificate."""
    folder = tmp_path_factory.mktemp("certified")
    model, certificate = folder / "small.safetensors", folder / "port.json"
    save_model(model, random_weights(SMALL["v2"]), info_of(SMALL["v2"], "hf"))
    done = invoke(parity_main, "certify", model, "-o", certificate, *RUN)
    assert done.exit_code == 0, done.output
    return model, certificate


def test_every_format_carries_its_hash_and_verifies_without_it(certified, tmp_path):
    model, certificate = certified
    digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
    targets = [tmp_path / name for name in TARGETS]
    for target in targets:
        convert_file(model, target, options=Options(certificate=certificate))
        assert read_model(target).certificate == digest, target
    done = invoke(parity_main, "verify", certificate, *targets)
    assert done.exit_code == 0, done.output
    stamped = [line for line in done.stdout.splitlines() if "stamped with this" in line]
    assert len(stamped) == len(targets)
    done = invoke(convert_main, targets[0], tmp_path / "b.pth")
    assert done.exit_code == 0 and digest in done.stderr, "what is not carried over is told"
    assert read_model(tmp_path / "b.pth").certificate == ""


def test_a_certificate_of_another_model_is_refused_and_nothing_written(certified, tmp_path):
    model, certificate = certified
    weights, info = load_model(model)
    other = tmp_path / "other.pth"
    save_model(other, enlarge(weights, "head.weight"), info)
    stamped = Options(certificate=certificate)
    for source, target, changes, word in (
        (other, tmp_path / "a.onnx", Changes(), "head.weight"),
        (model, tmp_path / "b.onnx", Changes(image_size=(96, 96)), "image_size"),
        (model, tmp_path / "c.pth", Changes(dtype="float16"), "weights"),
        (model, tmp_path / "d", Changes(num_classes=0), "num_classes"),
    ):
        with pytest.raises(ConvertError, match=word):
            convert_file(source, target, changes=changes, options=stamped)
        assert not target.exists()
    for broken in (model, tmp_path / "none.json"):
        told = refusal(convert_main, model, tmp_path / "e.pth", "--certificate", broken)
        assert str(broken) in told
    assert [path.name for path in tmp_path.iterdir()] == ["other.pth"]


@pytest.mark.parametrize("target", ["own.json", "a.pth"])
def test_a_certificate_is_not_written_over(certified, tmp_path, target):
    model, certificate = certified
    own = tmp_path / target
    own.write_bytes(certificate.read_bytes())
    options = Options(certificate=own, report=tmp_path / "own.json", force=True)
    with pytest.raises(ConvertError, match=naming(target, "source")):
        convert_file(model, tmp_path / "a.pth", options=options)
    assert own.read_bytes() == certificate.read_bytes()


def head_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_folder_has_a_card_that_the_hub_reads(certified, tmp_path):
    model, certificate = certified
    convert_file(model, tmp_path / "a", options=Options(certificate=certificate))
    text = (tmp_path / "a/README.md").read_text()
    card = ModelCard(text)
    assert card.data.library_name == "transformers" and card.data.license is None
    assert card.data.pipeline_tag == "image-classification" and "pvt" in card.data.tags
    assert hashlib.sha256(certificate.read_bytes()).hexdigest() in text
    assert "onnxruntime, small.safetensors: same" in text


def test_what_is_known_of_published_weights_is_on_the_card():
    config = SMALL["v1"]
    config = type(config)(**{**vars(config), "num_classes": 1000})
    info = info_of(config, "hf", *imagenet_names())
    said = {"hub": "official/x", "licence": "Apache-2.0", "a`b<c": "d\n---\nlicense: mit"}
    info = ModelInfo(info.config, info.numerics, info.preprocessing, info.labels, said)
    card = make_card(info, Known(None, Reported(75.1, "https://example.org/results")))
    assert card.count("\n---\n") == 1, "nothing from outside ends the block of metadata"
    data = ModelCard(card).data
    assert data.license == "apache-2.0" and data.datasets == ["imagenet-1k"]
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 75.1)
    assert result.source_url == "https://example.org/results"
    assert head_of(card)["model-index"][0]["results"][0]["dataset"]["split"] == "validation"
    bare = make_card(ModelInfo(info.config, info.numerics, info.preprocessing))
    assert not {"license", "datasets", "model-index"} & head_of(bare).keys()


def test_a_card_shows_no_image_and_no_link_that_a_file_says():
    said = {"[page](https://x.example)": "a", "licence": "MIT ![](https://x.example/seen.png)"}
    card = make_card(replace(info_of(SMALL["v2"], "hf"), provenance=said))
    _, _, page = card.split("---\n", 2)
    assert page.count("x.example") == 3 and "](" not in page


def test_an_accuracy_is_of_published_weights_as_they_were_published():
    info = info_of(make_config("pvt_v2_b0"))
    published = {"hub": "timm/pvt_v2_b0.in1k"}
    found = find_reported(replace(info, provenance=published))
    assert found and found.top1 == 70.654 and found.address.startswith("https://")
    smaller = replace(info.preprocessing, image_size=(192, 192))
    for other in (
        info,
        replace(info, provenance={**published, CHANGED: "official"}),
        replace(info, provenance=published, preprocessing=smaller),
        replace(info_of(make_config("pvt_v2_b1")), provenance=published),
        replace(info, provenance={"hub": "nobody/nothing"}),
    ):
        assert find_reported(other) is None


def test_a_readme_that_is_there_is_kept_unless_forced(certified, tmp_path):
    model, _ = certified
    readme = tmp_path / "a/README.md"
    readme.parent.mkdir()
    readme.write_text("mine")
    with pytest.raises(FileExists, match=r"README\.md"):
        convert_file(model, tmp_path / "a")
    assert [path.name for path in readme.parent.iterdir()] == ["README.md"]
    assert readme.read_text() == "mine"
    convert_file(model, tmp_path / "a", options=Options(force=True))
    assert readme.read_text() != "mine"


def test_weights_in_float16_are_stamped_by_a_certificate_of_theirs(certified, tmp_path):
    """What convert writes with --precision fp16 is of other weights: it is certified itself."""
    weights, info = load_model(certified[0])
    halves = {n: a.astype(np.float16).astype(np.float32) for n, a in weights.items()}
    model, path = tmp_path / "a.safetensors", tmp_path / "port.json"
    save_model(model, halves, info)
    assert invoke(parity_main, "certify", model, "-o", path, *RUN).exit_code == 0
    convert_file(
        model,
        tmp_path / "a.pth",
        changes=Changes(dtype="float16"),
        options=Options(certificate=path),
    )
    assert invoke(parity_main, "verify", path, tmp_path / "a.pth").exit_code == 0
