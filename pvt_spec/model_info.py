"""What travels with the weights, so that a file needs no flags to be used later."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from pvt_spec.config import MIN_IMAGE_SIDE, PVTConfig, variant_name
from pvt_spec.errors import ConfigError
from pvt_spec.numerics import Numerics, describe_numerics

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CROP_PCT: dict[str, float] = {"official": 224 / 256, "mindcv": 0.9, "hf": 224 / 256}
"""Share of the resized image's shorter side that the evaluation crop keeps, by profile.

Sources: whai362/PVT ``datasets.py`` (resize 256, crop 224) and MindCV's PVT recipes
(``crop_pct: 0.9``). Hugging Face's PVT files are the official weights.
"""

METADATA_KEY = "pvt_model_info"
"""The key under which every file format carries :meth:`ModelInfo.to_json`."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the model's input; :mod:`pvt_data.preprocessing` does it.

    Attributes:
        image_size: The crop's (H, W) in pixels.
        crop_pct: Share of the resized image that the crop keeps: the image is resized so that it
            covers ``floor(image_size / crop_pct)``.
        mean: What is subtracted per channel, in units of [0, 1].
        std: What that is divided by per channel, in units of [0, 1].
    """

    image_size: tuple[int, int] = (224, 224)
    crop_pct: float = 0.9
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < MIN_IMAGE_SIDE:
            least = f"(H, W), each at least {MIN_IMAGE_SIDE} pixels"
            raise ConfigError(f"preprocessing: image_size is {self.image_size}, expected {least}")
        if not 0.0 < self.crop_pct <= 1.0:
            raise ConfigError(
                f"preprocessing: crop_pct is {self.crop_pct}, expected 0 < share <= 1"
            )
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise ConfigError(
                f"preprocessing: mean {self.mean} and std {self.std}: expected as many, std above 0"
            )


@dataclass(frozen=True)
class ModelInfo:
    """Everything but the weights.

    Attributes:
        config: The architecture.
        numerics: The maths.
        preprocessing: How an image becomes the input.
        labels: Class names in the order of the logits; empty when they are not known.
        provenance: Where the weights come from: source file, dialect, what trained them.
    """

    config: PVTConfig
    numerics: Numerics
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.preprocessing.mean) != self.config.in_chans:
            raise ConfigError(
                f"preprocessing is for {len(self.preprocessing.mean)} channels, "
                f"the model takes {self.config.in_chans}"
            )
        if self.labels and len(self.labels) != self.config.num_classes:
            raise ConfigError(
                f"{len(self.labels)} labels for {self.config.num_classes} classes: expected as many"
            )

    @property
    def variant(self) -> str | None:
        """The named variant with this architecture, or None."""
        return variant_name(self.config)

    @property
    def profile(self) -> str:
        """The profile of the numerics, with what differs from it."""
        return describe_numerics(self.numerics, self.config.version)

    def label(self, index: int) -> str:
        """Returns the name of class ``index``, or the index itself where names are not known."""
        return self.labels[index] if self.labels else str(index)

    def to_json(self) -> str:
        """Returns one line of JSON that :meth:`from_json` reads back to an equal ModelInfo."""
        return json.dumps({"format": 1, **dataclasses.asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ModelInfo":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ConfigError: The text is not a model description, or one of a later format.
        """
        try:
            data = json.loads(text)
            if data.pop("format") != 1:
                raise ConfigError(
                    f"the file's {METADATA_KEY} has a format this version does not know: "
                    "use the version that wrote it, or a later one"
                )
            return cls(
                config=PVTConfig(**_tuples(data.pop("config"))),
                numerics=Numerics(**data.pop("numerics")),
                preprocessing=Preprocessing(**_tuples(data.pop("preprocessing"))),
                labels=tuple(data.pop("labels")),
                provenance=dict(data.pop("provenance")),
                **data,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"the file's {METADATA_KEY} cannot be read: {error!r}") from error


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


def default_preprocessing(config: PVTConfig, profile: str) -> Preprocessing:
    """Returns how models of a profile are evaluated: the official or MindCV's resize and crop."""
    repeat = -(-config.in_chans // 3)
    return Preprocessing(
        config.image_size,
        CROP_PCT[profile],
        (IMAGENET_MEAN * repeat)[: config.in_chans],
        (IMAGENET_STD * repeat)[: config.in_chans],
    )
