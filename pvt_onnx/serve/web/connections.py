"""One connection: llhttp in uvicorn, with an end to whatever a client leaves unfinished."""

import asyncio
from http import HTTPStatus

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pvt_onnx.serve.options import HEAD_SECONDS, MOST_CONNECTIONS
from pvt_onnx.serve.protocol.answers import write_error
from pvt_onnx.serve.protocol.messages import HEADER_LENGTH, ProtocolError
from pvt_spec.files.limits import MAX_REQUEST_HEAD
from pvt_spec.words import counted

MOST_AHEAD = 16
"""Requests on one connection that may wait until those before them are answered."""

HELD_SECONDS = 0.5
"""How late a timer is where the server itself did not run for a while."""

LEAST_TAKEN = 1 << 20
"""Bytes of a long answer that a client takes in :data:`HEAD_SECONDS` at least."""

ONCE = (b"host", b"content-type", b"content-encoding", HEADER_LENGTH.encode())
"""Headers of which two lines could be read as the one or the other."""


class Connection(HttpToolsProtocol):
    """A connection on which a client has so many seconds to say what it asks, and to take answers.

    While a request is answered, that has its own limits. What is no HTTP gets an error as any other
    has, and so does a connection too many; what came whole before is answered first, also where the
    client sends no more.
    """

    _timer: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None  # what is answered; ``cycle`` came last
    _why: ProtocolError | None = None  # what is wrong with what is parsed
    _last: ProtocolError | None = None  # the answer to what was not read, behind the others
    _staying = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._asked = self._half = self._in_head = self._over = False
        self._lines = 0
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(ProtocolError(503, "there are too many connections", 1))

    def data_received(self, data: bytes) -> None:
        """Takes what the client sent."""
        if self._over or self.transport.is_closing():
            return
        if not self._half:  # a request begins, and its time
            self._stop()
        self._half, self._went_on = True, False
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError as error:
            secret = "; it begins as https does, and this is http" if data[:1] == b"\x16" else ""
            what = f"what came is no HTTP/1.1 request: {error}{secret}"
            self._refuse(self._why or ProtocolError(400, what))
        else:
            self._check_lines(len(data))
        self._watch()

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as stopped:  # after such a head it takes no body: another does
                data, self._staying = self._staying + data[stopped.args[0] :], b""
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn

    def _check_lines(self, count: int) -> None:
        """Refuses a head, or lines in a body, that do not end: so many bytes have come."""
        self._lines = 0 if self._went_on else self._lines + count
        if self._lines > MAX_REQUEST_HEAD:
            self._refuse(_too_long())

    def on_message_begin(self) -> None:
        """Begins a request."""
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a line of a head; nobody asks for those behind a body."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Takes a request's head.

        Raises:
            ProtocolError: It is too long, ambiguous, or one too many before others are answered.
        """
        self._in_head = False
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._staying = self._head_that_stays()
            return
        self._why = self._what_is_wrong()
        if self._why is not None:
            raise self._why
        super().on_headers_complete()

    def _head_that_stays(self) -> bytes:
        """Returns the head of a request to go over to another protocol, without that."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s: %s" % each for each in self.headers if each[0] != b"upgrade"]
        first = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)
        return b"\r\n".join([first, *lines, b"", b""])

    def _what_is_wrong(self) -> ProtocolError | None:
        """Returns what is wrong with a head, if anything is."""
        if len(self.pipeline) >= MOST_AHEAD:
            return ProtocolError(503, f"over {MOST_AHEAD} requests wait on this connection", 1)
        if len(self.url) + sum(len(a) + len(b) + 4 for a, b in self.headers) > MAX_REQUEST_HEAD:
            return _too_long()
        for name in ONCE:
            count = sum(each == name for each, _ in self.headers)
            needed = name == b"host" and self.parser.get_http_version() == "1.1"
            if count > 1 or (needed and not count):
                return ProtocolError(400, f"{counted(count, 'line')} of {name.decode()}, not one")
        return None

    def on_body(self, body: bytes) -> None:
        """Takes a part of a body."""
        self._went_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Takes a request's end."""
        if not self._staying:
            self._half, self._went_on = False, True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Goes on after an answer."""
        super().on_response_complete()
        if self._over and not self._busy:
            self._end(self._last)
        self._watch()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Returns whether something is still to be answered to a client that sends no more."""
        self._over = True
        return self._drop_half()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._stop()

    def pause_writing(self) -> None:
        """Waits for the client to take answers."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Goes on writing answers."""
        super().resume_writing()
        self._watch()

    def _refuse(self, error: ProtocolError) -> None:
        """Answers what cannot be read, in its turn; nothing that follows is read."""
        self._over = True
        if self._drop_half():
            self._last = error
        else:
            self._end(error)

    def _drop_half(self) -> bool:
        """Returns whether requests that came whole are to be answered; what waits and did not
        come whole will not be.
        """
        if self._running and self._busy and self.cycle.more_body and self.pipeline:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        return self._busy and not self.cycle.more_body

    def _end(self, error: ProtocolError | None) -> None:
        if self.transport.is_closing():
            return
        if error and not (self._busy and self.cycle.response_started):
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

    @property
    def _ours(self) -> bool:
        """Whether it is the server that something is waited for, not the client."""
        return self._busy and not self.flow.write_paused

    def _watch(self) -> None:
        if self._ours:
            self._asked = True
            self._stop()
        elif self._timer is None:
            self._unread = self.transport.get_write_buffer_size()
            self._timer = self.loop.call_later(HEAD_SECONDS, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Ends what is unfinished: nothing asked, half a request, a body that nobody reads, or
        unread answers. Between requests a client may wait longer. Where it is the server that was
        held up, as a process that is stopped is, nobody could be heard: the time begins anew, as
        it does for a client that takes a long answer.
        """
        timer, self._timer = self._timer, None
        unread = self.transport.get_write_buffer_size()
        held = timer is not None and self.loop.time() - timer.when() > HELD_SECONDS
        if held or (unread and self._unread - unread >= LEAST_TAKEN):
            self._watch()
        elif not self._ours and (not self._asked or self._half or unread):
            self.transport.abort()


def _too_long() -> ProtocolError:
    return ProtocolError(400, f"a head of over {MAX_REQUEST_HEAD:,} bytes")
