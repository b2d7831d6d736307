"""Images of the page: what was run, and what it was taken for."""

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parity.inputs.samples import Sample, thumbnail
from parity.measure.compare import SHOWN_IMAGES
from parity.result import Result
from pvt_spec import ModelInfo, Preprocessing, PvtError

Classes = Sequence[tuple[int, float]]
"""Index and probability of an image's classes, most probable first."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of an image.

    Attributes:
        sample: The image.
        source: A PNG as a data URI, or nothing.
        problem: Why there is none.
    """

    sample: Sample
    source: str
    problem: str


Answers = list[tuple[str, str, bool]]
"""Classes' names, their probabilities, and whether the reference has another one at this rank."""


@dataclass(frozen=True)
class Image:
    """An image, and what it was taken for.

    Attributes:
        thumbnail: How it looks.
        expected: The reference's classes.
        answers: Each classifying runtime's name, whether its first class is the reference's, and
            its classes.
    """

    thumbnail: Thumbnail
    expected: Answers
    answers: Sequence[tuple[str, bool, Answers]]


def data_uri(png: bytes) -> str:
    """Returns a PNG file as it stands inside the page."""
    return f"data:image/png;base64,{b64encode(png).decode()}"


def shown_images(result: Result, preprocessing: Preprocessing) -> Iterator[Image]:
    """Yields the images that are shown: the first ones."""
    comparisons = [comparison for comparison in result.comparisons if comparison.classifies]
    for index, sample in enumerate(result.samples[:SHOWN_IMAGES]):
        expected = comparisons[0].reference_best[index] if comparisons else []
        answers = []
        for comparison in comparisons:
            ours, theirs = comparison.best[index], comparison.reference_best[index]
            agrees = math.isfinite(ours[0][1]) and ours[0][0] == theirs[0][0]
            answers.append((comparison.name, agrees, _answers(result.info, ours, expected)))
        shown = thumbnail_of(sample, preprocessing)
        yield Image(shown, _answers(result.info, expected, expected), answers)


def thumbnail_of(sample: Sample, preprocessing: Preprocessing) -> Thumbnail:
    """Returns a picture, or why there is none."""
    try:
        return Thumbnail(sample, data_uri(thumbnail(sample, preprocessing)), "")
    except PvtError as error:
        return Thumbnail(sample, "", str(error))


def _answers(info: ModelInfo, classes: Classes, expected: Classes) -> Answers:
    answers = []
    for (index, probability), (theirs, _) in zip(classes, expected, strict=False):
        label = str(info.labels[index]) if index < len(info.labels) else f"class\u00a0{index}"
        share = f"{probability:.2%}" if math.isfinite(probability) else "not finite"
        answers.append((label, share, index != theirs))
    return answers
