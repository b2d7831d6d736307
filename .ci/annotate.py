"""Annotates a pull request with what failed in a JUnit file: ``annotate.py JUNIT SUMMARY``.

Workflow commands of GitHub go to stdout; a table is added to the file of the step's summary. The
standard library alone is needed.
"""

import os
import sys
from collections.abc import Iterator
from xml.etree import ElementTree

MOST = 10
"""Annotations of one kind that a step can make."""


def escape(text: str, *, value: bool = False) -> str:
    """Returns a text as a workflow command takes it, as its message or as a property's value."""
    signs = {"%": "%25", "\r": "%0D", "\n": "%0A", **({":": "%3A", ",": "%2C"} if value else {})}
    return "".join(signs.get(letter, letter) for letter in text)


def plain(text: str) -> str:
    """Returns a text as Markdown shows it as it is, on one line."""
    return "".join(f"&#{ord(letter)};" if letter in "|<>`*_[]&\n" else letter for letter in text)


def failures(suites: ElementTree.Element) -> Iterator[tuple[str, str, str]]:
    """Yields the suite, the case and the text of everything that failed."""
    for suite in suites.iter("testsuite"):
        for case in suite.iter("testcase"):
            for failure in case.iter("failure"):
                yield suite.get("name", ""), case.get("name", ""), failure.text or ""


def commands(found: list[tuple[str, str, str]]) -> Iterator[str]:
    """Yields an annotation for each failure, of many for the first ones and for how many more."""
    shown = found if len(found) <= MOST else found[: MOST - 1]
    for suite, case, text in shown:
        place = f"file={escape(suite, value=True)}," if os.path.exists(suite) else ""
        yield f"::error {place}title={escape(f'{suite}: {case}', value=True)}::{escape(text)}"
    if len(shown) < len(found):
        yield f"::error title=PVT parity::and {len(found) - len(shown)} more"


def summary(suites: ElementTree.Element) -> Iterator[str]:
    """Yields a table in Markdown: a row for each suite."""
    yield "| | checked | failed | |"
    yield "|---|---|---|---|"
    for suite in suites.iter("testsuite"):
        counts = (suite.get(name, "") for name in ("name", "tests", "failures"))
        yield f"| {' | '.join(map(plain, (*counts, suite.findtext('system-out') or '')))} |"


def main(path: str, target: str) -> None:
    """Prints the annotations, and adds the table to a file."""
    suites = ElementTree.parse(path).getroot()
    for command in commands(list(failures(suites))):
        print(command)
    with open(target, "a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in summary(suites))


if __name__ == "__main__":
    main(*sys.argv[1:])
