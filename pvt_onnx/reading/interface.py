"""How a graph takes images and answers, which is checked before it runs and when it ran."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from pvt_data.images.pixels import normalise, to_pixels
from pvt_onnx.reading.bounds import check_images, large_values, loops
from pvt_onnx.reading.files import AGAIN, OnnxFileError, read_metadata, reporting
from pvt_onnx.reading.precision import read_precision
from pvt_spec import ModelInfo, Preprocessing, PVTConfig, output_names
from pvt_spec.arrays import Array
from pvt_spec.hashes import stamp_of
from pvt_spec.model_info import Untouched
from pvt_spec.words import listed, show

_IMAGES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.UINT8: np.dtype(np.uint8),
}
_ANSWERS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_SHARES = ("Softmax", "Sigmoid")
_UNCHANGING = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Interface:
    """How a graph takes images and answers, whatever its values are called and made of.

    Attributes:
        model: The model's name in an error.
        image: The name of its input.
        dtype: float32 or float16, of normalised images, or uint8, of pixels.
        channels_last: Whether images are (B, H, W, C) instead of (B, C, H, W).
        batch: How many images it takes at a time; None for any number.
        sides: The (H, W) in pixels of its images; None for any.
        outputs: The names of its outputs, by :func:`pvt_spec.output_names`.
        precision: How it computes, by :func:`pvt_onnx.reading.precision.read_precision`.
        alone: Whether an image's answers depend on what else is in a call: ranges that are found
            as it runs are of all images of it.
        certificate: The SHA-256 of the certificate that the file says it has; "" without one.
    """

    model: str
    image: str
    dtype: np.dtype[Any]
    channels_last: bool
    batch: int | None
    sides: tuple[int | None, int | None]
    outputs: Mapping[str, str]
    precision: str
    alone: bool
    certificate: str = ""

    def feed(self, images: Array, kept: Preprocessing) -> dict[str, Array]:
        """Returns what the graph is given for images (B, C, H, W).

        Args:
            images: float32, normalised; or uint8, for a graph that takes pixels.
            kept: What they are normalised by.

        Raises:
            OnnxFileError: It takes pixels, which these images, noise perhaps, are not made of.
        """
        if self.dtype == np.uint8 and images.dtype != np.uint8:
            pixels = np.stack([to_pixels(image, kept) for image in images])
            again = np.stack([normalise(each, kept) for each in pixels])
            if not np.array_equal(again, images):
                raise OnnxFileError(
                    f"{self.model}: its graph takes pixels, and these images are not made of any, "
                    "as noise is not: give images of files"
                )
            images = pixels.transpose(0, 3, 1, 2)
        given = images.astype(self.dtype, copy=False)
        given = given.transpose(0, 2, 3, 1) if self.channels_last else given
        return {self.image: np.ascontiguousarray(given)}


def check_graph(
    model: onnx.ModelProto, info: ModelInfo, name: str, size: tuple[int, int] | None = None
) -> Interface:
    """Returns how a graph takes images and answers; refuses one that does not as it says.

    Args:
        model: The model; values of large weights are not looked at.
        info: What its metadata says.
        name: Its name in the error.
        size: The (H, W) in pixels of what it will be given; None where any may be.

    Raises:
        OnnxFileError: It takes or answers something else, or may not end: all that is wrong.
    """
    with reporting(name, "its graph cannot be read"):
        graph = model.graph
        layout, problems = _image_layout(_inputs(graph), info.config, size)
        outputs, precision = _named_outputs(graph, info.config), read_precision(model)
        problems += _output_problems(graph, outputs, info.config)
        last = _last(graph, next(iter(outputs.values())))
        if last in _SHARES and info.task != "regression" and not info.config.features_only:
            problems.append(
                f"its graph ends in {last} and so answers probabilities, expected logits (export "
                "the model without it)"
            )
        problems += loops(model, sum(info.config.depths))
        if layout and not problems:
            own = size or layout.size(info.preprocessing.image_size)
            one = layout.of_one_image(info.config, own)
            problems += large_values(model, info.config, info.numerics, own, one)
    if problems or not layout:
        raise OnnxFileError(f"{name}: {listed(problems, 4)}; {AGAIN}")
    alone = any(node.op_type.startswith("DynamicQuantize") for node in graph.node)
    return Interface(name, *layout, outputs, precision, alone, stamp_of(read_metadata(model)))


def image_sides(model: onnx.ModelProto, config: PVTConfig) -> tuple[int | None, int | None]:
    """Returns the (H, W) in pixels of a graph's images, None for any, and of what is no image."""
    layout, _ = _image_layout(_inputs(model.graph), config, None)
    return layout.sides if layout else (None, None)


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Returns what a graph has to be given: older ones list what they hold too."""
    held = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in held]


class _Layout(NamedTuple):
    """A graph's input, understood."""

    name: str
    dtype: np.dtype[Any]
    channels_last: bool
    batch: int | None
    sides: tuple[int | None, int | None]

    def size(self, otherwise: tuple[int, int]) -> tuple[int, int]:
        """Returns the (H, W) of the graph's images, of a side that may be any the other one's."""
        (H, W), (any_H, any_W) = self.sides, otherwise
        return H or any_H, W or any_W

    def of_one_image(self, config: PVTConfig, size: tuple[int, int]) -> onnx.ValueInfoProto:
        """Returns the input for one image of a size, or for the graph's own batch."""
        shape = [*size, config.in_chans] if self.channels_last else [config.in_chans, *size]
        kind = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        return onnx.helper.make_tensor_value_info(self.name, kind, [self.batch or 1, *shape])


def _image_layout(
    inputs: Sequence[onnx.ValueInfoProto], config: PVTConfig, size: tuple[int, int] | None
) -> tuple[_Layout | None, list[str]]:
    """Returns how images are given, or what is wrong with the graph's inputs."""
    if len(inputs) != 1:
        found = listed([value.name for value in inputs], 4, show) or "nothing"
        return None, [f"its graph takes {found}, expected images alone"]
    (value,), C = inputs, config.in_chans
    held = value.type.tensor_type
    if held.elem_type not in _IMAGES:
        expected = "float or float16, normalised, or uint8 pixels"
        return None, [f"{show(value.name)} is of {_kind(held.elem_type)}, expected {expected}"]
    dtype = _IMAGES[held.elem_type]
    dims = [dim.dim_value or None for dim in held.shape.dim] if held.HasField("shape") else []
    shape = dims or [None] * 4
    sides: list[int | None] = [*(size or (None, None))]
    first, last = (_fits(shape, each) for each in ([None, C, *sides], [None, *sides, C]))
    if not (first or last):
        return None, [_misfit(value.name, shape, [None, C, *sides])]
    # Where the graph leaves it open, pixels are as images are read, floats as models take them.
    channels_last = last if first != last else bool(dtype == np.uint8)
    side = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    return _Layout(value.name, dtype, channels_last, shape[0], side), []


def _named_outputs(graph: onnx.GraphProto, config: PVTConfig) -> dict[str, str]:
    """Returns a graph's outputs by our names: those that it has, or else in its order."""
    ours, there = output_names(config), [value.name for value in graph.output]
    if len(there) == len(ours) and not {*ours} & {*there}:
        return dict(zip(ours, there, strict=True))
    return {name: name for name in ours}


def _output_problems(
    graph: onnx.GraphProto, outputs: Mapping[str, str], config: PVTConfig
) -> Iterator[str]:
    found, dims = {value.name: value for value in graph.output}, config.embed_dims
    for (name, own), stage_dim in zip(outputs.items(), dims, strict=False):
        shape: list[int | None] = [None, config.num_classes or dims[-1]]
        if config.features_only:
            shape = [None, stage_dim, None, None]
        held = found[own].type.tensor_type if own in found else onnx.TypeProto.Tensor()
        there = (
            [dim.dim_value or None for dim in held.shape.dim] if held.HasField("shape") else shape
        )
        if own not in found or (own != name and not _fits(there, shape)):
            yield f"its graph answers {listed([*found], 4, show) or 'nothing'}, expected {name}"
            continue
        if held.elem_type not in _ANSWERS:
            yield f"{show(own)} is of {_kind(held.elem_type)}, expected float or float16"
        if not _fits(there, shape):
            yield _misfit(own, there, shape)


def _last(graph: onnx.GraphProto, value: str) -> str:
    """Returns the operator that a value is made by, but for those that change no number."""
    made_by = {output: node for node in graph.node for output in node.output}
    while (node := made_by.pop(value, None)) and node.op_type in _UNCHANGING and node.input:
        value = node.input[0]
    return node.op_type if node else ""


def _kind(number: int) -> str:
    known = number in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(number)).lower() if known else str(number)


def _fits(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    """Returns whether a shape can be another; None stands for any number."""
    return len(shape) == len(expected) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True)
    )


def _misfit(name: str, shape: Sequence[int | None], expected: Sequence[int | None]) -> str:
    found, wanted = (
        "(" + ", ".join("any" if side is None else str(side) for side in sides) + ")"
        for sides in (shape, expected)
    )
    return f"{show(name)} is {found} in its graph and {wanted} by its metadata"


def checked_answers(
    run: Callable[[dict[str, Array], Sequence[str]], Sequence[Array]],
    names: Sequence[str],
    interface: Interface,
    info: ModelInfo,
) -> Callable[[Array], dict[str, Array]]:
    """Returns a forward pass whose answers are what they should be, or one error.

    Args:
        run: A function that runs a model on its inputs, by name, and answers some of its values.
        names: The outputs and taps that are wanted, by our names.
        interface: How the graph takes images and answers.
        info: What its metadata says.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, or uint8 for a graph that takes
        pixels, to float32 arrays under ``names``.
    """
    name, values = interface.model, [interface.outputs.get(each, each) for each in names]

    def answer(images: Array) -> list[Array]:
        if interface.batch in (None, len(images)):
            return [*run(interface.feed(images, info.preprocessing), values)]
        parts = []
        for start in range(0, len(images), interface.batch):
            part = images[start : start + interface.batch]
            filled = np.concatenate([part, np.repeat(part[:1], interface.batch - len(part), 0)])
            found = run(interface.feed(filled, info.preprocessing), values)
            parts.append([array[: len(part)] for array in found])
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def checked(images: Array) -> dict[str, Array]:
        resized = isinstance(info.preprocessing, Untouched)
        pixels = interface.dtype == np.uint8
        check_images(images, info.config, interface.sides, name, resized=resized, pixels=pixels)
        with reporting(name, f"it cannot be run on images {images.shape}"):
            found = dict(zip(names, answer(images), strict=True))
            for tap, array in found.items():
                _check_answer(tap, array, len(images), info.config, name)
            return {tap: array.astype(np.float32, copy=False) for tap, array in found.items()}

    return checked


def _check_answer(tap: str, array: Array, images: int, config: PVTConfig, name: str) -> None:
    """Refuses an answer that is not what a model of this configuration answers.

    Raises:
        OnnxFileError: It is not.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = getattr(array, "dtype", type(array).__name__)
        raise OnnxFileError(f"{name}: {tap} is of {kind}, expected float; {AGAIN}")
    answered = output_names(config)
    if tap not in answered:
        return
    width = config.num_classes or config.embed_dims[-1]
    if config.features_only:
        width = config.embed_dims[answered.index(tap)]
    expected, rank = (images, width), 4 if config.features_only else 2
    if array.ndim != rank or array.shape[:2] != expected:
        raise OnnxFileError(
            f"{name}: {tap} is {array.shape}, expected {expected} first of {rank} "
            f"dimensions; {AGAIN}"
        )
