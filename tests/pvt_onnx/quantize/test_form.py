"""The form that is quantised: linear layers over tokens as convolutions, with the same answers."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from convert import save_model
from convert.options import OnnxOptions
from pvt_data.sources.labels import ignore
from pvt_onnx.graph.build import build
from pvt_onnx.quantize.quantizer import find_nodes
from pvt_onnx.quantize.source import layers_of, quantisable, read_source
from pvt_onnx.targets import LINEAR, TARGETS
from pvt_spec import PVTConfig, tap_specs, tensor_specs
from tests.support.models import info_of, random_images, weights_for


def _answers(model: bytes, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [*session.run(None, {"images": images})]


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_form_that_quantises_best_answers_the_same(
    small_or_maps: PVTConfig, dynamic: bool
) -> None:
    info = info_of(small_or_maps, "mindcv")
    weights, images = weights_for(info.config, info.numerics), random_images(small_or_maps)
    forms = (TARGETS["onnxruntime"], quantisable(TARGETS["onnxruntime"]))
    ours, form = (
        build(info.config, info.numerics, weights, target=target, dynamic_size=dynamic)
        for target in forms
    )
    linear = [s.module for s in tensor_specs(info.config) if s.layer in LINEAR and s.part]
    nodes = find_nodes(form)
    assert {nodes[layer].op_type for layer in linear} == {"Conv"}
    for found, expected in zip(
        _answers(form.SerializeToString(), images),
        _answers(ours.SerializeToString(), images),
        strict=True,
    ):
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_every_layer_with_products_is_in_the_module_whose_tap_shows_it(
    small_or_maps: PVTConfig, tmp_path: Path
) -> None:
    info = info_of(small_or_maps)
    save_model(tmp_path / "a.onnx", weights_for(info.config, info.numerics), info)
    source = read_source(tmp_path / "a.onnx", ignore)
    modules = layers_of(source)
    taps = [tap.name for tap in tap_specs(info.config)]
    assert [module for module in taps if module in modules] == [*modules]
    layers = [layer for inside in modules.values() for layer in inside]
    assert sorted(layers) == sorted(find_nodes(source.build(source.weights, source.target, 20)))


def test_what_is_read_of_a_source_is_what_was_written(small: PVTConfig, tmp_path: Path) -> None:
    info = info_of(small)
    weights = weights_for(small, info.numerics)
    how = OnnxOptions(uint8=True, opset=17, target="tensorrt")
    save_model(tmp_path / "a.onnx", weights, info, onnx=how)
    source = read_source(tmp_path / "a.onnx", ignore)
    assert (source.size, source.uint8, source.opset) == (small.image_size, True, 17)
    assert source.target.name == "tensorrt" and quantisable(source.target) == source.target
    assert all(np.array_equal(source.weights[name], array) for name, array in weights.items())
    assert source.bytes == (tmp_path / "a.onnx").stat().st_size
