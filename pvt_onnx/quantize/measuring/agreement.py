"""What a quantised model keeps of the float one's answers, and how much quicker it is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pvt_data.answers.accuracy import check_answers, hits, wilson_interval
from pvt_data.benchmark.turns import time_calls
from pvt_onnx.quantize.measuring.samples import Samples
from pvt_spec.arrays import Array

Answer = Callable[[Array], Array]
"""From images float32 (B, C, H, W), normalised, to the model's answers: (B, classes), or others."""

BATCH = 8
"""Images that are answered at a time."""

_ROUNDS, _SECONDS = 15, 0.05


@dataclass(frozen=True)
class Share:
    """How many of some images are so, with the interval that 95 % of such samples' would be in.

    Attributes:
        hits: How many are.
        count: Of how many.
    """

    hits: int
    count: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of it."""
        return wilson_interval(self.hits, self.count)

    def to_dict(self) -> dict[str, object]:
        """Returns what a program would read."""
        return {"share": self.value, "interval": [*self.interval], "images": self.count}

    def __str__(self) -> str:
        low, high = self.interval
        percent = f"{100 * self.value:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
        return f"{percent} of {self.count} images"


@dataclass(frozen=True)
class Agreement:
    """How the answers of a quantised model compare with the float model's.

    Attributes:
        classes: The images on which the same class comes first; None of models without classes.
        float_top1: Those on which the float model is right; None without labels.
        top1: Those on which the quantised model is.
        error: The root mean square of the answers' differences, over that of the float answers.
    """

    classes: Share | None
    float_top1: Share | None
    top1: Share | None
    error: float

    @property
    def drop(self) -> float:
        """The points of Top-1 that are lost; below 0 where some are won."""
        if not (self.float_top1 and self.top1):
            raise ValueError("there are no labels")
        return 100 * (self.float_top1.value - self.top1.value)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yields (what, its value in words)."""
        if self.classes:
            yield "agreement", str(self.classes)
        if self.top1 and self.float_top1:
            yield "Top-1", str(self.top1)
            yield "Top-1 in float", str(self.float_top1)
        yield "answers", f"off by {self.error:.2%} of their root mean square"

    def to_dict(self) -> dict[str, object]:
        """Returns what a program would read."""
        shares = (("agreement", self.classes), ("top1", self.top1), ("float_top1", self.float_top1))
        found: dict[str, object] = {key: share.to_dict() for key, share in shares if share}
        return found | {"relative_error": self.error}


@dataclass(frozen=True)
class Answers:
    """The float model's answers for some images, to compare with.

    Attributes:
        samples: The images.
        logits: The answers, (N, …).
        labels: The images' classes, int64 (N,); -1 where they are not known.
        single: Whether of the classes one comes first.
    """

    samples: Samples
    logits: Array
    labels: Array
    single: bool

    def compare(self, answer: Answer, progress: Callable[[int, int], None]) -> Agreement:
        """Returns how a model's answers compare with these; see :func:`answer_all`."""
        found = answer_all(answer, self.samples, progress)[0]
        exact = self.logits
        scale = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64)))) or 1.0
        error = float(np.sqrt(np.mean(np.square(found - exact, dtype=np.float64)))) / scale
        if not self.single:
            return Agreement(None, None, None, error)
        count = len(self.labels)
        same = int((found.argmax(axis=1) == exact.argmax(axis=1)).sum())
        tops = [
            Share(int(hits(logits, self.labels)[0].sum()), count) if self.samples.labelled else None
            for logits in (exact, found)
        ]
        return Agreement(Share(same, count), tops[0], tops[1], error)


def answer_all(
    answer: Answer, samples: Samples, progress: Callable[[int, int], None]
) -> tuple[Array, Array]:
    """Returns a model's answers for all images that can be read, and their labels.

    Args:
        answer: The model.
        samples: The images.
        progress: What is told (images done, images in all).

    Raises:
        PvtError: An answer is not finite.
    """
    answers, labels, done = [], [], 0
    for images, classes in samples.batches(BATCH):
        found = answer(images)
        check_answers(found.reshape(len(found), -1), [samples.where] * len(found))
        answers.append(found)
        labels.append(classes)
        done += len(classes)
        progress(done, len(samples.numbers))
    return np.concatenate(answers), np.concatenate(labels)


@dataclass(frozen=True)
class Latency:
    """What one image takes in both models, measured in turn.

    Attributes:
        before: Seconds of each round in the float model.
        after: Seconds of each round in the quantised one, right after that.
        threads: How many threads ran each.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    threads: str

    @property
    def ratio(self) -> float:
        """How many times quicker the quantised one is: the median of the rounds' ratios."""
        return float(np.median(np.divide(self.before, self.after)))

    def to_dict(self) -> dict[str, object]:
        """Returns what a program would read."""
        return {
            "before_seconds": float(np.median(self.before)),
            "after_seconds": float(np.median(self.after)),
            "ratio": self.ratio,
            "rounds": len(self.before),
            "threads": self.threads,
        }

    def __str__(self) -> str:
        before, after = (1000 * np.median(times) for times in (self.before, self.after))
        return (
            f"{before:.2f} ms before, {after:.2f} ms after, medians of {len(self.before)} rounds "
            f"in turn; within a round {self.ratio:.2f} times as quick (one image, {self.threads} "
            "threads)"
        )


def measure_latency(models: Sequence[Answer], image: Array, threads: str) -> Latency:
    """Returns what one image takes in two models.

    Args:
        models: The float model and the quantised one.
        image: float32 (1, C, H, W).
        threads: How many threads run each.
    """
    for model in models:
        for _ in range(3):
            model(image)
    calls = [partial(model, image) for model in models]
    rounds = [
        [float(np.median(time_calls(call, _SECONDS))) for call in calls] for _ in range(_ROUNDS)
    ]
    before, after = (tuple(times) for times in zip(*rounds, strict=True))
    return Latency(before, after, threads)
