"""The same images through every runtime, against PyTorch in float64.

One pass per runtime with all taps out, a batch at a time: memory does not grow with the images.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from convert.model.read import Model
from parity.bundles.bundle import Bundle
from parity.errors import ParityError
from parity.inputs.samples import Sample, labels_of, load_batch
from parity.judge import Judge
from parity.measure.compare import Comparison
from parity.measure.envelope import Taps
from parity.measure.structure import Difference, hash_weights, structure_differences
from parity.measure.tolerance import FixedTolerance, find_tolerance
from parity.runtimes.table import Runner, open_runner
from parity.selection import require_same_layers, wanted_taps
from pvt_data.accuracy import batched
from pvt_spec import ModelInfo, Preprocessing, output_names
from pvt_spec.arrays import Array
from pvt_spec.runtime import Task

EMULATED = "emulated-"
"""What the name of a runtime starts with that is the reference in an emulated precision."""


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        detail: Which taps are compared; see :func:`parity.selection.wanted_taps`.
        precision: The tolerance class; None for that of what ran.
        fixed: What the user allows instead.
        image_size: (H, W) in place of the model's own.
        batch_size: Images per forward pass.
    """

    detail: str = "all"
    precision: str | None = None
    fixed: FixedTolerance | None = None
    image_size: tuple[int, int] | None = None
    batch_size: int = 4


@dataclass
class Result:
    """What a run found.

    Attributes:
        info: Of the reference's model.
        reference: Its file.
        computed_in: What the reference ran in, in words.
        image_size: (H, W) in pixels of the inputs.
        samples: What was run, in order.
        comparisons: One per file and runtime.
        seconds: Of everything, and of the judge's own thread.
    """

    info: ModelInfo
    reference: str
    computed_in: str
    image_size: tuple[int, int]
    samples: Sequence[Sample]
    comparisons: list[Comparison]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether every runtime computes the reference's function."""
        return all(comparison.same for comparison in self.comparisons)


@dataclass(frozen=True)
class Contestant:
    """A file in a runtime, and what is known of it so far."""

    taps: Callable[[Array], Taps]
    preprocessing: Preprocessing
    comparison: Comparison


class Contest:
    """Files in runtimes, being opened.

    Args:
        models: The first file's is the reference.
        options: How to compare.
        judge: Where the reference runs.
    """

    def __init__(self, models: Mapping[Path, Model], options: Options, judge: Judge):
        self.models = models
        self.options = options
        self.judge = judge
        self.first_path, self.first = next(iter(models.items()))
        self.only = self.first_path if len(models) == 1 else None
        self.hashes = hash_weights(self.first.weights)

    def preprocessing(self, path: Path) -> Preprocessing:
        """Of one file, at the size that all are run at."""
        size = self.options.image_size or self.first.info.preprocessing.image_size
        return dataclasses.replace(self.models[path].info.preprocessing, image_size=size)

    def enter(self, path: Path, runtime: str) -> Contestant:
        """Opens one file in one runtime.

        Raises:
            PvtError: It cannot be.
        """
        preprocessing = self.preprocessing(path)
        if runtime.startswith(EMULATED):
            precision = runtime.removeprefix(EMULATED)
            facts = {"precision": precision, "device": "CPU", "framework": "torch, emulating"}
            runner = Runner(runtime, "torch", self.judge.emulate(precision), {}, {}, facts)
            return Contestant(
                runner.taps, preprocessing, self._compare(path, runner, precision, [])
            )
        model = self.models[path]
        task = Task(model, path, self.judge.names, preprocessing.image_size)
        runner = open_runner(runtime, task)
        precision = self.options.precision or runner.facts["precision"]
        differences = structure_differences(self.first.info, self.hashes, model.info, runner)
        comparison = self._compare(path, runner, precision, differences)
        return Contestant(runner.taps, preprocessing, comparison)

    def enter_bundle(self, bundle: Bundle) -> Contestant:
        """Takes what a bundle recorded for a runtime's answers.

        Raises:
            ParityError: It is of a model of other layers, or has none of the taps.
        """
        record, info = bundle.record, self.first.info
        names = [name for name in self.judge.names if name in record.names]
        if not names:
            raise ParityError(
                f"{bundle.path}: has none of the taps that are compared: it has "
                f"{', '.join(record.names[:5])}"
            )
        differences: list[Difference] = []
        preprocessing = self.preprocessing(self.first_path)
        if record.info:
            require_same_layers(
                record.info.config, str(bundle.path), info.config, str(self.first_path)
            )
            differences = structure_differences(info, self.hashes, record.info, record)
            preprocessing = dataclasses.replace(
                record.info.preprocessing, image_size=preprocessing.image_size
            )
        runner = Runner(
            runtime=record.runtime,
            kind=record.kind,
            taps=bundle.in_order(names),
            attributes=record.attributes,
            hashes=record.hashes,
            facts=record.facts,
        )
        precision = self.options.precision or record.precision
        comparison = self._compare(bundle.path, runner, precision, differences, names)
        return Contestant(runner.taps, preprocessing, comparison)

    def _compare(
        self,
        path: Path,
        runner: Runner,
        precision: str,
        differences: list[Difference],
        names: Sequence[str] | None = None,
    ) -> Comparison:
        emulation = None if self.options.fixed else find_tolerance(precision).emulation
        names = self.judge.names if names is None else names
        return Comparison(
            name=runner.runtime if path == self.only else f"{runner.runtime} {path.name}",
            runtime=runner.runtime,
            file=str(path),
            precision=precision,
            names=tuple(names),
            answers=tuple(n for n in output_names(self.first.info.config) if n in names),
            differences=differences,
            facts=runner.facts,
            envelope=self.judge.envelope(emulation) if emulation else None,
            fixed=self.options.fixed,
            checked={"weights": len(runner.hashes), "attributes": len(runner.attributes)},
        )


def run(
    pairs: Sequence[tuple[Path, str]],
    models: Mapping[Path, Model],
    samples: Sequence[Sample],
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    bundles: Sequence[Bundle] = (),
) -> Result:
    """Files in runtimes, and bundles, against the first file in float64.

    Args:
        pairs: From :func:`parity.selection.pair_up`; ``emulated-PRECISION`` is a runtime too.
        models: From :func:`parity.selection.read_models`.
        samples: What to run; those of one group stand together.
        options: How to compare.
        bundles: What was recorded elsewhere, of the same samples.
        progress: Told (images done, images in all) after every batch.

    Raises:
        PvtError: A file, an image or a runtime cannot be used.
    """
    started = time.perf_counter()
    first_path, first = next(iter(models.items()))
    names = wanted_taps(first.info.config, options.detail)
    with Judge(first, names) as judge:
        contest = Contest(models, options, judge)
        inputs = contest.preprocessing(first_path)
        batches = list(batched(samples, options.batch_size))
        # The reference computes while frameworks are imported and graphs compiled.
        ahead = load_batch(batches[0], inputs)
        expected = judge.expect(ahead)
        contestants = [contest.enter(path, runtime) for path, runtime in pairs]
        contestants += [contest.enter_bundle(bundle) for bundle in bundles]
        queued: list[Future[None]] = []
        for done, batch in enumerate(batches):
            images = ahead if not done else load_batch(batch, inputs)
            expected = expected if not done else judge.expect(images)
            given = {inputs: images}
            waiting, queued = queued, _run_batch(judge, contestants, batch, given, expected)
            _wait(waiting)
            progress(min((done + 1) * options.batch_size, len(samples)), len(samples))
        _wait(queued)
    seconds = {"total": time.perf_counter() - started, "judge": judge.seconds}
    comparisons = [contestant.comparison for contestant in contestants]
    return Result(
        info=first.info,
        reference=str(first_path),
        computed_in="PyTorch, float64",
        image_size=inputs.image_size,
        samples=samples,
        comparisons=comparisons,
        seconds=seconds,
    )


def _run_batch(
    judge: Judge,
    contestants: Sequence[Contestant],
    batch: Sequence[Sample],
    given: dict[Preprocessing, Array],
    expected: "Future[Taps]",
) -> "list[Future[None]]":
    """One batch through every runtime; what the judge still has to do of it.

    ``given`` has what the reference is given, and collects what other preprocessing makes.
    """
    groups = [sample.group for sample in batch]
    labels = labels_of(batch)
    emulations = {
        find_tolerance(c.comparison.precision).emulation
        for c in contestants
        if c.comparison.envelope is not None
    }
    images = next(iter(given.values()))
    queued = [judge.measure(sorted(filter(None, emulations)), groups, images, expected)]
    for contestant in contestants:
        if contestant.preprocessing not in given:
            given[contestant.preprocessing] = load_batch(batch, contestant.preprocessing)
        start = time.perf_counter()
        actual = contestant.taps(given[contestant.preprocessing])
        contestant.comparison.seconds += time.perf_counter() - start
        queued.append(judge.add(contestant.comparison, groups, actual, expected, labels))
    return queued


def _wait(queued: "Sequence[Future[None]]") -> None:
    """Until all is done; raises what went wrong."""
    for future in queued:
        future.result()
