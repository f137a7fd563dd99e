"""Pipe: the connection between aio-pika and the stub broker, without a socket."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiormq.connection import TransportFactory
from yarl import URL


class Receiver(Protocol):
    """The broker's end of a pipe."""

    def receive(self, data: bytes) -> None:
        """Take what the client has sent."""
        ...

    def client_closed(self) -> None:
        """Note that the client has closed the connection."""
        ...


class Pipe(asyncio.Transport):
    """The client's end, as asyncio's streams know it.

    What the broker sends arrives in a later step of the event loop, as over a network.

    Args:
        protocol: What reads for the client.
        loop: The event loop.
    """

    # The broker's end.
    _receiver: Receiver

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._protocol, self._loop = protocol, loop
        self._closed = False

    def attach(self, receiver: Receiver) -> None:
        """Connect the broker's end."""
        self._receiver = receiver

    def send(self, data: bytes) -> None:
        """Send something to the client."""
        self._loop.call_soon(self._protocol.data_received, data)

    def cut(self, error: Exception | None = None) -> None:
        """End the connection from the broker's side."""
        self._closed = True
        self._loop.call_soon(self._protocol.connection_lost, error)

    # What asyncio's streams call

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take what the client sends."""
        if not self._closed:
            self._receiver.receive(bytes(data))

    def close(self) -> None:
        """End the connection from the client's side."""
        if not self._closed:
            self.cut()
            self._receiver.client_closed()

    def is_closing(self) -> bool:
        """Whether the connection has ended."""
        return self._closed


class PipeFactory(TransportFactory):
    """Opens pipes to a broker in place of sockets.

    Args:
        accept: Called with each new pipe; returns the broker's end.
    """

    def __init__(self, accept: Callable[[Pipe], Receiver]) -> None:
        self._accept = accept

    async def create(
        self,
        url: URL,  # noqa: ARG002 - there is only one broker
        **kwargs: Any,  # noqa: ARG002 - what a socket would need
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a pipe.

        Raises:
            ConnectionRefusedError: The broker is stopped.
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        pipe = Pipe(protocol, loop)
        pipe.attach(self._accept(pipe))
        protocol.connection_made(pipe)
        return reader, asyncio.StreamWriter(pipe, protocol, reader, loop)
