"""What is written for Ascend's converter: the graph, AIPP's configuration, the lines of atc."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from convert import convert_file, load_model, save_model
from convert.findings import Finding
from convert.options import Changes, OnnxOptions, Options
from pvt_data.images.pixels import normalise
from pvt_onnx.ascend import aipp_config, atc_commands
from pvt_onnx.targets import TARGETS
from pvt_spec import ConfigError, Preprocessing
from tests.support.messages import naming
from tests.support.models import SMALL, info_of, random_weights

ASCEND = Options(onnx=OnnxOptions(target="ascend"))


def channels(config: str) -> dict[str, list[float]]:
    """The values of each channel in an AIPP configuration, by name."""
    found: dict[str, list[float]] = {}
    for name, value in re.findall(r"(\w+)_\d: (\S+)", config):
        found.setdefault(name, []).append(float(value))
    return found


def aipp(config: str, pixels: np.ndarray) -> np.ndarray:
    """What AIPP computes of uint8 (H, W, C): integers and float16, by its guide's formula."""
    held = channels(config)
    assert all(value == int(value) for value in held["mean_chn"])
    rest, factor = (np.array(held[f"{name}_chn"], np.float16) for name in ("min", "var_reci"))
    shifted = pixels.astype(np.float32) - np.array(held["mean_chn"], np.float32)
    return (shifted - rest.astype(np.float32)) * factor.astype(np.float32)


@pytest.mark.parametrize(
    "kept",
    [
        Preprocessing((64, 64)),
        Preprocessing((64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        Preprocessing((64, 96), normalise=False),
        Preprocessing((64, 64), rescale=1.0, mean=(123.675, 116.28, 103.53), std=(58.0,) * 3),
    ],
)
def test_aipp_normalises_as_the_model_says(kept: Preprocessing) -> None:
    info = dataclasses.replace(info_of(SMALL["v1"]), preprocessing=kept)
    config = aipp_config(Path("a.onnx"), info)
    assert config is not None
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    expected = normalise(pixels, kept)
    found = aipp(config, pixels).transpose(2, 0, 1)
    # float16 keeps eleven bits of each factor.
    assert np.abs(found - expected).max() <= 2**-10 * np.abs(expected).max()
    assert f"src_image_size_h: {kept.image_size[0]}" in config
    assert f"src_image_size_w: {kept.image_size[1]}" in config


def test_aipp_is_left_out_where_it_has_no_such_images(tmp_path: Path) -> None:
    info = info_of(dataclasses.replace(SMALL["v2"], in_chans=4))
    assert aipp_config(Path("a.onnx"), info) is None
    assert all("insert_op_conf" not in line for line in atc_commands(Path("a.onnx"), info))


def test_a_conversion_writes_all_that_atc_needs(small_file: Path, tmp_path: Path) -> None:
    told: list[Finding] = []
    target = tmp_path / "b.onnx"
    convert_file(small_file, target, options=ASCEND, tell=told.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [small_file.name, "b.aipp.cfg", "b.onnx"]
    )
    model = onnx.load(target)
    assert {node.op_type for node in model.graph.node} <= TARGETS["ascend"].operators
    assert [entry.version for entry in model.opset_import] == [TARGETS["ascend"].opset]
    weights, _ = load_model(target)
    expected, _ = load_model(small_file)
    assert all(weights[name].tobytes() == expected[name].tobytes() for name in expected)
    one, several = [finding.value for finding in told if finding.what == "next_step"]
    assert '--input_shape="images:1,3,64,64"' in one
    assert '--input_shape="images:-1,3,64,64" --dynamic_batch_size=' in several
    assert all("--insert_op_conf=b.aipp.cfg" in line for line in (one, several))


def test_position_embeddings_are_resized_before_the_graph(tmp_path: Path) -> None:
    config = SMALL["v1"]
    save_model(tmp_path / "a.pth", random_weights(config), info_of(config))
    convert_file(
        tmp_path / "a.pth",
        tmp_path / "b.onnx",
        changes=Changes(image_size=(96, 64)),
        options=ASCEND,
    )
    assert "Resize" not in {node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node}


def test_a_file_made_for_another_size_is_refused(tmp_path: Path) -> None:
    info = dataclasses.replace(info_of(SMALL["v1"]), preprocessing=Preprocessing((96, 96)))
    save_model(tmp_path / "a.pth", random_weights(info.config), info)
    with pytest.raises(ConfigError, match=naming("ascend", "--image-size")):
        convert_file(tmp_path / "a.pth", tmp_path / "b.onnx", options=ASCEND)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


@pytest.fixture(params=SMALL)
def small_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Each kind of PVT in a file."""
    path, config = tmp_path / "a.pth", SMALL[request.param]
    save_model(path, random_weights(config), info_of(config))
    return path
