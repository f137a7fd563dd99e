"""The clients of the page: how many there may be, and how long each may accept no data."""

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

SEND_BUFFER_SIZE = 64 * 2**10  # bytes that the kernel holds for one client
CHUNK_SIZE = 64 * 2**10  # bytes that are written to a connection at a time


@dataclass(eq=False)
class Client:
    """One connection: how far it has read, and how to wake and drop it.

    Args:
        transport: The connection; None if the client has already disconnected.
        position: The number of the message that it reads next.
        address: Where it comes from.
    """

    transport: asyncio.Transport | None
    position: int = 0
    address: str | None = None
    has_data: asyncio.Event = field(default_factory=asyncio.Event)
    is_writing: bool = False
    is_dropped: bool = False

    def drop(self) -> None:
        """End the connection, immediately if the client accepts no data."""
        self.is_dropped = True
        self.has_data.set()
        if self.is_writing:
            self.abort()

    def abort(self) -> None:
        """Close the connection without sending what is still buffered for it."""
        if self.transport is not None:
            self.transport.abort()


def no_room() -> web.HTTPServiceUnavailable:
    """Return the answer to a client for which there is no room."""
    return web.HTTPServiceUnavailable(
        text="Too many clients are connected.\n", headers={"Retry-After": "10"}
    )


def make_room(clients: dict[Client, None], address: str | None, most: int) -> None:
    """Make room for one more client, or refuse it.

    Where all places are taken, one is taken back from the address that has the most: no single one
    can keep the others out.

    Args:
        clients: Those that are connected, the oldest first.
        address: Where the new one comes from.
        most: How many there may be.

    Raises:
        HTTPServiceUnavailable: There is no room, and no other address has two more places.
    """
    if len(clients) < most:
        return
    places = Counter(client.address for client in clients)
    [(greediest, taken)] = places.most_common(1)
    if taken < places[address] + 2:
        raise no_room()
    oldest = next(client for client in clients if client.address == greediest)
    del clients[oldest]
    oldest.drop()


def bound_send_buffer(request: web.BaseRequest) -> None:
    """Let the kernel hold little for a client that reads slowly."""
    connection = request.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)


async def write(
    response: web.StreamResponse, client: Client, data: bytes, write_timeout: float
) -> None:
    """Write to a client; it is dropped if it accepts nothing for this many seconds.

    Raises:
        TimeoutError: It was dropped.
    """
    client.is_writing = True
    try:
        for start in range(0, len(data), CHUNK_SIZE):
            async with asyncio.timeout(write_timeout):
                await response.write(data[start : start + CHUNK_SIZE])
    except TimeoutError:
        client.is_dropped = True
        raise
    finally:
        client.is_writing = False
