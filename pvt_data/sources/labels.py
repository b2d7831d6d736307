"""Labelled images as a model takes them: its classes, in its order."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from pvt_data.images.ahead import load_ahead
from pvt_data.images.decoding import check_channels
from pvt_data.images.pixels import stacked
from pvt_data.images.preprocessing import load_image
from pvt_data.sources.folders import open_source
from pvt_data.sources.imagenet import imagenet_order
from pvt_data.sources.listing import LeftOut, list_labelled, some
from pvt_data.sources.source import Source
from pvt_spec.arrays import Array
from pvt_spec.errors import ConfigError, ImageError
from pvt_spec.model_info import TASKS, ModelInfo
from pvt_spec.taps import output_names

Tell = Callable[[str], None]

_SHOWN = 10


def check_classes(info: ModelInfo) -> None:
    """Refuses a model that does not answer ``logits``.

    Raises:
        ConfigError: It has no head.
    """
    if not info.config.num_classes:
        raise ConfigError(
            f"the model has no head: it answers {', '.join(output_names(info.config))}, not "
            "classes; take a model with num_classes above 0 (load_forward of pvt_onnx, pvt_torch "
            "and pvt_ms gives the answers of this one, parity run compares them between runtimes)"
        )


@dataclass(frozen=True)
class LabelledImages:
    """Images by number, N of them, and their classes.

    Attributes:
        load: The function that returns an image, float32 (C, H, W), normalised; it raises an
            ImageError if it cannot.
        labels: The images' class indices in the model's own order, int64 (N,).
        name: The function that returns what to call an image in a message.
        sideways: The names of those loaded so far whose EXIF orientation says that they are to be
            turned.
    """

    load: Callable[[int], Array]
    labels: Array
    name: Callable[[int], str] = str
    sideways: set[str] = field(default_factory=set)

    def batches(
        self,
        numbers: Sequence[int],
        size: int,
        unreadable: dict[str, str],
        workers: int | None = None,
    ) -> Generator[tuple[list[int], Array], None, None]:
        """Yields B numbers and their images float32 (B, C, H, W), B at most ``size``.

        The next images are loaded while a batch is used.

        Args:
            numbers: The images' numbers.
            size: Images of a batch.
            unreadable: What is told the name of each image that cannot be used, and why; it is
                left out.
            workers: How many threads load images; see :func:`load_ahead`.
        """
        for batch in load_ahead(self.load, numbers, size, workers):
            images: dict[int, Array] = {}
            for number, image in batch:
                if isinstance(image, ImageError):
                    name = self.name(number)
                    unreadable[name] = str(image).removeprefix(f"{name}: ")
                else:
                    images[number] = image
            if images:
                yield [*images], stacked([*images.values()])


def check_some_readable(count: int, unreadable: Mapping[str, str], where: str) -> None:
    """Refuses images of which none could be read.

    Args:
        count: How many could.
        unreadable: The others, and why.
        where: What to call them all.

    Raises:
        ImageError: None could be.
    """
    if not count:
        name, why = next(iter(unreadable.items()), ("", "there is none"))
        raise ImageError(
            f"{where}: none of its {len(unreadable)} images can be read; the first is {name}: {why}"
        )


def check_single_label(info: ModelInfo) -> None:
    """Refuses a model whose answers are not for one class of several.

    Raises:
        ConfigError: It has no head, or its logits mean something else.
    """
    check_classes(info)
    if info.task != "single_label":
        raise ConfigError(
            f"the model's task is {info.task} ({TASKS[info.task]}), and folders of classes have "
            "the answers of a single_label one: predict gives its answers; if the task is wrong, "
            "state it: convert MODEL DST --task single_label"
        )


def ignore(message: str) -> None:
    """Does nothing with what is said."""


def open_labelled(
    info: ModelInfo, folder: Path, tell: Tell = ignore, orientation: str = "stored"
) -> LabelledImages:
    """Lists the images of a labelled folder, of tar files or of a list; none is read yet.

    Args:
        info: The model's.
        folder: The folder or file; see :func:`pvt_data.sources.folders.open_source`.
        tell: What is told what was left out, and what is guessed of the classes.
        orientation: What is done with a photo's EXIF orientation; ``stored`` is what reported
            accuracies were measured with.

    Raises:
        ConfigError: The model has no classes of which one is right.
        ImageError: The folder cannot be used, or its classes are not the model's.
    """
    source = open_source(folder)
    if source.left_out:
        tell(f"{folder}: {source.left_out}")
    return label_images(info, source, folder, tell, orientation)


def label_images(
    info: ModelInfo, source: Source, where: Path, tell: Tell = ignore, orientation: str = "stored"
) -> LabelledImages:
    """Returns the images of a source as a model takes them; see :func:`open_labelled`.

    Args:
        info: The model's.
        source: The images.
        where: What to call them all.
        tell: What is told what is guessed of the classes.
        orientation: What is done with a photo's EXIF orientation.

    Raises:
        ConfigError: The model has no classes of which one is right.
        ImageError: The classes are not the model's.
    """
    check_single_label(info)
    check_channels(info.config.in_chans)
    preprocessing = info.turned(orientation).preprocessing
    sideways: set[str] = set()

    def load(number: int) -> Array:
        image, name = BytesIO(source.read(number)), source.name(number)
        return load_image(image, preprocessing, name, sideways)

    order = class_order(info, source.classes, where, tell, source.numbered)
    return LabelledImages(load, order[source.labels], source.name, sideways)


def labelled_for(info: ModelInfo, folder: Path, tell: Tell = ignore) -> tuple[list[Path], Array]:
    """Returns the images of a labelled folder and their class indices in the model's own order.

    Classes are matched to the model's labels by name, where it has labels; without, the sorted
    class folders are classes 0, 1, …, if there are as many.

    Raises:
        ImageError: The folder cannot be used, or its classes are not the model's.
    """
    left_out = LeftOut()
    samples, classes = list_labelled(folder, left_out)
    if left_out:
        tell(f"{folder}: {left_out}")
    order = class_order(info, classes, folder, tell)
    return [path for path, _ in samples], order[[index for _, index in samples]]


def class_order(
    info: ModelInfo,
    classes: Sequence[str],
    folder: Path,
    tell: Tell = ignore,
    numbered: bool = False,
) -> Array:
    """Returns the model's index int64 of each of a folder's classes; see :func:`labelled_for`.

    Args:
        info: The model's.
        classes: The folder's classes.
        folder: What to call it.
        tell: What is told what is guessed.
        numbered: Whether the classes are numbers that count the model's own.

    Raises:
        ImageError: The model does not know a class, or cannot tell which one it is.
    """
    count = info.config.num_classes
    by_identifier = None if {*classes} <= {*info.labels} else imagenet_order(info, classes)
    if by_identifier is not None:
        tell(f"{folder}: its classes are called by ImageNet's identifiers and taken in its order")
        return by_identifier
    by_number = numbered and not {*classes} & {*info.labels}
    if numbered and len(classes) > count and classes[-1] not in info.labels:
        raise ImageError(
            f"{folder}: has an image of class {classes[-1]}, the model's are 0 to {count - 1}: "
            "take another model or other images, or count classes from 0"
        )
    if not info.labels or by_number:
        if len(classes) != count and not numbered:
            raise ImageError(
                f"{folder}: has {len(classes)} classes ({some(classes, _SHOWN)}), the model "
                f"{count}, and no names by which to tell which is which: {_name_them('')}; then "
                "it does not matter which of them are there"
            )
        if info.labels:
            tell(f"{folder}: guess: its numbers of classes are those of the model's answers")
        elif not numbered:
            tell(
                f"{folder}: guess: its folders in the order of their names ({some(classes)}) are "
                f"the model's classes 0 to {count - 1}, as the model does not name them"
            )
        return np.arange(len(classes))
    _check_names(info.labels, classes, folder)
    index = {_composed(name): number for number, name in enumerate(info.labels)}
    return np.array([index[_composed(name)] for name in classes], np.int64)


def _composed(name: str) -> str:
    """Returns a name with its accents in its letters: macOS takes them apart in names of files."""
    return unicodedata.normalize("NFC", name)


def _check_names(labels: Sequence[str], classes: Sequence[str], folder: Path) -> None:
    """Refuses a folder whose classes are not some of the model's, each by a name of its own."""
    known = set(map(_composed, labels))
    unknown = sorted(name for name in classes if _composed(name) not in known)
    if unknown:
        wnids = all(re.fullmatch(r"n\d{8}", name) for name in classes)
        numbers = "these are ImageNet's numbers of classes; " if wnids else ""
        raise ImageError(
            f"{folder}: {len(unknown)} of its {len(classes)} classes are none of the model's "
            f"{len(labels)} ({some(labels)}): {some(unknown, _SHOWN)}; {numbers}take these folders "
            f"away, or {_name_them(' as the folders are named')}"
        )
    twice = {name for name, times in Counter(map(_composed, labels)).items() if times > 1}
    if shared := sorted(name for name in classes if _composed(name) in twice):
        raise ImageError(
            f"{folder}: the model has several classes of the name {some(shared, _SHOWN)}, so which "
            f"of them is meant cannot be told: {_name_them(', each with a name of its own')}"
        )


def _name_them(how: str) -> str:
    return (
        f"name the model's classes{how}: convert MODEL DST --labels FILE, a name on each line in "
        "the order of its answers"
    )
