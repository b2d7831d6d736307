"""Hugging Face's ``preprocessor_config.json``, in both directions.

PVT's folders name ``PvtImageProcessor``: it resizes every image to ``size`` whatever its shape, and
crops nothing. What keeps an image's shape and crops its centre is written for
``BitImageProcessor``. Where the margin of a crop is odd, transformers rounds its corner down.

Keys and defaults: ``image_processing_backends.py`` and the ``image_processing_pil_*.py`` of the
processors below, of transformers 5.23.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pvt_spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    ConfigError,
    Preprocessing,
    PVTConfig,
)
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_IMAGE_SIDE
from pvt_spec.files.records import read_value
from pvt_spec.model_info import LEAST_CROP_PCT
from pvt_spec.words import listed, shortened, show

PREPROCESSOR = "preprocessor_config.json"

GUESSED = "preprocessing is a guess"
"""The key of a provenance that says why how images are prepared is a guess."""

REPLACED = "preprocessing in transformers"
"""The key of a provenance that says what transformers does with images otherwise."""

_HALF = (0.5, 0.5, 0.5)
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_SQUARE = {"height": 224, "width": 224}

_COMMON: dict[str, Any] = {
    "do_resize": True,
    "size": _SQUARE,
    "default_to_square": True,
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": IMAGENET_MEAN,
    "image_std": IMAGENET_STD,
}
"""What a processor takes for keys that are not there, but for those of its row."""

_CROPPING = {
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": _SQUARE,
}

_PROCESSORS: dict[str, dict[str, Any]] = {
    "PvtImageProcessor": {},
    "BitImageProcessor": {**_CROPPING, **_CLIP},
    "CLIPImageProcessor": {**_CROPPING, **_CLIP},
    "ConvNextImageProcessor": {
        "size": {"shortest_edge": 384},
        "default_to_square": False,
        "crop_pct": 224 / 256,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
    "DeiTImageProcessor": {
        "size": {"height": 256, "width": 256},
        "do_center_crop": True,
        "crop_size": _SQUARE,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
    "SegformerImageProcessor": {"size": {"height": 512, "width": 512}, "resample": 2},
    "ViTImageProcessor": {"resample": 2, "image_mean": _HALF, "image_std": _HALF},
}
"""What is understood -> its values for keys that are not there."""

_LARGEST = 16 * MAX_IMAGE_SIDE
"""Pixels of a side that an image may be resized to before it is cropped."""

_WARPED_FROM = 384
"""The size from which ConvNextImageProcessor squeezes an image and crops nothing."""

_IGNORED = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "device"),
    *("do_convert_rgb", "return_tensors", "data_format", "input_data_format", "default_to_square"),
    *("disable_grouping", "do_reduce_labels", "reduce_labels", "_valid_processor_keys"),
    *("image_seq_length", "num_channels"),
}
"""Keys that change nothing in what a classifier is given of an image in colours."""

_STEPS = {
    "do_resize": ("size", "resample"),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
}
"""What decides whether a step is made -> the keys that say how."""

_SHOWN = 8
"""Keys that are listed."""


def unfit(file: str, key: str, value: object, expected: str) -> ConvertError:
    """Returns the error to raise for the value of a key of a file."""
    return ConvertError(f"{file}: {key} is {show(value)}, expected {expected}")


def parse_preprocessor(
    data: Mapping[str, Any], config: PVTConfig
) -> tuple[Preprocessing, list[str]]:
    """Reads what a ``preprocessor_config.json`` does.

    Args:
        data: The content of the file.
        config: The architecture.

    Returns:
        The preprocessing, and in words what of the file it does not say.

    Raises:
        ConvertError: A key has a value that transformers does not admit either.
        ConfigError: A size or a mean that a model cannot have.
    """
    type_of = data.get("image_processor_type") or data.get("feature_extractor_type")
    name = _read(str, type_of or "PvtImageProcessor", "image_processor_type")
    name = name.removesuffix("Fast").removesuffix("Pil")
    name = name.replace("FeatureExtractor", "ImageProcessor")
    given = {key: value for key, value in data.items() if value is not None}
    # transformers takes null for no, not for what it does by default.
    given |= {step: False for step in _STEPS if data.get(step, True) is None}
    keys = {**_COMMON, **_PROCESSORS.get(name, {}), **given}
    for key in (*_STEPS, "default_to_square"):
        _read(bool, keys[key], key)
    notes: list[str] = []
    if name not in _PROCESSORS:
        notes.append(
            f"{show(name)} is not known: its keys are taken for those of PvtImageProcessor"
        )
    if name == "PvtImageProcessor" and "resample" not in given and keys["do_resize"]:
        notes.append("resample is not said: bicubic, as transformers 5 has it, bilinear in 4")
    if name == "ConvNextImageProcessor":
        if given.get("do_center_crop"):
            raise unfit(
                PREPROCESSOR, "do_center_crop", True, f"false: a {name} has a crop of its own"
            )
        keys = _convnext(keys)
    if name == "SegformerImageProcessor" and keys["do_center_crop"]:
        keys["do_center_crop"] = False
        notes.append(f"do_center_crop is true, of which a {name} takes no notice")
    known = {*_COMMON, "crop_size", "crop_pct"} | _IGNORED
    if others := [key for key in sorted({*given} - known) if given[key]]:
        said = listed(others, _SHOWN, lambda key: f"{shortened(key)} is {show(given[key])}")
        notes.append(f"{said}, of which no notice is taken")
    notes += _defaults_for_null(data, keys)
    prepared, more = _geometry(keys, config)
    mean, std = (_per_channel(keys, key, config.in_chans) for key in ("image_mean", "image_std"))
    rescale = _number(keys, "rescale_factor") if keys["do_rescale"] else 1.0
    prepared = dataclasses.replace(
        prepared,
        mean=mean,
        std=std,
        interpolation=_filter(keys["resample"]) if keys["do_resize"] else "bicubic",
        rescale=rescale,
        normalise=keys["do_normalize"],
    )
    return prepared, [*notes, *more]


def _defaults_for_null(data: Mapping[str, Any], keys: Mapping[str, Any]) -> list[str]:
    """Returns in words what is null in a file, and needed by a step that is made."""
    return [
        f"{key} is null, which transformers 5 refuses: taken for its default, {show(keys[key])}"
        for step, needed in _STEPS.items()
        for key in needed
        if keys[step] and key in keys and data.get(key, keys[key]) is None
    ]


def _convnext(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of the usual processors that do what ConvNextImageProcessor does."""
    edge = _size(keys, "size")
    edge = edge if isinstance(edge, int) else edge[0]
    square = {"height": edge, "width": edge}
    if edge >= _WARPED_FROM or not keys["do_resize"]:
        return {**keys, "size": square}
    share = _number(keys, "crop_pct")
    if not LEAST_CROP_PCT <= share <= 1:
        raise unfit(PREPROCESSOR, "crop_pct", share, f"a share from {LEAST_CROP_PCT} to 1")
    larger = {"shortest_edge": int(edge / share)}
    return {**keys, "size": larger, "do_center_crop": True, "crop_size": square}


def _geometry(keys: Mapping[str, Any], config: PVTConfig) -> tuple[Preprocessing, list[str]]:
    """Returns how images are resized and cropped, for any mean, and what is otherwise."""
    usual = ((0.0,) * config.in_chans, (1.0,) * config.in_chans)
    crop = _size(keys, "crop_size") if keys["do_center_crop"] else None
    crop = (crop, crop) if isinstance(crop, int) else crop
    mode = "center_floor" if crop else "none"
    if not keys["do_resize"]:
        size = crop or config.image_size
        return Preprocessing(size, 1.0, *usual, resize="none", crop_mode=mode), []
    resized = _size(keys, "size")
    if isinstance(resized, int):
        size = crop or (resized, resized)
        share = _crop_pct(min(size), resized)
        return Preprocessing(size, share, *usual, resize="shortest", crop_mode=mode), []
    size = crop or resized
    prepared = Preprocessing(
        size, _crop_pct(size[0], resized[0]), *usual, resize="squash", crop_mode=mode
    )
    if prepared.resized == resized:
        return prepared, []
    H, W = prepared.resized
    stretched = "images are resized to {}x{} before they are cropped, here to {}x{}"
    return prepared, [stretched.format(*resized, H, W)]


def _filter(number: Any) -> str:
    """Returns the name of a filter by Pillow's number, or by its name."""
    if isinstance(number, int) and not isinstance(number, bool) and number in range(6):
        return INTERPOLATIONS[number]
    if isinstance(number, str) and number in INTERPOLATIONS:
        return number
    raise unfit(PREPROCESSOR, "resample", number, "the number of one of Pillow's filters, 0 to 5")


def _crop_pct(cut: int, edge: int) -> float:
    """Returns the shortest decimal d for which ``int(cut / d)`` is the edge: 0.9 of 224 and 248.

    It is never above ``cut / edge``, so rounding down finds it.
    """
    shares = (cut * 10**digits // edge / 10**digits for digits in range(17))
    return next((share for share in shares if share and int(cut / share) == edge), cut / edge)


def _size(keys: Mapping[str, Any], key: str) -> tuple[int, int] | int:
    """Returns (H, W), or the length of the shorter side."""
    value: Any = keys.get(key)
    if key == "size" and isinstance(value, dict) and {*value} == {"shortest_edge"}:
        value = value["shortest_edge"]
        if _pixels(value):
            return int(value)
    elif _pixels(value):
        # A number is how files of before transformers 4.26 have it.
        square = key == "crop_size" or keys["default_to_square"]
        return (int(value), int(value)) if square else int(value)
    elif isinstance(value, dict) and {*value} == {"height", "width"}:
        H, W = value["height"], value["width"]
        if _pixels(H) and _pixels(W):
            return int(H), int(W)
    raise unfit(PREPROCESSOR, key, value, "pixels: height and width, or shortest_edge")


def _pixels(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _number(keys: Mapping[str, Any], key: str) -> float:
    return float(_read(float, keys[key], key))


def _read(kind: Any, value: Any, key: str) -> Any:
    """Returns a value of a type.

    Raises:
        ConvertError: It is of another.
    """
    try:
        return read_value(kind, value, key)
    except ConfigError as error:
        raise ConvertError(f"{PREPROCESSOR}: {error}") from None


def _per_channel(keys: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    value = keys[key]
    values = value if isinstance(value, list | tuple) else [value] * channels
    if len(values) != channels:
        expected = f"{channels} numbers, one for each of the model's channels"
        raise unfit(PREPROCESSOR, key, value, expected)
    return tuple(_number({key: item}, key) for item in values)


def make_preprocessor(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns the ``preprocessor_config.json`` with which transformers prepares images so.

    What it cannot do is what :func:`otherwise` says.
    """
    H, W = preprocessing.image_size
    height, width = preprocessing.resized
    shape_is_kept = preprocessing.resize not in ("squash", "none")
    edges = {"height": height, "width": width}
    size = {"shortest_edge": min(height, width)} if shape_is_kept else edges
    cropped = preprocessing.crop_mode != "none"
    squashed = preprocessing.resize == "squash" and not cropped
    return {
        "image_processor_type": "PvtImageProcessor" if squashed else "BitImageProcessor",
        "do_resize": preprocessing.resize != "none",
        "size": size,
        "resample": INTERPOLATIONS.index(preprocessing.interpolation),
        "do_center_crop": cropped,
        "crop_size": {"height": H, "width": W},
        "do_rescale": preprocessing.rescale != 1,
        "rescale_factor": preprocessing.rescale,
        "do_normalize": preprocessing.normalise,
        "image_mean": [*preprocessing.mean],
        "image_std": [*preprocessing.std],
        "do_convert_rgb": len(preprocessing.mean) == 3,
    }


def otherwise(preprocessing: Preprocessing) -> Iterator[str]:
    """Yields in words what transformers does otherwise with images."""
    H, W = preprocessing.resized
    resize, crop_mode = preprocessing.resize, preprocessing.crop_mode
    if resize == "inside" or (resize in ("cover", "cover_nearest") and H != W):
        yield f"resize {resize} to {H}x{W} becomes: the shorter side to {min(H, W)}"
    if crop_mode == "border":
        yield "crop_mode border becomes: what is missing is black"
    if crop_mode in ("center", "border"):
        yield f"crop_mode {crop_mode} becomes center_floor: a corner between pixels is rounded down"
    if preprocessing.orientation == "stored":
        yield "orientation stored becomes exif: photos are turned"
