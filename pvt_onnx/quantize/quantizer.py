"""onnxruntime's quantiser, and what it is told for each target."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from pvt_onnx.engines.integers import sums_saturate
from pvt_onnx.targets import Target
from pvt_spec import ConfigError, PvtError
from pvt_spec.words import reason

_OLDEST, _OLDEST_OF = 13, {"uint16": 21}
"""The opset from which a weight may have a scale for each channel, and what activations need."""

_NEWEST_OF = {"int8": 20}
"""The opset beyond which onnxruntime 1.31 cannot load such activations: where it moves a
``QuantizeLinear`` before a ``Transpose``, it gives the new one a zero point of uint8.
"""

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8, "uint16": QuantType.QUInt16}
_STATIC, PRODUCT = ("Conv", "Gemm"), "Gemm"


@dataclass(frozen=True)
class Scheme:
    """What floats become.

    Attributes:
        activations: A key of :data:`pvt_onnx.quantize.options.ACTIVATIONS`.
        reduce_range: Whether weights have 7 bits.
        biases: Whether biases become int32; TensorRT takes them as floats alone.
        gelu: The form in which GELUs are computed, whatever the model's own: None for that.
    """

    activations: str
    reduce_range: bool = False
    biases: bool = True
    gelu: str | None = None

    def __str__(self) -> str:
        bits = 7 if self.reduce_range else 8
        symmetric = " symmetric" if self.activations == "int8" else ""
        return f"activations{symmetric} {self.activations}, weights int8 of {bits} bits per channel"


def choose_opset(opset: int, activations: str) -> int:
    """Returns the opset for a quantised graph of such activations that is next to another."""
    least = max(opset, _OLDEST, _OLDEST_OF.get(activations, 0))
    return min(least, _NEWEST_OF.get(activations, least))


def choose_scheme(target: Target, activations: str | None, full_range: bool | None) -> Scheme:
    """Returns what floats become for a target.

    Args:
        target: What the graph is for.
        activations: What is asked for; None for the target's own.
        full_range: Whether weights have all 8 bits; None for as many as this CPU adds up exactly.

    Raises:
        ConfigError: The target does not take such activations.
    """
    if target.name == "tensorrt":
        if activations not in (None, "int8"):
            raise ConfigError(
                f"--activations {activations}: TensorRT takes symmetric int8 alone: leave it out"
            )
        return Scheme("int8", reduce_range=False, biases=False)
    reduce_range = not full_range if full_range is not None else sums_saturate()
    gelu = "tanh" if target.name == "onnxruntime" else None
    return Scheme(activations or "uint8", reduce_range, gelu=gelu)


def find_nodes(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Returns the operators that can be quantised, by the layer whose weight they have."""
    return {
        node.input[1].removesuffix(".weight"): node
        for node in model.graph.node
        if node.op_type in _STATIC
    }


def find_values(nodes: Mapping[str, onnx.NodeProto]) -> list[str]:
    """Returns the names of the values that have ranges where these operators are quantised."""
    return [*dict.fromkeys(name for n in nodes.values() for name in (n.input[0], n.output[0]))]


def quantise_static(
    model: onnx.ModelProto, ranges: TensorsData, scheme: Scheme, layers: Collection[str]
) -> onnx.ModelProto:
    """Returns a model of which some layers are quantised, the others as they are.

    Args:
        model: A float model of :func:`pvt_onnx.quantize.source.Source.build`.
        ranges: Those of the values of :func:`find_values`, of these layers at least.
        scheme: What floats become.
        layers: The layers.
    """
    nodes = find_nodes(model)
    wanted = [nodes[layer].name for layer in layers]
    given = onnx.shape_inference.infer_shapes(model)  # a copy, and the quantiser asks for types
    if wanted:
        with _hushed():
            quantizer = QDQQuantizer(
                given,
                per_channel=True,
                reduce_range=scheme.reduce_range,
                weight_qType=QuantType.QInt8,
                activation_qType=_TYPES[scheme.activations],
                tensors_range=ranges,
                nodes_to_quantize=wanted,
                nodes_to_exclude=[],
                op_types_to_quantize=[*_STATIC],
                extra_options={
                    "ActivationSymmetric": scheme.activations == "int8",
                    "WeightSymmetric": True,
                    "QuantizeBias": scheme.biases,
                    # Products of matrices answer floats; convolutions of integers cannot.
                    "OpTypesToExcludeOutputQuantization": ["Gemm"],
                },
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        given = quantizer.model.model
    return _finished(given, scheme.gelu)


def quantise_dynamic(
    model: onnx.ModelProto, scheme: Scheme, layers: Collection[str]
) -> onnx.ModelProto:
    """Returns a model of whose products of matrices some are of integers, the others as they are.

    Convolutions stay in float: onnxruntime's of integers are several times slower.

    Args:
        model: A float model, its linear layers products of matrices.
        scheme: What floats become.
        layers: The layers, linear ones.
    """
    nodes = find_nodes(model)
    # The quantiser makes a product and a sum of each first.
    wanted = [f"{nodes[layer].name}_MatMul" for layer in layers]
    given = onnx.shape_inference.infer_shapes(model)
    with _hushed():
        quantizer = ONNXQuantizer(
            given,
            per_channel=True,
            reduce_range=scheme.reduce_range,
            mode=QuantizationMode.IntegerOps,
            static=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=None,
            nodes_to_quantize=wanted,
            nodes_to_exclude=[],
            op_types_to_quantize=["MatMul"],
            extra_options={"MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return _finished(quantizer.model.model, scheme.gelu)


def _finished(model: onnx.ModelProto, gelu: str | None) -> onnx.ModelProto:
    # Of values whose shapes are known, onnxruntime fuses norms into an operator that is slower.
    model.graph.ClearField("value_info")
    for tensor in model.graph.initializer:
        if not tensor.HasField("raw_data"):  # the one place where values are read from files
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    for node in model.graph.node:
        if gelu and node.op_type == "Gelu":
            (form,) = node.attribute
            form.s = gelu.encode()
    model.producer_name = "pvt_onnx"
    return model


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keeps to itself what the quantiser says of its own accord.

    Raises:
        PvtError: Its temporary files cannot be written, or read again.
    """
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (OSError, onnx.checker.ValidationError) as error:
        raise PvtError(
            f"{tempfile.gettempdir()}: onnxruntime's quantiser cannot write its temporary files "
            f"there, or not read them ({reason(error)}): make room, or name another folder in the "
            "environment's TMPDIR"
        ) from error
    finally:
        logger.setLevel(level)
