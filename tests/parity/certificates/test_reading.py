"""A reader takes what the schema describes, and refuses in one line whatever is no certificate."""

import copy
import json
import random
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from convert.certificates.record import encode_canonical, parse_certificate
from parity.command_line import main
from pvt_spec.errors import ConfigError
from tests.support.commands import refusal

SCHEMA = json.loads(files("convert.certificates").joinpath("certificate.schema.json").read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one_and_certificates_fit_it(certified):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(certified[1].read_bytes()))


def places(value: Any, way: tuple = ()) -> list[tuple]:
    """Every place within a value, by the keys and indices that lead to it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, each in inner:
        found.append((*way, key))
        if isinstance(each, dict | list):
            found += places(each, (*way, key))
    return found


def changed(said: Any, rng: random.Random) -> Any:
    """The same, with another type, a name too many or one too few somewhere."""
    said = copy.deepcopy(said)
    *way, last = rng.choice(places(said))
    held = said
    for key in way:
        held = held[key]
    if rng.random() < 0.3 and isinstance(held, dict):
        del held[last]
    elif rng.random() < 0.2 and isinstance(held[last], dict):
        held[last]["more"] = [1]
    else:
        held[last] = rng.choice([[], {}, "x", -1, 1.5, True, None, [[]], {"a": {}}])
    return said


def test_what_the_schema_refuses_the_reader_refuses(certified):
    said, rng, refused = json.loads(certified[1].read_bytes()), random.Random(0), 0
    for _ in range(400):
        other = changed(said, rng)
        fits = VALIDATOR.is_valid(other)
        try:
            parse_certificate(encode_canonical(other))
        except (ConfigError, ValueError):
            refused += 1
        else:
            assert fits, "the reader takes what the schema does not"
    assert refused > 200


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "Expecting value"),
        (b"\x80", "UTF-8"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested"),
        (b'{"claim":{},"format":2}', "format"),
        (b'{"claim":{},"format":true}', "format"),
        (b'{"claim":1e400,"format":1}', "too large"),
        (b'{"claim":9007199254740993,"format":1}', "certificate"),
        (b'{"claim":"\\ud800","format":1}', "surrogate"),
        (b'{"claim":{},"claim":{},"format":1}', "twice"),
        (b'{"claim":{},"format":1}\n', "canonical"),
        (b'{"claim":{},"format":1}', "without"),
        (b"[1,2]", "claim"),
        (b'{"claim":NaN,"format":1}', "NaN"),
    ],
)
def test_hostile_certificates_give_one_line(data, word, certified, tmp_path):
    path = tmp_path / "port.json"
    path.write_bytes(data)
    told = refusal(main, "verify", path, certified[0])
    assert str(path) in told and word in told and len(told) < 1000


def test_contradictions_are_refused(certified):
    said = json.loads(certified[1].read_bytes())
    for way, value in (
        (("claim", "same"), False),
        (("claim", "files", 0, "model"), 7),
        (("claim", "runtimes", 0, "file"), 1),
        (("claim", "models", 0, "labels"), ["one"]),
        (("machine", "runtimes"), []),
        (("claim", "inputs", "images"), []),
    ):
        other = copy.deepcopy(said)
        held = other
        for key in way[:-1]:
            held = held[key]
        held[way[-1]] = value
        with pytest.raises(ConfigError):
            parse_certificate(encode_canonical(other))


def test_what_is_no_file_or_not_there_is_told(certified, tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        assert str(path) in refusal(main, "verify", path, certified[0])
