"""Error through depth: one plot per runtime, all with the same axes, in SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from parity.measure.compare import Comparison, Judged
from parity.measure.structure import INPUT
from parity.report.html.elements import element, figure, mark
from parity.report.text import compared_taps, stages, times
from parity.run import Result

WIDTH, LEFT, RIGHT = 880, 84, 28
BODY = 150
"""Height of what is to scale."""

_NOTES, _BAND, _LABELS = 22, 32, 42
"""Heights above it: of the note on where a runtime differs, of values that are not finite; and
below it, of the names of stages."""

_LABEL = 34
"""Width that the name of a part takes; a narrower last part's runs into the margin."""

_MOST_TICKS = 6


@dataclass(frozen=True)
class Axes:
    """Where things are in a plot.

    Attributes:
        names: Taps, left to right.
        low: Power of ten at the bottom.
        high: At the top.
        zeros: Whether there is room for errors of 0, which a logarithm has none for.
        broken: Whether there is room for errors that are not finite.
        unit: What an error is counted in.
    """

    names: Sequence[str]
    low: int
    high: int
    zeros: bool
    broken: bool
    unit: str

    @property
    def step(self) -> float:
        """Width of a tap."""
        return (WIDTH - LEFT - RIGHT) / len(self.names)

    @property
    def top(self) -> float:
        """Of what is to scale."""
        return _NOTES + (_BAND if self.broken else 0)

    @property
    def floor(self) -> float:
        """The horizontal axis."""
        return self.top + BODY + (_BAND if self.zeros else 0)

    def x(self, index: float) -> float:
        """The middle of a tap; half a tap less is its left edge."""
        return round(LEFT + (index + 0.5) * self.step, 1)

    def y(self, value: float) -> float:
        """Of an error."""
        if not math.isfinite(value):
            return self.top - _BAND / 2
        if value == 0:
            return self.top + BODY + _BAND / 2
        share = (self.high - math.log10(value)) / (self.high - self.low)
        return round(self.top + BODY * share, 1)


def shared_axes(result: Result) -> Axes:
    """Axes that every runtime's errors fit on, with the bounds."""
    comparisons = result.comparisons
    judged = [comparison.judge(name) for comparison in comparisons for name in comparison.names]
    values = [each.times for each in judged]
    shown = [value for value in values if value and math.isfinite(value)]
    shown += [1.0, *(each.allowed for each in judged)]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown) * 1.2))
    return Axes(
        compared_taps(result),
        low if low < 0 else -1,
        high,
        zeros=0.0 in values,
        broken=not all(map(math.isfinite, values)),
        unit="tolerance" if comparisons[0].fixed else "rounding",
    )


def key(axes: Axes) -> Element:
    """What the plots' signs mean."""
    signs: list[tuple[Element, str]] = [
        (element("circle", cx=12, cy=8, r=3.2, class_="within"), "within bounds"),
        (_diamond(12, 8, 5), "out of bounds"),
        (element("path", d="M2 8H22", class_="limit"), f"most that is still {axes.unit}"),
        (_square(12, 8), "a weight or an attribute differs there"),
    ]
    if axes.broken:
        signs.insert(2, (_triangle(12, 8), "not finite, or of another shape"))
    rows = [element("li", element("svg", s, viewBox="0 0 24 16"), text) for s, text in signs]
    return element("ul", *rows, class_="key")


def depth_plot(comparison: Comparison, axes: Axes) -> Element:
    """The errors of one runtime, tap by tap."""
    judged = {name: comparison.judge(name) for name in comparison.names}
    drawing = element(
        "svg",
        *_frame(axes),
        *_bounds(axes, judged),
        element("path", d=_course(axes, judged), class_="course"),
        *_first_different(axes, comparison),
        *(_point(axes, comparison, name, each) for name, each in judged.items()),
        viewBox=f"0 0 {WIDTH} {axes.floor + _LABELS:g}",
        role="img",
        aria_label=f"{comparison.name}: error of {len(judged)} taps in units of {axes.unit}, "
        f"{sum(not each.within for each in judged.values())} of them out of bounds",
    )
    word = "same" if comparison.same else "DIFFERENT"
    title = element("h3", mark(comparison.same, word), f" {comparison.name}: {word}")
    caption = element("figcaption", title)
    return element("figure", caption, element("div", drawing, class_="scroll"), class_="plot")


def _text(x: float, y: float, text: str, anchor: str, class_: str | None = None) -> Element:
    return element("text", text, x=f"{x:g}", y=f"{y:g}", text_anchor=anchor, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Element:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", class_=class_, **{name: f"{end:g}" for name, end in ends.items()})


def _frame(axes: Axes) -> Iterator[Element]:
    """The axes with their units, and where stages begin."""
    right, every = WIDTH - RIGHT, -(-(axes.high - axes.low) // _MOST_TICKS)
    powers = [power for power in range(axes.low, axes.high + 1) if power % every == 0]
    ticks = [(axes.y(10.0**power), _power(power)) for power in powers]
    ticks += [(axes.y(0.0), "0, exact")] if axes.zeros else []
    ticks += [(axes.y(math.inf), "not finite")] if axes.broken else []
    for y, label in ticks:
        yield _line(LEFT, y, right, y, "grid")
        yield _text(LEFT - 8, y + 4.5, label, "end")
    yield _line(LEFT, axes.floor, right, axes.floor, "axis")
    start = 0
    for label, length in _parts(axes.names):
        x = axes.x(start - 0.5)
        yield _line(x, _NOTES - 4, x, axes.floor + 20, "stage")
        if length * axes.step < _LABEL:
            yield _text(x + 3, axes.floor + 17, label, "start")
        else:
            yield _text(axes.x(start + length / 2 - 0.5), axes.floor + 17, label, "middle")
        start += length
    yield _text((LEFT + right) / 2, axes.floor + 36, "taps in forward order", "middle")
    middle_y = axes.top + BODY / 2
    title = _text(0, 0, f"times {axes.unit}", "middle")
    title.set("transform", f"translate(14 {middle_y:g}) rotate(-90)")
    yield title


def _power(power: int) -> str:
    if abs(power) < 4:
        return f"{10.0**power:g}×"
    return f"10{str(power).translate(_RAISED)}×"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _parts(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Stages and how many taps each has; what comes after the last one is the head."""
    head = 0
    for line, taps in stages(names).items():
        if line.startswith("stage "):
            yield line, len(taps)
        else:
            head += len(taps)
    if head:
        yield "head", head


def _bounds(axes: Axes, judged: Mapping[str, Judged]) -> Iterator[Element]:
    """The largest error that is allowed, in steps: taps of few values may be further off."""
    first = next(iter(judged.values())).allowed
    edge = f"M{axes.x(-0.5):g} {axes.y(first):g}"
    for name, each in judged.items():
        edge += f"V{axes.y(each.allowed):g}H{axes.x(axes.names.index(name) + 0.5):g}"
    yield element("path", d=f"{edge}V{axes.top:g}H{LEFT}z", class_="beyond")
    yield element("path", d=edge, class_="limit")
    yield _text(LEFT + 6, axes.y(first) - 6, f"at most {first:g}×", "start", "bound")


def _course(axes: Axes, judged: Mapping[str, Judged]) -> str:
    """A line through what is to scale; it breaks where an error is 0 or not finite."""
    path, drawing = "", False
    for name, each in judged.items():
        scaled = each.times != 0 and math.isfinite(each.times)
        if scaled:
            place = f"{axes.x(axes.names.index(name)):g} {axes.y(each.times):g}"
            path += f"{'L' if drawing else 'M'}{place}"
        drawing = scaled
    return path


def _first_different(axes: Axes, comparison: Comparison) -> Iterator[Element]:
    first = comparison.first_different
    if first is None:
        return
    index = axes.names.index(first) if first in axes.names else -0.5
    x = axes.x(index)
    left = x < WIDTH / 2
    yield _line(x, 4, x, axes.floor, "first")
    text = f"differs from the {INPUT} on" if first == INPUT else f"differs from {first} on"
    yield _text(x + (6 if left else -6), 15, text, "start" if left else "end", "note")


def _point(axes: Axes, comparison: Comparison, name: str, judged: Judged) -> Element:
    """A tap's error, with all that is known of it where the pointer is over its column."""
    index = axes.names.index(name)
    x, y, size = axes.x(index), axes.y(judged.times), min(3.2, max(1.8, axes.step * 0.4))
    edge = {"x": f"{axes.x(index - 0.5):g}", "y": _NOTES, "width": f"{axes.step:.2f}"}
    drawn = [element("rect", class_="hit", height=f"{axes.floor - _NOTES:g}", **edge)]
    if not math.isfinite(judged.times):
        drawn.append(_triangle(x, y))
    elif judged.within:
        drawn.append(element("circle", cx=f"{x:g}", cy=f"{y:g}", r=f"{size:g}", class_="within"))
    else:
        drawn.append(_diamond(x, y, size + 1.8))
    differing = [d.subject for d in comparison.differences if d.tap == name]
    if differing:
        drawn.append(_square(x, axes.floor))
    text = tooltip(comparison, name, judged)
    also = f"; differs here: {', '.join(differing[:3])}" if differing else ""
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    return element("g", element("title", text + also + more), *drawn, class_="point")


def tooltip(comparison: Comparison, name: str, judged: Judged) -> str:
    """A tap in one line."""
    error = comparison.total(name)
    if error.mismatch:
        return f"{name}: shape {error.mismatch.actual} instead of {error.mismatch.reference}"
    unit = "tolerance" if comparison.fixed else "rounding"
    groups = f", worst in {judged.group}" if len(comparison.errors[name]) > 1 else ""
    bound = f"at most {judged.allowed:g}×"
    line = f"{name}: {times(judged)} {unit} ({bound}{groups}), max abs {figure(error.max_abs)}"
    if judged.times == 0 and error.max_abs:
        return f"{line}; rounding alone overflows here, so it explains any error"
    return line


def _diamond(x: float, y: float, size: float) -> Element:
    d = f"M{x:g} {y - size:g}l{size:g} {size:g}l{-size:g} {size:g}l{-size:g} {-size:g}z"
    return element("path", d=d, class_="outside")


def _triangle(x: float, y: float) -> Element:
    return element("path", d=f"M{x:g} {y - 5:g}l5 9h-10z", class_="broken")


def _square(x: float, y: float) -> Element:
    return element(
        "rect", x=f"{x - 3.5:g}", y=f"{y - 3.5:g}", width=7, height=7, class_="structural"
    )
