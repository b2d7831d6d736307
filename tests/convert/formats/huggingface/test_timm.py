"""timm's folders, as they are on the hub: ``config.json`` of its own beside the weights."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from convert import ConvertError, read_model
from convert.formats.huggingface.timm import is_timm, parse_timm
from convert.model.write import save_model
from pvt_spec import Preprocessing, make_config, profile_numerics
from tests.support.messages import naming
from tests.support.models import GOLDEN, info_of, random_weights

TRAINED = {"input_size": [3, 64, 96], "crop_pct": 0.9, "mean": [0.5, 0.4, 0.3], "std": [0.2] * 3}
CONFIG = {"architecture": "pvt_v2_b0", "num_classes": 10, "pretrained_cfg": TRAINED}


def test_config_tells_everything_but_the_weights():
    assert is_timm(CONFIG) and not is_timm({"model_type": "pvt_v2"})
    info = parse_timm(CONFIG)
    assert info.config == make_config("pvt_v2_b0", num_classes=10, image_size=(64, 96))
    assert info.numerics == profile_numerics("official", 2)
    expected = Preprocessing((64, 96), 0.9, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert info.preprocessing == dataclasses.replace(expected, resize="cover_nearest")
    usual = parse_timm({**CONFIG, "pretrained_cfg": {}}).preprocessing
    assert usual == Preprocessing(crop_pct=0.875)


def test_what_a_model_is_made_with_is_heeded():
    """Other heads, which no tensor shows, were taken for the variant's."""
    arguments = {"num_heads": [2, 4, 10, 16], "drop_path_rate": 0.1, "global_pool": "avg"}
    info = parse_timm({**CONFIG, "model_args": arguments})
    assert info.config.num_heads == (2, 4, 10, 16)
    for wrong in ({"norm_layer": "batchnorm"}, {"num_heads": 3}, [1]):
        with pytest.raises(ConvertError, match="model_args"):
            parse_timm({**CONFIG, "model_args": wrong})
    with pytest.raises(ConvertError, match="global_pool"):
        parse_timm({**CONFIG, "global_pool": ""})


def write_folder(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir()
    config = make_config("pvt_v2_b0", num_classes=10)
    made = folder.with_suffix(".safetensors")
    save_model(made, random_weights(config), info_of(config), dialect="timm")
    # timm writes no word of ours into its files.
    from safetensors.numpy import load_file, save_file

    save_file(load_file(made), folder / name)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_folder_and_the_file_in_it_are_read_alike(name, tmp_path):
    folder = write_folder(tmp_path / "hub")
    model = read_model(folder / name if name else folder)
    assert model.dialect == "timm"
    assert model.info.preprocessing == parse_timm(CONFIG).preprocessing
    assert model.info.config == parse_timm(CONFIG).config
    assert model.guesses == {}
    expected = random_weights(model.info.config)
    assert {n: a.tobytes() for n, a in model.weights.items()} == {
        n: a.tobytes() for n, a in expected.items()
    }


def test_weights_of_another_size_are_refused(tmp_path):
    shutil.copy(
        GOLDEN / "timm_v2_linear_small" / "weights.safetensors", tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ConvertError, match=naming("pvt_v2_b0", "32")):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "resnet50"}, "architecture is 'resnet50', expected one of pvt_v2_b0"),
        ({"architecture": "pvt_tiny"}, "architecture is 'pvt_tiny'"),
        ({"architecture": None}, "architecture is None"),
        ({"num_classes": "many"}, "expected num_classes and a pretrained_cfg"),
        ({"pretrained_cfg": [1]}, "expected num_classes and a pretrained_cfg"),
        ({"pretrained_cfg": {**TRAINED, "crop_pct": 1e-320}}, "expected num_classes and"),
        ({"pretrained_cfg": {**TRAINED, "crop_pct": [1]}}, "expected num_classes and"),
        ({"pretrained_cfg": {**TRAINED, "std": [0.0] * 3}}, "std above 0"),
        ({"pretrained_cfg": {**TRAINED, "input_size": [3, 8]}}, "expected num_classes and"),
        ({"pretrained_cfg": {**TRAINED, "input_size": [3, 8, 8]}}, "at least 32 pixels"),
    ],
)
def test_other_configs_are_refused(changes, words):
    with pytest.raises(ConvertError, match=r"config\.json: ") as refusal:
        parse_timm({**CONFIG, **changes})
    assert words in str(refusal.value)
