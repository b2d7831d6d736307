"""Single faults, each in one runtime, and whether ``parity run`` sees them with its defaults.

    python -m benchmarks.mutations [--model v1] [--runtime torch] [--json FILE]

Models of ``tests`` (v1, v2, linear v2) are run in PyTorch, MindSpore and onnxruntime with every
fault of ``benchmarks.faults`` and ``benchmarks.layer_faults``. Whether one is *caught* is what
``parity run`` answers, and *first tap* is right where it names that at which the fault begins:
found in float64 for faults of weights and maths, by the runtime's own answers with and without it
for the others. What changes no answer is no fault and not counted. *By outputs* leaves out what
structure shows (weights by hash, attributes), so that a runtime is judged whose insides cannot be
seen. *Same bits* are faults that float32 hides in that runtime altogether.
"""

import argparse
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime

from benchmarks.faults import Fault, numerics_faults, preprocessing_faults, tensor_faults
from benchmarks.layer_faults import layer_faults, nearest_positions
from benchmarks.models import SMALL, random_weights, write_model
from benchmarks.processes import add_json_option, report
from convert.model.read import Model
from parity import run as parity
from parity.inputs.samples import Inputs, default_samples, load_batch
from parity.measure.compare import Comparison
from parity.measure.structure import INPUT
from parity.runtimes.table import DEFAULT_RUNTIMES, RUNTIMES
from parity.selection import read_models
from pvt_data.answers.accuracy import batched
from pvt_onnx.engines.runtime import load_graph
from pvt_spec import ModelInfo, profile_numerics, tap_names, tensor_specs
from pvt_spec.runtime import OpenModel, Task
from pvt_torch.reference import open_reference

Taps = Mapping[str, np.ndarray]

MODELS: dict[str, tuple[str, str, tuple[int, int]]] = {
    "v1": ("v1", "mindcv", (64, 64)),
    "v2": ("v2", "mindcv", (64, 64)),
    "linear": ("linear", "mindcv", (64, 64)),
    "v1 at 72x90": ("v1", "official", (72, 90)),
}
"""Kind, profile and size of images. At the last one position embeddings are resized, strides do
not divide the image, and position embeddings have more digits than float16."""

AT_ONCE = 60
"""Faulty runtimes that are open at a time."""

BEGINS = 1e-4
"""The share of a tap's largest value that a fault found in float32 moves it by where it begins.

Rounding moves it by less, those faults by much more."""


@dataclass
class Case:
    """A fault in a runtime.

    Attributes:
        fault: What is wrong.
        runtime: Where.
        begins: The first tap that it changes; None as long as it changes none.
        silent: Whether the runtime answers as without it, bit for bit.
        comparison: What ``parity run`` found.
    """

    fault: Fault
    runtime: str
    begins: str | None = None
    silent: bool = True
    comparison: Comparison | None = None


class Bench:
    """One model, its images, and what every runtime answers without a fault."""

    def __init__(self, name: str, folder: Path):
        kind, profile, self.size = MODELS[name]
        config = SMALL[kind]
        kept = profile_numerics(profile, config.version).pos_embed_dtype
        self.folder, self.path = folder, folder / "model.pth"
        write_model(self.path, config, profile, random_weights(config, kept))
        self.model = read_models([self.path])[self.path]
        given = self.model.info.preprocessing
        self.preprocessing = dataclasses.replace(given, image_size=self.size)
        self.inputs = Inputs(default_samples(self.preprocessing), self.size)
        self.names = tuple(tap_names(config))
        self.batches = [load_batch(batch, self.preprocessing) for batch in self.inputs.batches()]
        self.clean: dict[str, list[Taps]] = {}
        exact = open_reference(self.model, self.names).taps
        self.float64 = [exact(images) for images in self.batches]

    def task(self, model: Model) -> Task:
        """Returns what a runtime is to open."""
        return Task(model, self.path, self.names, self.size)

    def clean_taps(self, runtime: str, batch: int) -> Taps:
        """Returns what a runtime answers without a fault."""
        if runtime not in self.clean:
            taps = RUNTIMES[runtime].open(self.task(self.model)).taps
            self.clean[runtime] = [taps(images) for images in self.batches]
        return self.clean[runtime][batch]

    def float64_begins(self, fault: Fault) -> str | None:
        """Returns the first tap that a fault of weights or maths changes, in float64."""
        assert fault.edit
        right, wrong = self.float64, open_reference(fault.edit(self.model), self.names)
        found = [
            begins(taps, wrong.taps(images), 1e-12)
            for taps, images in zip(right, self.batches, strict=True)
        ]
        return self.first(found)

    def first(self, taps: Iterable[str | None]) -> str | None:
        """Returns the first of some taps in forward order."""
        return min(filter(None, taps), key=self.names.index, default=None)

    def open_faulty(self, case: Case, task: Task) -> OpenModel:
        """Returns a model with a fault in it, which keeps in ``case`` what the fault did."""
        model = faulty_model(case, task, self.folder)
        pixels, number = case.fault.pixels, iter(range(len(self.batches)))

        def taps(images: np.ndarray) -> Taps:
            batch = next(number)
            if pixels:
                part = self.inputs.batches()[batch]
                images = np.stack([pixels(s.load.args[0], self.preprocessing) for s in part])
            wrong, right = model.taps(images), self.clean_taps(case.runtime, batch)
            case.silent &= begins(right, wrong, 0.0) is None
            if not case.fault.edit:
                case.begins = self.first([case.begins, begins(right, wrong, BEGINS)])
            return wrong

        return dataclasses.replace(model, taps=taps)

    def run(self, cases: Sequence[Case]) -> None:
        """Puts into every case what ``parity run`` finds."""
        faulty: dict[str, FaultyRuntime] = {}
        models, pairs = {self.path: self.model}, []
        for number, case in enumerate(cases):
            path, name = Path(f"{number}.pth"), f"faulty {number}"
            models[path] = case.fault.file(self.model) if case.fault.file else self.model
            pairs.append((path, name))
            faulty[name] = FaultyRuntime(name, case, self)
        with patch.dict(RUNTIMES, faulty):
            result = parity.run(pairs, models, self.inputs)
        for case, comparison in zip(cases, result.comparisons, strict=True):
            case.comparison = comparison
            if case.fault.file and case.begins:
                case.begins = INPUT


@dataclass(frozen=True)
class FaultyRuntime:
    """A runtime with a fault in it."""

    name: str
    case: Case
    bench: Bench
    library = "numpy"

    @property
    def kind(self) -> str:
        """What the objects of the runtime itself are."""
        return RUNTIMES[self.case.runtime].kind

    def obstacle(self) -> None:
        """Returns None: nothing is in its way."""

    def open(self, task: Task) -> OpenModel:
        """Opens a model with the fault in it."""
        return self.bench.open_faulty(self.case, task)


def begins(right: Taps, wrong: Taps, share: float) -> str | None:
    """Returns the first tap that is off by more than a share of its largest value."""
    for name, expected in right.items():
        found = wrong[name]
        if found.shape != expected.shape:
            return name
        if not np.abs(found - expected).max() <= share * np.abs(expected).max():
            return name
    return None


def faulty_model(case: Case, task: Task, folder: Path) -> OpenModel:
    """Returns a model in the runtime of a case, with its fault."""
    fault, runtime = case.fault, RUNTIMES[case.runtime]
    if fault.edit:
        task = dataclasses.replace(task, model=fault.edit(task.model))
    if case.runtime == "onnxruntime" and fault.graph:
        proto = load_graph(task)
        fault.graph(proto.graph)
        onnx.save(proto, folder / "faulty.onnx")
        return runtime.open(dataclasses.replace(task, path=folder / "faulty.onnx"))
    model = runtime.open(task)
    return with_faulty_layers(model, runtime.kind, fault) if fault.layers else model


def with_faulty_layers(model: OpenModel, kind: str, fault: Fault) -> OpenModel:
    """Returns a model of PyTorch or MindSpore, which is changed while it is open and read again."""
    assert fault.layers
    twin = model.taps.args[0]  # type: ignore[attr-defined]
    fault.layers(twin)
    package = {"torch": "pvt_torch", "mindspore": "pvt_ms"}[kind]
    read_attributes = import_module(f"{package}.attributes").read_attributes
    get_weights = import_module(f"{package}.weights").get_weights
    return dataclasses.replace(model, attributes=read_attributes(twin), weights=get_weights(twin))


def all_faults(info: ModelInfo, image_size: tuple[int, int]) -> Iterator[Fault]:
    """Yields all faults that a model can have; of its maths alone at another size than its own."""
    yield from numerics_faults(info)
    if image_size != info.config.image_size:
        yield nearest_positions()
        return
    for spec in tensor_specs(info.config):
        yield from tensor_faults(spec)
    yield from layer_faults(info)
    yield from preprocessing_faults()


def real_faults(bench: Bench) -> Iterator[tuple[Fault, str | None]]:
    """Yields faults that change an answer, each once, with the tap where it begins if known."""
    found = set()
    for fault in all_faults(bench.model.info, bench.size):
        if (fault.kind, fault.subject) not in found:
            tap = bench.float64_begins(fault) if fault.edit else None
            if tap or not fault.edit:
                found.add((fault.kind, fault.subject))
                yield fault, tap


def cases_of(name: str, runtimes: Sequence[str]) -> list[Case]:
    """Runs every fault of a model in every runtime."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, Path(folder))
        cases = [
            Case(fault, runtime, tap) for fault, tap in real_faults(bench) for runtime in runtimes
        ]
        for part in batched(cases, AT_ONCE):
            bench.run(part)
    if idle := {(case.fault.kind, case.runtime) for case in cases if not case.begins}:
        raise RuntimeError(f"{name}: faults that change no answer and so are none: {idle}")
    return cases


def figures(case: Case) -> dict[str, int]:
    """Returns what is counted of one case."""
    comparison = case.comparison
    assert comparison
    first = comparison.names[0] if case.begins == INPUT else case.begins
    return {
        "faults": 1,
        "caught": not comparison.same,
        "first tap": comparison.first_different == case.begins,
        "by outputs": comparison.first_out_of_bounds is not None,
        "its first tap": comparison.first_out_of_bounds == first,
        "same bits": case.silent,
    }


def rows(cases: Mapping[str, Sequence[Case]]) -> list[dict[str, Any]]:
    """Returns a row for every kind of fault, every model, every runtime, and all."""
    sums: dict[str, Counter[str]] = {}
    for model, found in cases.items():
        for case in found:
            for row in (case.fault.kind, f"model {model}", f"in {case.runtime}", "all"):
                sums.setdefault(row, Counter()).update(figures(case))
    order = sorted(sums, key=lambda row: (row == "all", row.startswith(("model ", "in "))))
    return [{"fault": row, **sums[row]} for row in order]


def mistakes(cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """Returns a line for everything that was missed or misnamed."""
    return [
        f"{model}, {case.runtime}, {case.fault.kind}, {case.fault.subject}: "
        f"{'missed' if case.comparison.same else 'named'} {case.comparison.first_different}, "
        f"it begins at {case.begins}"
        for model, found in cases.items()
        for case in found
        if case.comparison and (case.comparison.first_different != case.begins)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*MODELS], action="append")
    parser.add_argument("--runtime", choices=DEFAULT_RUNTIMES, action="append")
    add_json_option(parser)
    options = parser.parse_args()
    # Of the constants that a faulty graph no longer needs onnxruntime warns.
    onnxruntime.set_default_logger_severity(3)
    runtimes = options.runtime or DEFAULT_RUNTIMES
    cases = {name: cases_of(name, runtimes) for name in options.model or MODELS}
    report(rows(cases), options.json)
    print(*mistakes(cases), sep="\n")


if __name__ == "__main__":
    main()
