"""HTTP: which address is what, in Starlette."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pvt_data.sources.labels import Tell
from pvt_onnx.serve.metrics import CONTENT_TYPE
from pvt_onnx.serve.options import ServeOptions
from pvt_onnx.serve.protocol.answers import Headers, write_answer, write_error, write_json
from pvt_onnx.serve.protocol.messages import EXTENSIONS, InferRequest, ProtocolError
from pvt_onnx.serve.protocol.requests import header_length, read_request
from pvt_onnx.serve.service import Entry, Service
from pvt_onnx.serve.web.bodies import Bodies
from pvt_onnx.serve.web.log import GONE, Logged
from pvt_onnx.serve.web.page import make_page
from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import parse_json
from pvt_spec.words import show

SMALL_JSON, SMALL_BODY = 1 << 16, 1 << 22
"""Bytes that are read at once; more by a thread, while other requests are answered."""

_Endpoint = Callable[[Request], Awaitable[Response]]


class Endpoints:
    """What is answered at each address.

    Args:
        service: What answers.
        options: How.
        tell: The function that is told of faults of ours.
    """

    def __init__(self, service: Service, options: ServeOptions, tell: Tell):
        self._service, self._options, self._tell = service, options, tell
        self._bodies = Bodies(options.max_body)
        self._parsing = ThreadPoolExecutor(1, "parse")  # one at a time: they take much memory

    def routes(self) -> list[Route]:
        """Returns the addresses."""
        model, version = "/v2/models/{name}", "/versions/{version}"
        found = [
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/metrics", self.metrics),
            Route("/", self.page),
        ]
        if all(each.file.name != "stats" for each in self._service.entries()):
            found.append(Route("/v2/models/stats", self.statistics))
        for base in (model, model + version):
            found += [
                Route(base, self.model),
                Route(f"{base}/ready", self.model_ready),
                Route(f"{base}/stats", self.statistics),
                Route(f"{base}/infer", self.infer, methods=["POST"]),
            ]
        return found

    async def server(self, _: Request) -> Response:
        """Says what this is."""
        version = metadata.version("pvt-twins")
        return _json({"name": "pvt-onnx", "version": version, "extensions": [*EXTENSIONS]})

    async def live(self, _: Request) -> Response:
        """Says that it runs."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """Says whether every model can be asked."""
        if not self._service.ready:
            raise ProtocolError(503, "not every model is open", 1)
        return _json({"ready": True})

    async def index(self, request: Request) -> Response:
        """Says which models there are."""
        async with self._bodies.read(request) as body:
            try:
                asked = parse_json(bytes(body)) if body else {}
            except ValueError as error:
                raise ProtocolError(400, f"its JSON cannot be read: {error}") from None
        if not isinstance(asked, dict) or not isinstance(asked.get("ready", False), bool):
            raise ProtocolError(400, f'{show(asked)}, expected {{"ready": true or false}}')
        rows = []
        for entry in self._service.entries():
            row = {"name": entry.file.name, "version": entry.file.version}
            if entry.ready:
                rows.append({**row, "state": "READY", "reason": ""})
            elif not asked.get("ready"):
                rows.append({**row, "state": "LOADING", "reason": "it is being opened"})
        return _json(rows)

    async def model(self, request: Request) -> Response:
        """Says what a model takes and answers."""
        entry = self._find(request)
        model = self._service.open_model(entry)
        return _json(model.metadata(self._service.versions(model.name)).to_dict())

    async def model_ready(self, request: Request) -> Response:
        """Says whether a model can be asked."""
        model = self._service.open_model(self._find(request))
        return _json({"name": model.name, "ready": True})

    async def statistics(self, _: Request) -> Response:
        """Says where what Triton's extension of statistics would is found."""
        raise ProtocolError(
            404, "there is no extension of statistics: /metrics has requests, seconds and batches"
        )

    async def metrics(self, _: Request) -> Response:
        """Says what was counted."""
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def page(self, _: Request) -> Response:
        """Shows the models to people."""
        return _response(200, *make_page(self._service))

    async def infer(self, request: Request) -> Response:
        """Answers what a model is asked."""
        entry, metrics = self._find(request), self._service.metrics
        labels = (entry.file.name, entry.file.version)
        request.state.said |= {"model": entry.file.name, "version": entry.file.version}
        began, status = asyncio.get_running_loop().time(), 500
        try:
            response = await self._infer(entry, request)
            status = response.status_code
            return response
        except ProtocolError as error:
            status = error.status
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            status = GONE
            raise
        finally:
            metrics.requests.labels(*labels, status).inc()
            seconds = asyncio.get_running_loop().time() - began
            metrics.seconds.labels(*labels).observe(seconds)

    async def _infer(self, entry: Entry, request: Request) -> Response:
        self._service.open_model(entry)
        async with self._bodies.read(request) as body:
            asked = await self._read(body, request)
            answer = await self._service.infer(entry, asked, request.state.said)
            text, headers = write_answer(answer)
        return Response(text, headers=headers)

    async def _read(self, body: memoryview, request: Request) -> InferRequest:
        headers = request.headers
        length = header_length(headers) or len(body)
        small = length <= SMALL_JSON and len(body) <= SMALL_BODY
        if small and "content-encoding" not in headers:
            return read_request(body, headers, self._options.max_body)
        loop, most = asyncio.get_running_loop(), self._options.max_body
        return await loop.run_in_executor(self._parsing, read_request, body, headers, most)

    def _find(self, request: Request) -> Entry:
        return self._service.find(
            request.path_params["name"], request.path_params.get("version", "")
        )

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answers what went wrong: what the client can know of it."""
        if isinstance(error, ClientDisconnect):
            return Response(status_code=GONE)
        more: Headers = {}
        if isinstance(error, HTTPException):
            more = {"allow": error.headers["Allow"]} if error.headers else {}
            error = ProtocolError(error.status_code, _words(request, more.get("allow")))
        if not isinstance(error, ProtocolError):
            name = request.state.id
            self._tell(f"request {name}: {''.join(traceback.format_exception(error))}")
            error = ProtocolError(500, f"the server failed; its log has more of request {name}")
        body, headers = write_error(error)
        return _response(error.status, body, {**headers, **more})


def _words(request: Request, allowed: str | None) -> str:
    if allowed:
        return f"{show(request.method)} is not for this address, expected {allowed}"
    return f"there is nothing at {show(request.url.path)}"


def _json(value: Any) -> Response:
    return _response(200, *write_json(value))


def _response(status: int, body: bytes, headers: Headers) -> Response:
    return Response(body, status, headers=headers)


def make_app(
    service: Service, options: ServeOptions, tell: Tell, write: Callable[[dict[str, Any]], None]
) -> Logged:
    """Returns the application.

    Args:
        service: What answers.
        options: How.
        tell: The function that is told of faults of ours.
        write: The function that is given what is logged of each request.
    """
    endpoints = Endpoints(service, options, tell)
    handlers: dict[Any, Any] = dict.fromkeys(
        (ProtocolError, HTTPException, ClientDisconnect, PvtError, Exception), endpoints.failed
    )
    app = Starlette(routes=endpoints.routes(), exception_handlers=handlers)
    app.router.redirect_slashes = False  # another address is none
    return Logged(app, write)
