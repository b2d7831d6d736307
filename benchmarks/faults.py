"""Single faults of a PVT's weights, maths and preprocessing; see :mod:`benchmarks.mutations`."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from PIL import Image

from convert.model.read import Model
from pvt_data.images.pixels import normalise
from pvt_data.images.preprocessing import load_pixels
from pvt_spec import (
    CHOICES,
    EPSILONS,
    ModelInfo,
    Numerics,
    Preprocessing,
)
from pvt_spec.arrays import Array
from pvt_spec.tensors import TensorSpec

Edit = Callable[[Model], Model]

PLACES = (0.0, 0.5, 0.25, 0.75, 0.125, 0.375, 0.625, 0.875)
"""Shares of a tensor, after which a fault of some of its elements is looked for in turn."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; of the four ways to make it, one is given, or two that are one.

    Attributes:
        kind: What the table counts it under.
        subject: The tensor, value or layer; of several faults with the same kind and subject the
            first that changes an answer is meant.
        edit: A change of the weights and maths that a runtime's model is made of.
        file: A change of the file that it is given, whose preprocessing its images then go through.
        layers: A change of an open PyTorch or MindSpore model, in place.
        graph: A change of an ONNX graph, in place: the same as ``layers``.
        pixels: A function from uint8 (H, W, C) of any size to the input (C, H, W): wrong
            preprocessing of which the runtime's model knows nothing.
    """

    kind: str
    subject: str
    edit: Edit | None = None
    file: Edit | None = None
    layers: Callable[[Any], None] | None = None
    graph: Callable[[onnx.GraphProto], None] | None = None
    pixels: Callable[[Array, Preprocessing], Array] | None = None


def tensor_faults(spec: TensorSpec) -> Iterator[Fault]:
    """Yields the faults of one tensor."""
    name, shape = spec.name, spec.shape

    def fault(kind: str, change: Callable[[Array], Array]) -> Fault:
        def edit(model: Model) -> Model:
            weights = {**model.weights, name: change(model.weights[name].copy())}
            return dataclasses.replace(model, weights=weights)

        return Fault(kind, name, edit)

    # The first place at which it changes an answer counts: a softmax takes out what is added to
    # every key, a ReLU whole channels.
    for start in PLACES:
        yield fault("one element +1 %", partial(one_percent, start=start))
        yield fault("two rows swapped", partial(rows_swapped, start=start))
    if len(shape) in (2, 4) and shape[0] == shape[1]:
        yield fault("transposed", lambda a: np.ascontiguousarray(a.swapaxes(0, 1)))
    if ".attn.kv." in name:
        yield fault("key and value swapped", lambda a: np.roll(a, len(a) // 2, axis=0))
    if name.endswith(".bias"):
        yield fault("zeroed bias", np.zeros_like)


def one_percent(array: Array, start: float) -> Array:
    """Makes an element of ordinary size 1 % larger: not the largest, nor one that is nearly 0."""
    flat = array.reshape(-1)
    part = np.abs(flat[int(start * len(flat)) :])
    index = len(flat) - len(part) + int(np.argsort(part, kind="stable")[len(part) // 2])
    flat[index] *= array.dtype.type(1.01)
    return array


def rows_swapped(array: Array, start: float) -> Array:
    """Swaps two neighbours along the first axis that has any."""
    axis = next((i for i, length in enumerate(array.shape) if length > 1), 0)
    order, first = np.arange(array.shape[axis]), int(start * array.shape[axis])
    order[first : first + 2] = order[first : first + 2][::-1]
    return np.ascontiguousarray(np.take(array, order, axis))


def numerics_faults(info: ModelInfo) -> Iterator[Fault]:
    """Yields every field of the maths, at every other value of any profile's."""
    for field in dataclasses.fields(Numerics):
        choices: tuple[Any, ...] = CHOICES.get(field.name, (1e-5, 1e-6, 1e-7))
        assert field.name in (*CHOICES, *EPSILONS)
        for value in choices:
            if value != getattr(info.numerics, field.name):
                changed = dataclasses.replace(info.numerics, **{field.name: value})
                yield Fault(f"numerics: {field.name}", str(value), of_info(numerics=changed))


def of_info(**changes: Any) -> Edit:
    """Returns the model with other fields of its ModelInfo."""
    return lambda model: dataclasses.replace(model, info=dataclasses.replace(model.info, **changes))


def preprocessing_faults() -> Iterator[Fault]:
    """Slips that the file tells of, and slips that nothing tells of but the answers."""
    slips: dict[str, tuple[Any, ...]] = {
        "crop_pct": (0.8, 1.0),
        "mean": ((0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (0.406, 0.456, 0.485)),
        "std": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    }
    for field, values in slips.items():
        for value in values:
            yield Fault(f"preprocessing: {field}", str(value), file=of_preprocessing(field, value))
    for kind, change in PIXELS.items():
        yield Fault(f"given: {kind}", "images", pixels=change)


def of_preprocessing(field: str, value: Any) -> Edit:
    def edit(model: Model) -> Model:
        changed = dataclasses.replace(model.info.preprocessing, **{field: value})
        return of_info(preprocessing=changed)(model)

    return edit


def bilinear(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Resizes and crops as it should be done, with another filter."""
    H, W = (int(side / preprocessing.crop_pct) for side in preprocessing.image_size)
    image = Image.fromarray(pixels)
    scale = max(H / image.height, W / image.width)
    size = max(round(image.width * scale), W), max(round(image.height * scale), H)
    return load_pixels(np.asarray(image.resize(size, Image.Resampling.BILINEAR)), preprocessing)


def squashed(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Squashes all of the image into the input, whatever its aspect."""
    size = preprocessing.image_size[::-1]
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    return normalise(np.asarray(image), preprocessing)


PIXELS: dict[str, Callable[[Array, Preprocessing], Array]] = {
    "channels reversed": lambda x, p: load_pixels(np.ascontiguousarray(x[..., ::-1]), p),
    "mirrored": lambda x, p: load_pixels(np.ascontiguousarray(x[:, ::-1]), p),
    "one pixel to the side": lambda x, p: np.roll(load_pixels(x, p), 1, axis=2),
    "bilinear": bilinear,
    "squashed": squashed,
    "not normalised": lambda x, p: load_pixels(x, of_pixels(p, 0.0, 1.0)),
    "0 to 255": lambda x, p: load_pixels(x, of_pixels(p, 0.0, 1 / 255)),
}
"""Wrong preprocessing that is in no file."""


def of_pixels(preprocessing: Preprocessing, mean: float, std: float) -> Preprocessing:
    """Returns the same geometry with other numbers for every channel."""
    channels = len(preprocessing.mean)
    return dataclasses.replace(preprocessing, mean=(mean,) * channels, std=(std,) * channels)
