"""How a graph computes is read from the graph, whoever made it."""

import numpy as np
import onnx
import pytest
from onnx import helper

from pvt_onnx.graph.build import build
from pvt_onnx.reading.precision import (
    QUANTIZATION_KEY,
    Quantization,
    is_quantised,
    read_precision,
    read_quantization,
)
from pvt_spec import ConfigError, ModelInfo
from tests.support.models import SMALL, info_of, random_images, random_weights
from tests.support.quantised import HALVERS, QUANTISERS

MINDCV = info_of(SMALL["v1"], "mindcv")
"""A model whose position embeddings are rounded to float16 and widened again."""


def model(dtype: str = "float32", info: ModelInfo = MINDCV) -> onnx.ModelProto:
    weights = {name: array.astype(dtype) for name, array in random_weights(info.config).items()}
    return build(info.config, info.numerics, weights, info=info)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_only_stored_in_float16_is_computed_in_float32(dtype: str) -> None:
    assert read_precision(model(dtype)) == "fp32"


@pytest.mark.sampled
@pytest.mark.parametrize("tool", [*QUANTISERS, *HALVERS])
def test_what_a_tool_made_shows_in_the_nodes(tool: str) -> None:
    # The converter to float16 cannot take casts to float16, as MindCV's maths has them.
    before = model(info=info_of(SMALL["v1"]))
    made = (QUANTISERS | HALVERS)[tool](before, random_images(MINDCV.config))
    assert read_precision(made) == ("int8" if tool in QUANTISERS else "fp16")


@pytest.mark.parametrize(
    "op", ["MatMulInteger", "QLinearSoftmax", "QGemm", "MatMulNBits", "DequantizeLinear"]
)
def test_operators_on_integers_are_known_by_their_names(op: str) -> None:
    assert is_quantised(helper.make_node(op, ["x"], ["y"]))


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "LayerNormalization", "Softmax"])
def test_operators_on_floats_are_not_taken_for_them(op: str) -> None:
    assert not is_quantised(helper.make_node(op, ["x"], ["y"]))


def test_one_product_in_float16_is_enough() -> None:
    made = model()
    half = np.ones((7, 7), np.float16)
    made.graph.initializer.append(onnx.numpy_helper.from_array(half, "more/weight"))
    cast = helper.make_node("Cast", ["logits"], ["more/half"], to=onnx.TensorProto.FLOAT16)
    product = helper.make_node("MatMul", ["more/half", "more/weight"], ["more"])
    made.graph.node.extend([cast, product])
    assert read_precision(made) == "fp16"


def test_a_cast_to_nothing_is_none_to_float16() -> None:
    made = model()
    made.graph.node.append(helper.make_node("Cast", ["logits"], ["more"]))
    assert read_precision(made) == "fp32"


def test_how_a_model_was_quantised_travels_with_it() -> None:
    said = Quantization("static", "onnxruntime 1.0", {"head": "0.3 points"}, "12 images, min/max")
    made = model()
    assert read_quantization(made) is None
    made.metadata_props.add(key=QUANTIZATION_KEY, value=said.to_json())
    assert read_quantization(made) == said


@pytest.mark.parametrize("text", ["", "[]", '{"method": 1, "tool": "x"}', '{"method": "static"}'])
def test_a_damaged_record_is_named(text: str) -> None:
    made = model()
    made.metadata_props.add(key=QUANTIZATION_KEY, value=text)
    with pytest.raises(ConfigError, match=QUANTIZATION_KEY):
        read_quantization(made)
