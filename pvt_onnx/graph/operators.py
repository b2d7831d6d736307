"""Operators that an engine or opset lacks, as nodes: GELU, layer norm, adaptive average pooling."""

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np

from pvt_onnx.graph.writer import GraphWriter, Size
from pvt_spec import ConfigError

RANGES = 11
"""The opset from which there are ranges of numbers."""


def gelu(g: GraphWriter, x: str, form: str, name: str) -> str:
    """Adds the GELU of ``x``, exact (``"erf"``) or approximated (``"tanh"``), written out."""
    # In the order of operations that onnxruntime recognises and runs as one.
    if form == "tanh":
        cube = g.add("Pow", x, g.number(3.0), name=f"{name}/cube")
        cube = g.add("Mul", cube, g.number(0.044715), name=f"{name}/cubic")
        inner = g.add("Add", x, cube, name=f"{name}/sum")
        inner = g.add("Mul", inner, g.number(sqrt(2 / pi)), name=f"{name}/inner")
        gate = g.add("Tanh", inner, name=f"{name}/tanh")
    else:
        inner = g.add("Div", x, g.number(sqrt(2)), name=f"{name}/inner")
        gate = g.add("Erf", inner, name=f"{name}/erf")
    gate = g.add("Add", gate, g.number(1.0), name=f"{name}/gate")
    half = g.add("Mul", x, g.number(0.5), name=f"{name}/half")
    return g.add("Mul", half, gate, name=name)


def layer_norm(
    g: GraphWriter, x: str, layer: str, parts: Sequence[str], eps: float, name: str
) -> str:
    """Adds the layer norm of tokens ``x`` (B, N, C) over the channels, written out.

    Args:
        g: What it is added to.
        x: The tokens.
        layer: The layer's name.
        parts: Its weight and bias, float32 (C,).
        eps: Its epsilon.
        name: What the answer is called.
    """
    # In the order of operations that onnxruntime recognises and runs as one.
    mean = g.mean(x, 2, f"{layer}/mean", keepdims=True)
    centred = g.add("Sub", x, mean, name=f"{layer}/centred")
    square = g.add("Pow", centred, g.number(2.0), name=f"{layer}/square")
    variance = g.mean(square, 2, f"{layer}/variance", keepdims=True)
    stable = g.add("Add", variance, g.number(eps), name=f"{layer}/stable")
    deviation = g.add("Sqrt", stable, name=f"{layer}/deviation")
    x = g.add("Div", centred, deviation, name=f"{layer}/normalised")
    x = g.add("Mul", x, parts[0], name=f"{layer}/scaled")
    return g.add("Add", x, parts[1], name=name)


def adaptive_avg_pool(g: GraphWriter, x: str, H: Size, W: Size, out: int, name: str) -> str:
    """Maps (B, C, H, W) to (B, C, out, out): cell i averages floor(iH/out) … ceil((i+1)H/out)."""
    if isinstance(H, int) and isinstance(W, int) and H % out == W % out == 0:
        stride = [H // out, W // out]
        if stride == [1, 1]:
            return x
        return g.add(
            "AveragePool",
            x,
            name=name,
            kernel_shape=stride,
            strides=stride,
            pads=[0, 0, 0, 0],
            count_include_pad=0,
            **({"ceil_mode": 0} if g.opset >= 10 else {}),
            auto_pad="NOTSET",
        )
    columns = g.transpose(pooling_matrix(g, W, out), 1, 0, name=f"pool/{W}/columns")
    x = g.add("MatMul", x, columns, name=f"{name}/columns")  # (B, C, H, out)
    return g.add("MatMul", pooling_matrix(g, H, out), x, name=name)


def pooling_matrix(g: GraphWriter, size: Size, out: int) -> str:
    """Returns float32 (out, size): row i is 1 / n where cell i averages its n pixels, else 0."""
    if isinstance(size, str):
        return _dynamic_matrix(g, size, out)
    pixel, cell = np.arange(size), np.arange(out)[:, None]
    inside = (pixel >= cell * size // out) & (pixel < -(-(cell + 1) * size // out))
    matrix = inside / inside.sum(axis=1, keepdims=True)
    return g.constant(f"pool/{size}/rows", matrix.astype(np.float32))


def _dynamic_matrix(g: GraphWriter, size: str, out: int) -> str:
    if g.opset < RANGES:
        raise ConfigError(
            f"opset {g.opset} cannot pool images of any size: choose {RANGES} or later, or one "
            "size of image with --image-size"
        )
    name = f"pool/{size}"
    cell = g.constant(f"cells/{out}", np.arange(out, dtype=np.int64)[:, None])
    pixels = g.add("Squeeze", size, name=f"{name}/size")
    zero, one = (g.constant(f"index/{i}", np.array(i, np.int64)) for i in (0, 1))
    pixel = g.add("Range", zero, pixels, one, name=f"{name}/pixels")
    start = g.add("Mul", cell, size, name=f"{name}/scaled")
    end = g.add("Add", start, size, name=f"{name}/next")
    end = g.add("Add", end, g.ints(out - 1), name=f"{name}/rounded")
    start = g.add("Div", start, g.ints(out), name=f"{name}/start")
    end = g.add("Div", end, g.ints(out), name=f"{name}/end")
    after = g.add("Not", g.add("Less", pixel, start, name=f"{name}/first"), name=f"{name}/after")
    before = g.add("Less", pixel, end, name=f"{name}/before")
    inside = g.add("And", after, before, name=f"{name}/inside")
    # No Cast: what converts models to float16 lets the type that one names stand.
    numbers = [g.number(number) for number in (1.0, 0.0)]
    mask = g.add("Where", inside, *numbers, name=f"{name}/mask")
    count = g.sum(mask, 1, f"{name}/count")
    return g.add("Div", mask, count, name=f"{name}/rows")
