"""What was found of both twins' training, as text, as data and as a page."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parity.training.figures import Figure
from parity.training.run import TwinFound
from pvt_spec.words import columns, listed

FORMAT = 1
"""The JSON document's version; a change that a reader must know of counts it up."""

SHOWN = 4
"""Tensors that are listed on a terminal."""


@dataclass(frozen=True)
class TrainingResult:
    """What was found.

    Attributes:
        model: What was trained, in words.
        what: What else says what was done: a title and its text each.
        twins: What was found of each.
    """

    model: str
    what: dict[str, str]
    twins: Sequence[TwinFound]

    @property
    def same(self) -> bool:
        """Whether both make the reference's steps."""
        return all(twin.same for twin in self.twins)

    @property
    def vanishing(self) -> list[str]:
        """The gradients that are nothing in exact arithmetic."""
        found = [f.tensor for t in self.twins for f in t.figures if f.vanishes]
        return list(dict.fromkeys(found))


def units(figure: Figure) -> str:
    """Returns an error in units of rounding."""
    if not math.isfinite(figure.times):
        return "not finite"
    return f"{figure.times:.2f}×" if figure.times < 10 else f"{figure.times:.3g}×"


def worst_of(figures: Sequence[Figure]) -> Figure:
    """Returns the figure that is furthest out of bounds, or nearest to that."""
    return max(figures, key=lambda figure: figure.times / figure.allowed)


def lines(result: TrainingResult) -> Iterator[tuple[str, list[Figure]]]:
    """Yields each kind of each step, and the worst figure of it of each twin."""
    first = result.twins[0].figures
    for step, kind in dict.fromkeys((figure.step, figure.kind) for figure in first):
        yield (
            f"step {step} {kind}",
            [
                worst_of([f for f in twin.figures if (f.step, f.kind) == (step, kind)])
                for twin in result.twins
            ],
        )


def table(result: TrainingResult, verbose: bool = False) -> list[str]:
    """Returns a line per kind and step, or per tensor if ``verbose``; then a verdict per twin."""

    def cell(figure: Figure) -> str:
        return f"{units(figure)}{'' if figure.within else ' !'} {figure.tensor}".rstrip()

    rows = [["", *(twin.name for twin in result.twins)]]
    if verbose:
        for figures in zip(*(twin.figures for twin in result.twins), strict=True):
            marks = ["" if figure.within else " !" for figure in figures]
            shown = [f"{units(f)}{m}" for f, m in zip(figures, marks, strict=True)]
            rows.append([figures[0].name, *shown])
    else:
        rows += [[name, *map(cell, figures)] for name, figures in lines(result)]
    found = [*columns(rows), ""]
    if result.vanishing:
        named = result.vanishing if verbose else [listed(result.vanishing, SHOWN)]
        found.append(f"nothing but rounding in exact arithmetic: {', '.join(named)}")
    return found + [verdict(twin) for twin in result.twins]


def verdict(twin: TwinFound) -> str:
    """Returns one sentence about one twin."""
    outside = twin.first_outside
    if outside:
        allowed = f"at most {outside.allowed:g}×"
        return f"{twin.name}: DIFFERENT from the {outside.name} on: {units(outside)} ({allowed})"
    if twin.first_adrift:
        return f"{twin.name}: DIFFERENT. On its own it comes elsewhere: {twin.first_adrift}"
    # The most of all, as it says, though few values may be further off than many.
    worst = max(twin.figures, key=lambda figure: figure.times)
    off = max(abs(a - b) / abs(b) for a, b in zip(twin.losses, twin.expected, strict=True))
    return (
        f"{twin.name}: same. At most {units(worst)} rounding ({worst.name}); on its own the loss "
        f"is within {off:.1e} of float64 and weights within {max(twin.drift.values()):.0%} of what "
        "they may be"
    )


def to_dict(result: TrainingResult) -> dict[str, Any]:
    """Returns everything that was found; numbers that are not finite are None."""
    return {
        "format": FORMAT,
        "same": result.same,
        "model": result.model,
        **result.what,
        "vanishing": result.vanishing,
        "twins": [_twin(twin) for twin in result.twins],
    }


def _twin(twin: TwinFound) -> dict[str, Any]:
    outside = twin.first_outside
    return {
        "twin": twin.name,
        "framework": twin.framework,
        "same": twin.same,
        "verdict": verdict(twin),
        "first_out_of_bounds": outside and _figure(outside),
        "first_adrift": twin.first_adrift,
        "losses": [_finite(loss) for loss in twin.losses],
        "expected_losses": twin.expected,
        "drift": {name: _finite(share) for name, share in twin.drift.items()},
        "figures": [_figure(figure) for figure in twin.figures],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    found = {key: _finite(v) if isinstance(v, float) else v for key, v in asdict(figure).items()}
    return {**found, "within": figure.within}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_html(result: TrainingResult) -> str:
    """Returns the whole page; see :func:`parity.report.html.templates.render`."""
    from parity.report.html.templates import render

    return render(
        "training.html.jinja",
        result=result,
        lines=list(lines(result)),
        verdicts=[(t, verdict(t).removeprefix(t.name)) for t in result.twins],
        rows=list(zip(*(twin.figures for twin in result.twins), strict=True)),
        units=units,
        ran=[*result.what.items(), *((twin.name, twin.framework) for twin in result.twins)],
    )
