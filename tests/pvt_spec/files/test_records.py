"""Records from outside: what a field admits is its type in the dataclass."""

from dataclasses import dataclass, field

import pytest

from pvt_spec import ConfigError
from pvt_spec.files.records import kind_like, read_record, read_value, read_values
from tests.support.messages import naming


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, int]
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    flag: bool = False
    values: tuple[float, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    maybe: int | None = None


WHOLE = {"name": "a", "inner": {"sizes": [1, 2.0]}, "values": [1, 0.5], "texts": {"k": "v"}}


def test_a_record_is_what_its_fields_say():
    made = read_record(Outer, WHOLE, "it")
    assert made == Outer("a", Inner((1, 2)), values=(1, 0.5), texts={"k": "v"})
    assert type(made.inner.sizes[1]) is int
    assert read_record(Outer, {**WHOLE, "maybe": 3}, "it").maybe == 3
    assert read_record(Outer, {**WHOLE, "maybe": None}, "it").maybe is None


WRONG = [
    [],
    None,
    "text",
    {},
    {**WHOLE, "name": 1},
    {**WHOLE, "name": ["a"]},
    {**WHOLE, "flag": 1},
    {**WHOLE, "flag": "true"},
    {**WHOLE, "inner": [1, 2]},
    {**WHOLE, "inner": {}},
    {**WHOLE, "inner": {"sizes": [1]}},
    {**WHOLE, "inner": {"sizes": [1, 2.5]}},
    {**WHOLE, "inner": {"sizes": [1, True]}},
    {**WHOLE, "inner": {"sizes": [1, float("inf")]}},
    {**WHOLE, "inner": {"sizes": {"0": 1, "1": 2}}},
    {**WHOLE, "inner": {"sizes": [1, 2], "share": float("nan")}},
    {**WHOLE, "inner": {"sizes": [1, 2], "share": 10**400}},
    {**WHOLE, "inner": {"sizes": [1, 2], "share": "0.5"}},
    {**WHOLE, "values": 1},
    {**WHOLE, "values": [[1]]},
    {**WHOLE, "texts": {"k": 1}},
    {**WHOLE, "texts": [["k", "v"]]},
    {**WHOLE, "maybe": "x"},
    {**WHOLE, "surprise\x1b[2J": 1},
]


@pytest.mark.parametrize("data", WRONG, ids=repr)
def test_anything_else_is_one_error(data):
    with pytest.raises(ConfigError, match="it") as refusal:
        read_record(Outer, data, "it")
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 500


def test_all_problems_are_said_at_once_and_not_a_million():
    data = {"name": 1, "inner": {"sizes": [1]}, "values": ["x"] * 100_000, "surprise": 2}
    with pytest.raises(ConfigError, match=naming("surprise", "name", "sizes")) as refusal:
        read_record(Outer, data, "it")
    assert len(str(refusal.value)) < 2000


def test_a_whole_record_leaves_nothing_to_its_defaults():
    with pytest.raises(ConfigError, match=naming("flag", "values", "texts", "maybe")):
        read_record(Outer, {"name": "a", "inner": {"sizes": [1, 2]}}, "it", whole=(Outer,))


def test_of_other_peoples_files_other_names_and_null_are_passed_over():
    data = {**WHOLE, "flag": None, "more": [1], "texts": None}
    assert read_record(Outer, data, "it", others=True).texts == {}


def test_values_are_read_by_their_types():
    kinds = {"sizes": kind_like([1, 2]), "flag": kind_like(True)}
    assert read_values(kinds, {"sizes": [3, 4.0], "flag": False, "x": 1}, "") == {
        "sizes": (3, 4),
        "flag": False,
    }
    with pytest.raises(ConfigError, match=naming("sizes", "flag")):
        read_values(kinds, {"sizes": 3, "flag": 0}, "")
    assert read_value(int | tuple[int, int], [1, 2], "x") == (1, 2)
    with pytest.raises(ConfigError, match=naming("x", "whole")):
        read_value(int | tuple[int, int], "1", "x")
