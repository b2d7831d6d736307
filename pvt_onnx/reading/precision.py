"""How a graph computes, read from its nodes, whoever made it; and how it was quantised."""

import dataclasses
import re
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto

from pvt_onnx.reading.files import read_metadata
from pvt_spec.errors import ConfigError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.records import read_record
from pvt_spec.hashes import PRECISION_KEY, QUANTIZATION_KEY
from pvt_spec.precisions import FLOAT32, INT8

_OF_INTEGERS = re.compile("[Qq]uantize|^QLinear|^QGemm|^QAttention|^QMoE|Integer|NBits|Bnb4")
"""What the names of such operators have, in ONNX (``QuantizeLinear``, ``DequantizeLinear``,
``MatMulInteger`` …) and in onnxruntime's domain (``QGemm``, ``MatMulNBits`` …)."""


def is_quantised(node: onnx.NodeProto) -> bool:
    """Returns whether an operator takes, makes or computes with integers that stand for floats."""
    return _OF_INTEGERS.search(node.op_type) is not None


def read_precision(model: onnx.ModelProto) -> str:
    """Returns how a graph computes, a key of :data:`pvt_spec.precisions.PRECISIONS`.

    ``"int8"`` where anything in it is quantised, weights alone too; ``"fp16"`` where an operator
    computes with float16 (weights that are only kept so, and cast, are not computed with); else
    ``"fp32"``.
    """
    nodes = model.graph.node
    if any(map(is_quantised, nodes)):
        return INT8
    half = {tensor.name for tensor in model.graph.initializer if _is_half(tensor.data_type)}
    half |= {v.name for v in model.graph.input if _is_half(v.type.tensor_type.elem_type)}
    for node in nodes:
        to = [a.i for a in node.attribute if a.name == "to"]  # which a strange graph may lack
        if node.op_type == "Cast" and any(map(_is_half, to)):
            half.update(node.output)
    computing = (node for node in nodes if node.op_type != "Cast")
    return "fp16" if any(name in half for node in computing for name in node.input) else FLOAT32


def _is_half(kind: int) -> bool:
    return kind == TensorProto.FLOAT16


@dataclass(frozen=True)
class Quantization:
    """How ``pvt-onnx quantize`` made a model.

    Attributes:
        method: ``"static"`` or ``"dynamic"``.
        tool: What did it, and its version.
        kept: The reason of each layer that is left in float, by the layer.
        calibration: What the ranges are of, in words; "" where they are found as it runs.
        rounding: What floats became, in words.
        smooth: How much of the activations' spread went into weights; None for none.
        scales: Of norms whose answers were scaled for that, the power of two of each channel.
        gelu: The form in which GELUs are computed in place of the model's own; "" for that.
    """

    method: str
    tool: str
    kept: dict[str, str] = field(default_factory=dict)
    calibration: str = ""
    rounding: str = ""
    smooth: float | None = None
    scales: dict[str, tuple[int, ...]] = field(default_factory=dict)
    gelu: str = ""

    def __str__(self) -> str:
        kept = f", {len(self.kept)} layers left in float" if self.kept else ""
        return f"{self.method}, by {self.tool}{kept}"

    def to_json(self) -> str:
        """Returns one line of JSON that :meth:`from_json` reads."""
        return encode_json(dataclasses.asdict(self), compact=True)

    @classmethod
    def from_json(cls, text: str) -> "Quantization":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ConfigError: The text is something else.
        """
        try:
            return read_record(cls, parse_json(text), QUANTIZATION_KEY)
        except ValueError as error:
            raise ConfigError(f"{QUANTIZATION_KEY} cannot be read: {error}") from None


def describe_rounding(model: onnx.ModelProto) -> str:
    """Returns the words for how a graph computes, and who made it so; "" of one of float32.

    Raises:
        ConfigError: What the file says of it is damaged.
    """
    precision = read_precision(model)
    if precision == FLOAT32:
        return ""
    if precision == INT8:
        made = read_quantization(model)
        return f"quantised ({made or 'by another tool'})"
    ours = PRECISION_KEY in read_metadata(model)
    return f"computes in {precision}{'' if ours else ' (made so by another tool)'}"


def read_quantization(model: onnx.ModelProto) -> Quantization | None:
    """Returns how ``pvt-onnx quantize`` made a model; None of what it did not make.

    Raises:
        ConfigError: What the file says of it is damaged.
    """
    said = read_metadata(model)
    return Quantization.from_json(said[QUANTIZATION_KEY]) if QUANTIZATION_KEY in said else None
