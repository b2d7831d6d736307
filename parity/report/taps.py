"""What is told of a tap: one row for each column of the page's table, of ``-v`` and of JSON."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from parity.measure.compare import Comparison, Judged
from parity.measure.metrics import Place, TapError
from parity.report.numbers import figure, times


@dataclass(frozen=True)
class Tap:
    """A tap of a runtime.

    Attributes:
        name: Its name.
        judged: Its verdict.
        error: Its error over all images.
        place: Where it is furthest off, of the images that it is judged by; None without any error.
    """

    name: str
    judged: Judged
    error: TapError
    place: Place | None

    @property
    def units(self) -> str:
        """Its error in units of rounding, or that its shape is another."""
        return "other shape" if self.error.mismatch else times(self.judged)


def taps_of(comparison: Comparison) -> dict[str, Tap]:
    """Returns every tap that was compared, by name, in forward order."""
    return {name: _tap(comparison, name) for name in comparison.names}


def groups_of(comparison: Comparison, name: str) -> dict[str, Tap]:
    """Returns a tap over each group of images alone."""
    return {
        group: Tap(
            name, comparison.judge_group(name, group), error, _place(comparison, name, group)
        )
        for group, error in comparison.errors[name].items()
    }


def _tap(comparison: Comparison, name: str) -> Tap:
    judged = comparison.judge(name)
    return Tap(name, judged, comparison.total(name), _place(comparison, name, judged.group))


def _place(comparison: Comparison, name: str, group: str) -> Place | None:
    kept = comparison.maps.get(name, {}).get(group)
    return kept.place if kept else None


@dataclass(frozen=True)
class TapColumn:
    """One thing that is told of a tap.

    Attributes:
        key: Its name in JSON; empty where JSON does not have it.
        heading: Its title on the page; empty where the page does not have it.
        short: Its title on a terminal; empty where ``-v`` does not have it.
        shown: The format of the value, or what makes a text in its place. None for three digits
            on the page and two on a terminal.
        meaning: What its title does not say.
        value: The function that makes the value; None for the error's attribute that ``key`` names.
        words: Whether it is text, which stands on the left.
    """

    key: str
    heading: str = ""
    short: str = ""
    shown: str | Callable[[Tap], str] | None = None
    meaning: str = ""
    value: Callable[[Tap], Any] | None = None
    words: bool = False

    def value_of(self, tap: Tap) -> Any:
        """Returns the value itself."""
        return self.value(tap) if self.value else getattr(tap.error, self.key)

    def on_page(self, tap: Tap) -> str:
        """Returns the text of a cell of the page."""
        if callable(self.shown):
            return self.shown(tap)
        return figure(self.value_of(tap), self.shown or ".3g")

    def on_terminal(self, tap: Tap) -> str:
        """Returns the text of a cell of ``-v``."""
        if callable(self.shown):
            return self.shown(tap)
        return format(self.value_of(tap), self.shown or ".1e")


def _bound(tap: Tap) -> str:
    return f"{tap.judged.allowed:g}×"


def _group(tap: Tap) -> str:
    return tap.judged.group


def _near(tap: Tap) -> str:
    histogram = tap.error.ulp_histogram
    return f"{(histogram['0'] + histogram['1']) / tap.error.count:.0%}" if histogram else "-"


def _worst(tap: Tap) -> dict[str, Any] | None:
    place = tap.place
    return {"image": place.image, "position": list(place.position)} if place else None


def _worst_at(tap: Tap) -> str:
    place, mismatch = tap.place, tap.error.mismatch
    if mismatch:
        return f"shape {mismatch.actual}, expected {mismatch.reference}"
    return f"{place.image} {list(place.position)}" if place else "-"


_LARGEST = "largest error in units of the reference's root mean square"
_ANGLE = "of the angle between all values and the reference's"
_RELATIVE = "share of values with so small a relative error"
_NEAR = "share of values at most one float32 step away"
_BROKEN = "how many where the reference is finite"
_PLACE = "of the worst images: image, then position within its tensor, all counted from 0"

TAP_COLUMNS = (
    TapColumn(
        "times_rounding",
        "× rounding",
        "× rounding",
        lambda tap: tap.units,
        value=lambda tap: tap.judged.times,
    ),
    TapColumn("allowed", "at most", shown=_bound, value=lambda tap: tap.judged.allowed),
    TapColumn("within", value=lambda tap: tap.judged.within),
    TapColumn("group", "worst images", shown=_group, value=_group, words=True),
    TapColumn("max_abs", "max abs", "max abs"),
    TapColumn("scaled", "max / RMS", "/ RMS", meaning=_LARGEST),
    TapColumn("mean_abs", "mean abs", "mean abs"),
    TapColumn("rms", "RMS error"),
    TapColumn("reference_rms", "reference RMS"),
    TapColumn("one_minus_cosine", "1 - cos", "1 - cos", meaning=_ANGLE),
    TapColumn("snr_db", "SNR dB", "SNR dB", ".1f", value=lambda tap: tap.error.snr),
    TapColumn("one_thousandth", "< 0.1 %", "1e-3", ".2%", _RELATIVE),
    TapColumn("five_thousandths", "< 0.5 %", "5e-3", ".2%", _RELATIVE),
    TapColumn("", "≤ 1 ulp", "<=1 ulp", _near, _NEAR),
    TapColumn("exact", value=lambda tap: tap.error.max_abs == 0),
    TapColumn("count", "values", shown=","),
    TapColumn("nans", "NaN", shown=",", meaning=_BROKEN),
    TapColumn("infs", "Inf", shown=",", meaning=_BROKEN),
    TapColumn("worst", "worst at", "", _worst_at, _PLACE, _worst, words=True),
    TapColumn("ulps", value=lambda tap: tap.error.ulp_histogram),
)
"""The columns, in the order of all three."""


def explanations() -> Iterator[tuple[str, str]]:
    """Yields the page's headings that do not say all, those of one meaning together, and that."""
    explained = (column for column in TAP_COLUMNS if column.heading and column.meaning)
    for meaning, columns in groupby(explained, key=lambda column: column.meaning):
        yield ", ".join(column.heading for column in columns), meaning
