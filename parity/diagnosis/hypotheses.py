"""Hypotheses, as data, of why the other side answers differently: how each changes what is run."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from convert.model.read import Model
from pvt_spec import CHOICES, EPSILONS, ModelInfo, PVTConfig, tensor_specs
from pvt_spec.arrays import Array

EPSILON_VALUES = (1e-5, 1e-6, 1e-7)
"""Of layer norms: the values that PVT's implementations use, by choice or by a framework's default.
"""

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
        weights: Under canonical names.
        info: What travels with them.
        images: float32 (B, C, H, W), normalised as ``info.preprocessing`` says.
    """

    weights: Mapping[str, Array]
    info: ModelInfo
    images: Array


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way in which the other side may differ.

    Attributes:
        name: For programs: ``gelu=tanh``, ``channels=reversed``.
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
    subject: Subject, others: Mapping[str, Model], crops: Mapping[float, Array]
) -> list[Hypothesis]:
    """Everything that is tried, in the order that it is applied in.

    Args:
        subject: The trusted side.
        others: Name -> the same architecture with other weights, such as averaged ones.
        crops: ``crop_pct`` -> the images that it would make.
    """
    config = subject.info.config
    return [
        *(_other_crop(subject.info, share, images) for share, images in crops.items()),
        *_of_images(subject.images),
        *(_other_weights(name, model) for name, model in others.items()),
        *_of_blocks(config),
        *_of_layouts(config),
        *_of_storage(config),
        *_of_numerics(subject.info),
    ]


# --- the maths


def _of_numerics(info: ModelInfo) -> Iterator[Hypothesis]:
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
    numerics = dataclasses.replace(subject.info.numerics, **{field: value})
    return dataclasses.replace(subject, info=dataclasses.replace(subject.info, numerics=numerics))


# --- the weights


def _with_weights(subject: Subject, changed: Mapping[str, Array]) -> Subject:
    return dataclasses.replace(subject, weights={**subject.weights, **changed})


def _other_weights(name: str, model: Model) -> Hypothesis:
    return Hypothesis(
        f"weights={name}",
        f"the weights are {name}",
        lambda subject: _with_weights(subject, model.weights),
        subtle=True,
    )


SHIFTS: Mapping[str, tuple[str, Callable[[int, int], int]]] = {
    "previous": (
        "every block has the weights of the one before, the first its own",
        lambda block, depth: max(block - 1, 0),
    ),
    "next": (
        "every block has the weights of the one after, the last its own",
        lambda block, depth: min(block + 1, depth - 1),
    ),
    "previous or last": (
        "every block has the weights of the one before, the first those of the last",
        lambda block, depth: (block - 1) % depth,
    ),
    "next or first": (
        "every block has the weights of the one after, the last those of the first",
        lambda block, depth: (block + 1) % depth,
    ),
}
"""Blocks of a stage off by one: in words, and (block, depth) -> whose weights it has."""


def _of_blocks(config: PVTConfig) -> Iterator[Hypothesis]:
    known = {tuple(tuple(range(depth)) for depth in config.depths)}
    for name, (says, source) in SHIFTS.items():
        order = tuple(tuple(source(j, depth) for j in range(depth)) for depth in config.depths)
        if order not in known:  # two blocks that change places do so in either direction
            known.add(order)
            yield Hypothesis(f"blocks={name}", says, partial(_move_blocks, order))


def _move_blocks(order: tuple[tuple[int, ...], ...], subject: Subject) -> Subject:
    changed = {}
    for name in subject.weights:
        stage, _, rest = name.partition(".")
        if stage.startswith("block"):
            block, _, layer = rest.partition(".")
            source = order[int(stage.removeprefix("block")) - 1][int(block)]
            changed[name] = subject.weights[f"{stage}.{source}.{layer}"]
    return _with_weights(subject, changed)


def _of_layouts(config: PVTConfig) -> Iterator[Hypothesis]:
    yield Hypothesis("kv=swapped", "keys and values are exchanged in every block", _swap_kv)
    square: dict[str, list[str]] = {}
    for spec in tensor_specs(config):
        if spec.kind == "linear" and spec.shape == spec.shape[:1] * 2:
            layer = spec.name.split(".", 2)[-1] if spec.name.startswith("block") else spec.name
            square.setdefault(layer, []).append(spec.name)
    if len(square) > 1:
        every = [name for names in square.values() for name in names]
        says = f"the square weights are transposed: {', '.join(square)}"
        yield Hypothesis("transposed=square weights", says, partial(_transpose, every))
    for layer, names in square.items():
        yield Hypothesis(
            f"transposed={layer}", f"{layer} is transposed", partial(_transpose, names)
        )


def _swap_kv(subject: Subject) -> Subject:
    pairs = ((n, a) for n, a in subject.weights.items() if ".attn.kv." in n)
    return _with_weights(subject, {name: np.roll(a, len(a) // 2, axis=0) for name, a in pairs})


def _transpose(names: list[str], subject: Subject) -> Subject:
    return _with_weights(subject, {name: subject.weights[name].T for name in names})


def _of_storage(config: PVTConfig) -> Iterator[Hypothesis]:
    if config.version == 1:
        says = "the position embeddings were rounded to float16"
        change = partial(_round, "pos_embed", _to_float16)
        yield Hypothesis("storage=pos_embed float16", says, change, subtle=True)
    for dtype, rounded in (("float16", _to_float16), ("bfloat16", _to_bfloat16)):
        says = f"all weights were rounded to {dtype}"
        yield Hypothesis(f"storage={dtype}", says, partial(_round, "", rounded), subtle=True)


def _round(prefix: str, rounded: Callable[[Array], Array], subject: Subject) -> Subject:
    named = ((n, a) for n, a in subject.weights.items() if n.startswith(prefix))
    return _with_weights(subject, {n: rounded(a.astype(np.float32)) for n, a in named})


def _to_float16(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def _to_bfloat16(array: Array) -> Array:
    """float32 with 8 bits of mantissa, to nearest, ties to even."""
    bits = array.view(np.uint32)
    rounded: Array = (bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


# --- the images

Fed = Callable[[Array, Array, Array, Array], Array]
"""From normalised images, their pixels in 0 to 1, mean and std to what is fed instead."""

IMAGES: Mapping[str, tuple[str, Fed]] = {
    "geometry=mirrored": ("the images are mirrored", lambda x, pixels, mean, std: x[..., ::-1]),
    "geometry=transposed": (
        "height and width of the images are exchanged",
        lambda x, pixels, mean, std: x.swapaxes(2, 3),
    ),
    "channels=reversed": (
        "the images' channels are reversed (BGR for RGB)",
        lambda x, pixels, mean, std: x[:, ::-1],
    ),
    "channels=reversed before": (
        "the images' channels are reversed before mean and std, which are not",
        lambda x, pixels, mean, std: (pixels[:, ::-1] - mean) / std,
    ),
    "scale=0 to 1": (
        "the images are not normalised: 0 to 1",
        lambda x, pixels, mean, std: pixels,
    ),
    "scale=0 to 255": (
        "the images are not normalised: 0 to 255",
        lambda x, pixels, mean, std: pixels * 255,
    ),
    "scale=0.5": (
        "mean and std of the images are 0.5",
        lambda x, pixels, mean, std: pixels * 2 - 1,
    ),
    "scale=normalised twice": (
        "the images are normalised twice",
        lambda x, pixels, mean, std: (x - mean) / std,
    ),
    "scale=0 to 255 normalised": (
        "the images are of 0 to 255 where mean and std are for 0 to 1",
        lambda x, pixels, mean, std: (pixels * 255 - mean) / std,
    ),
    "scale=0 to 1/255 normalised": (
        "the images are of 0 to 1/255 where mean and std are for 0 to 1",
        lambda x, pixels, mean, std: (pixels / 255 - mean) / std,
    ),
}
"""What preprocessing gets wrong, in words, and what it then feeds."""


def _other_crop(info: ModelInfo, share: float, images: Array) -> Hypothesis:
    return Hypothesis(
        f"crop={share:g}",
        f"the images are cropped to {share:g} of the resized ones instead of "
        f"{info.preprocessing.crop_pct:g}",
        lambda subject: dataclasses.replace(subject, images=images),
    )


def _of_images(images: Array) -> Iterator[Hypothesis]:
    square = images.shape[2] == images.shape[3]
    for name, (says, fed) in IMAGES.items():
        # The tokens of an image that is not square have another grid then: nothing to compare.
        if square or name != "geometry=transposed":
            yield Hypothesis(name, says, partial(_feed, fed))


def _feed(fed: Fed, subject: Subject) -> Subject:
    preprocessing = subject.info.preprocessing
    mean, std = (np.array(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    pixels = (subject.images * std + mean) * 255
    whole = np.round(pixels)
    # What float32 lost of dark pixels when they were normalised is more than rounding in what
    # takes them as they are.
    if np.abs(pixels - whole).max() < 0.01:
        pixels = whole
    images = np.ascontiguousarray(fed(subject.images, pixels / 255, mean, std), np.float32)
    return dataclasses.replace(subject, images=images)
