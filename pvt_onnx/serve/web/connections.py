"""One connection: llhttp in uvicorn, with an end to whatever a client leaves unfinished."""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pvt_onnx.serve.options import HEAD_SECONDS, MOST_CONNECTIONS
from pvt_onnx.serve.protocol.answers import write_error
from pvt_onnx.serve.protocol.messages import ProtocolError
from pvt_spec.files.limits import MAX_REQUEST_HEAD

MOST_AHEAD = 16
"""Requests on one connection that may wait until those before them are answered."""

HELD_SECONDS = 0.5
"""How late a timer is where the server itself did not run for a while."""


class Connection(HttpToolsProtocol):
    """A connection on which a client has so many seconds to say what it asks, and to take answers.

    While a request is answered, that has its own limits. What is no HTTP gets an error as any other
    has, and so does a connection too many.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._asked = self._half = self._in_head = False
        self._head = 0
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(ProtocolError(503, "there are too many connections", 1))

    def data_received(self, data: bytes) -> None:
        """Takes what the client sent."""
        if self.transport.is_closing():
            return
        if not self._half:  # a request begins, and its time
            self._stop()
        self._half, self._ended = True, False
        super().data_received(data)
        if not self.transport.is_closing():
            self._check_head(len(data))
        self._watch()

    def _check_head(self, count: int) -> None:
        """Refuses a head that is too long, of which so many bytes have come with the last."""
        if not self._in_head or self._ended:  # of a head behind another request a part is not known
            return
        self._head += count
        if self._head > MAX_REQUEST_HEAD:
            self._refuse(ProtocolError(400, f"a head of over {MAX_REQUEST_HEAD:,} bytes"))

    def on_message_begin(self) -> None:
        """Begins a request."""
        super().on_message_begin()
        self._in_head, self._head = True, 0

    def on_headers_complete(self) -> None:
        """Takes a request's head.

        Raises:
            ValueError: It does not say once whom it asks, or too many wait before it.
        """
        self._in_head = False
        if len(self.pipeline) >= MOST_AHEAD:
            raise ValueError(f"{len(self.pipeline)} requests wait")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise ValueError(f"{hosts} hosts")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Takes a request's end."""
        self._half, self._ended = False, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Goes on after an answer."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        super().connection_lost(exc)
        self._stop()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        self._refuse(ProtocolError(400, msg))

    def _refuse(self, error: ProtocolError) -> None:
        if not self._busy or not self.cycle.response_started:
            body, said = write_error(error)
            said |= {"connection": "close", "content-length": str(len(body))}
            lines = [f"{name}: {value}" for name, value in said.items()]
            status = HTTPStatus(error.status)
            head = "\r\n".join([f"HTTP/1.1 {status} {status.phrase}", *lines, "", ""])
            self.transport.write(head.encode() + body)
        self.transport.close()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        if self._busy:
            self._asked = True
            self._stop()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_SECONDS, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Ends what is unfinished: nothing asked, half a request, a body that nobody reads, or
        unread answers. Between requests a client may wait longer. Where it is the server that was
        held up, as a process that is stopped is, nobody could be heard: the time begins anew.
        """
        timer, self._timer = self._timer, None
        if timer and self.loop.time() - timer.when() > HELD_SECONDS:
            self._watch()
            return
        unread = self.transport.get_write_buffer_size()
        if not self._busy and (not self._asked or self._half or unread):
            self.transport.abort()
