"""Damage to protobuf messages: ``.ckpt`` and ``.onnx``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests.support.fuzzing.damage_bytes import (
    HOSTILE,
    MOST,
    Draw,
    chosen,
    damaged_bytes,
    index,
    several,
    varint,
)


@dataclass
class Field:
    """A field as it is written, whether or not that is right.

    Attributes:
        number: Before its kind in the key.
        kind: How it is encoded, 0 to 7.
        value: By kind: a number, bytes, or the fields of a message.
        length: What is claimed, where that is not the truth.
        padding: Bytes that its key is longer than it has to be.
    """

    number: int
    kind: int
    value: "int | bytes | list[Field]"
    length: int | None = None
    padding: int = 0

    def copy(self) -> "Field":
        value = [f.copy() for f in self.value] if isinstance(self.value, list) else self.value
        return replace(self, value=value)


Schema = Mapping[int, Any]
"""By field number, the schema of each field that is a message."""


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def parse_message(data: bytes, schema: Schema) -> list[Field]:
    """The fields of a message that is right."""
    fields, at = [], 0
    while at < len(data):
        key, at = _number(data, at)
        number, kind = key >> 3, key & 7
        value: Any
        if kind == 0:
            value, at = _number(data, at)
        elif kind == 2:
            length, at = _number(data, at)
            value, at = data[at : at + length], at + length
            if number in schema:
                value = parse_message(value, schema[number])
        else:
            width = {1: 8, 5: 4}[kind]
            value, at = data[at : at + width], at + width
        fields.append(Field(number, kind, value))
    return fields


def encode_message(fields: list[Field]) -> bytes:
    return b"".join(map(_encode, fields))


def _encode(field: Field) -> bytes:
    key = varint(field.number << 3 | field.kind, field.padding)
    value = field.value
    if field.kind == 0:
        return key + varint(value if isinstance(value, int) else len(value))
    content = encode_message(value) if isinstance(value, list) else value
    if isinstance(content, int):
        content = varint(content)
    if field.kind == 2:
        return key + varint(len(content) if field.length is None else field.length) + content
    width = {1: 8, 5: 4}.get(field.kind)
    return key + (content[:width].ljust(width, b"\0") if width else b"")


def places(fields: list[Field]) -> list[tuple[list[Field], int]]:
    """Every field of a message and those in it: the list it is in, and where."""
    found = []
    for at, field in enumerate(fields):
        found.append((fields, at))
        if isinstance(field.value, list):
            found += places(field.value)
    return found


def damage_message(draw: Draw, message: list[Field]) -> str:
    """Changes one field, and tells how."""
    spots = places(message)
    if not spots:
        message.append(Field(1, 2, b""))
        return "add"
    siblings, at = chosen(draw, spots)
    field = siblings[at]
    way = chosen(draw, _MESSAGE_WAYS)
    if way == "drop":
        del siblings[at]
    elif way == "double":
        siblings.insert(index(draw, len(siblings) + 1), field.copy())
    elif way == "copy elsewhere":
        others, to = chosen(draw, spots)
        others.insert(to, field.copy())
    elif way == "swap":
        other = index(draw, len(siblings))
        siblings[at], siblings[other] = siblings[other], siblings[at]
    elif way == "renumber":
        field.number = chosen(draw, (*range(17), (1 << 29) - 1, 1 << 29, 1 << 61))
    elif way == "rewire":
        field.kind = index(draw, 8)
    elif way == "length":
        field.length = chosen(draw, HOSTILE)
    elif way == "padding":
        field.padding = several(draw, 1, 10)
    elif way == "unknown":
        kind = index(draw, 8)
        siblings.insert(at, Field(several(draw, 0, 20), kind, draw(st.binary(max_size=9))))
    elif way == "conflict":  # the same field once more, with another value
        siblings.insert(at + index(draw, 2), changed_value(draw, field.copy()))
    elif way == "crowd":
        crowd(draw, siblings, at)
    else:
        changed_value(draw, field)
    return f"message: {way}"


_MESSAGE_WAYS = ("drop", "double", "copy elsewhere", "swap", "renumber", "rewire", "length")
_MESSAGE_WAYS += ("padding", "unknown", "conflict", "conflict", "crowd", "value", "value", "value")


def changed_value(draw: Draw, field: Field) -> Field:
    if isinstance(field.value, int):
        field.value = chosen(draw, HOSTILE)
    elif isinstance(field.value, bytes):
        field.value = damaged_bytes(draw, field.value)
    elif field.value:
        field.value[index(draw, len(field.value))] = Field(
            several(draw, 1, 15), 2, draw(st.binary(max_size=9))
        )
    return field


def crowd(draw: Draw, siblings: list[Field], at: int) -> None:
    """The same field very often; a message with a text of its own each time."""
    field = siblings[at]
    size = len(_encode(field)) + 4
    count = min(chosen(draw, (3, 40, 33, 3000)), MOST // size)
    copies = [field.copy() for _ in range(count)]
    for number, copy in enumerate(copies):
        for inner in copy.value if isinstance(copy.value, list) else ():
            if isinstance(inner.value, bytes) and inner.kind == 2:
                inner.value += str(number).encode()
                break
    siblings[at:at] = copies


def split_entry(draw: Draw, entries: list[Field]) -> str:
    """Splits a parameter of a ``.ckpt``, perhaps so that its pieces do not fit each other."""
    whole = [at for at, entry in enumerate(entries) if _content(entry)]
    if not whole:
        return "split: nothing"
    at = chosen(draw, whole)
    content = _content(entries[at]).value
    pieces, begin = [], 0
    for _ in range(several(draw, 2, 4)):
        end = begin + index(draw, len(content) - begin + 1)
        piece = entries[at].copy()
        _content(piece).value = content[begin:end]
        pieces.append(piece)
        begin = end
    _content(pieces[-1]).value += content[begin:]
    way = chosen(draw, ("fit", "fit", "damage", "drop", "swap", "apart", "double", "retype"))
    one = index(draw, len(pieces))
    if way == "damage":
        damage_message(draw, pieces[one].value)
    elif way == "drop":
        del pieces[one]
    elif way == "swap":
        pieces.reverse()
    elif way == "double":
        pieces.insert(one, pieces[one])
    elif way == "retype":
        for field in pieces[one].value[-1].value:
            if field.number == 2:
                field.value = chosen(draw, (b"str", b"Int32", b"UInt8", b"Float64", b""))
    elif way == "apart":
        entries.append(pieces.pop())
    entries[at : at + 1] = pieces
    return f"split: {way}"


def _content(entry: Field) -> Any:
    """The field of an entry that holds the contents; None where it has none."""
    tensor = entry.value[-1] if isinstance(entry.value, list) and entry.value else None
    inner = tensor.value if tensor and isinstance(tensor.value, list) else []
    return next((f for f in inner if f.number == 3 and isinstance(f.value, bytes)), None)


def replace_tensor_place(draw: Draw, tensors: list[Field], locations: Any) -> str:
    """Says of an initializer of an ``.onnx`` that it is in another file, by any location."""
    messages = [field for field in tensors if isinstance(field.value, list)]
    if not messages:
        return "place: nothing"
    tensor = chosen(draw, messages).value
    entries = {"location": chosen(draw, locations)}
    for key in ("offset", "length"):
        if draw(st.booleans()):
            entries[key] = str(chosen(draw, (*HOSTILE, -1, "1.5", "", "1e3", "²", " 8", "0x8")))
    if draw(st.booleans()):
        tensor[:] = [field for field in tensor if field.number not in (9, 13, 14)]
    for key, value in entries.items():
        pair = [Field(1, 2, key.encode()), Field(2, 2, value.encode())]
        tensor.append(Field(13, 2, pair))
    tensor.append(Field(14, 0, chosen(draw, (1, 1, 1, 0, 2, 1 << 32, (1 << 64) - 1))))
    return "place"
