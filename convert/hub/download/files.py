"""Published files: kept in a folder of our own, verified by the hash that is known of them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pooch

from convert.formats.table import read_file
from convert.hub.download.kept import Kept, is_unchanged, keep, read_note
from convert.hub.download.transfer import Wanted, discard, transfer
from convert.hub.hashes import check_hash
from convert.hub.places import OFFLINE, Places
from convert.hub.registry import Row
from pvt_data.progress import Show, progress_bar
from pvt_data.sources.labels import Tell
from pvt_spec.errors import ConvertError
from pvt_spec.files.locks import Held, held
from pvt_spec.files.replacing import cannot_write
from pvt_spec.published import PUBLISHED

NOTE = "hub.json"
"""The file in which it is noted what is in the folder of a row."""


def kept_file(row: Row, places: Places) -> Kept | None:
    """Returns what is noted of a row's file that is here as it was; None where it is not."""
    folder = places.folder(row.name)
    kept = read_note(folder / NOTE)
    fits = kept and [*kept.files] == [row.file] and is_unchanged(kept, folder)
    return kept if fits else None


def fetch_file(row: Row, places: Places, tell: Tell) -> tuple[Path, Kept, bool]:
    """Returns a row's file, what is noted of it, and whether it was downloaded now.

    Raises:
        ConvertError: It cannot be had, or is another than the one that is known.
    """
    path = places.folder(row.name) / row.file
    kept, fresh = kept_file(row, places), False
    if kept is None:  # only now is anything written: the cache may be somebody else's
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path, tell):
                kept = kept_file(row, places) or _look_again(row, path, places, tell)
                if fresh := kept is None:
                    kept = _download(row, path, places, tell)
        except OSError as error:
            raise cannot_write([path], error, "nothing was downloaded") from error
    check_hash(row, kept.hashes[row.file], f"{path} (remove it to have it downloaded)", places)
    return path, kept, fresh


@contextmanager
def _alone(path: Path, tell: Tell) -> Iterator[None]:
    """Lets one process at a time have a file."""
    lock = path.with_name(f".{path.name}.lock.tmp")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock))
        except Held as other:
            tell(f"{path.name}: {other or 'another process'} has it: waiting")
            stack.enter_context(held(lock, wait=True))
        yield


def _look_again(row: Row, path: Path, places: Places, tell: Tell) -> Kept | None:
    """Returns a new note of a file that is here without one, or with another time than noted.

    None where there is no such file, or it is not what was noted.

    Raises:
        ConvertError: Somebody has put it there, and it is another than the one that is known.
    """
    if not path.is_file():
        return None
    noted = read_note(path.with_name(NOTE))
    sha256 = pooch.file_hash(str(path), "sha256")
    if noted and noted.hashes.get(row.file, sha256) != sha256:
        tell(f"{path}: is not what was downloaded, and is downloaded again")
        return None
    check_hash(row, sha256, f"{path} (remove it to have it downloaded)", places)
    address = noted.address if noted else "a file that was put there"
    return keep(path.with_name(NOTE), path.parent, address, {row.file: sha256})


def _download(row: Row, path: Path, places: Places, tell: Tell) -> Kept:
    """Downloads a row's file to its place, verified, and notes it."""
    if places.offline:
        raise ConvertError(
            f"{PUBLISHED}{row.name}: is not in {path.parent}, and nothing is downloaded while "
            f"{' or '.join(OFFLINE)} is set: unset it, or put {row.file} there"
        )
    address = places.mirrored(str(row.address))
    hosts = () if places.mirror else row.hosts
    wanted = Wanted(address, hosts, row.size, sure=row.sha256 is not None)
    part = path.with_name(f".{path.name}.part")
    found: dict[str, str] = {}

    def downloader(_: str, target: object, __: object) -> None:
        with progress_bar(row.file) as show:
            transfer(wanted, part, tell, _in_megabytes(show))
        try:
            found[row.file] = pooch.file_hash(str(part), "sha256")
            check_hash(row, found[row.file], address, places)
            if not (row.sha256 or row.digits):  # a host may have said that a part is all of it
                read_file(part)
        except ConvertError as error:
            discard(part)
            raise ConvertError(str(error).replace(str(part), address)) from error
        os.replace(part, str(target))

    tell(f"downloading {address}")
    pooch.get_logger().setLevel("WARNING")  # it would say the same
    path.unlink(missing_ok=True)
    for left in path.parent.glob("tmp????????"):  # pooch's, whose process was killed
        if left.is_file() and not left.stat().st_size:
            left.unlink()
    known = f"sha256:{row.sha256}" if row.sha256 else None
    pooch.retrieve(address, known, path.name, path.parent, downloader=downloader)
    return keep(path.with_name(NOTE), path.parent, address, found)


def _in_megabytes(show: Show) -> Show:
    def shown(done: int, total: int | None) -> None:
        show(done >> 20, None if total is None else total >> 20, "MiB")

    return shown
