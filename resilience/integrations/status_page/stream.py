"""The page's stream: one buffer for all who read, and a place in it for each.

A change of state is encoded once, whoever reads. Who falls behind the buffer, or takes nothing for
some seconds, is dropped: the browser connects again and begins with the present. So memory is
bounded by the buffer and by what the kernel holds for each connection.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import ClientConnectionResetError, web

from resilience.events import StateChanged
from resilience.integrations.status_page.state import JSON, State, happened
from resilience.registry import CircuitBreakerRegistry

BUFFER = 4 * 2**20  # bytes of what was sent last
SEND_BUFFER = 64 * 2**10  # bytes that the kernel holds for a reader
CHUNK = 64 * 2**10  # bytes that are handed to a connection at a time


@dataclass(eq=False)
class Reader:
    """One who reads: how far it has come, and how to wake it."""

    transport: asyncio.Transport | None  # None: it has left already
    position: int
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    writing: bool = False
    over: bool = False

    def drop(self) -> None:
        """End it, at once even where it takes nothing."""
        self.over = True
        self.ready.set()
        if self.writing:
            self.abort()

    def abort(self) -> None:
        """Close the connection without sending what it has not taken."""
        if self.transport is not None:
            self.transport.abort()


class Stream:
    """Sends what happens to everybody who reads.

    Args:
        registry: Whose circuits.
        state: Describes them.
        max_listeners: How many may read at a time.
        tick: Seconds between two looks at the counters.
        patience: Seconds that a reader may take nothing.
        buffer: Bytes that are kept for those who are behind.
    """

    def __init__(
        self,
        registry: CircuitBreakerRegistry,
        state: State,
        *,
        max_listeners: int,
        tick: float = 1.0,
        patience: float = 10.0,
        buffer: int = BUFFER,
    ) -> None:
        self._registry, self._state = registry, state
        self._max_listeners, self._tick, self._patience = max_listeners, tick, patience
        self._limit = buffer
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._first = self._size = 0  # the number of the first frame, the bytes of all
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = self._closed = False
        self.readers: set[Reader] = set()
        self._stop: Callable[[], None] | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._shown: dict[str, JSON] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one reader until it leaves, is dropped, or everything ends."""
        if self._closed or len(self.readers) >= self._max_listeners:
            raise web.HTTPServiceUnavailable(
                text="too many are watching already\n", headers={"Retry-After": "10"}
            )
        reader = self._welcome(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers["X-Accel-Buffering"] = "no"  # a proxy may hold back nothing
        try:
            with contextlib.suppress(TimeoutError, ClientConnectionResetError):
                async with asyncio.timeout(self._patience):
                    await response.prepare(request)
                await self._send(response, reader, frame("state", self._state.whole()))
                await self._follow(response, reader)
        finally:
            self._dismiss(reader)
        if reader.over:
            reader.abort()
        return response

    def close(self) -> None:
        """End every stream now, whether its reader takes anything or not."""
        self._closed = True
        for reader in self.readers:
            reader.drop()

    def publish(self, event: StateChanged) -> None:
        """Put a change of state before the readers; from any thread."""
        self._append(frame("transition", happened(event)))

    # Who reads

    def _welcome(self, request: web.Request) -> Reader:
        held = request.get_extra_info("socket")
        if held is not None:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if not self.readers:  # nobody looks at the circuits while nobody reads
            self._loop = asyncio.get_running_loop()
            self._shown = {}
            self._stop = self._registry.listen(self.publish)
            self._ticker = self._loop.create_task(self._look_now_and_then())
        with self._lock:
            reader = Reader(request.transport, self._first + len(self._frames))
        self.readers.add(reader)
        return reader

    def _dismiss(self, reader: Reader) -> None:
        self.readers.discard(reader)
        if not self.readers and self._stop is not None and self._ticker is not None:
            self._stop()
            self._ticker.cancel()
            with self._lock:
                self._first += len(self._frames)
                self._frames.clear()
                self._size = 0

    async def _follow(self, response: web.StreamResponse, reader: Reader) -> None:
        while not reader.over:
            reader.ready.clear()
            chunk = self._take(reader)
            if chunk is None:  # it fell behind what is kept
                reader.over = True
            elif chunk:
                await self._send(response, reader, chunk)
            else:
                await reader.ready.wait()

    async def _send(self, response: web.StreamResponse, reader: Reader, data: bytes) -> None:
        reader.writing = True
        try:
            for start in range(0, len(data), CHUNK):
                async with asyncio.timeout(self._patience):
                    await response.write(data[start : start + CHUNK])
        except TimeoutError:
            reader.over = True
            raise
        finally:
            reader.writing = False

    def _take(self, reader: Reader) -> bytes | None:
        """Give what a reader has not had yet, a chunk at most; None: it is no longer there."""
        with self._lock:
            skip = reader.position - self._first
            if skip < 0:
                return None
            taken: list[bytes] = []
            size = 0
            while skip + len(taken) < len(self._frames) and size < CHUNK:
                taken.append(self._frames[skip + len(taken)])
                size += len(taken[-1])
        reader.position += len(taken)
        return b"".join(taken)

    # What there is to read

    def _append(self, data: bytes) -> None:
        with self._lock:
            self._frames.append(data)
            self._size += len(data)
            while self._size > self._limit:
                self._size -= len(self._frames.popleft())
                self._first += 1
            loop, wake = self._loop, not self._waking
            self._waking = True
        if wake and loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
        for reader in self.readers:
            reader.ready.set()

    async def _look_now_and_then(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(self._tick)

    def look(self) -> None:
        """Put before the readers which circuits look different from the last time."""
        regions = self._state.regions()
        looks = {name: _look_of(what) for name, what in regions.items()}
        changed = [regions[name] for name, look in looks.items() if look != self._shown.get(name)]
        gone = [name for name in self._shown if name not in regions]
        self._shown = looks
        self._append(frame("look", {"clock": self._state.now(), "regions": changed, "gone": gone}))


def _look_of(what: JSON) -> JSON:
    """Leave out what the page works out by itself as time passes."""
    wait = what["retry_after"]
    return {**what, "seconds_in_state": None, "retry_after": wait and True}


def frame(name: str, what: JSON) -> bytes:
    """Encode one message of the stream."""
    text = json.dumps(what, separators=(",", ":"))  # in one line, and ASCII: nothing can break out
    return f"event: {name}\ndata: {text}\n\n".encode()
