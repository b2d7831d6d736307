"""A tensor of a request, from its row in the JSON, and perhaps bytes, to its values."""

import math
from base64 import b64decode
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from pvt_onnx.serve.protocol.messages import BYTES, DATATYPES, Tensor, Values, refused
from pvt_spec.files.limits import MAX_DIMS, MAX_INTEGER, MAX_REQUEST_TEXTS
from pvt_spec.words import show

_KINDS = {
    bool: "true or false",
    int: "an integer",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def read_tensor(row: dict[str, Any], data: memoryview | None) -> Tensor:
    """Returns the tensor that a row of the JSON describes.

    Args:
        row: The row, which has a name.
        data: Its elements as bytes; None where the row has them.

    Raises:
        ProtocolError: 400: they are not what the row says.
    """
    name, what = row["name"], f"input {show(row['name'])}"
    datatype = get_field(row, "datatype", str, None, what)
    if datatype != BYTES and datatype not in DATATYPES:
        raise refused(
            f"{what}: datatype {show(datatype)}, expected {BYTES}, {', '.join(DATATYPES)}"
        )
    shape = get_field(row, "shape", list, None, what)
    if len(shape) > MAX_DIMS or not all(type(n) is int and 0 <= n < MAX_INTEGER for n in shape):
        raise refused(f"{what}: shape {show(shape)}, expected at most {MAX_DIMS} integers")
    count = math.prod(shape)
    if datatype == BYTES and count > MAX_REQUEST_TEXTS:
        raise refused(f"{what}: {count} elements, expected at most {MAX_REQUEST_TEXTS}")
    if (data is None) != ("data" in row):
        raise refused(f"{what}: expected either data or binary_data_size")
    if data is not None:
        values: Values = _binary(data, datatype, count, what)
    else:
        values = _listed(row["data"], datatype, shape, what)
    if isinstance(values, np.ndarray):
        values = values.reshape(shape)
    return Tensor(name, datatype, tuple(shape), values)


def _binary(data: memoryview, datatype: str, count: int, what: str) -> Values:
    """Returns the elements of a binary tensor; numbers are not copied where they are aligned."""
    if datatype == BYTES:
        texts = [*_texts(data, count, what)]
        if len(texts) != count:
            raise refused(f"{what}: {len(texts)} elements, expected {count} by its shape")
        return texts
    dtype = DATATYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise refused(
            f"{what}: {len(data)} bytes, expected {count * dtype.itemsize} by its shape, {datatype}"
        )
    return np.require(np.frombuffer(data, dtype), requirements="A")


def _texts(data: memoryview, count: int, what: str) -> Iterator[bytes]:
    """Yields the elements of a binary tensor of bytes; at most one more than there should be."""
    start = 0
    for _ in range(count + 1):
        if start == len(data):
            return
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if start + 4 > len(data) or end > len(data):
            raise refused(f"{what}: an element's length goes beyond its {len(data)} bytes")
        yield bytes(data[start + 4 : end])
        start = end


def _listed(data: Any, datatype: str, shape: list[int], what: str) -> Values:
    """Returns the elements of a tensor in JSON, which are in one list, or in lists as its shape."""
    check_kind(data, list, f"{what}: data")
    values = data
    if data and isinstance(data[0], list):
        values = [data]
        for side in shape:
            if any(type(each) is not list or len(each) != side for each in values):
                raise refused(f"{what}: its data are not nested as its shape {show(shape)}")
            values = [*chain.from_iterable(values)]
    if len(values) != math.prod(shape):
        raise refused(f"{what}: {len(values)} elements, expected as many as in {show(shape)}")
    return _numbers(values, datatype, what)


def _numbers(values: list[Any], datatype: str, what: str) -> Values:
    kinds = {*map(type, values)}
    if datatype == BYTES:
        if not kinds <= {str}:
            raise refused(f"{what}: elements of {BYTES} in JSON are texts")
        return values
    dtype = DATATYPES[datatype]
    allowed: set[type[Any]] = {bool} if dtype.kind == "b" else {int, float}
    if dtype.kind in "ui":
        allowed = {int}
    if not kinds <= allowed:
        found = ", ".join(sorted(kind.__name__ for kind in kinds - allowed))
        raise refused(f"{what}: elements of {datatype} are numbers of its kind, got {found}")
    if dtype.kind in "ui":
        limits, wide = np.iinfo(dtype), np.array(values, np.int64)
        beyond = bool(((wide < limits.min) | (wide > min(limits.max, MAX_INTEGER - 1))).any())
        array = wide.astype(dtype)
    else:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype)
        beyond = not np.isfinite(array).all()
    if beyond:
        raise refused(f"{what}: an element is beyond {datatype}")
    return array


def get_field(row: dict[str, Any], name: str, kind: type[Any], default: Any, of: str) -> Any:
    """Returns a field of an object of JSON.

    Args:
        row: The object.
        name: The field's name.
        kind: The type of its value, exactly.
        default: What it is where it is not there; None, but of a bool, where it has to be.
        of: What to call the object.

    Raises:
        ProtocolError: 400: it is not there, or of another kind.
    """
    if name not in row:
        if default is None and kind is not bool:
            raise refused(f"{of} has no {name}")
        return default
    check_kind(row[name], kind, f"{name} of {of}")
    return row[name]


def check_kind(value: Any, kind: type[Any], what: str) -> None:
    """Refuses a value of JSON that is of another kind."""
    if type(value) is not kind:
        raise refused(f"{what} is {show(value)}, expected {_KINDS[kind]}")


def short_text(text: str, most: int, what: str) -> str:
    """Returns a text of so many characters at most, or refuses it."""
    if len(text) > most:
        raise refused(f"{what} has {len(text)} characters, expected at most {most}")
    return text


def decode_text(element: "bytes | str") -> bytes:
    """Returns an element of bytes that are no text; in JSON they are in base64.

    Raises:
        ProtocolError: 400: it is a text that is none.
    """
    if isinstance(element, bytes):
        return element
    try:
        return b64decode(element, validate=True)
    except ValueError as error:
        raise refused(f"bytes in JSON are in base64, got {show(element)} ({error})") from None
