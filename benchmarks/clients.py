"""What a circuit breaker inside of an HTTP client adds to a request.

    make bench-clients                  into docs/how-to/http-clients.md

The part of each client that sends a request does so without a network, with and without the
circuit breaker, in turns, and the body is read. The difference of the best rounds is what the
circuit breaker adds; the machine disturbs a round only in one direction. It is counted in seconds
of the processor. Next to it stands a whole request to a server of aiohttp on loopback, in a process
of its own.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import requests
from loguru import logger
from requests.adapters import BaseAdapter, HTTPAdapter
from yarl import URL

from benchmarks import report
from resilience import CircuitBreakerRegistry
from resilience.integrations.aiohttp import RegionMiddleware
from resilience.integrations.httpx import AsyncRegionTransport, RegionTransport
from resilience.integrations.requests import RegionAdapter

COMMAND = "make bench-clients"
PAGE = "docs/how-to/http-clients.md"
REQUESTS, ROUNDS = 2000, 15
WHOLE_REQUESTS, WHOLE_ROUNDS = 300, 5
ADDRESS = "http://api.example.com/"
HEAD = ("client", "added, µs", "a whole request on loopback, µs", "share")
MICROSECONDS = 1e6

Run = Callable[[int], Awaitable[None]]

SERVER = """
from aiohttp import web

async def answer(_):
    return web.Response(text="ok")

async def main():
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

import asyncio
asyncio.run(main())
"""


async def best_of(
    runs: list[Run], calls: int, rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Return the best seconds per call of each run; they take turns."""
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for number, run in enumerate(runs):
            began = clock()
            await run(calls)
            best[number] = min(best[number], (clock() - began) / calls)
    return best


# Without a network


def aiohttp_runs(registry: CircuitBreakerRegistry) -> list[Run]:
    """Return requests without and with the circuit breaker."""
    request: Any = SimpleNamespace(url=URL(ADDRESS))
    body = SimpleNamespace(is_eof=lambda: False, on_eof=lambda _: None, exception=lambda: None)
    middleware = RegionMiddleware(registry)

    async def handler(_: Any) -> Any:
        return SimpleNamespace(status=200, content=body)

    async def without(calls: int) -> None:
        for _ in range(calls):
            await handler(request)

    async def protected(calls: int) -> None:
        for _ in range(calls):
            await middleware(request, handler)

    return [without, protected]


class Piece(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of one piece."""

    def __iter__(self) -> Any:
        yield b"ok"

    async def __aiter__(self) -> Any:
        yield b"ok"


def httpx_runs(registry: CircuitBreakerRegistry) -> list[Run]:
    """Return requests without and with the circuit breaker."""
    inner = httpx.MockTransport(lambda _: httpx.Response(200, stream=Piece()))
    request = httpx.Request("GET", ADDRESS)

    def make(transport: httpx.BaseTransport) -> Run:
        async def run(calls: int) -> None:
            for _ in range(calls):
                transport.handle_request(request).read()

        return run

    return [make(inner), make(RegionTransport(inner, registry))]


def httpx_async_runs(registry: CircuitBreakerRegistry) -> list[Run]:
    """Return requests without and with the circuit breaker."""
    inner = httpx.MockTransport(lambda _: httpx.Response(200, stream=Piece()))
    request = httpx.Request("GET", ADDRESS)

    def make(transport: httpx.AsyncBaseTransport) -> Run:
        async def run(calls: int) -> None:
            for _ in range(calls):
                await (await transport.handle_async_request(request)).aread()

        return run

    return [make(inner), make(AsyncRegionTransport(inner, registry))]


class RawBody:
    """A body as urllib3 has it."""

    closed = False
    length_remaining = 2

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def stream(self, *_: object, **__: object) -> Any:
        """Read piece by piece."""
        yield b"ok"

    def close(self) -> None:
        """Close it."""
        self.closed = True


class Answering(BaseAdapter):
    """Answers without a network."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer."""
        response = requests.Response()
        response.status_code = 200
        response.url = ADDRESS
        response.request = request
        response.raw = RawBody()
        return response

    def close(self) -> None:
        """Have nothing to close."""


def requests_runs(registry: CircuitBreakerRegistry) -> list[Run]:
    """Return requests without and with the circuit breaker."""
    HTTPAdapter.send = Answering.send  # type: ignore[method-assign,assignment]

    request = requests.Request("GET", ADDRESS).prepare()

    def make(adapter: BaseAdapter) -> Run:
        async def run(calls: int) -> None:
            for _ in range(calls):
                _ = adapter.send(request).content

        return run

    return [make(Answering()), make(RegionAdapter(registry))]


# With a server


async def whole_requests(url: str) -> dict[str, float]:
    """Return the seconds of a whole request of each client, without a circuit breaker."""
    plain = httpx.Client(trust_env=False)
    in_async_code = httpx.AsyncClient(trust_env=False)
    session = requests.Session()
    session.trust_env = False
    async with aiohttp.ClientSession() as client:

        async def aiohttp_run(calls: int) -> None:
            for _ in range(calls):
                async with client.get(url) as response:
                    await response.read()

        async def httpx_run(calls: int) -> None:
            for _ in range(calls):
                plain.get(url)

        async def httpx_async_run(calls: int) -> None:
            for _ in range(calls):
                await in_async_code.get(url)

        async def requests_run(calls: int) -> None:
            for _ in range(calls):
                session.get(url)

        runs: list[Run] = [aiohttp_run, httpx_run, httpx_async_run, requests_run]
        best = await best_of(runs, WHOLE_REQUESTS, WHOLE_ROUNDS, time.perf_counter)
    await in_async_code.aclose()
    return dict(zip(CLIENTS, best, strict=True))


CLIENTS: dict[str, Callable[[CircuitBreakerRegistry], list[Run]]] = {
    "aiohttp": aiohttp_runs,
    "httpx, `Client`": httpx_runs,
    "httpx, `AsyncClient`": httpx_async_runs,
    "requests": requests_runs,
}


async def measure(url: str) -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    whole = await whole_requests(url)
    rows: list[tuple[str, ...]] = []
    for name, make_runs in CLIENTS.items():
        runs = make_runs(CircuitBreakerRegistry())
        without, protected = await best_of(runs, REQUESTS, ROUNDS, time.process_time)
        added = protected - without
        row = (
            name,
            f"{added * MICROSECONDS:.1f}",
            f"{whole[name] * MICROSECONDS:.0f}",
            f"{added / whole[name]:.1%}",
        )
        print(*row, sep="  ", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, and write the table."""
    logger.disable("resilience")
    program = [sys.executable, "-c", SERVER]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            rows = asyncio.run(measure(f"http://127.0.0.1:{int(server.stdout.readline())}/"))
        finally:
            server.kill()
    origin = report.origin(COMMAND, "aiohttp", "httpx", "requests")
    report.write_section(PAGE, COMMAND, report.table(HEAD, rows), origin)


if __name__ == "__main__":
    main()
