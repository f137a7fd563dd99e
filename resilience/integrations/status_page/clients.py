"""The clients of the page: how many there may be, and how long each may accept no data."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

SEND_BUFFER_SIZE = 64 * 2**10  # bytes that the kernel holds for one client
CHUNK_SIZE = 64 * 2**10  # bytes that are written to a connection at a time

NO_ROOM_STATUS = 503
NO_ROOM_TEXT = "Too many clients are connected.\n"
NO_ROOM_HEADERS = {"Retry-After": "10"}


class NoRoomError(Exception):
    """There is no room for one more client."""


class Connection(Protocol):
    """What the page needs of a connection, whatever web server has accepted it.

    A method raises `ConnectionError` when the client has disconnected.
    """

    @property
    def address(self) -> str | None:
        """Where it comes from; None: unknown."""
        ...

    async def start(self, content_type: str, length: int | None) -> None:
        """Begin the answer; its length is given in bytes if it is known."""

    async def write(self, data: bytes) -> None:
        """Send a part of the answer, and wait while the client accepts none."""

    def abort(self) -> None:
        """Close it without sending what is still buffered for it."""


@dataclass(eq=False)
class Client:
    """One client: how far it has read, and how to wake and drop it.

    Args:
        connection: How it is connected; None if it has already disconnected.
        position: The number of the message that it reads next.
        address: Where it comes from.
    """

    connection: Connection | None
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
        if self.connection is not None:
            self.connection.abort()


def make_room(clients: dict[Client, None], address: str | None, most: int) -> None:
    """Make room for one more client, or refuse it.

    Where all places are taken, one is taken back from the address that has the most: no single one
    can keep the others out.

    Args:
        clients: Those that are connected, the oldest first.
        address: Where the new one comes from.
        most: How many there may be.

    Raises:
        NoRoomError: There is no room, and no other address has two more places.
    """
    if len(clients) < most:
        return
    places = Counter(client.address for client in clients)
    [(greediest, taken)] = places.most_common(1)
    if taken < places[address] + 2:
        raise NoRoomError
    oldest = next(client for client in clients if client.address == greediest)
    del clients[oldest]
    oldest.drop()


async def write(connection: Connection, client: Client, data: bytes, write_timeout: float) -> None:
    """Write to a client; it is dropped if it accepts nothing for this many seconds.

    Raises:
        TimeoutError: It was dropped.
    """
    client.is_writing = True
    try:
        for start in range(0, len(data), CHUNK_SIZE):
            async with asyncio.timeout(write_timeout):
                await connection.write(data[start : start + CHUNK_SIZE])
    except TimeoutError:
        client.is_dropped = True
        raise
    finally:
        client.is_writing = False
