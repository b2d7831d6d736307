"""What a graph holds, whoever made it: weights and attributes by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from pvt_onnx.quantize.smoothing import scale
from pvt_onnx.reading.attributes import read_attributes
from pvt_onnx.reading.floats import Constant, in_floats
from pvt_onnx.reading.precision import read_precision, read_quantization
from pvt_spec import PVTConfig, TensorSpec, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes
from pvt_spec.precisions import FLOAT32


@dataclass(frozen=True)
class Held:
    """What a graph holds.

    Attributes:
        weights: Arrays by canonical name, in the graph's order; what is quantised in float32.
        attributes: See :mod:`pvt_spec.attributes`.
        steps: How far apart the numbers are that a weight or attribute can have, by its name, of
            those that were rounded for the graph to compute with; a weight's broadcasts with it.
        kept: What those weights are in the graph, as ``"int8"``, by name.
    """

    weights: dict[str, Array]
    attributes: Attributes
    steps: dict[str, Array]
    kept: dict[str, str]


def read_held(model: onnx.ModelProto, config: PVTConfig) -> Held:
    """Returns what a graph holds.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: It is damaged.
    """
    specs = {spec.name: spec for spec in tensor_specs(config)}
    precision = read_precision(model)
    graph = in_floats(model, specs)
    attributes, steps = read_attributes(graph)
    if precision == FLOAT32:
        steps = {}
    weights: dict[str, Array] = {}
    kept: dict[str, str] = {}
    for name, constant in graph.constants.items():
        if spec := specs.get(name):
            weights[name], step = _read(spec, constant, turned=name in graph.turned)
            if step is not None and precision != FLOAT32:
                steps[name] = step
                kept[name] = tensor_dtype_to_np_dtype(constant.kind).name
        elif "/" not in name and precision == FLOAT32:  # else what it is quantised by, too
            weights[name] = constant.read()
    if kept:  # what a position embedding is rounded to says nothing of what it was kept in before
        attributes = {name: v for name, v in attributes.items() if not name.endswith(".dtype")}
    made = read_quantization(model)
    if made and made.gelu:  # which it says that it computes in place of the model's own
        others = {n: v for n, v in attributes.items() if n.endswith(".gelu") and v == made.gelu}
        attributes = {name: v for name, v in attributes.items() if name not in others}
    if made and made.scales:
        weights, steps = _unscaled(config, weights, steps, made.scales)
    return Held(weights, attributes, steps, kept)


def _unscaled(
    config: PVTConfig,
    weights: dict[str, Array],
    steps: dict[str, Array],
    scales: Mapping[str, Sequence[int]],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Returns weights and their steps before norms' answers were scaled: powers of two are undone.

    What they compute is the same, so that only what they were made of can be compared.
    """
    back = {norm: [-power for power in powers] for norm, powers in scales.items()}
    wide = {n: np.broadcast_to(s, weights[n].shape) for n, s in steps.items() if n in weights}
    return scale(config, weights, back), {**steps, **scale(config, wide, back)}


def _read(spec: TensorSpec, constant: Constant, *, turned: bool) -> tuple[Array, Array | None]:
    """Returns a weight as the spec has it, and its steps.

    What integers stand for is many times as large, and its size anybody's word.
    """
    fitting = (spec.shape, spec.shape[::-1], (*spec.shape, 1, 1))
    if constant.read_step and constant.dims not in fitting:
        raise ValueError(f"{spec.name} is {constant.dims}, expected {spec.shape}")
    array, step = constant.read(), constant.step()
    if array.shape == (*spec.shape, 1, 1):  # a linear layer as a 1x1 convolution
        array = array.reshape(spec.shape)
        step = step if step is None or not step.ndim else step.reshape(step.shape[:2])
    elif turned and array.ndim == 2:
        array, step = array.T, None if step is None else step.T
    return np.asarray(array), step
