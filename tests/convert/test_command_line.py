"""Model files: every pair of formats, every dialect, from the command line and as a library."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from convert import Given, load_model, read_model
from convert.findings import Finding
from pvt_spec import Preprocessing
from tests.support.converting import convert, refused, same_bits
from tests.support.messages import tells
from tests.support.models import GOLDEN, SMALL, random_weights

TRAINING = GOLDEN / "mindcv_v1_training_ema" / "weights.ckpt"
OFFICIAL_V1 = GOLDEN / "official_v1_small" / "training_checkpoint.pth"


def test_prefixes_and_containers_are_removed_and_said(tmp_path):
    import torch

    checkpoint = torch.load(OFFICIAL_V1, weights_only=False)
    plain = checkpoint["model"]
    torch.save(plain, tmp_path / "plain.pth")
    torch.save({f"module.{k}": v for k, v in plain.items()}, tmp_path / "ddp.pth")
    expected, info = load_model(tmp_path / "plain.pth")
    assert {n: a.tobytes() for n, a in expected.items()} == {
        n: t.numpy().tobytes() for n, t in plain.items()
    }
    assert info.profile == "official"
    assert info.preprocessing == Preprocessing((64, 64), 224 / 256)
    for path, finding in (
        (OFFICIAL_V1, Finding("container", "model")),
        (tmp_path / "ddp.pth", Finding("prefix_removed", "module.")),
    ):
        model = read_model(path)
        assert same_bits(model.weights, expected)
        assert finding in model.findings


@pytest.mark.parametrize("case", ["mindcv_v1_small", "mindcv_v2_small"])
def test_mindcv_checkpoint_comes_back_to_mindcv_bit_for_bit(case, tmp_path):
    import mindspore

    source = GOLDEN / case / "weights.ckpt"
    done = convert("ckpt-to-onnx", source, tmp_path / "model.onnx")
    assert done.exit_code == 0
    assert "dialect  mindcv" in done.stderr and "profile  mindcv" in done.stderr
    arguments = (tmp_path / "model.onnx", tmp_path / "back.ckpt", "--to-dialect", "mindcv")
    assert convert("onnx-to-ckpt", *arguments).exit_code == 0
    before = mindspore.load_checkpoint(str(source))
    after = mindspore.load_checkpoint(str(tmp_path / "back.ckpt"))
    assert after.keys() - before.keys() == {"pvt_model_info"}
    for name, parameter in before.items():
        assert after[name].dtype == parameter.dtype
        assert after[name].asnumpy().tobytes() == parameter.asnumpy().tobytes()


def test_training_state_is_set_aside_and_said():
    model = read_model(TRAINING)
    assert len(model.weights) == 129
    (state,) = [f.value for f in model.findings if f.what == "training_state"]
    assert state["adam_m.*"] == state["adam_v.*"] == state["ema.*"] == 129
    assert state["scale_sense"] == 1
    assert Finding("averaged_weights", 129, "not taken: give --weights ema") in model.findings


def test_missing_weight_is_not_replaced_by_its_moment(tmp_path):
    """MindSpore's own loader takes ``adam_m.head.weight`` for a missing ``head.weight``."""
    from convert.formats import ckpt

    file = ckpt.read(TRAINING)
    tensors = {name: array for name, array in file.tensors.items() if name != "head.weight"}
    with (tmp_path / "a.ckpt").open("wb") as stream:
        ckpt.write(stream, tensors, {})
    done = convert("ckpt-to-onnx", tmp_path / "a.ckpt", tmp_path / "a.onnx")
    assert done.exit_code == 1
    assert tells(done.stderr, "head.weight")
    assert not (tmp_path / "a.onnx").exists()


def test_image_size_labels_and_profile_that_are_given_win(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcdefghij") + "\n", "utf-8")
    done = convert(
        "pth-to-onnx", OFFICIAL_V1, tmp_path / "a.onnx",
        "--image-size", "96x64", "--labels", labels, "--profile", "mindcv",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    _, info = load_model(tmp_path / "a.onnx")
    assert info.labels == tuple("abcdefghij")
    assert info.preprocessing.image_size == (96, 64)
    assert info.config.image_size == (96, 64)
    assert info.profile == "mindcv with pos_embed_dtype=float32"
    import onnx

    shape = onnx.load(tmp_path / "a.onnx").graph.input[0].type.tensor_type.shape
    assert [d.dim_value or d.dim_param for d in shape.dim] == ["batch", 3, 96, 64]


def test_non_square_position_embeddings_need_the_image_size(tmp_path):
    from convert.formats.pth import file as pth
    from pvt_spec import PVTConfig

    config = SMALL["v1"]
    config = PVTConfig(**{**config.__dict__, "image_size": (96, 64)})
    with (tmp_path / "a.pth").open("wb") as stream:
        pth.write(stream, random_weights(config), {})
    refused = convert("pth-to-onnx", tmp_path / "a.pth", tmp_path / "a.onnx")
    assert refused.exit_code == 1 and tells(refused.stderr, "--from-image-size", "HxW")
    files = (tmp_path / "a.pth", tmp_path / "a.onnx")
    given = convert("pth-to-onnx", *files, "--from-image-size", "96x64")
    assert given.exit_code == 0
    assert load_model(tmp_path / "a.onnx")[1].config.image_size == (96, 64)


def test_inspect_says_what_a_training_checkpoint_holds():
    done = convert("inspect", TRAINING, "--json")
    facts = json.loads(done.stdout)
    assert facts["format"] == "ckpt" and facts["dialect"] == "mindcv"
    assert facts["tensors"] == 129 and facts["dtypes"] == {"float16": 4, "float32": 125}
    assert facts["training_state"]["ema.*"] == 129 and "scale_sense" in facts["training_state"]
    digest = hashlib.sha256(TRAINING.read_bytes()).hexdigest()
    assert facts["file"] == [
        {"file": str(TRAINING), "bytes": TRAINING.stat().st_size, "sha256": digest}
    ]
    table = convert("inspect", TRAINING).stdout
    assert "profile  mindcv" in table


def test_options_are_taken_in_mindcv_spelling(tmp_path):
    source = OFFICIAL_V1
    done = convert("pth-to-onnx", source, tmp_path / "a.onnx", "--image_size=96", "--dynamic_size")
    assert done.exit_code == 0, done.stderr


class TestErrors:
    """One clear message, exit code 1, nothing left behind."""

    @pytest.mark.parametrize(
        ("name", "fact"),
        [
            ("cut.ckpt", "cut.ckpt"),
            ("encrypted.ckpt", "dec_key"),
            ("plain.ckpt", "PVT"),
            ("text.onnx", "ONNX"),
            ("other.onnx", "pvt_model_info"),
        ],
    )
    def test_files_of_no_model(self, name, fact, tmp_path):
        import onnx
        from onnx import helper

        for made in ("encrypted.ckpt", "plain.ckpt"):
            shutil.copy(GOLDEN / "ckpt_format" / made, tmp_path)
        whole = (GOLDEN / "mindcv_v1_small" / "weights.ckpt").read_bytes()
        (tmp_path / "cut.ckpt").write_bytes(whole[:400_000])
        (tmp_path / "text.onnx").write_text("not a model at all\n" * 9)
        onnx.save(helper.make_model(helper.make_graph([], "a", [], [])), tmp_path / "other.onnx")
        assert tells(refused(tmp_path, tmp_path / name, tmp_path / "a.safetensors"), name, fact)

    def test_pth_that_holds_code(self, tmp_path):
        import torch

        class Payload:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "executed",))

        torch.save({"weight": torch.zeros(2), "payload": Payload()}, tmp_path / "evil.pth")
        message = refused(tmp_path, "pth-to-onnx", tmp_path / "evil.pth", tmp_path / "a.onnx")
        assert tells(message, "code") and tells(message, "executed")

    def test_wrong_variant_names_the_likely_one(self, tmp_path):
        from convert.formats.pth import file as pth
        from pvt_spec import make_config

        with (tmp_path / "nano.pth").open("wb") as stream:
            pth.write(stream, random_weights(make_config("pvt_nano")), {})
        files = (tmp_path / "nano.pth", tmp_path / "a.onnx")
        message = refused(tmp_path, "pth-to-onnx", *files, "--model", "pvt_tiny")
        assert tells(message, "--model", "pvt_nano", "block1.0.attn.q.weight", "32", "64")

    def test_missing_and_extra_tensors_are_all_named(self, tmp_path):
        from convert.formats.pth import file as pth

        weights = random_weights(SMALL["v2"])
        del weights["block1.0.norm1.weight"], weights["head.bias"]
        weights["block1.0.norm1.wieght"] = np.zeros(8, np.float32)
        weights["block1.0.attn.q.weight"] = weights["block1.0.attn.q.weight"][:, :3]
        with (tmp_path / "a.pth").open("wb") as stream:
            pth.write(stream, weights, {})
        message = refused(tmp_path, "pth-to-onnx", tmp_path / "a.pth", tmp_path / "a.onnx")
        assert tells(
            message,
            "4",
            "tensors",
            "block1.0.norm1.weight",
            "head.bias",
            "block1.0.norm1.wieght",
            "block1.0.attn.q.weight",
            "8",
            "3",
        )

    def test_existing_target_without_force(self, tmp_path):
        source = GOLDEN / "mindcv_v1_small" / "weights.ckpt"
        target = tmp_path / "precious.onnx"
        target.write_text("precious")
        assert "--force" in refused(tmp_path, "ckpt-to-onnx", source, target)
        assert convert("ckpt-to-onnx", source, target, "--force").exit_code == 0
        assert load_model(target)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("nowhere.ckpt", "a.onnx"), "nowhere.ckpt"),
            (("{weights}", "a.pth"), "expected a file name that ends in .onnx"),
            (("{weights}", "nowhere/a.onnx"), "make the folder first"),
            (("{weights}", "a.onnx", "--model", "pvt_tinny"), "did you mean pvt_tiny?"),
            (("{weights}", "a.onnx", "--image-size", "3f"), "S or HxW"),
            (("{weights}", "a.onnx", "--opset", "9"), "17 to 23"),
        ],
    )
    def test_bad_arguments(self, arguments, words, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        weights = (GOLDEN / "mindcv_v1_small" / "weights.ckpt").resolve()
        filled = [a.format(weights=weights) for a in arguments]
        assert words in refused(tmp_path, "ckpt-to-onnx", *filled)

    @pytest.mark.parametrize("option", ["--profile", "--from-dialect"])
    def test_unknown_choices_are_usage_errors(self, option, tmp_path):
        source = GOLDEN / "mindcv_v1_small" / "weights.ckpt"
        assert convert("ckpt-to-onnx", source, tmp_path / "a.onnx", option, "foo").exit_code == 2


def test_given_dialect_is_used(tmp_path):
    model = read_model(GOLDEN / "mindcv_v1_small" / "weights.ckpt", Given(dialect="mindcv"))
    assert Finding("dialect", "mindcv", "given") in model.findings
