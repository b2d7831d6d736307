"""Images of the HTML page: what was run, and what it was taken for."""

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from parity.inputs.samples import Sample, thumbnail
from parity.measure.compare import SHOWN_IMAGES, Comparison
from parity.report.html.elements import Cell, count, element, mark, table
from parity.run import Result
from pvt_spec import ModelInfo, Preprocessing, PvtError

OPEN_IMAGES = 8
"""Images shown at once; the others can be unfolded."""

Classes = Sequence[tuple[int, float]]
"""Of one image, most probable first: index and probability."""


def data_uri(png: bytes) -> str:
    """A PNG file inside the page."""
    return f"data:image/png;base64,{b64encode(png).decode()}"


def shown_samples(result: Result) -> Sequence[Sample]:
    """The images that are shown: the first ones."""
    return result.samples[:SHOWN_IMAGES]


def images(result: Result, preprocessing: Preprocessing) -> Iterator[Element]:
    """Every image that is shown, with what the reference and the runtimes take it for."""
    samples = shown_samples(result)
    pictures = [picture_of(sample, preprocessing) for sample in samples]
    if not any(comparison.classifies for comparison in result.comparisons):
        figures = [captioned(p, s) for p, s in zip(pictures, samples, strict=True)]
        yield element("div", *figures, class_="gallery")
        return
    rows = [
        element(
            "div",
            element("div", picture, class_="thumbnail-box"),
            element("div", element("h3", _titled(sample)), _answers(result, i), class_="answers"),
            class_="image",
        )
        for i, (sample, picture) in enumerate(zip(samples, pictures, strict=True))
    ]
    yield from rows[:OPEN_IMAGES]
    if rows[OPEN_IMAGES:]:
        hidden = range(OPEN_IMAGES, len(rows))
        differing = sum(not _agrees(c, i) for i in hidden for c in result.comparisons)
        also = f", {count(differing, 'disagreement')} among them" if differing else ""
        summary = element("summary", f"{count(len(hidden), 'more image')}{also}")
        yield element("details", summary, *rows[OPEN_IMAGES:])


def picture_of(sample: Sample, preprocessing: Preprocessing) -> Element:
    """A picture, or why there is none."""
    try:
        source = data_uri(thumbnail(sample, preprocessing))
    except PvtError as error:
        return element("p", f"no picture: {error}", class_="soft small")
    return element("img", src=source, alt=sample.name, class_="thumbnail")


def _titled(sample: Sample) -> Element:
    group = "" if sample.name.startswith(sample.group) else f" ({sample.group})"
    return element("span", sample.name, element("span", group, class_="soft"))


def captioned(picture: Element, sample: Sample) -> Element:
    """A picture over its name."""
    return element("figure", picture, element("figcaption", _titled(sample), class_="small"))


def _classes(best: Sequence[Classes], image: int) -> Classes:
    """Of one image; none where nothing is known of it."""
    return best[image] if image < len(best) else ()


def _agrees(comparison: Comparison, image: int) -> bool:
    ours, theirs = _classes(comparison.best, image), _classes(comparison.reference_best, image)
    if not ours or not theirs or not math.isfinite(ours[0][1]):
        return False
    return ours[0][0] == theirs[0][0]


def _answers(result: Result, image: int) -> Element:
    """The most probable classes of one image: first the reference's, then every runtime's."""
    comparisons = [comparison for comparison in result.comparisons if comparison.classifies]
    expected = _classes(comparisons[0].reference_best, image)
    answers = [_answer(result.info, *found) for found in expected]
    rows: list[list[Cell]] = [["reference", *answers]]
    for comparison in comparisons:
        agrees = _agrees(comparison, image)
        meaning = "top-1 agrees" if agrees else "top-1 differs"
        name = element("span", mark(agrees, meaning), f" {comparison.name}")
        found = _classes(comparison.best, image)
        pairs = zip(found, expected, strict=False)
        rows.append([name, *(_answer(result.info, *ours, theirs) for ours, (theirs, _) in pairs)])
    ranks = [_ORDINALS[rank] for rank in range(len(expected))]
    return table(["", *ranks], rows, "answers")


_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def _answer(
    info: ModelInfo, index: int, probability: float, expected: int | None = None
) -> Element:
    """A class and its probability, marked where the reference has another one there."""
    label = str(info.labels[index]) if index < len(info.labels) else f"class\u00a0{index}"
    share = f"{probability:.2%}" if math.isfinite(probability) else "not finite"
    number = element("span", share, class_="share")
    if expected is None or expected == index:
        return element("td", label, number)
    meaning = "the reference has another class here"
    return element("td", "≠ ", label, number, class_="out", title=meaning)
