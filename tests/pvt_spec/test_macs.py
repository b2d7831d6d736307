"""How much a model computes: published figures, and what its own graph's operators multiply."""

import math

import onnx
import pytest

from pvt_onnx.graph.build import build_skeleton
from pvt_spec import (
    VARIANTS,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    make_config,
    profile_numerics,
    tensor_specs,
)
from pvt_spec.macs import count_macs, list_products

# PVT, table 1, and PVT v2, table 1: GFLOPs, which are multiply-accumulates there.
PUBLISHED = {
    "pvt_tiny": 1.9,
    "pvt_small": 3.8,
    "pvt_medium": 6.7,
    "pvt_large": 9.8,
    "pvt_v2_b0": 0.6,
    "pvt_v2_b1": 2.1,
    "pvt_v2_b2": 4.0,
    "pvt_v2_b2_li": 3.9,
    "pvt_v2_b3": 6.9,
    "pvt_v2_b4": 10.1,
    "pvt_v2_b5": 11.8,
}


def test_every_published_variant_has_a_figure() -> None:
    assert [*PUBLISHED, "pvt_nano"] == [*VARIANTS]


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_figures(variant: str) -> None:
    config = make_config(variant)
    macs = count_macs(config, profile_numerics("official", config.version), config.image_size)
    assert macs / 1e9 == pytest.approx(PUBLISHED[variant], abs=0.09)


@pytest.mark.parametrize("profile", ["official", "mindcv"])
@pytest.mark.parametrize("size", [(64, 64), (72, 90)])
def test_what_the_graph_multiplies(
    small_or_maps: PVTConfig, profile: str, size: tuple[int, int]
) -> None:
    numerics = profile_numerics(profile, small_or_maps.version)
    assert count_macs(small_or_maps, numerics, size) == _multiplied(small_or_maps, numerics, size)


def test_a_product_for_every_layer() -> None:
    config = make_config("pvt_v2_b0")
    products = list_products(config, Numerics(), (224, 224))
    layers = [s.module for s in tensor_specs(config) if s.part == "weight" and s.kind != "norm"]
    assert {product.layer for product in products} >= set(layers)
    assert len(products) == len(layers) + 2 * sum(config.depths)
    first = products[0]
    assert first == ("patch_embed1.proj", "conv", 1, 56 * 56, 3 * 7 * 7, 32)
    assert first.macs == 56 * 56 * 3 * 7 * 7 * 32


def _multiplied(config: PVTConfig, numerics: Numerics, size: tuple[int, int]) -> int:
    """Returns what the operators of an image's graph multiply, by the shapes of their values."""
    info = ModelInfo(config, numerics, default_preprocessing(config, "official"))
    dtypes = {spec.name: "float32" for spec in tensor_specs(config)}
    model = build_skeleton(info, dtypes, image_size=size, target="portable")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    shapes = {spec.name: list(spec.shape) for spec in tensor_specs(config)}
    shapes |= {constant.name: list(constant.dims) for constant in model.graph.initializer}
    for name, shape in shapes.items():
        if name not in {constant.name for constant in model.graph.initializer}:
            kind = onnx.TensorProto.FLOAT
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        answer = math.prod(shapes[node.output[0]])
        if node.op_type == "Conv":
            total += answer * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul") and "pool" not in node.name:
            total += answer * shapes[node.input[0]][-1]
    return total
