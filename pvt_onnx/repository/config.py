"""What Triton is told of a model, ``config.pbtxt``: protobuf's text form of its ``ModelConfig``.

Source: triton-inference-server/common ``protobuf/model_config.proto``.
"""

from collections.abc import Iterator, Sequence

import onnx

from pvt_onnx.serve.models import ServedModel
from pvt_onnx.serve.protocol.messages import datatype_of

LABELS = "labels.txt"
"""The file of the classes' names, one on each line, beside the configuration."""


def write_config(name: str, model: ServedModel, graph: onnx.GraphProto, max_batch: int) -> str:
    """Returns the configuration of a model.

    Args:
        name: The name of the folder that it is in.
        model: The model, opened.
        graph: Its graph.
        max_batch: Images of a call; a graph of a fixed batch keeps that.
    """
    return "\n".join(_lines(name, model, graph, max_batch)) + "\n"


def label_lines(model: ServedModel) -> str:
    """Returns the classes' names, one on each line; "" where there are none."""
    names = [" ".join(label.split()) for label in model.info.labels]
    return "".join(f"{name or number}\n" for number, name in enumerate(names))


def _lines(name: str, model: ServedModel, graph: onnx.GraphProto, max_batch: int) -> Iterator[str]:
    interface = model.file.interface
    free = interface.batch is None
    yield f"name: {quoted(name)}"
    yield 'platform: "onnxruntime_onnx"'
    yield f"max_batch_size: {max_batch if free else 0}"
    kind = f"TYPE_{datatype_of(interface.dtype)}"
    dims = [side or -1 for side in model.tensor.shape[1:]]
    batch = [] if free else [interface.batch or 1]
    yield _tensor("input", interface.image, kind, batch + dims)
    values = {value.name: value for value in graph.output}
    for own in interface.outputs.values():
        held = values[own].type.tensor_type
        sides = [dim.dim_value or -1 for dim in held.shape.dim][1:]
        kind_out = datatype_of(onnx.helper.tensor_dtype_to_np_dtype(held.elem_type))
        labels = f"  label_filename: {quoted(LABELS)}\n" if _has_labels(model) else ""
        yield _tensor("output", own, f"TYPE_{kind_out}", batch + sides, labels)
    yield "instance_group [ { count: 1 kind: KIND_AUTO } ]"
    if free and not model.alone:
        yield "dynamic_batching { }"
    H, W = model.info.preprocessing.image_size
    C = model.info.config.in_chans
    one = [H, W, C] if interface.channels_last else [C, H, W]
    yield (
        f'model_warmup [ {{ name: "zeros" batch_size: {int(free)} inputs {{ key: '
        f"{quoted(interface.image)} value {{ data_type: {kind} dims: {_dims(batch + one)} "
        "zero_data: true } } } ]"
    )


def _has_labels(model: ServedModel) -> bool:
    return model.has_classes and bool(model.info.labels)


def _tensor(role: str, name: str, kind: str, dims: Sequence[int], more: str = "") -> str:
    lines = f"  name: {quoted(name)}\n  data_type: {kind}\n  dims: {_dims(dims)}\n{more}"
    return f"{role} [ {{\n{lines}}} ]"


def _dims(dims: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"


def quoted(text: str) -> str:
    """Returns a text as protobuf's text form has it: what is no plain letter as octal bytes."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
