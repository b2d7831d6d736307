"""How models are served, as one record; each field is an option of the command.

Each is a row of :func:`pvt_data.description.option`. Nothing heavy is imported here.
"""

from dataclasses import dataclass

from pvt_data.description import option
from pvt_spec.files.limits import MAX_REQUEST, MAX_REQUEST_PIXELS

LOGS = ("lines", "json", "none")
"""How requests are logged."""


@dataclass(frozen=True)
class ServeOptions:
    """How models are served.

    Attributes:
        host: The address that is listened on.
        port: The port; 0 for any that is free.
        max_batch: Images of a model's own size that go into one call of it.
        max_delay: Milliseconds that a call waits for more images than there are.
        queue: Images that a model has to answer at a time; of more, requests are refused.
        timeout: Seconds after which a request is given up.
        max_body: Bytes of a request's body; of all bodies together :data:`BODIES` times as many.
        max_pixels: Pixels of an encoded image.
        drain: Seconds that requests are given to end when the server is to.
        log: One of :data:`LOGS`.
    """

    host: str = option("--host", "Listen on this address.", "127.0.0.1")
    port: int = option(
        "--port", "Listen on this port; 0: on any that is free.", 8000, within=(0, 65535)
    )
    max_batch: int = option(
        "--max-batch",
        "Answer so many images that wait in one call of a model.",
        16,
        within=(1, 4096),
    )
    max_delay: float = option(
        "--max-delay", "Have a call wait for more images.", 0.0, within=(0.0, 10_000.0), unit="MS"
    )
    queue: int = option(
        "--queue",
        "Refuse requests beyond N images that a model has to answer.",
        256,
        within=(1, 1 << 20),
        unit="N",
    )
    timeout: float = option(
        "--timeout",
        "Give a request up that was not answered by then.",
        60.0,
        within=(0.001, 86_400.0),
        unit="SECONDS",
    )
    max_body: int = option(
        "--max-body", "Refuse longer requests.", MAX_REQUEST, within=(1, 1 << 31), unit="BYTES"
    )
    max_pixels: int = option(
        "--max-pixels", "Refuse larger images.", MAX_REQUEST_PIXELS, within=(1, None), unit="N"
    )
    drain: float = option(
        "--drain",
        "Let requests end on SIGTERM.",
        30.0,
        within=(1.0, 86_400.0),
        unit="SECONDS",
    )
    log: str = option("--log", "Write each request on stderr.", "lines", choices=LOGS)


BODIES = 4
"""How many bodies of the largest size there is memory for."""

BODY_SECONDS = 30.0
"""Seconds in which a request's body has to be there."""

HEAD_SECONDS = 10.0
"""Seconds in which a request's head has to be there, and an answer has to be taken."""

IDLE_SECONDS = 30
"""Seconds after which a connection that asks nothing is closed."""

MOST_CONNECTIONS = 512
"""Connections at a time: a process may usually open 1,024 files."""
