"""What users give beside a file, and files that are not what they should be."""

import dataclasses
import shutil

import numpy as np
import pytest

from convert import Given, load_model, read_model
from convert.findings import Finding
from pvt_spec import make_config
from tests.support.converting import convert, refused, save_plain
from tests.support.messages import tells
from tests.support.models import GOLDEN, SMALL, random_weights

TRAINING = GOLDEN / "mindcv_v1_training_ema" / "weights.ckpt"
OFFICIAL_V1 = GOLDEN / "official_v1_small" / "training_checkpoint.pth"


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
    config = dataclasses.replace(SMALL["v1"], image_size=(96, 64))
    save_plain(tmp_path / "a.pth", random_weights(config))
    refused = convert("pth-to-onnx", tmp_path / "a.pth", tmp_path / "a.onnx")
    assert refused.exit_code == 1 and tells(refused.stderr, "--from-image-size", "HxW")
    files = (tmp_path / "a.pth", tmp_path / "a.onnx")
    given = convert("pth-to-onnx", *files, "--from-image-size", "96x64")
    assert given.exit_code == 0
    assert load_model(tmp_path / "a.onnx")[1].config.image_size == (96, 64)


class TestErrors:
    """One clear message, exit code 1, nothing left behind."""

    @pytest.mark.parametrize(
        ("name", "fact"),
        [
            ("cut.ckpt", "cut.ckpt"),
            ("encrypted.ckpt", "dec_key"),
            ("plain.ckpt", "PVT"),
            ("text.onnx", "a text"),
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

    def test_wrong_variant_names_the_likely_one(self, tmp_path):
        save_plain(tmp_path / "nano.pth", random_weights(make_config("pvt_nano")))
        files = (tmp_path / "nano.pth", tmp_path / "a.onnx")
        message = refused(tmp_path, "pth-to-onnx", *files, "--model", "pvt_tiny")
        assert tells(message, "--model", "pvt_nano", "block1.0.attn.q.weight", "32", "64")

    def test_missing_and_extra_tensors_are_all_named(self, tmp_path):
        weights = random_weights(SMALL["v2"])
        del weights["block1.0.norm1.weight"], weights["head.bias"]
        weights["block1.0.norm1.wieght"] = np.zeros(8, np.float32)
        weights["block1.0.attn.q.weight"] = weights["block1.0.attn.q.weight"][:, :3]
        save_plain(tmp_path / "a.pth", weights)
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


def test_given_dialect_is_used(tmp_path):
    model = read_model(GOLDEN / "mindcv_v1_small" / "weights.ckpt", Given(dialect="mindcv"))
    assert Finding("dialect", "mindcv", "given") in model.findings
