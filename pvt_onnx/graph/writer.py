"""A small writer of ONNX graphs: values by name, constants once, attributes explicit."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pvt_spec.arrays import Array

Size = int | str
"""A length along an axis: a number, or the name of an int64 (1,) value where it is dynamic."""


class GraphWriter:
    """Collects nodes and constants; every method returns the name of the value that it made.

    Args:
        opset: The opset, 9 or later: what a node looks like in it.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.shapes: dict[str, list[int | str]] = {}
        self._made: set[str] = set()

    def add(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Appends a node with one output, called ``name``; the same name is made once only."""
        if name not in self._made:
            self._made.add(name)
            self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def rename(self, old: str, new: str) -> None:
        """Gives a value another name, where it is made and used; the old one is free again."""
        self._made.discard(old)
        for node in self.nodes:
            if node.name == old:
                node.name = new
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new

    def split(self, x: str, axis: int, size: int, *names: str) -> tuple[str, ...]:
        """Cuts an axis of ``x`` into parts of ``size``, one for each name."""
        sizes, inputs = [size] * len(names), [x]
        given: dict[str, Any] = {"axis": axis}
        if self.opset < 13:
            given["split"] = sizes
        else:
            inputs.append(self.ints(*sizes))
        self.nodes.append(helper.make_node("Split", inputs, names, name=f"{x}/split", **given))
        return names

    def constant(self, name: str, values: Array) -> str:
        """Returns a constant; the same name always stands for the same values."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def number(self, value: float) -> str:
        """Returns a float32 scalar."""
        return self.constant(f"number/{value}", np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        """Returns an int64 (len(values),)."""
        return self.constant("ints/" + ",".join(map(str, values)), np.array(values, np.int64))

    def shape(self, *sizes: Size) -> str:
        """Returns int64 (len(sizes),): a constant if all sizes are numbers, else put together."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints(*map(int, sizes))
        parts = [self.ints(size) if isinstance(size, int) else size for size in sizes]
        return self.add("Concat", *parts, name="shape/" + ",".join(map(str, sizes)), axis=0)

    def reshape(self, x: str, *sizes: Size, name: str) -> str:
        """Reshapes ``x``; a size of 0 keeps the axis and -1 is what remains."""
        kept = {"allowzero": 0} if self.opset >= 14 else {}
        return self.add("Reshape", x, self.shape(*sizes), name=name, **kept)

    def declare(self, x: str, *sizes: int | str) -> str:
        """Says the shape of ``x``, which nothing else tells: a number, or a name, for each axis.

        Axes of one name are equally long. Of a value whose shape it does not know, onnxruntime
        asks whether it could have the place of each one before, and never is sure: a session of
        many takes long to open. Tokens (B, N, C) are better left out: by their shapes it makes one
        operator of a sum and the norm after it, which is slower than both.
        """
        self.shapes[x] = [*sizes]
        return x

    def slice(self, x: str, start: int, stop: int, axis: int, name: str) -> str:
        """Cuts a part from an axis."""
        parts = {"starts": start, "ends": stop, "axes": axis}
        if self.opset < 10:
            return self.add("Slice", x, name=name, **{key: [n] for key, n in parts.items()})
        return self.add("Slice", x, *map(self.ints, parts.values()), name=name)

    def reduce(self, op: str, x: str, axis: int, name: str, *, keepdims: bool, since: int) -> str:
        """Reduces an axis; ``since`` is the opset from which it is an input and no attribute."""
        if self.opset >= since:
            return self.add(op, x, self.ints(axis), name=name, keepdims=int(keepdims))
        return self.add(op, x, name=name, keepdims=int(keepdims), axes=[axis])

    def mean(self, x: str, axis: int, name: str, *, keepdims: bool = False) -> str:
        """Returns the mean over an axis."""
        return self.reduce("ReduceMean", x, axis, name, keepdims=keepdims, since=18)

    def sum(self, x: str, axis: int, name: str) -> str:
        """Returns the sum over an axis, which stays, of length 1."""
        return self.reduce("ReduceSum", x, axis, name, keepdims=True, since=13)

    def transpose(self, x: str, *axes: int, name: str) -> str:
        """Permutes the axes."""
        return self.add("Transpose", x, name=name, perm=list(axes))

    def size_of(self, x: str, axis: int) -> str:
        """Returns the length of one axis of ``x``, an int64 (1,) value."""
        if self.opset < 15:
            shape = self.add("Shape", x, name=f"{x}/shape")
            return self.add("Gather", shape, self.ints(axis), name=f"{x}/size{axis}", axis=0)
        return self.add("Shape", x, name=f"{x}/size{axis}", start=axis, end=axis + 1)

    def product(self, a: Size, b: Size) -> Size:
        """Returns a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return self.add("Mul", self.shape(a), self.shape(b), name=f"{a}*{b}")
