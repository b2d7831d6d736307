"""Answers and accuracy of any runtime over image files: one loop for all of them.

A runtime is a function from images to everything that the model answers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pvt_data.folders import open_source
from pvt_data.preprocessing import list_labelled, load_encoded, load_image
from pvt_spec.arrays import Array
from pvt_spec.errors import ConfigError, ImageError
from pvt_spec.model_info import ModelInfo, Preprocessing
from pvt_spec.taps import output_names

Forward = Callable[[Array], dict[str, Array]]
"""float32 (B, C, H, W), normalised, to float32 arrays under :func:`pvt_spec.output_names`."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Accuracy:
    """How many of ``count`` images had their label first, or among the first five, in percent."""

    top1: float
    top5: float
    count: int


def batched(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Consecutive slices of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def load_batch(paths: Sequence[Path], preprocessing: Preprocessing) -> Array:
    """Image files as one float32 array (B, C, H, W)."""
    return np.stack([load_image(path, preprocessing) for path in paths])


def softmax(logits: Array) -> Array:
    """Probabilities float64 (B, num_classes) of logits of the same shape."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def top_k(logits: Array, k: int) -> Array:
    """Class indices int64 (B, k) of the largest logits, largest first, ties by lower index."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]


def require_classes(info: ModelInfo) -> None:
    """Holds if the model answers ``logits``.

    Raises:
        ConfigError: It has no head.
    """
    if not info.config.num_classes:
        raise ConfigError(
            f"the model has no head: it answers {', '.join(output_names(info.config))}, not "
            "classes; take a model with num_classes above 0 (load_forward runs this one, "
            "parity run compares it between runtimes)"
        )


def predict(
    forward: Forward, info: ModelInfo, paths: Sequence[Path], batch_size: int, k: int
) -> list[dict[str, Any]]:
    """The ``k`` most probable classes of every image, most probable first.

    Returns:
        One record per image: ``{"image", "classes": [{"index", "label", "probability"}, …]}``,
        probabilities in [0, 1].

    Raises:
        ConfigError: The model has no classes.
        ImageError: An image cannot be used.
    """
    require_classes(info)
    rows = []
    for batch in batched(paths, batch_size):
        logits = forward(load_batch(batch, info.preprocessing))["logits"]
        probabilities = softmax(logits)
        for path, best, row in zip(batch, top_k(logits, k), probabilities, strict=True):
            classes = [
                {"index": int(i), "label": info.label(i), "probability": float(row[i])}
                for i in best
            ]
            rows.append({"image": str(path), "classes": classes})
    return rows


def accuracy(logits: Array, labels: Array) -> Accuracy:
    """Top-1 and top-5 of logits (B, num_classes) against labels (B,)."""
    first, among_five = hits(logits, labels)
    return Accuracy(100 * first.mean(), 100 * among_five.mean(), len(labels))


def hits(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Whether each label came first, and whether among the first five: bool (B,) each.

    Args:
        logits: float32 (B, num_classes).
        labels: int64 (B,).
    """
    found = top_k(logits, 5) == labels[:, None]
    return found[:, 0], found.any(axis=1)


def labelled_for(info: ModelInfo, folder: Path) -> tuple[list[Path], Array]:
    """The images of a labelled folder and their class indices in the model's own order.

    Classes are matched to the model's labels by name, where it has labels; without, the sorted
    class folders are classes 0, 1, ….

    Raises:
        ImageError: The folder cannot be used, or has a class that the model does not know.
    """
    samples, classes = list_labelled(folder)
    order = class_order(info, classes, folder)
    return [path for path, _ in samples], order[[index for _, index in samples]]


def class_order(info: ModelInfo, classes: Sequence[str], folder: Path) -> Array:
    """The model's index int64 of each of a folder's classes; see :func:`labelled_for`.

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


class LabelledImages:
    """The images of a labelled folder or of tar files, as a model takes them.

    Attributes:
        labels: int64 (N,): their class indices in the model's own order.
    """

    def __init__(self, info: ModelInfo, folder: Path):
        """Lists them; none is read yet.

        Raises:
            ImageError: The folder cannot be used, or has a class that the model does not know.
        """
        self._source, self._preprocessing = open_source(folder), info.preprocessing
        order = class_order(info, self._source.classes, folder)
        self.labels: Array = order[self._source.labels]

    def load(self, number: int) -> Array:
        """An image: float32 (C, H, W), normalised.

        Raises:
            ImageError: It cannot be used.
        """
        source = self._source
        return load_encoded(source.read(number), source.name(number), self._preprocessing)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def validate(
    forward: Forward,
    info: ModelInfo,
    folder: Path,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Accuracy:
    """Top-1 and top-5 of a runtime over a labelled folder.

    Args:
        forward: The runtime.
        info: Of the model it runs.
        folder: ``CLASS/*.png``, or tar files; see :func:`pvt_data.folders.open_source`.
        batch_size: Images per call; the last batch may hold fewer.
        progress: Told (images done, images in all) after every batch.

    Raises:
        ConfigError: The model has no classes.
        ImageError: The folder or an image in it cannot be used.
    """
    require_classes(info)
    images = LabelledImages(info, folder)
    count = len(images.labels)
    answers: list[Array] = []
    for batch in batched(range(count), batch_size):
        answers.append(forward(np.stack([images.load(number) for number in batch]))["logits"])
        progress(sum(map(len, answers)), count)
    return accuracy(np.concatenate(answers), images.labels)
