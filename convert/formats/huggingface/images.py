"""Hugging Face's ``preprocessor_config.json``, in both directions.

PVT's folders name ``PvtImageProcessor``: it resizes every image to ``size`` whatever its shape, and
crops nothing. Ours keeps the shape and crops (:func:`pvt_data.preprocessing.load_image`), so the
two give the same for square images alone, and then only where its filter is the bicubic one. What
ours do is written for ``BitImageProcessor``, which resizes the shorter side and crops the centre;
the two differ where the margin is odd, whose half transformers rounds down and we to even.

Keys and defaults: ``image_processing_pvt.py``, ``image_processing_bit.py`` and
``image_processing_backends.py`` of transformers 5.23.
"""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from pvt_spec import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, PVTConfig, default_preprocessing
from pvt_spec.errors import ConvertError

_BICUBIC = 3
"""Pillow's number of the filter."""

_FILTERS = ("nearest", "Lanczos", "bilinear", "bicubic", "box", "Hamming")
"""Names of Pillow's filters, by number."""

_PROCESSORS: dict[str, dict[str, Any]] = {
    "PvtImageProcessor": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "BitImageProcessor": {
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "image_mean": (0.48145466, 0.4578275, 0.40821073),
        "image_std": (0.26862954, 0.26130258, 0.27577711),
    },
}
"""What is understood -> its values for keys that are not there."""

_SWITCHES = {"do_resize": True, "do_rescale": True, "do_normalize": True}


PREPROCESSOR = "preprocessor_config.json"


def unfit(file: str, key: str, value: object, expected: str) -> ConvertError:
    """Returns the error to raise for the value of a key of a file."""
    return ConvertError(f"{file}: {key} is {short(value)}, expected {expected}")


def parse_preprocessor(
    data: Mapping[str, Any], config: PVTConfig
) -> tuple[Preprocessing, list[str]]:
    """Reads what a ``preprocessor_config.json`` does, as near as a :class:`Preprocessing` says it.

    Args:
        data: The content of the file.
        config: The architecture.

    Returns:
        The preprocessing, and in words what transformers does otherwise.

    Raises:
        ConvertError: A key has a value that transformers does not admit either.
        ConfigError: A size or a mean that a model cannot have.
    """
    name = data.get("image_processor_type") or "PvtImageProcessor"
    known = _PROCESSORS.get(str(name).removesuffix("Fast"))
    if known is None:
        note = f"image_processor_type {short(name)} is not known: the official evaluation is taken"
        return default_preprocessing(config, "hf"), [note]
    given = {key: value for key, value in data.items() if value is not None}
    keys = {**_SWITCHES, "resample": _BICUBIC, "rescale_factor": 1 / 255, **known, **given}
    image_size, crop_pct, notes = _resizing(keys)
    mean, std = (_per_channel(keys, key, config.in_chans) for key in ("image_mean", "image_std"))
    if not keys["do_normalize"]:
        mean, std = (0.0,) * config.in_chans, (1.0,) * config.in_chans
    if keys["do_resize"] and keys["resample"] != _BICUBIC:
        number = keys["resample"]
        named = isinstance(number, int) and 0 <= number < len(_FILTERS)
        notes.append(f"the filter is {_FILTERS[number] if named else short(number)}, here bicubic")
    if not keys["do_rescale"] or abs(255 * _number(keys, "rescale_factor") - 1) > 1e-6:
        notes.append("pixels are not scaled from 0...255 to 0...1, here they are")
    return Preprocessing(image_size, crop_pct, mean, std), notes


def _resizing(keys: Mapping[str, Any]) -> tuple[tuple[int, int], float, list[str]]:
    """Returns (H, W) of the input, the crop's share of the resized image, and what is otherwise."""
    resized = _size(keys, "size")
    if not keys["do_center_crop"]:
        if isinstance(resized, int):
            note = "the shorter side is resized and nothing is cropped, here the image is square"
            return (resized, resized), 1.0, [note]
        note = "the image is resized without its shape, here its centre is cropped"
        return resized, 1.0, [note]
    crop = _size(keys, "crop_size")
    crop = (crop, crop) if isinstance(crop, int) else crop
    edge, cut = (resized, min(crop)) if isinstance(resized, int) else (resized[0], crop[0])
    if not keys["do_resize"]:
        return crop, 1.0, ["the image is not resized, here it is"]
    if edge < cut:
        return crop, 1.0, [f"the image is resized to {edge} pixels and padded, here it fills {cut}"]
    stretched = not isinstance(resized, int)
    notes = ["the image is resized without its shape, here it keeps it"] if stretched else []
    return crop, _crop_pct(cut, edge), notes


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
        # Where nothing is cropped, a number has always meant a square.
        cropped = key == "size" and keys["do_center_crop"]
        return int(value) if cropped else (int(value), int(value))
    elif isinstance(value, dict) and {*value} == {"height", "width"}:
        H, W = value["height"], value["width"]
        if _pixels(H) and _pixels(W):
            return int(H), int(W)
    raise unfit(PREPROCESSOR, key, value, "pixels: height and width, or shortest_edge")


def _pixels(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _number(keys: Mapping[str, Any], key: str) -> float:
    value = keys[key]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise unfit(PREPROCESSOR, key, value, "a number")
    return float(value)


def _per_channel(keys: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    value = keys[key]
    values = value if isinstance(value, list | tuple) else [value] * channels
    numbers = tuple(_number({key: item}, key) for item in values)
    if len(numbers) != channels:
        expected = f"{channels} numbers, one for each of the model's channels"
        raise unfit(PREPROCESSOR, key, value, expected)
    return numbers


def make_preprocessor(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns the ``preprocessor_config.json`` with which transformers does what we do.

    Of a square input; another one is resized without its shape before it is cropped.
    """
    H, W = preprocessing.image_size
    height, width = int(H / preprocessing.crop_pct), int(W / preprocessing.crop_pct)
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": height} if H == W else {"height": height, "width": width},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": H, "width": W},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [*preprocessing.mean],
        "image_std": [*preprocessing.std],
        "do_convert_rgb": len(preprocessing.mean) == 3,
    }
