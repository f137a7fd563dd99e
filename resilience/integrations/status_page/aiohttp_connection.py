"""A connection of the page to a server of aiohttp."""

import socket

from aiohttp import web

from resilience.integrations.status_page.clients import SEND_BUFFER_SIZE


class AiohttpConnection:
    """The connection on which a request has arrived.

    Args:
        request: The request.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        #: The connection itself; None if the client has already disconnected.
        self.transport = request.transport
        #: The answer, as far as it was begun.
        self.response = web.StreamResponse()

    @property
    def address(self) -> str | None:
        """Where it comes from."""
        return self._request.remote

    async def start(self, content_type: str, length: int | None) -> None:
        """Begin the answer, and let the kernel hold little for a client that reads slowly."""
        connection = self._request.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)
        self.response.headers["Content-Type"] = content_type
        if length is None:
            self.response.headers["X-Accel-Buffering"] = "no"  # a proxy must pass it on immediately
        else:
            self.response.content_length = length
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        await self.response.write(data)

    def abort(self) -> None:
        """Close it without sending what is still buffered for it."""
        if self.transport is not None:
            self.transport.abort()
