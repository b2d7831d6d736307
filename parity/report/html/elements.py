"""What the HTML page is built of: elements, marks, tables, numbers.

Elements are :mod:`xml.etree`'s, so that whatever comes from a file is escaped where it is written
and nowhere else.
"""

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from parity.measure.compare import Comparison
from parity.report.text import times

Content = Element | str
Cell = Element | str

_ROWS = ("tr", "section", "figure", "article", "g", "details", "style")
"""Elements that end a line, for those who read the source."""


def element(tag: str, *content: Content, **attributes: object) -> Element:
    """One element.

    Args:
        tag: Its name.
        *content: Elements and text, in order.
        **attributes: As they are called, but ``class_`` and ``stroke_width``; None leaves one out.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    made = Element(tag, {name: str(value) for name, value in named.items() if value is not None})
    for part in content:
        if isinstance(part, Element):
            made.append(part)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + part
        else:
            made.text = (made.text or "") + part
    if tag in _ROWS:
        made.tail = "\n"
    return made


def mark(good: bool, meaning: str) -> Element:
    """A tick in a circle or a cross in an octagon: told apart by shape as well as by colour."""
    if good:
        shapes = ("M8 1a7 7 0 1 0 0 14A7 7 0 1 0 8 1z", "M4.6 8.3l2.3 2.4 4.6-5.2")
    else:
        shapes = ("M5 1h6l4 4v6l-4 4H5l-4-4V5z", "M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4")
    return element(
        "svg",
        element("title", meaning),
        element("path", d=shapes[0], class_="ground"),
        element("path", d=shapes[1], class_="sign"),
        viewBox="0 0 16 16",
        role="img",
        aria_label=meaning,
        class_=f"mark {'good' if good else 'bad'}",
    )


def table(
    head: Sequence[Cell], rows: Sequence[Sequence[Cell]], class_: str | None = None
) -> Element:
    """A table in a box of its own that scrolls where it is too wide.

    Args:
        head: Titles of the columns.
        rows: Cells; the first of each is the row's title.
        class_: Of the table. Cells that are ``td`` elements stay as they are.
    """
    titles = [element("th", cell, scope="col") for cell in head]
    body = [
        element("tr", element("th", first, scope="row"), *(_cell(cell) for cell in rest))
        for first, *rest in rows
    ]
    made = element(
        "table", element("thead", element("tr", *titles)), element("tbody", *body), class_=class_
    )
    return element("div", made, class_="scroll", tabindex="0")


def _cell(cell: Cell) -> Element:
    return cell if isinstance(cell, Element) and cell.tag == "td" else element("td", cell)


def section(identity: str, title: str, *content: Content) -> Element:
    """A part of the page that the list of contents leads to."""
    return element("section", element("h2", title), *content, id=identity)


def figure(value: float, form: str = ".3g") -> str:
    """A number as it is shown; ``∞`` where it is not finite and ``-`` where there is none."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return format(value, form) if value else "0"


def error_of(comparison: Comparison, tap: str) -> str:
    """A tap's error in units of rounding, or why there is none."""
    if comparison.total(tap).mismatch:
        return "other shape"
    return times(comparison.judge(tap))


def count(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
