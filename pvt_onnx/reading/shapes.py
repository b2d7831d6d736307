"""The shapes of a graph's values for one image, as far as they can be told before it runs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_tensor_value_info

from pvt_packages import is_installed
from pvt_spec.arrays import Array

Shapes = dict[str, list[int]]
"""The shape of each value that has a known one."""

_FEW = 4096
"""Numbers of a value that is computed itself, and not only its shape."""

_PASSES = 16
"""How many times sizes may be computed from shapes that follow from sizes."""

_NAMES = """
    Abs Add And Cast Ceil Concat Constant ConstantOfShape Div Equal Expand Floor Gather Greater
    GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg Not Or Pow ReduceMax ReduceMin
    ReduceProd ReduceSum Reshape Round Shape Size Slice Sqrt Squeeze Sub Unsqueeze Where
"""

_COMPUTED = frozenset(_NAMES.split())
"""Operators that sizes are computed with; onnx's inference follows some of them alone."""

_STANDARD = ("", "ai.onnx")

_KINDS = {
    f"tensor({name})": number
    for name, number in {
        "bfloat16": TensorProto.BFLOAT16,
        "double": TensorProto.DOUBLE,
        "float": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "uint8": TensorProto.UINT8,
        "int8": TensorProto.INT8,
        "uint16": TensorProto.UINT16,
        "int16": TensorProto.INT16,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "bool": TensorProto.BOOL,
    }.items()
}
"""What onnxruntime calls the kinds of values."""


def find_shapes(model: onnx.ModelProto) -> tuple[Shapes, list[onnx.NodeProto]]:
    """Returns the shapes of all values, and the operators whose answers' cannot be told.

    Given what is known, what they answer may be of any size. What operators that are not ONNX's own
    answer onnxruntime is asked, where it is installed.

    Args:
        model: The graph, whose inputs have shapes, with the values of what is small; what can be
            computed of it is held in place of its operators.
    """
    shapes = _infer(model)
    for _ in range(_PASSES):
        if all(_is_known(node, shapes) for node in model.graph.node):
            break
        made = _compute(model, shapes)
        told = [] if made else _ask_engine(model, shapes)
        if not (made or told):
            break
        model.graph.value_info.extend(told)
        answers = {value.name: value for value in told}
        for output in model.graph.output:
            output.MergeFrom(answers.get(output.name, onnx.ValueInfoProto()))
        left = [node for node in model.graph.node if node.output[0] not in made]
        del model.graph.node[:]
        model.graph.node.extend(left)
        tensors = (numpy_helper.from_array(value, name) for name, value in made.items())
        model.graph.initializer.extend(tensors)
        shapes |= _infer(model)
    all_told = is_installed("onnxruntime")  # another engine needs none
    untold = [
        node
        for node in model.graph.node
        if (all_told or node.domain in _STANDARD)
        and not _is_known(node, shapes)
        and all(name in shapes for name in node.input if name)
    ]
    return shapes, untold


def _infer(model: onnx.ModelProto) -> Shapes:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = {value.name: value.type for value in (*graph.value_info, *graph.output, *graph.input)}
    found = {tensor.name: [*tensor.dims] for tensor in model.graph.initializer}
    for name, kind in values.items():
        held = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind
        dims = held.tensor_type.shape.dim
        if held.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[name] = [dim.dim_value for dim in dims]
    return found


def _is_known(node: onnx.NodeProto, shapes: Shapes) -> bool:
    return all(name in shapes for name in node.output if name)


def _compute(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Returns the values of what follows from shapes and from what a graph holds, few numbers each.

    Nothing that is large is made: what is asked for its shape is a zero that is shown as often.
    """
    from onnx.reference import ReferenceEvaluator  # few graphs need it

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    taken: dict[str, onnx.NodeProto] = {}
    given: dict[str, Array] = {}
    for node in model.graph.node:
        few = [math.prod(shapes.get(name, [_FEW + 1])) <= _FEW for name in node.output]
        if node.op_type not in _COMPUTED or node.domain not in _STANDARD or few != [True]:
            continue
        others = [name for name in node.input if name and name not in held and name not in taken]
        if others and (node.op_type not in ("Shape", "Size") or others[0] not in shapes):
            continue
        given |= {name: np.broadcast_to(np.float32(0), shapes[name]) for name in others}
        taken[node.output[0]] = node
    if not taken:
        return {}
    needed = {name for node in taken.values() for name in node.input}
    inputs = [make_tensor_value_info(name, 1, shapes[name]) for name in given]
    outputs = [onnx.ValueInfoProto(name=name) for name in taken]
    constants = [held[name] for name in needed if name in held]
    graph = make_graph([*taken.values()], "sizes", inputs, outputs, constants)
    part = make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    with np.errstate(all="ignore"):
        values = ReferenceEvaluator(part).run(None, given)
    return {name: np.asarray(value) for name, value in zip(taken, values, strict=True)}


def _ask_engine(model: onnx.ModelProto, shapes: Shapes) -> list[onnx.ValueInfoProto]:
    """Returns what follows from operators that are not ONNX's own, which onnxruntime knows.

    It is given the weights as inputs, and runs nothing. What it cannot open it will not run either.
    """
    nodes = model.graph.node
    unknown = [name for node in nodes for name in node.output if name and name not in shapes]
    if all(node.domain in _STANDARD for node in nodes) or not unknown:
        return []
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    try:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.enable_mem_reuse = False
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            asked.SerializeToString(), settings, enable_fallback=0
        )
    except Exception:  # as it says nowhere what it raises
        return []
    return [
        make_tensor_value_info(value.name, _KINDS[value.type], value.shape)
        for value in session.get_outputs()
        if value.type in _KINDS and all(isinstance(side, int) for side in value.shape)
    ]
