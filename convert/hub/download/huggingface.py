"""Published repositories of Hugging Face, through its own library and in its own cache.

``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are that library's. What was asked
for becomes a commit first, and every file is verified by the hash that the hub has of it.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download

from convert.formats.huggingface.files import WEIGHTS
from convert.formats.huggingface.images import PREPROCESSOR
from convert.hub.download.kept import Kept, is_unchanged, keep, read_note
from convert.hub.download.library import Unreached, explained, guarded, quiet
from convert.hub.download.network import Busy, Patience, TransferError
from convert.hub.places import OFFLINE, Places
from convert.hub.registry import Row
from pvt_data.sources.labels import Tell
from pvt_spec.errors import ConvertError
from pvt_spec.files.models import CONFIG, first_bytes, reaching
from pvt_spec.files.reading import open_regular
from pvt_spec.published import PUBLISHED
from pvt_spec.words import listed, show

_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Repository:
    """A repository's files on this machine.

    Attributes:
        folder: Their folder in the cache of Hugging Face.
        kept: What is noted of them.
        fresh: Whether something was downloaded now.
        against: The words for what they were verified by.
        notes: What else is to be said.
    """

    folder: Path
    kept: Kept
    fresh: bool
    against: str
    notes: tuple[str, ...] = ()


def cached_snapshot(row: Row) -> Path | None:
    """Returns the folder of a commit of which weights are in the cache: main's before others."""
    main = first_bytes(_folder(row) / "refs" / "main", 100).decode(errors="replace").strip()
    snapshots = sorted((_folder(row) / "snapshots").glob("*"), key=lambda each: each.name != main)
    whole = (each for each in snapshots if any((each / name).is_file() for name in WEIGHTS))
    return next(whole, None)


def fetch_repository(row: Row, revision: str, places: Places, tell: Tell) -> Repository:
    """Returns the files of a repository, downloaded if they are not here.

    Args:
        row: What is known of it.
        revision: A branch, tag or commit; "" for the row's commit, or else the branch main.
        places: Where notes of what was verified are.
        tell: A function that is told of what takes time.

    Raises:
        ConvertError: They cannot be had, or are others than the hub says.
    """
    revision = revision or row.commit or constants.DEFAULT_REVISION
    if _COMMIT.fullmatch(revision) and (kept := _noted(row, revision, places)):
        return Repository(_snapshot(row, revision), kept, False, _AS_HUB)
    if places.offline or constants.is_offline_mode():
        return _from_cache(
            row, revision, places, f"nothing is asked: {' or '.join(OFFLINE)} is set"
        )
    patience = Patience(f"{constants.ENDPOINT}/{row.repository}", tell)
    while True:
        try:
            with explained(f"{_place(row)}@{revision}"), guarded(), quiet():
                return _from_hub(row, revision, places, tell)
        except Busy as busy:
            patience.wait(busy.seconds)
        except Unreached as unreached:
            try:
                return _from_cache(row, revision, places, str(unreached))
            except ConvertError as error:
                raise error from unreached


_AS_HUB, _AS_CACHE = "as the hub says of that commit", "as its file in the cache is called"


def _from_hub(row: Row, revision: str, places: Places, tell: Tell) -> Repository:
    """Returns a repository's files as the hub has them now."""
    info = HfApi(library_name="pvt-twins").model_info(
        str(row.repository), revision=revision, files_metadata=True
    )
    commit, listed_files = str(info.sha), {each.rfilename: each for each in info.siblings or ()}
    if not _COMMIT.fullmatch(commit):
        raise TransferError(f"{_place(row)}: its commit is {show(commit)}, expected 40 digits")
    if kept := _noted(row, commit, places):
        return Repository(_snapshot(row, commit), kept, False, _AS_HUB)
    names = _choose(row, [*listed_files])
    fresh = not all((_snapshot(row, commit) / name).exists() for name in names)
    if fresh:
        tell(f"downloading {_place(row)}, commit {commit}: {', '.join(names)}")
    # What comes first is asked for by its branch, so that the cache knows which commit that was.
    order = sorted(names, key=lambda name: name != CONFIG)
    for name, asked in zip(order, [revision, *[commit] * len(order)], strict=False):
        file = Path(hf_hub_download(str(row.repository), name, revision=asked))
        if file.parent != _snapshot(row, commit):
            raise TransferError(f"{_place(row)}: {revision} has moved meanwhile: try again")
    hashes = {name: _verified(row, commit, name, listed_files[name]) for name in names}
    card = getattr(info, "card_data", None)
    licence = str(getattr(card, "license", None) or "")
    kept = _note(row, commit, places, hashes, licence)
    return Repository(_snapshot(row, commit), kept, fresh, _AS_HUB)


def _choose(row: Row, names: list[str]) -> list[str]:
    """Returns the files of a repository that are a model, the weights first."""
    weights = next((name for name in WEIGHTS if name in names), None)
    if weights is None or CONFIG not in names:
        raise ConvertError(
            f"{_place(row)}: expected {CONFIG} and one of {', '.join(WEIGHTS)}; it has "
            f"{listed(names, 8, show) or 'nothing'}"
        )
    stem, _, ending = weights.removesuffix(".index.json").partition(".")
    shards = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{re.escape(ending)}")
    parts = [name for name in names if weights.endswith(".json") and shards.fullmatch(name)]
    return [weights, *parts, CONFIG, *(name for name in (PREPROCESSOR,) if name in names)]


def _verified(row: Row, commit: str, name: str, said: Any) -> str:
    """Returns the sha256 of a downloaded file, which is what the hub says.

    Raises:
        TransferError: It is another; then it is removed from the cache.
    """
    path = _snapshot(row, commit) / name
    large = getattr(said, "lfs", None)
    expected = str(large.sha256 if large else said.blob_id)
    sha256, git = _hashes(path)
    if expected in (sha256, git):
        return sha256
    Path(os.path.realpath(path)).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise TransferError(
        f"{_place(row)}: {name} has the hash {sha256 if large else git}, and the hub says "
        f"{expected} of commit {commit}: it was damaged on its way, and nothing of it is left: "
        "try again"
    )


def _hashes(path: Path) -> tuple[str, str]:
    """Returns a file's sha256, and the sha1 by which git knows what it is not to store itself."""
    sha256, git = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    with open_regular(path) as stream:
        git.update(b"blob %d\0" % os.fstat(stream.fileno()).st_size)
        while piece := stream.read(1 << 20):
            sha256.update(piece)
            git.update(piece)
    return sha256.hexdigest(), git.hexdigest()


def _from_cache(row: Row, revision: str, places: Places, why: str) -> Repository:
    """Returns a repository's files as they are in the cache of Hugging Face.

    Raises:
        ConvertError: They are not there, or are not what they are called.
    """
    commit = revision
    if not _COMMIT.fullmatch(revision):
        commit = first_bytes(_folder(row) / "refs" / revision, 100).decode(errors="replace").strip()
    folder = _snapshot(row, commit)
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        raise ConvertError(
            f"{PUBLISHED}{row.name}: {why}, and {_folder(row)} has no revision {revision}: fetch "
            "it once while online"
        )
    notes = () if revision == commit else (f"{why}: {revision} is taken as it was last seen",)
    if kept := _noted(row, commit, places):
        return Repository(folder, kept, False, _AS_HUB, notes)
    with reaching(folder):
        names = _choose(row, sorted(each.name for each in folder.iterdir()))
        hashes = {name: _hashes(folder / name) for name in names}
    found, against = {}, _AS_CACHE
    for name, (sha256, git) in hashes.items():
        called, found[name] = Path(os.path.realpath(folder / name)).name, sha256
        if called == name:  # a disk without links
            against = ""
        elif called not in (found[name], git):
            raise ConvertError(
                f"{folder / name}: its hash is another than its name in the cache, {called}: it "
                "was damaged: remove that file, and download it again"
            )
    return Repository(folder, _note(row, commit, places, found, ""), False, against, notes)


def _noted(row: Row, commit: str, places: Places) -> Kept | None:
    kept = read_note(places.folder(row.name) / f"{commit}.json")
    return kept if kept and is_unchanged(kept, _snapshot(row, commit)) else None


def _note(row: Row, commit: str, places: Places, hashes: Mapping[str, str], licence: str) -> Kept:
    note, folder = places.folder(row.name) / f"{commit}.json", _snapshot(row, commit)
    return keep(note, folder, _place(row), hashes, commit=commit, licence=licence)


def _folder(row: Row) -> Path:
    """Returns the folder in which the cache of Hugging Face keeps a repository."""
    return Path(constants.HF_HUB_CACHE) / f"models--{str(row.repository).replace('/', '--')}"


def _snapshot(row: Row, commit: str) -> Path:
    return _folder(row) / "snapshots" / commit


def _place(row: Row) -> str:
    return f"{constants.ENDPOINT}/{row.repository}"
