"""A small writer of ONNX graphs: values by name, constants once, attributes explicit."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pvt_spec.arrays import Array

Size = int | str
"""A length along an axis: a number, or the name of an int64 (1,) value where it is dynamic."""


class GraphWriter:
    """Collects nodes and constants; every method returns the name of the value that it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._made: set[str] = set()

    def add(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Appends a node with one output, called ``name``; the same name is made once only."""
        if name not in self._made:
            self._made.add(name)
            self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def split(self, x: str, size: int, *names: str) -> tuple[str, ...]:
        """Cuts the last axis into parts of ``size``, one for each name."""
        sizes = self.ints(*[size] * len(names))
        self.nodes.append(helper.make_node("Split", [x, sizes], names, name=f"{x}/split", axis=-1))
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
        return self.add("Reshape", x, self.shape(*sizes), name=name, allowzero=0)

    def transpose(self, x: str, *axes: int, name: str) -> str:
        """Permutes the axes."""
        return self.add("Transpose", x, name=name, perm=list(axes))

    def size_of(self, x: str, axis: int) -> str:
        """Returns the length of one axis of ``x``, an int64 (1,) value."""
        return self.add("Shape", x, name=f"{x}/size{axis}", start=axis, end=axis + 1)

    def product(self, a: Size, b: Size) -> Size:
        """Returns a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return self.add("Mul", self.shape(a), self.shape(b), name=f"{a}*{b}")
