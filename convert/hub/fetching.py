"""Fetching published weights by name: ``fetch("mindcv/pvt_tiny")`` → where they are."""

from convert.hub.fetched import Fetched
from convert.hub.hashes import against, check_hash
from convert.hub.names import Choice, choose_row
from convert.hub.places import Places, find_places
from convert.hub.registry import read_registry
from pvt_data.command_line import say
from pvt_data.sources.labels import Tell
from pvt_packages import require

_fetched: dict[tuple[str, Places], Fetched] = {}
"""What this process has fetched: a name stands for the same as long as it runs."""


def fetch(name: str, tell: Tell = say) -> Fetched:
    """Returns published weights, downloaded and verified if they are not here.

    Args:
        name: What stands behind ``hub:``, ``"pvt_tiny"`` or ``"timm/pvt_v2_b0.in1k@main"``.
        tell: A function that is told what takes time; by default it is written on stderr.

    Raises:
        ConvertError: Nothing is called so, it cannot be had, or is not what it should be.
        LibraryMissing: What downloads it is not installed.
    """
    places = find_places()
    if (name, places) not in _fetched:
        choice = choose_row(name, read_registry(places.registry))
        _fetched[name, places] = _fetch(choice, places, tell)
    return _fetched[name, places]


def _fetch(choice: Choice, places: Places, tell: Tell) -> Fetched:
    row = choice.row
    notes: tuple[str, ...] = ()
    if row.repository is None:
        require("requests", "pooch")
        from convert.hub.download.files import fetch_file

        path, kept, fresh = fetch_file(row, places, tell)
        known = against(row, places)
    else:
        require("huggingface_hub")
        from convert.hub.download.huggingface import fetch_repository

        found = fetch_repository(row, choice.revision, places, tell)
        path, kept, fresh = found.folder, found.kept, found.fresh
        known, notes = found.against, found.notes
        if row.sha256 and row.commit == kept.commit:
            where = f"{kept.address}, commit {kept.commit}"
            check_hash(row, next(iter(kept.hashes.values())), where, places)
            known = f"{known}, and {against(row, places)}"
    return Fetched(
        asked=choice.name,
        row=row,
        path=path,
        address=kept.address,
        commit=kept.commit,
        hashes=kept.hashes,
        size=next(iter(kept.files.values())).size,
        against=known,
        fresh=fresh,
        others=choice.others,
        licence=kept.licence or row.licence,
        notes=notes,
    )
