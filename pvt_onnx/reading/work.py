"""How much work operators are, and what they hold for it beside what they take and answer."""

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx

from pvt_onnx.reading.floats import given

_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BiasAdd BiasGelu
    BiasSoftmax BiasSplitGelu BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil
    Celu CenterCropPad Clip Concat ConcatFromSequence Constant ConstantOfShape Cos Cosh CumSum
    DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike
    FastGelu Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool
    GlobalMaxPool Greater GreaterOrEqual GroupNorm GroupNormalization HardSigmoid HardSwish Hardmax
    Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization Max Mean MeanVarianceNormalization Min Mish Mod Mul MulInteger Neg
    Not OneHot Or PRelu Pad Pow QLinearAdd QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu
    QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu
    RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumInteger ReduceSumSquare Relu ReorderInput
    ReorderOutput Reshape Resize Round Scatter ScatterElements ScatterND Selu SequenceAt
    SequenceConstruct SequenceEmpty SequenceInsert SequenceLength Shape Shrink Sigmoid Sign
    SimplifiedLayerNormalization Sin Sinh Size SkipGroupNorm SkipLayerNormalization
    SkipSimplifiedLayerNormalization Slice Softmax Softplus Softsign SpaceToDepth Split
    SplitToSequence Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Upsample Where Xor
"""

_IN_PROPORTION = frozenset(_NAMES.split())
"""Operators of ONNX and onnxruntime that work in proportion to what they take and answer."""

_MULTIPLY = """
    DynamicQuantizeMatMul FusedGemm FusedMatMul FusedMatMulActivation Gemm GemmFastGelu MatMul
    MatMulBnb4 MatMulFpQ4 MatMulInteger MatMulInteger16 MatMulIntegerToFloat MatMulNBits QGemm
    QLinearMatMul TransposeMatMul
"""

_PRODUCTS = frozenset(_MULTIPLY.split())
_WEIGHT = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "FusedConv"), 1),
    **dict.fromkeys(("NhwcConv", "NhwcFusedConv"), 1),
    "QLinearConv": 3,
}
"""Convolutions, and the place of the weight among what they take."""

_POOLS = frozenset(("AveragePool", "LpPool", "MaxPool", "NhwcMaxPool", "QLinearAveragePool"))
_JOINED = ("Attention", "QAttention")
"""Attention that makes queries, keys and values itself, in onnxruntime's domain."""

_ATTENTION = frozenset((*_JOINED, "MultiHeadAttention"))

_COUNTED = _IN_PROPORTION | _PRODUCTS | _WEIGHT.keys() | _POOLS | _ATTENTION | {"Einsum"}


class Work(NamedTuple):
    """What an operator does.

    Attributes:
        products: How many multiplications it takes, those of one for each value left out.
        held: How many values it holds meanwhile.
    """

    products: int
    held: int


def is_known(node: onnx.NodeProto) -> bool:
    """Returns whether it can be told how much work an operator is: that of any in a PVT can."""
    return node.op_type in _COUNTED


def work_of(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> Work:
    """Returns how much work an operator is; none of what has no known shapes."""
    taken, answer = [shapes.get(name, ()) for name in node.input], shapes.get(node.output[0], ())
    if node.op_type == "Einsum":
        return Work(math.prod(math.prod(each) for each in taken), 0)
    if not (taken and taken[0] and answer):
        return Work(0, 0)
    if node.op_type in _PRODUCTS:
        turned = given(node, "transA", 0) and len(taken[0]) > 1
        return Work(math.prod(answer) * taken[0][-2 if turned else -1], 0)
    if node.op_type in _POOLS:
        return Work(math.prod(answer) * math.prod(given(node, "kernel_shape", ())), 0)
    if node.op_type in _WEIGHT:
        weight = [*taken, *[()] * 4][_WEIGHT[node.op_type]] or (1,)
        places = taken[0] if node.op_type == "ConvTranspose" else answer
        products = math.prod(places) * math.prod(weight[1:])
        return Work(products, products // max(weight[0], 1))  # all that the weight lies on
    if node.op_type in _ATTENTION and len(taken[0]) > 2:
        return _attention(node, taken, answer)
    return Work(0, 0)


def _attention(node: onnx.NodeProto, taken: Sequence[Sequence[int]], answer: Sequence[int]) -> Work:
    first, *others = taken
    joined = node.domain == "com.microsoft" and node.op_type in _JOINED
    # Those that went before, keys and values count too: at most twice as many as there are keys.
    keys = sum(each[-2] for each in others if len(each) > 2) + (first[-2] if joined else 0)
    heads = given(node, "num_heads", given(node, "q_num_heads", 1)) if len(first) == 3 else 1
    products = (math.prod(first) + math.prod(answer)) * keys
    if joined and others and others[0]:
        products += math.prod(first) * others[0][-1]
    return Work(products, math.prod(first[:-1]) * heads * keys)


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Returns operators behind those whose results they take, else as they are.

    So they have to be, but not all tools write them so, and engines put them in order themselves.

    Raises:
        ValueError: Some take their own results.
    """
    made_by = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    waits = [{made_by[name] for name in node.input if name in made_by} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for place, sources in enumerate(waits):
        for source in sources:
            users[source].append(place)
    left = [len(sources) for sources in waits]
    ready = [place for place, count in enumerate(left) if not count]
    found = []
    while ready:
        place = heapq.heappop(ready)
        found.append(nodes[place])
        for user in users[place]:
            left[user] -= 1
            if not left[user]:
                heapq.heappush(ready, user)
    if len(found) < len(nodes):
        raise ValueError("operators that take their own results")
    return found
