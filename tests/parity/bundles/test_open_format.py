"""What the document says of bundles and certificates is enough to write them, and old ones open."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from convert import Given, convert_file, save_model
from convert.certificates.record import CertifiedModel, read_certificate
from parity.bundles.bundle import Bundle
from parity.bundles.record import FORMAT, Record
from parity.command_line import main
from pvt_spec import ModelInfo, tap_names
from pvt_spec.precisions import PRECISIONS
from tests.support import foreign_bundle as foreign
from tests.support.commands import invoke, refusal
from tests.support.models import GOLDEN, golden_arrays, golden_case, golden_file
from tests.support.processes import ROOT
from tests.support.tiny import CONFIG, tiny_info, tiny_input, tiny_weights

CASE = "official_v2_small"
DOCUMENT = ROOT / "docs/reference/bundle-format.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """A model, a bundle of what whai362/PVT answered that another program wrote, what it says."""
    folder = tmp_path_factory.mktemp("foreign")
    model, bundle = folder / "model.safetensors", folder / "theirs.npz"
    facts, arrays = golden_case(CASE)["config"], golden_arrays(CASE)
    heads = Given(num_heads=tuple(facts["num_heads"]), image_size=(64, 64))
    convert_file(golden_file(CASE), model, given=heads)
    names = ("version", "embed_dims", "depths", "num_heads", "mlp_ratios", "sr_ratios")
    config = {name: facts[name] for name in (*names, "in_chans", "num_classes")}
    config |= {"image_size": [64, 64], "linear": False}
    config |= {"features_only": False, "drop_path_rate": 0.0}
    shown = {name: arrays[name] for name in ("input", "features", "logits")}
    said = foreign.describe(config, foreign.read_safetensors(model), shown["input"])
    foreign.write_bundle(bundle, said, shown)
    return model, bundle, said


def test_the_writer_knows_nothing_of_ours():
    imports = re.findall(r"^(?:from|import) (\w+)", Path(foreign.__file__).read_text(), re.M)
    assert {*imports} == {"hashlib", "io", "json", "pathlib", "typing", "zipfile", "numpy"}


def test_check_takes_a_bundle_that_was_written_from_the_document(written, tmp_path):
    model, bundle, said = written
    done = invoke(main, "check", bundle, model, "--runtime", "onnxruntime", "--json")
    assert done.exit_code == 0, done.output
    theirs = next(r for r in json.loads(done.stdout)["runtimes"] if r["runtime"] == said["runtime"])
    assert theirs["same"] and theirs["structure"] == []
    assert theirs["checked"]["weights"] == len(said["hashes"]) > 50
    assert theirs["checked"]["attributes"] == len(said["attributes"]) > 50


def test_compare_takes_it_and_finds_what_is_another(written, tmp_path):
    model, bundle, said = written
    reference = tmp_path / "reference.npz"
    capture = ("capture", model, "--runtime", "reference", "--precision", "fp32")
    done = invoke(main, *capture, "-o", reference, "--images", bundle)
    assert done.exit_code == 0, done.output
    done = invoke(main, "compare", reference, bundle)
    assert done.exit_code == 0, done.output
    other, arrays = tmp_path / "other.npz", golden_arrays(CASE)
    shown = {name: arrays[name].copy() for name in ("input", "features", "logits")}
    shown["logits"][1, 3] += 0.01
    changed = copy.deepcopy(said)
    changed["attributes"]["norm4.epsilon"] = 1e-5
    changed["hashes"]["head.bias"] = "0" * 40
    foreign.write_bundle(other, changed, shown)
    done = invoke(main, "compare", reference, other, "--json")
    assert done.exit_code == 1, done.output
    (theirs,) = json.loads(done.stdout)["runtimes"]
    assert theirs["first_out_of_bounds"] == "logits"
    named = {difference["subject"] for difference in theirs["structure"]}
    assert named == {"norm4.epsilon", "head.bias"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"more": 1},
        {"batches": [2, 2]},
        {"kind": "tensorflow"},
        {"names": ["logits", "logits"]},
        {"names": ["features", "logits", "norm4"]},
        {"image_size": [16, 16]},
        {"facts": {"precision": "fp4"}},
        {"inputs_kept": "yes"},
    ],
)
def test_what_a_reader_must_refuse_is_refused(change, written, tmp_path):
    model, _, said = written
    shown = {name: golden_arrays(CASE)[name] for name in ("input", "features", "logits")}
    foreign.write_bundle(tmp_path / "a.npz", {**said, **change}, shown)
    assert "a.npz" in refusal(main, "check", tmp_path / "a.npz", model)


def test_bundles_of_every_version_are_read(tmp_path):
    model = tmp_path / "tiny.safetensors"
    save_model(model, tiny_weights(), tiny_info())
    for name in ("plain.npz", "format_1.npz"):
        path = GOLDEN / "bundles" / name
        done = invoke(main, "check", path, model, "--runtime", "onnxruntime", "--taps", "logits")
        assert done.exit_code == 0, done.output
        (sample,) = Bundle(path).samples()
        assert np.array_equal(sample.load(tiny_info().preprocessing), tiny_input()[0])
    assert FORMAT == 1, "a golden file of the version before is to be kept"


def test_certificates_of_every_version_are_read(tmp_path):
    path, model = GOLDEN / "certificates/format_1.json", tmp_path / "another name.pth"
    save_model(model, tiny_weights(), tiny_info())
    done = invoke(main, "verify", path, model)
    assert done.exit_code == 0, done.output
    (held,) = read_certificate(path).certificate.claim.models
    assert held.config == CONFIG and held.labels == ("cat", "dog", "cow")
    assert held.weights == {n: foreign.hash_weight(a) for n, a in tiny_weights().items()}


def test_the_document_names_every_field_tap_and_precision():
    text = DOCUMENT.read_text()
    named = {*re.findall(r"`([\w.\-]+)`", text)}
    info = json.loads(tiny_info().to_json())
    fields = {"format", *Record.__dataclass_fields__, *info, *PRECISIONS}
    fields |= {*info["config"], *info["numerics"], *info["preprocessing"]}
    fields |= {*CertifiedModel.__dataclass_fields__, *ModelInfo.__dataclass_fields__}
    schema = json.loads((ROOT / "convert/certificates/certificate.schema.json").read_bytes())
    for part in ("claim", "file", "inputs", "judging", "ruling", "measured", "machine", "tap"):
        fields |= {*schema["$defs"][part]["properties"]}
    fields |= {*schema["$defs"]["decisions"]["properties"]}
    assert fields - named == set()
    assert {"block1.0.attn", "norm4", "features", "logits"} <= {*tap_names(CONFIG)} & named
    for name in re.findall(r"`(tests/golden/[\w./]+)`", text):
        assert (ROOT / name).exists()
