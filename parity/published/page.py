"""The table of all published weights, as a page and for programs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.published.entry import Entry, Proved
from pvt_data.pages import render
from pvt_packages import suite_version

TEMPLATE = Path(__file__).with_name("page.html.jinja")


def to_dict(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns everything that is known."""
    rows = [{**dataclasses.asdict(each), "good": each.good} for each in entries]
    return {"format": 1, "suite": suite_version(), "weights": rows}


def to_html(entries: Sequence[Entry]) -> str:
    """Returns the page: a row for each of the weights, a column for each runtime."""
    runtimes = list(dict.fromkeys(r.runtime for each in entries for r in each.runtimes))
    rows = [(e, {r.runtime: r for r in e.runtimes}, sum(e.seconds.values())) for e in entries]
    values = {"rows": rows, "runtimes": runtimes, "suite": suite_version()}
    return render(TEMPLATE, values, {"size": "{:,}".format, "g": "{:g}".format})


def to_line(entry: Entry, kept: bool) -> str:
    """Returns what a terminal is told of one of them."""
    note = " (was done before)" if kept else ""
    if entry.problem:
        return f"{entry.name}: {entry.problem}{note}"
    runs = "; ".join(_run(each) for each in entry.runtimes)
    written = sum(not each.problem for each in entry.formats)
    return f"{entry.name}: {runs}; {written} of {len(entry.formats)} formats{note}"


def _run(run: Proved) -> str:
    share = "not finite" if run.worst is None else f"{run.worst:.0%} of what rounding may be"
    return f"{run.runtime} {'same' if run.same else 'DIFFERENT'}, {share} at {run.tap}"
