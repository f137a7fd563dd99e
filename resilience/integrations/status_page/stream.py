"""The stream of the page: every client gets everything first, and then each change as it happens.

A state transition is encoded once, however many clients there are. A client that falls behind the
buffer, or accepts no data for some seconds, is dropped; its browser connects again and starts from
the present. Memory is therefore bounded by the buffer and by what the kernel holds for each
connection.

The messages are server-sent events: `state` is all that the page shows, `transition` is one state
transition, and `update` is what else has changed since the last update.
"""

import asyncio
import contextlib
import json

from resilience._lock import lock
from resilience.events import StateChanged
from resilience.integrations.status_page.buffer import MessageBuffer
from resilience.integrations.status_page.clients import (
    CHUNK_SIZE,
    Client,
    Connection,
    NoRoomError,
    make_room,
    write,
)
from resilience.integrations.status_page.state import CircuitData, PageState

BUFFER_SIZE = 4 * 2**20  # bytes of the messages that are kept


class Stream:
    """Sends everything that happens to the circuits to all clients.

    Args:
        state: Describes the registries whose circuits are shown.
        max_listeners: The number of clients that may be connected at the same time.
        poll_interval: Seconds between two looks at the counters.
        write_timeout: Seconds that a client may accept no data.
        buffer_size: The number of bytes that are kept for clients that are behind.
    """

    def __init__(
        self,
        state: PageState,
        *,
        max_listeners: int,
        poll_interval: float = 1.0,
        write_timeout: float = 10.0,
        buffer_size: int = BUFFER_SIZE,
    ) -> None:
        self._state = state
        self._max_listeners = max_listeners
        self._poll_interval = poll_interval
        self._write_timeout = write_timeout
        self._is_closed = False
        self.buffer = MessageBuffer(buffer_size)
        self.clients: dict[Client, None] = {}  # the oldest first
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop of the clients
        self._is_waking = False  # whether `_wake_clients` is scheduled in the loop
        self._sent: dict[str, CircuitData] = {}  # the circuits as the clients know them
        self._watching = contextlib.ExitStack()  # what ends with the last client

    async def serve(self, connection: Connection) -> None:
        """Serve one client until it disconnects, is dropped, or the application shuts down.

        Raises:
            NoRoomError: There is no room for it, or the application is shutting down.
        """
        if self._is_closed:
            raise NoRoomError
        make_room(self.clients, connection.address, self._max_listeners)
        client = self._add_client(connection)
        try:
            # ConnectionError: the client has disconnected.
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(self._write_timeout):
                    await connection.start("text/event-stream", None)
                everything = encode_message("state", self._state.full())
                await write(connection, client, everything, self._write_timeout)
                await self._send_messages(connection, client)
        finally:
            self._remove_client(client)
        if client.is_dropped:
            client.abort()

    def close(self) -> None:
        """End every connection now, and accept no more."""
        self._is_closed = True
        for client in self.clients:
            client.drop()

    def publish(self, event: StateChanged) -> None:
        """Send a state transition to all clients; safe to call from any thread."""
        self._append(encode_message("transition", self._state.transition(event)))

    def poll(self) -> None:
        """Send the circuits that have changed since the last call, and which were evicted."""
        circuits = self._state.circuits()
        changed = [
            circuit
            for name, circuit in circuits.items()
            if name not in self._sent or _has_changed(self._sent[name], circuit)
        ]
        gone = [name for name in self._sent if name not in circuits]
        self._sent = circuits
        update = {"clock": self._state.now(), "regions": changed, "gone": gone}
        self._append(encode_message("update", update))

    # The clients

    def _add_client(self, connection: Connection) -> Client:
        if not self.clients:
            self._start_watching()
        client = Client(connection, self.buffer.end(), connection.address)
        self.clients[client] = None
        return client

    def _remove_client(self, client: Client) -> None:
        self.clients.pop(client, None)
        if not self.clients:
            self._watching.close()

    def _start_watching(self) -> None:
        # Nothing reads the circuits while no client is connected.
        self._loop = asyncio.get_running_loop()
        self._is_waking = False
        self._sent = {}
        self._watching.callback(self.buffer.clear)
        for registry in self._state.registries:
            self._watching.callback(registry.listen(self.publish))
        self._watching.callback(self._loop.create_task(self._poll_regularly()).cancel)

    async def _poll_regularly(self) -> None:
        while True:
            self.poll()
            await asyncio.sleep(self._poll_interval)

    async def _send_messages(self, connection: Connection, client: Client) -> None:
        while not client.is_dropped:
            client.has_data.clear()
            messages = self.buffer.read(client.position, CHUNK_SIZE)
            if messages is None:  # the client has fallen behind the buffer
                client.is_dropped = True
            elif messages:
                client.position += len(messages)
                await write(connection, client, b"".join(messages), self._write_timeout)
            else:
                await client.has_data.wait()

    # The messages

    def _append(self, message: bytes) -> None:
        self.buffer.append(message)
        with lock:
            is_waking, self._is_waking = self._is_waking, True
        if self._loop is not None and not is_waking:
            with contextlib.suppress(RuntimeError):  # the loop is closed, its clients are gone
                self._loop.call_soon_threadsafe(self._wake_clients)

    def _wake_clients(self) -> None:
        with lock:
            self._is_waking = False
        for client in self.clients:
            client.has_data.set()


def encode_message(name: str, data: object) -> bytes:
    """Encode one message of the stream."""
    # JSON on one line and in ASCII: no text in it can end the message.
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


def _has_changed(old: CircuitData, new: CircuitData) -> bool:
    """Whether a circuit has changed in a way that the page cannot compute from the time alone."""
    return _without_time(old) != _without_time(new)


def _without_time(circuit: CircuitData) -> dict[str, object]:
    is_waiting = bool(circuit["retry_after"])
    return {**circuit, "seconds_in_state": None, "retry_after": is_waiting}
