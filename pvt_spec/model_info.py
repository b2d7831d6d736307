"""What travels with the weights, so that a file needs no flags to be used later."""

import dataclasses
from dataclasses import dataclass, field
from math import isfinite

from pvt_spec.arguments import check_fields, checked
from pvt_spec.config import PVTConfig, image_size_problems, variant_name
from pvt_spec.errors import ConfigError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.records import read_record
from pvt_spec.numerics import Numerics, describe_numerics
from pvt_spec.words import is_unicode, show

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CROP_PCT: dict[str, float] = {"official": 224 / 256, "mindcv": 0.9, "hf": 224 / 256}
"""Share of the resized image's shorter side that the evaluation crop keeps, by profile.

Sources: whai362/PVT ``datasets.py`` (resize 256, crop 224) and MindCV's PVT recipes
(``crop_pct: 0.9``). Hugging Face's PVT files are the official weights.
"""

METADATA_KEY = "pvt_model_info"
"""The key under which every file format carries :meth:`ModelInfo.to_json`."""

FORMAT = 2
"""The format that is written. 2 has more of the preprocessing, and the task; both are read."""

LEAST_CROP_PCT = 0.001
"""The smallest share that a crop may be of the resized image: a file cannot ask for any size."""

RESIZES = {
    "cover": "the image keeps its shape and covers the size (sides are rounded down)",
    "cover_nearest": "the same, with sides rounded to the nearest, as timm has it",
    "shortest": "the image keeps its shape, its shorter side gets the shorter of the size",
    "inside": "the image keeps its shape and fits into the size (sides are rounded to the nearest)",
    "squash": "the image is stretched to the size",
    "none": "the image stays as it is",
}
"""How an image is resized to ``floor(image_size / crop_pct)``, and what that means."""

CROP_MODES = {
    "center": "the centre, corner rounded half to even, missing pixels black, as torchvision does",
    "center_floor": "the centre, corner rounded down, missing pixels black, as transformers does",
    "border": "the centre, corner rounded half to even, missing pixels of the mean, as timm does",
    "none": "nothing is cropped: an image of any other size is refused",
}
"""How a resized image becomes one of ``image_size``, and what that means."""

INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's filters, in the order of its numbers."""

ORIENTATIONS = {
    "exif": "turned as its EXIF orientation says",
    "stored": "left as its pixels are stored",
}
"""What becomes of a photo that a camera kept sideways, and what that means."""

TASKS = {
    "single_label": "one class of several: softmax",
    "multi_label": "any of the classes, each by itself: sigmoid",
    "binary": "one class or not, in one logit: sigmoid",
    "regression": "numbers: as they are",
}
"""What a model's logits mean, and what they become."""

_CHOICES = {
    "resize": RESIZES,
    "interpolation": INTERPOLATIONS,
    "crop_mode": CROP_MODES,
    "orientation": ORIENTATIONS,
}


_LEAST, _MOST = 2.0**-100, 2.0**100
"""What a mean or deviation in units of pixels is between: their squares are float32 still."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the model's input; :mod:`pvt_data.images.preprocessing` does it.

    Attributes:
        image_size: The crop's (H, W) in pixels.
        crop_pct: Share of the resized image that the crop keeps: the image is resized to
            ``floor(image_size / crop_pct)``; above 1 the crop is larger than that.
        mean: What is subtracted per channel, in units of rescaled pixels.
        std: What that is divided by per channel, in units of rescaled pixels.
        resize: How the image is resized, one of :data:`RESIZES`.
        interpolation: The filter it is resized with, one of :data:`INTERPOLATIONS`.
        crop_mode: How it is cropped, one of :data:`CROP_MODES`.
        rescale: What pixels of 0 to 255 are multiplied with; 1.0 leaves them as they are.
        normalise: Whether ``mean`` and ``std`` are applied.
        orientation: What is done with a photo's EXIF orientation, one of :data:`ORIENTATIONS`.
    """

    image_size: tuple[int, int] = (224, 224)
    crop_pct: float = 0.9
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: str = "cover"
    interpolation: str = "bicubic"
    crop_mode: str = "center"
    rescale: float = 1 / 255
    normalise: bool = True
    orientation: str = "exif"

    def __post_init__(self) -> None:
        check_fields(self)
        for problem in image_size_problems(self.image_size):
            raise ConfigError(f"preprocessing: {problem}")
        if not LEAST_CROP_PCT <= self.crop_pct <= min(self.image_size):
            raise ConfigError(
                f"preprocessing: crop_pct is {self.crop_pct}, expected a share from "
                f"{LEAST_CROP_PCT} to {min(self.image_size)}"
            )
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ConfigError(
                    f"preprocessing: {name} is {show(value)}, expected one of {', '.join(known)}"
                )
        if not 0.0 < self.rescale < float("inf") or not isinstance(self.normalise, bool):
            raise ConfigError(
                f"preprocessing: rescale is {self.rescale}, expected a number above 0, and "
                f"normalise {self.normalise}, expected true or false"
            )
        finite = all(map(isfinite, (*self.mean, *self.std)))
        if len(self.mean) != len(self.std) or not finite or not all(s > 0 for s in self.std):
            raise ConfigError(
                f"preprocessing: mean {self.mean} and std {self.std}: expected as many, std above 0"
            )
        scaled = [value / self.rescale for value in (1.0, *self.mean, *self.std)]
        if not all(_LEAST < abs(value) < _MOST for value in scaled if value):
            raise ConfigError(
                f"preprocessing: rescale {self.rescale}, mean {self.mean} and std {self.std}: "
                "beyond what float32 can compute with pixels of 0 to 255"
            )

    @property
    def resized(self) -> tuple[int, int]:
        """The (H, W) in pixels that :attr:`resize` is about."""
        H, W = self.image_size
        return int(H / self.crop_pct), int(W / self.crop_pct)


@dataclass(frozen=True)
class Untouched(Preprocessing):
    """The preprocessing of a model that resizes and crops itself: images are given as they are."""


@dataclass(frozen=True)
class ModelInfo:
    """Everything but the weights.

    Attributes:
        config: The architecture.
        numerics: The maths.
        preprocessing: How an image becomes the input.
        labels: Class names in the order of the logits; empty when they are not known.
        provenance: Where the weights come from: source file, dialect, what trained them.
        task: What the logits mean, one of :data:`TASKS`; by their number where it is not given.
        hashes: The hash of every weight in the file, by :func:`pvt_spec.hashes.hash_weights`;
            empty where it is not known. Two descriptions are equal whatever the weights are.
    """

    config: PVTConfig
    numerics: Numerics
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    task: str = ""
    hashes: dict[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        classes = self.config.num_classes
        if self.task == "":
            object.__setattr__(self, "task", "binary" if classes == 1 else "single_label")
        if self.task not in TASKS:
            raise ConfigError(f"task is {show(self.task)}, expected one of {', '.join(TASKS)}")
        # A model without a head keeps what its logits meant.
        if self.task == ("single_label" if classes == 1 else "binary") and classes:
            raise ConfigError(
                f"task is {self.task} for {classes} classes: binary is for one logit, single_label "
                "for several"
            )
        if len(self.preprocessing.mean) != self.config.in_chans:
            raise ConfigError(
                f"preprocessing is for {len(self.preprocessing.mean)} channels, "
                f"the model takes {self.config.in_chans}"
            )
        if self.labels and len(self.labels) != classes:
            raise ConfigError(f"{len(self.labels)} labels for {classes} classes: expected as many")
        for text in (*self.labels, *self.provenance, *self.provenance.values()):
            if not is_unicode(text):
                raise ConfigError(f"a label or an origin is {show(text)}, expected Unicode text")

    @property
    def variant(self) -> str | None:
        """The named variant with this architecture, or None."""
        return variant_name(self.config)

    @property
    def profile(self) -> str:
        """The profile of the numerics, with what differs from it."""
        return describe_numerics(self.numerics, self.config.version)

    def label(self, index: int) -> str:
        """Returns the name of class ``index``, or the index itself where it is not known."""
        name = self.labels[index] if self.labels else ""
        return name if name.strip() else str(index)

    def turned(self, orientation: str) -> "ModelInfo":
        """Returns the same, with photos turned by one of :data:`ORIENTATIONS`."""
        preprocessing = dataclasses.replace(self.preprocessing, orientation=orientation)
        return dataclasses.replace(self, preprocessing=preprocessing)

    def sized(self, size: tuple[int, int] | None) -> "ModelInfo":
        """Returns the same, for images of (H, W) pixels; None leaves their size.

        Raises:
            ConfigError: No model takes images of that size.
        """
        if size is None:
            return self
        preprocessing = dataclasses.replace(self.preprocessing, image_size=size)
        return dataclasses.replace(self, preprocessing=preprocessing)

    def to_json(self) -> str:
        """Returns one line of JSON that :meth:`from_json` reads back to an equal ModelInfo."""
        return encode_json({"format": FORMAT, **dataclasses.asdict(self)}, compact=True)

    @classmethod
    @checked
    def from_json(cls, text: str) -> "ModelInfo":
        """Reads what :meth:`to_json` wrote, or wrote in format 1.

        Raises:
            ArgumentError: It is no text.
            ConfigError: It is not a model description, or one of a later format.
        """
        where = f"the file's {METADATA_KEY}"
        try:
            data = parse_json(text)
        except ValueError as error:
            raise ConfigError(f"{where} cannot be read: {error}") from None
        version = data.pop("format", None) if isinstance(data, dict) else None
        if type(version) is not int or version < 1:
            raise ConfigError(f"{where} cannot be read: it is {show(data)}, expected a description")
        if version > FORMAT:
            raise ConfigError(
                f"{where} has a format this version does not know: use the version that wrote it, "
                "or a later one"
            )
        # Not every file of format 2 has hashes, or knows of models without a head. What format 1
        # had no words for is what the fields are by default.
        data = {"hashes": {}, **data, **({"task": ""} if version == 1 else {})}
        if isinstance(config := data.get("config"), dict):
            data["config"] = {"features_only": False, **config}
        whole = (cls, PVTConfig, Numerics, *((Preprocessing,) if version > 1 else ()))
        return read_record(cls, data, where, whole=whole)


def default_preprocessing(config: PVTConfig, profile: str) -> Preprocessing:
    """Returns how models of a profile are evaluated: the official or MindCV's resize and crop."""
    repeat = -(-config.in_chans // 3)
    return Preprocessing(
        config.image_size,
        CROP_PCT[profile],
        (IMAGENET_MEAN * repeat)[: config.in_chans],
        (IMAGENET_STD * repeat)[: config.in_chans],
    )
