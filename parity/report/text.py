"""A result on a terminal: a table and a sentence per runtime."""

from collections.abc import Iterator

from parity.measure.compare import Comparison
from parity.measure.decisions import Decisions
from parity.measure.structure import INPUT
from parity.measure.tolerance import FACTOR_OF_FEW, FEW
from parity.report.numbers import times
from parity.report.taps import TAP_COLUMNS, Tap, taps_of
from parity.result import Result
from pvt_spec.kernels import STRICTEST
from pvt_spec.precisions import FLOAT32
from pvt_spec.runtime import SATURATES
from pvt_spec.taps import TapSpec, tap_specs
from pvt_spec.words import columns, counted, listed


def compared_taps(result: Result) -> list[TapSpec]:
    """Returns all taps that any runtime was compared at, in forward order.

    A bundle may lack some.
    """
    compared = {name for comparison in result.comparisons for name in comparison.names}
    return [tap for tap in tap_specs(result.info.config) if tap.name in compared]


def worst_taps(result: Result) -> Iterator[tuple[str, bool, list[str | None]]]:
    """Yields the lines that sum taps up: ``"stage 1"``, …, and the last ones each.

    Each has its name, whether there are several taps in it, and each runtime's worst one: None
    where it was compared at none of them.
    """
    lines: dict[str, list[str]] = {}
    for tap in compared_taps(result):
        line = tap.name if tap.stage is None else f"stage {tap.stage + 1}"
        lines.setdefault(line, []).append(tap.name)
    for line, names in lines.items():
        known = [(c, [name for name in names if name in c.names]) for c in result.comparisons]
        yield line, len(names) > 1, [c.worst_of(taps) if taps else None for c, taps in known]


def table(result: Result, verbose: bool = False) -> list[str]:
    """Returns a line per stage, or per tap if ``verbose``; then a verdict per runtime.

    A stage's line has each runtime's worst tap with its error in units of rounding; ``!`` marks
    what rounding does not explain.
    """
    if verbose:
        lines = [line for c in result.comparisons for line in _taps_table(c)]
    else:
        lines = columns([["", *(c.name for c in result.comparisons)], *_stage_rows(result)])
    return [*lines, *(verdict(comparison) for comparison in result.comparisons)]


def _stage_rows(result: Result) -> Iterator[list[str]]:
    taps = [taps_of(comparison) for comparison in result.comparisons]
    for line, several, worst in worst_taps(result):
        row = [line]
        for known, name in zip(taps, worst, strict=True):
            place = f" {name}" if several else ""
            row.append(f"{known[name].units}{place}{_mark(known[name])}" if name else "-")
        yield row


def _mark(tap: Tap) -> str:
    return "" if tap.judged.within else " !"


def _taps_table(comparison: Comparison) -> Iterator[str]:
    shown = [column for column in TAP_COLUMNS if column.short]
    rows = [[comparison.name, *(column.short for column in shown)]]
    for name, tap in taps_of(comparison).items():
        units, *figures = (column.on_terminal(tap) for column in shown)
        rows.append([name, units + _mark(tap), *figures])
    yield from columns(rows)
    yield ""


def accuracy_table(result: Result) -> list[str]:
    """Returns the accuracy over labelled images of the reference and of every runtime.

    ``only here`` and ``only there`` count images that the runtime, or the reference, alone has
    right; ``p`` is that of McNemar's exact test of the two.
    """
    head = ["", "Top-1", "Top-5", "same class", "only here", "only there", "p"]
    first = result.comparisons[0].decisions
    reference = _shares(first, first.reference_right, first.reference_right_five)
    rows = [head, ["float64", *reference, "", "", "", ""]]
    for comparison in result.comparisons:
        found = comparison.decisions
        right = _shares(found, found.right, found.right_five)
        same, p = f"{found.same_first}/{found.images}", f"{found.accuracy_p_value:.3g}"
        only = f"{found.only_right}", f"{found.only_reference_right}"
        rows.append([comparison.name, *right, same, *only, p])
    return columns(rows)


def _shares(decisions: Decisions, first: int, five: int) -> list[str]:
    return [f"{count / decisions.labelled:.2%}" for count in (first, five)]


def verdict(comparison: Comparison) -> str:
    """Returns one sentence about one runtime."""
    if comparison.same:
        judged = {name: comparison.judge(name) for name in comparison.names}
        most = max(judged, key=lambda name: judged[name].times)
        scale = "the tolerance" if comparison.fixed else f"{comparison.precision} rounding"
        found = [f"at most {times(judged[most])} {scale} ({most})", closeness(comparison)]
        same = (
            f"same in its {' and '.join(comparison.answers or comparison.names)}"
            if comparison.answers_alone
            else "same"
        )
        return f"{comparison.name}: {same}. {'; '.join(found + caution(comparison))}"
    first = comparison.first_different
    start = "differs" if first is None else f"differs from {first} on"
    return f"{comparison.name}: DIFFERENT. {start}: {'; '.join(reasons(comparison))}"


def caution(comparison: Comparison) -> list[str]:
    """Returns what makes a verdict of *same* a weak one."""
    counts = [error.count for groups in comparison.errors.values() for error in groups.values()]
    found = []
    if comparison.answers_alone:
        found.append(
            "nothing inside it was compared, no tap, weight or attribute: what the answer hides, "
            "as another epsilon or a weight slightly off, is not ruled out (a bundle of parity "
            "capture has all of them)"
        )
    if not comparison.fixed and max(counts) < FEW:
        found.append(
            f"{counted(max(counts), 'value')} can show only what is beyond {FACTOR_OF_FEW:.0f}× "
            "rounding: more images or taps would show more"
        )
    return [*found, *unseen(comparison), *strictness(comparison)]


def unseen(comparison: Comparison) -> list[str]:
    """Returns what to say of a graph that does not show all taps: other tools remove values."""
    shown, missing = len(comparison.names), comparison.missing
    if not missing:
        return []
    return [f"it shows {shown} of {shown + len(missing)} taps (not {listed(missing, 3)})"]


def saturation(comparison: Comparison) -> list[str]:
    """Returns what to try where an engine's sums of int8 products may be what is wrong."""
    if SATURATES not in comparison.facts:
        return []
    return [
        "on this CPU onnxruntime adds products of uint8 and int8 in 16 bits, which saturate: "
        "--runtime onnxruntime-disabled or onnx-reference shows the graph without that, and "
        "weights of 7 bits (reduce_range) do not saturate"
    ]


def strictness(comparison: Comparison) -> list[str]:
    """Returns what to say where kernels that nothing is known of are judged by the strictest."""
    kernels = comparison.kernels
    if kernels.known or not comparison.envelope or comparison.precision != FLOAT32:
        return []
    return [
        f"the kernels of {kernels.name} are not known: judged by the strictest, "
        f"those of {STRICTEST.name}"
    ]


def reasons(comparison: Comparison) -> list[str]:
    """Returns why a runtime is not the same, most telling first."""
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
    found += [closeness(comparison), *unseen(comparison)]
    return [*found, *([*strictness(comparison), *saturation(comparison)] if tap else [])]


def explain(comparison: Comparison, tap: str) -> str:
    """Returns what is wrong at a tap."""
    judged = comparison.judge(tap)
    error = comparison.errors[tap][judged.group]
    if error.mismatch:
        return f"its shape is {error.mismatch.actual} instead of {error.mismatch.reference}"
    if error.reference_not_finite:
        return f"the reference itself has {error.reference_not_finite} values that are not finite"
    if not error.finite:
        return f"{error.nans} NaN and {error.infs} infinite values of {error.count}"
    scale = "the tolerance" if comparison.fixed else f"{comparison.precision} rounding"
    group = f", {judged.group} images" if len(comparison.errors[tap]) > 1 else ""
    return f"{times(judged)} {scale} (at most {judged.allowed:.3g}×{group})"


def closeness(comparison: Comparison) -> str:
    """Returns how near the model's answer is to the reference's.

    Of several answers the worst one counts; of classes it says how many agree.
    """
    images = comparison.images
    if not comparison.answers:
        return f"its answer was not compared, on {counted(images, 'image')}"
    answer = comparison.worst_of(comparison.answers)
    error = comparison.total(answer)
    worst = f", the worst of {len(comparison.answers)} maps," if len(comparison.answers) > 1 else ""
    away = f"within {error.max_abs:.1e} of" if error.measured else "not comparable with"
    close = f"{answer}{worst} {away} {comparison.against}"
    if not comparison.classifies:
        return f"{close} on {counted(images, 'image')}"
    decisions = comparison.decisions
    agree = f"top-1 agrees on {decisions.same_first}/{images} images"
    flips = []
    if decisions.roundings:
        flips.append(f"{decisions.roundings} within the reference's own margin")
    if decisions.bugs and not decisions.not_finite:
        flips.append(f"{decisions.bugs} beyond it")
    return f"{close}, {agree}" + (f" (of the others {', '.join(flips)})" if flips else "")
