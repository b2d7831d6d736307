"""Writes into the documents what the code says by itself: `python -m docs.derive`.

That is tables of the rows of the code's own tables, and Mermaid pictures of what imports what, as
import-linter's contracts see it. With `--check` nothing is written, and the command fails where a
document is not of this code.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import grimp

from convert.formats.table import FORMATS
from convert.names.dialects import DIALECTS, Dialect
from pvt_packages import PACKAGES
from pvt_spec import CHOICES, EPSILONS, PROFILES, make_config
from pvt_spec.precisions import PRECISIONS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    each
    for each in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "generated" not in each.parts
)
"""The documents that people write: all but the pages that the site's own code makes."""

DERIVED = re.compile(r"(?s)(<!-- derived: (\w+)(?: of (\w+))? -->\n).*?(<!-- end -->)")


def table(*columns: str, rows: Iterable[Iterable[str]]) -> str:
    """Returns a table in Markdown."""
    lines = (" | ".join(cells) for cells in (columns, ["---"] * len(columns), *rows))
    return "".join(f"| {line} |\n" for line in lines)


def profiles() -> str:
    """Returns the table of what each profile computes."""
    fields = [
        field
        for field in (*CHOICES, *EPSILONS)
        if len({getattr(maths, field) for both in PROFILES.values() for maths in both.values()}) > 1
    ]
    rows = []
    for profile, versions in PROFILES.items():
        apart = versions[1] != versions[2]
        for version in versions if apart else (1,):
            values = (str(getattr(versions[version], field)) for field in fields)
            rows.append((f"`{profile}`" + (f", v{version}" if apart else ""), *values))
    return table("profile", *(f"`{field}`" for field in fields), rows=rows)


def dialects() -> str:
    """Returns the table of how each dialect names a tensor, and what its code computes."""
    example = "block1.0.norm1.weight"
    rows = [
        (
            f"`{row.name}` ({', '.join(f'v{version}' for version in row.versions)})",
            *(f"`{row.base}{name}`" for name in row.from_canonical(example)),
            "any: it is in the file" if _takes_any(row) else f"`{row.profile}`",
        )
        for row in DIALECTS
    ]
    return table("dialect", f"its name of `{example}`", "its code computes", rows=rows)


def _takes_any(dialect: Dialect) -> bool:
    config = make_config("pvt_tiny" if 1 in dialect.versions else "pvt_v2_b0")
    known = [maths[config.version] for maths in PROFILES.values()]
    return all(dialect.numerics(maths, config) == maths for maths in known)


def formats() -> str:
    """Returns the table of formats."""
    rows = [
        (
            ", ".join(f"`{suffix}`" for suffix in row.suffixes) or "none, or a folder",
            row.description.rstrip(","),
            f"`{row.dialect}`",
        )
        for row in FORMATS
    ]
    return table("ending", "what", "written with the names of", rows=rows)


def precisions() -> str:
    """Returns the table of precisions."""
    return table(
        "precision", "rounding", rows=((f"`{row.name}`", row.reason) for row in PRECISIONS.values())
    )


def imports(graph: grimp.ImportGraph, house: str) -> str:
    """Returns a picture of the packages (``packages``), or of the rooms of one of them.

    An arrow that others imply, as they lead there by another room, is left out.
    """
    depth = 1 if house == "packages" else 2
    inside = [name for name in graph.modules if depth == 1 or name.startswith(f"{house}.")]
    reached: dict[str, set[str]] = {}
    for module in inside:
        others = graph.find_modules_directly_imported_by(module) & set(inside)
        reached.setdefault(_room(module, depth), set()).update(_room(o, depth) for o in others)
    reached = {room: reached[room] - {room} for room in sorted(reached) if "__" not in room}
    folders = {_room(module, depth) for module in inside if module.count(".") >= depth}
    lines = []
    for room in reached:
        name = room.rpartition(".")[2] + ("/" if room in folders else "")
        lines.append(f'    {_key(room)}["{name}"]')
    below = {room: _below(room, reached) for room in reached}
    for room, others in reached.items():
        above = [b for b in others if room not in below[b]]
        implied = {a for b in above for a in below[b] if b not in below[a]}
        lines += [f"    {_key(room)} --> {_key(other)}" for other in sorted(others - implied)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def _below(room: str, reached: dict[str, set[str]]) -> set[str]:
    """Returns every room that a room imports, itself or by way of others."""
    found: set[str] = set()
    ahead = [room]
    while ahead:
        ahead += (new := reached[ahead.pop()] - found)
        found |= new
    return found


def _room(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def _key(room: str) -> str:
    """Returns a room's name as Mermaid takes it for a node's."""
    return room.replace(".", "-")


TABLES: dict[str, Callable[[], str]] = {
    "profiles": profiles,
    "dialects": dialects,
    "formats": formats,
    "precisions": precisions,
}


def main(*, check: bool) -> None:
    """Writes what is derived, or fails where a document has it otherwise."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)

    def derive(found: re.Match[str]) -> str:
        what, house = found[2], found[3]
        return found[1] + (imports(graph, house) if house else TABLES[what]()) + found[4]

    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        derived = DERIVED.sub(derive, text)
        if check and derived != text:
            sys.exit(f"{document} is not of this code: run make docs")
        if derived != text:
            document.write_text(derived, encoding="utf-8")


if __name__ == "__main__":
    main(check="--check" in sys.argv)
