"""What messages say of values from outside."""

import time

import pytest

from pvt_spec import PvtError
from pvt_spec.words import columns, nearest, show

HOSTILE = [
    "\x1b[2J\x07",
    "a" * 60_000,
    "\u202eabc",
    "\ud800",
    ["\x9b"] * 1000,
    10**9999,
    {"\x1b": 1},
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: f"{type(value).__name__}")
def test_values_are_shown_short_and_harmless(value):
    shown = show(value)
    assert shown.isprintable() and len(shown) <= 200
    shown.encode()


@pytest.mark.parametrize(
    "text", ["\x1b[2J\r\x07", "a" * 60_000, "\u202eabc", "\ud800", "x\n" * 90_000]
)
def test_no_message_holds_what_a_terminal_obeys_or_a_screen_is_filled_with(text):
    said = str(PvtError(f"a file: {text}: try another"))
    assert said.replace("\n", "").isprintable() and len(said) < 21_000
    assert max(map(len, said.split("\n"))) < 2010
    assert said.startswith("a file: ") and said.endswith(": try another")
    assert str(PvtError(said)) == said


def test_of_long_names_the_nearest_is_not_looked_for():
    assert nearest("pvt_tny", ["pvt_tiny", "other"]) == "pvt_tiny"
    assert nearest("zzz", ["pvt_tiny"]) is None
    started = time.process_time()
    assert nearest("pvt_tiny" * 10_000, ["pvt_tiny" * 9_999] * 100) is None
    assert time.process_time() - started < 1


def test_numbers_end_together_and_words_begin_together():
    rows = [["name", "n", "of", "ratio"], ["a", "100", "9 %", "0.5 to 1"], ["bc", "7", "", "2"]]
    assert columns(rows) == [
        "name    n   of  ratio",
        "a     100  9 %  0.5 to 1",
        "bc      7       2",
    ]
