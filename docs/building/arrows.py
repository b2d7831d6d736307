"""Pictures of boxes and arrows, which documents have in Mermaid's words, as SVG without a script.

Of Mermaid this takes what `docs.derive` writes: `name["label"]` and `name --> other`. Boxes lie in
layers, each below all that lead to it but for circles; an arrow over several layers has a place of
its own in each, so that it goes around the boxes between.
"""

import re
from collections.abc import Hashable, Mapping
from html import escape
from itertools import pairwise

Graph = Mapping[Hashable, set[Hashable]]

HEIGHT, ROW, GAP, LETTER = 30, 66, 16, 8.2
"""A box's height, from a layer to the next, between boxes, and what a letter takes, in pixels."""


def draw_arrows(text: str) -> str:
    """Returns the picture in the colours of the page that it is in."""
    labels = dict(re.findall(r'^\s*([\w-]+)\["([^"]+)"\]$', text, re.M))
    arrows = re.findall(r"^\s*([\w-]+) --> ([\w-]+)$", text, re.M)
    layer = layers({name: {b for a, b in arrows if a == name} for name in labels})
    chains = [chain(a, b, layer) for a, b in arrows]
    joined: dict[Hashable, set[Hashable]] = {name: set() for name in labels}
    for places in chains:
        for a, b in pairwise(places):
            layer.setdefault(a, layer[places[0]] + places.index(a))
            joined.setdefault(a, set()).add(b)
            joined.setdefault(b, set())
    width = {name: LETTER * len(labels[name]) + 22 if name in labels else 8 for name in joined}
    middle, breadth = place(rows(joined, layer), width)
    lines = [_curve([(middle[name], layer[name]) for name in places]) for places in chains]
    boxes = [_box(label, middle[name], layer[name], width[name]) for name, label in labels.items()]
    depth = (max(layer.values()) + 1) * ROW
    words = escape("; ".join(f"{labels[a]} imports {labels[b]}" for a, b in arrows))
    return (
        f'<svg class="arrows" viewBox="0 0 {breadth:.0f} {depth}" width="{breadth:.0f}" role="img">'
        f"<title>{words}</title>{''.join(lines)}{''.join(boxes)}</svg>"
    )


def layers(graph: Graph) -> dict[Hashable, int]:
    """Returns the layer of each node: one below the lowest that leads to it, but in a circle."""
    found: dict[Hashable, int] = {}
    above: list[Hashable] = []

    def go(name: Hashable, depth: int) -> None:
        if name in above or found.get(name, -1) >= depth:
            return
        found[name] = depth
        above.append(name)
        for other in sorted(graph[name], key=str):
            go(other, depth + 1)
        above.pop()

    led_to = {other for others in graph.values() for other in others}
    for name in [*(n for n in graph if n not in led_to), *graph]:
        if name not in found:
            go(name, 0)
    return found


def chain(a: str, b: str, layer: Mapping[Hashable, int]) -> list[Hashable]:
    """Returns the places of an arrow: its ends, and one in each layer between."""
    return [a, *((a, b, each) for each in range(layer[a] + 1, layer[b])), b]


def rows(graph: Graph, layer: Mapping[Hashable, int]) -> list[list[Hashable]]:
    """Returns the nodes of each layer, each near the middle of those that it is joined to."""
    found = [[n for n in graph if layer[n] == each] for each in range(max(layer.values()) + 1)]
    joined = {name: {*graph[name], *(n for n in graph if name in graph[n])} for name in graph}
    for _ in range(8):
        at = {name: n / len(row) for row in found for n, name in enumerate(row)}
        for row in found:
            row.sort(key=lambda n: sum(at[o] for o in joined[n]) / (len(joined[n]) or 1))
            at |= {name: (n + 0.5) / len(row) for n, name in enumerate(row)}
    return found


def place(
    found: list[list[Hashable]], width: Mapping[Hashable, float]
) -> tuple[dict[Hashable, float], float]:
    """Returns where the middle of each node is, and the breadth of all."""
    lengths = [sum(width[n] + GAP for n in row) for row in found]
    middle = {}
    for row, length in zip(found, lengths, strict=True):
        left = (max(lengths) - length + GAP) / 2
        for name in row:
            middle[name] = left + width[name] / 2
            left += width[name] + GAP
    return middle, max(lengths)


def _curve(places: list[tuple[float, int]]) -> str:
    (x, layer), *others = places
    y = layer * ROW + HEIGHT + 4
    path = f"M{x:.1f} {y}"
    for n, (to, row) in enumerate(others):
        end = row * ROW + (4 if n == len(others) - 1 else HEIGHT + 4)
        half = (end - y) / 2
        path += f"C{x:.1f} {y + half:.1f} {to:.1f} {end - half:.1f} {to:.1f} {end}"
        x, y = to, end
    return f'<path d="{path}"/><circle cx="{x:.1f}" cy="{y}" r="3"/>'


def _box(label: str, x: float, layer: int, width: float) -> str:
    y = layer * ROW + 4
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="5"/>'
        f'<text x="{x:.1f}" y="{y + 20}">{escape(label)}</text>'
    )
