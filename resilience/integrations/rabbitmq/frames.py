"""FrameStream: what the broker sends over a connection of the consumer's own, frame by frame."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp import commands, constants
from yarl import URL

from resilience.integrations.rabbitmq.unreadable import readable_frame

_START_SIZE = 7  # type, channel, size
_OTHER_PROTOCOL = b"AMQP"

#: Called with the broker's reason when it blocks a connection, and with None when it unblocks it.
OnBlocked = Callable[[str | None], object]


class FrameTransport(TransportFactory):
    """Opens transports that pass on only what aiormq can decode.

    Args:
        on_blocked: Called when the broker blocks or unblocks the connection.
        factory: What opens the transports; None for TCP or TLS, as the URL says.
    """

    def __init__(self, on_blocked: OnBlocked, factory: TransportFactory | None = None) -> None:
        self._on_blocked, self._factory = on_blocked, factory

    async def create(
        self,
        url: URL,
        **kwargs: Any,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a transport to the broker."""
        default = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await (self._factory or default).create(url, **kwargs)
        return FrameStream(reader, self._on_blocked), writer


class FrameStream(asyncio.StreamReader):
    """A stream of frames, each of which aiormq can decode.

    Args:
        stream: What the broker sends.
        on_blocked: Called when the broker blocks or unblocks the connection.
    """

    def __init__(self, stream: asyncio.StreamReader, on_blocked: OnBlocked) -> None:
        super().__init__()
        self._stream, self._on_blocked = stream, on_blocked
        # What is left of the current frame.
        self._rest = b""

    def at_eof(self) -> bool:
        """Whether there is nothing more to read."""
        return not self._rest and self._stream.at_eof()

    async def readexactly(self, n: int) -> bytes:
        """Read bytes of the current frame, or of the next one."""
        if not self._rest:
            self._rest = await self._next_frame()
        taken, self._rest = self._rest[:n], self._rest[n:]
        return taken

    async def _next_frame(self) -> bytes:
        start = await self._stream.readexactly(_START_SIZE)
        if start.startswith(_OTHER_PROTOCOL):
            return start  # The broker asks for another version, and ends the connection.
        size = int.from_bytes(start[3:])
        data = start + await self._stream.readexactly(size + 1)
        self._note_blocking(data)
        return readable_frame(data)

    def _note_blocking(self, data: bytes) -> None:
        if data[0] != constants.FRAME_METHOD:
            return
        method = int.from_bytes(data[_START_SIZE : _START_SIZE + 4])
        if method == commands.Connection.Blocked.index:
            self._on_blocked(data[_START_SIZE + 5 : -1].decode(errors="replace"))
        elif method == commands.Connection.Unblocked.index:
            self._on_blocked(None)
