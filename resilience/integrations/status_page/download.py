"""The data of the page as JSON, in one answer.

Clients that ask while others are still reading get the same bytes, if these are not older than a
second: what is encoded is kept once, however many read it, or read nothing. A client that accepts
no data for some seconds is dropped, and there is a limit to their number, as in the stream.
"""

import asyncio
import contextlib
import json

from resilience.integrations.status_page.clients import Client, Connection, make_room, write
from resilience.integrations.status_page.state import PageState

_MAX_AGE = 1.0  # seconds


class Download:
    """Sends all that the page shows to clients that ask for it once.

    Args:
        state: Describes the registry.
        max_clients: The number of clients that may be reading at the same time.
        write_timeout: Seconds that a client may accept no data.
    """

    def __init__(self, state: PageState, *, max_clients: int, write_timeout: float = 10.0) -> None:
        self._state = state
        self._max_clients = max_clients
        self._write_timeout = write_timeout
        self.clients: dict[Client, None] = {}
        self._body = b""
        self._made_at = 0.0

    async def serve(self, connection: Connection) -> None:
        """Serve one client until it has everything, disconnects or is dropped.

        Raises:
            NoRoomError: There is no room for it.
        """
        make_room(self.clients, connection.address, self._max_clients)
        client = Client(connection, address=connection.address)
        body = self._current_body()
        self.clients[client] = None
        try:
            # ConnectionError: the client has disconnected.
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(self._write_timeout):
                    await connection.start("application/json; charset=utf-8", len(body))
                await write(connection, client, body, self._write_timeout)
        finally:
            self._remove(client)
        if client.is_dropped:
            client.abort()

    def close(self) -> None:
        """End every connection now."""
        for client in self.clients:
            client.drop()

    def _current_body(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if not self.clients or now - self._made_at > _MAX_AGE:
            self._body = json.dumps(self._state.full()).encode()
            self._made_at = now
        return self._body

    def _remove(self, client: Client) -> None:
        self.clients.pop(client, None)
        if not self.clients:
            self._body = b""
