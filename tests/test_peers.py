"""The peers' own models through the converter, and ours in the peers' code: the same answers.

The answers of MindCV, whai362/PVT, timm and mmdet are in the golden cases; transformers and
PyTorch answer here.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import read_model
from convert.findings import Finding
from convert.formats.table import read_file
from convert.names.dialects import find_dialect
from pvt_spec import EPSILONS, PROFILES, PVTConfig, output_names
from tests.support.converting import Answers, answer_onnx, answer_torch, largest_gap, save, succeed
from tests.support.huggingface import (
    BACKBONE,
    BARE,
    CLASSIFIER,
    save_random_model,
    state,
    transformers_class,
    transformers_config,
)
from tests.support.models import (
    GOLDEN,
    GOLDEN_SMALL,
    MAPS,
    SMALL,
    golden_arrays,
    golden_case,
    golden_file,
    golden_numerics,
    golden_sizes,
    random_images,
)

TOLERANCE = 1e-5
"""From what a peer answers, in float32 on one machine; outputs are 1 to 4. Seen: 5e-6."""

MMDET = ("mmdet_v1_small", "mmdet_v2_small")
TRAINING = "mindcv_v1_training_ema"


# --- golden cases


def assert_answers(source: Path, folder: Path, case: str, answer: str, *options: str) -> None:
    """A file answers as its peer did, at every size that is known, in both runtimes."""
    peer = golden_arrays(case)
    for kind, ending in (("fixed", ".onnx"), ("open", ".onnx"), ("torch", ".pth")):
        target = folder / f"{kind}{ending}"
        dynamic = ("--dynamic-size",) if kind == "open" else ()
        size = f"{golden_case(case)['config']['image_size']}"
        given = () if kind == "open" else ("--image-size", size)
        said = succeed(source, target, *options, *dynamic, *given)
        assert f"dialect  {golden_case(case)['dialect']}\n" in said
        assert f"profile  {golden_case(case)['profile']} (dialect)\n" in said
        assert read_model(target).info.numerics == golden_numerics(case)
        for suffix in golden_sizes(case)[: 1 if kind == "fixed" else None]:
            run = answer_torch if kind == "torch" else answer_onnx
            answers = run(target, peer[f"input{suffix}"])
            names = [answer] if "logits" in answers else [*answers]
            expected = dict(zip(answers, (peer[f"{n}{suffix}"] for n in names), strict=True))
            assert largest_gap(answers, expected) < TOLERANCE, f"{kind}{suffix}"


@pytest.mark.sampled
@pytest.mark.parametrize("case", [*GOLDEN_SMALL, *MMDET])
def test_golden_models_answer_as_their_peer(case: str, tmp_path: Path) -> None:
    assert_answers(golden_file(case), tmp_path, case, "logits")


@pytest.mark.parametrize(("weights", "answer"), [("raw", "logits"), ("ema", "logits_ema")])
def test_training_checkpoints_answer_as_mindcv(weights: str, answer: str, tmp_path: Path) -> None:
    assert_answers(golden_file(TRAINING), tmp_path, TRAINING, answer, "--weights", weights)
    told = read_model(tmp_path / "fixed.onnx").info.provenance.get("weights", "raw")
    assert told == {"raw": "raw", "ema": "averaged"}[weights]


@pytest.mark.parametrize("case", ["timm_v2_linear_small", *MMDET, *GOLDEN_SMALL[2:5]])
def test_golden_files_come_back_as_the_peer_wrote_them(case: str, tmp_path: Path) -> None:
    """By way of MindSpore's names and an ONNX model: names, order, shapes, dtypes and bytes."""
    dialect = golden_case(case)["dialect"]
    target = tmp_path / "back.safetensors"
    succeed(golden_file(case), tmp_path / "a.ckpt")
    succeed(tmp_path / "a.ckpt", tmp_path / "a.onnx")
    succeed(tmp_path / "a.onnx", target, "--to-dialect", dialect)
    prefix = "backbone." if dialect == "mmdet" else ""
    theirs = {
        name.removeprefix(prefix): array
        for name, array in read_file(golden_file(case)).tensors.items()
        if name.startswith(prefix)
    }
    ours = read_file(target).tensors
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        assert ours[name].tobytes() == array.tobytes(), name


# --- mmdet's attention, which is PyTorch's


@pytest.mark.parametrize("kind", ["v1 maps", "v2 maps"])
def test_mmdets_attention_is_ours(kind: str, tmp_path: Path) -> None:
    """``MultiheadAttention`` with the joined weights, in a stage without spatial reduction."""
    import torch

    import pvt_torch

    config = MAPS[kind]
    source = save(tmp_path / "a.ckpt", config, "hf")
    succeed(source, tmp_path / "a.pth", "--to-dialect", "mmdet")
    theirs = torch.load(tmp_path / "a.pth", weights_only=True)
    layer = {1: "layers.3.1.1.attn.attn.", 2: "layers.3.1.0.attn.attn."}[config.version]
    attention = torch.nn.MultiheadAttention(32, config.num_heads[3], batch_first=True)
    attention.load_state_dict(
        {name.removeprefix(layer): w for name, w in theirs.items() if name.startswith(layer)}
    )
    model = read_model(source)
    twin = pvt_torch.model_from_weights(model.info.config, model.info.numerics, model.weights)
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((2, 6, 32), np.float32))
    with torch.inference_mode():
        answer, _ = attention.eval()(x, x, x)
        torch.testing.assert_close(answer, twin.block4[0].attn(x, 2, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["v1 maps", "v2 maps"])
def test_mmdets_convolutions_are_our_linear_layers(kind: str, tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", MAPS[kind], "hf")
    succeed(source, tmp_path / "a.pth", "--to-dialect", "mmdet")
    tensors = read_file(tmp_path / "a.pth").tensors
    model = read_model(source)
    for name in ("block2.1.mlp.fc1.weight", "block3.0.mlp.fc2.weight"):
        (theirs,) = find_dialect("mmdet", model.info.config.version).from_canonical(name)
        assert tensors[theirs].shape == (*model.weights[name].shape, 1, 1)
        assert np.array_equal(tensors[theirs][:, :, 0, 0], model.weights[name])


# --- transformers


def answer_transformers(model: Any, images: np.ndarray) -> Answers:
    """What a model of transformers answers, under our names."""
    import torch

    with torch.inference_mode():
        output = model.eval()(pixel_values=torch.from_numpy(images))
    if hasattr(output, "logits"):
        return {"logits": output.logits.numpy()}
    if hasattr(output, "feature_maps"):
        return {f"stage{i}": m.numpy() for i, m in enumerate(output.feature_maps, start=1)}
    hidden = output.last_hidden_state.numpy()
    # v1 has tokens, the class's first; v2 a map.
    return {"features": hidden[:, 0] if hidden.ndim == 3 else hidden.mean((2, 3))}


def of_kind(config: PVTConfig, kind: int) -> PVTConfig:
    """The configuration of one of transformers' classes."""
    if kind == CLASSIFIER:
        return config
    return dataclasses.replace(config, num_classes=0, features_only=kind == BACKBONE)


def keys_of(kind: int) -> dict[str, Any]:
    """What transformers' configuration says besides: without, a backbone answers one map."""
    return {"out_features": [f"stage{i}" for i in range(1, 5)]} if kind == BACKBONE else {}


KINDS = [("v1", CLASSIFIER), ("v1", BARE)]
KINDS += [(name, kind) for name in ("v2", "linear") for kind in (CLASSIFIER, BARE, BACKBONE)]


@pytest.mark.sampled
@pytest.mark.parametrize("shard_size", [None, "20KB"], ids=["whole", "sharded"])
@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_folders_of_transformers_answer_as_it_does(
    name: str, kind: int, eps: float, shard_size: str | None, tmp_path: Path
) -> None:
    """Also with an epsilon so large that one norm without it would show."""
    config, folder = SMALL[name], tmp_path / "theirs"
    images = random_images(config)
    keys = {**keys_of(kind), "layer_norm_eps": eps}
    theirs = save_random_model(folder, config, kind, shard_size, **keys)
    expected = answer_transformers(theirs, images)
    model = read_model(folder)
    assert model.info.config == of_kind(config, kind)
    assert {getattr(model.info.numerics, field) for field in EPSILONS} == {eps}
    assert largest_gap(answer_torch(folder, images), expected) < TOLERANCE
    if shard_size is None:
        said = succeed(folder, tmp_path / "a.onnx")
        assert "dialect  hf\n" in said and "(config.json)\n" in said
        assert largest_gap(answer_onnx(tmp_path / "a.onnx", images), expected) < TOLERANCE


def load_whole(folder: Path, version: int, kind: int) -> Any:
    """A model of transformers from a folder in which nothing is missing or too much."""
    loaded = transformers_class(version, kind).from_pretrained(folder, output_loading_info=True)
    model, loading = loaded
    assert {key: value for key, value in loading.items() if value} == {}
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("profile", ["hf", "official", "mindcv"])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_transformers_answers_as_our_twin(
    name: str, kind: int, profile: str, tmp_path: Path
) -> None:
    """Of the maths that transformers has: from others only where that is asked for."""
    config = of_kind(SMALL[name], kind)
    images = random_images(config)
    source = save(tmp_path / "a.ckpt", config, profile)
    asked = () if profile == "hf" else ("--allow-different-maths",)
    said = succeed(source, tmp_path / "hf", *asked)
    assert ("maths differ" in said) == (profile != "hf")
    theirs = load_whole(tmp_path / "hf", config.version, kind)
    expected = answer_transformers(theirs, images)
    assert largest_gap(answer_torch(tmp_path / "hf", images), expected) < TOLERANCE
    if profile != "mindcv":
        assert read_model(tmp_path / "hf").info.numerics == PROFILES["hf"][config.version]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_transformers_takes_a_pickled_file_in_its_dialect(
    name: str, kind: int, tmp_path: Path
) -> None:
    """As hub folders before safetensors had one, beside the config.json that is its own."""
    config, folder = of_kind(SMALL[name], kind), tmp_path / "theirs"
    images = random_images(config)
    source = save(tmp_path / "a.onnx", config, "hf")
    transformers_config(config, **keys_of(kind)).save_pretrained(folder)
    target = folder / "pytorch_model.bin"
    assert "warning" not in succeed("onnx-to-pth", source, target, "--to-dialect", "hf")
    model = load_whole(folder, config.version, kind)
    assert largest_gap(answer_transformers(model, images), answer_onnx(source, images)) < TOLERANCE


def test_a_folder_comes_back_as_transformers_wrote_it(small: PVTConfig, tmp_path: Path) -> None:
    theirs = state(save_random_model(tmp_path / "a", small, shard_size="20KB", id2label=names()))
    succeed(tmp_path / "a", tmp_path / "b.ckpt")
    succeed(tmp_path / "b.ckpt", tmp_path / "c")
    ours = state(load_whole(tmp_path / "c", small.version, CLASSIFIER))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == array.tobytes() for name, array in theirs.items())
    assert read_model(tmp_path / "c").info.labels == tuple(names().values())


def names() -> dict[int, str]:
    return {index: f"class {index}" for index in range(7)}


# --- files of detectors


def test_a_detectors_v1_by_whai362_is_a_backbone(tmp_path: Path) -> None:
    """Its names are the official ones; ``pos_embed4`` has a row for a class token it has not."""
    import torch

    whole, maps = SMALL["v1"], MAPS["v1 maps"]
    source = save(tmp_path / "whole.ckpt", whole, "official")
    weights = {
        f"backbone.{name}": torch.from_numpy(np.array(array))
        for name, array in read_model(source).weights.items()
        if not name.startswith(("cls_token", "norm.", "head."))
    }
    weights["neck.fpn.weight"] = torch.zeros(3)
    torch.save({"state_dict": weights, "meta": {"epoch": 12}}, tmp_path / "detector.pth")
    said = succeed(tmp_path / "detector.pth", tmp_path / "a.onnx")
    for line in (
        "container  state_dict\n",
        "left out  neck.* (beside the model: not converted)\n",
        "prefix removed  backbone.\n",
        "lost  pos_embed4: the class token's row",
        "answers  stage1, stage2, stage3, stage4 (feature maps, no classes)\n",
    ):
        assert line in said
    model = read_model(tmp_path / "a.onnx")
    assert model.info.config == maps
    assert Finding("dialect", "official") in model.findings
    succeed(source, tmp_path / "b.onnx", "--features")
    images = random_images(maps)
    answers = answer_onnx(tmp_path / "a.onnx", images)
    assert [*answers] == [*output_names(maps)]
    assert largest_gap(answers, answer_onnx(tmp_path / "b.onnx", images)) == 0


@pytest.mark.parametrize("case", MMDET)
def test_a_detectors_other_parts_are_said(case: str, tmp_path: Path) -> None:
    said = succeed(GOLDEN / case / "weights.pth", tmp_path / "a.onnx")
    assert "left out  neck.* x2 (beside the model: not converted)\n" in said
    assert "prefix removed  backbone.\n" in said
