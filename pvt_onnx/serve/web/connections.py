"""One connection: h11 in uvicorn, with an end to whatever a client leaves unfinished."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from pvt_onnx.serve.options import HEAD_SECONDS, MOST_CONNECTIONS
from pvt_onnx.serve.protocol.answers import write_error
from pvt_onnx.serve.protocol.messages import ProtocolError

HELD_SECONDS = 0.5
"""How late a timer is where the server itself did not run for a while."""


class Connection(H11Protocol):
    """A connection on which a client has so many seconds to say what it asks, and to take answers.

    While a request is answered, that has its own limits. What is no HTTP gets an error as any other
    has, and so does a connection too many.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._asked = False
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(ProtocolError(503, "there are too many connections", 1))

    def data_received(self, data: bytes) -> None:
        """Takes what the client sent."""
        super().data_received(data)
        self._watch()

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
        body, said = write_error(error)
        headers = [(name.encode(), value.encode()) for name, value in said.items()]
        headers += [(b"connection", b"close"), (b"content-length", str(len(body)).encode())]
        reason = STATUS_PHRASES[error.status]
        events = (
            h11.Response(status_code=error.status, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # there was an answer already
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
        """Ends what is unfinished: nothing asked, half a head, a body that nobody reads, or unread
        answers. Between requests a client may wait longer. Where it is the server that was held up,
        as a process that is stopped is, nobody could be heard: the time begins anew.
        """
        timer, self._timer = self._timer, None
        if timer and self.loop.time() - timer.when() > HELD_SECONDS:
            self._watch()
            return
        half = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        unread: Any = self.transport.get_write_buffer_size()
        if not self._busy and (not self._asked or half or unread):
            self.transport.abort()
