"""Tables of the HTML page: stages and taps, decisions, structure."""

from collections.abc import Callable, Iterator, Sequence
from xml.etree.ElementTree import Element

from parity.measure.compare import Comparison
from parity.measure.decisions import Decisions
from parity.report.html.elements import Cell, count, element, error_of, figure, mark, table
from parity.report.text import compared_taps, stages
from parity.run import Result


def stage_table(result: Result) -> Element:
    """The worst tap of every stage, a column per runtime."""
    comparisons = result.comparisons
    rows: list[list[Cell]] = []
    for line, names in stages(compared_taps(result)).items():
        rows.append([line, *(_stage_cell(comparison, names) for comparison in comparisons)])
    return table(["worst tap of", *(c.name for c in comparisons)], rows, "columns")


def tap_tables(result: Result) -> Iterator[Element]:
    """Every tap with every figure, folded, a table per runtime."""
    for comparison in result.comparisons:
        outside = sum(not comparison.judge(name).within for name in comparison.names)
        also = f", {outside} out of bounds" if outside else ""
        taps = count(len(comparison.names), "tap")
        summary = element("summary", f"All {taps} of {comparison.name}{also}")
        yield element("details", summary, _taps(comparison))
    yield element("p", _LEGEND, class_="soft small")


def _stage_cell(comparison: Comparison, names: Sequence[str]) -> Element:
    known = [name for name in names if name in comparison.names]
    if not known:
        return element("td", "-")
    tap = comparison.worst_of(known)
    judged = comparison.judge(tap)
    parts: list[Element | str] = [error_of(comparison, tap)]
    if not judged.within:
        parts += [" ", mark(False, "out of bounds")]
    if len(names) > 1:
        parts.append(element("span", tap, class_="name"))
    return element("td", *parts, class_=None if judged.within else "out")


_LEGEND = (
    "max / RMS: largest error in units of the reference's root mean square. 1 - cos: of the angle "
    "between all values and the reference's. < 0.1 %, < 0.5 %: share of values with so small a "
    "relative error. ≤ 1 ulp: share of values at most one float32 step away. NaN, Inf: how many "
    "where the reference is finite. Worst at: image, then position within its tensor, all counted "
    "from 0. ∞: not finite, or not comparable."
)

_COLUMNS = (
    *("tap", "× rounding", "at most", "worst images", "max abs", "max / RMS", "mean abs"),
    *("RMS error", "reference RMS", "1 - cos", "SNR dB", "< 0.1 %", "< 0.5 %", "≤ 1 ulp"),
    *("values", "NaN", "Inf", "worst at"),
)


def _taps(comparison: Comparison) -> Element:
    head = [
        name if name != "× rounding" or not comparison.fixed else "× tolerance" for name in _COLUMNS
    ]
    rows = [_tap_row(comparison, name) for name in comparison.names]
    made = table(head, rows, "taps")
    for row, name in zip(made.iter("tr"), ("", *comparison.names), strict=True):
        if name and not comparison.judge(name).within:
            row.set("class", "out")
    return made


def _tap_row(comparison: Comparison, name: str) -> list[Cell]:
    judged, error = comparison.judge(name), comparison.total(name)
    histogram = error.ulp_histogram
    near = f"{(histogram['0'] + histogram['1']) / error.count:.0%}" if histogram else "-"
    mismatch = error.mismatch
    worst = f"{error.worst.image} {list(error.worst.position)}" if error.worst else "-"
    if mismatch:
        worst = f"shape {mismatch.actual}, expected {mismatch.reference}"
    title: Cell = name
    if not judged.within:
        title = element("span", name, " ", mark(False, "out of bounds"))
    return [
        title,
        error_of(comparison, name),
        f"{judged.allowed:g}×",
        element("td", judged.group, class_="text"),
        figure(error.max_abs),
        figure(error.scaled),
        figure(error.mean_abs),
        figure(error.rms),
        figure(error.reference_rms),
        figure(error.one_minus_cosine),
        figure(error.snr, ".1f"),
        figure(error.one_thousandth, ".2%"),
        figure(error.five_thousandths, ".2%"),
        near,
        f"{error.count:,}",
        f"{error.nans:,}",
        f"{error.infs:,}",
        element("td", worst, class_="text"),
    ]


def decision_table(result: Result) -> Iterator[Element]:
    """Whether the runtimes choose the reference's classes, a column per runtime."""
    yield element(
        "p",
        "Whether the runtimes choose the classes that the reference chooses. A flip within the "
        "reference's own margin is one that rounding explains: the two classes were that close.",
        class_="soft small",
    )
    figures = [*_AGREEMENT.items(), *_flips(result).items(), *_RATES.items()]
    if any(comparison.decisions.labelled for comparison in result.comparisons):
        figures += _ACCURACY.items()
    rows: list[list[Cell]] = [
        [title, *(show(c.decisions) if c.classifies else "-" for c in result.comparisons)]
        for title, show in figures
    ]
    yield table(["", *(c.name for c in result.comparisons)], rows, "columns")
    yield element(
        "p",
        "The interval and the bound are Clopper and Pearson's, for images like these.",
        class_="soft small",
    )


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({part / whole:.2%})" if whole else "-"


Show = Callable[[Decisions], str]

_AGREEMENT: dict[str, Show] = {
    "top-1 agrees": lambda d: _share(d.same_first, d.images),
    "top-5 agree, in any order": lambda d: _share(d.same_five, d.images),
}


def _flips(result: Result) -> dict[str, Show]:
    """How many, and the first of the images."""

    def show(number: int, first: Sequence[int]) -> str:
        names = ", ".join(result.samples[i].name for i in first)
        return f"{number}: {names}{', …' if number > len(first) else ''}" if number else "0"

    return {
        "flips within the margin": lambda d: show(d.roundings, d.first_roundings),
        "flips beyond the margin": lambda d: show(d.bugs, d.first_bugs),
    }


_RATES: dict[str, Show] = {
    "logits not finite": lambda d: count(d.not_finite, "image"),
    "KL divergence, mean": lambda d: f"{figure(d.mean_divergence)} nats",
    "KL divergence, largest": lambda d: f"{figure(d.max_divergence)} nats",
    "rate of flips, 95 % interval": lambda d: " to ".join(
        f"{rate:.2%}" for rate in d.disagreement_interval
    ),
    "rate of flips, 95 % upper bound": lambda d: f"{d.disagreement_upper:.2%}",
}

_ACCURACY: dict[str, Show] = {
    "labelled images": lambda d: f"{d.labelled:,}",
    "accuracy, top-1": lambda d: _share(d.right, d.labelled),
    "of the reference": lambda d: _share(d.reference_right, d.labelled),
    "accuracy, top-5": lambda d: _share(d.right_five, d.labelled),
    "of the reference, top-5": lambda d: _share(d.reference_right_five, d.labelled),
    "only the runtime is right": lambda d: count(d.only_right, "image"),
    "only the reference is right": lambda d: count(d.only_reference_right, "image"),
    "McNemar's p": lambda d: "-" if d.accuracy_p_value is None else f"{d.accuracy_p_value:.3g}",
}


def structure(result: Result) -> Iterator[Element]:
    """What was compared of the models themselves, and everything that differs."""
    yield element(
        "p",
        "Read from each runtime's own model, not from its outputs: every weight by hash, every "
        "epsilon, GELU form, stride, padding, scale and so on against the reference's.",
    )
    rows: list[list[Cell]] = []
    for comparison in result.comparisons:
        found = comparison.differences
        same = element("span", mark(not found, "differs" if found else "same"), " ")
        same.append(element("span", count(len(found), "difference") if found else "none differs"))
        checked = comparison.checked
        numbers = [f"{checked[kind]:,}" if checked.get(kind) else "-" for kind in _CHECKED]
        rows.append([comparison.name, *numbers, same])
    yield table(["", *(f"{kind} compared" for kind in _CHECKED), "outcome"], rows, "words")
    for comparison in result.comparisons:
        if comparison.differences:
            yield element("h3", mark(False, "differs"), f" {comparison.name}")
            yield table(
                ["what", "is", "expected", "first enters"],
                [[d.subject, d.found, d.expected, d.tap or "-"] for d in comparison.differences],
                "words",
            )


_CHECKED = ("weights", "attributes")
