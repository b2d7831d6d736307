"""Labelled images as a model takes them: its classes, in its order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from pvt_data.accuracy import batched
from pvt_data.folders import open_source
from pvt_data.preprocessing import list_labelled, load_image
from pvt_spec.arrays import Array
from pvt_spec.errors import ConfigError, ImageError
from pvt_spec.model_info import ModelInfo
from pvt_spec.taps import output_names


def check_classes(info: ModelInfo) -> None:
    """Refuses a model that does not answer ``logits``.

    Raises:
        ConfigError: It has no head.
    """
    if not info.config.num_classes:
        raise ConfigError(
            f"the model has no head: it answers {', '.join(output_names(info.config))}, not "
            "classes; take a model with num_classes above 0 (load_forward runs this one, "
            "parity run compares it between runtimes)"
        )


@dataclass(frozen=True)
class LabelledImages:
    """Images by number, N of them, and their classes.

    Attributes:
        load: The function that returns an image, float32 (C, H, W), normalised; it raises an
            ImageError if it cannot.
        labels: The images' class indices in the model's own order, int64 (N,).
    """

    load: Callable[[int], Array]
    labels: Array

    def batches(
        self, numbers: Sequence[int], size: int, threads: int = 1
    ) -> Iterator[tuple[Array, Array]]:
        """Yields images float32 (B, C, H, W) and labels int64 (B,), B being ``size`` at most.

        Each batch is loaded while the one before it is used.

        Raises:
            ImageError: An image cannot be used.
        """
        ahead: deque[tuple[Sequence[int], list[Future[Array]]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for chunk in [*batched(numbers, size), []]:
                ahead.append((chunk, [pool.submit(self.load, number) for number in chunk]))
                if len(ahead) > 1:
                    ready, images = ahead.popleft()
                    yield np.stack([image.result() for image in images]), self.labels[list(ready)]


def open_labelled(info: ModelInfo, folder: Path) -> LabelledImages:
    """Lists the images of a labelled folder or of tar files; none is read yet.

    Raises:
        ImageError: The folder cannot be used, or has a class that the model does not know.
    """
    source = open_source(folder)

    def load(number: int) -> Array:
        return load_image(BytesIO(source.read(number)), info.preprocessing, source.name(number))

    return LabelledImages(load, class_order(info, source.classes, folder)[source.labels])


def labelled_for(info: ModelInfo, folder: Path) -> tuple[list[Path], Array]:
    """Returns the images of a labelled folder and their class indices in the model's own order.

    Classes are matched to the model's labels by name, where it has labels; without, the sorted
    class folders are classes 0, 1, ….

    Raises:
        ImageError: The folder cannot be used, or has a class that the model does not know.
    """
    samples, classes = list_labelled(folder)
    order = class_order(info, classes, folder)
    return [path for path, _ in samples], order[[index for _, index in samples]]


def class_order(info: ModelInfo, classes: Sequence[str], folder: Path) -> Array:
    """Returns the model's index int64 of each of a folder's classes; see :func:`labelled_for`.

    Raises:
        ImageError: The model does not know a class.
    """
    known = list(info.labels) or list(classes)
    unknown = [name for name in classes if name not in known]
    if unknown or len(known) > info.config.num_classes:
        raise ImageError(
            f"{folder}: its {len(classes)} classes ({_some(classes)}) do not fit "
            f"a model of {info.config.num_classes} classes"
            + (f" ({_some(info.labels)})" if info.labels else "")
        )
    return np.array([known.index(name) for name in classes], np.int64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
