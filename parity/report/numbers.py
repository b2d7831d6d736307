"""How a number is said, on a terminal and on the page."""

import math

from parity.measure.compare import Judged


def figure(value: float, form: str = ".3g") -> str:
    """Returns a number as the page shows it.

    Returns:
        ``∞`` where it is not finite, ``-`` where there is none (NaN), ``0`` for an exact 0.
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return format(value, form) if value else "0"


def times(judged: Judged) -> str:
    """Returns an error in units of rounding, as in ``"37×"``."""
    if not math.isfinite(judged.times):
        return "not finite"
    if judged.times < 10:
        return f"{judged.times:.2f}×"
    return f"{judged.times:.0f}×" if judged.times < 1e5 else f"{judged.times:.0e}×"
