"""What was found out about a file, to print and to put in a report."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pvt_spec.words import listed, presentable

_REPEATED = """
    extra file guess lost maths_differ missing next_step other_bytes other_graph other_shape
    replaced warning
"""
REPEATED = _REPEATED.split()
"""Findings that there may be several of."""

_SHOWN = 10


@dataclass(frozen=True)
class Finding:
    """One fact.

    Attributes:
        what: The fact's name, as a key: ``image_size``.
        value: The fact, as JSON can hold it.
        note: The reason for it, or what to do about it; shown in brackets.
        text: The words that are shown in place of the value.
    """

    what: str
    value: Any
    note: str = ""
    text: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return presentable(
            f"{self.what.replace('_', ' '):>18}  {self.text or _show(self.value)}{note}"
        ).replace("\n", "\\n")


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_entry(key, each) for key, each in value.items()) or "none"
    if isinstance(value, list):
        return listed(value, _SHOWN, _show) or "none"
    return f"{value:,}" if type(value) is int else str(value)


def _entry(key: str, value: Any) -> str:
    """Returns a name and what it stands for, or how often it is there."""
    if type(value) is int:
        return key if value == 1 else f"{key} x{value}"
    return f"{key} {' / '.join(map(str, value)) if isinstance(value, list) else value}"


def to_dict(findings: Iterable[Finding]) -> dict[str, Any]:
    """Returns findings for a program: by name, with those of :data:`REPEATED` as lists.

    Notes are under ``notes``, by the same names.
    """
    facts: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for finding in findings:
        value = _as_json(finding.value)
        if finding.what in REPEATED:
            facts.setdefault(finding.what, []).append(value)
        else:
            facts[finding.what] = value
        if finding.note:
            notes[finding.what] = finding.note
    return {**facts, "notes": notes}


def _as_json(value: Any) -> Any:
    """Returns a value with the numbers that JSON does not have, NaN and the infinities, as text."""
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
