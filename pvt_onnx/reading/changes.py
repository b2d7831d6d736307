"""What in an ``.onnx`` is not as it was written: the graph against what the metadata says."""

import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype
from onnx.numpy_helper import to_array

from pvt_onnx.graph.build import build_skeleton, hash_graph
from pvt_onnx.reading.files import read_metadata
from pvt_onnx.reading.held import read_held
from pvt_onnx.reading.precision import read_precision
from pvt_onnx.targets import DEFAULT_TARGET, EMBEDDED_KEY, TARGET_KEY, TARGETS
from pvt_spec import METADATA_KEY, ConfigError, ModelInfo, tensor_specs
from pvt_spec.attributes import expected_attributes, within_a_step
from pvt_spec.hashes import GRAPH_KEY, PRECISION_KEY, SHOWN, changed_weights, hash_weights
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import listed, printable, shortened, show

_Facts = dict[str, Any]

_KINDS = 3
"""How many kinds of operators are named of those that are missing, new or changed."""

_VALUES = ("f", "i", "s", "t", "g", "floats", "ints", "strings", "tensors", "graphs")
"""The fields of an attribute that are values."""

_DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a strange graph may raise."""


def find_changes(model: onnx.ModelProto, info: ModelInfo) -> list[str]:
    """Returns what in a model is not as it was written, in words; first the weights, by name."""
    names = [spec.name for spec in tensor_specs(info.config)]
    try:
        found = read_held(model, info.config)
        held, rounded = found.weights, found.steps
        exact = {name: held[name] for name in names if name in held and name not in rounded}
        hashes = hash_weights(exact)
    except _DAMAGED as error:
        return [f"its weights, which are damaged ({error!r:.100})"]
    missing = [f"{name} is missing" for name in names if name not in held]
    # A graph without a weight is another one.
    more = missing or graph_changes(model, info)
    return [*changed_weights(info.hashes, hashes), *more]


def _repeated(graph: onnx.GraphProto) -> list[str]:
    """Returns what is there more than once, in words.

    Of that the facts have the last, and an engine may take any.
    """
    values = [value.name for value in (*graph.input, *graph.output)]
    made = [name for node in graph.node for name in node.output if name]
    made += [tensor.name for tensor in graph.initializer]
    counts = [*Counter(values).items(), *Counter(made).items()]
    for node in graph.node:
        if len(node.attribute) > len({each.name for each in node.attribute}):
            named = (f"{', '.join(node.output)}: {each.name}" for each in node.attribute)
            counts += Counter(named).items()
    return [f"{show(name)} is there {times} times" for name, times in counts if times > 1]


def graph_changes(model: onnx.ModelProto, info: ModelInfo) -> list[str]:
    """Returns what of a model's graph is not as it was written, in words.

    Args:
        model: The model.
        info: What its metadata says, which fits its weights.
    """
    try:
        return [*_repeated(model.graph), *_graph_changes(model, info)]
    except _DAMAGED as error:
        return [f"its graph, which is damaged ({error!r:.100})"]


def _graph_changes(model: onnx.ModelProto, info: ModelInfo) -> list[str]:
    metadata = read_metadata(model)
    recorded, said = metadata.get(GRAPH_KEY), metadata[METADATA_KEY]
    if recorded is None:  # written before graphs were hashed, perhaps by another writer of nodes
        return _attribute_changes(model, info)
    if recorded == hash_graph(model, said):
        return []
    if read_precision(model) != FLOAT32 and PRECISION_KEY not in metadata:
        # Made coarser by a tool, of whose graph nothing is known.
        return _attribute_changes(model, info)
    for written in _written(model, info):
        if hash_graph(written, said) == recorded:
            return _in_short(_differences(_facts(written), _facts(model)))
    return _attribute_changes(model, info) or ["its graph"]


def is_ours(model: onnx.ModelProto, info: ModelInfo) -> bool:
    """Returns whether a model's graph is one that is written for this description, saved anyhow.

    What its metadata says of the graph's hash is not asked: that could be anybody's.
    """
    try:
        if _repeated(model.graph) or not all(map(_is_plain, model.graph.node)):
            return False
        found = _facts(model)
        return any(not _differences(_facts(each), found) for each in _written(model, info))
    except _DAMAGED:
        return False


def _is_plain(node: onnx.NodeProto) -> bool:
    """Returns whether each attribute of a node has one value, as engines ask."""
    values = [
        [kind for kind, _ in each.ListFields() if kind.name in _VALUES] for each in node.attribute
    ]
    return all(len(kinds) <= 1 for kinds in values)


def _attribute_changes(model: onnx.ModelProto, info: ModelInfo) -> list[str]:
    """Returns what the nodes hold that the metadata says otherwise."""
    expected = expected_attributes(info.config, info.numerics)
    held = read_held(model, info.config)
    return [
        f"{name} is {value}, expected {expected[name]}"
        for name, value in held.attributes.items()
        if name in expected
        and value != expected[name]
        and not within_a_step(expected[name], value, held.steps.get(name))
    ]


def _written(model: onnx.ModelProto, info: ModelInfo) -> Iterator[onnx.ModelProto]:
    """Yields the graphs that may have been written for this description, without weights."""
    known = {spec.name for spec in tensor_specs(info.config)}
    dtypes: dict[str, np.dtype[Any]] = dict.fromkeys(known, np.dtype(np.float32)) | {
        tensor.name: tensor_dtype_to_np_dtype(tensor.data_type)
        for tensor in model.graph.initializer
        if tensor.name in known
    }
    now = {each.version for each in model.opset_import if not each.domain}
    metadata = read_metadata(model)
    said = metadata.get(TARGET_KEY)
    target = TARGETS.get(said or DEFAULT_TARGET, TARGETS[DEFAULT_TARGET])
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    uint8 = kinds == [onnx.TensorProto.UINT8]
    answered = {value.type.tensor_type.elem_type for value in model.graph.output}
    for opset in sorted(target.opsets, key=lambda opset: opset not in now):
        for dynamic in (False, True):
            with suppress(ConfigError):  # not all of a target's graphs can be written
                yield build_skeleton(
                    info,
                    dtypes,
                    dynamic_size=dynamic,
                    opset=opset,
                    target=target.name,
                    uint8=uint8,
                    precision=metadata.get(PRECISION_KEY, FLOAT32),
                    half_ends=answered == {onnx.TensorProto.FLOAT16},
                    embed=EMBEDDED_KEY in metadata,
                )


def _facts(model: onnx.ModelProto) -> dict[str, _Facts]:
    """Returns what decides a graph's answers, by the words for each part of it."""
    graph = model.graph
    facts: dict[str, _Facts] = {}
    for node in graph.node:
        attributes = {a.name: get_attribute_value(a) for a in node.attribute}
        operator = ".".join(filter(None, (_domain(node), node.op_type)))
        facts[f"node {', '.join(node.output)}"] = {
            "operator": operator,
            "inputs": ", ".join(node.input),
            **attributes,
        }
    for tensor in graph.initializer:
        if "/" in tensor.name:
            facts[f"constant {tensor.name}"] = {"value": to_array(tensor)}
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            held = value.type.tensor_type
            shape = [d.dim_param or d.dim_value for d in held.shape.dim]
            element = onnx.TensorProto.DataType.Name(held.elem_type).lower()
            facts[f"{kind} {value.name}"] = {"type": element, "shape": shape}
    facts |= {f"function {function.name}": {} for function in model.functions}
    facts |= {
        f"opset {_domain(each)}".strip(): {"version": each.version} for each in model.opset_import
    }
    return facts


def _domain(part: Any) -> str:
    """Returns the domain of a node or an opset; ONNX's own has two names."""
    return "" if part.domain == "ai.onnx" else str(part.domain)


def _shown(value: Any) -> str:
    if isinstance(value, Message):
        return str(value.DESCRIPTOR.name)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        value = np.array2string(value, threshold=8).replace("\n", "")
    return shortened(value if isinstance(value, str) else reprlib.repr(value))


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
        kinds = [(each.dtype, each.shape) for each in (value, other)]
        return kinds[0] == kinds[1] and value.tobytes() == other.tobytes()
    return bool(value == other)


@dataclass(frozen=True)
class _Difference:
    """How a part of a graph is not as it was written.

    Attributes:
        part: The words for the part.
        kind: A node's operator, or what else it is.
        how: Whether it is missing, new or changed.
        what: The words for that.
    """

    part: str
    kind: str
    how: str
    what: str


def _differences(expected: Mapping[str, _Facts], found: Mapping[str, _Facts]) -> list[_Difference]:
    differences = []
    for part in dict.fromkeys([*expected, *found]):
        ours, theirs = expected.get(part), found.get(part)
        kind = str((ours or theirs or {}).get("operator", part.partition(" ")[0]))
        if theirs is None or ours is None:
            how = "missing" if theirs is None else "new"
            differences.append(_Difference(part, kind, how, f"{part} is {how}"))
            continue
        for key in dict.fromkeys([*ours, *theirs]):
            if not _same(ours.get(key), theirs.get(key)):
                got, wanted = (_shown(facts.get(key, "missing")) for facts in (theirs, ours))
                text = f"{part}: {key} is {got}, expected {wanted}"
                differences.append(_Difference(part, kind, "changed", text))
    return differences


def _in_short(differences: Sequence[_Difference]) -> list[str]:
    """Returns the words for differences: of many how many of each kind, and the first few."""
    if len(differences) <= SHOWN:
        return [each.what for each in differences]
    kinds: dict[str, Counter[str]] = {}
    for how, kind, _ in dict.fromkeys((each.how, each.kind, each.part) for each in differences):
        kinds.setdefault(how, Counter())[kind] += 1
    counts = (
        f"{counter.total()} {how} ({listed(counter.most_common(), _KINDS, _number_of)})"
        for how, counter in kinds.items()
    )
    first = [each.what for each in differences[: SHOWN - 1]]
    return [f"parts of its graph: {', '.join(counts)}; the first of them: {first[0]}", *first[1:]]


def _number_of(counted: tuple[str, int]) -> str:
    kind, count = counted
    return f"{count} {shortened(printable(kind))}"
