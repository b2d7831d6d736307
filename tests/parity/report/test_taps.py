"""One row for each column of a tap: what derives from the rows, and does not repeat them."""

from pathlib import Path

from parity.report.taps import TAP_COLUMNS, explanations

DOCUMENT = Path(__file__).parents[3] / "docs/howto/proving.md"


def test_titles_are_told_apart() -> None:
    for titles in (
        [column.key for column in TAP_COLUMNS if column.key],
        [column.heading for column in TAP_COLUMNS if column.heading],
        [column.short for column in TAP_COLUMNS if column.short],
    ):
        assert len(set(titles)) == len(titles) > 8


def test_the_document_says_what_the_titles_mean() -> None:
    def code(title: str) -> str:
        return f"`{title}`" if title else ""

    rows = [
        f"| {code(column.short)} | {column.heading} | {code(column.key)} | {column.meaning} |"
        for column in TAP_COLUMNS
        if column.meaning
    ]
    assert "\n".join(["|---|---|---|---|", *rows, ""]) in DOCUMENT.read_text(encoding="utf-8")


def test_titles_of_one_meaning_are_explained_together() -> None:
    told = dict(explanations())
    assert "< 0.1 %, < 0.5 %" in told and "NaN, Inf" in told
    explained = {column.meaning for column in TAP_COLUMNS if column.heading and column.meaning}
    assert set(told.values()) == explained
