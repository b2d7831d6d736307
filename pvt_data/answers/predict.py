"""The most probable classes of images, in any runtime."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from pvt_data.answers.accuracy import Opened, check_answers, probabilities, top_k
from pvt_data.images.ahead import BATCHES, answer_ahead, load_ahead
from pvt_data.images.decoding import MAY_RAISE, check_channels
from pvt_data.images.pixels import stacked
from pvt_data.images.preprocessing import prepare, say_sideways
from pvt_data.sources.imagenet import named
from pvt_data.sources.labels import Tell, check_classes, ignore
from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.model_info import TASKS, ModelInfo, Untouched

Picture = AnyPath | bytes | Array | Image.Image
"""A file's path, a file's bytes, uint8 pixels (H, W, C), or an image of Pillow's."""

Record = dict[str, Any]
"""What is answered of an image; see :func:`predict`."""


def predict(
    opened: Opened,
    pictures: Iterable[Picture],
    batch_size: int | None,
    k: int,
    tell: Tell = ignore,
    progress: Callable[[int], None] = lambda done: None,
    workers: int | None = None,
) -> Iterator[Record]:
    """Yields the ``k`` most probable classes of every image, most probable first.

    Images are decoded while those before them are answered; no more than some batches of paths,
    images and records for each call at once are in memory.

    Args:
        opened: The model, whose description says what is done with images and its answers.
        pictures: The images; they are taken as they are needed.
        batch_size: Images per call, the last of which may hold fewer; None for what suits it.
        k: How many classes.
        tell: The function that is told what is done with answers and photos.
        progress: The function that is told how many images are done after every batch.
        workers: Threads that decode; one for each core by default.

    Yields:
        A record for each image, which is called by its path, else by its number, as ``image 0``:
        ``{"image", "classes": [{"index", "label", "probability"}, …]}``,
        probabilities in [0, 1]; of a regression all, by index, with ``"value"`` in
        its place. Of an image that cannot be used ``{"image", "error"}``, which says why.

    Raises:
        ConfigError: The model has no classes.
        ImageError: The model takes images that no file holds.
        PvtError: An answer is not finite.
    """
    info = opened.info
    check_classes(info)
    size = batch_size or opened.batch or BATCHES["predict"]
    if isinstance(info.preprocessing, Untouched):  # each of a size of its own
        size = 1
    check_channels(len(info.preprocessing.mean))
    if info.task != "single_label":
        tell(f"task {info.task}: {TASKS[info.task]}")
    opened = opened._replace(info=named(info, tell))
    return _records(opened, pictures, size, k, tell, progress, workers)


_Batch = list[tuple[Picture, tuple[Array, int] | ImageError]]
"""Images with what they are for a model, and whether they are to be turned, or why they cannot be
used."""


def _records(
    opened: Opened,
    pictures: Iterable[Picture],
    batch_size: int,
    k: int,
    tell: Tell,
    progress: Callable[[int], None],
    workers: int | None,
) -> Iterator[Record]:
    info = opened.info

    def load(picture: Picture) -> tuple[Array, int]:
        sideways: set[str] = set()
        return prepare(picture, info.preprocessing, sideways), len(sideways)

    def answer(batch: _Batch) -> Array:
        images = [loaded[0] for _, loaded in batch if not isinstance(loaded, ImageError)]
        return opened.forward(stacked(images))["logits"] if images else np.empty((0, 1))

    done = sideways = 0
    batches = load_ahead(load, map(_own, pictures), batch_size, workers)
    with closing(answer_ahead(answer, batches, opened.calls)) as answered:
        for batch, logits in answered:
            records = [_begun(n, *loaded) for n, loaded in enumerate(batch, done)]
            sideways += sum(each[1] for _, each in batch if not isinstance(each, ImageError))
            _add_classes([record for record in records if "error" not in record], info, logits, k)
            done += len(batch)
            progress(done)
            yield from records
    if sideways:
        tell(say_sideways(sideways, done, info.preprocessing.orientation))


def _own(picture: Picture) -> Picture:
    """Returns an image as it is now: Pillow's frames are one object, a camera's one array."""
    if isinstance(picture, np.ndarray):
        return picture.copy()
    if not isinstance(picture, Image.Image):
        return picture
    with suppress(*MAY_RAISE):  # whose turn it is when it is prepared
        own = picture.copy()
        own.format = picture.format  # by which it is known whether it was turned
        return own
    return picture


def is_picture(given: object) -> TypeGuard[Picture]:
    """Returns whether something is one image, not several: a column of a table is several."""
    if isinstance(given, np.ndarray):
        return given.ndim != 1 or given.dtype.kind not in "OTU"  # of objects or texts
    return isinstance(given, str | os.PathLike | bytes | Image.Image)


def _begun(number: int, picture: Picture, loaded: object) -> Record:
    """Returns an image's record without its classes."""
    name = str(picture) if isinstance(picture, str | os.PathLike) else f"image {number}"
    if isinstance(loaded, ImageError):
        return {"image": name, "error": str(loaded).removeprefix(f"{name}: ")}
    return {"image": name}


def _add_classes(records: Sequence[Record], info: ModelInfo, logits: Array, k: int) -> None:
    """Adds the most probable classes of images to their records.

    Args:
        records: The B records, which say what each image is called.
        info: What the model's answers mean.
        logits: float32 (B, num_classes).
        k: How many classes.

    Raises:
        PvtError: An answer is not finite.
    """
    if not records:
        return
    check_answers(logits, [record["image"] for record in records])
    key, shares = value_name(info), probabilities(logits, info.task)
    ranked = top_k(logits, k)
    if info.task == "regression":  # each number says something else: none is the first
        ranked = np.indices(logits.shape)[1]
    for record, best, row in zip(records, ranked, shares, strict=True):
        record["classes"] = [
            {"index": int(i), "label": info.label(i), key: float(row[i])} for i in best
        ]


def shown_classes(info: ModelInfo, k: int) -> int:
    """Returns how many classes an image's record has: ``k`` at most, of a regression all."""
    return info.config.num_classes if info.task == "regression" else min(k, info.config.num_classes)


def value_name(info: ModelInfo) -> str:
    """Returns what the numbers of a model's answers are called."""
    return "value" if info.task == "regression" else "probability"
