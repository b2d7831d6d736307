"""Models that answer the maps of their stages: what detection and segmentation put on top of."""

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from pvt_onnx.engines.table import open_engine
from pvt_onnx.graph.build import build
from pvt_onnx.graph.layers import INPUT
from pvt_spec import (
    PROFILES,
    PVTConfig,
    PvtError,
    make_config,
    output_names,
    stage_grids,
    tap_names,
    tensor_specs,
)
from pvt_train.recipe.keys import Recipe
from tests.support.detection import Size, as_map, detection_backbone
from tests.support.messages import naming
from tests.support.models import (
    MAPS,
    SMALL,
    Weights,
    info_of,
    random_images,
    random_weights,
    weights_for,
)
from tests.support.runtimes import RUNTIMES, import_mindspore, run_float64

OFFICIAL, MINDCV = PROFILES["official"], PROFILES["mindcv"]
TOLERANCE = 2e-5
"""From float64; the maps are about 1, float32 leaves some 1e-6 of them."""


def cut(weights: Weights, config: PVTConfig) -> Weights:
    """What the backbone has of a whole model's weights: no row of ``pos_embed4`` for the class."""
    kept = {spec.name: weights[spec.name] for spec in tensor_specs(config)}
    if config.version == 1:
        kept["pos_embed4"] = kept["pos_embed4"][:, 1:]
    return kept


# --- judges from outside


@pytest.mark.parametrize(
    ("own", "size", "count"),
    [
        ((64, 64), (64, 64), 3),
        ((64, 64), (100, 60), 1),
        ((64, 64), (96, 224), 2),
        ((64, 128), (128, 64), 1),
    ],
)
def test_v1_answers_as_the_official_detection_backbone(
    own: Size, size: Size, count: int, runtime: str
) -> None:
    whole = dataclasses.replace(SMALL["v1"], image_size=own)
    config = dataclasses.replace(MAPS["v1 maps"], image_size=own)
    weights, images = random_weights(whole), random_images(config, size, count)
    taps = RUNTIMES[runtime](config, OFFICIAL[1], cut(weights, config), images)
    expected = detection_backbone(whole, weights, images)
    for name, theirs in zip(output_names(config), expected, strict=True):
        assert taps[name].shape == theirs.shape
        assert np.abs(taps[name] - theirs).max() < TOLERANCE, name


def test_the_official_backbone_is_not_the_classifier() -> None:
    """The check above can fail: the class token takes part in the last stage's attention."""
    config, images = SMALL["v1"], random_images(SMALL["v1"])
    weights = random_weights(config)
    taps = run_float64(config, OFFICIAL[1], weights, images)
    *_, before, last = detection_backbone(config, weights, images)
    assert np.abs(as_map(taps["block3.0"], (4, 4)) - before).max() < 1e-12
    assert np.abs(as_map(taps["block4.0"][:, 1:], (2, 2)) - last).max() > 100 * TOLERANCE


@pytest.mark.parametrize("size", [(64, 64), (100, 60)])
@pytest.mark.parametrize("kind", ["v2", "linear"])
def test_v2_answers_the_norms_of_the_classifier(kind: str, size: Size, runtime: str) -> None:
    whole, config = SMALL[kind], MAPS[f"{kind} maps"]
    weights, images = random_weights(whole), random_images(whole, size)
    taps = RUNTIMES[runtime](config, MINDCV[2], cut(weights, config), images)
    expected = run_float64(whole, MINDCV[2], weights, images)
    for stage, grid in enumerate(stage_grids(config, MINDCV[2], size), start=1):
        difference = taps[f"stage{stage}"] - as_map(expected[f"norm{stage}"], grid)
        assert np.abs(difference).max() < TOLERANCE, stage


# --- the twins


def test_a_whole_models_weights_are_refused() -> None:
    import pvt_torch

    with pytest.raises(PvtError) as refusal:
        pvt_torch.model_from_weights(MAPS["v1 maps"], OFFICIAL[1], random_weights(SMALL["v1"]))
    assert str(refusal.value).split("\n  ") == [
        "weights do not fit:",
        *(f"{n} is unknown" for n in ("cls_token", "head.bias", "head.weight")),
        *("norm.bias is unknown", "norm.weight is unknown"),
        "pos_embed4 is (1, 5, 32), expected (1, 4, 32)",
    ]


def test_both_twins_make_the_same_backbone() -> None:
    ms = import_mindspore()
    import pvt_ms
    import pvt_torch

    model, cell = (p.create_model("pvt_nano", features_only=True) for p in (pvt_torch, pvt_ms))
    assert model.config == cell.config == make_config("pvt_nano", features_only=True)
    images = random_images(model.config)
    with torch.inference_mode():
        ours = model.eval()(torch.from_numpy(images))
    theirs = cell.set_train(False)(ms.Tensor(images))
    assert isinstance(ours, tuple) and isinstance(theirs, tuple)
    assert [tuple(x.shape[2:]) for x in ours] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.numpy() - b.asnumpy()).max() < TOLERANCE


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["v1 maps", "linear maps"])
def test_mindspore_answers_the_same_as_a_graph(kind: str) -> None:
    ms = import_mindspore()
    import pvt_ms

    config, numerics = MAPS[kind], MINDCV[MAPS[kind].version]
    weights = weights_for(config, numerics)
    twin = pvt_ms.model_from_weights(config, numerics, weights)
    images = ms.Tensor(random_images(config, (72, 104)))
    for graph, eager in zip(ms.jit(twin)(images), twin(images), strict=True):
        assert np.abs(graph.asnumpy() - eager.asnumpy()).max() < 5e-6


@pytest.mark.parametrize("changes", [{"features_only": True}, {"num_classes": 0}])
def test_training_without_classes_is_refused(changes: dict[str, Any]) -> None:
    import_mindspore()
    from pvt_ms.train.twin import MindSporeTwin

    config = make_config("pvt_nano", **changes)
    with pytest.raises(PvtError, match=naming("head")):
        MindSporeTwin(info_of(config), Recipe("pvt_nano"), {})


# --- the graph


def dims(value: onnx.ValueInfoProto) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("opset", [17, 20, 23])
def test_outputs_say_their_shapes(opset: int, maps: PVTConfig) -> None:
    weights, numerics = random_weights(maps), OFFICIAL[maps.version]
    static = build(maps, numerics, weights, image_size=(96, 64), opset=opset)
    dynamic = build(maps, numerics, weights, dynamic_size=True, opset=opset)
    sides = [(24, 16), (12, 8), (6, 4), (3, 2)]
    names = output_names(maps)
    assert [o.name for o in static.graph.output] == [o.name for o in dynamic.graph.output]
    for name, output, C, side in zip(
        names, static.graph.output, maps.embed_dims, sides, strict=True
    ):
        assert output.name == name and dims(output) == ["batch", C, *side]
    for name, output, C in zip(names, dynamic.graph.output, maps.embed_dims, strict=True):
        assert dims(output) == ["batch", C, f"{name}_height", f"{name}_width"]
    for model in (static, dynamic):
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        made = [name for node in model.graph.node for name in node.output]
        assert len(made) == len(set(made)) and set(tap_names(maps)) <= set(made)


@pytest.mark.parametrize("profile", ["official", "mindcv"])
def test_one_session_takes_any_size_and_batch(profile: str, maps: PVTConfig) -> None:
    numerics = PROFILES[profile][maps.version]
    weights = weights_for(maps, numerics)
    model = build(maps, numerics, weights, dynamic_size=True)
    engine = open_engine(model.SerializeToString(), "maps")
    for size, count in (((64, 64), 1), ((100, 60), 3), ((33, 65), 1), ((224, 96), 3)):
        images = random_images(maps, size, count)
        expected = run_float64(maps, numerics, weights, images)
        outputs = engine.run({INPUT: images}, output_names(maps))
        for name, array in zip(output_names(maps), outputs, strict=True):
            assert array.shape == expected[name].shape and len(array) == count
            assert np.abs(array - expected[name]).max() < TOLERANCE, (size, name)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_the_standards_own_evaluator_answers_the_same(dynamic: bool, maps: PVTConfig) -> None:
    numerics = MINDCV[maps.version]
    weights, images = weights_for(maps, numerics), random_images(maps, (40, 72), 1)
    size = {"dynamic_size": True} if dynamic else {"image_size": (40, 72)}
    outputs = ReferenceEvaluator(build(maps, numerics, weights, **size)).run(None, {INPUT: images})
    expected = run_float64(maps, numerics, weights, images)
    for name, array in zip(output_names(maps), outputs, strict=True):
        assert np.abs(array - expected[name]).max() < TOLERANCE, name


@pytest.mark.parametrize("kind", SMALL)
def test_a_map_is_transposed_once(kind: str) -> None:
    """The maps between stages are the answers themselves; only the last one is made for it."""
    configs = (SMALL[kind], MAPS[f"{kind} maps"])
    whole, graph = (build(c, OFFICIAL[c.version], random_weights(c)).graph for c in configs)
    counts = [sum(node.op_type == "Transpose" for node in g.node) for g in (whole, graph)]
    assert counts[1] == counts[0] + 1
    users = {name: node for node in graph.node for name in node.input}
    for name, after in pairwise(output_names(configs[1])):
        assert users[name].op_type == "Conv"
        assert users[name].input[1] == f"patch_embed{after[-1]}.proj.weight"
