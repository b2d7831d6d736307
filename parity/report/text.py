"""A result on a terminal: a table and a sentence per runtime."""

import math
from collections.abc import Iterator, Sequence

from parity.measure.compare import Comparison, Judged
from parity.measure.decisions import Decisions
from parity.measure.metrics import TapError
from parity.measure.structure import INPUT
from parity.measure.tolerance import FACTOR_OF_FEW, FEW
from parity.run import Result
from pvt_spec import tap_names

_HEAD = (
    "× rounding",
    "max abs",
    "/ RMS",
    "mean abs",
    "1 - cos",
    "SNR dB",
    "1e-3",
    "5e-3",
    "<=1 ulp",
)


def stages(names: Sequence[str]) -> dict[str, list[str]]:
    """Taps by the line that they are summed up in: ``"stage 1"``, …, and the last ones each."""
    lines: dict[str, list[str]] = {}
    for name in names:
        place = name.split(".")[0]
        number = place[-1]
        line = f"stage {number}" if number.isdigit() else place
        lines.setdefault(line, []).append(name)
    return lines


def table(result: Result, verbose: bool = False) -> list[str]:
    """One line per stage, or per tap; then a verdict per runtime.

    Of a stage each runtime's worst tap is shown, with its error in units of rounding; ``!`` marks
    what rounding does not explain.
    """
    if verbose:
        lines = [line for c in result.comparisons for line in _taps_table(c)]
    else:
        lines = _stage_table(result)
    return [*lines, *(verdict(comparison) for comparison in result.comparisons)]


def _stage_table(result: Result) -> list[str]:
    rows: list[list[str]] = [["", *(c.name for c in result.comparisons)]]
    for line, names in stages(compared_taps(result)).items():
        rows.append([line, *(_worst_of(comparison, names) for comparison in result.comparisons)])
    return columns(rows)


def compared_taps(result: Result) -> list[str]:
    """All that any runtime was compared at, in forward order; a bundle may lack some."""
    compared = {name for comparison in result.comparisons for name in comparison.names}
    return [name for name in tap_names(result.info.config) if name in compared]


def _worst_of(comparison: Comparison, names: Sequence[str]) -> str:
    known = [name for name in names if name in comparison.names]
    if not known:
        return "-"
    worst = comparison.worst_of(known)
    place = f" {worst}" if len(names) > 1 else ""
    return f"{shown(comparison, worst)}{place}{'' if comparison.judge(worst).within else ' !'}"


def shown(comparison: Comparison, tap: str) -> str:
    """A tap's error in units of rounding, or that its shape is another."""
    judged = comparison.judge(tap)
    return "other shape" if comparison.errors[tap][judged.group].mismatch else times(judged)


def accuracy_table(result: Result) -> list[str]:
    """Accuracy of the reference and of every runtime over labelled images, side by side.

    ``only here`` and ``only there`` count images that the runtime, or the reference, alone has
    right; ``p`` is that of McNemar's exact test of the two.
    """
    head = ["", "Top-1", "Top-5", "same class", "only here", "only there", "p"]
    first = result.comparisons[0].decisions
    rows = [head, ["float64", *_shares(first, first.reference_right, first.reference_right_five)]]
    for comparison in result.comparisons:
        found = comparison.decisions
        counts = found.only_right, found.only_reference_right
        rows.append(
            [
                comparison.name,
                *_shares(found, found.right, found.right_five),
                f"{found.same_first}/{found.images}",
                *map(str, counts),
                f"{found.accuracy_p_value:.3g}",
            ]
        )
    width = len(head)
    return columns([row + [""] * (width - len(row)) for row in rows])


def _shares(decisions: Decisions, first: int, five: int) -> list[str]:
    return [f"{count / decisions.labelled:.2%}" for count in (first, five)]


def _taps_table(comparison: Comparison) -> Iterator[str]:
    rows = [[comparison.name, *_HEAD]]
    for name in comparison.names:
        judged, error = comparison.judge(name), comparison.total(name)
        mark = "" if judged.within else " !"
        rows.append([name, shown(comparison, name) + mark, *_figures(error)])
    yield from columns(rows)
    yield ""


def _figures(error: TapError) -> list[str]:
    histogram = error.ulp_histogram
    near = sum(histogram[b] for b in ("0", "1")) / error.count if histogram else math.nan
    return [
        f"{error.max_abs:.1e}",
        f"{error.scaled:.1e}",
        f"{error.mean_abs:.1e}",
        f"{error.one_minus_cosine:.1e}",
        f"{error.snr:.1f}",
        f"{error.one_thousandth:.2%}",
        f"{error.five_thousandths:.2%}",
        f"{near:.0%}" if histogram else "-",
    ]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as its widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def times(judged: Judged) -> str:
    """An error in units of rounding, as in ``"37×"``."""
    if not math.isfinite(judged.times):
        return "not finite"
    if judged.times < 10:
        return f"{judged.times:.2f}×"
    return f"{judged.times:.0f}×" if judged.times < 1e5 else f"{judged.times:.0e}×"


def verdict(comparison: Comparison) -> str:
    """One sentence about one runtime."""
    if comparison.same:
        judged = {name: comparison.judge(name) for name in comparison.names}
        most = max(judged, key=lambda name: judged[name].times)
        scale = "the tolerance" if comparison.fixed else f"{comparison.precision} rounding"
        found = [f"at most {times(judged[most])} {scale} ({most})", closeness(comparison)]
        return f"{comparison.name}: same. {'; '.join(found + caution(comparison))}"
    first = comparison.first_different
    start = "differs" if first is None else f"differs from {first} on"
    return f"{comparison.name}: DIFFERENT. {start}: {'; '.join(reasons(comparison))}"


def caution(comparison: Comparison) -> list[str]:
    """What makes a verdict of *same* a weak one."""
    counts = [error.count for groups in comparison.errors.values() for error in groups.values()]
    if comparison.fixed or max(counts) >= FEW:
        return []
    return [
        f"{max(counts)} values show only what is beyond {FACTOR_OF_FEW:.0f}× rounding: more images "
        "or taps would show more"
    ]


def reasons(comparison: Comparison) -> list[str]:
    """Why a runtime is not the same, most telling first."""
    found = []
    tap = comparison.first_out_of_bounds
    if tap:
        where = "" if tap == comparison.first_different else f" at {tap}"
        found.append(f"{explain(comparison, tap)}{where}")
    if comparison.differences:
        shown = [str(difference) for difference in comparison.differences[:3]]
        more = len(comparison.differences) - len(shown)
        found += [*shown, *([f"and {more} more such differences"] if more else [])]
        if not tap:
            found.append("rounding hides it in what was run")
    if comparison.first_different == INPUT and tap:
        found.append("so it was given other images than the reference")
    return [*found, closeness(comparison)]


def explain(comparison: Comparison, tap: str) -> str:
    """What is wrong at a tap."""
    judged = comparison.judge(tap)
    error = comparison.errors[tap][judged.group]
    if error.mismatch:
        shapes = f"{error.mismatch.actual} instead of {error.mismatch.reference}"
        return f"its shape is {shapes}"
    if error.reference_not_finite:
        return f"the reference itself has {error.reference_not_finite} values that are not finite"
    if not error.finite:
        return f"{error.nans} NaN and {error.infs} infinite values of {error.count}"
    scale = "the tolerance" if comparison.fixed else f"{comparison.precision} rounding"
    group = f", {judged.group} images" if len(comparison.errors[tap]) > 1 else ""
    return f"{times(judged)} {scale} (at most {judged.allowed:.3g}×{group})"


def closeness(comparison: Comparison) -> str:
    """How near the model's answer is: of several the worst, and of classes how many agree."""
    images = comparison.images
    if not comparison.answers:
        return f"its answer was not compared, on {images} images"
    answer = comparison.worst_of(comparison.answers)
    error = comparison.total(answer)
    worst = f", the worst of {len(comparison.answers)} maps," if len(comparison.answers) > 1 else ""
    away = f"within {error.max_abs:.1e} of" if error.measured else "not comparable with"
    close = f"{answer}{worst} {away} {comparison.against}"
    if not comparison.classifies:
        return f"{close} on {images} images"
    decisions = comparison.decisions
    agree = f"top-1 agrees on {decisions.same_first}/{images} images"
    flips = []
    if decisions.roundings:
        flips.append(f"{decisions.roundings} within the reference's own margin")
    if decisions.bugs and not decisions.not_finite:
        flips.append(f"{decisions.bugs} beyond it")
    return f"{close}, {agree}" + (f" (of the others {', '.join(flips)})" if flips else "")
