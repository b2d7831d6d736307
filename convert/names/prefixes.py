"""Where among a file's names those of a PVT lie: under which prefixes, whatever these are.

A PVT has four patch embeddings. What stands before the name of one in any dialect may stand before
all names of a model.
"""

import re
from collections import Counter
from collections.abc import Iterable

from convert.names.dialects import DIALECTS

_LONGEST = 500
"""Characters of a name that a PVT's tensor can have, so that every search is quick."""

_FIRST = {name for dialect in DIALECTS for name in dialect.first}
_FOUND = re.compile(rf"(?:^|\.)(?=(?:{'|'.join(map(re.escape, sorted(_FIRST)))})$)")
_ENDS = tuple({f".{name.split('.')[-2]}.weight" for name in _FIRST})

_AVERAGED = {"ema", "swa", "avg", "average", "averaged"}
"""Words in keys and prefixes of averaged weights: ``model_ema``, ``ema_state_dict``."""


def group_by_prefix(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the names that begin with each prefix under which a PVT may lie, without it.

    A name is under the longest such prefix; those that are under none are left out.
    """
    names = list(names)
    close = [name for name in names if name.endswith(_ENDS) and len(name) <= _LONGEST]
    prefixes = {name[: match.end()] for name in close if (match := _FOUND.search(name))}
    lengths = sorted({len(prefix) for prefix in prefixes}, reverse=True)
    groups: dict[str, list[str]] = {}
    for name in names:
        prefix = next((name[:n] for n in lengths if name[:n] in prefixes), None)
        if prefix is not None:
            groups.setdefault(prefix, []).append(name[len(prefix) :])
    return groups


def averaged_part(place: str) -> str:
    """Returns the leading part of keys and prefix that says that averaged weights lie there, or "".

    ``model_ema.`` of ``model_ema.module.``.
    """
    parts = place.split(".")
    for at, part in enumerate(parts):
        if _AVERAGED & {*part.lower().split("_")}:
            return "".join(f"{each}." for each in parts[: at + 1])
    return ""


def count_beside(names: Iterable[str], prefix: str) -> dict[str, int]:
    """Counts names beside those of a prefix, by the part in which they begin to differ from it."""
    shared = prefix.split(".")

    def leading(name: str) -> str:
        parts, at = name.split("."), 0
        while at < len(parts) - 1 and at < len(shared) and parts[at] == shared[at]:
            at += 1
        return ".".join(parts[: at + 1]) + (".*" if at + 1 < len(parts) else "")

    return dict(Counter(map(leading, names)))
