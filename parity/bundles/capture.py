"""Bundles made and compared: the hand-off between machines that do not have the same runtimes.

Comparing needs no framework.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.model.read import Model
from parity.bundles.bundle import Bundle, write_bundle
from parity.bundles.record import REFERENCE, Record
from parity.errors import ParityError
from parity.inputs.samples import Inputs, Sample, load_batch
from parity.judge import Judge
from parity.measure.compare import Comparison
from parity.measure.structure import structure_differences
from parity.measure.tolerance import find_tolerance
from parity.result import Result
from parity.runtimes.table import Runner, machine_facts, open_runner
from parity.selection import Terms, check_same_layers
from pvt_spec import ModelInfo, output_names, tap_names, tap_specs
from pvt_spec.arrays import Array
from pvt_spec.hashes import can_compare, hash_weights
from pvt_spec.kernels import STRICTEST, find_kernels
from pvt_spec.precisions import INT8, PRECISIONS
from pvt_spec.runtime import Taps, Task

Progress = Callable[[int, int], None]
"""A function that is told (images done, images in all) after every batch."""


@dataclass(frozen=True)
class Shot:
    """What is to be captured.

    Attributes:
        path: The model's file.
        model: What is in it.
        names: Taps, in forward order.
        inputs: What it is given.
        runtime: One of :data:`parity.runtimes.table.RUNTIMES`, or
            :data:`parity.bundles.record.REFERENCE`: float64, and rounding measured, by which others
            can be judged without torch.
        precisions: The precisions that a reference measures rounding for; all that can be if empty.
    """

    path: Path
    model: Model
    names: Sequence[str]
    inputs: Inputs
    runtime: str
    precisions: Sequence[str] = ()

    @property
    def task(self) -> Task:
        """What a runtime is to open."""
        return Task(self.model, self.path, self.names, self.inputs.image_size)


def capture(
    shot: Shot,
    stream: BinaryIO,
    keep_inputs: bool = True,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes a bundle of what a model answers in one runtime.

    Args:
        shot: What to run.
        stream: A new file.
        keep_inputs: Whether the inputs are kept, or only their hashes.
        progress: What is told (images done, images in all) after every batch.

    Raises:
        PvtError: The model, an image or the runtime cannot be used, or a precision is not known.
    """
    inputs, info = shot.inputs, shot.model.info
    precisions = [find_tolerance(name) for name in shot.precisions or PRECISIONS]
    emulations = sorted({name for row in precisions for name in row.emulations})
    exactly = shot.runtime == REFERENCE
    with Judge(shot.model, shot.names) if exactly else nullcontext() as judge:
        runner = _open_reference(judge, shot) if judge else open_runner(shot.runtime, shot.task)
        shot.model.check_unchanged()

        def answers() -> Iterator[tuple[Sequence[Sample], Array, Taps]]:
            done = 0
            for samples in inputs.batches():
                images = load_batch(samples, inputs.resized(info.preprocessing))
                if judge:
                    batch = judge.expect(samples, images)
                    judge.measure(emulations, batch).result()
                    yield samples, images, batch.expected.result()
                else:
                    yield samples, images, runner.taps(images)
                done += len(samples)
                progress(done, len(inputs.samples))

        names = [*(shot.names if runner.names is None else runner.names)]
        record = Record(
            runtime=shot.runtime,
            file=shot.path.name,
            kind=runner.kind,
            info=info,
            image_size=inputs.image_size,
            attributes=runner.attributes,
            steps={n: float(s) for n, s in runner.steps.items() if n in runner.attributes},
            hashes=runner.hashes,
            facts=runner.facts,
            envelopes=judge.envelopes if judge else {},  # which fill while it runs
            names=tuple(names),
            inputs_kept=keep_inputs,
        )
        write_bundle(stream, record, answers())


def _open_reference(judge: Judge, shot: Shot) -> Runner:
    from pvt_torch.attributes import read_attributes

    reference = judge.reference
    weights, facts = shot.model.weights, reference.facts | machine_facts()
    # float64 holds weights as they are, and their dtype is theirs.
    kept = {f"{name}.dtype": array.dtype.name for name, array in weights.items()}
    found = read_attributes(reference.model)
    attributes = {name: kept.get(name, value) for name, value in found.items()}
    hashes = hash_weights(weights)
    return Runner(REFERENCE, "torch", reference.taps, attributes, hashes, facts)


def compare_bundles(
    first: Bundle,
    others: Sequence[Bundle],
    terms: Terms = Terms(),
    progress: Progress = lambda done, total: None,
) -> Result:
    """Compares bundles with one of them: a reference if there is one, else the first.

    Without a reference rounding is not measured but taken from the table of
    :mod:`pvt_spec.precisions`, which is coarser.

    Raises:
        ParityError: They cannot be compared: other layers, other inputs, no common taps.
    """
    started = time.perf_counter()
    bundles = [first, *others]
    judging = next((b for b in bundles if b.record.runtime == REFERENCE), first)
    judged = [bundle for bundle in bundles if bundle is not judging]
    ours = judging.record
    if ours.info is None:
        raise ParityError(
            f"{judging.path}: plain arrays say nothing of their model, so they cannot judge "
            "others: name the other bundle first, or give parity check the model's file"
        )
    for bundle in judged:
        _check_comparable(judging, bundle, ours.info)
    comparisons = [_compare(judging, bundle, ours.info, terms) for bundle in judged]
    done = 0
    for size in ours.batches:
        groups = [seen.group for seen in ours.seen[done : done + size]]
        expected = judging.rows(ours.names, done, size)
        _check_shapes(judging, expected, ours.info)
        exact = {name: array.astype(np.float64) for name, array in expected.items()}
        for bundle, comparison in zip(judged, comparisons, strict=True):
            comparison.add(groups, bundle.rows(comparison.names, done, size), exact)
        done += size
        progress(done, len(ours.seen))
    exactly = ours.runtime == REFERENCE
    return Result(
        info=ours.info,
        reference=str(judging.path),
        computed_in="PyTorch, float64 (a bundle)"
        if exactly
        else f"{ours.runtime}, {ours.precision} (a bundle; no reference in float64)",
        image_size=ours.image_size,
        samples=judging.samples(),
        comparisons=comparisons,
        seconds={"total": time.perf_counter() - started},
    )


def _check_comparable(judging: Bundle, bundle: Bundle, info: ModelInfo) -> None:
    """Refuses a bundle of other inputs, of a model of other layers, or without a common tap."""
    ours, theirs = judging.record, bundle.record
    if theirs.info:
        check_same_layers(theirs.info.config, str(bundle.path), info.config, str(judging.path))
    same = sum(a.hash == b.hash for a, b in zip(ours.seen, theirs.seen, strict=False))
    if same != max(len(ours.seen), len(theirs.seen)):
        counts = [f"{len(r.seen)} of {'{}x{}'.format(*r.image_size)}" for r in (theirs, ours)]
        raise ParityError(
            f"{bundle.path} and {judging.path} are of different inputs, so there is nothing to "
            f"compare: {counts[0]} and {counts[1]} pixels, {same} alike; capture one with --images "
            "set to the other"
        )
    if not {*ours.names} & {*theirs.names} & {*tap_names(info.config)}:
        raise ParityError(
            f"{bundle.path} and {judging.path} have no taps of their model in common: "
            f"{bundle.shown}; {judging.shown}"
        )


def _check_shapes(judging: Bundle, expected: Taps, info: ModelInfo) -> None:
    """Refuses arrays that no tap of the model is, which others cannot be judged by."""
    for tap in tap_specs(info.config):
        shape = expected[tap.name].shape if tap.name in expected else None
        classes = tap.layer != "logits" or (shape and shape[-1] == info.config.num_classes)
        if shape and (len(shape) != tap.rank or 0 in shape or not classes):
            raise ParityError(
                f"{judging.path}: {tap.name} is {shape}, which is none of its model's: it is "
                "damaged; make it again with parity capture"
            )


def _compare(judging: Bundle, bundle: Bundle, info: ModelInfo, terms: Terms) -> Comparison:
    ours, theirs = judging.record, bundle.record
    classes = [terms.precision] if terms.precision else [theirs.precision, ours.precision]
    # Two runs that both round are as far apart as the coarser of them allows.
    chosen = max(map(find_tolerance, classes), key=lambda tolerance: tolerance.relative)
    kernels = find_kernels(theirs.kind, theirs.facts.get("device", ""))
    emulation = None if terms.fixed else chosen.emulation(kernels)
    if emulation not in ours.envelopes:  # made before kernels were told apart
        emulation = None if terms.fixed else chosen.emulation(STRICTEST)
    if emulation == INT8 and ours.envelopes and INT8 not in ours.envelopes:
        emulation = None  # made before it was measured
    names = [name for name in tap_names(info.config) if name in {*ours.names} & {*theirs.names}]
    if ours.runtime == REFERENCE and emulation and emulation not in ours.envelopes:
        raise ParityError(
            f"{judging.path}: rounding in {chosen.name} was not measured when it was made (only "
            f"{', '.join(ours.envelopes)}): make it again with --precision {chosen.name}, or judge "
            "by --atol and --rtol"
        )
    return Comparison(
        name=f"{theirs.runtime} {bundle.path.name}",
        runtime=theirs.runtime,
        file=str(bundle.path),
        precision=chosen.name,
        names=tuple(names),
        answers=tuple(n for n in output_names(info.config) if n in names),
        differences=(
            structure_differences(info, ours.hashes, theirs.info, theirs) if theirs.info else []
        ),
        facts=theirs.facts,
        envelope=ours.envelopes.get(emulation) if emulation else None,
        fixed=terms.fixed,
        kernels=kernels,
        task=info.task,
        against="float64" if ours.runtime == REFERENCE else judging.path.name,
        checked={
            "weights": len(theirs.hashes) if can_compare(ours.hashes, theirs.hashes) else 0,
            "attributes": len(theirs.attributes),
        },
    )
