"""Bodies of requests: as long as they may be, as soon as they have to be, all in bounded memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from pvt_onnx.serve.options import BODIES, BODY_SECONDS
from pvt_onnx.serve.protocol.messages import ProtocolError
from pvt_onnx.serve.protocol.requests import header_length

_ALIGNED = 8  # bytes of the widest number


class Bodies:
    """The bodies that are in memory.

    Args:
        most: Bytes of one.
        seconds: How long one may take to come.
    """

    def __init__(self, most: int, seconds: float = BODY_SECONDS):
        self._most, self._seconds = most, seconds
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[memoryview]:
        """Yields a request's body, which counts while the block lasts; tensors in it are aligned.

        Raises:
            ProtocolError: 408: it does not come; 413: it is too long; 503: there are too many.
            ClientDisconnect: The client is gone.
        """
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said[:20]) > self._most:
            raise self._too_long()
        chunks: list[bytes] = []
        try:
            await asyncio.wait_for(self._collect(request, chunks), self._seconds)
            before = -(header_length(request.headers) or 0) % _ALIGNED
            yield memoryview(b"".join([bytes(before), *chunks]))[before:]
        except asyncio.TimeoutError:
            raise ProtocolError(408, f"its body was not there within {self._seconds:g} s") from None
        finally:
            self.held -= sum(map(len, chunks))

    async def _collect(self, request: Request, chunks: list[bytes]) -> None:
        length = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            self.held += len(chunk)
            length += len(chunk)
            if length > self._most:
                raise self._too_long()
            if self.held > BODIES * self._most:
                raise ProtocolError(503, "there are too many large requests at a time", 1)

    def _too_long(self) -> ProtocolError:
        return ProtocolError(413, f"a body of over {self._most:,} bytes, the most that is read")
