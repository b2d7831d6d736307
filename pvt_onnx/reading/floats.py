"""What a graph that was quantised stands for in floats: its operators, and what they hold.

The forms are those of ONNX and of onnxruntime's own domain, as quantisers write them: QDQ pairs
around operators of floats, operators on integers, weights alone in blocks.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import get_attribute_value
from onnx.numpy_helper import to_array

from pvt_onnx.reading.integers import dequantised, steps_of, unpacked
from pvt_onnx.reading.precision import is_quantised
from pvt_spec.arrays import Array

TINY = 2.5e-7
"""The least step of a float16: what is nearer to zero than 1e-7 becomes that in the usual
converters, and many engines take what is below 6e-5 for zero."""

_Triple = tuple[int, ...]
"""The places of a tensor, its scale and its zero point among an operator's inputs."""

_TWO: tuple[_Triple, ...] = ((0, 1, 2), (3, 4, 5))
_FORMS: Mapping[str, tuple[str, tuple[_Triple, ...]]] = {
    "QLinearConv": ("Conv", (*_TWO, (8, 1, 4))),
    "QLinearMatMul": ("MatMul", _TWO),
    "QGemm": ("Gemm", (*_TWO, (6, 1, 4))),
    "QLinearAdd": ("Add", _TWO),
    "QLinearMul": ("Mul", _TWO),
    "QLinearSoftmax": ("Softmax", ((0, 1, 2),)),
    "QLinearAveragePool": ("AveragePool", ((0, 1, 2),)),
    "QLinearReduceMean": ("ReduceMean", ((0, 1, 2),)),
    "QLinearConcat": ("Concat", ((2, 3, 4), (5, 6, 7))),
    "ConvInteger": ("Conv", ((0,), (1, -1, 3))),
    "MatMulInteger": ("MatMul", ((0,), (1, -1, 3))),
    "MatMulIntegerToFloat": ("MatMul", ((0, 2, 4), (1, 3, 5), (6,))),
    "DynamicQuantizeMatMul": ("MatMul", ((0,), (1, 2, 3), (4,))),
}
"""Operators on integers: that of floats, and where its inputs are.

A bias has two scales, whose product is its own. Where the scale is -1 it is multiplied after.
"""

_BIASES = {(8, 1, 4), (6, 1, 4)}

_FOLDED = {"embed4/joined": "pos_embed4"}
"""What is a constant where tools compute ahead: position embeddings that are cut and joined."""


@dataclass(frozen=True)
class Constant:
    """What a graph holds of a value.

    Attributes:
        dims: Its shape.
        kind: What its numbers are in the graph, a ``TensorProto.DataType``.
        read: The function that answers it as floats; float16 and bfloat16 stay what they are.
        read_step: The function that answers how far apart the numbers are that it can hold, which
            broadcasts with it; None where only its dtype says that.
    """

    dims: tuple[int, ...]
    kind: int
    read: Callable[[], Array]
    read_step: Callable[[], Array] | None = None

    def step(self) -> Array | None:
        """Returns how far apart the numbers are that it can hold; None of float32 and wholes."""
        if self.read_step:
            return self.read_step()
        values = self.read()
        return float16_step(values) if values.dtype == np.float16 else None


@dataclass(frozen=True)
class FloatGraph:
    """A graph in floats.

    Attributes:
        nodes: Its operators, as they would be.
        constants: What it holds, by the names that the operators have for it.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)

    @cached_property
    def turned(self) -> frozenset[str]:
        """The matrices that are held as (in, out), where a PVT's are (out, in)."""
        return frozenset(
            node.input[1]
            for node in self.nodes
            if node.op_type == "MatMul" or (node.op_type == "Gemm" and not given(node, "transB", 0))
        )


def float16_step(values: Array) -> Array:
    """Returns how far apart float16 numbers are, float64 of the same shape."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.maximum(np.spacing(np.abs(values)).astype(np.float64), TINY))


def given(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Returns an attribute of a node, or what ONNX takes it for where it is not given."""
    for attribute in node.attribute:
        if attribute.name == name:
            value = get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def in_floats(model: onnx.ModelProto, names: Collection[str]) -> FloatGraph:
    """Returns a graph in floats; one of floats as it is.

    Args:
        model: The model, with its weights.
        names: Canonical names, by which the constants are called that are kept for them.
    """
    found = FloatGraph()
    for tensor in model.graph.initializer:
        read = partial(to_array, tensor)
        found.constants[tensor.name] = Constant(tuple(tensor.dims), tensor.data_type, read)
    if any(map(is_quantised, model.graph.node)):
        _Reader(model, names, found).read()
    else:
        found.nodes.extend(model.graph.node)
    for folded, name in _FOLDED.items():
        if folded in found.constants and name in names:
            found.constants.setdefault(name, found.constants[folded])
    return found


class _Reader:
    """Reads a quantised graph, node by node.

    Args:
        model: The model.
        names: Canonical names.
        found: What is filled.
    """

    def __init__(self, model: onnx.ModelProto, names: Collection[str], found: FloatGraph):
        self.names, self.found = names, found
        self.nodes = model.graph.node
        self.held = {tensor.name: tensor for tensor in model.graph.initializer}
        self.made_by = {output: node for node in self.nodes for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.stands_for: dict[str, str] = {}

    def read(self) -> None:
        for node in self.nodes:
            if node.op_type == "DequantizeLinear":
                axis, block = given(node, "axis", 1), given(node, "block_size", 0)
                made = self.constant(node, (0, 1, 2), axis, block)
                self.stands_for[node.output[0]] = made or self.plain(node.input[0])
            elif node.op_type == "QuantizeLinear":
                self.stands_for[node.output[0]] = self.plain(node.input[0])
            else:
                self.found.nodes.append(self.in_floats(node))

    def in_floats(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Returns an operator as it would be of floats."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.input[:], copied.output[:]
        copied.output.extend(name.removesuffix("_quantized") for name in node.output)
        op, triples = _FORMS.get(node.op_type, ("", ()))
        if node.op_type == "MatMulNBits":
            copied.op_type = "MatMul"
            copied.input.extend([self.plain(node.input[0]), self.blocks(node)])
        elif op:
            copied.op_type = op
            there = [triple for triple in triples if triple[0] < len(node.input)]
            for triple in there:
                axis = 0 if op == "Conv" else -1 if op == "MatMul" else 0
                made = self.constant(node, triple, axis)
                copied.input.append(made or self.plain(node.input[triple[0]]))
        else:
            copied.input.extend(map(self.plain, node.input))
        return copied

    def plain(self, name: str) -> str:
        """Returns the name of the value of floats that one stands for."""
        return str(self.stands_for.get(name, name)).removesuffix("_quantized")

    def constant(self, node: onnx.NodeProto, places: _Triple, axis: int, block: int = 0) -> str:
        """Notes what a quantised constant is, and returns its name; "" where it is none."""
        name, *others = (node.input[at] if 0 <= at < len(node.input) else "" for at in places)
        tensor = self.held.get(name)
        if tensor is None or not others:
            return ""
        if places in _BIASES:
            scales, zero = [self.held.get(each) for each in others], None
        else:
            factor = others[0] if places[1] >= 0 else self.scale_after(node.output[0])
            scales, zero = [self.held.get(factor)], self.held.get([*others, ""][1])
        if any(scale is None for scale in scales):
            return ""
        called = self.called(name)
        known = [scale for scale in scales if scale is not None]
        spread = partial(steps_of, tuple(tensor.dims), known, axis, block)
        values = partial(dequantised, tensor, zero, spread, axis, block)
        self.found.constants[called] = Constant(
            tuple(tensor.dims), tensor.data_type, values, spread
        )
        return called

    def scale_after(self, output: str) -> str:
        """Returns the name of the scale that sums of integers are multiplied by, cast to float.

        They are multiplied by the product of both operands' scales, of which one is held.
        """
        for cast in self.users.get(output, ()):
            for product in self.users.get(cast.output[0], ()) if cast.op_type == "Cast" else ():
                for factor in product.input:
                    made = self.made_by.get(factor)
                    parts = made.input if made is not None and made.op_type == "Mul" else [factor]
                    for part in parts:
                        if part in self.held:
                            return str(part)
        return ""

    def called(self, name: str) -> str:
        """Returns what a constant is for: a canonical name with something after it, or itself."""
        shorter = name
        while shorter and shorter not in self.names:
            shorter = shorter.rpartition("_")[0]
        return shorter or name.removesuffix("_quantized")

    def blocks(self, node: onnx.NodeProto) -> str:
        """Notes the weight of a ``MatMulNBits``, (out, in) in blocks along the inputs."""
        packed, scales, *zeros = (self.held[name] for name in node.input[1:4] if name)
        dims = (given(node, "N", 0), given(node, "K", 0))
        form = (given(node, "bits", 4), given(node, "block_size", 0))
        read = partial(unpacked, dims, form, packed, scales, zeros)
        name = self.called(node.input[1])
        # As a MatMul has it, (in, out).
        self.found.constants[name] = Constant(
            dims[::-1],
            TensorProto.UINT4 if form[0] == 4 else TensorProto.UINT8,
            lambda: read()[0].T,
            lambda: read()[1].T,
        )
        return name
