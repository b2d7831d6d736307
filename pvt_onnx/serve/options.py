"""How models are served, as one record. Nothing heavy is imported."""

from dataclasses import dataclass

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

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 16
    max_delay: float = 0.0
    queue: int = 256
    timeout: float = 60.0
    max_body: int = MAX_REQUEST
    max_pixels: int = MAX_REQUEST_PIXELS
    drain: float = 30.0
    log: str = "lines"


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
