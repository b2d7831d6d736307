"""Draws what imports what into architecture.md: `python -m docs.architecture`.

The pictures are Mermaid's and show the imports that import-linter's contracts are about: between
the packages, and between the rooms of a package. With `--check` nothing is written, and the command
fails where a picture is not of the imports that there are.
"""

import re
import sys
from pathlib import Path

import grimp

from pvt_packages import PACKAGES

DOCUMENT = Path(__file__).with_suffix(".md")
PICTURE = re.compile(r"(?s)(<!-- imports in (\w+) -->\n).*?(<!-- end of imports -->)")


def draw(graph: grimp.ImportGraph, house: str) -> str:
    """Return a picture of the packages (``packages``), or of the rooms of one of them.

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
    """Return every room that a room imports, itself or by way of others."""
    found: set[str] = set()
    ahead = [room]
    while ahead:
        ahead += (new := reached[ahead.pop()] - found)
        found |= new
    return found


def _room(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def _key(room: str) -> str:
    """Return a room's name as Mermaid takes it for a node's."""
    return room.replace(".", "-")


def main(*, check: bool) -> None:
    """Draw the pictures, or fail where one is stale."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    text = DOCUMENT.read_text(encoding="utf-8")
    drawn = PICTURE.sub(lambda found: f"{found[1]}{draw(graph, found[2])}{found[3]}", text)
    if not check:
        DOCUMENT.write_text(drawn, encoding="utf-8")
    elif drawn != text:
        sys.exit(f"{DOCUMENT}: a picture is not of these imports: run make architecture")


if __name__ == "__main__":
    main(check="--check" in sys.argv)
