"""A loopback port that serves HTTP, closes, and opens again."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class LoopbackPort:
    """A port on 127.0.0.1 and the HTTP server behind it, for one event loop.

    `open` and `refuse` hold at once, without an `await`. That is why it accepts connections itself:
    a server of asyncio that is closed loses sight of a connection that is just coming in, and the
    client at its other end waits for ever.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._web: web.Server | None = None
        self._bound: socket.socket | None = None
        self._open = False
        self._coming_in: dict[socket.socket, asyncio.Task[object]] = {}
        self.number = 0

    @property
    def running(self) -> bool:
        """Whether the port is held, open or refusing."""
        return self._bound is not None

    def start(self, number: int) -> None:
        """Take a port, 0 for any that is free, and open it."""
        if self.running:
            raise RuntimeError("already running")
        self._bound = _bind(number)
        self.number = self._bound.getsockname()[1]
        # A handler whose client has gone away is cancelled: nobody waits for its answer.
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self.open()

    def open(self) -> None:
        """Take connections (again)."""
        bound = self._require_running()
        if not self._open:
            bound.listen()
            asyncio.get_running_loop().add_reader(bound, self._accept, bound)
            self._open = True

    def refuse(self) -> None:
        """Close the port and every connection, and keep the number for `open`."""
        bound = self._require_running()
        if self._open:
            self._stop(bound)
            # Bound but not listening: connections are refused, and nobody else can get the number.
            self._bound = _bind(self.number)

    async def close(self) -> None:
        """Give the port back and end every request at once; does nothing the second time."""
        if self._bound is not None:
            self._stop(self._bound)
        await asyncio.gather(*self._coming_in.values())
        while self._web is not None and self._web.connections:
            self._abort_connections()
            await asyncio.sleep(0)

    def _require_running(self) -> socket.socket:
        if self._bound is None:
            raise RuntimeError("not running")
        return self._bound

    def _accept(self, bound: socket.socket) -> None:
        # The client may be gone by now.
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = bound.accept()
            connection.settimeout(0)
            self._let_in(connection)

    def _let_in(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert self._web is not None  # noqa: S101 - a port that accepts has been started
        task = loop.create_task(loop.connect_accepted_socket(self._web, connection))
        self._coming_in[connection] = task
        task.add_done_callback(lambda _: self._coming_in.pop(connection))

    def _stop(self, bound: socket.socket) -> None:
        if self._open:
            asyncio.get_running_loop().remove_reader(bound)
        bound.close()
        self._bound = None
        self._open = False
        for connection in self._coming_in:
            _shut_down(connection)
        self._abort_connections()

    def _abort_connections(self) -> None:
        for connection in self._web.connections if self._web else ():
            if connection.transport is not None:
                # Aborting takes effect in the next round of the loop, shutting down at once: no
                # client can find a connection in its pool that still looks alive.
                _shut_down(connection.transport.get_extra_info("socket"))
                connection.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._open:  # it was on its way in when the port closed
            return await drop(request)
        return await self._handler(request)


async def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Drop the connection without an answer."""
    transport_of(request).abort()
    return await hang(request)


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    """Never answer; the server cancels this when the connection ends."""
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def transport_of(request: web.BaseRequest) -> asyncio.Transport:
    """Give the connection on which a request came."""
    assert request.transport is not None  # noqa: S101 - a lost connection cancels the handler
    return request.transport


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(socket.SHUT_RDWR)


def _bind(number: int) -> socket.socket:
    bound = socket.socket()
    bound.settimeout(0)
    try:
        # Connections of the time before may still be winding down on this very port.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", number))
    except BaseException:
        bound.close()
        raise
    return bound
