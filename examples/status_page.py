"""The status page next to a worker that is not a web server; open the address that it prints.

A worker sends messages to six regions, each a FakeGenesys on this machine. One after the other,
the regions go down: on the page you see a circuit open, count down, probe and close. The example
runs until you stop it, or for the number of outages that you pass as its argument.

The recovery timeout is 3 s here instead of 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import uuid4

import aiohttp
from aiohttp import web
from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.integrations.status_page import status_page
from resilience.testing import FakeGenesys

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-south-1", "ap-northeast-1")
PORT = 8765

circuits = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=5, recovery_timeout=3.0))


@region_breaker(region_from="region", registry=circuits)
async def send(session: aiohttp.ClientSession, region: str, server: FakeGenesys) -> None:  # noqa: ARG001 - read by the decorator
    headers = {"Authorization": f"Bearer {server.issue_token()}"}
    channel = {
        "from": {"id": "+353-1-555-0100", "idType": "Phone"},
        "time": datetime.now(UTC).isoformat(),
        "messageId": str(uuid4()),
    }
    message = {"channel": channel, "text": "hello"}
    async with session.post(server.message_url(), json=message, headers=headers):
        pass


async def work(session: aiohttp.ClientSession, region: str, server: FakeGenesys) -> None:
    while True:
        with contextlib.suppress(CircuitBreakerOpenError, aiohttp.ClientError, TimeoutError):
            await send(session, region, server)
        await asyncio.sleep(random.uniform(0.02, 0.1))


async def make_outages(servers: dict[str, FakeGenesys], number: int | None) -> None:
    """Take one region down after the other, each until its circuit has opened and closed again."""
    regions = random.sample(REGIONS, len(REGIONS))
    for region in islice(cycle(regions), number):
        print(f"{region} answers 503", flush=True)
        servers[region].fail(503)
        await becomes(region, CircuitState.OPEN)
        await asyncio.sleep(random.uniform(1, 6))
        print(f"{region} is back up", flush=True)
        delivered = len(servers[region].messages)
        servers[region].up()
        await becomes(region, CircuitState.CLOSED)
        print(f"{region} has taken {len(servers[region].messages) - delivered} messages since")
        await asyncio.sleep(random.uniform(1, 5))


async def becomes(region: str, state: CircuitState) -> None:
    """Wait until the circuit of a region is in a state."""
    while circuits.get(region).state is not state:  # noqa: ASYNC110 - a listener would be longer
        await asyncio.sleep(0.05)


async def serve_page() -> web.AppRunner:
    """Serve the page in the event loop of the worker."""
    runner = web.AppRunner(status_page(circuits), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
    except OSError:  # the port is taken: use any other
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def main(outages: int | None) -> None:
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(FakeGenesys()) for name in REGIONS}
        session = await stack.enter_async_context(aiohttp.ClientSession(raise_for_status=True))
        page = await serve_page()
        stack.push_async_callback(page.cleanup)
        address = f"http://127.0.0.1:{page.addresses[0][1]}/"
        print(f"The status page is at {address}  (Ctrl-C stops everything)", flush=True)
        workers = [asyncio.create_task(work(session, name, servers[name])) for name in REGIONS]
        try:
            await make_outages(servers, outages)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    for circuit in [circuits.get(region).snapshot() for region in REGIONS]:
        calls = f"{circuit.successes} calls succeeded, {circuit.failures} failed"
        print(f"{circuit.region} is {circuit.state}: {calls}, {circuit.rejected} were rejected")
        assert circuit.state is CircuitState.CLOSED, "every region is back up"
        assert circuit.successes > circuit.failures, "and its messages are delivered"


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stdout, format="{level: <7} {message}")
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(limit))
    print("Stopped")
