"""A loopback port that serves HTTP, closes, and opens again."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class LoopbackPort:
    """A port on 127.0.0.1 with an HTTP server behind it, for one event loop.

    `open` and `refuse` take effect immediately, without an `await`, and may be called in any
    thread. For this the class accepts connections itself: when a server of asyncio closes, it loses
    a connection that is just being accepted, and the client waits for ever.

    Args:
        handler: Answers the requests.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: web.Server | None = None
        self._listener: socket.socket | None = None
        self._is_open = False
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop that serves
        self._accepting: dict[socket.socket, asyncio.Task[object]] = {}
        #: The port's number; 0 before it was started.
        self.number = 0

    @property
    def running(self) -> bool:
        """Whether the port is held, whether it is open or refuses connections."""
        return self._listener is not None

    def start(self, number: int) -> None:
        """Bind the port, or any free port if the number is 0, and open it.

        Raises:
            RuntimeError: It is already running.
            OSError: The port is taken.
        """
        if self.running:
            raise RuntimeError("already running")
        self._loop = asyncio.get_running_loop()
        self._listener = _bind(number)
        self.number = self._listener.getsockname()[1]
        # When a client disconnects, the handler is cancelled: nothing waits for its answer.
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self.open()

    def open(self) -> None:
        """Accept connections (again)."""
        self._in_loop(self._open)

    def refuse(self) -> None:
        """Close the port and every connection, and keep the number for `open`."""
        self._in_loop(self._refuse)

    def _in_loop(self, change: Callable[[], None]) -> None:
        """Make a change in the loop that serves, and wait for it."""
        loop = self._loop
        if loop is None or not loop.is_running() or loop is _running_loop():
            change()
        else:
            asyncio.run_coroutine_threadsafe(_call(change), loop).result()

    def _open(self) -> None:
        listener = self._require_running()
        if not self._is_open:
            listener.listen()
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
            self._is_open = True

    def _refuse(self) -> None:
        listener = self._require_running()
        if self._is_open:
            self._stop(listener)
            # Bound but not listening: connections are refused, and no other program gets the port.
            self._listener = _bind(self.number)

    async def close(self) -> None:
        """Release the port and end every request immediately; the second time this does nothing."""
        if self._listener is not None:
            self._stop(self._listener)
        await asyncio.gather(*self._accepting.values())
        while self._server is not None and self._server.connections:
            self._abort_connections()
            await asyncio.sleep(0)

    def _require_running(self) -> socket.socket:
        if self._listener is None:
            raise RuntimeError("not running")
        return self._listener

    def _accept(self, listener: socket.socket) -> None:
        # The client may have disconnected by now.
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listener.accept()
            connection.settimeout(0)
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert self._server is not None  # noqa: S101 - a port that accepts has been started
        task = loop.create_task(loop.connect_accepted_socket(self._server, connection))
        self._accepting[connection] = task
        task.add_done_callback(lambda _: self._accepting.pop(connection))

    def _stop(self, listener: socket.socket) -> None:
        if self._is_open:
            asyncio.get_running_loop().remove_reader(listener)
        listener.close()
        self._listener = None
        self._is_open = False
        for connection in self._accepting:
            _shut_down(connection)
        self._abort_connections()

    def _abort_connections(self) -> None:
        for connection in self._server.connections if self._server else ():
            if connection.transport is not None:
                # Aborting takes effect in the next iteration of the loop, shutting down
                # immediately: no client can find a connection in its pool that still looks alive.
                _shut_down(connection.transport.get_extra_info("socket"))
                connection.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._is_open:  # the request was being received when the port closed
            return await drop(request)
        return await self._handler(request)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _call(change: Callable[[], None]) -> None:
    change()


async def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Drop the connection without an answer."""
    transport_of(request).abort()
    return await hang(request)


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    """Never answer; the server cancels this when the connection ends."""
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def transport_of(request: web.BaseRequest) -> asyncio.Transport:
    """Return the connection that a request arrived on."""
    assert request.transport is not None  # noqa: S101 - a lost connection cancels the handler
    return request.transport


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client has already closed it
        connection.shutdown(socket.SHUT_RDWR)


def _bind(number: int) -> socket.socket:
    listener = socket.socket()
    listener.settimeout(0)
    try:
        # Connections from before `refuse` may still be closing on this port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", number))
    except BaseException:
        listener.close()
        raise
    return listener
