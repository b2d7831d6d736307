"""Accuracy over labelled images of one model or several, in any runtime."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from pvt_data.answers.accuracy import Opened, Tally, check_answers
from pvt_data.answers.standings import Identity, Standing, StandingsFile, hash_images
from pvt_data.images.ahead import BATCHES, answer_ahead
from pvt_data.images.preprocessing import say_sideways
from pvt_data.sources.folders import open_source
from pvt_data.sources.labels import (
    LabelledImages,
    Tell,
    check_some_readable,
    ignore,
    label_images,
)
from pvt_data.sources.listing import evenly_spaced
from pvt_spec.arrays import Array
from pvt_spec.errors import PvtError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.model_info import Preprocessing, Untouched
from pvt_spec.words import counted


@dataclass(frozen=True)
class Candidate:
    """A model whose accuracy is wanted.

    Attributes:
        name: What to call it.
        opened: What runs it.
        identity: A text that tells it, as it is run, from any other; a :class:`StandingsFile`
            needs it.
    """

    name: str
    opened: Opened
    identity: str = ""


@dataclass(frozen=True)
class Options:
    """How models are validated.

    Attributes:
        batch_size: Images per call, the last of which may hold fewer; None for what suits the
            models.
        orientation: What is done with a photo's EXIF orientation.
        limit: How many images, evenly spaced over all; 0 for all of them.
        workers: How many threads load images; see :func:`pvt_data.images.ahead.load_ahead`.
    """

    batch_size: int | None = None
    orientation: str = "stored"
    limit: int = 0
    workers: int | None = None


@dataclass
class Validation:
    """How far a model has come, and in the end how accurate it is.

    Attributes:
        candidate: The model.
        labelled: The images as it takes them.
        standing: What is counted.
        error: Why it gives no answers, of a model that does not.
    """

    candidate: Candidate
    labelled: LabelledImages = field(repr=False)
    standing: Standing = field(default_factory=Standing)
    error: PvtError | None = None

    def answer(self, batch: "_Batch") -> Standing | PvtError:
        """Returns what counts of a batch, or why the model gives no answers."""
        opened, begun = self.candidate.opened, perf_counter()
        try:
            logits = opened.forward(batch.images)["logits"]
            check_answers(logits, batch.names)
        except PvtError as error:
            return error
        seconds = (perf_counter() - begun) / opened.calls
        tally = Tally.of(logits, self.labelled.labels[batch.numbers])
        return Standing(len(batch.names), tally, model_seconds=seconds)


def validate(
    candidates: Sequence[Candidate],
    data: AnyPath,
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Tell = ignore,
    kept: StandingsFile | None = None,
) -> list[Validation]:
    """Returns the accuracy of models over the same labelled images.

    Images that cannot be read are left out, and named in the result. Each image is loaded once for
    all models of the same preprocessing.

    Args:
        candidates: The models.
        data: ``CLASS/*.png``, tar files or a list; see
            :func:`pvt_data.sources.folders.open_source`.
        options: How it is done.
        progress: The function that is told (images done, images in all) after every batch; an
            image that is loaded twice is two.
        tell: The function that is told what was left out, guessed or not turned.
        kept: The file to go on from, in which is kept how far the models have come.

    Raises:
        ConfigError: A model has no classes of which one is right.
        ImageError: The images, or all of them, cannot be used, or are not of a model's classes.
        PvtError: No model gives answers that are finite.
    """
    path, tell = Path(data), _each_once(tell)
    source = open_source(path)
    if source.left_out:
        tell(f"{path}: {source.left_out}")
    numbers = evenly_spaced(range(len(source)), options.limit or len(source))
    if len(numbers) < len(source):
        tell(f"limit: {len(numbers)} of {counted(len(source), 'image')}, evenly spaced over all")
    runs = [
        Validation(one, label_images(one.opened.info, source, path, tell, options.orientation))
        for one in candidates
    ]

    def images() -> str:
        return f"{hash_images(source, numbers, str(path))} {options.orientation}"

    with _keeping(kept, runs, len(numbers), images, tell) as keep:
        for done, total in _run_all(runs, numbers, options):
            progress(done, total)
            keep()
    if all(run.error for run in runs):
        raise next(run.error for run in runs if run.error)
    for run in runs:
        if not run.error:
            check_some_readable(run.standing.tally.count, run.standing.unreadable, str(path))
            if run.standing.sideways:
                tell(say_sideways(run.standing.sideways, len(numbers), options.orientation))
    return runs


def _each_once(tell: Tell) -> Tell:
    """Returns a function that says what it is told, but nothing twice: of several models, say."""
    said: set[str] = set()

    def once(message: str) -> None:
        if message not in said:
            said.add(message)
            tell(message)

    return once


@contextmanager
def _keeping(
    kept: StandingsFile | None,
    runs: Sequence[Validation],
    count: int,
    images: Callable[[], str],
    tell: Tell,
) -> Iterator[Callable[[], None]]:
    """Has models go on from where a file has them, and keeps in it how far they come.

    Args:
        kept: The file; None for none.
        runs: The models.
        count: How many images there are.
        images: The function that returns what tells them from any others.
        tell: The function that is told which models go on.

    Yields:
        What to call after each batch.
    """
    if not kept:
        yield lambda: None
        return
    named = images()
    of = [Identity(run.candidate.name, run.candidate.identity, named) for run in runs]
    for run, identity in zip(runs, of, strict=True):
        classes = run.candidate.opened.info.config.num_classes
        run.standing = kept.find(identity, classes, count, tell)

    def standings() -> list[tuple[Identity, Standing]]:
        return [(identity, run.standing) for identity, run in zip(of, runs, strict=True)]

    with kept.keeping(standings) as keep:
        yield keep


def _run_all(
    runs: Sequence[Validation], numbers: Sequence[int], options: Options
) -> Iterator[tuple[int, int]]:
    """Yields after each batch how many images are done, of how many in all."""
    groups: dict[tuple[Preprocessing, int], list[Validation]] = {}
    for run in runs:
        if run.standing.done < len(numbers):
            key = run.candidate.opened.info.preprocessing, run.standing.done
            groups.setdefault(key, []).append(run)
    for (_, start), group in groups.items():
        for _ in _run_together(group, numbers[start:], options):
            done = (max(run.standing.done for run in each) for each in groups.values())
            yield sum(done), len(numbers) * len(groups)


class _Batch(NamedTuple):
    """Images as a model takes them, what they are called, and what was to be read before them."""

    numbers: list[int]
    names: list[str]
    images: Array
    unreadable: dict[str, str]


def _load(
    labelled: LabelledImages, numbers: Sequence[int], size: int, workers: int | None
) -> Generator[_Batch, None, None]:
    unreadable: dict[str, str] = {}
    told = 0
    with closing(labelled.batches(numbers, size, unreadable, workers)) as batches:
        # Behind the last batch of which an image could be read may be more.
        for batch, images in chain(batches, [([], np.empty(0))]):
            failed = dict(islice(unreadable.items(), told, None))
            told = len(unreadable)
            if batch or failed:
                yield _Batch(batch, [labelled.name(each) for each in batch], images, failed)


def _run_together(
    group: Sequence[Validation], numbers: Sequence[int], options: Options
) -> Iterator[None]:
    """Yields after each batch; a model that gives no answers is left out from there."""
    labelled = group[0].labelled
    models = [run.candidate.opened for run in group]
    # Images that a model resizes itself are each of a size of its own.
    alone = isinstance(models[0].info.preprocessing, Untouched)
    size = options.batch_size or max(model.batch or BATCHES["validate"] for model in models)
    batches = _load(labelled, numbers, 1 if alone else size, options.workers)

    def answer(batch: _Batch) -> list[Standing | PvtError | None]:
        asked = (not run.error and batch.numbers for run in group)
        return [run.answer(batch) if able else None for run, able in zip(group, asked, strict=True)]

    before = perf_counter()
    with closing(answer_ahead(answer, batches, min(model.calls for model in models))) as answered:
        for batch, answers in answered:
            sideways = len(labelled.sideways.intersection(batch.names))
            now = perf_counter()
            failed = batch.unreadable
            beside = Standing(len(failed), Tally(), failed, sideways, now - before)
            before = now
            for run, found in zip(group, answers, strict=True):
                if isinstance(found, PvtError):
                    run.error = run.error or found
                elif not run.error:
                    run.standing += (found or Standing()) + beside
            if all(run.error for run in group):
                return
            yield
