"""Answers to the bytes and headers that they are sent as, without sockets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pvt_data.answers.accuracy import top_k
from pvt_onnx.serve.protocol.messages import (
    BYTES,
    DATATYPES,
    HEADER_LENGTH,
    InferAnswer,
    ProtocolError,
    Tensor,
    TensorSpec,
    Wanted,
    refused,
)
from pvt_spec.arrays import Array
from pvt_spec.files.json_text import encode_json
from pvt_spec.words import show

Headers = dict[str, str]


def write_answer(answer: InferAnswer) -> tuple[bytes, Headers]:
    """Returns the body and the headers of an answer.

    Raises:
        ProtocolError: 400: a number for which JSON has no word is to go out as JSON.
    """
    rows, binary = [], []
    for tensor, apart in answer.outputs:
        row: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype}
        row["shape"] = [*tensor.shape]
        if apart:
            binary.append(encode_tensor(tensor))
            row["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            row["data"] = _as_json(tensor)
        rows.append(row)
    head: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    head |= {"id": answer.id} if answer.id else {}
    text, headers = write_json({**head, "outputs": rows})
    if not binary:
        return text, headers
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return b"".join([text, *binary]), headers


def write_json(value: Any) -> tuple[bytes, Headers]:
    """Returns the body and the headers of a value in JSON."""
    return encode_json(value, compact=True).encode(), {"content-type": "application/json"}


def write_error(error: ProtocolError) -> tuple[bytes, Headers]:
    """Returns the body and the headers of an error."""
    body, headers = write_json({"error": str(error)})
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return body, headers


def encode_tensor(tensor: Tensor) -> bytes:
    """Returns a tensor's elements as a binary tensor has them."""
    if tensor.datatype == BYTES:
        return b"".join(
            len(each).to_bytes(4, "little") + each for each in map(_encoded, tensor.data)
        )
    return np.asarray(tensor.data, DATATYPES[tensor.datatype]).tobytes()


def _encoded(element: "bytes | str") -> bytes:
    return element.encode() if isinstance(element, str) else element


def _as_json(tensor: Tensor) -> list[Any]:
    if tensor.datatype == BYTES:
        return [*tensor.data]
    array = np.asarray(tensor.data)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise refused(
            f"output {show(tensor.name)} has numbers that are not finite, for which JSON has no "
            'words: look at what is given, or ask for it as a binary tensor ("binary_data": true)'
        )
    values: list[Any] = array.ravel().tolist()
    return values


def choose_outputs(
    answers: Mapping[str, Array],
    wanted: Sequence[Wanted],
    binary: bool,
    label: Callable[[int], str] | None,
) -> list[tuple[Tensor, bool]]:
    """Returns what is wanted of a model's answers, and whether each is to be a binary tensor.

    Args:
        answers: Its answers by name.
        wanted: What is wanted; of none all of them.
        binary: Whether those that say nothing of it are to be binary tensors.
        label: The function that returns a class's name; None where answers are of no classes.
    """
    chosen = []
    for each in wanted or [Wanted(name) for name in answers]:
        array = answers[each.name]
        tensor = Tensor.of(each.name, array)
        if each.classes and label:
            tensor = largest(each.name, array, each.classes, label)
        chosen.append((tensor, binary if each.binary is None else each.binary))
    return chosen


def check_wanted(wanted: Iterable[Wanted], outputs: Sequence[TensorSpec], classes: bool) -> None:
    """Refuses outputs that a model does not have, before it is asked.

    Raises:
        ProtocolError: 400: there is no such output, or its values are of no classes.
    """
    known = [each.name for each in outputs]
    for each in wanted:
        if each.name not in known:
            raise refused(f"output {show(each.name)}, expected one of {', '.join(known)}")
        if each.classes and not classes:
            raise refused(f"classification of output {show(each.name)}, which has no classes")


def largest(name: str, values: Array, count: int, label: Callable[[int], str]) -> Tensor:
    """Returns the classes of the largest values as texts: ``value:index:label``, largest first.

    A value is written so that float32 of it is the same.

    Args:
        name: The output's name.
        values: float32 (B, num_classes).
        count: How many classes; of a model with fewer, all.
        label: The function that returns a class's name.

    Raises:
        ProtocolError: 400: there are NaN, of which nothing is the largest.
    """
    if np.isnan(values).any():
        raise refused(f"output {show(name)} has NaN, so no classes: look at what is given")
    best = top_k(values, count)
    texts = [
        f"{row[index]!s}:{index}:{label(int(index))}"
        for row, indices in zip(values, best, strict=True)
        for index in indices
    ]
    return Tensor(name, BYTES, best.shape, texts)
