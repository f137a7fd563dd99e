"""A server on loopback that answers by path, well or in one of the ways in which servers fail."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from aiohttp import web

from resilience.testing.port import LoopbackPort, drop, hang

LIMITS = {
    "inin-ratelimit-allowed": "300",
    "inin-ratelimit-count": "1",
    "inin-ratelimit-reset": "60",
}


class OddServer:
    """One server.

    `/ok`, `/status/503`, `/limits` (200 with the headers of a rate limit), `/hang`, `/drop`,
    `/sequence`, `/empty` (200 without a body), `/json`, `/broken-gzip`, `/cut` (four bytes of
    1,000), `/cut-chunked`, `/stream` (five bytes, and five more after `go_on`), `/chunks` (two),
    `/to?url=...` (a redirect), `/socket`, `/slow-body` (five bytes, and then nothing).
    """

    def __init__(self):
        self.port = LoopbackPort(self._answer)
        self.requests = Counter()
        self.go_on = asyncio.Event()
        # What `/sequence` answers, one status after the other; then 200.
        self.sequence = []
        self.arrived = asyncio.Event()

    @property
    def region(self):
        return f"127.0.0.1:{self.port.number}"

    def url(self, path):
        return f"http://{self.region}{path}"

    async def _answer(self, request):
        self.requests[request.path] += 1
        self.arrived.set()
        if request.path.startswith("/status/"):
            return web.Response(status=int(request.path.rpartition("/")[2]), text="an error")
        answer = {
            "/ok": self._ok,
            "/limits": self._limits,
            "/hang": hang,
            "/drop": drop,
            "/cut": self._cut,
            "/cut-chunked": self._cut_chunked,
            "/stream": self._stream,
            "/slow-body": self._slow_body,
            "/chunks": self._chunks,
            "/empty": self._empty,
            "/json": self._json,
            "/broken-gzip": self._broken_gzip,
            "/to": self._redirect,
            "/sequence": self._next,
            "/socket": self._socket,
        }[request.path]
        return await answer(request)

    async def _ok(self, _):
        return web.Response(text="ok")

    async def _empty(self, _):
        return web.Response()

    async def _json(self, _):
        return web.json_response({"id": 7})

    async def _broken_gzip(self, request):
        headers = {"Content-Encoding": "gzip", "Content-Length": "10"}
        return await self._begin(request, b"not a gzip", headers)

    async def _next(self, _):
        return web.Response(status=self.sequence.pop(0) if self.sequence else 200)

    async def _limits(self, _):
        return web.Response(text="ok", headers=LIMITS)

    async def _redirect(self, request):
        return web.Response(status=302, headers={"Location": request.query["url"]})

    async def _cut(self, request):
        response = await self._begin(request, b"half", {"Content-Length": "1000"})
        request.transport.close()
        return response

    async def _cut_chunked(self, request):
        response = await self._begin(request, b"half", {})
        request.transport.close()
        return response

    async def _stream(self, request):
        response = await self._begin(request, b"first", {"Content-Length": "10"})
        await self.go_on.wait()
        await response.write(b"-last")
        return response

    async def _chunks(self, request):
        response = await self._begin(request, b"one", {})
        await response.write(b"two")
        return response

    async def _slow_body(self, request):
        await self._begin(request, b"first", {"Content-Length": "10"})
        return await hang(request)

    async def _begin(self, request, data, headers):
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(data)
        return response

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.close()
        return socket


@asynccontextmanager
async def odd_server():
    """Serve on a free port."""
    server = OddServer()
    server.port.start(0)
    try:
        yield server
    finally:
        await server.port.close()
