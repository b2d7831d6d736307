"""What a PVT is made of as nodes: layers with their weights, and how maps, tokens and rows turn.

Reads beside ``pvt_torch/layers.py`` and ``pvt_ms/layers.py``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from pvt_onnx.graph.operators import gelu, layer_norm
from pvt_onnx.graph.writer import GraphWriter, Size
from pvt_onnx.targets import Target
from pvt_spec import Numerics, PVTConfig, TensorSpec, stage_grids, tensor_specs

SINCE = {"LayerNormalization": 17, "Gelu": 20}
"""The opset that an operator came with; before, it is written out."""

INPUT = "images"
"""Name of the graph's input, float32 (B, in_chans, H, W), normalised."""

BATCH = "batch"
"""Name of the length of its first axis."""


def stored_shape(spec: TensorSpec, target: Target) -> tuple[int, ...]:
    """Returns a tensor's shape as an initializer: a kernel's where its layer is a convolution."""
    kernel = spec.layer in target.kernels and spec.part == "weight"
    return (*spec.shape, 1, 1) if kernel else spec.shape


def conv_attributes(kernel: int, stride: int, group: int) -> dict[str, Any]:
    """Returns the attributes of a convolution but for its padding."""
    square = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [1, 1]}
    return {**square, "group": group}


class LayerWriter:
    """Writes the layers that a PVT is made of.

    Args:
        config: The architecture.
        numerics: The maths.
        dtypes: The dtype of each weight, by canonical name; others than float32 are cast in the
            graph.
        image_size: The (H, W) of the input in pixels, or None where they are to be dynamic.
        opset: The opset.
        target: What the graph is for.
        half: Whether it computes in float16, but for norms, softmax, means, written-out GELUs and
            what is resized or pooled. Between layers everything is float16 then.
    """

    def __init__(
        self,
        config: PVTConfig,
        numerics: Numerics,
        dtypes: Mapping[str, np.dtype[Any]],
        image_size: tuple[int, int] | None,
        opset: int,
        target: Target,
        half: bool = False,
    ):
        self.config = config
        self.numerics = numerics
        self.dtypes = dtypes
        self.target = target
        self.half = half
        self.norms = {spec.name for spec in tensor_specs(config) if spec.kind == "norm"}
        self.graph = GraphWriter(opset)
        self.grids = stage_grids(config, numerics, image_size) if image_size else None
        # What remains of tokens of an open number is more than tools that infer shapes can tell.
        self.batch: Size = -1 if image_size else self.graph.size_of(INPUT, 0)

    def has(self, op: str) -> bool:
        """Returns whether a node of this operator is written."""
        return self.graph.opset >= SINCE[op] and op not in self.target.written_out

    def weight(self, name: str) -> str:
        """Returns a weight as a value of what its layer computes in."""
        half = self.half and name not in self.norms
        wanted = np.float16 if half else np.float32
        if self.dtypes[name] == wanted:
            return name
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        return self.graph.add("Cast", name, name=f"{name}/{np.dtype(wanted)}", to=kind)

    def wide(self, x: str) -> str:
        """Returns what flows between layers as a float32 value."""
        if not self.half:
            return x
        return self.graph.add("Cast", x, name=f"{x}/float32", to=TensorProto.FLOAT)

    def narrow(self, x: str, name: str) -> str:
        """Returns a float32 value as what flows between layers, under a name of its own."""
        return self.graph.add("Cast", x, name=name, to=TensorProto.FLOAT16) if self.half else x

    def inner(self, name: str) -> str:
        """Returns the name of a float32 value that becomes another one, or that itself."""
        return f"{name}/wide" if self.half else name

    def rounded(self, name: str) -> str:
        """Returns a position embedding as what flows, rounded as the numerics say."""
        if (
            self.half
            or self.numerics.pos_embed_dtype != "float16"
            or self.dtypes[name] == np.float16
        ):
            return self.weight(name)
        x = self.graph.add("Cast", name, name=f"{name}/float16", to=TensorProto.FLOAT16)
        return self.graph.add("Cast", x, name=f"{name}/float32", to=TensorProto.FLOAT)

    def parts(self, layer: str) -> list[str]:
        """Returns a layer's weight and bias, as float32 values."""
        return [self.weight(f"{layer}.{part}") for part in ("weight", "bias")]

    def layer(self, op: str, x: str, layer: str, name: str, **attributes: Any) -> str:
        """Adds an operator with a layer's weight and bias."""
        return self.graph.add(op, x, *self.parts(layer), name=name, **attributes)

    def layer_norm(self, x: str, layer: str, eps: float, name: str) -> str:
        """Adds a layer norm over the channels of tokens (B, N, C)."""
        x, made = self.wide(x), self.inner(name)
        if not self.has("LayerNormalization"):
            made = layer_norm(self.graph, x, layer, self.parts(layer), eps, made)
        else:
            kept: dict[str, Any] = {"axis": -1, "stash_type": TensorProto.FLOAT}
            made = self.layer("LayerNormalization", x, layer, made, epsilon=eps, **kept)
        return self.narrow(made, name)

    def linear(self, x: str, layer: str, name: str = "") -> str:
        """Maps rows (n, in) to (n, out), with the weight as it is stored."""
        kept: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        return self.layer("Gemm", x, layer, name or f"{layer}/rows", **kept)

    def conv(
        self, x: str, layer: str, kernel: int, stride: int = 1, *, pad: int = 0, group: int = 1
    ) -> str:
        """Convolves maps; one that downsamples pads as the numerics say, else ``pad`` around."""
        same = stride > 1 and self.numerics.conv_padding == "same"
        padding = {"auto_pad": "SAME_UPPER"} if same else {"pads": [pad] * 4}
        shape = conv_attributes(kernel, stride, group)
        return self.layer("Conv", x, layer, f"{layer}/map", **shape, **padding)

    def pointwise(self, x: str, layer: str) -> str:
        """Adds a linear layer over the channels of a map (B, in, H, W), as a 1x1 convolution."""
        return self.layer(
            "Conv", x, layer, f"{layer}/map", **conv_attributes(1, 1, 1), pads=[0] * 4
        )

    def gelu(self, x: str, name: str) -> str:
        """Adds a GELU in the form that the numerics say."""
        form = self.numerics.gelu
        if not self.has("Gelu"):
            made = gelu(self.graph, self.wide(x), form, self.inner(name))
            return self.narrow(made, name)
        return self.graph.add("Gelu", x, name=name, approximate="none" if form == "erf" else form)

    def to_map(self, x: str, C: int, H: Size, W: Size, name: str) -> str:
        """Maps tokens (B, H * W, C) to a map (B, C, H, W).

        Transposed with the grid's axes apart, here and in :meth:`to_tokens`: onnxruntime merges
        such a transpose into the reordering that its blocked convolutions need anyway.
        """
        x = self.graph.reshape(x, 0, H, W, C, name=f"{name}/grid")
        return self.graph.transpose(x, 0, 3, 1, 2, name=name)

    def to_tokens(self, x: str, C: int, name: str) -> str:
        """Maps a map (B, C, H, W) to tokens (B, H * W, C)."""
        x = self.graph.transpose(x, 0, 2, 3, 1, name=f"{name}/grid")
        return self.graph.reshape(x, 0, -1, C, name=name)

    def to_rows(self, x: str, N: Size, C: int, name: str = "") -> str:
        """Maps tokens (B, N, C), or a grid of them, to rows (B * N, C)."""
        x = self.graph.reshape(x, -1, C, name=name or f"{x}/rows")
        return self.graph.declare(x, f"{BATCH}*{N}", C)

    def to_heads(self, x: str, N: Size, heads: int, head_dim: int, name: str) -> str:
        """Maps rows (B * N, heads * head_dim), or tokens, to (B, heads, N, head_dim)."""
        if heads == 1:
            x = self.graph.reshape(x, self.batch, 1, N, head_dim, name=name)
            return self.graph.declare(x, BATCH, 1, N, head_dim)
        x = self.graph.reshape(x, self.batch, N, heads, head_dim, name=f"{name}/heads")
        self.graph.declare(x, BATCH, N, heads, head_dim)
        return self.graph.transpose(x, 0, 2, 1, 3, name=name)
