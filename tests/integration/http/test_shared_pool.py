"""A region that hangs fills the pool of a client: the circuits of the others stay CLOSED."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import httpx
import pytest
import urllib3

from resilience import CircuitBreaker, CircuitBreakerRegistry, CircuitState, region_breaker
from tests.support.loopback import serve_regions
from tests.support.stepped_time import advance, run_in_stepped_time, until

OPEN, CLOSED = CircuitState.OPEN, CircuitState.CLOSED
POOL = 10  # connections, and calls until a circuit opens
HEALTHY_CALLS = 12  # enough to open a circuit, if they count


class World:
    """Calls to a region that hangs have filled the pool; others to a healthy one came after them.

    Args:
        regions: Where the regions are.
        get: Makes one request, without a circuit breaker.
    """

    def __init__(self, regions, get):
        self._regions = regions
        self._registry = CircuitBreakerRegistry()

        @region_breaker(region_from="region", registry=self._registry)
        async def send(region):
            return await get(region, regions.urls[region])

        self.send = send
        self.hanging, self.healthy = [], []

    async def fill_the_pool(self, calls=POOL):
        self.hanging += [asyncio.create_task(self.send("hanging")) for _ in range(calls)]
        await until(lambda: self._regions.hanging_requests == POOL)

    async def call_the_healthy_region(self, send=None):
        calls = [(send or self.send)("healthy") for _ in range(HEALTHY_CALLS)]
        self.healthy += map(asyncio.create_task, calls)
        await advance(0)

    def snapshot(self, region):
        return self._registry.get(region).snapshot()

    async def close(self):
        calls = [*self.hanging, *self.healthy]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def kinds(calls):
    """Return what the calls raised; None stands for a call that is still under way."""
    return {type(call.exception()) if call.done() else None for call in calls}


async def results(calls):
    return set(await asyncio.gather(*calls))


@asynccontextmanager
async def world_of_aiohttp(connector, timeout):
    async with (
        serve_regions() as regions,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):

        async def get(_, url):
            async with session.get(url) as response:
                return await response.text()

        world = World(regions, get)
        try:
            yield world
        finally:
            await world.close()


def with_aiohttp(story, timeout, **limits):
    async def main():
        connector = aiohttp.TCPConnector(**limits)
        async with world_of_aiohttp(connector, timeout) as world:
            await story(world)

    run_in_stepped_time(main())


SOCKET_TIMEOUTS = aiohttp.ClientTimeout(sock_connect=5, sock_read=10)


class TestAiohttp:
    def test_calls_that_wait_for_the_full_pool_have_not_failed(self):
        async def story(world):
            await world.fill_the_pool()
            await world.call_the_healthy_region()
            await advance(9)  # longer than `sock_connect`
            assert kinds(world.hanging) == kinds(world.healthy) == {None}
            await advance(2)
            assert await results(world.healthy) == {"ok"}
            assert kinds(world.hanging) == {aiohttp.SocketTimeoutError}
            assert world.snapshot("hanging").state is OPEN
            healthy = world.snapshot("healthy")
            assert (healthy.state, healthy.successes, healthy.failures) == (CLOSED, 12, 0)

        with_aiohttp(story, SOCKET_TIMEOUTS, limit=POOL)

    def test_callers_that_do_not_wait_any_longer_are_ignored(self):
        async def story(world):
            async def send(region):
                async with asyncio.timeout(8):
                    return await world.send(region)

            await world.fill_the_pool()
            await world.call_the_healthy_region(send)
            await advance(9)
            assert kinds(world.healthy) == {TimeoutError}
            await advance(2)
            await until(lambda: None not in kinds(world.hanging))
            assert world.snapshot("hanging").state is OPEN
            healthy = world.snapshot("healthy")
            assert (healthy.state, healthy.ignored, healthy.failures) == (CLOSED, 12, 0)

        with_aiohttp(story, SOCKET_TIMEOUTS, limit=POOL)

    def test_a_limit_for_each_host_keeps_room_for_the_others(self):
        async def story(world):
            await world.fill_the_pool(calls=2 * POOL)
            await world.call_the_healthy_region()
            assert await results(world.healthy) == {"ok"}
            await advance(11)
            await until(lambda: world.snapshot("hanging").failures == POOL)
            assert world.snapshot("hanging").state is OPEN
            assert world.snapshot("healthy").state is CLOSED

        with_aiohttp(story, SOCKET_TIMEOUTS, limit=0, limit_per_host=POOL)

    @pytest.mark.parametrize(
        ("timeout", "seconds"),
        [
            (aiohttp.ClientTimeout(connect=5, sock_read=60), 6),
            (aiohttp.ClientTimeout(total=5), 6),
            (aiohttp.client.DEFAULT_TIMEOUT, 301),
        ],
        ids=["connect", "total", "default"],
    )
    def test_timeouts_that_include_the_wait_for_the_pool_are_ignored(self, timeout, seconds):
        async def story(world):
            await world.fill_the_pool()
            await world.call_the_healthy_region()
            await advance(seconds)
            await until(lambda: None not in kinds(world.healthy))
            healthy = world.snapshot("healthy")
            assert (healthy.state, healthy.ignored, healthy.failures) == (CLOSED, 12, 0)

        with_aiohttp(story, timeout, limit=POOL)


def with_httpx(story, pool_timeout, *, client_per_region=False):
    async def main():
        clients = {}
        timeout = httpx.Timeout(10, connect=5, pool=pool_timeout)
        limits = httpx.Limits(max_connections=POOL)

        async def get(region, url):
            client = clients[region if client_per_region else ""]
            return (await client.get(url)).text

        async with serve_regions() as regions:
            for name in [*regions.urls, ""]:
                clients[name] = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
            world = World(regions, get)
            try:
                await story(world)
            finally:
                await world.close()
                for client in clients.values():
                    await client.aclose()

    run_in_stepped_time(main())


class TestHttpx:
    def test_calls_that_find_the_pool_full_are_ignored(self):
        async def story(world):
            await world.fill_the_pool()
            await world.call_the_healthy_region()
            await advance(6)
            await until(lambda: None not in kinds(world.healthy))
            assert kinds(world.healthy) == {httpx.PoolTimeout}
            await advance(5)
            await until(lambda: None not in kinds(world.hanging))
            assert kinds(world.hanging) == {httpx.ReadTimeout}
            assert world.snapshot("hanging").state is OPEN
            healthy = world.snapshot("healthy")
            assert (healthy.state, healthy.ignored, healthy.failures) == (CLOSED, 12, 0)

        with_httpx(story, pool_timeout=5)

    def test_calls_may_wait_for_the_pool_without_end(self):
        async def story(world):
            await world.fill_the_pool()
            await world.call_the_healthy_region()
            await advance(9)
            assert kinds(world.healthy) == {None}
            await advance(2)
            assert await results(world.healthy) == {"ok"}
            assert world.snapshot("hanging").state is OPEN
            assert world.snapshot("healthy").state is CLOSED

        with_httpx(story, pool_timeout=None)

    def test_a_client_for_each_region_keeps_room_for_the_others(self):
        async def story(world):
            await world.fill_the_pool()
            await world.call_the_healthy_region()
            assert await results(world.healthy) == {"ok"}
            await advance(11)
            await until(lambda: None not in kinds(world.hanging))
            assert world.snapshot("hanging").state is OPEN
            assert world.snapshot("healthy").state is CLOSED

        with_httpx(story, pool_timeout=5, client_per_region=True)


def test_an_empty_pool_of_urllib3_is_ignored():
    async def main():
        async with serve_regions() as regions:
            await asyncio.to_thread(empty_the_pool, regions.urls["healthy"])

    def empty_the_pool(url):
        breaker = CircuitBreaker("healthy")
        with urllib3.connection_from_url(url, maxsize=1, block=True, retries=False) as pool:
            kept = pool.request("GET", "/", preload_content=False)
            for _ in range(POOL):
                with pytest.raises(urllib3.exceptions.EmptyPoolError), breaker.acquire():
                    pool.request("GET", "/", pool_timeout=0.001)
            kept.release_conn()
        snapshot = breaker.snapshot()
        assert (snapshot.state, snapshot.ignored, snapshot.failures) == (CLOSED, POOL, 0)

    asyncio.run(main())
