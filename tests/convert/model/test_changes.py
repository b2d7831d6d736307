"""What a conversion changes in a model on the way, judged by PyTorch and by the unchanged model."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from convert import Given, read_model, save_model
from convert.formats.table import read_file
from pvt_spec import PVTConfig, profile_numerics, stage_grids
from tests.support.converting import (
    answer_onnx,
    answer_torch,
    assert_holds,
    describe,
    largest_gap,
    refused,
    report_of,
    same_bits,
    save,
    save_plain,
    succeed,
)
from tests.support.detection import as_map, detection_backbone
from tests.support.messages import tells
from tests.support.models import MAPS, SMALL, random_images, random_weights
from tests.support.runtimes import run_torch

TOLERANCE = 2e-5
"""From the unchanged model's answers, which are about 1. Seen: 2e-6."""

Size = tuple[int, int]


# --- without a head


@pytest.mark.parametrize("ending", [".onnx", ".pth", ".ckpt"])
def test_zero_classes_leave_the_features(small: PVTConfig, ending: str, tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.safetensors", small, "mindcv"), tmp_path / f"b{ending}"
    facts = report_of(source, target, "--num-classes", 0)
    assert facts["lost"] == ["head.weight", "head.bias", "the names of 7 classes"]
    before, after = read_model(source), read_model(target)
    assert after.info.config == dataclasses.replace(before.info.config, num_classes=0)
    assert after.info.labels == ()
    kept = {name: a for name, a in before.weights.items() if not name.startswith("head.")}
    assert same_bits(after.weights, kept)
    images = random_images(small)
    taps = run_torch(before.info.config, before.info.numerics, before.weights, images)
    run = answer_onnx if ending == ".onnx" else answer_torch
    assert largest_gap(run(target, images), {"features": taps["features"]}) < TOLERANCE


def test_other_classes_are_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", SMALL["v2"], "official")
    assert tells(refused(tmp_path, source, tmp_path / "b.onnx", "--num-classes", 5), "5", "7")


# --- the backbone alone


@pytest.mark.parametrize("size", [(64, 64), (96, 80)])
@pytest.mark.parametrize("name", SMALL)
def test_features_are_the_maps_of_the_stages(name: str, size: Size, tmp_path: Path) -> None:
    """v1 as whai362/PVT's detectors compute it; v2 the norms of the classifier's stages."""
    config = SMALL[name]
    source, target = save(tmp_path / "a.ckpt", config, "official"), tmp_path / "b.onnx"
    said = succeed(source, target, "--features", "--dynamic-size")
    weights, images = random_weights(config), random_images(config, size)
    if config.version == 1:
        maps = detection_backbone(config, weights, images)
        for lost in ("pos_embed4: the class token's row", "cls_token", "norm.weight", "head.bias"):
            assert f"lost  {lost}\n" in said
    else:
        numerics = profile_numerics("official", 2)
        taps = run_torch(config, numerics, weights, images)
        grids = stage_grids(config, numerics, size)
        maps = [as_map(taps[f"norm{i}"], grid) for i, grid in enumerate(grids, start=1)]
    answers = answer_onnx(target, images)
    assert [*answers] == ["stage1", "stage2", "stage3", "stage4"]
    expected = dict(zip(answers, maps, strict=True))
    assert largest_gap(answers, expected) < TOLERANCE
    assert largest_gap(answer_torch(target, images), expected) < TOLERANCE
    info = read_model(target).info
    kept = dataclasses.replace(MAPS[f"{name} maps"], drop_path_rate=info.config.drop_path_rate)
    assert (info.config, info.labels) == (kept, ())


def test_features_of_features_are_the_same(maps: PVTConfig, tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", maps, "official")
    assert "lost" not in succeed(source, tmp_path / "b.ckpt", "--features", "--num-classes", 0)
    assert source.read_bytes() == (tmp_path / "b.ckpt").read_bytes()


# --- another image size


def resize_torch(positions: np.ndarray, old: Size, new: Size) -> np.ndarray:
    """Position embeddings (1, N, C) of one grid on another; PyTorch interpolates."""
    rows = torch.from_numpy(positions.astype(np.float32))
    leading, rows = rows.split([rows.shape[1] - old[0] * old[1], old[0] * old[1]], dim=1)
    grid = rows.mT.unflatten(2, old)
    grid = torch.nn.functional.interpolate(grid, new, mode="bilinear", align_corners=False)
    return torch.cat([leading, grid.flatten(2).mT], dim=1).numpy()


RESIZED = [
    ((64, 64), (96, 128)),
    ((96, 128), (64, 32)),
    ((64, 64), (32, 128)),  # as many tokens in each stage
    ((64, 96), (96, 64)),  # the same
    ((96, 64), (64, 64)),
]
ODD = [((64, 64), (72, 100)), ((96, 96), (50, 33))]
"""No multiples of 32. Of MindCV's, the padded convolutions then have other grids."""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("profile", "own", "size", "features"),
    [
        *(("official", *sizes, False) for sizes in RESIZED + ODD),
        *(("mindcv", *sizes, False) for sizes in RESIZED),
        ("official", *RESIZED[0], True),
        ("mindcv", *RESIZED[1], True),
    ],
)
def test_positions_are_resized_as_pytorch_does(
    profile: str, own: Size, size: Size, features: bool, tmp_path: Path
) -> None:
    """MindCV's are float16 before and float32 after, as where a model resizes while it runs."""
    config = dataclasses.replace(SMALL["v1"], image_size=own)
    source, target = save(tmp_path / "a.pth", config, profile), tmp_path / "b.onnx"
    asked = ("--features",) if features else ()
    text = "{}x{}".format(*size)
    said = succeed(source, target, "--image-size", text, *asked)
    assert "resized  pos_embed1 {}x{} to {}x{}".format(*grid(own, 0), *grid(size, 0)) in said
    before, after = read_model(source), read_model(target)
    assert after.info.config.image_size == after.info.preprocessing.image_size == size
    assert after.info.numerics == dataclasses.replace(
        before.info.numerics, pos_embed_dtype="float32"
    )
    for stage in range(4):
        name = f"pos_embed{stage + 1}"
        old = before.weights[name]
        if stage == 3 and features:
            old = old[:, 1:]
        expected = resize_torch(old, grid(own, stage), grid(size, stage))
        assert after.weights[name].dtype == np.float32
        np.testing.assert_allclose(after.weights[name], expected, rtol=0, atol=2e-6)
        if stage == 3 and not features:
            assert np.array_equal(after.weights[name][:, 0], old[:, 0].astype(np.float32))
    model = onnx.load(target)
    assert not {"Resize", "Upsample"} & {node.op_type for node in model.graph.node}
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert (shape[2].dim_value, shape[3].dim_value) == size
    succeed(source, tmp_path / "whole.ckpt", *asked)
    images = random_images(config, size)
    unresized = answer_torch(tmp_path / "whole.ckpt", images)
    assert largest_gap(answer_onnx(target, images), unresized) < TOLERANCE
    assert largest_gap(answer_torch(target, images), unresized) < TOLERANCE


def grid(size: Size, stage: int) -> Size:
    """Cells of a stage of an image."""
    side = 4 * 2**stage
    return size[0] // side, size[1] // side


def test_a_size_with_as_many_tokens_is_resized_not_read_anew(tmp_path: Path) -> None:
    weights = random_weights(SMALL["v1"])
    source = save_plain(tmp_path / "a.pth", weights)
    said = succeed(source, tmp_path / "b.ckpt", "--image-size", "32x128")
    assert "resized  pos_embed1 16x16 to 8x32, pos_embed2 8x8 to 4x16" in said
    after = read_model(tmp_path / "b.ckpt").weights
    expected = resize_torch(weights["pos_embed1"], (16, 16), (8, 32))
    np.testing.assert_allclose(after["pos_embed1"], expected, rtol=0, atol=2e-6)
    said = succeed(source, tmp_path / "c.ckpt", "--from-image-size", "32x128")
    assert " resized  " not in said and "image size  32x128 (given)" in said
    model = read_model(tmp_path / "c.ckpt")
    assert same_bits(model.weights, weights)
    assert model.info.config.image_size == (32, 128)
    both = ("--from-image-size", "32x128", "--image-size", 64)
    assert "resized  pos_embed1 8x32 to 16x16" in succeed(source, tmp_path / "d.ckpt", *both)


def test_a_size_with_the_same_grids_changes_no_value(tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", SMALL["v1"], "official")
    assert "resized" not in succeed(source, tmp_path / "b.pth", "--image-size", "67x66")
    before, after = read_model(source), read_model(tmp_path / "b.pth")
    assert same_bits(after.weights, before.weights)
    assert after.info.preprocessing.image_size == (67, 66)


def test_a_size_that_same_padding_rounds_up_is_refused(tmp_path: Path) -> None:
    """Its stages would have larger grids than the tensors of such a model."""
    source, target = save(tmp_path / "a.ckpt", SMALL["v1"], "mindcv"), tmp_path / "b.pth"
    said = refused(tmp_path, source, target, "--image-size", "80x56")
    assert tells(said, "80x56") and tells(said, "32", "multiples")
    assert not target.exists()


@pytest.mark.parametrize("name", ["v2", "linear"])
def test_v2_takes_another_size_as_it_is(name: str, tmp_path: Path) -> None:
    config = SMALL[name]
    weights = random_weights(config)
    source, target = save_plain(tmp_path / "a.pth", weights), tmp_path / "b.onnx"
    said = succeed(source, target, "--image-size", "96x80")
    assert " resized  " not in said and "guess  image size" not in said
    assert "becomes  image size 96x80" in said
    model = read_model(target)
    assert same_bits(model.weights, weights)
    assert model.info.config.image_size == model.info.preprocessing.image_size == (96, 80)
    images = random_images(config, (96, 80))
    expected = run_torch(config, profile_numerics("official", 2), weights, images)
    gap = largest_gap(answer_onnx(target, images), {"logits": expected["logits"]})
    assert gap < TOLERANCE


def test_sizes_that_are_too_small_are_refused(small: PVTConfig, tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", small, "official")
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--image-size", 16)
    assert tells(said, "image_size", "16")


# --- another dtype


@pytest.mark.parametrize("ending", [".ckpt", ".pth", ".safetensors", ".onnx"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes_are_rounded_as_pytorch_does(dtype: str, ending: str, tmp_path: Path) -> None:
    config = SMALL["v1"]
    source, target = save(tmp_path / "a.ckpt", config, "mindcv"), tmp_path / f"b{ending}"
    facts = report_of(source, target, "--dtype", dtype)["cast"]
    before, after = read_model(source), read_model(target)
    largest, count = 0.0, 0
    for name, array in before.weights.items():
        given = torch.from_numpy(np.array(array))
        rounded = given.float().to(getattr(torch, dtype))
        assert after.weights[name].dtype.name == dtype
        assert after.weights[name].tobytes() == rounded.view(torch.uint8).numpy().tobytes(), name
        largest = max(largest, float((rounded.float() - given.float()).abs().max()))
        count += rounded.dtype != given.dtype
    assert facts == {"dtype": dtype, "tensors": count, "largest_change": largest}
    assert (largest == 0) == (dtype == "float32")
    told = "float16" if dtype == "float16" else "float32"
    assert after.info.numerics.pos_embed_dtype == told
    images = random_images(config)
    if ending == ".onnx":
        assert largest_gap(answer_onnx(target, images), answer_torch(target, images)) < TOLERANCE


def test_the_largest_change_is_told_with_its_tensor(tmp_path: Path) -> None:
    weights = random_weights(SMALL["v2"])
    weights["block3.0.mlp.fc1.bias"][2] = 1000.3
    source = save_plain(tmp_path / "a.pth", weights)
    said = succeed(source, tmp_path / "b.pth", "--dtype", "bfloat16")
    assert tells(said, "bfloat16", "0.3", "block3.0.mlp.fc1.bias")
    said = succeed(tmp_path / "b.pth", tmp_path / "c.pth", "--dtype", "float32")
    assert tells(said, len(weights), "float32")
    assert "cast" not in succeed(tmp_path / "c.pth", tmp_path / "d.pth", "--dtype", "float32")


def test_parts_of_one_tensor_need_one_dtype(tmp_path: Path) -> None:
    """mmdet keeps in one tensor what is in two elsewhere."""
    info = describe(MAPS["v2 maps"], "hf")
    weights = random_weights(info.config)
    weights["block1.0.attn.q.bias"] = weights["block1.0.attn.q.bias"].astype(np.float16)
    save_model(tmp_path / "a.ckpt", weights, info)
    asked = (tmp_path / "a.ckpt", tmp_path / "b.pth", "--to-dialect", "mmdet")
    said = refused(tmp_path, *asked)
    assert tells(
        said, "block1.0.attn.q.bias", "float16", "block1.0.attn.kv.bias", "float32", "--dtype"
    )
    succeed(*asked, "--dtype", "float32")


def test_a_cast_that_overflows_is_refused(tmp_path: Path) -> None:
    weights = random_weights(SMALL["v2"])
    weights["block2.1.attn.q.weight"][3, 4:6] = 70000.0, -1e38
    source = save_plain(tmp_path / "a.pth", weights)
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--dtype", "float16")
    assert tells(
        said, "b.onnx", "1", "overflowed", "block2.1.attn.q.weight", "0", "NaN", "2", "256"
    )
    facts = report_of(source, tmp_path / "b.onnx", "--dtype", "float16", "--allow-nonfinite")
    assert facts["cast"]["largest_change"] == "inf"
    changed = read_model(tmp_path / "b.onnx").weights["block2.1.attn.q.weight"][3, 4:6]
    assert changed.tolist() == [np.inf, -np.inf]
    succeed(source, tmp_path / "c.onnx", "--dtype", "bfloat16")


# --- weights that are no numbers


@pytest.mark.parametrize("ending", [".ckpt", ".pth", ".safetensors", ".onnx"])
def test_weights_that_are_no_numbers_are_refused(ending: str, tmp_path: Path) -> None:
    config = SMALL["v1"]
    info = describe(config, "mindcv")
    weights = random_weights(info.config, "float16")
    weights["block3.0.attn.kv.weight"][5, :3] = np.nan, np.inf, -np.inf
    weights["pos_embed2"][0, 3] = np.nan
    weights["head.bias"][:] = np.inf, -np.inf, 1, 2, 3, 4, 5
    # Finite, although their sum is not.
    weights["block2.0.mlp.fc1.weight"][:] = 3e38
    source, target = tmp_path / f"a{ending}", tmp_path / "b.ckpt"
    save_model(source, weights, info)
    said = refused(tmp_path, source, target)
    assert tells(said, f"a{ending}", "3")
    assert "--allow-nonfinite" in said
    for line in (
        "block3.0.attn.kv.weight: 1 NaN, 2 infinite, of 1152",
        "pos_embed2: 16 NaN, 0 infinite, of 1024",
        "head.bias: 0 NaN, 2 infinite, of 7",
    ):
        assert f"\n  {line}\n" in said
    succeed(source, target, "--allow-nonfinite")
    assert_holds(target, weights, info)


# --- averaged weights


@pytest.mark.parametrize("ending", [".ckpt", ".pth"])
def test_averaged_weights_that_are_not_there_are_refused(ending: str, tmp_path: Path) -> None:
    source = save(tmp_path / f"a{ending}", SMALL["v1"], "official")
    said = refused(tmp_path, source, tmp_path / "b.onnx", "--weights", "ema")
    assert tells(said, "ema.*", "model_ema", "--weights")


def test_averaged_weights_of_an_official_checkpoint(tmp_path: Path) -> None:
    raw, averaged = random_weights(SMALL["v2"]), random_weights(SMALL["v2"], seed=1)
    both = {
        key: {f"module.{name}": torch.from_numpy(np.array(array)) for name, array in held.items()}
        for key, held in (("model", raw), ("model_ema", averaged))
    }
    torch.save({**both, "epoch": 3}, tmp_path / "a.pth")
    for weights, expected in (("raw", raw), ("ema", averaged)):
        target = tmp_path / f"{weights}.ckpt"
        said = succeed(tmp_path / "a.pth", target, "--weights", weights)
        assert f"container  {'model' if weights == 'raw' else 'model_ema'}\n" in said
        assert "prefix removed  module.\n" in said
        taken = "taken" if weights == "ema" else "not taken: give --weights ema"
        assert f"averaged weights  {len(averaged)} ({taken})\n" in said
        assert same_bits(read_model(target).weights, expected)
    given = Given(weights="ema")
    assert read_model(tmp_path / "a.pth", given).info.provenance["weights"] == "averaged"
    assert {*read_file(tmp_path / "ema.ckpt").tensors} >= {"norm1.gamma", "head.bias"}
