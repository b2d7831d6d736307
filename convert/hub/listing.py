"""What there is to be had, and what is here of it; and recording what was found out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.hub.names import unknown
from convert.hub.places import Places, find_places
from convert.hub.registry import Row, read_registry, record
from pvt_packages import is_installed
from pvt_spec.errors import ConvertError
from pvt_spec.published import PUBLISHED
from pvt_spec.words import columns, printable, shortened


@dataclass(frozen=True)
class Listed:
    """A row of the registry, and where it is on this machine; None where it is not."""

    row: Row
    path: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Returns it for a program."""
        cached = None if self.path is None else str(self.path)
        return {**asdict(self.row), "source": self.row.source, "cached": cached}


def list_rows(names: Sequence[str] = ()) -> list[Listed]:
    """Returns rows of the registry: all, or those that names stand for.

    Args:
        names: Names, with or without source, variants or sources.

    Raises:
        ConvertError: Nothing is called so, or the user's registry cannot be read.
    """
    places = find_places()
    rows = read_registry(places.registry)
    chosen = {row.name for name in names for row in _named(name, rows)}
    found = [row for row in rows.values() if not names or row.name in chosen]
    return [Listed(row, _here(row, places)) for row in found]


def _named(name: str, rows: Mapping[str, Row]) -> list[Row]:
    plain = name.removeprefix(PUBLISHED)
    said = [r for r in rows.values() if plain in (r.name, r.short, r.variant, r.source)]
    if not said:
        raise ConvertError(f"{PUBLISHED}{plain}: {unknown(plain, rows)}")
    return said


def _here(row: Row, places: Places) -> Path | None:
    """Returns where weights are on this machine, which is not verified here."""
    if row.repository is None:
        path = places.folder(row.name) / row.file
        return path if path.is_file() else None
    if not is_installed("huggingface_hub"):
        return None
    from convert.hub.download.huggingface import cached_snapshot

    return cached_snapshot(row)


_HEADS = ("name", "variant", "from", "size", "dialect", "maths", "licence", "top-1", "cached")
_WIDEST = 200
"""Characters of a cell, which a registry may have of any length."""


def show_rows(found: Sequence[Listed]) -> Iterator[str]:
    """Yields a line for each row, the heads first."""
    yield from columns([_HEADS, *map(_cells, found)])


def _cells(listed: Listed) -> list[str]:
    row = listed.row
    place = "Hugging Face" if row.repository else str(row.address).split("/")[2]
    facts = (row.variant, place, row.size and f"{row.size:,}", row.dialect, row.profile)
    top1 = row.top1 and f"{row.top1:.2f}"
    cells = (row.name, *facts, row.licence, top1, "yes" if listed.path else "no")
    return [shortened(printable(cell or ""), _WIDEST) for cell in cells]


def record_row(name: str, variant_of: Callable[[Path], str | None]) -> str:
    """Fetches what a name stands for, and writes what is found out into the user's registry.

    That is size and hash, of a repository its commit too, and a licence that its page says. Whether
    the file is a whole model of the row's variant is looked at first.

    Args:
        name: The name.
        variant_of: A function that returns the variant of a model's file, None of one without name.

    Returns:
        The words for what was recorded.

    Raises:
        ConvertError: It cannot be had, or is another model.
    """
    from convert.hub.fetching import fetch

    places = find_places()
    found = fetch(name.removeprefix(PUBLISHED))
    row = found.row
    variant = variant_of(found.path)
    if row.variant not in (None, variant):
        raise ConvertError(
            f"{found.path}: holds {variant or 'no named variant'}, expected {row.variant}, as the "
            "registry says: nothing is recorded"
        )
    facts: dict[str, Any] = {"size": found.size, "sha256": found.sha256}
    facts |= {"commit": found.commit} if found.commit else {}
    facts |= {"licence": found.licence} if found.licence and not row.licence else {}
    record(places.registry, row.name, facts)
    said = ", ".join(f"{what} {value}" for what, value in facts.items())
    return f"{row.name}: {said} ({found.against or 'on first sight'}): in {places.registry}"


def cached_names() -> list[str]:
    """Returns the names of rows that are on this machine."""
    return [listed.row.name for listed in list_rows() if listed.path]
