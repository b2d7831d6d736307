"""What a host's answer is: the file, a part of it, a wish to wait, or something else."""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import requests

from convert.hub.download.network import Busy, Cut, TransferError
from convert.hub.places import MIRROR
from pvt_spec.files.models import LOOKED_AT, describe_other
from pvt_spec.words import shortened

_WORDS = {401: "wants a login", 403: "does not hand it out", 404: "has no such file"}


def check_address(address: str, asked: str, hosts: tuple[str, ...], sure: bool) -> None:
    """Refuses another host than a file's, and a connection on which anyone may change it.

    Args:
        address: The address that is to be asked.
        asked: The file's.
        hosts: The hosts, with those below them, that it may lead on to.
        sure: Whether the file's whole hash is known, so that nobody can change it.

    Raises:
        TransferError: It is one.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    known = any(host == each or host.endswith(f".{each}") for each in hosts)
    if parts.netloc != urlsplit(asked).netloc and not known:
        raise TransferError(
            f"{asked}: leads to another host, {shortened(host)!a}, which it is not known to do: if "
            f"that is a mirror of yours, name it by {MIRROR}"
        )
    if parts.scheme != "https" and not _is_here(host) and not sure:
        raise TransferError(
            f"{shortened(address, 200)}: is no https, and no whole sha256 of the file is known by "
            "which to check it: give an address or a mirror with https"
        )


def _is_here(host: str) -> bool:
    """Returns whether a host is this machine, so that nobody is between."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_status(response: requests.Response, address: str) -> None:
    """Refuses an answer that has no bytes of a file.

    Raises:
        Busy: The host asks to wait.
        Cut: The host cannot now.
        TransferError: It does not.
    """
    code = response.status_code
    if code in (200, 206, 416):
        return
    response.close()
    if code in (429, 503) and (seconds := seconds_to_wait(response.headers)) is not None:
        raise Busy(seconds)
    if code in (408, 425, 429) or code >= 500:
        raise Cut(f"its host answered {code} {response.reason}")
    raise TransferError(
        f"{address}: its host {_WORDS.get(code, 'refused')} ({code}): look whether it has moved, "
        f"or give a mirror, another than one that is given, by {MIRROR}"
    )


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Returns how long the headers of an answer ask to wait; None where they do not say."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def check_content(response: requests.Response, address: str) -> None:
    """Refuses an answer that by its headers is not a file as it is.

    Raises:
        TransferError: It is none.
    """
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise TransferError(f"{address}: was sent as {encoding!a}, not as it is")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        start = response.raw.read(LOOKED_AT)
        refuse(address, describe_other(start) or "a web page, not the file that it offers")


def check_start(start: bytes, address: str) -> None:
    """Refuses a file that begins as none of a model does.

    Raises:
        TransferError: It does.
    """
    if other := describe_other(start[:LOOKED_AT]):
        refuse(address, other)


def refuse(address: str, what: str) -> None:
    """Raises the error of a host that sends something else than a file.

    Raises:
        TransferError: Always.
    """
    raise TransferError(
        f"{address}: its host sent {what}: log in to your network if it asks for that, look at the "
        f"proxy's settings, or give a mirror by {MIRROR}"
    )


def find_place(response: requests.Response, have: int, tag: str) -> tuple[int, int | None]:
    """Returns where an answer's bytes begin, and how many the file has; None if it does not say.

    Args:
        response: The answer.
        have: The bytes that are there, from where on it was asked for.
        tag: What tells the file that they are of from others.

    Raises:
        Cut: It has other bytes than were asked for.
    """
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if response.status_code == 416:
        raise Cut("what was here of it is no part of the file")
    given = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", given)
    start, last, total = map(int, match.groups()) if match else (0, 0, 0)
    if not have or start != have or not have <= last < total or tag_of(response) not in ("", tag):
        raise Cut(f"its host sent other bytes than were asked for ({shortened(given)!a})")
    return have, total


def tag_of(response: requests.Response) -> str:
    """Returns by what a host tells its file from others: a strong ETag, or a date; else ""."""
    tag: str = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    date: str = response.headers.get("Last-Modified", "")
    return "" if tag else date
