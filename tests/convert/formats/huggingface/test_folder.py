"""Hugging Face folders: transformers itself judges what we read of its files and write for it."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import ConvertError, read_model, save_model
from convert.formats.huggingface import folder as folder_format
from convert.formats.huggingface.config import (
    CONFIG,
    make_config,
    parse_config,
)
from convert.formats.huggingface.files import WEIGHTS
from convert.formats.huggingface.images import GUESSED
from convert.formats.weight_file import WeightFile
from convert.names.computed import expressible
from pvt_spec import (
    EPSILONS,
    PROFILES,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    make_config as make_variant,
    tensor_specs,
)
from pvt_spec.files.limits import MAX_DEPTH
from tests.support.converting import answer_onnx, succeed
from tests.support.huggingface import (
    BACKBONE,
    BARE,
    import_transformers,
    random_model,
    save_random_model,
    state,
    transformers_class,
)
from tests.support.messages import Facts, naming, tells
from tests.support.models import SMALL, random_images, random_weights


def described(folder: WeightFile) -> ModelInfo:
    assert folder.described is not None
    return folder.described


def assert_same_tensors(found: Any, expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def split_shapes(config: PVTConfig) -> Counter[tuple[int, ...]]:
    """How many tensors there are of each shape where ``kv`` is two."""
    shapes: Counter[tuple[int, ...]] = Counter()
    for spec in tensor_specs(config):
        parts = 2 if ".attn.kv." in spec.name else 1
        shapes[(spec.shape[0] // parts, *spec.shape[1:])] += parts
    return shapes


def shapes_of(tensors: Any) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tensor.shape) for tensor in tensors)


def info_of(config: PVTConfig, numerics: Numerics | None = None, *labels: str) -> ModelInfo:
    numerics = numerics or PROFILES["hf"][config.version]
    return ModelInfo(config, numerics, default_preprocessing(config, "hf"), labels)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def write_config(folder: Path, config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


# --- reading what transformers wrote


@pytest.mark.sampled
def test_a_saved_folder_is_read(small: PVTConfig, tmp_path: Path) -> None:
    small = dataclasses.replace(small, drop_path_rate=0.1)
    model = save_random_model(tmp_path, small, layer_norm_eps=3e-5)
    folder = folder_format.read(tmp_path)
    assert_same_tensors(folder.tensors, state(model))
    assert folder.metadata == {"format": "pt"}
    assert folder.files == (tmp_path / WEIGHTS[0], tmp_path / CONFIG)
    info = described(folder)
    assert info.config == small
    assert shapes_of(folder.tensors.values()) == split_shapes(small)
    assert info.labels == ()
    assert info.preprocessing == default_preprocessing(small, "hf")


def test_every_norm_of_transformers_has_the_one_epsilon(small: PVTConfig, tmp_path: Path) -> None:
    import torch

    model = save_random_model(tmp_path, small, layer_norm_eps=3e-5)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    specs = [spec for spec in tensor_specs(small) if spec.kind == "norm"]
    assert len(norms) == len(specs) // 2
    numerics = described(folder_format.read(tmp_path)).numerics
    assert {norm.eps for norm in norms} == {getattr(numerics, field) for field in EPSILONS}


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "gelu_pytorch_tanh"])
def test_the_activation_is_transformers(name: str) -> None:
    import torch

    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    activation = import_transformers().activations.ACT2FN[name]
    numerics = parse_config({"model_type": "pvt", "hidden_act": name}).numerics
    approximate = {"erf": "none", "tanh": "tanh"}[numerics.gelu]
    ours = torch.nn.functional.gelu(x, approximate=approximate)
    torch.testing.assert_close(activation(x), ours, rtol=0, atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
def test_absent_keys_have_transformers_defaults(version: int) -> None:
    theirs = {1: "PvtConfig", 2: "PvtV2Config"}[version]
    config = getattr(import_transformers(), theirs)()
    written = as_json(config.to_dict())
    assert parse_config({"model_type": config.model_type}) == parse_config(written)
    model = transformers_class(version)(config)
    info = parse_config(written)
    assert shapes_of(model.state_dict().values()) == split_shapes(info.config)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("classes", [1, 2, 12])
@pytest.mark.parametrize("named", [True, False])
def test_classes_are_transformers(version: int, classes: int, named: bool, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL[f"v{version}"], num_classes=classes)
    names = {index: f"class {index}" for index in range(classes)}
    save_random_model(tmp_path, config, **({"id2label": names} if named else {}))
    info = described(folder_format.read(tmp_path))
    assert info.config == config
    assert info.labels == (tuple(names.values()) if named else ())


def test_names_count_where_transformers_4_wrote_nothing_else() -> None:
    config = {"model_type": "pvt", "id2label": {"1": "b", "0": "a"}}
    assert parse_config(config).labels == ("a", "b")
    assert parse_config(config).config.num_classes == 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_classifier_without_classes_has_no_head(version: int, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL[f"v{version}"], num_classes=0)
    save_random_model(tmp_path, config)
    folder = folder_format.read(tmp_path)
    assert described(folder).config == config
    assert not any("classifier" in name for name in folder.tensors)


@pytest.mark.parametrize(
    ("version", "kind"), [(1, BARE), (2, BARE), (2, BACKBONE)], ids=["v1", "v2", "backbone"]
)
def test_models_without_a_head_are_known_by_their_class(
    version: int, kind: int, tmp_path: Path
) -> None:
    changed = {"num_classes": 0, "features_only": kind == BACKBONE}
    config = dataclasses.replace(SMALL[f"v{version}"], **changed)
    save_random_model(tmp_path, config, kind, num_labels=7)
    folder = folder_format.read(tmp_path)
    assert described(folder).config == config
    assert shapes_of(folder.tensors.values()) == split_shapes(config)


def test_the_weights_tell_where_no_class_is_named() -> None:
    config = {"model_type": "pvt_v2", "id2label": {"0": "a", "1": "b"}}
    assert parse_config(config).config.num_classes == 2
    headless = parse_config(config, headless=True)
    assert (headless.config.num_classes, headless.labels) == (0, ())
    named = {**config, "architectures": ["PvtV2ForImageClassification"]}
    assert parse_config(named, headless=True).config.num_classes == 2


@pytest.mark.parametrize("size", [64, [64, 96], {"height": 64, "width": 96}])
def test_image_sizes(size: Any) -> None:
    expected = (64, 64) if size == 64 else (64, 96)
    assert parse_config({"model_type": "pvt_v2", "image_size": size}).config.image_size == expected
    # transformers takes them too.
    assert import_transformers().PvtV2Config(image_size=size)


def test_whole_ratios_may_be_written_as_fractions() -> None:
    config = parse_config({"model_type": "pvt", "mlp_ratios": [8.0, 8.0, 4.0, 4.0]}).config
    assert config == make_variant("pvt_tiny")
    assert all(type(ratio) is int for ratio in config.mlp_ratios)


# --- what cannot be expressed


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"model_type": "bert"}, ("model_type", "'bert'", "pvt_v2")),
        ({"model_type": ["pvt"]}, ("model_type", "'pvt'")),
        ({"num_encoder_blocks": 3}, ("num_encoder_blocks", "3", "4")),
        ({"patch_sizes": [7, 3, 3, 3]}, ("patch_sizes", "7", "3", "4", "2")),
        ({"strides": [2, 2, 2, 2]}, ("2", "4")),
        ({"qkv_bias": None}, ("qkv_bias",)),
        ({"hidden_act": "relu"}, ("hidden_act", "'relu'")),
        ({"hidden_act": ["gelu"]}, ("hidden_act", "'gelu'")),
        ({"mlp_ratios": [8, 8, 4, 2.5]}, ("mlp_ratios", "8", "4", "2.5")),
        ({"depths": [2, 2, 2]}, ("2", "depths")),
        ({"depths": [2, 2, 2, True]}, ("2", "depths")),
        ({"depths": [2, 2, 2, 10**9]}, (MAX_DEPTH,)),
        ({"depths": None}, ("depths",)),
        ({"hidden_sizes": [64, 128, 320, 511]}, ("embed_dims", "511", "num_heads", "8")),
        ({"sequence_reduction_ratios": [8, 4, 2, 2]}, ("sr_ratios", "3", "2")),
        ({"num_channels": 0}, ("num_channels", "0")),
        ({"image_size": "224"}, ("image_size", "'224'")),
        ({"image_size": [224]}, ("image_size", "224")),
        ({"image_size": 16}, ("image_size", "16")),
        ({"layer_norm_eps": "1e-6"}, ("layer_norm_eps", "'1e-6'")),
        ({"layer_norm_eps": 0}, ("0.0", "1")),
        ({"layer_norm_eps": float("nan")}, ("layer_norm_eps",)),
        ({"drop_path_rate": 1.5}, ("drop_path_rate", "1.5")),
        ({"num_labels": 2.5}, ("num_labels", "2.5")),
        ({"num_labels": -1}, ("num_labels", "-1")),
        ({"num_labels": 3, "id2label": {"0": "a"}}, ("num_labels", "3", "id2label", "1")),
        ({"id2label": {"0": "a", "2": "b"}}, ("0", "class")),
        ({"id2label": ["a", "b"]}, ("0", "class")),
        ({"id2label": {"0": None}}, ("id2label", "None", "text")),
        ({"architectures": ["PvtV2Model"]}, ("PvtForImageClassification", "PvtModel")),
        ({"architectures": "PvtModel"}, ("'PvtModel'",)),
        ({"quantization_config": {"bits": 4}}, ("quantization_config",)),
        ({"pruned_heads": {"0": [0]}}, ("pruned_heads", "none")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_expressed_is_refused(changes: dict[str, Any], facts: Facts) -> None:
    with pytest.raises(ConvertError) as error:
        parse_config({"model_type": "pvt", **changes})
    assert str(error.value).startswith("config.json: ")
    assert tells(error.value, *facts)


def test_all_keys_are_told_at_once() -> None:
    with pytest.raises(ConvertError, match=naming("qkv_bias", "hidden_act")):
        parse_config({"model_type": "pvt", "strides": 1, "qkv_bias": 0.5, "hidden_act": "silu"})


def test_linear_attention_has_an_exact_gelu_besides() -> None:
    config = {"model_type": "pvt_v2", "linear_attention": True}
    assert parse_config(config).config.linear
    with pytest.raises(ConvertError, match=naming("'gelu'", "linear_attention")):
        parse_config({**config, "hidden_act": "gelu_new"})
    model = random_model(SMALL["linear"], hidden_act="gelu_new")
    acts = {type(m).__name__ for name, m in model.named_modules() if name.endswith(".act")}
    assert acts == {"GELU"}


# --- writing for transformers


def infos() -> list[Any]:
    """What transformers can express, by name."""
    tanh = dataclasses.replace(PROFILES["hf"][1], gelu="tanh")
    five = dataclasses.replace(PROFILES["hf"][1], **dict.fromkeys(EPSILONS, 1e-5))
    maps = dataclasses.replace(SMALL["v2"], num_classes=0, features_only=True)
    headless = {n: dataclasses.replace(SMALL[n], num_classes=0) for n in SMALL}
    wide = dataclasses.replace(SMALL["v2"], image_size=(64, 96), in_chans=1, drop_path_rate=0.1)
    labels = [f"class {index}" for index in range(7)]
    return [
        *[pytest.param(info_of(config), id=name) for name, config in SMALL.items()],
        *[pytest.param(info_of(c), id=f"{n}-headless") for n, c in headless.items()],
        pytest.param(info_of(SMALL["v1"], tanh, *labels), id="tanh-labels"),
        pytest.param(info_of(SMALL["linear"], five, *labels), id="epsilon-labels"),
        pytest.param(info_of(wide), id="wide"),
        pytest.param(info_of(maps), id="maps"),
        *[pytest.param(info_of(make_variant(n)), id=n) for n in ("pvt_large", "pvt_v2_b5")],
    ]


@pytest.mark.parametrize("info", infos())
def test_parse_config_is_the_inverse_of_make_config(info: ModelInfo) -> None:
    parsed = parse_config(as_json(make_config(info)))
    assert (parsed.config, parsed.numerics) == (info.config, info.numerics)
    # Of how images are prepared, nothing is said in it.
    assert parsed.labels == info.labels and parsed.provenance.keys() == {GUESSED}


@pytest.mark.parametrize("info", [info for info in infos() if "pvt_" not in info.id])
def test_transformers_makes_the_model_of_our_config(info: ModelInfo, tmp_path: Path) -> None:
    import torch

    made = make_config(info)
    theirs = import_transformers().AutoConfig.from_pretrained(write_config(tmp_path, made))
    name = made["architectures"][0]
    assert theirs.num_labels == made.pop("num_labels")
    kept = as_json(theirs.to_dict())
    assert {key: kept[key] for key in made} == made
    model = getattr(import_transformers(), name)(theirs)
    assert shapes_of(model.state_dict().values()) == split_shapes(info.config)
    epsilons = {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)}
    assert epsilons == {getattr(info.numerics, field) for field in EPSILONS}


def test_transformers_loads_weights_with_our_config(small: PVTConfig, tmp_path: Path) -> None:
    import torch

    model = save_random_model(tmp_path, small, layer_norm_eps=1e-5)
    info = described(folder_format.read(tmp_path))
    write_config(tmp_path, make_config(info))
    loaded = transformers_class(small.version).from_pretrained(tmp_path).eval()
    assert loaded.dtype == torch.float32
    images = torch.from_numpy(random_images(small))
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, model(images).logits)


def test_a_backbone_of_some_maps_answers_all_and_says_so(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL["v2"], num_classes=0, features_only=True)
    save_random_model(tmp_path, config, BACKBONE)
    made = make_config(info_of(config))
    for asked, told in ((["stage2", "stage4"], True), (made["out_features"], False)):
        write_config(tmp_path, made | {"out_features": asked})
        said = succeed(tmp_path, tmp_path / "a.pth", "--force")
        assert tells(said, "out_features", "stage2", "all four") == told


def test_a_backbone_answers_all_four_maps(tmp_path: Path) -> None:
    import torch

    config = dataclasses.replace(SMALL["v2"], num_classes=0, features_only=True)
    save_random_model(tmp_path, config, BACKBONE)
    write_config(tmp_path, make_config(info_of(config)))
    backbone = transformers_class(2, BACKBONE).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        maps = backbone(torch.from_numpy(random_images(config))).feature_maps
    assert [tuple(each.shape[1:]) for each in maps] == [
        (8, 16, 16),
        (16, 8, 8),
        (24, 4, 4),
        (32, 2, 2),
    ]


@pytest.mark.parametrize("kind", SMALL)
def test_queries_and_keys_without_biases_are_answered_as_by_transformers(
    kind: str, tmp_path: Path
) -> None:
    import torch

    model = save_random_model(tmp_path / "hub", SMALL[kind], qkv_bias=False).eval()
    said = succeed(tmp_path / "hub", tmp_path / "a.onnx")
    assert "filled  " in said and "query.bias" in said
    images = random_images(SMALL[kind])
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).logits.numpy()
    answers = answer_onnx(tmp_path / "a.onnx", images)["logits"]
    np.testing.assert_allclose(answers, expected, atol=2e-5)


def test_biases_that_transformers_would_leave_out_are_refused(tmp_path: Path) -> None:
    save_random_model(tmp_path, SMALL["v2"])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "qkv_bias": False}))
    with pytest.raises(ConvertError, match=naming("qkv_bias")):
        read_model(tmp_path)


def test_names_reach_transformers(tmp_path: Path) -> None:
    labels = [f"class {index}" for index in range(7)]
    write_config(tmp_path, make_config(info_of(SMALL["v1"], None, *labels)))
    theirs = import_transformers().PvtConfig.from_pretrained(tmp_path)
    assert theirs.num_labels == 7
    assert [theirs.id2label[index] for index in range(7)] == labels
    assert theirs.label2id["class 6"] == 6


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"num_classes": 0, "features_only": True}, ("PVT", "v1")),
        ({"image_size": (64, 96)}, ("PVT", "v1", "64x96")),
    ],
)
def test_models_that_transformers_has_not_are_refused(
    changes: dict[str, Any], facts: Facts
) -> None:
    with pytest.raises(ConvertError, match=naming(*facts)):
        make_config(info_of(dataclasses.replace(SMALL["v1"], **changes)))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", [1, 2])
def test_expressible_is_the_nearest_of_transformers(profile: str, version: int) -> None:
    numerics, config = PROFILES[profile][version], SMALL[f"v{version}"]
    hf = PROFILES["hf"][version]
    nearest = expressible(numerics, config)
    assert nearest == dataclasses.replace(hf, gelu=numerics.gelu)
    assert expressible(numerics, SMALL["linear"]) == hf
    assert expressible(nearest, config) == nearest
    five = dataclasses.replace(numerics, **dict.fromkeys(EPSILONS, 1e-5))
    assert {getattr(expressible(five, config), field) for field in EPSILONS} == {1e-5}
    info = info_of(SMALL[f"v{version}"], numerics)
    assert parse_config(make_config(info)).numerics == nearest


# --- the files of a folder


def test_shards_are_one_model(small: PVTConfig, tmp_path: Path) -> None:
    model = save_random_model(tmp_path, small, shard_size="20KB")
    assert not (tmp_path / WEIGHTS[0]).exists()
    folder = folder_format.read(tmp_path)
    assert_same_tensors(folder.tensors, state(model))
    assert folder.metadata == {"format": "pt"}
    assert folder.files[0].name == WEIGHTS[1]
    assert len(folder.files) == 2 + len([*tmp_path.glob("model-*.safetensors")]) > 3


@pytest.mark.parametrize("sharded", [False, True])
def test_pickled_weights_are_read(sharded: bool, tmp_path: Path) -> None:
    import torch

    config = SMALL["v1"]
    model = random_model(config)
    write_config(tmp_path, make_config(info_of(config)))
    shards = {WEIGHTS[2]: [*model.state_dict()]}
    if sharded:
        names = [*model.state_dict()]
        shards = {"pytorch_model-1.bin": names[:50], "pytorch_model-2.bin": names[50:]}
        weight_map = {name: shard for shard, held in shards.items() for name in held}
        (tmp_path / WEIGHTS[3]).write_text(json.dumps({"weight_map": weight_map}))
    for shard, held in shards.items():
        torch.save({name: model.state_dict()[name] for name in held}, tmp_path / shard)
    assert_same_tensors(folder_format.read(tmp_path).tensors, state(model))


def change_index(folder: Path, change: Callable[[dict[str, str]], Any]) -> None:
    index = json.loads((folder / WEIGHTS[1]).read_text())
    change(index["weight_map"])
    (folder / WEIGHTS[1]).write_text(json.dumps(index))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    save_random_model(folder, SMALL["v2"], shard_size="50KB")
    return folder


@pytest.fixture
def sharded(shards: Path, tmp_path: Path) -> Path:
    """A copy of a folder whose weights are in several files."""
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "C:model.safetensors",
        "a\0b",
        "a\nb",
    ],
)
def test_an_index_names_plain_files_alone(sharded: Path, name: str) -> None:
    change_index(sharded, lambda weight_map: weight_map.update({next(iter(weight_map)): name}))
    with pytest.raises(ConvertError, match=naming("plain")):
        folder_format.read(sharded)


def test_a_link_out_of_the_folder_is_refused(
    sharded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shard = next(sharded.glob("model-00001-*"))
    shard.rename(outside := tmp_path_factory.mktemp("outside") / shard.name)
    shard.symlink_to(outside)
    with pytest.raises(ConvertError, match=naming("link")):
        folder_format.read(sharded)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_under_two_names_is_refused(sharded: Path, link: Callable[..., None]) -> None:
    """A thousand links to one file were a thousand files, each read whole."""
    shard = next(sharded.glob("model-00001-*"))
    link(shard, sharded / "again.safetensors")
    change_index(sharded, lambda weight_map: weight_map.update(more="again.safetensors"))
    with pytest.raises(ConvertError, match=naming("names")):
        folder_format.read(sharded)


def test_the_cache_of_downloads_is_read(sharded: Path) -> None:
    snapshot, blobs = sharded / "snapshots" / "0123abc", sharded / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate([*sharded.glob("*.*")]):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(number)))
    assert len(folder_format.read(snapshot).tensors) > 100


def test_missing_shards_are_told_at_once(sharded: Path) -> None:
    gone = sorted(sharded.glob("model-*.safetensors"))[:2]
    for path in gone:
        path.unlink()
    told = f"files are missing: {gone[0].name}, {gone[1].name}"
    with pytest.raises(ConvertError, match=told):
        folder_format.read(sharded)


def test_shards_hold_what_the_index_says(sharded: Path) -> None:
    moved, unknown = "classifier.weight", "classifier.bias"

    def change(weight_map: dict[str, str]) -> None:
        files = sorted({*weight_map.values()})
        weight_map[moved] = next(name for name in files if name != weight_map[moved])
        weight_map["classifier.gain"] = weight_map.pop(unknown)

    change_index(sharded, change)
    with pytest.raises(ConvertError) as error:
        folder_format.read(sharded)
    told = str(error.value)
    assert tells(told, moved, f"'{moved}'", "classifier.gain")
    assert tells(told, f"'{unknown}'") and tells(told, "nowhere")
    assert "\\n" not in told, "its own lines are lines"


@pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, "model.safetensors"])
def test_an_index_without_a_map_is_refused(sharded: Path, weight_map: Any) -> None:
    (sharded / WEIGHTS[1]).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ConvertError, match=naming("weight_map")):
        folder_format.read(sharded)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ("empty",)),
        ("{", ("JSON",)),
        ("[" * 100_000, ("JSON",)),
        ('{"model_type": "pvt", "model_type": "pvt_v2"}', ("'model_type'",)),
        ('["pvt"]', ("list",)),
        ('{"depths": 1' + "0" * 5000 + "}", ("JSON",)),
        ('{"model_type": "swin"}', ("model_type", "'swin'", "pvt_v2")),
        ("{}", ("model_type",)),
        ('{"model_type": "pvt"}', ("model.safetensors",)),
    ],
    ids=lambda value: value[:20],
)
def test_folders_that_are_none_of_a_pvt_are_refused(
    text: str, facts: Facts, tmp_path: Path
) -> None:
    with pytest.raises(ConvertError, match=naming(*facts)):
        folder_format.read(write_config(tmp_path, text))


def test_other_weights_that_a_configuration_names_are_refused(
    small: PVTConfig, tmp_path: Path
) -> None:
    """transformers takes these, and the usual ones were read."""
    save_random_model(tmp_path, small)
    config = json.loads((tmp_path / "config.json").read_text())
    for named, right in (("other.safetensors", False), ("model.safetensors", True)):
        write_config(tmp_path, config | {"transformers_weights": named})
        if right:
            assert read_model(tmp_path).weights
        else:
            with pytest.raises(ConvertError, match=naming("transformers_weights", named)):
                read_model(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=naming("such")):
        folder_format.read(tmp_path / "nowhere")
    for held, facts in {"": ["nothing"], "a.txt": ["a.txt"], "0.distcp": ["dcp_to_torch"]}.items():
        if held:
            (tmp_path / held).touch()
        with pytest.raises(ConvertError, match=naming("config.json", *facts)):
            folder_format.read(tmp_path)


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        (["model.fp16.safetensors"], ["model.fp16.safetensors", "give the file itself"]),
        (
            ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"],
            ["model.fp16-00001", "without a variant"],
        ),
        (["a.txt"], []),
    ],
)
def test_weights_of_a_variant_are_named(names: list[str], facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "pvt"}')
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ConvertError, match=naming("holds no weights", *facts)):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "s"])
def test_a_folder_in_the_place_of_weights_is_refused(name: str, tmp_path: Path) -> None:
    """It could hold the next one, and so on, deeper than Python goes."""
    index = json.dumps({"weight_map": {"a": "s"}})
    for folder in (tmp_path, tmp_path / name):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text('{"model_type": "pvt"}')
        if name == "s":
            (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ConvertError, match=naming(str(tmp_path / name), "folder")):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "holds"),
    [("adapter_config.json", {}), ("processor_config.json", {"image_processor": {}})],
)
def test_no_model_is_written_beside_what_would_make_another_of_it(
    name: str, holds: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(holds))
    with pytest.raises(ConvertError, match=naming(name)):
        save_model(tmp_path, random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    assert [path.name for path in tmp_path.iterdir()] == [name]
