"""What a program gives to functions of ours, and in records, that is of another type."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convert
import pvt_onnx
import pvt_torch
from pvt_onnx.quantize.options import QuantizeOptions
from pvt_spec import ConfigError, ModelInfo, Preprocessing, list_models, make_config
from pvt_spec.arguments import checked
from pvt_spec.errors import ArgumentError, PvtError
from tests.support.messages import naming
from tests.support.models import SMALL, info_of, random_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("arguments") / "m.onnx"
    convert.save_model(path, random_weights(SMALL["v2"]), info_of(SMALL["v2"]))
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"threads": "2"}, "int | None"),
        ({"threads": 1.5}, "int | None"),
        ({"threads": True}, "int | None"),
        ({"engine": ["onnxruntime"]}, "str"),
        ({"precision": 32}, "str | None"),
        ({"image_size": 32}, "tuple[int, int] | None"),
        ({"image_size": (32, "a")}, "tuple[int, int] | None"),
        ({"image_size": (32.5, 32)}, "tuple[int, int] | None"),
        ({"image_size": (32,)}, "tuple[int, int] | None"),
        ({"labels": "abc"}, "Sequence[str]"),
        ({"labels": [1, 2]}, "Sequence[str]"),
        ({"preprocessing": [("crop_pct", 1)]}, "Mapping[str, Any]"),
        ({"tell": None}, "Callable[[str], None]"),
    ],
    ids=str,
)
def test_loading_says_what_it_got_and_expects(given: dict[str, Any], expected: str, model) -> None:
    with pytest.raises(ArgumentError, match=naming("load", *given, expected)):
        pvt_onnx.load(model, **given)


@pytest.mark.parametrize(
    "path",
    [3, None, b"m.onnx", ["m.onnx"], io.BytesIO()],
    ids=["number", "none", "bytes", "list", "stream"],
)
@pytest.mark.parametrize(
    "read",
    [
        pvt_onnx.load, pvt_onnx.load_forward, pvt_onnx.load_proto, pvt_torch.load_forward,
        convert.load_model, convert.read_model,
    ],
)  # fmt: skip
def test_a_path_is_a_path(read, path) -> None:
    with pytest.raises(TypeError, match=naming("path", "str | PathLike[str]")) as refused:
        read(path)
    assert isinstance(refused.value, PvtError)


@pytest.mark.parametrize(
    "call",
    [
        lambda path: convert.convert_file(path, path, changes=3),
        lambda path: convert.save_model(path, {"a": [1.0]}, info_of(SMALL["v2"])),
        lambda path: convert.save_model(path, random_weights(SMALL["v2"]), None),
        lambda path: convert.Given(labels="abc"),
        lambda path: convert.Changes(image_size=32),
        lambda path: convert.OnnxOptions(opset="17"),
        lambda path: convert.Options(onnx=None),
        lambda path: QuantizeOptions(threads="2"),
        lambda path: pvt_onnx.EngineOptions(provider=3),
        lambda path: pvt_onnx.Predictor(path, "onnxruntime"),
        lambda path: pvt_torch.create_model("pvt_tiny", num_classes="10"),
        lambda path: pvt_torch.set_weights(None, {}),
        lambda path: pvt_torch.run_taps(None, np.zeros(1)),
        lambda path: list_models(3),
        lambda path: make_config(3),
        lambda path: ModelInfo.from_json({}),
        lambda path: make_config("pvt_tiny", image_size="224"),
        lambda path: Preprocessing(image_size=224),
        lambda path: Preprocessing(mean=0.5),
        lambda path: info_of(SMALL["v2"], "official", *[None] * SMALL["v2"].num_classes),
    ],
)
def test_no_type_breaks_anything_further_in(call, model: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(ArgumentError, match="expected"):
        call(model)
    assert model.read_bytes() == before


def test_numbers_of_numpys_and_lists_are_taken() -> None:
    config = make_config("pvt_tiny", num_classes=np.int64(10), image_size=[np.int32(64)] * 2)
    assert type(config.num_classes) is int and config.image_size == (64, 64)
    assert {type(side) for side in config.image_size} == {int}
    assert Preprocessing(crop_pct=np.float32(0.5)) == Preprocessing(crop_pct=0.5)
    assert pvt_onnx.EngineOptions(threads=np.int64(2)).threads == 2


@pytest.mark.parametrize(("name", "value"), [("num_classes", "10"), ("img_size", 224)])
def test_a_made_function_is_named_as_it_is_called(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^create_model.*{name}"):
        pvt_torch.create_model("pvt_nano", **{name: value})


def test_python_says_what_is_no_argument() -> None:
    @checked
    def ask(name: str) -> str:
        return name

    assert ask("a") == ask(name="a") == "a"
    with pytest.raises(TypeError, match=naming("ask", "size")):
        ask("a", size=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("number", ["3", 2.5, None, True, 0, -1, 10**30], ids=str)
def test_a_batch_is_of_so_many_images(number: Any, model) -> None:
    with pytest.raises(ConfigError, match=naming("batch_size")):
        pvt_onnx.load(model).predict([], batch_size=number)


@pytest.mark.parametrize(
    "given", [{"mean": (10**400,) * 3}, {"rescale": 10**400}], ids=["mean", "rescale"]
)
def test_an_integer_beyond_all_floats_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=naming("Preprocessing", *given, "float")):
        Preprocessing(**given)
