"""The reference, and what rounding does to it: what every runtime is judged by.

Works in a thread of its own beside the runtimes, so that it costs little where there is more than
one core.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from convert.model.read import Model
from parity.inputs.samples import Sample, labels_of
from parity.measure.compare import Comparison, cut_rows, group_rows
from parity.measure.envelope import Envelope, emulated_runs
from pvt_spec.arrays import Array
from pvt_spec.runtime import Taps

MEASURED = 256
"""Images of a group after which its unit is no longer measured: more would not change it, and each
costs several forward passes."""


@dataclass(frozen=True)
class QueuedBatch:
    """Inputs that go through every runtime at a time, and are queued for the reference.

    Attributes:
        samples: What they are.
        images: What the reference is given, float32 (B, C, H, W).
        expected: What will be the reference's taps of them, float64.
    """

    samples: Sequence[Sample]
    images: Array
    expected: "Future[Taps]"

    @property
    def groups(self) -> list[str]:
        """What each input is judged with."""
        return [sample.group for sample in self.samples]


class Judge:
    """The reference in float64 and the units of rounding, over batches.

    Everything is queued and done in order, so that the comparisons need no locks; a batch is let
    go when all that was queued for it is done.

    Args:
        model: The one whose weights and maths are right.
        names: The taps that are looked at.

    Attributes:
        envelopes: Emulation -> what rounding does.
        seconds: The time spent in the thread.
    """

    def __init__(self, model: Model, names: Sequence[str]):
        # Threads of torch that wait by spinning take the cores from the runtime that is judged; of
        # a busy machine they take most. Read when torch is imported, so it is set before.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self.envelopes: dict[str, Envelope] = {}
        self.seconds = 0.0
        self.names = names
        self._measured = Counter[str]()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._models = self._submit(self._open, model)

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        def timed() -> Any:
            start = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                self.seconds += time.perf_counter() - start

        return self._pool.submit(timed)

    def _open(self, model: Model) -> tuple[Any, Any]:
        """Returns the reference, and the model that emulations run; torch is imported here."""
        from parity.runtimes.table import broken_import

        try:
            from pvt_torch.emulation import float32_twin
            from pvt_torch.reference import open_reference
        except Exception as error:
            if problem := broken_import("torch", error):
                raise problem from error
            raise
        reference = open_reference(model, self.names)
        model.check_unchanged()
        return reference, float32_twin(reference.model)

    @property
    def reference(self) -> Any:
        """The :class:`pvt_torch.reference.Reference`, once it is there."""
        return self._models.result()[0]

    def expect(self, samples: Sequence[Sample], images: Array) -> QueuedBatch:
        """Queues what the reference answers to a batch."""
        return QueuedBatch(samples, images, self._submit(lambda: self.reference.taps(images)))

    def measure(self, emulations: Iterable[str], batch: QueuedBatch) -> "Future[None]":
        """Queues what rounding does to a batch, by each of some emulations."""
        groups = batch.groups

        def measured() -> None:
            if all(self._measured[group] >= MEASURED for group in groups):
                return
            self._measured.update(groups)
            twin, reference = self._models.result()[1], batch.expected.result()
            for emulation in emulations:
                for actual in emulated_runs(twin, batch.images, emulation):
                    for group, rows in group_rows(groups):
                        ours, theirs = cut_rows(actual, rows), cut_rows(reference, rows)
                        self.envelope(emulation).add(group, ours, theirs)

        return self._submit(measured)

    def envelope(self, emulation: str) -> Envelope:
        """Returns what an emulation has done so far."""
        return self.envelopes.setdefault(emulation, Envelope(self.names))

    def add(self, comparison: Comparison, batch: QueuedBatch, actual: Taps) -> "Future[None]":
        """Queues the taking in of what a runtime answered to a batch."""
        labels = labels_of(batch.samples)
        return self._submit(
            lambda: comparison.add(batch.groups, actual, batch.expected.result(), labels)
        )

    def emulate(self, precision: str) -> Callable[[Array], Taps]:
        """Returns a forward pass in an emulated precision, in torch's own order of summation.

        It runs in the judge's thread too, which records the taps of the same model.
        """
        from pvt_torch.emulation import emulated_taps, find_rounding

        found, twin = find_rounding(precision), self._models.result()[1]

        def run(images: Array) -> Taps:
            taps: Taps = self._submit(emulated_taps, twin, images, found).result()
            return taps

        return run
