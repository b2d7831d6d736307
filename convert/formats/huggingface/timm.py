"""timm's ``config.json``, as its models have it on the hub, and what it says of a PVT v2.

Keys: ``architecture``, ``num_classes``, ``label_names`` and ``pretrained_cfg`` with ``input_size``
(C, H, W), ``crop_pct``, ``mean``, ``std``; ``timm/models/_hub.py``.
"""

from collections.abc import Mapping
from typing import Any

from convert.formats.huggingface.images import unfit
from pvt_spec import VARIANTS, ConfigError, ModelInfo, Preprocessing, make_config, profile_numerics
from pvt_spec.errors import ConvertError


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
        raise unfit("config.json", "architecture", config["architecture"], f"one of {known}")
    trained = config.get("pretrained_cfg", config)
    try:
        channels, H, W = map(int, trained.get("input_size", (3, 224, 224)))
        classes = config.get("num_classes", trained.get("num_classes"))
        architecture = make_config(
            name, num_classes=int(classes), in_chans=channels, image_size=(H, W)
        )
        images = Preprocessing(
            (H, W),
            float(trained["crop_pct"]),
            tuple(map(float, trained["mean"])),
            tuple(map(float, trained["std"])),
        )
        labels = tuple(map(str, config.get("label_names") or ()))
        return ModelInfo(architecture, profile_numerics("official", 2), images, labels)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConvertError(
            f"config.json: {error!s:.200}: expected num_classes and a pretrained_cfg with "
            "input_size, crop_pct, mean and std, as timm writes them"
        ) from error
