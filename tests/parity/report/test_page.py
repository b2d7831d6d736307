"""The page says what the result says: read back with a real parser, never with patterns."""

import base64
import dataclasses
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convert import load_model, save_model
from parity.inputs.samples import Inputs, Sample, default_samples, noise_samples
from parity.measure.compare import SHOWN_IMAGES
from parity.measure.envelope import Envelope
from parity.measure.structure import Difference
from parity.measure.tolerance import FixedTolerance
from parity.report.html import page as page_module
from parity.report.html.maps import on_grid, ramp
from parity.report.html.page import to_html
from parity.report.html.plot import shared_axes
from parity.report.numbers import times
from parity.report.text import verdict
from parity.result import Result
from parity.run import run
from parity.selection import pair_up, read_models
from pvt_spec import ImageError, tap_names
from tests.support.models import GOLDEN, MAPS, SMALL, enlarge, info_of
from tests.support.results import compared, reference_taps, result_of

VOID = {"meta", "img", "source", "link", "br", "hr", "input"}
"""Elements of HTML without an end tag."""


# --- a page as a tree


@dataclass
class Node:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    parts: "list[Node | str]" = field(default_factory=list)

    @property
    def text(self) -> str:
        """As a browser shows it: where a line ends in the source is a space like any other."""
        return re.sub("[ \n]+", " ", self.source).strip(" ")

    @property
    def source(self) -> str:
        return "".join(part if isinstance(part, str) else part.source for part in self.parts)

    def walk(self) -> "Iterator[Node]":
        yield self
        for part in self.parts:
            if isinstance(part, Node):
                yield from part.walk()

    def all(self, tag: str | None = None, kind: str | None = None) -> "list[Node]":
        """Every element of a tag, with a class."""
        return [
            node
            for node in self.walk()
            if tag in (None, node.tag)
            and (kind is None or kind in node.attributes.get("class", "").split())
        ]

    def section(self, identity: str) -> "Node":
        (found,) = [n for n in self.all("section") if n.attributes["id"] == identity]
        return found


class Parser(HTMLParser):
    """Builds the tree; every element must be ended, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Node("")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        node = Node(tag, dict(attrs))
        self.open[-1].parts.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parse(page: str) -> Node:
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert [node.tag for node in parser.open] == [""]
    return parser.root


def picture(source: str) -> np.ndarray:
    """Pixels (H, W, C) of a data URI."""
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


# --- results


def add_one(values: np.ndarray) -> np.ndarray:
    return values + np.float32(1)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A golden model in PyTorch, and in onnxruntime with one weight 1 % larger."""
    weights, info = load_model(GOLDEN / "mindcv_v1_small" / "weights.ckpt")
    folder: Path = tmp_path_factory.mktemp("page")
    save_model(folder / "a.pth", weights, info)
    save_model(folder / "b.onnx", enlarge(weights, "block2.0.mlp.fc2.weight"), info)
    paths = [folder / "a.pth", folder / "b.onnx"]
    inputs = Inputs(default_samples(info.preprocessing), info.preprocessing.image_size)
    return run(pair_up(paths, ()), read_models(paths), inputs)


# --- what the page says


def test_page_of_a_real_run_says_what_was_found(real: Result) -> None:
    page = parse(to_html(real))
    torch, onnxruntime = real.comparisons
    assert torch.same and not onnxruntime.same
    (title,) = page.all("head")[0].all("title")
    assert title.text == "parity of PVT: DIFFERENT in 1 of 2 runtimes"
    (banner,) = page.all("div", "banner")
    assert banner.all("strong")[0].text == "DIFFERENT" and "1 of 2 runtimes" in banner.text
    items = page.section("verdicts").all("li")
    assert [item.all("div")[0].text for item in items] == [verdict(torch), verdict(onnxruntime)]
    marks = [item.all("svg")[0].attributes["aria-label"] for item in items]
    assert marks == ["same", "DIFFERENT"]
    assert real.reference in page.section("provenance").text
    assert real.computed_in in page.all("header")[0].text


def test_contents_lead_to_every_section(real: Result) -> None:
    page = parse(to_html(real))
    links = [link.attributes["href"] for link in page.all("nav")[0].all("a")]
    assert links == [f"#{section.attributes['id']}" for section in page.all("section")]
    assert len(links) == 8


def test_page_needs_nothing_else(real: Result) -> None:
    text = to_html(real)
    page = parse(text)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    for node in page.walk():
        for name in ("src", "srcset", "href"):
            value = node.attributes.get(name, "#")
            assert value.startswith(("data:image/png;base64,", "#")), value
    (policy,) = [m for m in page.all("meta") if "http-equiv" in m.attributes]
    assert policy.attributes["content"].startswith("default-src 'none'")
    assert len(text) < 400_000


def test_every_tap_is_a_point_on_the_right_side_of_the_bound(real: Result) -> None:
    plots = parse(to_html(real)).section("depth").all("figure", "plot")
    axes = shared_axes(real)
    for plot, comparison in zip(plots, real.comparisons, strict=True):
        points = plot.all("g", "point")
        assert len(points) == len(comparison.names)
        for point, name in zip(points, comparison.names, strict=True):
            judged = comparison.judge(name)
            title = point.all("title")[0].text
            assert title.startswith(f"{name}: {times(judged)} rounding (at most ")
            shape = "within" if judged.within else "outside"
            assert len(point.all(None, "within")) + len(point.all(None, "outside")) == 1
            (drawn,) = point.all(None, shape)
            if judged.within:
                height = float(drawn.attributes["cy"])
                assert axes.y(judged.allowed) <= height == axes.y(judged.times)
            else:
                assert axes.y(judged.times) < axes.y(judged.allowed)
    (note,) = plots[1].all("text", "note")
    assert note.text == "differs from block2.0.mlp on"
    assert not plots[0].all("text", "note")
    assert len(plots[1].all("rect", "structural")) == 1


def test_axes_are_logarithmic_and_the_bound_of_few_values_is_higher(real: Result) -> None:
    axes = shared_axes(real)
    decades = [axes.y(10.0**power) for power in range(axes.low, axes.high + 1)]
    assert np.diff(decades) == pytest.approx(np.diff(decades)[0], abs=0.11)
    assert axes.y(2.0) > axes.y(20.0) > axes.top
    comparison = real.comparisons[0]
    allowed = {name: comparison.judge(name).allowed for name in comparison.names}
    assert allowed["logits"] == 12 and allowed["block1.0"] == 3.5
    plot = parse(to_html(real)).section("depth").all("figure", "plot")[0]
    (limit,) = plot.all("path", "limit")
    heights = [float(y) for y in re.findall(r"V([\d.]+)", limit.attributes["d"])]
    assert heights == [axes.y(value) for value in allowed.values()]
    labels = [text.text for text in plot.all("text")]
    for label in ("stage 1", "stage 4", "head", "times rounding", "1×", "at most 3.5×"):
        assert label in labels


def rows_of(table: Node) -> list[list[str]]:
    return [[cell.text for cell in row.all("th") + row.all("td")] for row in table.all("tr")]


def test_tables_of_stages_and_of_all_taps(real: Result) -> None:
    section = parse(to_html(real)).section("stages")
    stages, *taps = section.all("table")
    head, *rows = rows_of(stages)
    assert head[1:] == [comparison.name for comparison in real.comparisons]
    names = ["stage 1", "stage 2", "stage 3", "stage 4", "norm", "features", "logits"]
    assert [row[0] for row in rows] == names
    worst = real.comparisons[1].worst_of([n for n in tap_names(real.info.config) if "2" in n[:12]])
    assert worst in rows[1][2]
    assert "out of bounds" in rows[1][2] and "out of bounds" not in rows[0][2]
    for table, comparison in zip(taps, real.comparisons, strict=True):
        _, *rows = rows_of(table)
        assert [row[0].split(" ")[0] for row in rows] == list(comparison.names)
        assert [row[1] for row in rows] == [times(comparison.judge(n)) for n in comparison.names]
        assert [row[4] for row in rows] == [
            f"{comparison.total(name).max_abs:.3g}" for name in comparison.names
        ]
        out = [row.attributes.get("class") == "out" for row in table.all("tr")[1:]]
        assert out == [not comparison.judge(name).within for name in comparison.names]


def test_every_difference_in_structure_is_listed(real: Result) -> None:
    section = parse(to_html(real)).section("structure")
    summary, listed = section.all("table")
    checked = [c.checked for c in real.comparisons]
    assert [row[1:3] for row in rows_of(summary)[1:]] == [
        [str(each["weights"]), str(each["attributes"])] for each in checked
    ]
    assert all(each["weights"] == 129 and each["attributes"] >= 80 for each in checked)
    (difference,) = real.comparisons[1].differences
    expected = [difference.subject, difference.found, difference.expected, "block2.0.mlp"]
    assert rows_of(listed)[1:] == [expected]


def test_more_differences_than_a_verdict_names_are_all_listed() -> None:
    differences = [Difference(f"x{i}.epsilon", str(i), "0", "block1.0.attn") for i in range(30)]
    differences.append(Difference("labels", "a", "b", None))
    page = parse(to_html(result_of(compared(differences=differences))))
    listed = rows_of(page.section("structure").all("table")[1])[1:]
    assert listed == [[d.subject, d.found, d.expected, d.tap or "-"] for d in differences]
    (plot,) = page.section("depth").all("figure", "plot")
    (square,) = plot.all("rect", "structural")
    titles = [p.all("title")[0].text for p in plot.all("g", "point") if square in p.parts]
    assert titles[0].startswith("block1.0.attn: ") and titles[0].endswith("and 27 more")


# --- images


def test_images_stand_with_their_classes(real: Result) -> None:
    section = parse(to_html(real)).section("images")
    thumbnails = section.all("img", "thumbnail")
    assert [image.attributes["alt"] for image in thumbnails] == [s.name for s in real.samples]
    for image in thumbnails:
        assert picture(image.attributes["src"]).shape == (64, 64, 3)
    for i, table in enumerate(section.all("table")):
        head, reference, *rows = rows_of(table)
        assert head[1:] == ["first", "second", "third", "fourth", "fifth"]
        best = [
            f"class\u00a0{index}{share:.2%}"
            for index, share in real.comparisons[0].reference_best[i]
        ]
        assert reference == ["reference", *best]
        assert len(rows) == 2


def test_only_the_images_whose_classes_are_kept_are_shown() -> None:
    count = SHOWN_IMAGES + 8
    result = result_of(compared(count=count))
    section = parse(to_html(result)).section("images")
    assert len(section.all("img", "thumbnail")) == SHOWN_IMAGES
    assert "Of 8 more images nothing but the statistics was kept" in section.text
    (folded,) = section.all("details")
    assert folded.all("summary")[0].text == "24 more images"
    assert len(folded.all("img", "thumbnail")) == 24


def test_disagreement_is_marked() -> None:
    def swap(logits: np.ndarray) -> np.ndarray:
        first, second = np.argsort(-logits[1])[:2]
        logits[1, [first, second]] = logits[1, [second, first]]
        return logits

    labels = tuple("abcdefg")
    other = compared(name="other", changes={"logits": swap})
    result = result_of(compared(), other, info=info_of(SMALL["v1"], "mindcv", *labels))
    first, second = parse(to_html(result)).section("images").all("table")
    assert not first.all("td", "out")
    marked = second.all("td", "out")
    assert [cell.text[:2] for cell in marked] == ["≠ ", "≠ "]
    ranked = [labels[index] for index, _ in other.best[1][:2]]
    assert [cell.text[2] for cell in marked] == ranked
    meanings = [svg.attributes["aria-label"] for svg in second.all("svg")]
    assert meanings == ["top-1 agrees", "top-1 differs"]
    decisions = {
        row[0]: row[1:]
        for row in rows_of(parse(to_html(result)).section("decisions").all("table")[0])
    }
    assert decisions["top-1 agrees"] == ["2/2 (100.00%)", "1/2 (50.00%)"]
    assert decisions["flips beyond the margin"] == ["0", "1: noise 2"]
    assert "accuracy, top-1" not in decisions


def test_accuracy_is_told_where_there_are_labels() -> None:
    labels = reference_taps("v1")["logits"].argmax(axis=1)
    labels[1] = (labels[1] + 1) % 7
    section = parse(to_html(result_of(compared(labels=labels)))).section("decisions")
    rows = {row[0]: row[1] for row in rows_of(section.all("table")[0])}
    assert rows["labelled images"] == "2"
    assert rows["accuracy, top-1"] == rows["of the reference"] == "1/2 (50.00%)"
    assert rows["McNemar's p"] == "1"
    assert rows["rate of flips, 95 % interval"] == "0.00% to 84.19%"


def test_image_that_cannot_be_shown_says_why() -> None:
    def gone(preprocessing: object) -> np.ndarray:
        raise ImageError("a.png: no longer there")

    samples = [Sample("a.png", "noise", gone), *noise_samples(1, 0)]
    page = parse(to_html(result_of(compared(), samples=samples)))
    section = page.section("images")
    assert len(section.all("img", "thumbnail")) == 1
    assert "no picture: a.png: no longer there" in section.text


def test_class_that_is_not_finite_never_agrees() -> None:
    def largest_is_infinite(logits: np.ndarray) -> np.ndarray:
        logits[0, logits[0].argmax()] = np.inf
        return logits

    comparison = compared(changes={"logits": largest_is_infinite})
    assert comparison.best[0][0][0] == comparison.reference_best[0][0][0]
    page = parse(to_html(result_of(comparison)))
    tables = page.section("images").all("table")
    meanings = [table.all("svg")[0].attributes["aria-label"] for table in tables]
    assert meanings == ["top-1 differs", "top-1 agrees"]


@pytest.mark.parametrize("kind", MAPS)
def test_models_without_classes(kind: str) -> None:
    page = parse(to_html(result_of(compared(kind), kind=kind)))
    assert "decisions" not in [section.attributes["id"] for section in page.all("section")]
    section = page.section("images")
    assert "answers no classes" in section.text and not section.all("table")
    assert len(section.all("img", "thumbnail")) == 2
    (verdict_item,) = page.section("verdicts").all("li")
    assert "stage" in verdict_item.text and "top-1" not in verdict_item.text
    plot = page.section("depth").all("figure", "plot")[0]
    assert "head" not in [text.text for text in plot.all("text")]


# --- error maps


def test_map_is_laid_out_as_the_image_and_darkest_where_the_error_is() -> None:
    def err(tokens: np.ndarray) -> np.ndarray:
        tokens[1, 16 * 3 + 5] += 1  # row 3, column 5 of 16 x 16
        return tokens

    result = result_of(compared(changes={"block1.0": err}))
    section = parse(to_html(result)).section("maps")
    (figure,) = section.all("figure", "map")
    light = picture(figure.all("img")[0].attributes["src"])
    dark = picture(figure.all("source")[0].attributes["srcset"])
    for pixels, scheme in ((light, "light"), (dark, "dark")):
        assert pixels.shape == (16, 16, 3)
        assert (pixels[3, 5] == ramp(scheme)[255]).all()
        rest = np.delete(pixels.reshape(-1, 3), 16 * 3 + 5, axis=0)
        assert (rest == ramp(scheme)[0]).all()
    assert "block1.0: " in section.text and "16 × 16 places" in section.text
    assert section.all("img", "thumbnail")[0].attributes["alt"] == "noise 2"
    assert "1 absolute error" in section.all("div", "scale")[0].text


def test_class_token_is_shown_apart() -> None:
    def err(tokens: np.ndarray) -> np.ndarray:
        tokens[0, 0] += 2
        return tokens

    section = parse(to_html(result_of(compared(changes={"norm": err})))).section("maps")
    (figure,) = section.all("figure", "map")
    grid, token = (picture(image.attributes["src"]) for image in figure.all("img"))
    assert grid.shape == (2, 2, 3) and token.shape == (1, 1, 3)
    assert (token[0, 0] == ramp("light")[255]).all()
    assert "class token, 2" in figure.text


def test_the_image_is_shown_that_the_tap_failed_on() -> None:
    """The second one, a tenth as far off as the first, all of whose values are much smaller."""
    scale = np.array([1, 0.001])
    reference = {tap: (a.T * scale).T for tap, a in reference_taps("v1").items()}
    envelope = Envelope(tap_names(SMALL["v1"]))
    rounded = {tap: array.astype(np.float32) for tap, array in reference.items()}
    loud = {tap: array + np.float32(0.1) for tap, array in rounded.items()}
    for group, taps, row in (("loud", loud, slice(0, 1)), ("quiet", rounded, slice(1, 2))):
        envelope.add(
            group, *({tap: a[row] for tap, a in each.items()} for each in (taps, reference))
        )
    actual = {tap: np.stack([a[0], rounded[tap][1]]) for tap, a in loud.items()}
    actual["block2.0"][1, 1] += np.float32(0.01)
    found = dataclasses.replace(compared(), envelope=envelope, errors={}, maps={}, images=0)
    found.add(["loud", "quiet"], actual, reference)
    page = parse(to_html(result_of(found)))
    assert page.section("maps").all("figcaption")[0].text == "noise 2"
    (row,) = [r for r in page.section("stages").all("tr", "out") if "block2.0 " in r.text]
    assert " quiet " in row.text and " 1 [1, " in row.text


def test_worst_tap_without_places_is_shown_beside_the_worst_one_with_them() -> None:
    section = parse(to_html(result_of(compared(changes={"logits": add_one})))).section("maps")
    codes = [code.text for code in section.all("code")]
    assert codes[0] == "logits" and len(codes) == 2 and codes[1] in tap_names(SMALL["v1"])
    flat, placed = section.all("figure", "map")
    assert picture(flat.all("img")[0].attributes["src"]).shape == (1, 7, 3)
    assert picture(placed.all("img")[0].attributes["src"]).shape[0] > 1


@pytest.mark.parametrize(
    ("shape", "expected", "token"),
    [
        ((6,), (2, 3), False),
        ((7,), (2, 3), True),
        ((5,), (1, 5), False),
        ((2, 3), (2, 3), False),
    ],
)
def test_on_grid(shape: tuple[int, ...], expected: tuple[int, int], token: bool) -> None:
    error = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    found, apart = on_grid(error, (2, 3))
    assert found.shape == expected and (apart is not None) == token
    assert found.ravel().tolist() == error.ravel()[int(token) :].tolist()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ramp_has_equal_steps_of_lightness_in_one_hue(scheme: str) -> None:
    colours = ramp(scheme)
    linear = np.where(
        colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4
    )
    # CIE lightness, another measure than the one that the ramp is made with.
    lightness = 116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16
    steps = np.diff(lightness[:256:15])
    assert (np.sign(steps) == np.sign(steps[0])).all()
    assert np.abs(steps).max() < 1.35 * np.abs(steps).min()
    assert abs(lightness[255] - lightness[0]) > 60
    # Blue leads everywhere, but what is not finite is red.
    assert (colours[:256, 2] >= colours[:256, :2].max(axis=1)).all()
    assert colours[256, 0] > 1.5 * colours[256, 2]


# --- what is not an ordinary number


def broken_in(value: float):
    def change(values: np.ndarray) -> np.ndarray:
        values.reshape(-1)[3] = value
        return values

    return change


@pytest.mark.parametrize(("value", "column"), [(np.nan, -3), (np.inf, -2)])
def test_values_that_are_not_finite_stand_at_the_top(value: float, column: int) -> None:
    changes = {name: broken_in(value) for name in ("block3.0", "logits")}
    result = result_of(compared(changes=changes))
    page = parse(to_html(result))
    (plot,) = page.section("depth").all("figure", "plot")
    broken = [p for p in plot.all("g", "point") if p.all("path", "broken")]
    titles = [point.all("title")[0].text for point in broken]
    assert [title.split(":")[0] for title in titles] == ["block3.0", "logits"]
    assert all("not finite rounding" in t and "max abs ∞" in t for t in titles)
    assert "not finite" in [text.text for text in plot.all("text")]
    axes = shared_axes(result)
    assert axes.broken and axes.y(math.inf) < axes.top < axes.y(1.0)
    table = page.section("stages").all("table")[1]
    row = {row[0].split(" ")[0]: row for row in rows_of(table)}["block3.0"]
    assert row[1] == "not finite" and row[4] == "∞" and row[column] == "1"
    (figure,) = page.section("maps").all("figure", "map")
    pixels = picture(figure.all("img")[0].attributes["src"])
    assert (pixels == ramp("light")[256]).all(axis=2).sum() == 1
    assert "not finite" in page.section("maps").all("div", "scale")[0].text
    assert "not finite" in page.section("images").text
    assert "nan" not in page.section("decisions").text + page.section("images").text


def test_errors_of_zero_stand_below_the_scale() -> None:
    exact = compared()
    for tap in exact.names:
        reference = reference_taps("v1")[tap]
        exact.errors[tap]["noise"].__init__()
        exact.errors[tap]["noise"].add(reference, reference)
    result = result_of(exact)
    page = parse(to_html(result))
    (plot,) = page.section("depth").all("figure", "plot")
    axes = shared_axes(result)
    assert axes.zeros and axes.y(0.0) > axes.y(10.0**axes.low)
    heights = {float(circle.attributes["cy"]) for circle in plot.all("circle", "within")}
    assert heights == {axes.y(0.0)}
    assert "0, exact" in [text.text for text in plot.all("text")]
    assert plot.all("path", "course")[0].attributes["d"] == ""


def test_shapes_that_differ_are_named() -> None:
    comparison = compared(changes={"block2.0": lambda values: values[:, :5]})
    page = parse(to_html(result_of(comparison)))
    assert "shape (2, 5, 16), expected (2, 64, 16)" in page.section("stages").text
    assert "other shape" in rows_of(page.section("stages").all("table")[0])[2][1]
    titles = [title.text for title in page.section("depth").all("title")]
    assert "block2.0: shape (2, 5, 16) instead of (2, 64, 16)" in titles
    assert (
        "block2.0: other shape, out of bounds; there is nothing to show"
        in page.section("maps").text
    )


def test_rounding_that_overflows_is_said_to_explain_any_error() -> None:
    comparison = compared(changes={"block1.0": broken_in(np.inf)}, precision="fp16")
    envelope = Envelope(comparison.names)
    reference = reference_taps("v1")
    emulated = {tap: array.astype(np.float16) for tap, array in reference.items()}
    emulated["block1.0"] = broken_in(np.inf)(emulated["block1.0"].copy())
    with np.errstate(all="ignore"):
        envelope.add("noise", emulated, reference)
    comparison.envelope = envelope
    plot = parse(to_html(result_of(comparison))).section("depth").all("figure", "plot")[0]
    (title,) = [t.text for t in plot.all("title") if t.text.startswith("block1.0: ")]
    assert title.endswith("rounding alone overflows here, so it explains any error")


# --- other ways to run


def test_fixed_tolerance_is_told_as_such() -> None:
    page = parse(to_html(result_of(compared(fixed=FixedTolerance(1e-3, 1e-4)))))
    depth = page.section("depth")
    assert "0.001 + 0.0001 × |reference|" in depth.text
    assert "times tolerance" in [text.text for text in depth.all("text")]
    assert "times rounding" not in page.text
    assert "|difference| ≤ 0.001 + 0.0001 |reference|" in page.section("provenance").text


def test_units_that_were_not_measured_are_said_to_be_from_a_table() -> None:
    measured, other = compared(), compared(name="other", precision="int8", envelope=None)
    page = parse(to_html(result_of(measured, other)))
    assert page.section("depth").text.count("Not measured but from a table: other.") == 1
    assert "Not measured" not in to_html(result_of(measured))
    provenance = page.section("provenance")
    names = [node.text for node in provenance.all("dt")]
    values = dict(zip(names, provenance.all("dd"), strict=True))
    assert values["precision class"].text.startswith("int8: 255 steps over the range")
    assert values["1× rounding"].text == "from the table"


def test_taps_that_a_bundle_lacks_are_left_open() -> None:
    names = ("block1.0", "block4.0")
    bundle = compared(name="bundle", names=names, answers=(), checked={})
    page = parse(to_html(result_of(compared(), bundle)))
    stages = {row[0]: row[1:] for row in rows_of(page.section("stages").all("table")[0])}
    assert stages["stage 2"][1] == stages["logits"][1] == "-" != stages["stage 1"][1]
    plots = page.section("depth").all("figure", "plot")
    places = [
        {
            p.all("title")[0].text.split(":")[0]: p.all("rect", "hit")[0].attributes["x"]
            for p in plot.all("g", "point")
        }
        for plot in plots
    ]
    assert places[1] == {name: places[0][name] for name in names}
    decisions = {row[0]: row[1:] for row in rows_of(page.section("decisions").all("table")[0])}
    assert decisions["top-1 agrees"] == ["2/2 (100.00%)", "-"]
    structure = rows_of(page.section("structure").all("table")[0])
    assert structure[2][1:3] == ["-", "-"]
    answers = rows_of(page.section("images").all("table")[0])
    assert [row[0] for row in answers] == ["", "reference", "top-1 agrees torch"]


def test_eight_runtimes_share_their_axes() -> None:
    changes = [
        {"block2.0": lambda values, i=i: values * np.float32(1 + 10.0**-i)} for i in range(8)
    ]
    comparisons = [compared(name=f"r{i}", changes=change) for i, change in enumerate(changes)]
    page = parse(to_html(result_of(*comparisons)))
    plots = page.section("depth").all("figure", "plot")
    assert len(plots) == 8
    assert len({plot.all("svg")[1].attributes["viewbox"] for plot in plots}) == 1
    grids = [[line.attributes["y1"] for line in plot.all("line", "grid")] for plot in plots]
    assert all(grid == grids[0] for grid in grids)
    titles = [title.text.split(" ")[1] for title in page.section("maps").all("h3")]
    assert titles == [f"r{i}" for i in range(8)]


def test_thumbnails_are_of_the_size_that_was_run() -> None:
    result = result_of(compared(), image_size=(40, 80))
    page = parse(to_html(result))
    image = page.section("images").all("img", "thumbnail")[0]
    assert picture(image.attributes["src"]).shape == (40, 80, 3)
    assert "40×80 pixels" in page.all("header")[0].text


# --- hostile names

HOSTILE = "<script>alert('x')</script>&amp;\"><img src=http://example.org/x onerror=alert(1)>"


def test_whatever_comes_from_files_is_text() -> None:
    info = info_of(SMALL["v1"], "mindcv", HOSTILE, *"bcdefg")
    info = dataclasses.replace(info, provenance={f"key {HOSTILE}": f"value {HOSTILE}"})
    samples = [
        dataclasses.replace(s, name=f"{HOSTILE}.png", group=HOSTILE) for s in noise_samples(2, 0)
    ]
    comparison = compared(
        name=f"torch {HOSTILE}",
        file=f"{HOSTILE}.pth",
        facts={f"fact {HOSTILE}": HOSTILE},
        differences=[Difference(f"d {HOSTILE}", f"f {HOSTILE}", f"e {HOSTILE}", "logits")],
    )
    result = result_of(
        comparison, info=info, samples=samples, reference=HOSTILE, computed_in=f"in {HOSTILE}"
    )
    page = parse(to_html(result))
    assert not page.all("script")
    assert all("onerror" not in node.attributes for node in page.walk())
    assert all(i.attributes["src"].startswith("data:") for i in page.all("img"))
    for part, texts in {
        "verdicts": [verdict(comparison)],
        "images": [f"{HOSTILE}.png", HOSTILE],
        "structure": [f"d {HOSTILE}", f"f {HOSTILE}", f"e {HOSTILE}"],
        "provenance": [f"key {HOSTILE}", f"value {HOSTILE}", f"fact {HOSTILE}", f"in {HOSTILE}"],
        "decisions": [f"torch {HOSTILE}"],
        "depth": [f"torch {HOSTILE}: DIFFERENT"],
    }.items():
        for text in texts:
            assert text in page.section(part).text, (part, text)
    thumbnails = page.section("images").all("img", "thumbnail")
    assert {image.attributes["alt"] for image in thumbnails} == {f"{HOSTILE}.png"}


def test_file_name_that_is_no_utf8_can_be_written() -> None:
    name = b"caf\xe9.pth".decode("utf-8", "surrogateescape")
    page = to_html(result_of(compared(), reference=name))
    assert page.encode("utf-8").decode() == page
    assert "caf\\udce9.pth" in parse(page).section("provenance").text


# --- looks


def colours(scheme: str) -> dict[str, tuple[int, int, int]]:
    style = Path(page_module.__file__).with_name("page.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    found = re.findall(r"--([\w-]+): #(\w{6});", light if scheme == "light" else dark)
    return {name: tuple(bytes.fromhex(code)) for name, code in found}


def luminance(colour: tuple[int, int, int]) -> float:
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_enough(scheme: str) -> None:
    """4.5 to 1, as the Web Content Accessibility Guidelines (AA) ask of text."""
    found = colours(scheme)
    pairs = [
        (text, on) for text in ("ink", "soft", "blue", "good", "bad") for on in ("card", "page")
    ]
    for text, ground in [*pairs, ("ink", "good-tint"), ("ink", "bad-tint")]:
        high, low = sorted((luminance(found[text]), luminance(found[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
