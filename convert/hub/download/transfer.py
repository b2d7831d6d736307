"""Bytes of an address into a file, whatever cuts them off.

What was transferred of a file stays where the transfer was cut, with what the host says by which
it tells one file from another; it goes on from there only if that is still the same (RFC 9110,
``If-Range``). Certificates are verified, always.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPResponse
from os.path import lexists
from pathlib import Path
from shutil import disk_usage
from stat import S_ISREG
from typing import Any, BinaryIO
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from convert.hub.download.answers import (
    check_address,
    check_content,
    check_start,
    check_status,
    find_place,
    tag_of,
)
from convert.hub.download.network import Busy, Cut, Patience, TransferError, reached
from pvt_data.progress import Show
from pvt_data.sources.labels import Tell
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.limits import MAX_UNSAID
from pvt_spec.files.models import read_text
from pvt_spec.files.replacing import cannot_write

MOST_CUTS = 4
"""Times in a row that a transfer is tried again of which no byte came."""

PAUSE = 1.0
"""Seconds before it is tried again, doubled each time."""

TIMEOUT = (20.0, 60.0)
"""Seconds until a host has to take a connection, and to send anything."""

_HOPS, _INTERIM = 5, 10
_PIECE = 1 << 16


@dataclass(frozen=True)
class Wanted:
    """What is to be transferred.

    Attributes:
        address: The address.
        hosts: The hosts, with those below them, that it may lead on to beside its own.
        size: Its bytes; None where they are not known.
        sure: Whether its whole hash is known, so that whoever passes it on can change nothing.
    """

    address: str
    hosts: tuple[str, ...] = ()
    size: int | None = None
    sure: bool = False


def transfer(wanted: Wanted, part: Path, tell: Tell, show: Show) -> None:
    """Fills a file with the bytes of an address, going on with what is there of them.

    Args:
        wanted: The address and what is known of it.
        part: The file; what the host says of it is beside it while it is not whole.
        tell: A function that is told of pauses and of what is tried again.
        show: A function that is told how many bytes are there, and how many there will be.

    Raises:
        TransferError: It could not be transferred. Where something else was sent than the file,
            nothing is left; else what is there, to go on with.
        ConvertError: The file cannot be written.
    """
    _remove_others(part)
    try:
        _insist(wanted, part, tell, show)
    except OSError as error:
        discard(part)
        raise cannot_write([part], error, "nothing of it is left") from error
    _facts_of(part).unlink(missing_ok=True)


def _remove_others(part: Path) -> None:
    """Removes what is no file of ours: a link would have us write elsewhere, a pipe wait.

    Raises:
        ConvertError: It cannot be removed, as it is a folder, say.
    """
    for path in (part, _facts_of(part)):
        try:
            if lexists(path) and not S_ISREG(path.lstat().st_mode):
                path.unlink()
        except OSError as error:
            raise cannot_write([path], error, "nothing was downloaded") from error


def _insist(wanted: Wanted, part: Path, tell: Tell, show: Show) -> None:
    """Tries until all is there, or no more comes."""
    patience, cuts, most = Patience(wanted.address, tell), 0, _size(part)
    with _Session() as session:
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "pvt-twins"})
        while True:
            try:
                with reached(wanted.address):
                    _Attempt(session, wanted, part, tell, show).run()
                return
            except Busy as busy:
                patience.wait(busy.seconds)
            except Cut as cut:
                there = _size(part)
                cuts, most = (0, there) if there > most else (cuts + 1, most)
                if cuts > MOST_CUTS:
                    left = f"; {there:,} bytes are kept to go on from" if there else ""
                    if not _tag(wanted, part):  # nobody could tell whether the rest is of the same
                        discard(part)
                        left = "; nothing is left of it"
                    raise TransferError(f"{wanted.address}: {cut}{left}: try again") from None
                tell(f"{wanted.address}: {cut}: once more, from byte {there:,}")
                time.sleep(PAUSE * 2**cuts)
            except TransferError:
                discard(part)
                raise


def discard(part: Path) -> None:
    """Removes what is there of a file."""
    part.unlink(missing_ok=True)
    _facts_of(part).unlink(missing_ok=True)


def _facts_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _tag(wanted: Wanted, part: Path) -> str:
    """Returns what the host said of the file of which a part is here; "" of none."""
    with suppress(ConvertError, ValueError, AttributeError):
        facts = parse_json(read_text(_facts_of(part)))
        if facts.get("address") == wanted.address and isinstance(facts.get("tag"), str):
            return str(facts["tag"])
    return ""


def _size(part: Path) -> int:
    with suppress(OSError):
        return part.stat().st_size
    return 0


class _Answer(HTTPResponse):
    """One that comes after few interim ones: http.client waits for it through any number."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim += 1
        if self._interim > _INTERIM:
            raise BadStatusLine(f"{_INTERIM} interim answers and no other")
        status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return status


class _Adapter(HTTPAdapter):
    """One whose connections answer so."""

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        super().init_poolmanager(*given, **named)
        classes = self.poolmanager.pool_classes_by_scheme
        self.poolmanager.pool_classes_by_scheme = {
            scheme: _answering(pool) for scheme, pool in classes.items()
        }


def _answering(pool: Any) -> Any:
    """Returns a class of pools whose connections have answers of :class:`_Answer`."""
    connection = type("Connection", (pool.ConnectionCls,), {"response_class": _Answer})
    return type("Pool", (pool,), {"ConnectionCls": connection})


class _Session(requests.Session):
    """One that leaves it to us where an answer leads on to.

    requests itself looks at that in any case, and leaves the answer open where it is no address.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in [*self.adapters]:
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Returns none."""
        return None


@dataclass
class _Attempt:
    """One request for a file, or for the rest of it."""

    session: requests.Session
    wanted: Wanted
    part: Path
    tell: Tell
    show: Show

    def run(self) -> None:
        """Transfers what is missing.

        Raises:
            Busy: The host asks to wait.
            Cut: Not all came.
            TransferError: Something else came.
            OSError: The file cannot be written.
        """
        tag = _tag(self.wanted, self.part)
        have = _size(self.part) if tag else 0
        headers = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
        with self._get(headers) as response:
            try:
                start, total = find_place(response, have, tag)
            except Cut:
                discard(self.part)
                raise
            check_content(response, self.wanted.address)
            self._check_size(total, start)
            if have and not start:
                self.tell(
                    f"{self.wanted.address}: another file than the one of which {have:,} bytes "
                    "were here, or one that is sent whole: begun again"
                )
            if not start:
                facts = {"address": self.wanted.address, "tag": tag_of(response)}
                _facts_of(self.part).write_text(encode_json(facts))
            with self.part.open("r+b" if start else "wb") as stream:
                stream.seek(start)
                stream.truncate()
                self._receive(response, stream, start, total)

    def _get(self, headers: dict[str, str]) -> requests.Response:
        """Asks for the file, also where its address leads on to."""
        wanted, address = self.wanted, self.wanted.address
        for _ in range(_HOPS + 1):
            check_address(address, wanted.address, wanted.hosts, wanted.sure)
            response = self.session.get(
                address, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT
            )
            if not response.is_redirect:
                check_status(response, wanted.address)
                return response
            response.close()
            address = urljoin(address, response.headers["Location"])
        raise TransferError(f"{wanted.address}: leads on more than {_HOPS} times")

    def _check_size(self, total: int | None, start: int) -> None:
        known = self.wanted.size
        if None not in (known, total) and known != total:
            raise TransferError(
                f"{self.wanted.address}: has {total:,} bytes, expected {known:,}: it is another "
                "file than was known"
            )
        free = disk_usage(self.part.parent).free
        if (missing := (total or known or 0) - start) > free:
            raise TransferError(
                f"{self.wanted.address}: needs {missing:,} bytes, and {self.part.parent} has space "
                f"for {free:,}: make space"
            )

    def _receive(
        self, response: requests.Response, stream: BinaryIO, start: int, total: int | None
    ) -> None:
        """Writes what comes, which ends at the file's end and not before."""
        done, expected = start, total if total is not None else self.wanted.size
        most = MAX_UNSAID if expected is None else expected
        while piece := response.raw.read(_PIECE):
            if not done:
                check_start(piece, self.wanted.address)
            done += len(piece)
            if done > most:
                raise TransferError(f"{self.wanted.address}: goes on after {most:,} bytes")
            stream.write(piece)
            self.show(done, expected)
        stream.flush()
        os.fsync(stream.fileno())
        if not done or (expected is not None and done < expected):
            raise Cut(f"it ended after {done:,} of {expected or 'its'} bytes")
