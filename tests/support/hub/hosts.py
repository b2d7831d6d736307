"""One server in the place of all hosts: a mirror's paths, a hub of Hugging Face, a proxy."""

import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

CERTIFICATE = Path(__file__).with_name("localhost.pem")

_PIECE = 1 << 14


@dataclass
class Served:
    """A file as a host hands it out.

    Attributes:
        data: Its bytes.
        etag: Its ETag; "" for none.
        ranges: Whether parts are sent.
        heeds: Whether a part is sent only of the file that the client has the beginning of.
        kind: Its Content-Type.
        cuts: How many bytes of a body are sent before the connection is cut, answer by answer.
        answers: What is answered in its place first: status and headers.
        location: Where it leads on to; "" for nowhere.
        length: What is said of its length, in place of the truth; -1 for nothing.
        pause: Seconds before each piece of some thousand bytes.
        headers: Headers beside these.
    """

    data: bytes
    etag: str = ""
    ranges: bool = True
    heeds: bool = True
    kind: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    location: str = ""
    length: int | None = None
    pause: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.etag = self.etag or f'"{hashlib.md5(self.data).hexdigest()}"'


class Asked(NamedTuple):
    """A request that was made."""

    method: str
    path: str
    range: str | None
    if_range: str | None


@dataclass
class Repository:
    """A repository of Hugging Face.

    Attributes:
        commits: The files of each commit, by name.
        branches: The commit of each branch or tag.
        licence: What its page says; "" for nothing.
        gated: Whether nothing is handed out.
    """

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    licence: str = "apache-2.0"
    gated: bool = False


class LocalHub:
    """The server, and the environment of commands that ask it in the place of all hosts."""

    def __init__(self, folder: Path, tls: bool = False):
        self.files: dict[str, Served] = {}
        self.repositories: dict[str, Repository] = {}
        self.api: list[tuple[int, dict[str, str]]] = []
        self.asked: list[Asked] = []
        self.registry, self.cache = folder / "registry.json", folder / "cache"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.environment = {
            "PVT_HUB_MIRROR": self.url,
            "PVT_HUB_CACHE": str(self.cache),
            "PVT_HUB_REGISTRY": str(self.registry),
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(folder / "hf"),
            **dict.fromkeys(("PVT_HUB_OFFLINE", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"), ""),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        del self.environment["HF_HUB_CACHE"]

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def served(self, address: str) -> Served:
        """The file of an address, however it is looked for."""
        return self.files[urlsplit(address).netloc + urlsplit(address).path]

    def paths(self, method: str = "GET") -> list[str]:
        """The paths that were asked for, in order."""
        return [each.path for each in self.asked if each.method == method]

    def large(self, data: bytes) -> Served:
        """A large file of a repository, which is on another host."""
        return self.files[f"cdn/{hashlib.sha256(data).hexdigest()}"]

    def find(self, path: str) -> Served | None:
        """What is at a path."""
        if found := self.files.get(path.lstrip("/")):
            return found
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            return self._described(match[1], unquote(match[2]))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolved(match[1], unquote(match[2]), match[3])
        return None

    def _described(self, name: str, revision: str) -> Served:
        if self.api:
            return Served(b"", answers=[self.api.pop(0)])
        found, commit = self.repositories.get(name), self._commit(name, revision)
        if not found or not commit:
            code = "RevisionNotFound" if found else "RepoNotFound"
            return Served(b"", answers=[(404, {"X-Error-Code": code})])
        if found.gated:
            return Served(b"", answers=[(403, {"X-Error-Code": "GatedRepo"})])
        files = found.commits[commit].items()
        card = {"cardData": {"license": found.licence}} if found.licence else {}
        siblings = [_sibling(file, data) for file, data in files]
        facts = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, **card}
        return Served(json.dumps(facts).encode(), kind="application/json")

    def _commit(self, name: str, revision: str) -> str:
        found = self.repositories.get(name)
        commit = found.branches.get(revision, revision) if found else ""
        return commit if found and commit in found.commits else ""

    def _resolved(self, name: str, revision: str, file: str) -> Served:
        commit = self._commit(name, revision)
        if not commit or file not in self.repositories[name].commits[commit]:
            return Served(b"", answers=[(404, {"X-Error-Code": "EntryNotFound"})])
        data = self.repositories[name].commits[commit][file]
        headers = {"X-Repo-Commit": commit}
        if not is_large(file):
            return Served(data, f'"{_git(data)}"', kind="text/plain", headers=headers)
        sha256 = hashlib.sha256(data).hexdigest()
        self.files.setdefault(f"cdn/{sha256}", Served(data))
        linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
        # By another name of this machine, as the hub's large files are on other hosts.
        place = f"{self.url.replace('127.0.0.1', 'localhost')}/cdn/{sha256}"
        return Served(data, location=place, headers={**headers, **linked})


def is_large(file: str) -> bool:
    """Whether the hub keeps a file beside git."""
    return file.endswith((".safetensors", ".bin"))


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sibling(file: str, data: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": _git(data)}
    if is_large(file):
        sha256 = hashlib.sha256(data).hexdigest()
        facts["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
    return facts


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def answer(self) -> None:
            parts = urlsplit(self.path)
            # A proxy is asked for whole addresses.
            path = f"/{parts.netloc}{parts.path}" if parts.netloc else parts.path
            asked = (self.headers.get(name) for name in ("Range", "If-Range"))
            hub.asked.append(Asked(self.command, path, *asked))
            found = hub.find(path) or Served(b"", answers=[(404, {})])
            try:
                _send(self, found)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _send(handler: BaseHTTPRequestHandler, served: Served) -> None:
    if served.answers:
        status, headers = served.answers.pop(0)
        return _head(handler, status, {"Content-Length": "0", **headers})
    if served.location:
        there = {"Location": served.location, "Content-Length": "0", **served.headers}
        return _head(handler, 302, there)
    body, status, headers = served.data, 200, {"ETag": served.etag, **served.headers}
    start = _start(handler, served)
    if start is not None and start >= len(body):
        return _head(handler, 416, {"Content-Length": "0"})
    if start:
        size = len(body)
        body, status = body[start:], 206
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    length = len(body) if served.length is None else served.length
    if length >= 0:
        headers["Content-Length"] = str(length)
    else:
        handler.close_connection = True  # what has no length ends with the connection
    _head(handler, status, {"Content-Type": served.kind, **headers})
    if handler.command == "GET":
        cut = served.cuts.pop(0) if served.cuts else None
        for piece in _pieces(body[:cut]):
            time.sleep(served.pause)
            handler.wfile.write(piece)
        if cut is not None or length > len(body):
            handler.wfile.flush()
            handler.close_connection = True
    return None


def _start(handler: BaseHTTPRequestHandler, served: Served) -> int | None:
    """Where the part begins that is asked for; None where the whole is to be sent."""
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    asked = handler.headers.get("If-Range")
    same = asked in (None, served.etag) or not served.heeds
    return int(match[1]) if match and served.ranges and same else None


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _head(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if value:
            handler.send_header(name, value)
    handler.end_headers()
