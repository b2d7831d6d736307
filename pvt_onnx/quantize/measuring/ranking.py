"""Which modules hurt: each is quantised alone, and its tap and the answers are looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.quantize.measuring.calibration import Values, open_values
from pvt_spec import ModelInfo, output_names, tap_names
from pvt_spec.arrays import Array


@dataclass(frozen=True)
class Cost:
    """What quantising one module alone does.

    Attributes:
        module: The name of its tap.
        layers: The layers in it that are quantised.
        error: The root mean square of its tap's error, over that of the float model's tap.
        margin: The share of an answer's margin that this takes, 1 where it would turn: the largest
            change of the distance between the first class and another, over that distance; the
            median over the images. Of models without classes the relative error of the answers.
    """

    module: str
    layers: tuple[str, ...]
    error: float
    margin: float


@dataclass(frozen=True)
class TapError:
    """How far a tap of the whole quantised model is from the float model's.

    Attributes:
        tap: Its name.
        error: The root mean square of the differences, over that of the float model's tap.
    """

    tap: str
    error: float


def rank_modules(
    model: onnx.ModelProto,
    quantise: Callable[[Sequence[str]], onnx.ModelProto],
    modules: Mapping[str, tuple[str, ...]],
    images: Array,
    options: EngineOptions,
    progress: Callable[[int, int], None],
) -> list[Cost]:
    """Returns what each module costs, the dearest first.

    Args:
        model: The float model.
        quantise: The function that returns it with some layers quantised.
        modules: The layers that are to be quantised, by the module that has them.
        images: float32 (B, C, H, W), normalised.
        options: What runs a graph.
        progress: What is told (modules done, modules in all).
    """
    info = _info(model)
    outputs = [*output_names(info.config)]
    exact = _in_parts(open_values(model, "the float model", [*modules, *outputs], options), images)
    costs = []
    for number, (module, layers) in enumerate(modules.items()):
        alone = quantise(layers)
        wanted = [*dict.fromkeys([module, *outputs])]
        found = _in_parts(open_values(alone, f"{module} quantised", wanted, options), images)
        last = outputs[-1]
        costs.append(
            Cost(
                module,
                layers,
                relative_error(found[module], exact[module]),
                _margin_taken(found[last], exact[last], info),
            )
        )
        progress(number + 1, len(modules))
    return sorted(costs, key=lambda cost: -cost.margin)


def tap_errors(
    model: onnx.ModelProto, quantised: onnx.ModelProto, images: Array, options: EngineOptions
) -> list[TapError]:
    """Returns how far every tap of a quantised model is from the float one's, in forward order."""
    names = tap_names(_info(model).config)
    exact, found = (
        _in_parts(open_values(each, "a model's taps", names, options), images)
        for each in (model, quantised)
    )
    return [TapError(name, relative_error(found[name], exact[name])) for name in names]


def _info(model: onnx.ModelProto) -> ModelInfo:
    from pvt_onnx.engines.session import read_info

    return read_info(model, "the model")


def _in_parts(values: Values, images: Array) -> dict[str, Array]:
    """Returns the values for images, answered one by one: the taps of many are large."""
    parts = [values(images[i : i + 1]) for i in range(len(images))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def relative_error(found: Array, exact: Array) -> float:
    """Returns the root mean square of the differences, over that of what is exact."""
    wide = exact.astype(np.float64)
    scale = np.sqrt(np.mean(np.square(wide))) or 1.0
    return float(np.sqrt(np.mean(np.square(found - wide))) / scale)


def _margin_taken(found: Array, exact: Array, info: ModelInfo) -> float:
    if not info.config.num_classes or info.task != "single_label" or exact.shape[1] < 2:
        return relative_error(found, exact)
    rows, first = np.arange(len(exact)), exact.argmax(axis=1)
    distance, now = (each[rows, first][:, None] - each for each in (exact, found))
    distance[rows, first] = np.inf
    with np.errstate(invalid="ignore"):
        taken = np.abs(now - distance) / np.maximum(distance, np.finfo(np.float32).tiny)
    taken[rows, first] = 0
    return float(np.median(taken.max(axis=1)))
