"""timm's ``config.json``, as its models have it on the hub, and what it says of a PVT v2.

Keys: ``architecture``, ``num_classes``, ``label_names`` and ``pretrained_cfg`` with ``input_size``
(C, H, W), ``crop_pct``, ``mean``, ``std``; ``timm/models/_hub.py``.
"""

from collections.abc import Collection, Mapping
from typing import Any

from convert.formats.huggingface.images import unfit
from pvt_spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    VARIANTS,
    ConfigError,
    ModelInfo,
    Preprocessing,
    make_config,
    profile_numerics,
)
from pvt_spec.errors import ConvertError
from pvt_spec.model_files import CONFIG

_CROP_PCT = 0.875
"""timm's ``DEFAULT_CROP_PCT``."""

_CROP_MODES = {
    "center": ("cover", "center"),
    "squash": ("squash", "center"),
    "border": ("inside", "border"),
}
"""timm's ``crop_mode`` -> how an image is resized and cropped."""


def is_timm(config: Mapping[str, Any]) -> bool:
    """Returns whether a ``config.json`` is one of timm's, not of transformers."""
    return "architecture" in config and "model_type" not in config


def parse_timm(config: Mapping[str, Any]) -> ModelInfo:
    """Reads timm's ``config.json``; the evaluation is what its ``pretrained_cfg`` asks for.

    Raises:
        ConvertError: It is of no PVT v2, or a value is none that it can have.
    """
    name = str(config["architecture"]).partition(".")[0]
    if name not in VARIANTS or VARIANTS[name].version != 2:
        known = ", ".join(variant for variant, each in VARIANTS.items() if each.version == 2)
        raise unfit(CONFIG, "architecture", config["architecture"], f"one of {known}")
    trained = config.get("pretrained_cfg", config)
    try:
        channels, H, W = map(int, trained.get("input_size", (3, 224, 224)))
        classes = config.get("num_classes", trained.get("num_classes"))
        architecture = make_config(
            name, num_classes=int(classes), in_chans=channels, image_size=(H, W)
        )
        images = _preprocessing(trained, (H, W))
        labels = tuple(map(str, config.get("label_names") or ()))
        return ModelInfo(architecture, profile_numerics("official", 2), images, labels)
    except (
        ConfigError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise ConvertError(
            f"config.json: {error!s:.200}: expected num_classes and a pretrained_cfg as timm "
            "writes them"
        ) from error


def _preprocessing(trained: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """Returns the evaluation that a ``pretrained_cfg`` asks for; see ``timm/data/config.py``.

    Raises:
        ConvertError: The filter or the way of cropping is none that is known.
    """
    mode = _one_of(trained, "crop_mode", _CROP_MODES, "center")
    interpolation = _one_of(trained, "interpolation", INTERPOLATIONS, "bicubic")
    share = float(trained.get("crop_pct") or _CROP_PCT)
    resize, crop_mode = _CROP_MODES[mode]
    if resize == "cover" and int(size[0] / share) != int(size[1] / share):
        resize = "cover_nearest"
    mean = tuple(map(float, trained.get("mean") or IMAGENET_MEAN))
    std = tuple(map(float, trained.get("std") or IMAGENET_STD))
    return Preprocessing(
        size, share, mean, std, resize=resize, interpolation=interpolation, crop_mode=crop_mode
    )


def _one_of(trained: Mapping[str, Any], key: str, known: Collection[str], usual: str) -> str:
    value = trained.get(key) or usual
    if value not in known:
        raise unfit(CONFIG, key, value, f"one of {', '.join(known)}")
    return str(value)
