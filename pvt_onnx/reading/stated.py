"""What a file is that does not say it: what the user says of it, and what its graph shows."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import onnx

from pvt_data.description import Description
from pvt_data.sources.labels import Tell
from pvt_onnx.reading.files import OnnxFileError, reporting
from pvt_spec import (
    VARIANTS,
    ConfigError,
    ModelInfo,
    PVTConfig,
    default_preprocessing,
    make_config,
    profile_numerics,
    tensor_specs,
)
from pvt_spec.config import MIN_IMAGE_SIDE
from pvt_spec.words import counted, listed, shortened, show

_PROFILE = "official"
"""The profile of preprocessing that says not all."""

_NEAR = 0.005
"""How far a graph may be from as many weights as a variant has: other tools add some and fold some.
The variants' own numbers are farther apart."""


_ARITHMETIC = ("Sub", "Add", "Mul", "Div", "BatchNormalization")
_PASSING = ("Cast", "Transpose", "Identity", "Clip", "QuantizeLinear", "DequantizeLinear")
"""Operators by which images are normalised, and behind which they are still images."""


@dataclass(frozen=True)
class _Shown:
    """What a graph shows of its images and answers.

    Attributes:
        channels: The channels of an image.
        size: Its (H, W) in pixels; None where it may be any.
        classes: The number of answers; None where the graph leaves it open.
        variant: The variant that has as many weights, or None.
        prepares: The first operator that computes with pixels before a convolution; "" for none.
    """

    channels: int
    size: tuple[int, int] | None
    classes: int | None
    variant: str | None
    prepares: str


def describe(
    model: onnx.ModelProto,
    name: str,
    problem: str,
    said: Description,
    size: tuple[int, int] | None,
    tell: Tell,
) -> ModelInfo:
    """Returns what a file is that does not say it.

    Args:
        model: The model.
        name: The file's name.
        problem: The words for why it does not say it.
        said: What the user says.
        size: The (H, W) in pixels of images; None for what the graph shows.
        tell: A function that is told what is assumed.

    Raises:
        OnnxFileError: The user does not say enough, or the graph is none of a PVT that classifies.
    """
    with reporting(name, f"{problem}, and its graph cannot be read"):
        shown = _look(model, name, problem)
    variant, missing = said.model or shown.variant, []
    if variant is None:
        missing.append("--model VARIANT (its weights are as many as no variant's)")
    if said.profile is None and not said.preprocessing:
        missing.append("--profile NAME or --preprocessing KEY=VALUE")
    if shown.classes is None and not said.labels:
        missing.append("--labels FILE (it shows no number of classes)")
    if variant is None or missing:
        more = "; --labels FILE and --task too, where they are not class numbers and a softmax"
        raise OnnxFileError(
            f"{name}: {problem}: make it with convert, or say what it is, to a command that takes "
            f"that, with {' and '.join(missing) or '--model VARIANT'}{more}"
        )
    try:
        info = _described(said, variant, shown, size)
    except (ConfigError, TypeError) as error:
        raise OnnxFileError(
            f"{name}: {problem}, and what is said of it does not fit: {error}"
        ) from error
    tell(f"{name}: {problem}; taken for {_words(info, said, shown)}")
    if shown.prepares and not {"mean", "normalise"} & {*dict(said.preprocessing)}:
        tell(
            f"{name}: its graph has a {shown.prepares} before its first convolution: if it "
            "normalises images itself, say --preprocessing normalise=false, or they are twice"
        )
    return info


def _described(
    said: Description, variant: str, shown: _Shown, size: tuple[int, int] | None
) -> ModelInfo:
    config = make_config(
        variant,
        num_classes=shown.classes or len(said.labels),
        in_chans=shown.channels,
        image_size=size or shown.size,
    )
    profile = said.profile or _PROFILE
    numerics = profile_numerics(profile, config.version)
    values: dict[str, Any] = dict(said.preprocessing)
    preprocessing = replace(default_preprocessing(config, profile), **values)
    return ModelInfo(config, numerics, preprocessing, said.labels, {}, said.task or "")


def _words(info: ModelInfo, said: Description, shown: _Shown) -> str:
    """Returns what is taken for granted of a file, in words."""
    guess = "" if said.model else " (which has as many weights)"
    H, W = info.preprocessing.image_size
    values = asdict(info.preprocessing)
    del values["image_size"]
    images = ", ".join(f"{key}={value}" for key, value in values.items())
    return (
        f"{info.variant}{guess}, profile {said.profile or _PROFILE}, task {info.task}, "
        f"{counted(info.config.num_classes, 'class')}, images of {H}x{W}: {images}"
    )


def _look(model: onnx.ModelProto, name: str, problem: str) -> _Shown:
    """Returns what a graph shows.

    Raises:
        OnnxFileError: It is none of a PVT that classifies.
    """
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    outputs = [*model.graph.output]
    named = [value for value in outputs if value.name == "logits"]
    image = _dims(inputs[0]) if len(inputs) == 1 else []
    answer = _dims((named or outputs)[0]) if len(named or outputs) == 1 else []
    at = [axis for axis in (1, 3) if len(image) == 4 and 0 < (image[axis] or 0) < MIN_IMAGE_SIDE]
    if len(at) != 1 or len(answer) != 2:
        raise OnnxFileError(
            f"{name}: {problem}, and its graph takes {_shapes(inputs)} and answers "
            f"{_shapes(outputs)}, expected images (B, C, H, W) or (B, H, W, C) and one row of "
            "classes for each: it is no PVT that classifies"
        )
    (axis,) = at
    H, W = image[2:] if axis == 1 else image[1:3]
    size = (H, W) if H and W else None
    channels = image[axis] or 0
    variant = _variant(model, channels, size, answer[1])
    return _Shown(channels, size, answer[1], variant, _prepares(model, inputs[0]))


def _prepares(model: onnx.ModelProto, image: onnx.ValueInfoProto) -> str:
    """Returns the first operator that computes with an image before a convolution; "" for none.

    Of pixels uint8 too: what those are normalised by is the graph's alone.
    """
    if image.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        return ""
    images = {image.name}
    for node in model.graph.node:
        if images.intersection(node.input):
            if node.op_type in _ARITHMETIC:
                return str(node.op_type)
            if node.op_type in _PASSING:
                images.update(node.output)
    return ""


def _dims(value: onnx.ValueInfoProto) -> list[int | None]:
    return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> str:
    texts = [
        f"{show(value.name)} ({', '.join(str(side or 'any') for side in _dims(value))})"
        for value in values
    ]
    return shortened(listed(texts, 4), 200) or "nothing"


def _variant(
    model: onnx.ModelProto, channels: int, size: tuple[int, int] | None, classes: int | None
) -> str | None:
    """Returns the variant that has as many weights as a graph; None where that is not one."""
    tensors = [*model.graph.initializer]
    tensors += [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    found = sum(prod(tensor.dims) for tensor in tensors)
    near = []
    for name in VARIANTS:
        config = make_config(name, num_classes=classes, in_chans=channels, image_size=size)
        count = _count(config)
        if abs(found - count) <= _NEAR * count:
            near.append((abs(found - count), name))
    return min(near)[1] if near else None


def _count(config: PVTConfig) -> int:
    return sum(prod(spec.shape) for spec in tensor_specs(config))
