"""How Hugging Face's library is asked: who waits, what is drawn, and what goes wrong, in words."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import errors, get_session
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from convert.hub.download.answers import seconds_to_wait
from convert.hub.download.network import Busy, TransferError
from pvt_spec.words import reason

_HTTP_ERROR: type[Exception] = errors.HfHubHTTPError.__bases__[0]
"""What goes wrong with requests, as the library that this one uses for them calls it."""


class Unreached(Exception):
    """A hub that cannot be reached, and why."""


@contextmanager
def guarded() -> Iterator[None]:
    """Has a host's wish to wait come to us, who know for how long to.

    Raises:
        Busy: It has one.
    """

    def check(response: Any) -> None:
        seconds = seconds_to_wait(response.headers)
        if response.status_code in (429, 503) and seconds is not None:
            raise Busy(seconds)

    session = get_session()
    before = session.event_hooks
    session.event_hooks = {**before, "response": [*before.get("response", ()), check]}
    try:
        yield
    finally:
        session.event_hooks = before


@contextmanager
def quiet() -> Iterator[None]:
    """Has no bars drawn where nobody looks at a terminal."""
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Tells what the library says in one line, and what to do.

    Args:
        place: What is asked for.

    Raises:
        Unreached: The hub cannot be reached.
        TransferError: It has no such repository or revision, or hands out something else.
    """
    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        raise Unreached(f"{place}: cannot be reached ({_words(error)})") from error
    except errors.GatedRepoError as error:
        raise TransferError(
            f"{place}: is for those who have asked for it on its page: do, and give HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise TransferError(f"{place}: the repository has no such revision") from error
    except errors.RepositoryNotFoundError as error:
        raise TransferError(
            f"{place}: there is no such repository, or none that may be seen without HF_TOKEN"
        ) from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if not code or code >= 500:
            raise Unreached(f"{place}: {_words(error)}") from error
        raise TransferError(f"{place}: the hub answered {code} ({_words(error)})") from error
    except _HTTP_ERROR as error:
        raise Unreached(f"{place}: cannot be reached ({_words(error)})") from error
    except (errors.FileMetadataError, ValueError, KeyError, TypeError) as error:
        raise TransferError(
            f"{place}: what answered is no hub of Hugging Face ({_words(error)}): log in to your "
            "network if it asks for that, look at the proxy's settings and at HF_ENDPOINT"
        ) from error
    except OSError as error:
        if error.errno:
            raise
        raise TransferError(f"{place}: was cut off ({_words(error)}): try again") from error


def _words(error: Exception) -> str:
    return reason(error).split("\n")[0]
