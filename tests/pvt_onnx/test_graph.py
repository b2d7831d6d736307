"""The ONNX graph: what is in the file, and what onnxruntime and onnx's own evaluator make of it."""

import dataclasses
import io
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import pvt_onnx
from convert import load_model
from convert.formats.onnx.encoding import write_model
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import OnnxFileError, load_forward, load_proto
from pvt_onnx.engines.tapped import open_taps
from pvt_onnx.graph.build import as_initializers, build, build_skeleton
from pvt_onnx.graph.layers import INPUT
from pvt_onnx.graph.model import RESIZES
from pvt_onnx.graph.operators import adaptive_avg_pool, gelu
from pvt_onnx.graph.writer import GraphWriter
from pvt_onnx.quantize.measuring.calibration import open_values
from pvt_onnx.targets import DEFAULT_TARGET, TARGETS
from pvt_spec import (
    METADATA_KEY,
    PROFILES,
    VARIANTS,
    ConfigError,
    ModelInfo,
    Numerics,
    PVTConfig,
    PvtError,
    make_config,
    output_names,
    tap_names,
    tensor_specs,
)
from tests.support.converting import describe
from tests.support.messages import naming, tells
from tests.support.models import (
    MAPS,
    SMALL,
    Weights,
    info_of,
    random_images,
    random_weights,
    weights_for,
)
from tests.support.processes import run_python
from tests.support.runtimes import run_float64

OFFICIAL, MINDCV = PROFILES["official"], PROFILES["mindcv"]
TOLERANCE = 1e-5
"""From float64; the logits of the small models are about 1, float32 leaves some 1e-6 of them."""

_POOL = np.random.default_rng(0).standard_normal(2_000_000, np.float32) * np.float32(0.02)


def cheap_weights(config: PVTConfig) -> Weights:
    """Random weights of a whole variant at once: views of one pool of numbers."""
    weights = {}
    for index, spec in enumerate(tensor_specs(config)):
        start = index * 7919 % (len(_POOL) - spec.size)
        weights[spec.name] = _POOL[start : start + spec.size].reshape(spec.shape)
    return weights


def forms() -> Iterator[tuple[str, int, bool]]:
    """Yields a target, an opset and whether the size is open: of the default, all opsets."""
    for name, target in TARGETS.items():
        some = (target.opsets.start, target.opset, target.opsets.stop - 1)
        for opset in target.opsets if name == DEFAULT_TARGET else some:
            yield name, opset, False
            if target.dynamic_size and opset >= RESIZES:
                yield name, opset, True


FORMS = [*forms()]


def written(info: ModelInfo, weights: Weights, **options: Any) -> bytes:
    """The file that ``convert`` would write."""
    dtypes = {name: array.dtype for name, array in weights.items()}
    stream = io.BytesIO()
    held = as_initializers(info.config, weights)
    write_model(stream, build_skeleton(info, dtypes, **options), held)
    return stream.getvalue()


def session_of(
    model: onnx.ModelProto | bytes, level: Any = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    answer: np.ndarray = session.run(None, {INPUT: images})[0]
    return answer


def expected(
    config: PVTConfig, numerics: Numerics, weights: Weights, images: np.ndarray
) -> np.ndarray:
    (answer,) = output_names(config)
    return run_float64(config, numerics, weights, images)[answer]


# --- what is in the file


@pytest.mark.sampled
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_passes_the_checker_with_its_weights_inside(
    variant: str, dynamic: bool
) -> None:
    info = describe(VARIANTS[variant], "mindcv")
    weights = cheap_weights(info.config)
    data = written(info, weights, dynamic_size=dynamic)
    onnx.checker.check_model(data, full_check=True)

    model = onnx.ModelProto.FromString(data)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert len(stored) == len(model.graph.initializer)
    assert [name for name in stored if "/" not in name] == list(weights)
    for name, array in weights.items():
        assert [size for size in stored[name].dims if size > 1] == [n for n in array.shape if n > 1]
        assert stored[name].data_type == onnx.TensorProto.FLOAT
        assert stored[name].raw_data == array.tobytes()

    used = {name for node in model.graph.node for name in node.input}
    assert stored.keys() <= used
    values = {name for node in model.graph.node for name in node.output}
    assert set(tap_names(info.config)) <= values
    assert [output.name for output in model.graph.output] == ["logits"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelInfo.from_json(metadata[METADATA_KEY]) == info


@pytest.mark.parametrize(("target", "opset", "dynamic"), FORMS)
def test_every_form_passes_the_strict_checks(
    target: str, opset: int, dynamic: bool, small: PVTConfig
) -> None:
    form: dict[str, Any] = {"target": target, "opset": opset, "dynamic_size": dynamic}
    model = build(small, MINDCV[small.version], random_weights(small), **form)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    told = [*inferred.graph.value_info, *inferred.graph.output]
    shapes = {value.name: value.type.tensor_type.shape.dim for value in told}
    if opset >= 14 or not dynamic:  # before, of what a computed Reshape answers nothing is inferred
        assert shapes.keys() == {name for node in model.graph.node for name in node.output}
        for tap in tap_names(small):
            assert shapes[tap][-1].dim_value > 0


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("target", ["onnxruntime", "portable"])
def test_the_shapes_that_a_graph_says_are_those_of_its_values(
    target: str, dynamic: bool, small: PVTConfig
) -> None:
    model = build(
        small, MINDCV[small.version], random_weights(small), target=target, dynamic_size=dynamic
    )
    said = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    images, lengths = random_images(small, count=3), {"batch": 3}
    found = open_values(model, "a model", [*said], EngineOptions())(images)
    for name, shape in said.items():
        for length, there in zip(shape, found[name].shape, strict=True):
            if isinstance(length, str):
                assert lengths.setdefault(length, there) == there, name
            else:
                assert length == there, name
    # Where one is not known nothing can have its place: the tokens between sums and norms alone.
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    for value in inferred if not dynamic else ():
        dims = value.type.tensor_type.shape.dim
        assert len(dims) == 3 or all(d.dim_param or d.dim_value for d in dims), value.name


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, [64, 64]),
        ({"image_size": (96, 72)}, [96, 72]),
        ({"dynamic_size": True}, ["height", "width"]),
    ],
)
def test_input_is_open_in_batch_and_on_request_in_size(
    options: dict[str, Any], size: list[Any], small: PVTConfig
) -> None:
    model = build(small, OFFICIAL[small.version], random_weights(small), **options)
    (image,) = model.graph.input
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, *size]
    (logits,) = model.graph.output
    dims = [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim]
    assert dims == ["batch", 7]
    assert tells(model.graph.doc_string, "official", "images", "logits")


def test_without_a_head_the_answer_is_the_features(small: PVTConfig) -> None:
    config = dataclasses.replace(small, num_classes=0)
    numerics, weights = OFFICIAL[config.version], random_weights(config)
    model = build(config, numerics, weights)
    images = random_images(config)
    assert [output.name for output in model.graph.output] == ["features"]
    answer = run(session_of(model), images)
    assert np.abs(answer - expected(config, numerics, weights, images)).max() < TOLERANCE


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_written_file_is_the_model_that_build_gives(
    dynamic: bool, small: PVTConfig, tmp_path: Path
) -> None:
    info = describe(small, "mindcv")
    weights = weights_for(small, info.numerics)
    (tmp_path / "a.onnx").write_bytes(written(info, weights, dynamic_size=dynamic))
    model = build(info.config, info.numerics, weights, info=info, dynamic_size=dynamic)
    assert onnx.load(tmp_path / "a.onnx") == model
    assert load_proto(tmp_path / "a.onnx") == model


def test_writing_the_same_twice_gives_the_same_bytes(small: PVTConfig) -> None:
    info, weights = describe(small, "mindcv"), random_weights(small)
    assert written(info, weights) == written(info, weights)


def test_views_of_any_layout_are_written_in_order(small: PVTConfig) -> None:
    info, weights = describe(small, "mindcv"), random_weights(small)
    transposed = {name: np.asfortranarray(array) for name, array in weights.items()}
    assert written(info, transposed) == written(info, weights)


@pytest.mark.parametrize(("target", "opset", "dynamic"), FORMS)
def test_attributes_are_written_out(
    target: str, opset: int, dynamic: bool, small: PVTConfig
) -> None:
    """Nothing that decides the answer is left to an operator's default."""
    numerics = PROFILES["mindcv" if opset % 2 else "official"][small.version]
    form: dict[str, Any] = {"target": target, "opset": opset, "dynamic_size": dynamic}
    model = build(small, numerics, random_weights(small), **form)
    needed = {
        "Conv": {"kernel_shape", "strides", "dilations", "group"},
        "Gemm": {"alpha", "beta", "transA", "transB"},
        "Gelu": {"approximate"},
        "LayerNormalization": {"axis", "epsilon", "stash_type"},
        "Softmax": {"axis"},
        "Reshape": {"allowzero"} if opset >= 14 else set(),
        "Resize": {"mode", "coordinate_transformation_mode"},
        "AveragePool": {"kernel_shape", "strides", "pads", "count_include_pad"},
    }
    if opset >= 10:
        needed["AveragePool"] |= {"ceil_mode"}
    for node in model.graph.node:
        given = {attribute.name for attribute in node.attribute}
        assert needed.get(node.op_type, set()) <= given, node.name
        if node.op_type == "Conv":
            assert ("pads" in given) != ("auto_pad" in given), node.name


# --- what onnxruntime makes of it


@pytest.mark.parametrize(("target", "opset", "dynamic"), FORMS)
def test_every_form_answers_as_float64(
    target: str, opset: int, dynamic: bool, small: PVTConfig
) -> None:
    numerics = MINDCV[small.version] if opset % 2 else OFFICIAL[small.version]
    # At another size than their own, position embeddings are resized in the graph.
    resizes = small.version == 2 or (opset >= RESIZES and TARGETS[target].dynamic_size)
    image_size = (72, 104) if resizes else small.image_size
    weights, images = weights_for(small, numerics), random_images(small, image_size)
    size: dict[str, Any] = {"dynamic_size": True} if dynamic else {"image_size": image_size}
    session = session_of(build(small, numerics, weights, target=target, opset=opset, **size))
    answer = run(session, images)
    assert np.abs(answer - expected(small, numerics, weights, images)).max() < TOLERANCE


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_every_level_of_optimisation_answers_the_same(
    level: str, dynamic: bool, small: PVTConfig
) -> None:
    numerics = MINDCV[small.version]
    weights = weights_for(small, numerics)
    model = build(small, numerics, weights, dynamic_size=dynamic)
    session = session_of(model, getattr(onnxruntime.GraphOptimizationLevel, level))
    images = random_images(small)
    answer = run(session, images)
    assert np.abs(answer - expected(small, numerics, weights, images)).max() < TOLERANCE


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_one_session_takes_any_batch(dynamic: bool, small: PVTConfig) -> None:
    numerics, weights = OFFICIAL[small.version], random_weights(small)
    session = session_of(build(small, numerics, weights, dynamic_size=dynamic))
    images = random_images(small, count=5)
    whole = expected(small, numerics, weights, images)
    for batch in (1, 2, 5, 3):
        answer = run(session, images[:batch])
        assert answer.shape == (batch, 7)
        assert np.abs(answer - whole[:batch]).max() < TOLERANCE


@pytest.mark.parametrize("profile", ["official", "mindcv"])
def test_one_session_takes_any_size(profile: str, small: PVTConfig) -> None:
    numerics = PROFILES[profile][small.version]
    weights = weights_for(small, numerics)
    session = session_of(build(small, numerics, weights, dynamic_size=True))
    for size in ((64, 64), (32, 32), (33, 65), (100, 60), (224, 96), (64, 64)):
        images = random_images(small, size, count=1 + size[0] % 3)
        difference = run(session, images) - expected(small, numerics, weights, images)
        assert np.abs(difference).max() < TOLERANCE, size


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_the_standards_own_evaluator_answers_the_same(dynamic: bool, small: PVTConfig) -> None:
    numerics = MINDCV[small.version]
    weights = weights_for(small, numerics)
    images = random_images(small, (40, 72))
    size = {"dynamic_size": True} if dynamic else {"image_size": (40, 72)}
    model = build(small, numerics, weights, **size)
    (answer,) = ReferenceEvaluator(model).run(None, {INPUT: images})
    assert np.abs(answer - expected(small, numerics, weights, images)).max() < TOLERANCE


def test_half_precision_positions_stay_as_they_are() -> None:
    config, numerics = SMALL["v1"], MINDCV[1]
    weights = random_weights(config, "float16")
    model = build(config, numerics, weights)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("pos_embed"):
            assert tensor.data_type == onnx.TensorProto.FLOAT16
            assert tensor.raw_data == weights[tensor.name].tobytes()
    images = random_images(config)
    answer = run(session_of(model), images)
    assert np.abs(answer - expected(config, numerics, weights, images)).max() < TOLERANCE


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_weights_are_widened_in_the_graph(dtype: Any, small: PVTConfig) -> None:
    numerics = OFFICIAL[small.version]
    half = {name: array.astype(dtype) for name, array in random_weights(small).items()}
    data = written(info_of(small), half)
    onnx.checker.check_model(data, full_check=True)
    stored = {tensor.name: tensor for tensor in onnx.ModelProto.FromString(data).graph.initializer}
    assert all(stored[name].raw_data == array.tobytes() for name, array in half.items())
    images = random_images(small)
    wide = {name: array.astype(np.float32) for name, array in half.items()}
    answer = run(session_of(data), images)
    assert np.abs(answer - expected(small, numerics, wide, images)).max() < TOLERANCE


SILENT = """
import sys
import numpy as np
import onnxruntime
from pvt_onnx.graph.build import build
from pvt_spec import PROFILES, VARIANTS
from tests.support.models import MAPS, SMALL, random_weights
config = {**SMALL, **MAPS, **VARIANTS}[sys.argv[1]]
weights = random_weights(config)
for profile in sys.argv[2:]:
    for dynamic in (False, True):
        model = build(config, PROFILES[profile][config.version], weights, dynamic_size=dynamic)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        session.run(None, {"images": np.zeros((1, 3, *config.image_size), np.float32)})
        if dynamic:
            session.run(None, {"images": np.zeros((2, 3, 64, 96), np.float32)})
print("answered")
"""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "profiles"),
    [
        *((name, ("official", "mindcv")) for name in SMALL),
        *((name, ("mindcv",)) for name in MAPS),
        ("pvt_tiny", ("official",)),
        ("pvt_v2_b2_li", ("official",)),
    ],
)
def test_onnxruntime_has_nothing_to_say(name: str, profiles: tuple[str, ...]) -> None:
    done = run_python("-c", SILENT, name, *profiles)
    assert (done.stdout.strip(), done.stderr) == ("answered", "")


def test_onnxruntime_would_have_something_to_say() -> None:
    """The check above can fail: an unused initializer is worth a warning to onnxruntime."""
    spoiled = SILENT.replace(
        "        session =",
        "        model.graph.initializer.add(name='unused', data_type=1, dims=[1],"
        " float_data=[1])\n        session =",
    )
    assert "unused" in run_python("-c", spoiled, "v2", "official").stderr


# --- operators by themselves


def operator_model(graph: GraphWriter, dims: list[Any], opset: int = 20) -> onnx.ModelProto:
    """A model from ``x`` to the graph's value ``answer``."""
    info, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    constants = list(graph.constants.values())
    inputs, outputs = [info("x", float32, dims)], [info("answer", float32, None)]
    proto = onnx.helper.make_graph(graph.nodes, "operator", inputs, outputs, constants)
    opsets = [onnx.helper.make_opsetid("", opset)]
    version = onnx.helper.find_min_ir_version_for(opsets)
    return onnx.helper.make_model(proto, opset_imports=opsets, ir_version=version)


@pytest.mark.parametrize("opset", [9, 13, 20])
@pytest.mark.parametrize("form", ["erf", "tanh"])
def test_gelu_is_exact_in_both_forms(form: str, opset: int) -> None:
    graph = GraphWriter(opset)
    gelu(graph, "x", form, "answer")
    x = np.linspace(-9, 9, 2001, dtype=np.float32)
    (answer,) = session_of(operator_model(graph, ["n"], opset)).run(None, {"x": x})
    wide = x.astype(np.float64)
    if form == "erf":
        gate = np.vectorize(math.erf)(wide / np.sqrt(2))
    else:
        gate = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    assert np.abs(answer - wide * 0.5 * (1 + gate)).max() < 2e-6


def pooled(x: np.ndarray, out: int) -> np.ndarray:
    """The definition, in float64: cell i averages floor(iH / out) to ceil((i + 1) H / out)."""
    H, W = x.shape[2:]
    answer = np.zeros((*x.shape[:2], out, out))
    for i in range(out):
        for j in range(out):
            rows = slice(i * H // out, -(-(i + 1) * H // out))
            columns = slice(j * W // out, -(-(j + 1) * W // out))
            answer[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3), dtype=np.float64)
    return answer


def pooling_model(size: tuple[int, int] | None) -> onnx.ModelProto:
    graph = GraphWriter(20)
    H, W = size or (graph.size_of("x", 2), graph.size_of("x", 3))
    answer = adaptive_avg_pool(graph, "x", H, W, 7, "pooled")
    graph.add("Identity", answer, name="answer")
    return operator_model(graph, ["batch", 3, *(size or ("height", "width"))])


POOLING_SIZES = [(7, 7), (14, 21), (1, 1), (3, 5), (8, 6), (13, 50), (7, 10), (56, 7), (31, 29)]


@pytest.mark.parametrize("size", POOLING_SIZES)
def test_pooling_is_exact_at_a_fixed_size(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *size), np.float32)
    (answer,) = session_of(pooling_model(size)).run(None, {"x": x})
    assert np.abs(answer - pooled(x, 7)).max() < 1e-6


def test_pooling_is_exact_at_every_size() -> None:
    session = session_of(pooling_model(None))
    rng = np.random.default_rng(0)
    for H in range(1, 40):
        x = rng.standard_normal((1, 3, H, 1 + (H * 17) % 60), np.float32)
        (answer,) = session.run(None, {"x": x})
        assert np.abs(answer - pooled(x, 7)).max() < 1e-6, x.shape


# --- what is refused


@pytest.mark.parametrize(
    ("target", "opset", "named"),
    [
        ("onnxruntime", 0, ("9", "23")),
        ("onnxruntime", 8, ("9", "23")),
        ("portable", 24, ("9", "23")),
        ("ascend", 18, ("9", "17")),
        ("tensorrt", 12, ("13", "20")),
    ],
)
def test_other_opsets_are_refused(
    target: str, opset: int, named: tuple[str, str], small: PVTConfig
) -> None:
    with pytest.raises(ConfigError, match=naming(opset, target, *named)):
        build(small, OFFICIAL[small.version], random_weights(small), opset=opset, target=target)


def test_a_graph_for_ascend_has_one_size() -> None:
    config = SMALL["v1"]
    model = partial(build, config, OFFICIAL[1], random_weights(config), target="ascend")
    with pytest.raises(ConfigError, match=naming("ascend", "--dynamic-size", "--image-size")):
        model(dynamic_size=True)
    with pytest.raises(ConfigError, match=naming("ascend", "24x16", "--image-size")):
        model(image_size=(96, 64))


@pytest.mark.parametrize("kind", ["v1", "linear"])
def test_what_an_opset_cannot_resize_is_refused(kind: str) -> None:
    config = SMALL[kind]
    with pytest.raises(ConfigError, match=naming("opset 10", "11", "--image-size")):
        build(config, OFFICIAL[config.version], random_weights(config), opset=10, dynamic_size=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("target", [name for name, row in TARGETS.items() if row.operators])
def test_an_engine_is_given_what_it_documents(target: str, variant: str) -> None:
    info = describe(VARIANTS[variant], "mindcv")
    dtypes = dict.fromkeys(cheap_weights(info.config), np.dtype(np.float32))
    row = TARGETS[target]
    for opset in (row.opsets.start, row.opset, row.opsets.stop - 1):
        model = build_skeleton(info, dtypes, target=target, opset=opset)
        assert {node.op_type for node in model.graph.node} <= row.operators


def test_all_that_is_wrong_with_weights_is_told_at_once(small: PVTConfig) -> None:
    weights = random_weights(small)
    weights["head.wait"] = weights.pop("head.weight")
    weights["patch_embed1.norm.bias"] = np.zeros(9, np.float32)
    with pytest.raises(ConfigError) as refusal:
        build(small, OFFICIAL[small.version], weights)
    assert str(refusal.value) == (
        "weights do not fit:\n  head.wait is unknown\n  head.weight is missing\n  "
        "patch_embed1.norm.bias is (9,), expected (8,)"
    )


def test_more_than_two_gigabytes_are_refused_before_anything_is_written() -> None:
    config = PVTConfig(2, (1024, 2048, 4096, 8192), (1,) * 4, (1,) * 4, (4,) * 4, (2, 2, 2, 1))
    zero = np.float32(0)
    weights = {spec.name: np.broadcast_to(zero, spec.shape) for spec in tensor_specs(config)}
    skeleton = build_skeleton(info_of(config), {name: zero.dtype for name in weights})
    stream = io.BytesIO()
    with pytest.raises(ConfigError, match=naming("ONNX", "2147483647")):
        write_model(stream, skeleton, weights)
    assert stream.getvalue() == b""


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_images_too_small_for_four_stages_are_refused(kind: str) -> None:
    config = SMALL[kind]
    with pytest.raises(ConfigError, match=naming("16", "32")):
        build(config, OFFICIAL[config.version], random_weights(config), image_size=(16, 64))


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is not an ONNX model")
    for load in (load_forward, load_proto):
        with pytest.raises(PvtError, match=naming("text.onnx")):
            load(tmp_path / "text.onnx")
        with pytest.raises(OnnxFileError, match=r"none\.onnx"):
            load(tmp_path / "none.onnx")


def test_models_that_do_not_say_what_they_are_are_refused(tmp_path: Path) -> None:
    onnx.save(pooling_model(None), tmp_path / "foreign.onnx")
    with pytest.raises(OnnxFileError, match=naming(METADATA_KEY)):
        load_forward(tmp_path / "foreign.onnx")
    with pytest.raises(OnnxFileError, match=r"expected an \.onnx file"):
        load_forward("a\0b")


def test_models_without_their_taps_are_refused() -> None:
    config = make_config("pvt_nano")
    model = build(config, OFFICIAL[1], random_weights(config))
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = "elsewhere" if name == "block2.0.mlp" else name
    with pytest.raises(OnnxFileError, match=naming("a.onnx", "block2.0.mlp")):
        open_taps(model, "a.onnx")


def test_load_forward_needs_nothing_but_the_file(small: PVTConfig, tmp_path: Path) -> None:
    info = describe(small, "mindcv")
    weights = weights_for(small, info.numerics)
    (tmp_path / "a.onnx").write_bytes(written(info, weights))
    forward, read = pvt_onnx.load_forward(tmp_path / "a.onnx")
    assert read == info
    images = random_images(small)
    answer = forward(images)["logits"]
    assert np.abs(answer - expected(small, info.numerics, weights, images)).max() < TOLERANCE


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_every_weight_is_read_by_its_operator_itself(dynamic: bool, small: PVTConfig) -> None:
    info = describe(small, "official")
    weights = weights_for(small, info.numerics)
    model = build(info.config, info.numerics, weights, info=info, dynamic_size=dynamic)
    held = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    ranks = {"Conv": 4, "Gemm": 2, "LayerNormalization": 1}
    layers = [node for node in model.graph.node if node.op_type in ranks]
    assert all(held[node.input[1]] == ranks[node.op_type] for node in layers)
    assert {name for node in layers for name in node.input[1:]} == {
        spec.name for spec in tensor_specs(small) if spec.part
    }


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_read_back_has_the_shapes_of_the_spec(
    dtype: str, small: PVTConfig, tmp_path: Path
) -> None:
    info = describe(small, "mindcv")
    weights = {
        name: array.astype(dtype) for name, array in weights_for(small, info.numerics).items()
    }
    (tmp_path / "a.onnx").write_bytes(written(info, weights))
    found, _ = load_model(tmp_path / "a.onnx")
    assert {name: array.shape for name, array in found.items()} == {
        spec.name: spec.shape for spec in tensor_specs(small)
    }
    assert all(found[name].tobytes() == weights[name].tobytes() for name in weights)
