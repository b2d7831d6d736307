"""Other people's tools take the graphs as they are, with their defaults, and the answers stay."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from pvt_onnx import load_forward
from pvt_onnx.engines.openvino import open_core
from pvt_onnx.graph.build import build
from pvt_onnx.graph.layers import INPUT
from pvt_spec import profile_numerics
from tests.support.models import SMALL, random_images, random_weights

pytestmark = pytest.mark.long

EXACT, HALF, INT8 = 1e-6, 3e-3, 0.05
"""How far answers may be off, as a share of the largest: by rounding, in float16, in int8."""


def quantise_dynamically(path: Path, target: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(path, target)


def prepare(path: Path, target: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(path, target)


def quantise_statically(path: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):
        """The one batch to calibrate by."""

        def __init__(self) -> None:
            self.batches: Iterator[dict[str, np.ndarray]] = iter([{INPUT: images_of(path)}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    prepared = target.with_name(f"prepared {target.name}")
    prepare(path, prepared)
    quantize_static(prepared, target, Images())


def slim(path: Path, target: Path) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(str(path)), target)


def simplify(path: Path, target: Path) -> None:
    import onnxsim

    simplified, same = onnxsim.simplify(str(path))
    assert same
    onnx.save(simplified, target)


def to_float16(path: Path, target: Path) -> None:
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(path), keep_io_types=True), target)


def to_float16_by_onnxruntime(path: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # Which puts the first operator last.
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), target)


def keep_beside(path: Path, target: Path) -> None:
    model = onnx.load(path)
    onnx.save(model, target, save_as_external_data=True, location="all")


def optimise(path: Path, target: Path) -> None:
    from onnxruntime.transformers import optimizer

    optimizer.optimize_model(str(path)).save_model_to_file(str(target))


TOOLS: dict[str, tuple[Callable[[Path, Path], None], float]] = {
    "quantize_dynamic": (quantise_dynamically, INT8),
    "quant_pre_process": (prepare, EXACT),
    "quantize_static": (quantise_statically, INT8),
    "onnxslim": (slim, EXACT),
    "onnxsim": (simplify, EXACT),
    "float16": (to_float16, HALF),
    "onnxruntime.float16": (to_float16_by_onnxruntime, HALF),
    "external data": (keep_beside, EXACT),
    "transformers.optimizer": (optimise, EXACT),
}
"""What makes another file of a model, and how far its answers may be off."""


def images_of(path: Path) -> np.ndarray:
    """Images for a model of :func:`model`."""
    return random_images(SMALL[path.stem.partition("-")[0]])


def answers(path: Path) -> np.ndarray:
    """What a file's model answers in onnxruntime."""
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {INPUT: images_of(path)})[0]


@pytest.fixture(scope="module", params=[f"{k}-{s}" for k in SMALL for s in ("static", "dynamic")])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a small model."""
    kind, _, size = request.param.partition("-")
    config = SMALL[kind]
    numerics = profile_numerics("official", config.version)
    weights = random_weights(config)
    proto = build(config, numerics, weights, dynamic_size=size == "dynamic")
    path = tmp_path_factory.mktemp("tools") / f"{request.param}.onnx"
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_makes_a_model_of_the_same_answers(
    tool: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where some leave files
    change, most = TOOLS[tool]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(model, tmp_path / model.name)
    expected, found = answers(model), answers(tmp_path / model.name)
    assert np.abs(found - expected).max() <= most * np.abs(expected).max()
    forward, _ = load_forward(tmp_path / model.name)  # as ours opens it, too
    ours = forward(images_of(model))["logits"]
    assert np.abs(ours - expected).max() <= most * np.abs(expected).max()


def test_quantisers_find_every_weight(model: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantise_dynamically(model, tmp_path / "a.onnx")
    before, after = (onnx.load(path).graph for path in (model, tmp_path / "a.onnx"))
    products = [node for node in before.node if node.op_type in ("Conv", "Gemm")]
    kept = {tensor.name for tensor in after.initializer if tensor.data_type == 1}
    assert {node.input[1] for node in products}.isdisjoint(kept)


def test_openvino_answers_the_same(model: Path) -> None:
    core = open_core()
    # The precision that it takes by itself is bfloat16 where the CPU has it.
    compiled = core.compile_model(
        core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    (found,) = compiled([images_of(model)]).values()
    expected = answers(model)
    assert np.abs(found - expected).max() <= EXACT * np.abs(expected).max()
