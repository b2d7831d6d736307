"""Commands as a document shows them, and whether what they print is what it shows."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

PROMPT = re.compile(r"\w*\$ +")
"""What stands before a command where lines without it are what was printed."""

NOT_RUN = "{not-run} "
"""What a block's language begins with that nobody runs; the reason follows, and the page has it."""

ELSEWHERE = "..."
"""A shown line that stands for any number of printed ones."""


@dataclass(frozen=True)
class Command:
    """A command of a document.

    Attributes:
        line: The number of its first line.
        text: The command; a comment may be at its end.
        shown: The lines that the document shows below it; empty where it shows none.
        language: The language of its block: ``""`` is that of a shell.
    """

    line: int
    text: str
    shown: tuple[str, ...] = ()
    language: str = ""


def read_blocks(document: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yields of each block of code the number of its first line, its language and its lines."""
    language, start, lines = None, 0, []
    for number, line in enumerate(document.splitlines(), start=1):
        fence = re.fullmatch("```(.*)", line)
        if fence and language is None:
            language, start, lines = fence[1], number + 1, []
        elif fence:
            yield start, language or "", lines
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"the block at line {start} has no end"


def read_commands(document: str, languages: Iterable[str] = ("", "python")) -> list[Command]:
    """The commands of a document in order; a block of Python is one.

    Blocks that are not run are left out, unless :data:`NOT_RUN` is among the languages.
    """
    found = []
    for start, language, lines in read_blocks(document):
        if language.startswith(NOT_RUN) and NOT_RUN in languages:
            python = lines[0] == ":language: python"
            language, lines = ("python", lines[2:]) if python else ("", lines)
        if language not in languages:
            continue
        if language:
            found.append(Command(start, "\n".join(lines), language=language))
        else:
            found += _of_shell(start, lines)
    return found


def _of_shell(start: int, lines: Sequence[str]) -> Iterator[Command]:
    shows = any(PROMPT.match(line) for line in lines)
    first, text, shown = start, "", list[str]()
    for number, line in enumerate(lines, start=start):
        begins = PROMPT.match(line) if shows else line.strip()
        if text.endswith("\\"):
            text = f"{text[:-1]}{line.strip()}"
        elif begins:
            if text:
                yield _command(first, text, shown)
            first, text, shown = number, PROMPT.sub("", line, count=1), []
        else:
            assert text or not line.strip(), f"line {number} is shown without a command: {line}"
            shown.append(line)
    yield _command(first, text, shown)


def _command(line: int, text: str, shown: Sequence[str]) -> Command:
    return Command(
        line, text, tuple("\n".join(shown).strip("\n").split("\n")) if any(shown) else ()
    )


def read_spans(document: str) -> list[str]:
    """What stands in backticks within the text of a document."""
    text = re.sub(r"^```.*?^```$", "", document, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


@dataclass(frozen=True)
class Substitution:
    """What stands for something of a document where it is run.

    Attributes:
        pattern: What it stands for, a regular expression.
        replacement: What stands there instead.
        why: Why it cannot stand as it is.
    """

    pattern: str
    replacement: str
    why: str


def substitute(text: str, table: Iterable[Substitution]) -> tuple[str, list[Substitution]]:
    """A command as it is run, and those of the table that changed it."""
    used = []
    for row in table:
        changed = re.sub(row.pattern, row.replacement, text)
        if changed != text:
            used.append(row)
        text = changed
    return text, used


_TAP = r"(?:(?:block|patch_embed|embed)\d[\w.]*|norm\d?|features|logits)"
_NUMBER = r"\d[\d,.]*(?:e[-+]?\d+)?"

MEASURED: tuple[tuple[str, str], ...] = (
    (rf"{_NUMBER}× {_TAP}", rf"{_NUMBER}× {_TAP}"),  # the worst tap, and by how much
    (rf"\({_TAP}\)", rf"\({_TAP}\)"),
    (r"\d+ +\d+\.\d+%", r"\S+ +\d+\.\d+%"),  # a class, and how probable it is
    (r"\d[\d,]* bytes", r"\d[\d,]* bytes"),
    (r"(?<![\w.])\d+\.\d[\d.]*(?:e[-+]?\d+)?", _NUMBER),
)
"""What of a shown line is measured -> a pattern of what may be printed in its place.

A number with a decimal point is measured; whole ones and powers of ten are not.
"""


def pattern_of(line: str) -> str:
    """A pattern of the printed lines that a shown line is right for; columns may be wider."""
    measured = "|".join(f"({shown})" for shown, _ in MEASURED)
    pattern, at = "", 0
    for match in re.finditer(measured, line):
        pattern += _plain(line[at : match.start()]) + MEASURED[(match.lastindex or 1) - 1][1]
        at = match.end()
    return pattern + _plain(line[at:])


def _plain(text: str) -> str:
    return r"\s+".join(re.escape(part) for part in re.split(r"\s+", text))


def find_difference(shown: Sequence[str], printed: str) -> str | None:
    """What a document shows that was not printed there; None where all of it was, and no more."""
    lines = [line.rstrip() for line in printed.strip("\n").split("\n")]
    at, anywhere = 0, False
    for line in shown:
        if line == ELSEWHERE:
            anywhere = True
            continue
        places = range(at, len(lines) if anywhere else at + 1)
        place = next((i for i in places if _matches(line, lines[i : i + 1])), None)
        if place is None:
            got = "anything like it" if anywhere else repr("".join(lines[at : at + 1]))
            return f"shown {line!r}, got {'not ' if anywhere else ''}{got}"
        at, anywhere = place + 1, False
    more = lines[at:]
    return f"printed too: {more[0]!r}" if more and not anywhere else None


def _matches(line: str, printed: Any) -> bool:
    return bool(printed) and re.fullmatch(pattern_of(line), printed[0]) is not None
