"""A result as a page: one file that needs nothing else, for someone who was not there."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from parity.measure.compare import Comparison
from parity.measure.tolerance import FACTOR, FACTOR_OF_FEW, FEW, find_tolerance
from parity.report.html.elements import count, element, mark, section
from parity.report.html.images import images, shown_samples
from parity.report.html.maps import error_maps
from parity.report.html.plot import depth_plot, key, shared_axes
from parity.report.html.style import STYLE
from parity.report.html.tables import decision_table, stage_table, structure, tap_tables
from parity.report.text import compared_taps, verdict
from parity.run import Result
from pvt_spec import tap_names

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page may load nothing, whatever came into it."""


def as_html(result: Result) -> str:
    """The whole page, self-contained: no scripts, and nothing is fetched.

    Returns:
        HTML that can be encoded as UTF-8, whatever bytes file names are made of.
    """
    sections = list(_sections(result))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"parity of {_model(result)}: {_outcome(result)}"),
        element("style", STYLE),
    )
    body = element("body", _header(result), _banner(result), _contents(sections))
    body.append(element("main", *sections))
    page = ElementTree.tostring(
        element("html", head, body, lang="en"), encoding="unicode", method="html"
    )
    # Bytes of a file name that are no UTF-8 are lone surrogates in Python.
    return f"<!DOCTYPE html>\n{page}\n".encode("utf-8", "backslashreplace").decode()


def _sections(result: Result) -> Iterator[Element]:
    yield section("verdicts", "Verdicts", _verdicts(result))
    yield section("depth", "Error through depth", *_depth(result))
    yield section("stages", "Stages", stage_table(result), *tap_tables(result))
    if any(comparison.classifies for comparison in result.comparisons):
        yield section("decisions", "Decisions", *decision_table(result))
    preprocessing = dataclasses.replace(result.info.preprocessing, image_size=result.image_size)
    yield section("images", "Images", *_image_notes(result), *images(result, preprocessing))
    yield section(
        "maps",
        "Where the worst tap errs",
        _map_notes(),
        element("div", *error_maps(result, preprocessing), class_="maps"),
    )
    yield section("structure", "Weights and attributes", *structure(result))
    yield section("provenance", "Provenance", *_provenance(result))


def _model(result: Result) -> str:
    return result.info.variant or "PVT"


def _outcome(result: Result) -> str:
    different = sum(not comparison.same for comparison in result.comparisons)
    runtimes = count(len(result.comparisons), "runtime")
    return f"DIFFERENT in {different} of {runtimes}" if different else f"same in {runtimes}"


def _header(result: Result) -> Element:
    H, W = result.image_size
    facts = f", {count(len(result.samples), 'image')} of {H}×{W} pixels, profile "
    return element(
        "header",
        element("h1", f"Parity of {_model(result)}"),
        element(
            "p",
            element("code", result.reference),
            f"{facts}{result.info.profile}; every runtime against {result.computed_in}",
            class_="soft",
        ),
    )


def _banner(result: Result) -> Element:
    number = len(result.comparisons)
    different = sum(not comparison.same for comparison in result.comparisons)
    word, state = ("SAME", "good") if result.same else ("DIFFERENT", "bad")
    text = (
        f"{count(number, 'runtime')} ran, and each computes the reference's function: "
        "what is left is rounding."
        if result.same
        else f"{different} of {count(number, 'runtime')} "
        f"{'does' if different == 1 else 'do'} not compute the reference's function."
    )
    words = element("div", element("strong", word), text)
    return element("div", mark(result.same, word), words, class_=f"banner {state}")


def _contents(sections: Sequence[Element]) -> Element:
    links = [
        element("li", element("a", part[0].text or "", href=f"#{part.get('id')}"))
        for part in sections
    ]
    return element("nav", element("ul", *links), aria_label="Contents")


def _verdicts(result: Result) -> Element:
    rows = [
        element(
            "li",
            mark(c.same, "same" if c.same else "DIFFERENT"),
            element("div", element("strong", c.name), verdict(c).removeprefix(c.name)),
        )
        for c in result.comparisons
    ]
    return element("ul", *rows, class_="verdicts")


def _depth(result: Result) -> Iterator[Element]:
    yield element("p", _meaning(result.comparisons))
    axes = shared_axes(result)
    yield key(axes)
    yield from (depth_plot(comparison, axes) for comparison in result.comparisons)


def _meaning(comparisons: Sequence[Comparison]) -> str:
    """What the numbers are, in plain words."""
    fixed = comparisons[0].fixed
    if fixed:
        return (
            "At every tap, an intermediate result of the model, the difference from the reference "
            f"is divided by what was allowed: {fixed.atol:g} + {fixed.rtol:g} × |reference|, value "
            "by value. 1× is the most that is within bounds."
        )
    unmeasured = [comparison.name for comparison in comparisons if comparison.envelope is None]
    return (
        "Computing with fewer digits than the reference makes errors even where nothing is wrong. "
        "How large they are was measured at every tap, an intermediate result of the model: the "
        "same model and images, with each operation rounded as the runtime's precision rounds "
        f"it. That is 1× rounding, and up to {FACTOR:g}× ({FACTOR_OF_FEW:g}× at a tap of fewer "
        f"than {FEW} values) can still be another order of summation; more is another function."
        + (f" Not measured but from a table: {', '.join(unmeasured)}." if unmeasured else "")
    )


# --- provenance


def _provenance(result: Result) -> Iterator[Element]:
    yield _facts(_what_ran(result))
    for comparison in result.comparisons:
        yield element("h3", comparison.name)
        yield _facts(_runtime(comparison))


def _facts(facts: Iterable[tuple[str, str]]) -> Element:
    pairs = [(element("dt", name), element("dd", str(value))) for name, value in facts]
    return element("dl", *(part for pair in pairs for part in pair))


def _what_ran(result: Result) -> Iterator[tuple[str, str]]:
    info = result.info
    H, W = result.image_size
    groups = Counter(sample.group for sample in result.samples)
    yield "reference", result.reference
    yield "computed in", result.computed_in
    yield "variant", info.variant or "none by name"
    yield "profile of maths", info.profile
    yield "image size", f"{H} × {W} pixels"
    yield "images", ", ".join(f"{number} {group}" for group, number in groups.items())
    yield "taps", f"{len(compared_taps(result))} of {len(tap_names(info.config))}"
    yield from (("file says: " + name, value) for name, value in info.provenance.items())
    yield from ((f"seconds, {name}", f"{value:.1f}") for name, value in result.seconds.items())


def _runtime(comparison: Comparison) -> Iterator[tuple[str, str]]:
    yield "file", comparison.file
    if comparison.fixed:
        fixed = comparison.fixed
        yield "judged by", f"|difference| ≤ {fixed.atol:g} + {fixed.rtol:g} |reference|"
    else:
        reason = find_tolerance(comparison.precision).reason
        yield "precision class", f"{comparison.precision}: {reason}"
        measured = "measured on these images" if comparison.envelope else "from the table"
        yield "1× rounding", measured
    yield from comparison.facts.items()
    yield "seconds in forward passes", f"{comparison.seconds:.2f}"


def _image_notes(result: Result) -> Iterator[Element]:
    hidden = len(result.samples) - len(shown_samples(result))
    text = "As the model sees them: resized and cropped by its preprocessing."
    if hidden:
        text += f" Of {count(hidden, 'more image')} nothing but the statistics was kept."
    if not any(comparison.classifies for comparison in result.comparisons):
        text += " This model answers no classes."
    yield element("p", text, class_="soft small")


def _map_notes() -> Element:
    return element(
        "p",
        "Of each runtime the tap that is furthest out of bounds, or nearest to that, in the image "
        "where its error is largest. Every picture has a scale of its own.",
        class_="soft small",
    )
