"""What goes wrong between a host and us, in words and as errors: to be tried again, or not."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3

from convert.hub.places import MIRROR
from pvt_data.sources.labels import Tell
from pvt_spec.errors import ConvertError
from pvt_spec.words import reason


class TransferError(ConvertError):
    """A file that cannot be transferred as it should be."""


class Cut(Exception):
    """A transfer that ended before all was there, and may be tried again."""


class Busy(Exception):
    """A host that asks to be asked again after so many seconds."""

    def __init__(self, seconds: float):
        super().__init__(seconds)
        self.seconds = seconds


MOST_WAIT = 300.0
"""Seconds that a host may have us wait in all."""

LEAST_WAIT = 1.0
"""Seconds that are waited at least, so that a host which always asks for none has an end too."""


class Patience:
    """How long a host has had us wait, which has an end."""

    def __init__(self, what: str, tell: Tell):
        """Begins anew.

        Args:
            what: What is asked for.
            tell: A function that is told of each wait.
        """
        self._what, self._tell, self._waited = what, tell, 0.0

    def wait(self, seconds: float) -> None:
        """Waits.

        Raises:
            TransferError: It would be for too long.
        """
        least = max(seconds, LEAST_WAIT)
        self._waited += least
        asks = f"{self._what}: its host asks to wait for {seconds:,.0f} s"
        if self._waited > MOST_WAIT:
            raise TransferError(
                f"{asks}, and no more than {MOST_WAIT:.0f} s in all are waited for: try again later"
            )
        self._tell(asks)
        time.sleep(least)


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Tells what the network does by :class:`Cut`, or :class:`TransferError` if it will again.

    Raises:
        Cut: The connection was not made, or cut.
        TransferError: A certificate, the proxy or the address is wrong.
    """
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise TransferError(
            f"{address}: its host's certificate is not trusted ({_words(error)}): look at the "
            "clock and the proxy; a certificate of your own network goes into REQUESTS_CA_BUNDLE"
        ) from error
    except requests.exceptions.ProxyError as error:
        raise TransferError(
            f"{address}: the proxy cannot be used ({_words(error)}): look at HTTPS_PROXY, "
            "HTTP_PROXY and NO_PROXY"
        ) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise TransferError(f"{address}: cannot be asked ({_words(error)})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Cut(f"the connection failed ({_words(error)})") from error
    except ValueError as error:
        raise TransferError(
            f"{address}: is, or leads to, what is no address ({_words(error)}): look whether it "
            f"has moved, or give a mirror by {MIRROR}"
        ) from error


def _words(error: Exception) -> str:
    """Returns what lies at the bottom of a network's error."""
    inner: Any = error
    for _ in range(8):
        below = [each for each in (getattr(inner, "reason", None), *inner.args)]
        deeper = next((each for each in below if isinstance(each, Exception)), None)
        if deeper is None:
            break
        inner = deeper
    return reason(inner)
