"""timm's ``config.json``, as its models have it on the hub, and what it says of a PVT v2.

Keys: ``architecture``, ``num_classes``, ``label_names``, ``pretrained_cfg`` with ``input_size``
(C, H, W), ``crop_pct``, ``mean``, ``std``, and ``model_args``, with which the model is made;
``timm/models/_hub.py``.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
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
from pvt_spec.files.models import CONFIG
from pvt_spec.files.records import read_record, read_values
from pvt_spec.model_info import LEAST_CROP_PCT

_CROP_MODES = {
    "center": ("cover", "center"),
    "squash": ("squash", "center"),
    "border": ("inside", "border"),
}
"""timm's ``crop_mode`` -> how an image is resized and cropped."""


_FOUR = tuple[int, int, int, int]
_ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys(("embed_dims", "depths", "num_heads", "mlp_ratios", "sr_ratios"), _FOUR),
    **dict.fromkeys(("num_classes", "in_chans"), int),
    "linear": bool,
}
"""What of ``model_args`` makes another PVT of ours, by our names too. Rates are of training."""

_USUAL = {"global_pool": "avg", "qkv_bias": True}
"""What else timm's PVT takes, at what it is otherwise."""


@dataclass(frozen=True)
class _Trained:
    """The keys of a ``pretrained_cfg`` that are read, and what timm takes without them."""

    input_size: tuple[int, int, int] = (3, 224, 224)
    num_classes: int | None = None
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@dataclass(frozen=True)
class _Config:
    """The keys of timm's ``config.json`` that are read."""

    architecture: str
    num_classes: int | None = None
    label_names: tuple[str, ...] = ()
    pretrained_cfg: _Trained | None = None


def is_timm(config: Mapping[str, Any]) -> bool:
    """Returns whether a ``config.json`` is one of timm's, not of transformers."""
    return "architecture" in config and "model_type" not in config


def parse_timm(config: Mapping[str, Any]) -> ModelInfo:
    """Reads timm's ``config.json``; the evaluation is what its ``pretrained_cfg`` asks for.

    Raises:
        ConvertError: It is of no PVT v2, or a value is none that it can have.
    """
    try:
        said = read_record(_Config, config, CONFIG, others=True)
        if (pool := config.get("global_pool", "avg")) != "avg":
            raise unfit(CONFIG, "global_pool", pool, "avg")
        trained = said.pretrained_cfg or read_record(_Trained, config, CONFIG, others=True)
        name = said.architecture.partition(".")[0]
        if name not in VARIANTS or VARIANTS[name].version != 2:
            known = ", ".join(variant for variant, each in VARIANTS.items() if each.version == 2)
            raise unfit(CONFIG, "architecture", said.architecture, f"one of {known}")
        channels, *size = trained.input_size
        classes = trained.num_classes if said.num_classes is None else said.num_classes
        if classes is None:
            raise unfit(CONFIG, "num_classes", None, "how many classes the head has")
        H, W = size
        architecture = make_config(name, num_classes=classes, in_chans=channels, image_size=(H, W))
        architecture = dataclasses.replace(architecture, **_arguments(config.get("model_args")))
        images = _preprocessing(trained, (H, W))
        numerics = profile_numerics("official", 2)
        return ModelInfo(architecture, numerics, images, said.label_names)
    except ConfigError as error:
        text = str(error).removeprefix(f"{CONFIG}: ")
        raise ConvertError(
            f"{CONFIG}: {text}: expected num_classes and a pretrained_cfg as timm writes them"
        ) from error


def _arguments(said: Any) -> dict[str, Any]:
    """Returns what ``model_args`` has of an architecture.

    Raises:
        ConvertError: It has something that no PVT of ours can be given.
        ConfigError: A value has another type.
    """
    given = said or {}
    if not isinstance(given, dict):
        raise unfit(CONFIG, "model_args", said, "an object of keys")
    for key, value in given.items():
        usual = key in _USUAL and value == _USUAL[key]
        if key not in _ARGUMENTS and not key.endswith("_rate") and not usual:
            raise unfit(CONFIG, "model_args", {key: value}, f"{', '.join(_ARGUMENTS)} alone")
    kinds = {key: kind for key, kind in _ARGUMENTS.items() if key in given}
    return read_values(kinds, given, "model_args.")


def _preprocessing(trained: _Trained, size: tuple[int, int]) -> Preprocessing:
    """Returns the evaluation that a ``pretrained_cfg`` asks for; see ``timm/data/config.py``.

    Raises:
        ConvertError: The filter or the way of cropping is none that is known.
    """
    for key, known in (("crop_mode", _CROP_MODES), ("interpolation", INTERPOLATIONS)):
        if (value := getattr(trained, key)) not in known:
            raise unfit(CONFIG, key, value, f"one of {', '.join(known)}")
    share = max(trained.crop_pct, LEAST_CROP_PCT)
    resize, crop_mode = _CROP_MODES[trained.crop_mode]
    if resize == "cover" and int(size[0] / share) != int(size[1] / share):
        resize = "cover_nearest"
    return Preprocessing(
        size,
        trained.crop_pct,
        trained.mean,
        trained.std,
        resize=resize,
        interpolation=trained.interpolation,
        crop_mode=crop_mode,
    )
