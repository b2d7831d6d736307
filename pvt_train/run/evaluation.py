"""Accuracy during training: over all workers, each image counted once."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pvt_data.accuracy import batched, hits
from pvt_spec.arrays import Array
from pvt_train.twin import Twin


@dataclass(frozen=True)
class Evaluation:
    """What a model's answers to ``count`` images came to.

    Attributes:
        top1: Images whose label came first, in percent.
        top5: Images whose label was among the first five, in percent.
        loss: Mean cross-entropy against the label alone, without smoothing.
        count: Images of all workers.
    """

    top1: float
    top5: float
    loss: float
    count: int


def evaluate(
    twin: Twin, load: Callable[[int], Array], labels: Array, batch_size: int, threads: int
) -> Evaluation:
    """Accuracy over images that the workers share out, weighted by the images each one had.

    Args:
        twin: Called with at most ``batch_size`` images at a time.
        load: An image by number: float32 (C, H, W), normalised.
        labels: int64 (N,): class indices in the model's order; each worker takes every
            ``ranks``-th.
        batch_size: Images per call; the last one may have fewer.
        threads: That load images while the twin computes.

    Raises:
        ImageError: An image cannot be used.
    """
    mine = range(twin.rank, len(labels), twin.ranks)
    sums = np.zeros(4)
    for numbers, images in _batches(mine, load, batch_size, threads):
        sums += _sums(twin.forward(images), labels[list(numbers)])
    hits1, hits5, loss, count = twin.total(sums)
    return Evaluation(
        float(100 * hits1 / count), float(100 * hits5 / count), float(loss / count), int(count)
    )


def _batches(
    numbers: Sequence[int], load: Callable[[int], Array], batch_size: int, threads: int
) -> Iterator[tuple[Sequence[int], Array]]:
    """Batches in order, the next one being loaded while one is used."""
    ahead: deque[tuple[Sequence[int], list[Future[Array]]]] = deque()
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for chunk in batched(numbers, batch_size):
            ahead.append((chunk, [pool.submit(load, number) for number in chunk]))
            if len(ahead) > 1:
                yield _loaded(*ahead.popleft())
        while ahead:
            yield _loaded(*ahead.popleft())


def _loaded(numbers: Sequence[int], images: list["Future[Array]"]) -> tuple[Sequence[int], Array]:
    return numbers, np.stack([image.result() for image in images])


def _sums(logits: Array, labels: Array) -> Array:
    """Hits among the first and the first five, the sum of the losses, and the images."""
    first, among_five = hits(logits, labels)
    wide = logits.astype(np.float64)
    largest = wide.max(axis=1)
    log_sum = largest + np.log(np.exp(wide - largest[:, None]).sum(axis=1))
    losses = log_sum - wide[np.arange(len(labels)), labels]
    return np.array([first.sum(), among_five.sum(), losses.sum(), len(labels)])
