"""Hypotheses, as data, of why the other side answers differently: how each changes what is run."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from convert.model.read import Model
from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_spec import CHOICES, EPSILONS, ModelInfo, PVTConfig, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes
from pvt_spec.words import listed

EPSILON_VALUES = (1e-5, 1e-6, 1e-7)
"""Epsilons of layer norms that PVT's implementations use, by choice or by a framework's default."""

FIELDS: Mapping[str, str] = {
    "gelu": "GELU",
    "conv_padding": "the padding of strided convolutions",
    "patch_norm_eps": "the epsilon after each patch embedding",
    "attn_norm_eps": "the epsilon after each spatial reduction",
    "norm1_eps": "the epsilon before attention",
    "norm2_eps": "the epsilon before the MLP",
    "final_norm_eps": "the epsilon of the final norms",
    "pos_embed_resize": "the sampling of resized position embeddings",
}
"""What the fields of Numerics are called that a hypothesis is about."""


@dataclass(frozen=True)
class Subject:
    """What is run.

    Attributes:
        weights: The weights, under canonical names.
        info: What travels with them.
        images: float32 (B, C, H, W), normalised as ``info.preprocessing`` says.
        attributes: Those of single layers that are not as ``info`` has them.
    """

    weights: Mapping[str, Array]
    info: ModelInfo
    images: Array
    attributes: Attributes = dataclasses.field(default_factory=dict)

    def with_weights(self, changed: Mapping[str, Array]) -> "Subject":
        """Returns the same with some weights in place of its own."""
        return replace(self, weights={**self.weights, **changed})


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way in which the other side may differ.

    Attributes:
        name: What programs call it: ``gelu=tanh``, ``channels=reversed``.
        says: The same in words, of the other side.
        change: What the trusted side has -> what the other side then has.
        subtle: Whether it may hide within rounding; the others show or do not hold.
    """

    name: str
    says: str
    change: Callable[[Subject], Subject]
    subtle: bool = False

    @property
    def topic(self) -> str:
        """What it is about: of one topic at most one hypothesis holds."""
        return self.name.partition("=")[0]

    @property
    def of_input(self) -> bool:
        """Whether it is about the images, and nothing else."""
        return self.topic in ("crop", "geometry", "channels", "scale")


def hypotheses(
    subject: Subject,
    others: Mapping[str, Model],
    crops: Mapping[float, Array],
    attributes: Attributes,
) -> list[Hypothesis]:
    """Returns everything that is tried, in the order that it is applied in.

    Args:
        subject: The trusted side.
        others: Name -> the same architecture with other weights, such as averaged ones.
        crops: ``crop_pct`` -> the images that it would make.
        attributes: Those that the other side says it has, and the trusted one has not.
    """
    info = subject.info
    return [
        *_crops(info.preprocessing.crop_pct, crops),
        *_pictures(subject.images),
        *_other_weights(others),
        *_shifts(info.config),
        *_layouts(info.config),
        *_storages(info.config),
        *_numerics(info),
        *_own_attributes(attributes),
    ]


# --- the maths


def _numerics(info: ModelInfo) -> Iterator[Hypothesis]:
    values: dict[str, tuple[Any, ...]] = {**CHOICES, **dict.fromkeys(EPSILONS, EPSILON_VALUES)}
    for field, name in FIELDS.items():
        if field == "pos_embed_resize" and info.config.version == 2:
            continue
        own = getattr(info.numerics, field)
        for value in values[field]:
            if value != own:
                yield Hypothesis(
                    f"{field}={value}",
                    f"{name} is {value} instead of {own}",
                    partial(_set_numerics, field, value),
                    subtle=field in EPSILONS or field == "gelu",
                )


def _set_numerics(field: str, value: Any, subject: Subject) -> Subject:
    numerics = replace(subject.info.numerics, **{field: value})
    return replace(subject, info=replace(subject.info, numerics=numerics))


def _own_attributes(attributes: Attributes) -> Iterator[Hypothesis]:
    if attributes:
        shown = listed([f"{name} is {value}" for name, value in attributes.items()], 1)
        change = partial(replace, attributes=attributes)
        yield Hypothesis(
            "attributes=its own", f"it is what it says of itself: {shown}", change, subtle=True
        )


# --- the weights


def _other_weights(others: Mapping[str, Model]) -> Iterator[Hypothesis]:
    for name, model in others.items():
        change = partial(Subject.with_weights, changed=model.weights)
        yield Hypothesis(f"weights={name}", f"the weights are {name}", change, subtle=True)


SHIFTS: tuple[tuple[str, int, Literal["clip", "wrap"], str], ...] = (
    ("previous", -1, "clip", "before, the first its own"),
    ("next", 1, "clip", "after, the last its own"),
    ("previous or last", -1, "wrap", "before, the first those of the last"),
    ("next or first", 1, "wrap", "after, the last those of the first"),
)
"""Blocks off by one: name, by how many, what there is at the ends, whose weights a block has."""


def _shifts(config: PVTConfig) -> Iterator[Hypothesis]:
    known = [[list(range(depth)) for depth in config.depths]]
    for name, step, ends, says in SHIFTS:
        order = [
            np.arange(depth).take(range(step, step + depth), mode=ends).tolist()
            for depth in config.depths
        ]
        if order not in known:  # two blocks that change places do so in either direction
            known.append(order)
            says = f"every block has the weights of the one {says}"
            yield Hypothesis(f"blocks={name}", says, partial(_move_blocks, order))


def _move_blocks(order: list[list[int]], subject: Subject) -> Subject:
    specs = [spec for spec in tensor_specs(subject.info.config) if spec.block is not None]
    names = {spec[3:]: spec.name for spec in specs}  # layer, part, stage and block
    changed = {}
    for spec in specs:
        source = spec._replace(block=order[spec.stage or 0][spec.block or 0])
        changed[spec.name] = subject.weights[names[source[3:]]]
    return subject.with_weights(changed)


def _layouts(config: PVTConfig) -> Iterator[Hypothesis]:
    specs = tensor_specs(config)
    swap = partial(_each, _swap_halves, [spec.name for spec in specs if spec.layer == "attn.kv"])
    yield Hypothesis("kv=swapped", "keys and values are exchanged in every block", swap)
    square: dict[str, list[str]] = {}
    for spec in specs:
        if spec.kind == "linear" and spec.shape == spec.shape[:1] * 2:
            square.setdefault(f"{spec.layer}.{spec.part}", []).append(spec.name)
    if len(square) > 1:
        says = f"the square weights are transposed: {', '.join(square)}"
        every = [name for names in square.values() for name in names]
        yield Hypothesis("transposed=square weights", says, partial(_each, np.transpose, every))
    for layer, names in square.items():
        transpose = partial(_each, np.transpose, names)
        yield Hypothesis(f"transposed={layer}", f"{layer} is transposed", transpose)


def _storages(config: PVTConfig) -> Iterator[Hypothesis]:
    specs = tensor_specs(config)
    every = [spec.name for spec in specs]
    positions = [spec.name for spec in specs if spec.kind == "pos_embed"]
    rows = (
        ("pos_embed float16", "the position embeddings were", positions, _to_float16),
        ("float16", "all weights were", every, _to_float16),
        ("bfloat16", "all weights were", every, _to_bfloat16),
    )
    for name, what, names, rounded in rows:
        if names:
            says = f"{what} rounded to {name.split()[-1]}"
            yield Hypothesis(f"storage={name}", says, partial(_each, rounded, names), subtle=True)


def _each(change: Callable[[Array], Array], names: list[str], subject: Subject) -> Subject:
    return subject.with_weights({name: change(subject.weights[name]) for name in names})


def _swap_halves(array: Array) -> Array:
    return np.roll(array, len(array) // 2, axis=0)


def _to_float16(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float32).astype(np.float16).astype(np.float32)


def _to_bfloat16(array: Array) -> Array:
    """Returns float32 with 8 bits of mantissa, to nearest, ties to even."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded: Array = (bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


# --- the images


class Fed(NamedTuple):
    """What goes into a model.

    Attributes:
        images: Normalised images, (B, C, H, W).
        pixels: The images before that, in 0 to 1.
        mean: What was subtracted, (C, 1, 1).
        std: What that was divided by, (C, 1, 1).
    """

    images: Array
    pixels: Array
    mean: Array
    std: Array


def _feeding(name: str, says: str, fed: Callable[[Fed], Array]) -> Hypothesis:
    return Hypothesis(name, says, partial(_feed, fed))


def _feed(fed: Callable[[Fed], Array], subject: Subject) -> Subject:
    preprocessing = subject.info.preprocessing
    of_pixels = pixel_mean(preprocessing), pixel_std(preprocessing)
    mean, std = (each[:, None, None].astype(np.float64) / 255 for each in of_pixels)
    pixels = (subject.images * std + mean) * 255
    whole = np.round(pixels)
    # What float32 lost of dark pixels when they were normalised is more than rounding in what
    # takes them as they are.
    if np.abs(pixels - whole).max() < 0.01:
        pixels = whole
    images = fed(Fed(subject.images, pixels / 255, mean, std))
    return replace(subject, images=np.ascontiguousarray(images, np.float32))


IMAGES = (
    _feeding("geometry=mirrored", "the images are mirrored", lambda x: x.images[..., ::-1]),
    _feeding(
        "geometry=transposed",
        "height and width of the images are exchanged",
        lambda x: x.images.swapaxes(2, 3),
    ),
    _feeding(
        "channels=reversed",
        "the images' channels are reversed (BGR for RGB)",
        lambda x: x.images[:, ::-1],
    ),
    _feeding(
        "channels=reversed before",
        "the images' channels are reversed before mean and std, which are not",
        lambda x: (x.pixels[:, ::-1] - x.mean) / x.std,
    ),
    _feeding("scale=0 to 1", "the images are not normalised: 0 to 1", lambda x: x.pixels),
    _feeding("scale=0 to 255", "the images are not normalised: 0 to 255", lambda x: x.pixels * 255),
    _feeding("scale=0.5", "mean and std of the images are 0.5", lambda x: x.pixels * 2 - 1),
    _feeding(
        "scale=normalised twice",
        "the images are normalised twice",
        lambda x: (x.images - x.mean) / x.std,
    ),
    _feeding(
        "scale=0 to 255 normalised",
        "the images are of 0 to 255 where mean and std are for 0 to 1",
        lambda x: (x.pixels * 255 - x.mean) / x.std,
    ),
    _feeding(
        "scale=0 to 1/255 normalised",
        "the images are of 0 to 1/255 where mean and std are for 0 to 1",
        lambda x: (x.pixels / 255 - x.mean) / x.std,
    ),
)
"""What preprocessing gets wrong."""


def _pictures(images: Array) -> list[Hypothesis]:
    square = images.shape[2] == images.shape[3]
    # The tokens of an image that is not square have another grid then: nothing to compare.
    return [each for each in IMAGES if square or each.name != "geometry=transposed"]


def _crops(own: float, crops: Mapping[float, Array]) -> Iterator[Hypothesis]:
    for share, images in crops.items():
        says = f"the images are cropped to {share:g} of the resized ones instead of {own:g}"
        yield Hypothesis(f"crop={share:g}", says, partial(replace, images=images))
