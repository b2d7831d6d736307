"""What travels with a model, in files that were once written: they open with what they meant."""

import dataclasses
from pathlib import Path

import pytest

from convert.model.read import read_model
from pvt_spec import ModelInfo, Preprocessing, PVTConfig, profile_numerics
from tests.support.models import GOLDEN

ONES = (1, 1, 1, 1)
CONFIG = PVTConfig(2, ONES, ONES, ONES, ONES, ONES, image_size=(32, 48), in_chans=1, num_classes=2)
FIRST = ModelInfo(
    CONFIG,
    profile_numerics("mindcv", 2),
    Preprocessing(
        (32, 48),
        0.9,
        (0.25,),
        (0.5,),
        resize="cover",
        interpolation="bicubic",
        crop_mode="center",
        rescale=1 / 255,
        normalise=True,
        orientation="exif",
    ),
    ("cat", "dog"),
    {"file": "their.ckpt"},
    "single_label",
)
SECOND = dataclasses.replace(
    FIRST,
    preprocessing=Preprocessing(
        (32, 48),
        0.8,
        (0.25,),
        (0.5,),
        resize="squash",
        interpolation="bilinear",
        crop_mode="center_floor",
        rescale=1 / 128,
        normalise=False,
        orientation="stored",
    ),
    task="multi_label",
)


@pytest.mark.parametrize("ending", ["ckpt", "pth", "safetensors", "onnx"])
@pytest.mark.parametrize(("name", "expected"), [("format_1", FIRST), ("format_2", SECOND)])
def test_files_of_each_format_say_what_they_said(
    name: str, expected: ModelInfo, ending: str, tmp_path: Path
) -> None:
    assert read_model(GOLDEN / "model_info" / f"{name}.{ending}").info == expected
