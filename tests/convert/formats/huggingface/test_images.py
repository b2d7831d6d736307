"""Images as transformers and timm prepare them, by their own answers and their own code.

``tests/golden/preprocessing`` has what their processors and transforms made of four pictures.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convert.formats.huggingface.config import make_config as make_config_json, parse_config
from convert.formats.huggingface.images import (
    PREPROCESSOR,
    make_preprocessor,
    otherwise,
    parse_preprocessor,
)
from convert.formats.huggingface.timm import parse_timm
from pvt_data.images.pixels import pixel_std
from pvt_data.images.preprocessing import load_image
from pvt_spec import (
    CROP_MODES,
    INTERPOLATIONS,
    RESIZES,
    ImageError,
    Preprocessing,
    make_config,
)
from pvt_spec.errors import ConvertError
from tests.support.huggingface import import_transformers
from tests.support.messages import Facts, naming, tells
from tests.support.models import GOLDEN

CONFIG = make_config("pvt_v2_b0", image_size=64)
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}}
SIZES = [(75, 50), (41, 64), (40, 40), (20, 26)]
"""(width, height) of the pictures."""


def picture(width: int, height: int) -> Image.Image:
    """A picture with edges of all directions, by a formula."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    pixels = (3 * x * x + 5 * y * y + 7 * x * y + 91 * c) // 8 % 256
    return Image.fromarray(pixels.astype(np.uint8))


def golden(peer: str) -> tuple[list[Any], list[np.ndarray]]:
    """A peer's settings, and some of the pixels of what it made of each picture by them."""
    with np.load(GOLDEN / "preprocessing" / f"{peer}.npz") as file:
        cases = json.loads(str(file["cases"]))
        return cases, [file[str(number)] for number in range(len(cases))]


def thinned(array: np.ndarray) -> np.ndarray:
    return array[..., :: max(1, array.shape[-2] // 8), :: max(1, array.shape[-1] // 8)]


def ours(prepared: Preprocessing, folder: Path) -> np.ndarray:
    made = []
    for number, size in enumerate(SIZES):
        picture(*size).save(folder / f"{number}.png")
        made.append(thinned(load_image(folder / f"{number}.png", prepared)))
    return np.stack(made)


# Steps of 255 that a pixel may be off: which axis is filtered first, and then rounded, differs
# between torch and Pillow, and between Pillow's releases. Another filter is off by 20 and more.
ORDER = 6.0
PILLOW = 0.0 if Image.__version__.startswith("13.") else ORDER
PEERS = {"pil": PILLOW, "old": PILLOW, "torchvision": ORDER}


def _lacks_pixels(prepared: Preprocessing) -> bool:
    return prepared.crop_pct > 1 or prepared.resize == "none"


@pytest.mark.sampled
@pytest.mark.parametrize("peer", PEERS)
def test_images_are_prepared_as_transformers_does(peer: str, tmp_path: Path) -> None:
    for case, expected in zip(*golden(peer), strict=True):
        prepared, notes = parse_preprocessor(case["kept"], CONFIG)
        assert notes == []
        if peer == "pil":
            # What is not said is what its own classes take for it.
            assert parse_preprocessor(case["given"], CONFIG)[0] == prepared
        mine = ours(prepared, tmp_path)
        if peer == "torchvision" and _lacks_pixels(prepared):
            # It puts the larger half of an odd number of them elsewhere than the others.
            continue
        steps = PEERS[peer] / pixel_std(prepared).min() + 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(mine, expected, rtol=0, atol=steps)
        # What goes back is the same.
        assert [*otherwise(prepared)] == []
        again, _ = parse_preprocessor(json.loads(json.dumps(make_preprocessor(prepared))), CONFIG)
        np.testing.assert_array_equal(ours(again, tmp_path), ours(prepared, tmp_path))


def test_images_are_prepared_as_timm_does(tmp_path: Path) -> None:
    for case, expected in zip(*golden("timm"), strict=True):
        usual = {"crop_pct": 0.875, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        config = {"architecture": "pvt_v2_b0", "num_classes": 3, "pretrained_cfg": usual | case}
        prepared = parse_timm(config).preprocessing
        steps = PILLOW / pixel_std(prepared).min() + 1e-5
        np.testing.assert_allclose(ours(prepared, tmp_path), expected, rtol=0, atol=steps)


@pytest.mark.parametrize(
    ("key", "value"), [("crop_mode", "middle"), ("interpolation", "random"), ("crop_mode", 3)]
)
def test_what_timm_does_not_know_is_refused_by_name(key: str, value: Any) -> None:
    trained = {"crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3, key: value}
    config = {"architecture": "pvt_v2_b0", "num_classes": 3, "pretrained_cfg": trained}
    with pytest.raises(ConvertError, match=naming(key, repr(value))):
        parse_timm(config)


def transformers_pixels(folder: Path, image: Path) -> Any:
    """A file of images as the processor of a folder makes it: (C, H, W)."""
    processor = import_transformers().AutoImageProcessor.from_pretrained(folder)
    with Image.open(image) as opened:
        return processor(opened, return_tensors="np")["pixel_values"][0]


@pytest.mark.parametrize("resize", ["cover", "shortest", "squash", "none"])
@pytest.mark.parametrize("crop_pct", [0.8, 224 / 256, 1.0, 2.0])
@pytest.mark.parametrize("crop_mode", ["center", "center_floor", "none"])
def test_transformers_prepares_images_as_a_folder_of_ours_says(
    resize: str, crop_pct: float, crop_mode: str, tmp_path: Path
) -> None:
    prepared = Preprocessing(
        (64, 64),
        crop_pct,
        (0.5, 0.4, 0.3),
        (0.2, 0.3, 0.4),
        resize=resize,
        crop_mode=crop_mode,
        interpolation="hamming",
        rescale=1 / 128,
    )
    (tmp_path / PREPROCESSOR).write_text(json.dumps(make_preprocessor(prepared)))
    # One whose margins are even, so that all roundings are the same.
    picture(128 if crop_pct <= 1 else 64, 64).save(tmp_path / "a.png")
    try:
        mine = load_image(tmp_path / "a.png", prepared)
    except ImageError as error:
        assert crop_mode == "none" and tells(error, "64x64", "crop_mode=center")
        return
    theirs = transformers_pixels(tmp_path, tmp_path / "a.png")
    np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-5)


def test_every_difference_of_transformers_is_said() -> None:
    facts = {
        "inside": "inside",
        "border": "border",
        "center": "center",
        "stored": "stored",
    }
    for prepared, fact in (
        (Preprocessing(resize="inside", crop_mode="center_floor"), "inside"),
        (Preprocessing((64, 32), crop_mode="center_floor"), "cover"),
        (Preprocessing(crop_mode="border"), "border"),
        (Preprocessing(crop_mode="center"), "center"),
        (Preprocessing(crop_mode="center_floor", orientation="stored"), "stored"),
    ):
        said = [*otherwise(prepared)]
        assert said and all(fact in each for each in said)
    assert {*facts} <= {*RESIZES, *CROP_MODES, "stored"}


def as_json(value: dict[str, Any]) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("crop_pct", [0.5, 0.8, 224 / 256, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("side", [32, 63, 224, 384])
def test_preprocessing_is_read_back(side: int, crop_pct: float) -> None:
    given = Preprocessing(
        (side, side), crop_pct, resize="shortest", crop_mode="center_floor", interpolation="box"
    )
    read, notes = parse_preprocessor(as_json(make_preprocessor(given)), CONFIG)
    # Shares that resize to the same pixels are the same preprocessing.
    assert read.resized == given.resized
    assert make_preprocessor(read) == make_preprocessor(given)
    assert notes == []
    if side == 224:
        assert read == given


def test_transformers_own_processor_is_read(tmp_path: Path) -> None:
    # Without torchvision, the class of that name is only a request for it.
    processor = import_transformers().models.pvt.image_processing_pil_pvt.PvtImageProcessorPil(
        size={"height": 64, "width": 64}, resample=2
    )
    processor.save_pretrained(tmp_path)
    data = json.loads((tmp_path / PREPROCESSOR).read_text())
    assert data["image_processor_type"] == "PvtImageProcessor"
    read, notes = parse_preprocessor(data, CONFIG)
    expected = Preprocessing((64, 64), 1.0, resize="squash", crop_mode="none")
    assert read == dataclasses.replace(expected, interpolation="bilinear")
    assert notes == []
    picture(100, 50).save(tmp_path / "a.png")
    theirs = transformers_pixels(tmp_path, tmp_path / "a.png")
    np.testing.assert_allclose(theirs, load_image(tmp_path / "a.png", read), rtol=0, atol=1e-6)
    assert parse_config({"model_type": "pvt_v2"}, data).preprocessing == read


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        ({}, ("resample", "bicubic", "bilinear")),
        ({"image_processor_type": "OtherImageProcessor"}, ("OtherImageProcessor",)),
        ({"do_flip_channel_order": True}, ("do_flip_channel_order",)),
        (
            {
                "do_center_crop": True,
                "size": {"height": 256, "width": 320},
                "crop_size": {"height": 224, "width": 224},
            },
            ("256x320", "256x256"),
        ),
    ],
)
def test_what_preprocessing_cannot_say_is_told(data: dict[str, Any], facts: Facts) -> None:
    _, notes = parse_preprocessor(data, CONFIG)
    assert any(tells(note, *facts) for note in notes)
    info = parse_config({"model_type": "pvt_v2"}, data)
    assert tells(info.provenance["preprocessing in transformers"], *facts)


@pytest.mark.parametrize(
    ("data", "resize", "resized"),
    [
        ({"size": 64}, "squash", (64, 64)),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 64}, "squash", (64, 64)),
        (
            {"image_processor_type": "DeiTImageProcessor", "size": 80, "crop_size": 64},
            "squash",
            (80, 80),
        ),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 80, "crop_size": 64},
            "shortest",
            (80, 80),
        ),
    ],
)
def test_a_number_is_a_square_or_the_shorter_side(
    data: dict[str, Any], resize: str, resized: tuple[int, int]
) -> None:
    read, _ = parse_preprocessor(data, CONFIG)
    assert (read.resize, read.resized, read.image_size) == (resize, resized, (64, 64))


def test_filters_go_by_number_or_name() -> None:
    for number, name in enumerate(INTERPOLATIONS):
        for value in (number, name):
            read, _ = parse_preprocessor({"resample": value}, CONFIG)
            assert read.interpolation == name


def test_switches_are_read() -> None:
    read, _ = parse_preprocessor({"do_normalize": False, "do_rescale": False}, CONFIG)
    assert (read.normalise, read.rescale) == (False, 1.0)
    read, _ = parse_preprocessor({"image_mean": 0.5, "image_std": [0.5, 0.5, 0.5]}, CONFIG)
    assert (read.mean, read.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    read, _ = parse_preprocessor({"do_resize": False}, CONFIG)
    assert (read.resize, read.crop_mode, read.image_size) == ("none", "none", (64, 64))


NULLED: dict[str, dict[str, Any]] = {
    "PvtImageProcessor": {"size": {"height": 64, "width": 64}},
    "BitImageProcessor": {"size": {"shortest_edge": 64}},
    "SegformerImageProcessor": {"size": {"height": 64, "width": 64}},
    "ConvNextImageProcessor": CONVNEXT,
}


@pytest.mark.parametrize("step", ["do_resize", "do_center_crop", "do_rescale", "do_normalize"])
@pytest.mark.parametrize("processor", NULLED)
def test_a_step_that_is_null_is_left_out(processor: str, step: str, tmp_path: Path) -> None:
    """It was taken for the usual, which transformers does not."""
    data = {"image_processor_type": processor, **NULLED[processor], "resample": 3, step: None}
    (tmp_path / PREPROCESSOR).write_text(json.dumps(data))
    picture(64, 64).save(tmp_path / "a.png")
    prepared, _ = parse_preprocessor(data, CONFIG)
    theirs = transformers_pixels(tmp_path, tmp_path / "a.png")
    mine = load_image(tmp_path / "a.png", prepared)
    np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=0.05)


KEYS = ["size", "resample", "crop_size", "rescale_factor", "image_mean", "image_std"]


@pytest.mark.parametrize("key", KEYS)
def test_what_a_step_needs_and_is_null_is_told(key: str) -> None:
    processor = {"image_processor_type": "DeiTImageProcessor"}
    (told,) = parse_preprocessor({**processor, key: None}, CONFIG)[1]
    assert tells(told, key, "null", "transformers", "default")
    without = {"do_resize": False, "do_center_crop": None, "crop_size": None, "size": None}
    assert parse_preprocessor({**processor, **without}, CONFIG)[1] == []


def test_convnexts_second_crop_is_refused() -> None:
    """It was passed over without a word."""
    with pytest.raises(ConvertError, match=naming("do_center_crop", "ConvNextImageProcessor")):
        parse_preprocessor({**CONVNEXT, "do_center_crop": True}, CONFIG)


def test_segformer_crops_nothing() -> None:
    """Whatever its file says, by which a model's certificate held for other images."""
    data = {"image_processor_type": "SegformerImageProcessor", "do_center_crop": True}
    read, notes = parse_preprocessor({**data, "size": {"height": 64, "width": 64}}, CONFIG)
    assert read.crop_mode == "none" and any(tells(note, "do_center_crop") for note in notes)


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        ({"size": "64"}, ("'64'",)),
        ({"size": {"height": 64}}, ("'height'", "64")),
        ({"size": {"height": 64, "width": None}}, ("pixels",)),
        ({"size": {"height": 8, "width": 8}}, ("image_size", "8")),
        ({"do_center_crop": True}, ("crop_size",)),
        ({"image_mean": [0.5]}, ("image_mean", "0.5", "3")),
        ({"image_std": "x"}, ("image_std", "'x'")),
        ({"image_std": 0}, ("0", "std")),
        ({"resample": "x"}, ("resample", "'x'")),
        ({"resample": 6}, ("resample", "6")),
        ({"rescale_factor": 0}, ("rescale", "0")),
        ({"rescale_factor": float("nan")}, ("rescale_factor", "nan")),
        ({**CONVNEXT, "crop_pct": 0}, ("crop_pct", "0.0")),
        ({**CONVNEXT, "crop_pct": 1e-320}, ("crop_pct",)),
        ({**CONVNEXT, "crop_pct": "x"}, ("crop_pct", "'x'")),
        ({"rescale_factor": None, "size": {"longest_edge": 64}}, ("'longest_edge'",)),
    ],
)
def test_preprocessors_that_cannot_be_are_refused(data: dict[str, Any], facts: Facts) -> None:
    with pytest.raises(ConvertError) as error:
        parse_config({"model_type": "pvt"}, data)
    assert tells(error.value, *facts)


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({}, "single_label"),
        ({"problem_type": "single_label_classification"}, "single_label"),
        ({"problem_type": "multi_label_classification"}, "multi_label"),
        ({"num_labels": 1, "problem_type": "multi_label_classification"}, "multi_label"),
        ({"num_labels": 1, "problem_type": "single_label_classification"}, "binary"),
        ({"num_labels": 1}, "binary"),
        ({"num_labels": 1, "problem_type": "regression"}, "regression"),
    ],
)
def test_what_logits_mean_is_read_and_written(config: dict[str, Any], task: str) -> None:
    info = parse_config({"model_type": "pvt_v2", **config})
    assert info.task == task
    assert parse_config(as_json(make_config_json(info))).task == task


def test_another_problem_type_is_refused() -> None:
    for value in ("ranking", ["regression"], 1):
        with pytest.raises(ConvertError, match=naming("problem_type", "regression")):
            parse_config({"model_type": "pvt_v2", "problem_type": value})
