"""The same images through every runtime, against PyTorch in float64.

One pass per runtime with all taps out, a batch at a time: memory does not grow with the images.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from convert.model.read import Model
from parity.bundles.bundle import Bundle
from parity.errors import ParityError
from parity.inputs.samples import Inputs, load_batch
from parity.judge import Judge, QueuedBatch
from parity.measure.compare import Comparison
from parity.measure.structure import structure_differences
from parity.measure.tolerance import find_tolerance
from parity.result import Result
from parity.runtimes.table import Runner, is_graph, open_runner
from parity.selection import Terms, check_same_layers, wanted_taps
from pvt_spec import ModelInfo, Preprocessing, output_names
from pvt_spec.arrays import Array
from pvt_spec.hashes import hash_weights
from pvt_spec.kernels import find_kernels
from pvt_spec.runtime import Taps, Task

EMULATED = "emulated-"
"""The start of the name of a runtime that is the reference in an emulated precision."""


@dataclass(frozen=True)
class Contestant:
    """A file in a runtime, and what is known of it so far.

    Attributes:
        taps: Its forward pass.
        preprocessing: What makes its images.
        comparison: What was found.
        emulation: What measures the unit that it is judged in; None where nothing does.
    """

    taps: Callable[[Array], Taps]
    preprocessing: Preprocessing
    comparison: Comparison
    emulation: str | None


@dataclass(frozen=True)
class Contest:
    """Files in runtimes, being opened.

    Attributes:
        models: The models, by file; the first is the reference.
        inputs: What all are given.
        terms: How they are compared.
        judge: Where the reference runs.
    """

    models: Mapping[Path, Model]
    inputs: Inputs
    terms: Terms
    judge: Judge

    @property
    def first_path(self) -> Path:
        """The reference's file."""
        return next(iter(self.models))

    @property
    def first(self) -> ModelInfo:
        """What travels with the reference's weights."""
        return self.models[self.first_path].info

    def enter(self, path: Path, runtime: str) -> Contestant:
        """Opens one file in one runtime.

        Raises:
            PvtError: It cannot be.
        """
        if runtime.startswith(EMULATED):
            precision = runtime.removeprefix(EMULATED)
            facts = {"precision": precision, "device": "CPU", "framework": "torch, emulating"}
            runner = Runner(runtime, "torch", self.judge.emulate(precision), {}, {}, facts)
            return self._contestant(path, runner, precision, self.judge.names)
        model, names = self.models[path], self.judge.names
        runner = open_runner(runtime, Task(model, path, names, self.inputs.image_size))
        model.check_unchanged()
        precision = self.terms.precision or runner.facts["precision"]
        shown = names if runner.names is None else runner.names
        return self._contestant(path, runner, precision, shown, model.info)

    def enter_bundle(self, bundle: Bundle) -> Contestant:
        """Takes what a bundle recorded for a runtime's answers.

        Raises:
            ParityError: It is of a model of other layers, or has none of the taps.
        """
        record = bundle.record
        names = [name for name in self.judge.names if name in record.names]
        if not names:
            raise ParityError(
                f"{bundle.path}: has none of the taps that are compared: it has {bundle.shown}"
            )
        if record.info:
            config = record.info.config
            check_same_layers(config, str(bundle.path), self.first.config, str(self.first_path))
        taps = bundle.in_order(names)
        inside = record.attributes, record.hashes, record.facts, record.steps
        runner = Runner(record.runtime, record.kind, taps, *inside)
        precision = self.terms.precision or record.precision
        return self._contestant(bundle.path, runner, precision, names, record.info)

    def _contestant(
        self,
        path: Path,
        runner: Runner,
        precision: str,
        names: Sequence[str],
        info: ModelInfo | None = None,
    ) -> Contestant:
        """Returns what ran; without ``info`` nothing is known of it, or nothing could differ."""
        first, fixed = self.first, self.terms.fixed
        weights, differences = self.models[self.first_path].weights, []
        if info:
            hashes = hash_weights(weights, runner.hashes)
            differences = structure_differences(first, hashes, info, runner, weights)
        wanted = () if runner.names is None else self.judge.names
        kernels = find_kernels(runner.kind, runner.facts.get("device", ""))
        emulation = None if fixed else find_tolerance(precision).emulation(kernels)
        only = len(self.models) == 1 and path == self.first_path
        comparison = Comparison(
            name=runner.runtime if only else f"{runner.runtime} {path.name}",
            runtime=runner.runtime,
            file=str(path),
            precision=precision,
            names=tuple(names),
            answers=tuple(n for n in output_names(first.config) if n in names),
            missing=tuple(n for n in wanted if n not in names),
            differences=differences,
            facts=runner.facts,
            envelope=self.judge.envelope(emulation) if emulation else None,
            fixed=fixed,
            task=first.task,
            kernels=kernels,
            checked={
                "weights": len(runner.hashes) + len(runner.coarse),
                "attributes": len(runner.attributes),
            },
        )
        preprocessing = self.inputs.resized((info or first).preprocessing)
        return Contestant(runner.taps, preprocessing, comparison, emulation)

    def run_batch(
        self, contestants: Sequence[Contestant], batch: QueuedBatch
    ) -> "list[Future[None]]":
        """Runs a batch in every runtime, and returns what the judge still has to do of it."""
        given = {self.inputs.resized(self.first.preprocessing): batch.images}
        emulations = sorted({each.emulation for each in contestants if each.emulation})
        queued = [self.judge.measure(emulations, batch)]
        for contestant in contestants:
            preprocessing, comparison = contestant.preprocessing, contestant.comparison
            if preprocessing not in given:
                given[preprocessing] = load_batch(batch.samples, preprocessing)
            start = time.perf_counter()
            actual = contestant.taps(given[preprocessing])
            comparison.seconds += time.perf_counter() - start
            queued.append(self.judge.add(comparison, batch, actual))
        return queued


def run(
    pairs: Sequence[tuple[Path, str]],
    models: Mapping[Path, Model],
    inputs: Inputs,
    terms: Terms = Terms(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    bundles: Sequence[Bundle] = (),
) -> Result:
    """Compares files in runtimes, and bundles, with the first file in float64.

    Args:
        pairs: What :func:`parity.selection.pair_up` returns; ``emulated-PRECISION`` is a runtime
            too.
        models: What :func:`parity.selection.read_models` returns.
        inputs: What to run.
        terms: How to compare.
        progress: What is told (images done, images in all) after every batch.
        bundles: What was recorded elsewhere, of the same samples.

    Raises:
        PvtError: A file, an image or a runtime cannot be used.
    """
    started = time.perf_counter()
    path, first = next(iter(models.items()))
    preprocessing = inputs.resized(first.info.preprocessing)
    with Judge(first, wanted_taps(first.info.config, terms.detail)) as judge:
        contest = Contest(models, inputs, terms, judge)
        batches = (
            judge.expect(samples, load_batch(samples, preprocessing))
            for samples in inputs.batches()
        )
        # A graph may be for other images than its file says: that is known before any is computed.
        graphs = {pair: contest.enter(*pair) for pair in pairs if is_graph(pair[1])}
        # The reference computes while frameworks are imported and graphs compiled.
        ahead = next(batches)
        contestants = [graphs.get(pair) or contest.enter(*pair) for pair in pairs]
        contestants += [contest.enter_bundle(bundle) for bundle in bundles]
        queued: list[Future[None]] = []
        done = 0
        for batch in chain([ahead], batches):
            waiting, queued = queued, contest.run_batch(contestants, batch)
            _wait(waiting)
            done += len(batch.samples)
            progress(done, len(inputs.samples))
        _wait(queued)
    return Result(
        info=first.info.turned(inputs.orientation),
        reference=str(path),
        computed_in="PyTorch, float64",
        image_size=inputs.image_size,
        samples=inputs.samples,
        comparisons=[contestant.comparison for contestant in contestants],
        seconds={"total": time.perf_counter() - started, "judge": judge.seconds},
        certificate=first.certificate,
    )


def _wait(queued: "Sequence[Future[None]]") -> None:
    """Waits until all is done, and raises what went wrong."""
    for future in queued:
        future.result()
