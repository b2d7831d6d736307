"""``pvt-onnx quantize SRC DST``, from the float file to the quantised one and what it is worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from pvt_data.images.pixels import normalise
from pvt_data.progress import Show
from pvt_data.sources.labels import Tell
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.tapped import open_tapped, serialize
from pvt_onnx.graph.build import hash_graph
from pvt_onnx.quantize.keeping import Attempt, keep_enough, shortfall
from pvt_onnx.quantize.measuring.agreement import (
    Agreement,
    Answers,
    Latency,
    answer_all,
    measure_latency,
)
from pvt_onnx.quantize.measuring.ranking import Cost, TapError, rank_modules, tap_errors
from pvt_onnx.quantize.options import QuantizeOptions
from pvt_onnx.quantize.preparing import (
    Images,
    Prepared,
    Used,
    asked_for,
    is_single,
    open_images,
    prepare,
)
from pvt_onnx.quantize.report import Report
from pvt_onnx.quantize.source import Source, layers_of, read_source
from pvt_onnx.reading.files import read_metadata
from pvt_onnx.reading.precision import Quantization
from pvt_spec import METADATA_KEY, ConfigError, output_names
from pvt_spec.arrays import Array
from pvt_spec.errors import PvtError
from pvt_spec.files.replacing import check_folder, check_target, replacing
from pvt_spec.hashes import GRAPH_KEY, QUANTIZATION_KEY
from pvt_spec.words import counted


class QuantizeError(PvtError):
    """A model that, quantised, does not keep what it has to."""


def quantize(
    source: Path,
    target: Path,
    options: QuantizeOptions,
    images: Images,
    *,
    latency: bool,
    force: bool,
    tell: Tell,
    show: Show,
) -> Report:
    """Writes a quantised model, whole or not at all.

    Args:
        source: An ``.onnx`` file of floats that ``convert`` wrote.
        target: The file to write.
        options: How, and what has to be kept.
        images: The folders of images.
        latency: Whether what one image takes is measured.
        force: Whether the target may exist.
        tell: What is told what was guessed, left out and chosen.
        show: What is told how far the work is.

    Returns:
        What came of it.

    Raises:
        QuantizeError: It does not keep what it has to.
        ConfigError: The options contradict each other, or the model.
        OnnxFileError: The source is no float model of ours.
        ImageError: A folder cannot be used.
        FileExists: The target is there, and ``force`` is not given.
    """
    check_target(target, force)
    check_folder(target)
    if target.suffix.lower() != ".onnx":
        raise ConfigError(f"{target}: expected a name that ends in .onnx")
    options.check(images.data is not None)
    model = read_source(source, tell)
    used = open_images(model, options, images, tell)
    engine = EngineOptions(threads=options.threads)
    asked = asked_for(options.keep, layers_of(model))
    start = prepare(model, used, options, engine, tell, show)
    work = _Work(model, start, used, options, engine, asked, show)
    best = work.search()
    if problem := shortfall(best.agreement, options):
        raise QuantizeError(
            f"{source}: quantised with {counted(len(best.kept), 'module')} left in float: "
            f"{problem}; nothing was written: ask for less, allow more --rounds, or try more "
            "--calibration-images, --calibrate percentile or --smooth 0.5"
        )
    made = replace(start.said, kept=work.reasons(best.kept))
    _finish(best.model, made)
    encoded = serialize(best.model, str(target))
    with replacing(target, force) as stream:
        stream.write(encoded)
    samples = [each for each in (used.calibration, used.measured) if each]
    return Report(
        source=str(source),
        target=str(target),
        variant=model.info.variant or "",
        made=made,
        measured=used.words,
        agreement=best.agreement,
        costs=tuple(work.costs),
        taps=tuple(work.taps(best.model)),
        sizes=(model.bytes, len(encoded)),
        latency=work.time(best.model) if latency else None,
        rounds=work.rounds,
        images=len({name for each in samples for name in map(each.images.name, each.numbers)}),
        unreadable={name: why for each in samples for name, why in each.unreadable.items()},
    )


class _Work:
    """What is done with a float model until its quantised one keeps enough."""

    def __init__(
        self,
        model: Source,
        start: Prepared,
        used: Used,
        options: QuantizeOptions,
        engine: EngineOptions,
        asked: Mapping[str, str],
        show: Show,
    ):
        self.model, self.start, self.options, self.engine = model, start, options, engine
        self.asked, self.show = asked, show
        self.costs: list[Cost] = []
        self.rounds = 0
        self.problem = ""
        self.exact: Answers | None = None
        self.float = open_tapped(model.model, model.name, self._outputs(), engine)
        self.few = self._blank()
        if used.measured:
            answer, progress = self._answer(self.float.forward), self._progress("in float")
            logits, labels = answer_all(answer, used.measured, progress)
            self.exact = Answers(used.measured, logits, labels, is_single(model))
            some = used.measured.some(max(options.ranking, 1))
            self.few = np.concatenate([images for images, _ in some.batches(1)])

    def search(self) -> Attempt:
        """Returns the model with the least in float that keeps what it has to."""
        free = {m: layers for m, layers in self.start.modules.items() if m not in self.asked}
        if not free:
            raise ConfigError("--keep leaves every module in float: nothing would be quantised")
        first = self._attempt(())
        self.problem = shortfall(first.agreement, self.options)
        if self.exact and (self.options.ranking or self.problem):
            self.costs = rank_modules(
                self.start.model,
                self.start.quantise,
                free,
                self.few,
                self.engine,
                self._progress("ranking"),
            )
        order = [cost.module for cost in self.costs]
        if not self.problem:
            return first
        return keep_enough(first, order, self._next, self.options)

    def reasons(self, kept: Sequence[str]) -> dict[str, str]:
        """Returns the reason of each module that is left in float."""
        taken = {cost.module: cost.margin for cost in self.costs}
        return dict(self.asked) | {
            module: f"alone it takes {taken[module]:.1%} of the margin; without: {self.problem}"
            for module in kept
        }

    def taps(self, quantised: onnx.ModelProto) -> list[TapError]:
        """Returns how far each tap is off, where modules were ranked."""
        if not self.costs:
            return []
        return tap_errors(self.start.model, quantised, self.few, self.engine)

    def time(self, quantised: onnx.ModelProto) -> Latency:
        """Returns what one image takes in the source and in the quantised model."""
        after = open_tapped(quantised, "the quantised model", self._outputs(), self.engine)
        models = [self._answer(opened.forward) for opened in (self.float, after)]
        return measure_latency(models, self.few[:1], self.float.facts["threads"])

    def _progress(self, title: str) -> Callable[[int, int], None]:
        return lambda done, total: self.show(done, total, title)

    def _next(self, kept: Sequence[str]) -> Attempt:
        self.rounds += 1
        return self._attempt(kept)

    def _attempt(self, kept: Sequence[str]) -> Attempt:
        out = {*kept, *self.asked}
        modules = self.start.modules.items()
        layers = [layer for module, inside in modules if module not in out for layer in inside]
        quantised = self.start.quantise(layers)
        agreement: Agreement | None = None
        if self.exact:
            opened = open_tapped(quantised, "the quantised model", self._outputs(), self.engine)
            title = f"{len(kept)} modules in float" if kept else "quantised"
            agreement = self.exact.compare(self._answer(opened.forward), self._progress(title))
        return Attempt(tuple(kept), quantised, agreement)

    def _outputs(self) -> tuple[str, ...]:
        return output_names(self.model.info.config)

    def _answer(self, forward: Callable[[Array], Mapping[str, Array]]) -> Callable[[Array], Array]:
        last = self._outputs()[-1]
        return lambda images: forward(images)[last]

    def _blank(self) -> Array:
        """Returns an image without anything on it, float32 (1, C, H, W)."""
        kept = self.model.info.preprocessing
        size = self.model.size or kept.image_size
        return normalise(np.zeros((*size, len(kept.mean)), np.uint8), kept)[None]


def _finish(model: onnx.ModelProto, made: Quantization) -> None:
    """Writes into a model how it was made, and the hash of its graph."""
    said = read_metadata(model)
    model.metadata_props.add(key=QUANTIZATION_KEY, value=made.to_json())
    digest = hash_graph(model, said[METADATA_KEY])
    model.metadata_props.add(key=GRAPH_KEY, value=digest)
