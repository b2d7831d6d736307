"""A model that is served: what it takes and answers in the protocol's words, and how."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from pvt_data.answers.accuracy import probabilities
from pvt_data.description import Description
from pvt_data.images.decoding import MODES, decoding, opened
from pvt_data.images.preprocessing import load_image, load_pixels
from pvt_data.sources.imagenet import named
from pvt_data.sources.labels import Tell
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import OpenFile, open_file
from pvt_onnx.reading.bounds import check_images
from pvt_onnx.reading.files import reporting
from pvt_onnx.serve.protocol.messages import (
    BYTES,
    InferRequest,
    ModelMetadata,
    Tensor,
    TensorSpec,
    datatype_of,
    refused,
)
from pvt_onnx.serve.protocol.tensors import decode_text
from pvt_spec import ModelInfo, output_names
from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError, PvtError
from pvt_spec.files.limits import MAX_REQUEST_PIXELS, MAX_REQUEST_WHOLE
from pvt_spec.model_info import Untouched
from pvt_spec.words import listed, show

PROBABILITIES = "probabilities"
"""The output that is what the logits mean."""

PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino"}
"""What the protocol's users call an engine."""


_USUAL = 224
"""Pixels of a side for which the bounds of a request are: a smaller model's photos are as large."""


@dataclass(frozen=True)
class Images:
    """The images of a request.

    Attributes:
        count: How many.
        parts: What makes some of them what the graph takes: arrays (b, …), in their order.
        quick: Whether that takes no time.
        room: What says how many images of the model's own size they take the memory of, where it is
            not as many as they are.
    """

    count: int
    parts: Sequence[Callable[[], Array]]
    quick: bool = False
    room: Callable[[], int] | None = None


@dataclass(frozen=True)
class ServedModel:
    """An open model, which threads may share.

    Attributes:
        name: What it is called in a request.
        version: Its version, a number.
        file: What runs it, and how its graph takes images.
        options: Which engine, and how.
        info: What travels with its weights, with ImageNet's names where it has none of its own.
        most_pixels: Pixels that an encoded image may have.
    """

    name: str
    version: str
    file: OpenFile
    options: EngineOptions
    info: ModelInfo
    most_pixels: int = MAX_REQUEST_PIXELS
    outputs: tuple[TensorSpec, ...] = field(init=False)
    tensor: TensorSpec = field(init=False)
    image: TensorSpec | None = field(init=False)

    def __post_init__(self) -> None:
        interface, config = self.file.interface, self.info.config
        channels, (H, W) = config.in_chans, interface.sides
        shape = (None, H, W, channels) if interface.channels_last else (None, channels, H, W)
        own = TensorSpec(interface.image, datatype_of(interface.dtype), shape)
        name = "image" if interface.image != "image" else "encoded_image"
        encoded = TensorSpec(name, BYTES, (None,)) if channels in MODES else None
        object.__setattr__(self, "tensor", own)
        object.__setattr__(self, "image", encoded)
        object.__setattr__(self, "outputs", (*_outputs(self.info),))

    @property
    def alone(self) -> bool:
        """Whether its answers depend on what else is in a call, so that no two requests are."""
        return self.file.interface.alone

    @property
    def has_classes(self) -> bool:
        """Whether its answers are of classes."""
        return self.info.config.num_classes > 0

    def metadata(self, versions: list[str]) -> ModelMetadata:
        """Returns what is said of it, and of its other versions."""
        inputs = [each for each in (self.tensor, self.image) if each]
        platform = PLATFORMS[self.options.engine]
        return ModelMetadata(self.name, versions, platform, inputs, self.outputs)

    def read(self, request: InferRequest) -> Images:
        """Returns the images of a request.

        Raises:
            ProtocolError: 400: it is not what the model takes; the images' parts raise it too.
        """
        if request.raw is not None:
            if self.image is None:
                raise refused("the model takes no encoded image, of which a body could consist")
            return self._encoded([request.raw])
        known = [each for each in (self.tensor, self.image) if each]
        names = listed([each.name for each in known], 2, separator=" or ")
        if len(request.inputs) != 1:
            raise refused(f"{len(request.inputs)} inputs, expected one of {names}")
        (given,) = request.inputs
        spec = next((each for each in known if each.name == given.name), None)
        if spec is None:
            raise refused(f"input {show(given.name)}, expected {names}")
        spec.check(given)
        if not given.shape[0]:
            raise refused(f"input {show(given.name)} has no images")
        if spec is self.image:
            return self._encoded([*given.data])
        return Images(given.shape[0], [partial(self._take, given)], not self._resizes)

    @property
    def _resizes(self) -> bool:
        """Whether images stay as large as they are, as the graph resizes them."""
        return isinstance(self.file.info.preprocessing, Untouched)

    def _encoded(self, files: Sequence[bytes | str]) -> Images:
        parts = [partial(self._decode, data, n) for n, data in enumerate(files)]
        room = partial(self._room, files) if self._resizes else None
        return Images(len(parts), parts, room=room)

    def _room(self, files: Sequence[bytes | str]) -> int:
        H, W = self.info.preprocessing.image_size
        one = 4 * max(H * W, _USUAL * _USUAL)  # bytes, not float32
        pixels = (self._pixels(decode_text(data), f"image {n}") for n, data in enumerate(files))
        return sum(math.ceil(each / one) for each in pixels)

    def _pixels(self, data: bytes, name: str) -> int:
        """Returns how many pixels an image has, of which none is decoded; refuses too many."""
        most = min(self.most_pixels, MAX_REQUEST_WHOLE) if self._resizes else self.most_pixels
        try:
            with decoding(name), opened(BytesIO(data)) as image:
                width, height = image.size
        except ImageError as error:
            raise refused(error) from None
        if width * height > most:
            raise refused(
                f"{name}: {width} x {height} pixels, more than the {most:,} that are decoded: make "
                "it smaller"
            )
        return int(width * height)

    def _decode(self, given: bytes | str, number: int) -> Array:
        """Returns an encoded image as the graph takes it, (1, …)."""
        kept, interface = self.file.info.preprocessing, self.file.interface
        data, name = decode_text(given), f"image {number}"
        self._pixels(data, name)
        try:
            prepared = load_image(BytesIO(data), kept, name)
        except ImageError as error:
            raise refused(error) from None
        return interface.feed(prepared[None], kept)[interface.image]

    def _take(self, given: Tensor) -> Array:
        """Returns images that are given as the graph takes them, of a size that it takes."""
        interface, info = self.file.interface, self.file.info
        images = np.asarray(given.data)
        if None not in interface.sides:  # its shape is the graph's
            return images
        N, first, second, third = images.shape
        shape = (N, third, first, second) if interface.channels_last else images.shape
        resized = self._resizes
        like = np.broadcast_to(np.float32(0), shape)
        try:
            check_images(like, info.config, interface.sides, self.name, resized=resized)
            if resized:  # some are too long for that
                for image in images:
                    load_pixels(image, info.preprocessing)
        except PvtError as error:
            raise refused(error) from None
        return images

    def most_images(self, shape: tuple[int, ...], most: int) -> int:
        """Returns how many images of a shape go into a call, of its own size at most ``most``."""
        H, W = self.info.preprocessing.image_size
        own = H * W * self.info.config.in_chans
        return self.file.interface.batch or max(1, min(most, most * own // math.prod(shape)))

    def run(self, images: Array) -> dict[str, Array]:
        """Returns the answers float32 (B, …) of images (B, …) as the graph takes them.

        Raises:
            PvtError: The graph cannot be run.
        """
        engine, interface, info, _ = self.file
        names = output_names(info.config)
        values = [interface.outputs.get(each, each) for each in names]
        size, count = interface.batch or len(images), len(images)
        if count < size:
            images = np.concatenate([images, np.repeat(images[:1], size - count, 0)])
        with reporting(self.name, f"it cannot be run on images {images.shape}"):
            found = engine.run({interface.image: images}, values)
            answers = {
                name: array[:count].astype(np.float32, copy=False)
                for name, array in zip(names, found, strict=True)
            }
        if self.has_classes and PROBABILITIES in (each.name for each in self.outputs):
            with np.errstate(all="ignore"):
                shares = probabilities(answers["logits"], info.task)
            answers[PROBABILITIES] = shares.astype(np.float32)
        return answers

    def warm_up(self, most: int) -> None:
        """Runs the model once on one image, and once on as many as a call may have.

        Raises:
            PvtError: It cannot be run.
        """
        interface, kept = self.file.interface, self.info.preprocessing
        H, W = kept.image_size
        C = self.info.config.in_chans
        shape = (H, W, C) if interface.channels_last else (C, H, W)
        for count in sorted({1, self.most_images(shape, most)}):
            self.run(np.zeros((count, *shape), interface.dtype))


def _outputs(info: ModelInfo) -> list[TensorSpec]:
    config = info.config
    if config.features_only:
        return [
            TensorSpec(name, "FP32", (None, width, None, None))
            for name, width in zip(output_names(config), config.embed_dims, strict=False)
        ]
    width = config.num_classes or config.embed_dims[-1]
    found = [TensorSpec(name, "FP32", (None, width)) for name in output_names(config)]
    if config.num_classes and info.task != "regression":
        found.append(TensorSpec(PROBABILITIES, "FP32", (None, width)))
    return found


def open_served(
    path: Path,
    name: str,
    version: str,
    options: EngineOptions,
    said: Description = Description(),
    most_pixels: int = MAX_REQUEST_PIXELS,
    tell: Tell | None = None,
) -> ServedModel:
    """Opens a model file to be served.

    Args:
        path: The file.
        name: What it is called in a request.
        version: Its version.
        options: Which engine runs it, and how.
        said: What it is, where the file does not say.
        most_pixels: Pixels that an encoded image may have.
        tell: The function that is told what is guessed, and what was changed in the file.

    Raises:
        OnnxFileError: The file cannot be used.
        RuntimeUnusable: The engine cannot do what is asked.
        LibraryMissing: The engine is not installed.
    """
    file = open_file(path, tell, options, None, said)
    info = named(file.info, tell or (lambda _: None))
    return ServedModel(name, version, file, options, info, most_pixels)
