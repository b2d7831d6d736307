"""Damage to JSON: the header of a ``.safetensors``."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from tests.support.fuzzing.damage_bytes import HOSTILE, Draw, chosen, index


class Pairs(list[Any]):
    """A JSON object as a list of [name, value], which may hold a name twice."""


class Raw(str):
    """Text that is put into JSON as it is."""


RAW = ("NaN", "-Infinity", "1e400", "-0", "01", "1.0", "9" * 5000, "", '"\\ud800"', '"\\u0000"')
RAW += ("[" * 2000, '{"a":' * 2000, "null", "true", "-1", '"\x01"', "1e2", "0.5", "[0,0,0]")
TEXTS = ("__metadata__", "", "dtype", "shape", "data_offsets", "F32", "BF16", "F64", "F4", "BOOL")
TEXTS += ("I8", "\x1b[2J", "\u202e", "é" * 200, "a" * 5000, "\0")


def parse_json(text: bytes) -> Pairs:
    header: Pairs = json.loads(text, object_pairs_hook=lambda pairs: Pairs(map(list, pairs)))
    return header


def encode_json(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, Pairs):
        return "{" + ",".join(map(_encode_pair, value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _encode_pair(pair: Any) -> str:
    # A damaged pair may be anything.
    plain = isinstance(pair, list) and not isinstance(pair, Pairs)
    return ":".join(map(encode_json, pair)) if plain else encode_json(pair)


def _json_places(value: Any) -> list[tuple[Any, int]]:
    found = []
    for at, item in enumerate(value):
        found.append((value, at))
        if isinstance(item, list):
            found += _json_places(item)
    return found


def damage_json(draw: Draw, header: Pairs) -> str:
    """Changes one value, name or pair, and tells how."""
    spots = _json_places(header)
    if not spots:
        header.append([chosen(draw, TEXTS), Pairs()])
        return "json: add"
    parent, at = chosen(draw, spots)
    way = chosen(draw, _JSON_WAYS)
    if way == "value":
        parent[at] = hostile_json(draw)
    elif way == "near":  # numbers that are nearly right
        near = [(p, i) for p, i in spots if type(p[i]) is int]
        if near:
            parent, at = chosen(draw, near)
            step = chosen(draw, (-8, -1, 1, 8))
            parent[at] += step
            if draw(st.booleans()) and at + 1 < len(parent) and type(parent[at + 1]) is int:
                parent[at + 1] += step  # a tensor that is moved, over another or from a gap
    elif way == "drop":
        del parent[at]
    elif way == "double":
        parent.insert(at, deepcopy(parent[at]))
    elif way == "swap":
        other = index(draw, len(parent))
        parent[at], parent[other] = parent[other], parent[at]
    elif way == "rename":
        pair = chosen(draw, header)
        if isinstance(pair, list) and pair and isinstance(pair[0], str):
            pair[0] = chosen(draw, (pair[0] + "2", *TEXTS))
    elif way == "reorder":
        header.reverse()
    elif way == "refit":
        refit_tensor(draw, header)
    else:
        dtype, most = (
            chosen(draw, ("F32", "BOOL", "C64")),
            chosen(draw, (2, 2, 2, 30, 30, 30, 1000)),
        )
        end = chosen(draw, (0, 0, 24))
        for number in range(most):
            tensor = [["dtype", dtype], ["shape", [0]], ["data_offsets", [end, end]]]
            header.append([f"{number}", Pairs(tensor)])
    return f"json: {way}"


_JSON_WAYS = ("value", "value", "value", "near", "near", "drop", "double", "swap", "crowd")
_JSON_WAYS += ("rename", "reorder", "refit", "refit", "refit")


def refit_tensor(draw: Draw, header: Pairs) -> None:
    """Gives a tensor another dtype or shape that fits its bytes, or nearly so."""
    pair = chosen(draw, header)
    facts = pair[-1] if isinstance(pair, list) and pair else None
    if not isinstance(facts, Pairs):
        return
    for fact in facts:
        if not isinstance(fact, list) or len(fact) != 2:
            continue
        if fact[0] == "dtype":
            alike = next((types for types in ALIKE if fact[1] in types), ALIKE[0])
            fact[1] = chosen(draw, alike)
        if fact[0] == "shape" and isinstance(fact[1], list):
            fact[1].insert(index(draw, len(fact[1]) + 1), chosen(draw, (1, 1, 1, 0, 2)))
            if draw(st.booleans()):
                fact[1].reverse()


ALIKE = (
    ("U8", "I8", "BOOL", "F8_E5M2", "F8_E4M3", "F8_E8M0"),
    ("F16", "BF16", "I16", "U16"),
    ("F32", "I32", "U32"),
    ("F64", "I64", "U64", "C64"),
)
"""dtypes of one width."""


def hostile_json(draw: Draw) -> Any:
    kind = index(draw, 5)
    if kind == 0:
        return Raw(chosen(draw, RAW))
    if kind == 1:
        return chosen(draw, HOSTILE)
    if kind == 2:
        return chosen(draw, TEXTS)
    if kind == 3:
        return [chosen(draw, HOSTILE) for _ in range(chosen(draw, (0, 1, 2, 3, 33, 70)))]
    return Pairs([chosen(draw, TEXTS), chosen(draw, TEXTS)] for _ in range(index(draw, 4)))
