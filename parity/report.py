"""The comparisons as a table and as data."""

from collections.abc import Sequence
from typing import Any

from parity.compare import COSINE_BOUND, SCALED_ERROR_BOUND, Comparison


def table(comparisons: Sequence[Comparison]) -> list[str]:
    """One line per tap, max abs and scaled error of every runtime, and a verdict per runtime."""
    width = max(len(c.runtime) for c in comparisons)
    width = max(width, 30)
    taps = list(comparisons[0].taps)
    left = max(len(tap) for tap in taps)
    lines = [" " * left + "  " + "  ".join(f"{c.runtime:^{width}}" for c in comparisons)]
    head = f"{'max abs':>9} {'/ RMS':>9} {'1 - cosine':>10}"
    lines.append(f"{'tap':<{left}}  " + "  ".join(f"{head:^{width}}" for _ in comparisons))
    for tap in taps:
        cells = []
        for comparison in comparisons:
            error = comparison.taps[tap]
            mark = " " if error.within_bounds else "!"
            numbers = f"{error.max_abs:9.2e} {error.scaled:9.2e} {1 - error.cosine:10.1e}"
            cells.append(f"{numbers + mark:^{width}}")
        lines.append(f"{tap:<{left}}  " + "  ".join(cells))
    return lines + [verdict(comparison) for comparison in comparisons]


def verdict(comparison: Comparison) -> str:
    """One sentence about one runtime."""
    close = closeness(comparison)
    if comparison.same:
        return f"{comparison.runtime}: same. {close}"
    reasons = []
    tap = comparison.first_out_of_bounds
    if tap:
        times = comparison.taps[tap].over_bounds
        reasons.append(f"differs from {tap} on ({times:.3g} times the bound)")
    if comparison.structure:
        first, count = comparison.structure[0], len(comparison.structure)
        reasons.append(f"{count} things are not as they should be: {first}")
    return f"{comparison.runtime}: DIFFERENT. {'; '.join(reasons)}. {close}"


def closeness(comparison: Comparison) -> str:
    """How near the model's answer is: of several the worst, and of classes how many agree."""
    answer, images = comparison.worst_answer, f"{comparison.images} images"
    worst = f", the worst of {len(comparison.answers)} maps," if len(comparison.answers) > 1 else ""
    close = f"{answer}{worst} within {comparison.taps[answer].max_abs:.1e} of float64"
    if comparison.classifies:
        return f"{close}, top-1 agrees on {comparison.agreeing}/{images}"
    return f"{close} on {images}"


def as_data(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Everything that was measured, for ``--json``."""
    return {
        "same": all(comparison.same for comparison in comparisons),
        "reference": "pvt_torch float64",
        "bounds": {"scaled": SCALED_ERROR_BOUND, "cosine": COSINE_BOUND},
        "runtimes": [
            {
                "runtime": comparison.runtime,
                "same": comparison.same,
                "first_out_of_bounds": comparison.first_out_of_bounds,
                "structure": comparison.structure,
                "top1_agreement": (
                    comparison.agreeing / comparison.images if comparison.classifies else None
                ),
                "images": comparison.images,
                "seconds": comparison.seconds,
                "taps": {
                    name: {"max_abs": e.max_abs, "scaled": e.scaled, "cosine": e.cosine}
                    for name, e in comparison.taps.items()
                },
            }
            for comparison in comparisons
        ],
    }
