"""A server in a thread of the tests' own process."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.serve.models import open_served
from pvt_onnx.serve.options import ServeOptions
from pvt_onnx.serve.repository import ModelFile
from pvt_onnx.serve.service import Service
from pvt_onnx.serve.web.server import Server, address_of, listen

ONE = EngineOptions(threads=1)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Message
    body: Any


@dataclass
class Running:
    """A server that runs."""

    service: Service
    server: Server
    address: str
    told: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Host and port."""
        return self.address.removeprefix("http://")

    def ask(self, method, path, body=None, headers=None):
        """What is answered: status, headers, JSON or bytes."""
        connection = HTTPConnection(self.place, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            got = connection.getresponse()
            text = got.read()
            is_json = got.headers.get_content_type() == "application/json"
            return Answer(got.status, got.headers, json.loads(text) if is_json else text)
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def infer(self, body, name="m", headers=None):
        return self.ask("POST", f"/v2/models/{name}/infer", body, headers)

    def talk(self, *parts, seconds=5.0):
        """What comes back on a connection that these bytes are written to, until it is closed."""
        host, _, port = self.place.rpartition(":")
        with socket.create_connection((host, int(port)), seconds) as connection:
            for part in parts:
                connection.sendall(part)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def running(
    models: Sequence[Path | ModelFile],
    options: ServeOptions = ServeOptions(port=0, log="none"),
    open_=None,
    wait: bool = True,
) -> Iterator[Running]:
    """Serves models while the block lasts; whatever it was told afterwards is in ``told``."""
    files = [
        each if isinstance(each, ModelFile) else ModelFile(each.stem, "1", each) for each in models
    ]

    def opening(file):
        return open_served(file.path, file.name, file.version, ONE, most_pixels=options.max_pixels)

    told: list[str] = []
    with listen(options.host, options.port) as listener:
        address = address_of(listener)
        service = Service(files, open_ or opening, options)
        server = Server(service, options, told.append)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while wait and not service.ready:
                time.sleep(0.01)
                assert thread.is_alive(), told
            yield Running(service, server, address, told)
        finally:
            server.handle_exit(signal.SIGTERM, None)
            thread.join(30)
            assert not thread.is_alive()
