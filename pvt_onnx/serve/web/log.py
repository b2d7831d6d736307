"""A line for each request, on stderr, and what a request is called."""

import asyncio
import atexit
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from queue import Full, Queue
from threading import Thread
from typing import Any
from uuid import uuid4

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pvt_onnx.serve.protocol.answers import write_error
from pvt_onnx.serve.protocol.messages import ProtocolError
from pvt_spec.files.json_text import encode_json
from pvt_spec.words import printable, shortened

REQUEST_ID = "x-request-id"
"""The header that names a request; an answer has it again."""

_NAME = re.compile("[!-~]{1,128}")

MOST_LINES, LAST_SECONDS = 1000, 1.0
"""Lines that wait to be written, beyond which they are counted, and how long the end waits for
them.
"""

GONE = 499
"""The status of a request whose client did not wait for the answer."""


class Logged:
    """An application whose requests have names and are logged.

    What the application puts into the scope's ``state`` under ``"said"`` is logged too.

    Args:
        app: The application.
        write: The function that is given what is logged of a request.
    """

    def __init__(self, app: ASGIApp, write: Callable[[dict[str, Any]], None]):
        self._app, self._write = app, write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        began = time.perf_counter()
        given = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        name = given if _NAME.fullmatch(given) else uuid4().hex
        said: dict[str, Any] = {}
        scope["state"] = {**scope.get("state", {}), "said": said, "id": name}
        status = GONE

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID.encode(), name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        except asyncio.CancelledError:  # the server ends and waits no longer
            if status != GONE:
                raise
            body, headers = write_error(ProtocolError(503, "the server ends", 1))
            await Response(body, 503, headers)(scope, receive, named)
        finally:
            client = scope.get("client") or ("",)
            self._write(
                {
                    "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                    "client": client[0],
                    "method": scope["method"],
                    "path": shortened(scope["path"], 200),
                    "status": status,
                    "ms": round((time.perf_counter() - began) * 1000, 2),
                    "id": name,
                    **said,
                }
            )


def writer(form: str) -> Callable[[dict[str, Any]], None]:
    """Returns what writes a request's line on stderr.

    Args:
        form: One of :data:`pvt_onnx.serve.options.LOGS`.
    """

    if form == "none":
        return lambda row: None
    lines = _Lines()

    def write(row: dict[str, Any]) -> None:
        if form == "json":
            line = encode_json(row, compact=True)
        else:
            words = [str(row[name]) for name in ("time", "client", "method", "path", "status")]
            others = [f"{name}={value}" for name, value in row.items() if name not in _UNNAMED]
            line = printable(" ".join([*words, f"{row['ms']} ms", *others]))
        lines.put(line)

    return write


class _Lines:
    """Lines that a thread writes on stderr: who reads them slowly, or never, holds up nobody."""

    def __init__(self) -> None:
        self._waiting: Queue[str] = Queue(MOST_LINES)
        self._lost = 0
        Thread(target=self._write, name="log", daemon=True).start()
        atexit.register(self._end)

    def put(self, line: str) -> None:
        """Has a line written, unless as many wait as may."""
        try:
            self._waiting.put_nowait(line)
        except Full:
            self._lost += 1

    def _end(self) -> None:
        ends = time.monotonic() + LAST_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < ends:
            time.sleep(0.01)

    def _write(self) -> None:
        while True:
            line = self._waiting.get()
            if self._lost:
                lost, self._lost = self._lost, 0
                line += f"\n{lost} requests were not logged: these lines are not read"
            with suppress(OSError):  # nobody reads it: answers go on
                # Not by Python's stream, which the end of the process would wait for.
                os.write(2, f"{line}\n".encode(errors="backslashreplace"))
            self._waiting.task_done()


_UNNAMED = ("time", "client", "method", "path", "status", "ms")
