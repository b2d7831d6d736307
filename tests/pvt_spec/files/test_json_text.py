"""JSON from outside: one reader that bounds what a text may ask for, one writer without NaN."""

import json
import time
import tracemalloc
from contextlib import suppress

import pytest

from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.limits import MAX_NESTING, MAX_VALUES

WHOLE = {"a": [1, -2.5, True, None, "é\u2028\U0001f600", {"": {}}], "b": 2**63 - 1, "c": -(2**63)}


@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_is_json_is_read_as_it_is(ascii_only):
    text = json.dumps(WHOLE, ensure_ascii=ascii_only)
    assert parse_json(text) == parse_json(text.encode()) == WHOLE
    assert parse_json(b"\xef\xbb\xbf" + text.encode()) == WHOLE
    deep = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert encode_json(parse_json(deep)) == deep


HOSTILE = {
    "empty": "",
    "cut": '{"a": [1',
    "nan": "[NaN]",
    "infinity": '{"a": -Infinity}',
    "too large": "[1e400]",
    "400 digits": "9" * 400,
    "10,000 digits": "[" + "9" * 10_000 + "]",
    "65 bits": str(2**63),
    "twice": '{"a": 1, "b": 2, "a": 3}',
    "twice within": '[{"a": {"b": 1, "b": 1}}]',
    "lone surrogate": r'{"a": "\ud800"}',
    "lone surrogate as a name": r'{"\uDC00": 1}',
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "a level too many": "[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1),
    "no UTF-8": b'"\xff"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "crowd": "[" + "[]," * MAX_VALUES + "[]]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_none_is_one_kind_of_error_in_few_words(text):
    with pytest.raises(ValueError) as refusal:
        parse_json(text)
    assert 0 < len(str(refusal.value)) < 200


def test_one_of_60_000_names_that_is_twice_is_found_at_once():
    pairs = [f'"name {number}": {number}' for number in range(60_000)]
    started = time.process_time()
    with pytest.raises(ValueError, match="name 59999"):
        parse_json("{" + ",".join([*pairs, '"name 59999": 1']) + "}")
    assert time.process_time() - started < 2


@pytest.mark.sampled
@pytest.mark.parametrize("piece", ["[],", "{},", "[[]],", '{"a":0},', '"ab":0,', '"b":{},', "1e9,"])
def test_memory_is_in_proportion_to_the_text(piece):
    inner = piece * 83_000
    numbered = (f'"{n}{piece[1:]}' for n in range(120_000)) if piece[:1] == '"' else ()
    text = "[{" + ("".join(numbered) or f'"a":[{inner}0],') + '"z":0}]'
    tracemalloc.start()
    with suppress(ValueError):
        parse_json(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(text) + 50_000_000


def test_what_lies_in_a_text_is_no_value():
    """A log that another tool keeps as a text, and names of classes with commas."""
    texts = ["[1, 2, {" * 200_000, 'a "quoted", word\\', "{" * 300_000]
    assert parse_json(json.dumps(texts)) == texts
    with pytest.raises(ValueError, match="values, expected at most"):
        parse_json("[" + "0," * 300_000 + "0]")


def test_what_json_has_no_word_for_is_never_written():
    strange = {"a": [float("nan"), 1.5, (float("inf"), "NaN")], "b": -float("inf"), "c": "\ud800"}
    text = encode_json(strange)
    assert parse_json(text.replace(r"\ud800", "")) == {
        "a": [None, 1.5, [None, "NaN"]],
        "b": None,
        "c": "",
    }
    assert text.isascii()
    assert encode_json({"a": [1, 2]}, compact=True) == '{"a":[1,2]}'
    assert encode_json({"a": 1}, indent=1) == '{\n "a": 1\n}'
