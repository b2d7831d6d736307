"""Hugging Face's ``config.json`` and what it says of a PVT, in both directions.

Keys, defaults and what they do: ``configuration_pvt.py``, ``configuration_pvt_v2.py``,
``modeling_pvt.py`` and ``modeling_pvt_v2.py`` of transformers 5.23. There, ``layer_norm_eps`` is
the epsilon of every norm of both versions, ``hidden_act`` is the GELU of the MLP alone (linear
attention has an exact one of its own), and v2 never reads ``image_size``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from convert.formats.huggingface.classes import make_classes, parse_classes, parse_task
from convert.formats.huggingface.images import (
    GUESSED,
    PREPROCESSOR,
    REPLACED,
    parse_preprocessor,
    unfit,
)
from convert.names.computed import expressible, one_epsilon
from pvt_spec import (
    NUM_STAGES,
    PATCH_STRIDES,
    ConfigError,
    ModelInfo,
    PVTConfig,
    default_preprocessing,
)
from pvt_spec.errors import ConvertError
from pvt_spec.files.models import CONFIG
from pvt_spec.files.records import kind_like, read_value, read_values
from pvt_spec.words import show

MODEL_TYPES = {"pvt": 1, "pvt_v2": 2}
"""``model_type`` -> PVT version."""

MAPS = "maps in transformers"
"""The key of a provenance that says which maps of the stages transformers answers."""

_STAGES = [f"stage{stage}" for stage in range(1, NUM_STAGES + 1)]

_COMMON: dict[str, Any] = {
    "depths": [2, 2, 2, 2],
    "num_attention_heads": [1, 2, 5, 8],
    "mlp_ratios": [8, 8, 4, 4],
    "strides": [*PATCH_STRIDES],
    "num_encoder_blocks": NUM_STAGES,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "drop_path_rate": 0.0,
    "image_size": 224,
    "num_channels": 3,
}
_DEFAULTS: dict[int, dict[str, Any]] = {
    1: {
        **_COMMON,
        "hidden_sizes": [64, 128, 320, 512],
        "sequence_reduction_ratios": [8, 4, 2, 1],
        "patch_sizes": [4, 2, 2, 2],
        "num_labels": 1000,
    },
    2: {
        **_COMMON,
        "hidden_sizes": [32, 64, 160, 256],
        "sr_ratios": [8, 4, 2, 1],
        "patch_sizes": [7, 3, 3, 3],
        "num_labels": 2,
        "linear_attention": False,
    },
}
"""PVT version -> what ``PvtConfig`` and ``PvtV2Config`` take where a key is not there."""

_LISTS = {
    "embed_dims": "hidden_sizes",
    "depths": "depths",
    "num_heads": "num_attention_heads",
    "mlp_ratios": "mlp_ratios",
}
_SR_RATIOS = {1: "sequence_reduction_ratios", 2: "sr_ratios"}

_FIXED = ("num_encoder_blocks", "patch_sizes", "strides", "qkv_bias")
"""Keys that :class:`PVTConfig` has no field for: what is not the default cannot be expressed."""

_OWN = ("hidden_act", "num_labels")
"""Keys with checks of their own."""

_GELU = {"gelu": "erf", "gelu_pytorch_tanh": "tanh", "gelu_new": "tanh"}

_ARCHITECTURES = {
    1: ("PvtForImageClassification", "PvtModel"),
    2: ("PvtV2ForImageClassification", "PvtV2Model", "PvtV2Backbone"),
}
"""PVT version -> transformers' classes: with a head, without, and the maps of the stages."""


def model_version(config: Mapping[str, Any]) -> int:
    """Returns the PVT version of a ``config.json``.

    Raises:
        ConvertError: It is of another kind of model.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        raise unfit(CONFIG, "model_type", model_type, f"{' or '.join(MODEL_TYPES)}: it is no PVT")
    return MODEL_TYPES[model_type]


def parse_config(
    config: Mapping[str, Any],
    preprocessor: Mapping[str, Any] | None = None,
    *,
    headless: bool = False,
) -> ModelInfo:
    """Returns what a ``config.json`` says; where it is silent, transformers' own defaults.

    Args:
        config: The content of ``config.json``.
        preprocessor: The content of ``preprocessor_config.json``; without one, images are prepared
            as in the official evaluation.
        headless: Whether the weights hold no ``classifier``; asked only where ``architectures``
            does not say which class they are of.

    Returns:
        Everything but where the weights come from. ``provenance`` says what transformers does
        with images otherwise than :class:`Preprocessing` can say.

    Raises:
        ConvertError: It is no PVT, or one that :class:`PVTConfig` or :class:`Numerics` cannot
            express; all keys at once.
    """
    version = model_version(config)
    keys = {**_DEFAULTS[version], **config}
    if problems := [*_problems(keys, version)]:
        raise ConvertError(f"config.json: {'; '.join(problems)}: no other PVT is supported")
    kind = _kind(config, version, headless)
    usual = _DEFAULTS[version]["num_labels"]
    try:
        classes, labels = parse_classes(config, version, usual) if kind == 0 else (0, ())
        architecture = _architecture(keys, version, classes, features_only=kind == 2)
        images = default_preprocessing(architecture, "hf")
        if preprocessor is None:
            provenance = {GUESSED: f"there is no {PREPROCESSOR}: the official evaluation is taken"}
        else:
            images, notes = parse_preprocessor(preprocessor, architecture)
            provenance = {REPLACED: "; ".join(notes)} if notes else {}
        asked = config.get("out_features")
        if kind == 2 and asked and asked != _STAGES:
            provenance[MAPS] = f"out_features {show(asked)}: this model answers all four"
        numerics = one_epsilon(_GELU[keys["hidden_act"]], float(keys["layer_norm_eps"]))
        return ModelInfo(architecture, numerics, images, labels, provenance, parse_task(config))
    except ConfigError as error:
        raise ConvertError(f"config.json: {error}") from error


def _problems(keys: Mapping[str, Any], version: int) -> Iterator[str]:
    defaults = _DEFAULTS[version]
    for key in _FIXED:
        # Without biases of queries, keys and values, zeros in their place compute the same.
        if keys[key] != defaults[key] and (key != "qkv_bias" or keys[key] is not False):
            yield f"{key} is {show(keys[key])}, expected {defaults[key]}"
    for key, kind in _kinds(version).items():
        try:
            read_value(kind, keys[key], key)
        except ConfigError as error:
            yield str(error)
    if isinstance(keys["num_channels"], int) and keys["num_channels"] < 1:
        yield f"num_channels is {show(keys['num_channels'])}, expected a whole number above 0"
    linear = version == 2 and keys["linear_attention"] is True
    yield from _activation_problems(keys["hidden_act"], linear)
    if keys.get("quantization_config") is not None:
        yield "quantization_config is there, expected weights as they were trained"
    if keys.get("pruned_heads"):
        yield f"pruned_heads is {show(keys['pruned_heads'])}, expected none"


def _kinds(version: int) -> dict[str, Any]:
    """Returns the types of the keys that are read: those of their defaults."""
    kinds = {k: kind_like(v) for k, v in _DEFAULTS[version].items() if k not in (*_FIXED, *_OWN)}
    return {**kinds, "image_size": int | tuple[int, int] | _Sides}


@dataclass(frozen=True)
class _Sides:
    """An image's size as v2 admits it."""

    height: int
    width: int


def _activation_problems(name: Any, linear: bool) -> Iterator[str]:
    if not isinstance(name, str) or name not in _GELU:
        yield f"hidden_act is {show(name)}, expected one of {', '.join(_GELU)}"
    elif linear and _GELU[name] != "erf":
        yield f"hidden_act is {name!r}, expected 'gelu': linear_attention has an exact GELU besides"


def _image_size(value: Any) -> tuple[int, int]:
    """Returns (H, W) of a side, [height, width] or, as v2 admits, a dict of them."""
    sides = read_value(int | tuple[int, int] | _Sides, value, "image_size")
    if isinstance(sides, int):
        return sides, sides
    return (sides.height, sides.width) if isinstance(sides, _Sides) else sides


def _kind(config: Mapping[str, Any], version: int, headless: bool) -> int:
    """Returns which of the version's :data:`_ARCHITECTURES` the weights are of."""
    named = config.get("architectures")
    if not named:
        return int(headless)
    if not isinstance(named, list) or named[0] not in [*_ARCHITECTURES[version]]:
        raise unfit(CONFIG, "architectures", named, " or ".join(_ARCHITECTURES[version]))
    return _ARCHITECTURES[version].index(named[0])


def _architecture(
    keys: Mapping[str, Any], version: int, classes: int, *, features_only: bool
) -> PVTConfig:
    lists = {**_LISTS, "sr_ratios": _SR_RATIOS[version]}
    said = read_values(_kinds(version), keys, "")
    return PVTConfig(
        version,
        **{field: said[key] for field, key in lists.items()},
        linear=version == 2 and said["linear_attention"],
        image_size=_image_size(keys["image_size"]),
        in_chans=said["num_channels"],
        num_classes=classes,
        features_only=features_only,
        drop_path_rate=float(said["drop_path_rate"]),
    )


def make_config(info: ModelInfo) -> dict[str, Any]:
    """Returns the ``config.json`` with which ``from_pretrained`` of transformers makes the model.

    It computes :func:`expressible` of ``info.numerics``: compare the two, and tell where they
    differ.

    Raises:
        ConvertError: transformers has no class for such a model.
    """
    config = info.config
    _check_has_class(config)
    kind = 2 if config.features_only else 0 if config.num_classes else 1
    numerics = expressible(info.numerics, config)
    version = config.version
    made: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[version][kind]],
        "model_type": next(name for name, v in MODEL_TYPES.items() if v == version),
        **{key: [*getattr(config, field)] for field, key in _LISTS.items()},
        _SR_RATIOS[version]: [*config.sr_ratios],
        **{key: _DEFAULTS[version][key] for key in _FIXED},
        "image_size": config.image_size[0] if version == 1 else [*config.image_size],
        "num_channels": config.in_chans,
        "hidden_act": next(name for name, gelu in _GELU.items() if gelu == numerics.gelu),
        "layer_norm_eps": numerics.final_norm_eps,
        "drop_path_rate": config.drop_path_rate,
        "num_labels": config.num_classes,
    }
    if version == 2:
        made["linear_attention"] = config.linear
    if config.features_only:
        made["out_features"] = _STAGES
    return {**made, **make_classes(info)}


def _check_has_class(config: PVTConfig) -> None:
    if config.version == 1 and config.features_only:
        raise ConvertError(
            "transformers has no backbone of PVT v1 that answers feature maps: name a .ckpt, .pth "
            "or .safetensors, or leave out --features"
        )
    H, W = config.image_size
    if config.version == 1 and H != W:
        raise ConvertError(
            f"transformers has no PVT v1 for images of {H}x{W}, only for square ones: name a "
            ".ckpt, .pth or .safetensors"
        )
