"""Two regions on loopback: one hangs, the other one answers."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Regions:
    """Where the regions are, and how many requests the one that hangs has received."""

    urls: dict[str, str] = field(default_factory=dict)
    hanging_requests: int = 0


@dataclass
class Hanging(asyncio.Protocol):
    """Receives requests, and never answers."""

    regions: Regions

    def data_received(self, data):
        self.regions.hanging_requests += 1


class Answering(asyncio.Protocol):
    """Answers each request immediately."""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def serve_regions():
    """Serve both, and yield where they are."""
    regions = Regions()
    loop = asyncio.get_running_loop()
    servers = {
        "hanging": await loop.create_server(lambda: Hanging(regions), "127.0.0.1", 0),
        "healthy": await loop.create_server(Answering, "127.0.0.1", 0),
    }
    for name, server in servers.items():
        regions.urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield regions
    finally:
        for server in servers.values():
            server.close()
