"""What the twins have of timm's models: its names, and what each of them does."""

import copy
import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert import Changes, convert_file, load_model, save_model
from pvt_spec import PROFILES, VARIANTS, PVTConfig, PvtError, make_config, tensor_specs
from pvt_spec.errors import ArgumentError
from pvt_spec.habits import Habits
from pvt_train.optim.optimizer import layer_scales
from tests.support.messages import naming
from tests.support.models import MAPS, SMALL, info_of, random_images, random_weights, weights_for
from tests.support.runtimes import import_mindspore

TWINS = ("pvt_torch", "pvt_ms")
OFFICIAL = PROFILES["official"]

TIMM = {
    *("forward_features", "forward_head", "forward_intermediates", "freeze_patch_emb"),
    *("get_classifier", "group_matcher", "no_weight_decay", "prune_intermediate_layers"),
    *("reset_classifier", "set_grad_checkpointing"),
    *("default_cfg", "depths", "feature_info", "global_pool", "head", "head_drop"),
    *("head_hidden_size", "in_chans", "num_classes", "num_features", "patch_embed"),
    *("pretrained_cfg", "pretrained_model_args", "stages"),
}
"""What ``PyramidVisionTransformerV2`` of timm 1.0.31 (``models/pvt_v2.py``) has beside what every
``nn.Module`` has: its public methods, and the attributes of a model of ``create_model``."""

NOT_OURS = {
    "freeze_patch_emb": "sets an attribute of a module that nothing reads",
    "head_drop": "there is no dropout",
    "patch_embed": "patch_embed1 to patch_embed4: names are the official code's",
    "stages": "block1 to block4: names are the official code's",
    "pretrained_model_args": "arguments of timm's own create_model",
}

BESIDE = {"out_indices", "set_input_size"}
"""What other models of timm have, or its feature extractors."""


def tensor(twin: str, array: Any) -> Any:
    return torch.from_numpy(array) if twin == "pvt_torch" else import_mindspore().Tensor(array)


def numbers(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value.asnumpy()


def package(twin: str) -> Any:
    if twin == "pvt_ms":
        import_mindspore()
    return __import__(twin)


def made(twin: str, config: PVTConfig, profile: str = "official") -> Any:
    """A model of random weights, in evaluation mode."""
    numerics = PROFILES[profile][config.version]
    return package(twin).model_from_weights(config, numerics, weights_for(config, numerics))


def same(found: Any, expected: Any) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(numbers(a), numbers(b)) for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- names


def test_the_names_are_timms(twin: str, small: PVTConfig) -> None:
    model = made(twin, small)
    assert {name for name in TIMM | BESIDE if not hasattr(model, name)} == NOT_OURS.keys()


def test_what_a_model_is(twin: str) -> None:
    model = package(twin).create_model("pvt_nano", num_classes=5, image_size=(64, 96))
    assert (model.num_classes, model.in_chans, model.depths) == (5, 3, (1, 1, 1, 1))
    assert (model.num_features, model.head_hidden_size, model.global_pool) == (128, 128, "token")
    assert model.get_classifier() is model.head
    assert model.no_weight_decay() == {"cls_token"}
    info = model.feature_info
    assert info.channels() == [32, 64, 96, 128] and info.reduction() == [4, 8, 16, 32]
    assert info.channels(1) == 64 and info.get_dicts(["num_chs"], [0]) == [{"num_chs": 32}]
    assert info.module_name() == [f"block{stage}.0" for stage in (1, 2, 3, 4)]
    described = model.pretrained_cfg
    assert described == model.default_cfg
    assert described["input_size"] == (3, 64, 96) and described["pool_size"] == (2, 3)
    assert described["crop_pct"] == 224 / 256 and described["num_classes"] == 5


@pytest.mark.parametrize("kind", [*SMALL, "v1 maps"])
def test_the_modules_of_the_maps_are_there(twin: str, kind: str) -> None:
    model = made(twin, (SMALL | MAPS)[kind])
    cells = model.named_modules() if twin == "pvt_torch" else model.cells_and_names()
    ends = {model.pretrained_cfg[key] for key in ("first_conv", "classifier")}
    assert {*model.feature_info.module_name(), *ends} <= {name for name, _ in cells}


# --- forward, in parts


def test_forward_is_features_and_head(twin: str, small: PVTConfig) -> None:
    model, images = made(twin, small), random_images(small, (64, 96))
    taps = package(twin).run_taps(model, images)
    x = tensor(twin, images)
    features = model.forward_features(x)
    assert features.shape == ((2, 7, 32) if small.version == 1 else (2, 32, 2, 3))
    assert same([model.forward_head(features)], [model(x)])
    pooled = model.forward_head(features, pre_logits=True)
    assert np.array_equal(numbers(pooled), taps["features"])
    if small.version == 1:
        assert np.array_equal(numbers(features), taps["norm"])


def test_intermediates_are_the_maps_of_the_stages(twin: str, small: PVTConfig) -> None:
    model, images = made(twin, small), random_images(small, (64, 96))
    taps, x = package(twin).run_taps(model, images), tensor(twin, images)
    answer, maps = model.forward_intermediates(x)
    assert len(maps) == 4
    assert same([answer], [model.forward_features(x)])
    for stage, found in enumerate(maps):
        H, W = 16 >> stage, 24 >> stage
        last = f"norm{stage + 1}" if small.version == 2 else model.feature_info[stage]["module"]
        tokens = taps[last][:, -H * W :]
        assert found.shape == (2, small.embed_dims[stage], H, W)
        assert np.array_equal(numbers(found), tokens.transpose(0, 2, 1).reshape(found.shape))
    only = {"intermediates_only": True}
    assert same(model.forward_intermediates(x, 2, **only), maps[2:])
    assert same(model.forward_intermediates(x, [-1, 1], **only), [maps[1], maps[3]])
    early, chosen = model.forward_intermediates(x, [0, 1], stop_early=True)
    assert same([early, *chosen], [maps[1], maps[0], maps[1]])
    normed = model.forward_intermediates(x, norm=True, **only)
    assert same(normed[:3], maps[:3]) and same(normed[3:], maps[3:]) == (small.version == 2)
    if small.version == 1:
        tokens = taps["norm"][:, 1:].transpose(0, 2, 1)
        assert np.array_equal(numbers(normed[3]).reshape(tokens.shape), tokens)


@pytest.mark.parametrize("kind", MAPS)
def test_intermediates_are_what_features_only_answers(twin: str, kind: str) -> None:
    model = made(twin, MAPS[kind])
    x = tensor(twin, random_images(MAPS[kind]))
    maps = model(x)
    assert same(model.forward_intermediates(x, intermediates_only=True), maps)
    assert same(model.forward_head(model.forward_features(x)), maps)


@pytest.mark.parametrize("indices", [0, 5, [4], [-5], []])
def test_stages_that_are_not_there_are_refused(twin: str, indices: Any) -> None:
    model = made(twin, SMALL["v1"])
    with pytest.raises(PvtError, match="stages"):
        model.prune_intermediate_layers(indices)
    with pytest.raises(PvtError, match="stages"):
        model.forward_intermediates(tensor(twin, random_images(SMALL["v1"])), indices)
    assert model.num_stages == 4


def test_another_layout_is_refused(twin: str) -> None:
    x = tensor(twin, random_images(SMALL["v2"]))
    with pytest.raises(PvtError, match=naming("NHWC")):
        made(twin, SMALL["v2"]).forward_intermediates(x, output_fmt="NHWC")


def test_training_drops_paths_wherever_it_enters() -> None:
    config = dataclasses.replace(SMALL["v1"], drop_path_rate=0.9)
    model, x = made("pvt_torch", config).train(), torch.from_numpy(random_images(config))
    answers = []
    for enter in (model.forward_features, lambda x: model.forward_intermediates(x)[0]):
        torch.manual_seed(0)
        answers.append(enter(x))
    assert same(answers[:1], answers[1:])
    still = made("pvt_torch", SMALL["v1"]).forward_features(x)
    assert not same(answers[:1], [still]) and same([model.eval().forward_features(x)], [still])


# --- fewer stages


def test_models_of_some_maps(twin: str, tmp_path: Path) -> None:
    config = make_config("pvt_nano")
    save_model(tmp_path / "whole.pth", random_weights(config), info_of(config))
    maps, some = (
        package(twin).create_model("pvt_nano", features_only=True, out_indices=chosen)
        for chosen in (None, (2, -4))
    )
    for model in (maps, some):
        package(twin).load_weights(model, tmp_path / "whole.pth")
    assert (some.out_indices, some.num_features, len(some.depths)) == ((0, 2), 96, 3)
    assert some.feature_info.channels() == [32, 96] and some.feature_info.reduction() == [4, 16]
    kept = package(twin).get_weights(some)
    assert {n for n in package(twin).get_weights(maps) if n not in kept} == {
        spec.name for spec in tensor_specs(maps.config) if spec.stage == 3
    }
    images = random_images(config)
    x = tensor(twin, images)
    assert same(some(x), [maps(x)[0], maps(x)[2]])
    taps = package(twin).run_taps(some, images)
    assert list(taps)[-1] == "stage3" and np.array_equal(taps["stage3"], numbers(some(x)[1]))


def test_maps_without_features_only_are_refused(twin: str) -> None:
    with pytest.raises(PvtError, match=naming("features_only")):
        package(twin).create_model("pvt_nano", out_indices=(1, 2))


def test_pruning_leaves_what_maps_need(twin: str, small: PVTConfig, tmp_path: Path) -> None:
    model, x = made(twin, small), tensor(twin, random_images(small))
    expected = model.forward_intermediates(x, [1, 2], intermediates_only=True)
    assert model.prune_intermediate_layers([1, -2]) == [1, 2]
    assert same(model.forward_intermediates(x, [1, 2], intermediates_only=True), expected)
    assert same([model(x)], expected[1:])
    assert (model.num_features, model.num_classes, model.global_pool) == (24, 0, "")
    names = package(twin).get_weights(model)
    assert not [n for n in names if re.match(r"\w+4|norm\.|cls_token|head", n)]
    with pytest.raises(PvtError, match="whole"):
        model.reset_classifier(3)
    backbone = dataclasses.replace(small, num_classes=0, features_only=True)
    save_model(tmp_path / "maps.pth", random_weights(backbone, seed=1), info_of(backbone))
    package(twin).load_weights(model, tmp_path / "maps.pth")
    assert not same([model(x)], expected[1:])


def test_pruning_the_last_norm_and_head(twin: str) -> None:
    model, x = made(twin, SMALL["v1"]), tensor(twin, random_images(SMALL["v1"]))
    maps = model.forward_intermediates(x, intermediates_only=True)
    model.prune_intermediate_layers(4, prune_norm=True, prune_head=False)
    assert model.num_classes == 7 and not any(
        name.startswith("norm.") for name in package(twin).get_weights(model)
    )
    assert same(model.forward_intermediates(x, norm=True, intermediates_only=True), maps)


# --- another head, another size


def test_a_new_head_is_the_one_of_a_new_model(twin: str, tmp_path: Path) -> None:
    create, get = package(twin).create_model, package(twin).get_weights
    model = create("pvt_nano", num_classes=4)
    model.reset_classifier(6, seed=3)
    expected = get(create("pvt_nano", num_classes=6, seed=3))
    found = get(model)
    assert {name: array.shape for name, array in found.items()} == {
        spec.name: spec.shape for spec in tensor_specs(model.config)
    }
    assert all(np.array_equal(found[n], expected[n]) for n in ("head.weight", "head.bias"))
    assert model.num_classes == 6 == model.config.num_classes
    assert numbers(model(tensor(twin, random_images(model.config)))).shape == (2, 6)
    save_model(tmp_path / "six.ckpt", expected, info_of(model.config))
    package(twin).load_weights(model, tmp_path / "six.ckpt")
    assert all(np.array_equal(array, expected[name]) for name, array in get(model).items())


def test_no_head_and_no_pooling(twin: str, small: PVTConfig) -> None:
    model, x = made(twin, small), tensor(twin, random_images(small))
    features = model.forward_features(x)
    pooled = model.forward_head(features, pre_logits=True)
    model.reset_classifier(0)
    assert same([model(x)], [pooled])
    model.reset_classifier(0, "")
    assert same([model(x)], [features])
    with pytest.raises(PvtError, match=naming("global_pool=")):
        model.reset_classifier(3)
    with pytest.raises(PvtError, match=naming("max")):
        model.reset_classifier(3, "max")
    assert model.num_classes == 0
    model.reset_classifier(3, "token" if small.version == 1 else "avg")
    assert numbers(model(x)).shape == (2, 3)


def test_backbones_take_no_head(twin: str) -> None:
    model = made(twin, MAPS["v2 maps"])
    model.reset_classifier(0)
    with pytest.raises(PvtError, match=naming("features_only")):
        model.reset_classifier(3)


def test_a_new_head_is_in_the_models_mode(twin: str) -> None:
    model = made(twin, SMALL["v2"])
    model.reset_classifier(3)
    assert not model.head.training
    (model.train if twin == "pvt_torch" else model.set_train)(True)
    model.reset_classifier(4)
    assert model.head.training


def test_a_new_head_has_the_models_dtype_and_draws_nothing() -> None:
    model = made("pvt_torch", SMALL["v2"]).to(torch.bfloat16)
    state = torch.get_rng_state()
    model.reset_classifier(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.head.weight.dtype == torch.bfloat16


def test_mindspores_new_head_has_its_names() -> None:
    model = made("pvt_ms", SMALL["v1"])
    names = [parameter.name for parameter in model.get_parameters()]
    model.reset_classifier(3)
    model.set_input_size(96)
    assert sorted(parameter.name for parameter in model.get_parameters()) == sorted(names)


@pytest.mark.sampled
@pytest.mark.parametrize("profile", ["official", "mindcv"])
@pytest.mark.parametrize("size", [(96, 64), (64, 64)])
def test_another_size_is_converts(
    twin: str, profile: str, size: tuple[int, int], small: PVTConfig, tmp_path: Path
) -> None:
    info = info_of(small, profile)
    save_model(tmp_path / "own.pth", weights_for(small, info.numerics), info)
    convert_file(tmp_path / "own.pth", tmp_path / "new.pth", changes=Changes(image_size=size))
    expected, described = load_model(tmp_path / "new.pth")
    model = made(twin, small, profile)
    answer = model(tensor(twin, random_images(small, size)))
    model.set_input_size(size)
    found = package(twin).get_weights(model)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.dtype == expected[name].dtype and np.array_equal(array, expected[name]), name
    assert (model.config, model.numerics) == (described.config, described.numerics)
    again = model(tensor(twin, random_images(small, size)))
    assert np.abs(numbers(again) - numbers(answer)).max() < 1e-5


def test_sizes_that_cannot_be_leave_the_model_alone(twin: str) -> None:
    model = made(twin, SMALL["v1"], "mindcv")
    for size in (16, (64, 70)):
        with pytest.raises(PvtError):
            model.set_input_size(size)
    assert model.config == SMALL["v1"]
    model.set_input_size(64)
    assert model.config == SMALL["v1"]


def test_another_size_keeps_what_is_frozen() -> None:
    model = made("pvt_torch", SMALL["v1"]).double()
    model.pos_embed1.requires_grad_(False)
    model.set_input_size((64, 96))
    assert not model.pos_embed1.requires_grad and model.pos_embed2.requires_grad
    assert model.pos_embed1.dtype == torch.float64 and model.pos_embed1.shape == (1, 16 * 24, 8)


# --- training


def layers(matcher: dict[str, Any], names: list[str]) -> dict[str, int]:
    """Names by layer, as timm's ``group_with_matcher`` documents it; each must match once."""
    rules = [
        (re.compile(pattern), place, suffix)
        for place, rule in enumerate(matcher.values())
        for pattern, suffix in (rule if isinstance(rule, list) else [(rule, None)])
    ]
    keys = {}
    for name in names:
        ((place, found, suffix),) = [(p, m, s) for r, p, s in rules if (m := r.match(name))]
        keys[name] = (place, *map(int, found.groups()), *(suffix or ()))
    numbered: dict[tuple[int, ...], int] = {}
    for key in sorted(set(keys.values())):
        merged = bool(numbered) and key[-1] == 99999
        numbered[key] = max(numbered.values(), default=-1) + (not merged)
    return {name: numbered[key] for name, key in keys.items()}


def described(config: PVTConfig) -> Habits:
    habits = Habits()
    habits.config = config
    return habits


@pytest.mark.parametrize("config", [*VARIANTS.values(), *MAPS.values()], ids=str)
def test_layers_are_those_of_our_own_rates(config: PVTConfig) -> None:
    names = [spec.name for spec in tensor_specs(config)]
    found = layers(described(config).group_matcher(), names)
    last = max(found.values())
    assert {n: 0.5 ** (last - layer) for n, layer in found.items()} == layer_scales(config, 0.5)
    coarse = layers(described(config).group_matcher(coarse=True), names)
    for spec in tensor_specs(config):
        assert coarse[spec.name] == (4 if spec.stage is None else spec.stage)


@pytest.mark.parametrize("given", [False, True], ids=["drawn", "given"])
def test_recomputing_gives_the_same_gradients(given: bool, small: PVTConfig) -> None:
    config = dataclasses.replace(small, drop_path_rate=0.5)
    model, x = made("pvt_torch", config).train(), torch.from_numpy(random_images(config))
    calls: list[str] = []
    for name, module in model.named_modules():
        if re.fullmatch(r"block\d\.\d", name):
            module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    found = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        torch.manual_seed(0)
        masks = model.sample_drop_path(len(x)) if given else None
        model(x, masks).square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    assert same(*found)
    assert len(calls) == 3 * sum(config.depths)
    with torch.no_grad():
        model(x)
    assert len(calls) == 4 * sum(config.depths)


def test_mindspore_recomputes_to_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    ms = import_mindspore()
    from pvt_ms.model import Block

    config, calls = SMALL["v1"], []
    run = Block.construct

    def counted(self: Any, *inputs: Any) -> Any:
        calls.append(self)
        return run(self, *inputs)

    monkeypatch.setattr(Block, "construct", counted)
    masks = np.random.default_rng(2).choice([0.0, 2.0], (5, 2, 2)).astype(np.float32)
    x, drop_path, found = ms.Tensor(random_images(config)), ms.Tensor(masks), []
    for enable in (False, True):
        model = made("pvt_ms", config).set_train(True)
        model.set_grad_checkpointing(enable)

        def loss(x: Any, drop_path: Any, model: Any = model) -> Any:
            return (model(x, drop_path) ** 2).sum()

        found.append(ms.grad(loss, None, model.trainable_params())(x, drop_path))
    assert same(*found) and len(calls) == 3 * sum(config.depths)
    with pytest.raises(PvtError, match="anew"):
        model.set_grad_checkpointing(False)


# --- copies


def test_changed_models_are_copied_and_kept(tmp_path: Path) -> None:
    model = made("pvt_torch", SMALL["v1"])
    model.reset_classifier(3)
    model.set_input_size(96)
    model.set_grad_checkpointing()
    x = torch.from_numpy(random_images(model.config))
    fresh = made("pvt_torch", model.config)
    assert str(fresh.load_state_dict(model.state_dict(), strict=True)) == str(
        torch.nn.Linear(1, 1).load_state_dict(torch.nn.Linear(1, 1).state_dict())
    )
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
        assert same([other(x)], [model(x)])
        assert other.feature_info == model.feature_info
    torch.save(model.state_dict(), tmp_path / "state.pth")
    weights, info = load_model(tmp_path / "state.pth")
    assert info.config.num_classes == 3 and info.config.image_size == (96, 96)
    assert np.array_equal(weights["head.weight"], numbers(model.head.weight))


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["v1", "linear maps"])
def test_dynamo_takes_each_part_whole(kind: str) -> None:
    model = made("pvt_torch", (SMALL | MAPS)[kind])
    model.prune_intermediate_layers([0, 2])
    x = torch.from_numpy(random_images(model.config))

    def maps(x: torch.Tensor) -> Any:
        return model.forward_intermediates(x, [0, 2], intermediates_only=True)

    for part in (model, maps):
        compiled = torch.compile(part, backend="eager", fullgraph=True)
        assert same(compiled(x), part(x))


def test_a_forward_pass_takes_images_as_numpy_has_them(twin: str, tmp_path: Path) -> None:
    """Of another order or stride they ended in the framework's own words, as did what is none."""
    config = SMALL["v2"]
    save_model(tmp_path / "m.pth", random_weights(config), info_of(config))
    forward, _ = package(twin).load_forward(tmp_path / "m.pth")
    images = random_images(config)
    expected = forward(images)["logits"]
    for same in (images[:, ::-1][:, ::-1], images.astype(">f4"), np.asfortranarray(images)):
        assert np.array_equal(forward(same)["logits"], expected)
    wrong = (images[0], images[:, :2], images.astype(np.float64), images[:0], np.zeros(3, np.uint8))
    for other in wrong:
        with pytest.raises(ArgumentError, match=naming(str(other.dtype), "float32 (B, 3, H, W)")):
            forward(other)
