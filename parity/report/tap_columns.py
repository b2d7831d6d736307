"""What is told of a tap: one row for each column of the page's table, ``-v`` and JSON."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from parity.measure.compare import Judged
from parity.measure.metrics import TapError
from parity.report.numbers import figure, times


@dataclass(frozen=True)
class TapColumn:
    """One thing that is told of a tap.

    Attributes:
        value: Makes it, of the tap's verdict and its error.
        key: Its name in JSON; empty where JSON does not have it.
        heading: Its title on the page; empty where the page does not have it.
        short: Its title on a terminal; empty where ``-v`` does not have it.
        shown: A format of the value, or what makes a text instead of it. None for three digits on
            the page and two on a terminal.
        meaning: What its title does not say.
        words: Whether it is text, which stands on the left.
    """

    value: Callable[[Judged, TapError], Any]
    key: str = ""
    heading: str = ""
    short: str = ""
    shown: str | Callable[[Judged, TapError], str] | None = None
    meaning: str = ""
    words: bool = False

    def on_page(self, judged: Judged, error: TapError) -> str:
        """Returns the text of a cell of the page."""
        if callable(self.shown):
            return self.shown(judged, error)
        return figure(self.value(judged, error), self.shown or ".3g")

    def on_terminal(self, judged: Judged, error: TapError) -> str:
        """Returns the text of a cell of ``-v``."""
        if callable(self.shown):
            return self.shown(judged, error)
        return format(self.value(judged, error), self.shown or ".1e")


def times_or_shape(judged: Judged, error: TapError) -> str:
    """Returns an error in units of rounding, or that its shape is another."""
    return "other shape" if error.mismatch else times(judged)


def _share_near(judged: Judged, error: TapError) -> str:
    histogram = error.ulp_histogram
    return f"{(histogram['0'] + histogram['1']) / error.count:.0%}" if histogram else "-"


def _worst(judged: Judged, error: TapError) -> dict[str, Any] | None:
    place = error.worst
    return {"image": place.image, "position": list(place.position)} if place else None


def _worst_at(judged: Judged, error: TapError) -> str:
    if error.mismatch:
        return f"shape {error.mismatch.actual}, expected {error.mismatch.reference}"
    return f"{error.worst.image} {list(error.worst.position)}" if error.worst else "-"


_RELATIVE = "share of values with so small a relative error"
_BROKEN = "how many where the reference is finite"

TAP_COLUMNS = (
    TapColumn(
        lambda j, e: j.times, "times_rounding", "× rounding", "× rounding", shown=times_or_shape
    ),
    TapColumn(lambda j, e: j.allowed, "allowed", "at most", shown=lambda j, e: f"{j.allowed:g}×"),
    TapColumn(lambda j, e: j.within, "within"),
    TapColumn(
        lambda j, e: j.group, "group", "worst images", shown=lambda j, e: j.group, words=True
    ),
    TapColumn(lambda j, e: e.max_abs, "max_abs", "max abs", "max abs"),
    TapColumn(
        lambda j, e: e.scaled,
        "scaled",
        "max / RMS",
        "/ RMS",
        meaning="largest error in units of the reference's root mean square",
    ),
    TapColumn(lambda j, e: e.mean_abs, "mean_abs", "mean abs", "mean abs"),
    TapColumn(lambda j, e: e.rms, "rms", "RMS error"),
    TapColumn(lambda j, e: e.reference_rms, "reference_rms", "reference RMS"),
    TapColumn(
        lambda j, e: e.one_minus_cosine,
        "one_minus_cosine",
        "1 - cos",
        "1 - cos",
        meaning="of the angle between all values and the reference's",
    ),
    TapColumn(lambda j, e: e.snr, "snr_db", "SNR dB", "SNR dB", ".1f"),
    TapColumn(lambda j, e: e.one_thousandth, "one_thousandth", "< 0.1 %", "1e-3", ".2%", _RELATIVE),
    TapColumn(
        lambda j, e: e.five_thousandths, "five_thousandths", "< 0.5 %", "5e-3", ".2%", _RELATIVE
    ),
    TapColumn(
        lambda j, e: e.ulp_histogram,
        "",
        "≤ 1 ulp",
        "<=1 ulp",
        _share_near,
        meaning="share of values at most one float32 step away",
    ),
    TapColumn(lambda j, e: e.max_abs == 0, "exact"),
    TapColumn(lambda j, e: e.count, "count", "values", shown=","),
    TapColumn(lambda j, e: e.nans, "nans", "NaN", shown=",", meaning=_BROKEN),
    TapColumn(lambda j, e: e.infs, "infs", "Inf", shown=",", meaning=_BROKEN),
    TapColumn(
        _worst,
        "worst",
        "worst at",
        shown=_worst_at,
        words=True,
        meaning="image, then position within its tensor, all counted from 0",
    ),
    TapColumn(lambda j, e: e.ulp_histogram, "ulps"),
)
"""In the order of all three."""


def explanations() -> Iterator[tuple[str, str]]:
    """Yields the page's headings that do not say all, those of one meaning together, and that."""
    explained = (column for column in TAP_COLUMNS if column.heading and column.meaning)
    for meaning, columns in groupby(explained, key=lambda column: column.meaning):
        yield ", ".join(column.heading for column in columns), meaning
