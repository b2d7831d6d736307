"""A model's matrix products alone: as many, as large, and made."""

import json

import numpy as np
import pytest

from convert import save_model
from pvt_onnx import load_proto
from pvt_onnx.products import open_products, products_graph
from pvt_onnx.reading.files import OnnxFileError
from pvt_spec import METADATA_KEY, PVTConfig
from pvt_spec.macs import list_products
from tests.support.models import info_of, random_weights


def test_products_are_the_models(small: PVTConfig, tmp_path) -> None:
    info = info_of(small, "official")
    save_model(tmp_path / "m.onnx", random_weights(small), info)
    opened = open_products(tmp_path / "m.onnx", 1)
    assert opened.info.config == small
    answers = opened.forward(np.zeros((2, 3, 64, 64), np.float32))
    products = [p for p in list_products(small, info.numerics, (64, 64)) if p.kind != "depthwise"]
    assert [*answers] == [product.layer for product in products]
    for product in products:
        factor = 0.5 * 0.5 if product.kind == "attention" else 0.5 * 0.01
        assert answers[product.layer].item() == pytest.approx(product.inner * factor, rel=1e-4)


def test_no_more_is_made_than_a_file_holds(small: PVTConfig, tmp_path) -> None:
    path = tmp_path / "m.onnx"
    save_model(path, random_weights(small), info_of(small, "official"))
    model = load_proto(path)
    said = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    config = json.loads(said.value)["config"] | {"depths": [100] * 4, "mlp_ratios": [64] * 4}
    said.value = json.dumps(json.loads(said.value) | {"config": config})
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match="weights"):
        open_products(path, 1)


def test_what_is_multiplied(small: PVTConfig) -> None:
    products = list_products(small, info_of(small, "official").numerics, (64, 64))
    kept = [product for product in products if product.kind != "depthwise"]
    model, inputs = products_graph(kept, 3)
    shapes = {name: array.shape for name, array in inputs.items()}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "MatMul":
            left, right = (shapes[name] for name in node.input)
            assert left[-1] == right[-2]
            total += int(np.prod(left)) * right[-1]
    assert total == 3 * sum(product.macs for product in kept)
