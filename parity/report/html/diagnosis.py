"""A diagnosis as a page, like that of a result."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from parity.report.html.templates import render


def diagnosis_to_html(
    diagnosis: Mapping[str, Any], trusted: str, other: str, says_of_itself: Sequence[str]
) -> str:
    """Returns the whole page; see :func:`parity.report.html.templates.render`.

    Args:
        diagnosis: What was found, as :meth:`parity.diagnosis.diagnosis.Diagnosis.to_dict` has it.
        trusted: The file that is taken to be right.
        other: What to call the other side.
        says_of_itself: What the other side says of itself that differs.
    """

    def pair(values: Sequence[float | None]) -> list[float]:
        return [inf if value is None else value for value in values]

    return render(
        "diagnosis.html.jinja",
        found=diagnosis,
        trusted=trusted,
        other=other,
        says=says_of_itself,
        pair=pair,
        rounding=f"{diagnosis['precision']} rounding",
    )
