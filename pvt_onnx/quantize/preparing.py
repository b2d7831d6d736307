"""The float model that is quantised, its ranges found, and the images that it is measured on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import onnx
import onnxruntime

from pvt_data.progress import Show
from pvt_data.sources.labels import Tell
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.quantize.measuring.calibration import find_largest, find_ranges, open_values
from pvt_onnx.quantize.measuring.samples import FEW, Samples, open_calibration, open_measured
from pvt_onnx.quantize.options import QuantizeOptions
from pvt_onnx.quantize.quantizer import (
    PRODUCT,
    Scheme,
    choose_opset,
    choose_scheme,
    find_nodes,
    find_values,
    quantise_dynamic,
    quantise_static,
)
from pvt_onnx.quantize.smoothing import find_scales, folds, scale
from pvt_onnx.quantize.source import Layers, Source, layers_of, quantisable
from pvt_onnx.reading.precision import Quantization
from pvt_spec import ConfigError
from pvt_spec.arrays import Array
from pvt_spec.words import counted, listed

_BATCH = 4
"""Images that are calibrated with at a time: every value of as many is in memory."""


_OTHERS = 1000
"""How many of the images that do not calibrate are answered, where there is nothing else."""


class Images(NamedTuple):
    """The folders of images that are used.

    Attributes:
        calibration: The one that calibrates.
        data: The labelled one that accuracy is measured on.
        unlabelled: Whether the folders in the first are none of classes.
    """

    calibration: Path | None = None
    data: Path | None = None
    unlabelled: bool = False


@dataclass(frozen=True)
class Used:
    """The images that are used.

    Attributes:
        calibration: Those that calibrate; None where nothing does.
        measured: Those on which answers are compared; None where there are none.
        words: What these are.
    """

    calibration: Samples | None
    measured: Samples | None
    words: str


@dataclass(frozen=True)
class Prepared:
    """A float model in the form that is quantised.

    Attributes:
        model: The model.
        modules: The layers that can be quantised, by the module that has them.
        quantise: The function that returns it with some layers quantised.
        said: How that is done.
    """

    model: onnx.ModelProto
    modules: Layers
    quantise: Callable[[Sequence[str]], onnx.ModelProto]
    said: Quantization


def open_images(model: Source, options: QuantizeOptions, images: Images, tell: Tell) -> Used:
    """Returns the images that are used; says where they are few.

    Raises:
        ConfigError: There are none, and what is asked for needs some.
        ImageError: A folder cannot be used.
    """
    info, calibration, measured, words = model.info, None, None, ""
    if options.method == "static" and not images.calibration:
        raise ConfigError(
            "--method static needs --calibration DIR, a folder of images as the model will see "
            "them, whose ranges it takes; --method dynamic needs none"
        )
    if images.calibration:
        whole = open_calibration(info, images.calibration, images.unlabelled, tell)
        calibration = whole.some(options.calibration_images)
        if (count := len(calibration.numbers)) < FEW:
            tell(
                f"{images.calibration}: only {counted(count, 'image')}, expected {FEW} or more: "
                "what others answer may be outside of their ranges"
            )
        rest = calibration.others()
        measured = rest if rest.numbers else calibration
        words = (
            f"other images of {measured.where}"
            if rest.numbers
            else (f"the images of {measured.where} that calibrate, as there are no others")
        )
    if images.data:
        measured = open_measured(info, images.data, tell)
        words = f"the images of {measured.where}"
    if measured:
        most = len(measured.numbers) if images.data else _OTHERS
        measured = measured.some(options.limit or most)
    elif options.bounded:
        raise ConfigError("--min-agreement needs images: --calibration DIR or --data-dir DIR")
    if options.min_agreement is not None and not is_single(model):
        raise ConfigError(
            "--min-agreement is of the class that comes first, and this model answers none: leave "
            "it out"
        )
    return Used(calibration, measured, words)


def is_single(model: Source) -> bool:
    """Returns whether of a model's classes one comes first."""
    return model.info.config.num_classes > 1 and model.info.task == "single_label"


def asked_for(keep: Sequence[str], modules: Layers) -> dict[str, str]:
    """Returns the modules that are left in float because the user says so, and the reason.

    Raises:
        ConfigError: A pattern names none.
    """
    found: dict[str, str] = {}
    for pattern in keep:
        named = [module for module in modules if fnmatchcase(module, pattern)]
        if not named:
            raise ConfigError(f"--keep {pattern}: no module of that name: {listed([*modules], 8)}")
        found |= dict.fromkeys(named, "asked for")
    return found


def prepare(
    model: Source,
    used: Used,
    options: QuantizeOptions,
    engine: EngineOptions,
    tell: Tell,
    show: Show,
) -> Prepared:
    """Returns the float model in its form, with its ranges found."""
    scheme = choose_scheme(model.target, options.activations, options.full_range)
    opset = choose_opset(model.opset, scheme.activations)
    if opset != model.opset:
        kind = f"graphs of {scheme.activations} activations"
        tell(f"opset {opset} for {kind}: {model.name} has {model.opset}")
    if scheme.reduce_range and options.full_range is None:
        tell(
            "weights have 7 bits: sums of 8-bit products saturate on this CPU; for another one "
            "that has VNNI give --full-range"
        )
    tool = f"onnxruntime {onnxruntime.__version__}"
    said = Quantization(options.method, tool, rounding=str(scheme), gelu=scheme.gelu or "")
    if options.method == "dynamic":
        products = replace(model.target, kernels=())
        return _dynamic(model, model.build(model.weights, products, opset), scheme, said)
    if not used.calibration:
        raise ValueError("there are no images to calibrate with")
    return _static(model, used.calibration, options, engine, scheme, opset, said, show)


def _dynamic(model: Source, graph: onnx.ModelProto, scheme: Scheme, said: Quantization) -> Prepared:
    nodes = find_nodes(graph)
    modules = {
        module: tuple(layer for layer in layers if nodes[layer].op_type == PRODUCT)
        for module, layers in layers_of(model).items()
    }
    modules = {module: layers for module, layers in modules.items() if layers}
    return Prepared(graph, modules, lambda layers: quantise_dynamic(graph, scheme, layers), said)


def _static(
    model: Source,
    samples: Samples,
    options: QuantizeOptions,
    engine: EngineOptions,
    scheme: Scheme,
    opset: int,
    said: Quantization,
    show: Show,
) -> Prepared:
    form = quantisable(model.target)
    weights, config = model.weights, model.info.config

    def batches(title: str) -> Iterator[Array]:
        done = 0
        for images, _ in samples.batches(_BATCH):
            yield images
            done += len(images)
            show(done, len(samples.numbers), title)

    if options.smooth is not None:
        norms = [fold.norm for fold in folds(config)]
        values = open_values(model.build(weights, form, opset), model.name, norms, engine)
        largest = find_largest(values, batches("channels"))
        scales = find_scales(config, weights, largest, options.smooth)
        weights = scale(config, weights, scales)
        said = replace(said, smooth=options.smooth, scales=scales)
    graph = model.build(weights, form, opset)
    nodes = find_nodes(graph)
    values = open_values(graph, model.name, find_values(nodes), engine)
    ranges = find_ranges(values, lambda: batches("calibrating"), options.calibrate)
    count = len(samples.numbers) - len(samples.unreadable)
    said = replace(
        said, calibration=f"{options.calibrate} of {counted(count, 'image')} of {samples.where}"
    )
    return Prepared(
        graph,
        layers_of(model),
        lambda layers: quantise_static(graph, ranges, scheme, layers),
        said,
    )
