"""The process that serves: a socket, an event loop, signals."""

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn

from pvt_data.edge import SIGNALS
from pvt_data.sources.labels import Tell
from pvt_onnx.serve.options import IDLE_SECONDS, ServeOptions
from pvt_onnx.serve.repository import ModelFile
from pvt_onnx.serve.service import Open, Service
from pvt_onnx.serve.web.app import make_app
from pvt_onnx.serve.web.connections import Connection
from pvt_onnx.serve.web.log import writer
from pvt_spec.errors import PvtError, RuntimeUnusable


class Server(uvicorn.Server):
    """A server that opens its models once it listens, and ends where one cannot be opened.

    A signal is noted, not sent again.

    Args:
        service: The models.
        options: How they are served.
        tell: The function that is told what happens.

    Attributes:
        signal: The first signal that came.
    """

    signal: int | None = None

    def __init__(self, service: Service, options: ServeOptions, tell: Tell):
        super().__init__(_config(service, options, tell))
        self._service, self._tell = service, tell

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on sockets until it is told to end, and what was asked by then is answered.

        Raises:
            PvtError: A model cannot be opened.
        """
        loading = asyncio.ensure_future(self._service.load(self._tell))
        loading.add_done_callback(self._loaded)
        for listener in sockets or ():
            self._tell(f"listening on {address_of(listener)}")
        try:
            await super().serve(sockets)
            if loading.done():
                await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await self._service.close()

    def _loaded(self, loading: "asyncio.Future[None]") -> None:
        if loading.cancelled() or loading.exception():
            self.should_exit = True
        else:  # what is there stays: the collector need not go through it while requests wait
            gc.collect()
            gc.freeze()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Has signals end the server while the block lasts, if it is in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked = (signal.SIGINT, signal.SIGTERM)
        # Under nohup, a terminal that is closed is ignored, and is to stay so.
        taken = [n for n in SIGNALS if n in asked or signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends the server once what was asked is answered; at a second signal, now."""
        if self.signal is not None:
            self.force_exit = True
        self.signal = self.signal or sig
        self._service.closing = self.should_exit = True


def serve(files: Sequence[ModelFile], open_: Open, options: ServeOptions, tell: Tell) -> int | None:
    """Serves models until a signal ends it, and returns that.

    Args:
        files: The models.
        open_: What opens one.
        options: How they are served.
        tell: The function that is told what happens.

    Raises:
        PvtError: A model cannot be opened, the address cannot be listened on, or too few files may
            be open.
    """
    _check_limit()
    with listen(options.host, options.port) as listener:
        server = Server(Service(files, open_, options), options, tell)
        server.run([listener])
        return server.signal


LEAST_FILES = 64
"""Files, sockets and pipes that may be open in a process that serves."""


def _check_limit() -> None:
    """Refuses to serve where the loop could not be made, or no client be taken.

    Raises:
        RuntimeUnusable: Fewer files than :data:`LEAST_FILES` may be open.
    """
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows has no such limit
        return
    most, _ = getrlimit(RLIMIT_NOFILE)
    if 0 <= most < LEAST_FILES:
        raise RuntimeUnusable(
            f"{most} files may be open in this process, expected {LEAST_FILES} or more to serve: "
            "allow more (ulimit -n)"
        )


def _config(service: Service, options: ServeOptions, tell: Tell) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn.access"):  # what matters of it we say ourselves
        logging.getLogger(name).disabled = True
    return uvicorn.Config(
        make_app(service, options, tell, writer(options.log)),
        http=Connection,
        ws="none",
        lifespan="off",
        loop="auto",  # uvloop's, where it is installed
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(options.drain)),
    )


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; of a name with several addresses, on the first.

    Raises:
        PvtError: It cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, place = found[0]
        # asyncio has answers sent at once only where it is told that the protocol is TCP.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # where a server has just ended, another can begin
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise PvtError(f"{host}, port {port}: cannot be listened on ({why})") from None


def address_of(listener: socket.socket) -> str:
    """Returns the address that clients take."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
