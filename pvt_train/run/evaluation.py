"""Accuracy during training: over all workers, each image counted once."""

from dataclasses import dataclass

import numpy as np

from pvt_data.answers.accuracy import Tally, check_answers
from pvt_data.sources.labels import LabelledImages
from pvt_spec import ImageError
from pvt_spec.words import counted, listed
from pvt_train.twin import Twin

SHOWN = 20
"""The most images that are named by an error."""


@dataclass(frozen=True)
class Evaluation:
    """The accuracy over the images of all workers that could be read, and the loss.

    Attributes:
        top1: The share of images whose label came first, in percent.
        top5: The share whose label was among the first five, in percent; None of five classes or
            fewer, where it always is.
        count: The number of images.
        loss: The mean cross-entropy against the label alone, without smoothing.
    """

    top1: float
    top5: float | None
    count: int
    loss: float


def evaluate(
    twin: Twin,
    images: LabelledImages,
    batch_size: int,
    threads: int,
    unreadable: dict[str, str],
    most: int,
) -> Evaluation:
    """Returns the accuracy over images that the workers share out, less what cannot be read.

    Args:
        twin: The twin, which is called with at most ``batch_size`` images at a time.
        images: All of them; each worker takes every ``ranks``-th.
        batch_size: Images per call; the last one may have fewer.
        threads: How many load images while the twin computes.
        unreadable: What is told this worker's images that cannot be read, and why.
        most: How many of all workers' may be.

    Raises:
        ImageError: More images cannot be read, or none can.
        PvtError: An answer is not finite.
    """
    tally, classes = Tally(), 0
    mine = range(twin.rank, len(images.labels), twin.ranks)
    for numbers, loaded in images.batches(mine, batch_size, unreadable, threads):
        logits = twin.forward(loaded)
        classes = logits.shape[1]
        check_answers(logits, [images.name(number) for number in numbers])
        tally += Tally.of(logits, images.labels[numbers])
    sums = np.array(
        [tally.first, tally.among_five, tally.loss, tally.count, len(unreadable)], np.float64
    )
    first, among_five, loss, count, failed = map(float, twin.total(sums))
    if failed > most or not count:
        named = listed([f"{name}: {why}" for name, why in unreadable.items()], SHOWN)
        raise ImageError(
            f"{failed:.0f} of the {counted(len(images.labels), 'validation image')} cannot be "
            f"read; --max-unreadable allows {most}, and not all: {named}"
        )
    top5 = 100 * among_five / count if classes > 5 else None
    return Evaluation(100 * first / count, top5, int(count), loss / count)
