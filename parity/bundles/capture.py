"""Bundles made and compared: the hand-off between machines that do not have the same runtimes.

Comparing needs no framework.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.model.read import Model
from parity.bundles.bundle import Bundle, BundleWriter
from parity.bundles.record import REFERENCE, Record
from parity.errors import ParityError
from parity.inputs.samples import Sample, load_batch
from parity.judge import Judge
from parity.measure.compare import Comparison
from parity.measure.structure import hash_weights, structure_differences
from parity.measure.tolerance import FixedTolerance, find_tolerance
from parity.run import Result
from parity.runtimes.table import machine_facts, open_runner
from parity.selection import require_same_layers
from pvt_data.accuracy import batched
from pvt_spec import ModelInfo, Preprocessing, output_names, tap_names
from pvt_spec.precisions import PRECISIONS
from pvt_spec.runtime import Task


@dataclass(frozen=True)
class Shot:
    """What is to be captured.

    Attributes:
        path: The model's file.
        model: What is in it.
        names: Taps, in forward order.
        samples: Inputs, in order.
        image_size: (H, W) in pixels.
        batch_size: Images per forward pass.
    """

    path: Path
    model: Model
    names: Sequence[str]
    samples: Sequence[Sample]
    image_size: tuple[int, int]
    batch_size: int

    @property
    def preprocessing(self) -> Preprocessing:
        """The model's own, at the size that is run."""
        return dataclasses.replace(self.model.info.preprocessing, image_size=self.image_size)


def capture(
    shot: Shot,
    runtime: str,
    stream: BinaryIO,
    keep_inputs: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes a bundle of what one runtime answers.

    Args:
        shot: What to run.
        runtime: One of :data:`parity.runtimes.table.RUNTIMES`.
        stream: A new file.
        keep_inputs: Whether the inputs are kept, or only their hashes.
        progress: Told (images done, images in all) after every batch.

    Raises:
        PvtError: The model, an image or the runtime cannot be used.
    """
    runner = open_runner(runtime, Task(shot.model, shot.path, shot.names, shot.image_size))
    with BundleWriter(stream, keep_inputs) as writer:
        for batch in batched(shot.samples, shot.batch_size):
            images = load_batch(batch, shot.preprocessing)
            writer.add(batch, images, runner.taps(images))
            progress(len(writer.seen), len(shot.samples))
        writer.finish(
            runtime=runtime,
            file=shot.path.name,
            kind=runner.kind,
            info=shot.model.info,
            image_size=shot.image_size,
            attributes=runner.attributes,
            hashes=runner.hashes,
            facts=runner.facts,
        )


def capture_reference(
    shot: Shot,
    precisions: Sequence[str],
    stream: BinaryIO,
    keep_inputs: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes a bundle that others can be judged by without torch: float64, and rounding measured.

    Args:
        shot: What to run.
        precisions: Tolerance classes to measure rounding for; all that can be if empty.
        stream: A new file.
        keep_inputs: Whether the inputs are kept, or only their hashes.
        progress: Told (images done, images in all) after every batch.

    Raises:
        PvtError: The model or an image cannot be used, or a precision is not known.
    """
    from pvt_torch.attributes import read_attributes

    wanted = [find_tolerance(name).emulation for name in precisions or PRECISIONS]
    emulations = sorted({name for name in wanted if name})
    with BundleWriter(stream, keep_inputs) as writer, Judge(shot.model, shot.names) as judge:
        for batch in batched(shot.samples, shot.batch_size):
            images = load_batch(batch, shot.preprocessing)
            expected = judge.expect(images)
            judge.measure(emulations, [s.group for s in batch], images, expected).result()
            writer.add(batch, images, expected.result())
            progress(len(writer.seen), len(shot.samples))
        writer.finish(
            runtime=REFERENCE,
            file=shot.path.name,
            kind="torch",
            info=shot.model.info,
            image_size=shot.image_size,
            attributes=read_attributes(judge.reference.model),
            hashes=hash_weights(shot.model.weights),  # which float64 holds as they are
            facts=judge.reference.facts | machine_facts(),
            envelopes=judge.envelopes,
        )


def compare_bundles(
    first: Bundle,
    others: Sequence[Bundle],
    precision: str | None = None,
    fixed: FixedTolerance | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Bundles against one of them: a reference if there is one among them, else the first.

    Without a reference rounding is not measured but taken from the table of
    :mod:`parity.measure.tolerance`, which is coarser.

    Raises:
        ParityError: They cannot be compared: other layers, other inputs, no common taps.
    """
    started = time.perf_counter()
    bundles = [first, *others]
    judging = next((b for b in bundles if b.record.runtime == REFERENCE), first)
    judged = [bundle for bundle in bundles if bundle is not judging]
    info = judging.record.info
    if info is None:
        raise ParityError(
            f"{judging.path}: plain arrays say nothing of their model, so they cannot judge "
            "others: name the other bundle first, or give parity check the model's file"
        )
    for bundle in judged:
        _require_comparable(judging, bundle, info)
    comparisons = [_compare(judging, bundle, info, precision, fixed) for bundle in judged]
    total, done = len(judging.record.seen), 0
    for size in judging.record.batches:
        groups = [seen.group for seen in judging.record.seen[done : done + size]]
        expected = judging.rows(judging.record.names, done, size)
        exact = {name: array.astype(np.float64) for name, array in expected.items()}
        for bundle, comparison in zip(judged, comparisons, strict=True):
            comparison.add(groups, bundle.rows(comparison.names, done, size), exact)
        done += size
        progress(done, total)
    return Result(
        info=info,
        reference=str(judging.path),
        computed_in=_computed_in(judging.record),
        image_size=judging.record.image_size,
        samples=judging.samples(),
        comparisons=comparisons,
        seconds={"total": time.perf_counter() - started},
    )


def _computed_in(record: Record) -> str:
    if record.runtime == REFERENCE:
        return "PyTorch, float64 (a bundle)"
    return f"{record.runtime}, {record.precision} (a bundle; no reference in float64)"


def _require_comparable(judging: Bundle, bundle: Bundle, info: ModelInfo) -> None:
    """Holds if two bundles are of the same inputs, and of models of the same layers."""
    ours, theirs = judging.record, bundle.record
    if theirs.info:
        require_same_layers(theirs.info.config, str(bundle.path), info.config, str(judging.path))
    pairs = [(a.hash, b.hash) for a, b in zip(ours.seen, theirs.seen, strict=False)]
    same = sum(a == b for a, b in pairs)
    if same != max(len(ours.seen), len(theirs.seen)):
        raise ParityError(
            f"{bundle.path} and {judging.path} are of different inputs, so there is nothing to "
            f"compare: {len(theirs.seen)} of {_pixels(theirs)} and {len(ours.seen)} of "
            f"{_pixels(ours)} pixels, {same} alike; capture one with --images set to the other"
        )
    if not set(ours.names) & set(theirs.names):
        raise ParityError(
            f"{bundle.path} and {judging.path} have no taps in common: {', '.join(theirs.names)}; "
            f"{', '.join(ours.names)}"
        )


def _pixels(record: Record) -> str:
    return f"{record.image_size[0]}x{record.image_size[1]}"


def _compare(
    judging: Bundle,
    bundle: Bundle,
    info: ModelInfo,
    precision: str | None,
    fixed: FixedTolerance | None,
) -> Comparison:
    ours, theirs = judging.record, bundle.record
    classes = [precision] if precision else [theirs.precision, ours.precision]
    # Two runs that both round are as far apart as the coarser of them allows.
    chosen = max(classes, key=lambda name: find_tolerance(name).relative)
    emulation = find_tolerance(chosen).emulation
    names = [name for name in tap_names(info.config) if name in {*ours.names} & {*theirs.names}]
    if ours.runtime == REFERENCE and emulation and emulation not in ours.envelopes and not fixed:
        raise ParityError(
            f"{judging.path}: rounding in {chosen} was not measured when it was made (only "
            f"{', '.join(ours.envelopes)}): make it again with --precision {chosen}, or judge by "
            "--atol and --rtol"
        )
    return Comparison(
        name=f"{theirs.runtime} {bundle.path.name}",
        runtime=theirs.runtime,
        file=str(bundle.path),
        precision=chosen,
        names=tuple(names),
        answers=tuple(n for n in output_names(info.config) if n in names),
        differences=(
            structure_differences(info, ours.hashes, theirs.info, theirs) if theirs.info else []
        ),
        facts=theirs.facts,
        envelope=ours.envelopes.get(emulation) if emulation and not fixed else None,
        fixed=fixed,
        against="float64" if ours.runtime == REFERENCE else judging.path.name,
        checked={"weights": len(theirs.hashes), "attributes": len(theirs.attributes)},
    )
