"""What a name of published weights stands for: ``hub:[SOURCE/]NAME[@REVISION]``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from convert.hub.registry import DETECTION, Row
from pvt_spec.errors import ConvertError
from pvt_spec.published import PUBLISHED
from pvt_spec.words import listed, nearest, show

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,7}")

_MOST = 12  # names that are listed


@dataclass(frozen=True)
class Choice:
    """What a name stands for.

    Attributes:
        name: The name, without ``hub:``.
        row: The weights.
        revision: The branch, tag or commit that was asked for; "" for none.
        others: The names of what it could have stood for too.
    """

    name: str
    row: Row
    revision: str
    others: tuple[str, ...] = ()


def choose_row(name: str, rows: Mapping[str, Row]) -> Choice:
    """Returns what a name stands for.

    That is the row of this name; without a source, the one row that any source calls so; else the
    first of those with that name or of that variant. Registries begin with what the authors have
    published, so that is what a variant stands for.

    Args:
        name: What stands behind ``hub:``.
        rows: The registry.

    Raises:
        ConvertError: It is no such name, nothing is called so, or it is of no repository and has a
            revision.
    """
    called, at, revision = name.partition("@")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > 200):
        raise ConvertError(
            f"{PUBLISHED}{name}: {show(revision)} is no revision: expected a branch, tag or commit"
        )
    found = [rows[called]] if called in rows else _called(called, rows)
    if not found:
        raise ConvertError(f"{PUBLISHED}{name}: {unknown(called, rows)}; convert hub lists them")
    row, *others = found
    if at and row.repository is None:
        raise ConvertError(
            f"{PUBLISHED}{name}: {row.name} is a file, of which there is one: leave out "
            f"@{revision}; revisions are of repositories of Hugging Face"
        )
    return Choice(name, row, revision, tuple(other.name for other in others))


def _called(name: str, rows: Mapping[str, Row]) -> list[Row]:
    """Returns the rows that a name without a source may mean, the one to take first."""
    if exact := [row for row in rows.values() if row.short == name and row.variant != name]:
        return exact
    return [row for row in rows.values() if row.variant == name and row.task != DETECTION]


def unknown(name: str, rows: Mapping[str, Row]) -> str:
    """Returns the words for a name that nothing has, and what is near it."""
    known = {row.short: row.name for row in rows.values()} | {each: each for each in rows}
    known |= {row.variant: row.variant for row in rows.values() if row.variant}
    lower = {each.lower(): full for each, full in known.items()}
    if near := nearest(name.lower(), lower):
        return f"nothing is published under this name; near it is {PUBLISHED}{lower[near]}"
    source = name.partition("/")[0]
    if of_source := [row.name for row in rows.values() if row.source == source]:
        return f"{source} has {listed(of_source, _MOST)}"
    return "nothing is published under this name"
