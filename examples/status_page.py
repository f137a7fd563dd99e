"""The status page next to a worker that is not a web server; open the address that it prints.

A worker sends messages to six regions, each a FakeGenesys on this machine. From time to time, one
of them goes down: on the page you see its circuit open, count down, probe and close. The example
runs until you stop it, or for the number of seconds that you pass as its argument.

The recovery timeout is 5 s here instead of 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from contextlib import AsyncExitStack

import aiohttp
from aiohttp import web
from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    region_breaker,
)
from resilience.integrations.status_page import status_page
from resilience.testing import FakeGenesys

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-south-1", "ap-northeast-1")
PORT = 8765

circuits = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=5, recovery_timeout=5.0))


@region_breaker(region_from="region", registry=circuits)
async def send(session: aiohttp.ClientSession, region: str, server: FakeGenesys) -> None:  # noqa: ARG001 - read by the decorator
    headers = {"Authorization": f"Bearer {server.issue_token()}"}
    message = {"channel": {"from": {"id": "+353-1-555-0100"}}, "text": "hello"}
    async with session.post(server.message_url(), json=message, headers=headers):
        pass


async def work(session: aiohttp.ClientSession, region: str, server: FakeGenesys) -> None:
    while True:
        with contextlib.suppress(CircuitBreakerOpenError, aiohttp.ClientError, TimeoutError):
            await send(session, region, server)
        await asyncio.sleep(random.uniform(0.02, 0.1))


async def make_outages(servers: dict[str, FakeGenesys]) -> None:
    """Take a region down from time to time."""
    while True:
        region = random.choice(REGIONS)
        print(f"{region} answers 503")
        servers[region].fail(503)
        await asyncio.sleep(random.uniform(4, 14))
        print(f"{region} is back up")
        servers[region].up()
        await asyncio.sleep(random.uniform(3, 10))


async def serve_page() -> web.AppRunner:
    """Serve the page in the event loop of the worker."""
    runner = web.AppRunner(status_page(circuits), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
    except OSError:  # the port is taken: use any other
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def main(seconds: float | None) -> None:
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(FakeGenesys()) for name in REGIONS}
        session = await stack.enter_async_context(aiohttp.ClientSession(raise_for_status=True))
        page = await serve_page()
        stack.push_async_callback(page.cleanup)
        address = f"http://127.0.0.1:{page.addresses[0][1]}/"
        print(f"The status page is at {address}  (Ctrl-C stops everything)", flush=True)
        tasks = [asyncio.create_task(work(session, name, servers[name])) for name in REGIONS]
        tasks.append(asyncio.create_task(make_outages(servers)))
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stdout, format="{level: <7} {message}")
    limit = float(sys.argv[1]) if len(sys.argv) > 1 else None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(limit))
    print("Stopped" + ("" if limit is None else f" after {limit:g} s"))
