"""What floats become: types and bits by target, in a valid graph that runs."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.numpy_helper import to_array

from convert import save_model
from convert.options import OnnxOptions
from pvt_data.sources.labels import ignore
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.quantize.measuring.calibration import find_ranges, open_values
from pvt_onnx.quantize.quantizer import (
    Scheme,
    choose_scheme,
    find_nodes,
    find_values,
    quantise_dynamic,
    quantise_static,
)
from pvt_onnx.quantize.source import Source, layers_of, quantisable, read_source
from pvt_onnx.targets import TARGETS
from pvt_spec import ConfigError, PVTConfig, PvtError
from tests.support.messages import naming
from tests.support.models import SMALL, info_of, random_images, weights_for

ONE_THREAD = EngineOptions(threads=1)


def _source(folder: Path, config: PVTConfig, **how: Any) -> Source:
    info = info_of(config)
    save_model(folder / "a.onnx", weights_for(config, info.numerics), info, onnx=OnnxOptions(**how))
    return read_source(folder / "a.onnx", ignore)


def _quantised(source: Source, scheme: Scheme, layers: list[str] | None = None) -> Any:
    form = quantisable(source.target)
    model = source.build(source.weights, form, max(source.opset, 13))
    nodes = find_nodes(model)
    ranges = find_ranges(
        open_values(model, "a", find_values(nodes), ONE_THREAD),
        lambda: [random_images(source.info.config)],
        "minmax",
    )
    return quantise_static(model, ranges, scheme, layers or [*nodes])


def _run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answer: np.ndarray = session.run(None, {"images": images})[0]
    return answer


def _off(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))


@pytest.mark.sampled
@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt", "portable"])
def test_every_kind_is_quantised_for_every_target(
    small: PVTConfig, target: str, tmp_path: Path
) -> None:
    source = _source(tmp_path, small, target=target)
    scheme = choose_scheme(source.target, None, None)
    model = _quantised(source, scheme)
    onnx.checker.check_model(model, full_check=True)
    assert not model.graph.value_info
    held = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    for layers in layers_of(source).values():
        for layer in layers:
            assert f"{layer}.weight" not in held
            weight = held[f"{layer}.weight_quantized"]
            assert weight.dtype == np.int8
            assert held[f"{layer}.weight_scale"].shape == weight.shape[:1]
            assert (f"{layer}.bias" in held) == (target == "tensorrt")
    images = random_images(small)
    assert _off(_run(model, images), _run(source.model, images)) < 0.1


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_as_many_bits_as_are_asked_for(bits: int, tmp_path: Path) -> None:
    source = _source(tmp_path, SMALL["v2"])
    scheme = choose_scheme(source.target, None, bits == 8)
    model = _quantised(source, scheme)
    weights = [to_array(t) for t in model.graph.initializer if t.name.endswith("weight_quantized")]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == {7: 64, 8: 127}[bits]
    assert f"of {bits} bits" in str(scheme)


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_the_quantisers_own_files_may_not_be_writable(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, gone = _source(tmp_path, SMALL["v2"]), tmp_path / "gone"
    scheme = choose_scheme(source.target, None, False)
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    with pytest.raises(PvtError, match=naming(str(gone), "TMPDIR")):
        if method == "static":
            _quantised(source, scheme)
        else:
            model = source.build(source.weights, quantisable(source.target), 13)
            quantise_dynamic(model, scheme, [*find_nodes(model)])


def test_what_is_symmetric_has_a_zero_of_0(tmp_path: Path) -> None:
    source = _source(tmp_path, SMALL["v1"], target="tensorrt")
    model = _quantised(source, choose_scheme(source.target, None, None))
    zeros = [to_array(t) for t in model.graph.initializer if t.name.endswith("_zero_point")]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    with pytest.raises(ConfigError, match="TensorRT"):
        choose_scheme(TARGETS["tensorrt"], "uint8", None)


def test_16_bits_are_nearer(tmp_path: Path) -> None:
    source = _source(tmp_path, SMALL["v1"], opset=21)
    images = random_images(source.info.config)
    exact = _run(source.model, images)
    coarse, fine = (
        _off(_run(_quantised(source, Scheme(kind)), images), exact) for kind in ("uint8", "uint16")
    )
    assert fine < coarse


def test_only_the_layers_that_are_asked_for_are_quantised(tmp_path: Path) -> None:
    source = _source(tmp_path, SMALL["v2"])
    model = _quantised(source, Scheme("uint8"), ["block2.1.mlp.fc1", "head"])
    held = {tensor.name for tensor in model.graph.initializer}
    rounded = {name for name in held if name.endswith("weight_quantized")}
    assert rounded == {"block2.1.mlp.fc1.weight_quantized", "head.weight_quantized"}
    assert "block2.1.mlp.fc2.weight" in held


def test_a_gelu_is_written_in_the_form_of_the_scheme(tmp_path: Path) -> None:
    source = _source(tmp_path, SMALL["v1"])
    for gelu, form in (("tanh", b"tanh"), (None, b"none")):
        model = _quantised(source, Scheme("uint8", gelu=gelu))
        nodes = [node for node in model.graph.node if node.op_type == "Gelu"]
        assert nodes and {node.attribute[0].s for node in nodes} == {form}


def test_dynamic_has_products_of_integers_alone(small: PVTConfig, tmp_path: Path) -> None:
    source = _source(tmp_path, small, target="portable")
    nodes = find_nodes(source.model)
    linear = [layer for layer, node in nodes.items() if node.op_type == "Gemm"]
    model = quantise_dynamic(source.model, Scheme("uint8", reduce_range=True), linear)
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") == len(linear) and "ConvInteger" not in kinds
    images = random_images(small)
    assert _off(_run(model, images), _run(source.model, images)) < 0.1
