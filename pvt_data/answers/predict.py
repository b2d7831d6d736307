"""The most probable classes of image files, in any runtime."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unicodedata import combining, east_asian_width

import numpy as np

from pvt_data.answers.accuracy import Forward, batched, check_answers, probabilities, top_k
from pvt_data.images.decoding import check_channels
from pvt_data.images.preprocessing import load_image, say_sideways
from pvt_data.sources.labels import Tell, check_classes, ignore
from pvt_spec.arrays import Array
from pvt_spec.errors import ImageError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.model_info import TASKS, ModelInfo
from pvt_spec.words import printable, shortened

_LONGEST = 200
"""Characters of a class's name that are shown."""


def predict(
    forward: Forward,
    info: ModelInfo,
    paths: Sequence[AnyPath],
    batch_size: int,
    k: int,
    tell: Tell = ignore,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Returns the ``k`` most probable classes of every image, most probable first.

    Args:
        forward: The runtime.
        info: What travels with the weights that it runs: what is done with images, and with its
            answers.
        paths: The images.
        batch_size: Images per call; the last batch may hold fewer.
        k: How many classes.
        tell: The function that is told what is done with answers and photos.
        progress: The function that is told (images done, images in all) after every batch.

    Returns:
        One record per image: ``{"image", "classes": [{"index", "label", "probability"}, …]}``,
        probabilities in [0, 1]; of a regression ``"value"`` in their place. Of an image that
        cannot be used ``{"image", "error"}``, which says why.

    Raises:
        ConfigError: The model has no classes.
        ImageError: The model takes images that no file holds.
        PvtError: An answer is not finite.
    """
    check_classes(info)
    check_channels(len(info.preprocessing.mean))
    if info.task != "single_label":
        tell(f"task {info.task}: {TASKS[info.task]}")
    key = "value" if info.task == "regression" else "probability"
    sideways: set[str] = set()
    rows: list[dict[str, Any]] = []
    for batch in batched(paths, batch_size):
        images: list[Array] = []
        answered: list[dict[str, Any]] = []
        for path in batch:
            rows.append({"image": str(path)})
            try:
                images.append(load_image(Path(path), info.preprocessing, sideways=sideways))
                answered.append(rows[-1])
            except ImageError as error:
                rows[-1]["error"] = str(error).removeprefix(f"{path}: ")
        if images:
            logits = forward(np.stack(images))["logits"]
            check_answers(logits, [row["image"] for row in answered])
            shares = probabilities(logits, info.task)
            for record, best, row in zip(answered, top_k(logits, k), shares, strict=True):
                record["classes"] = [
                    {"index": int(i), "label": info.label(i), key: float(row[i])} for i in best
                ]
        progress(len(rows), len(paths))
    if sideways:
        tell(say_sideways(len(sideways), len(paths), info.preprocessing.orientation))
    return rows


def unreadable(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the images of :func:`predict`'s records that could not be used, and why."""
    return {row["image"]: row["error"] for row in rows if "error" in row}


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields a line for each record of :func:`predict` that has classes, in columns."""
    rows = [row for row in rows if "classes" in row]
    lines = [
        [printable(row["image"]), *(_cell(found["label"]) for found in row["classes"])]
        for row in rows
    ]
    widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
    for row, line in zip(rows, lines, strict=True):
        name, *labels = (
            text + " " * (width - display_width(text))
            for text, width in zip(line, widths, strict=True)
        )
        shares = map(_share, row["classes"])
        cells = (f"{label} {share}" for label, share in zip(labels, shares, strict=True))
        yield "  ".join([name, *cells])


def _cell(label: str) -> str:
    """Returns a class's name, which a file may have said, fit for a terminal."""
    return shortened(printable(label), _LONGEST)


def _share(found: Mapping[str, Any]) -> str:
    return f"{found['value']:9.6g}" if "value" in found else f"{found['probability']:6.2%}"


def display_width(text: str) -> int:
    """Returns the columns that a text takes on a terminal: two for a wide character."""
    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )
