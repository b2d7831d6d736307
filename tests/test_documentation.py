"""What the documents say of the repository is there: files, modules, pictures, commands."""

import re
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

from docs.building.arrows import draw_arrows, layers
from docs.derive import DOCUMENTS, imports as draw
from tests.support.documents import NOT_RUN, read_commands, read_spans
from tests.support.processes import ROOT, run_python

ROOMS = r"(?:pvt_\w+|convert|parity|tests|benchmarks|docs|configs)"


def said(document: Path, pattern: str) -> list[str]:
    """Return what a document has in backticks that matches a pattern whole."""
    return re.findall(f"`({pattern})`", document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_are_there(document: Path) -> None:
    named = said(document, rf"{ROOMS}(?:/[\w./]+)+|\w+\.(?:toml|md)")
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_documents_name_files_at_all() -> None:
    assert len(said(ROOT / "docs/explanation/architecture.md", rf"{ROOMS}(?:/[\w./]+)+")) > 40


def test_modules_that_the_changelog_says_code_moved_to_are_there() -> None:
    moves = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert len(moves) > 100
    for before, now in moves:
        places = re.findall(r"`(\w+(?:[./]\w+)+|pvt_packages)`", now)
        assert places, before
        for place in places:
            assert (ROOT / place).exists() if "/" in place else find_spec(place), before


INDEXES = sorted(ROOT.glob("docs/*/index.md"))


@pytest.mark.parametrize("index", INDEXES, ids=lambda path: path.parent.name)
def test_an_index_lists_every_page_beside_it_also_outside_the_site(index: Path) -> None:
    listed = re.findall(r"^- \[.+\]\(([\w-]+\.md)\): \S", index.read_text(), re.M)
    assert sorted([*listed, index.name]) == sorted(p.name for p in index.parent.glob("*.md"))


def test_the_first_page_leads_to_every_index() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/index.md").read_text())
    assert {str(index.relative_to(ROOT / "docs")) for index in INDEXES} <= {*links}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_installs_us_from_a_copy_of_the_repository(document: Path) -> None:
    # We are on no index: a name alone would install nothing, or somebody else's package.
    extras = metadata("pvt-twins").get_all("Provides-Extra")
    text = document.read_text()
    said = [*read_spans(text), *(each.text for each in read_commands(text, ["", NOT_RUN]))]
    for what in re.findall(r"\bpip install ([^#&\n]+)", "\n".join(said)):
        if "pvt-twins" in what or re.search(r"(?:^|[ '\"])\.", what):
            found = re.fullmatch(r"-e (?:\.|'\.\[([\w,]+)\]')", what.strip())
            assert found, what
            assert {*(found[1] or "").split(",")} - {""} <= {*extras}, what


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_has_every_target_that_a_document_names(document: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", document.read_text(), re.M)) <= {*targets}


def test_every_fixed_program_of_the_documents_is_a_module() -> None:
    for document in DOCUMENTS:
        for module in re.findall(r"python -m ([\w.]+)", document.read_text()):
            assert find_spec(module) is not None, f"{document.name}: {module}"


def test_what_documents_derive_is_of_this_code() -> None:
    run_python("-m", "docs.derive", "--check")


def graph_of(*imports: tuple[str, str]) -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported)
    return graph


def arrows(picture: str) -> set[str]:
    return {line.strip() for line in picture.splitlines() if "-->" in line}


def test_a_picture_leaves_out_what_other_arrows_imply() -> None:
    graph = graph_of(("a.x", "b"), ("b", "c.y"), ("a", "c"), ("c.y", "c.z"))
    assert arrows(draw(graph, "packages")) == {"a --> b", "b --> c"}


def test_a_picture_keeps_both_arrows_of_a_circle_and_those_that_lead_there() -> None:
    graph = graph_of(("a", "b"), ("a", "c"), ("b", "c"), ("c", "b"))
    assert arrows(draw(graph, "packages")) == {"a --> b", "a --> c", "b --> c", "c --> b"}


def test_a_package_shows_its_folders_and_modules() -> None:
    picture = draw(graph_of(("a.x.deep", "a.y"), ("a.y", "b"), ("a.__main__", "a.y")), "a")
    assert arrows(picture) == {"a-x --> a-y"}
    assert 'a-x["x/"]' in picture and 'a-y["y"]' in picture and "main" not in picture


def test_a_box_lies_below_all_that_lead_to_it_but_in_a_circle() -> None:
    assert layers({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": 0, "b": 1, "c": 2}
    assert layers({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {"a": 0, "b": 1, "c": 2}
    assert layers({"a": {"b"}, "b": {"a"}}) == {"a": 0, "b": 1}


def test_a_picture_of_the_site_has_every_box_and_arrow() -> None:
    mermaid = draw(graph_of(("a.x", "b"), ("b", "c.y"), ("a", "c"), ("d", "b")), "packages")
    picture = draw_arrows(mermaid)
    assert re.findall(r"<text[^>]*>([^<]+)</text>", picture) == ["a/", "b", "c/", "d"]
    assert picture.count("<path") == len(arrows(mermaid)) == 3
    assert "a/ imports b" in picture and "d imports b" in picture
