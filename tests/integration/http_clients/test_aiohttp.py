"""The middleware for aiohttp: bodies read in every way, other middlewares, WebSockets."""

import asyncio
import gc
import inspect
import socket
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from yarl import URL

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState, default_registry
from resilience.integrations.aiohttp import RegionMiddleware, RequestRejectedError, region_session
from resilience.testing import FakeGenesys
from tests.support.odd_server import odd_server

OPEN = CircuitState.OPEN


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)


@pytest.fixture
async def server():
    async with odd_server() as server:
        yield server


@pytest.fixture
async def session(registry):
    async with region_session(registry=registry) as session:
        yield session


@pytest.fixture
def breaker(registry, server):
    return registry.get(server.region)


def outcomes(breaker):
    snapshot = breaker.snapshot()
    return snapshot.successes, snapshot.failures, snapshot.answered, snapshot.ignored


async def read_lines(content):
    return b"".join([line async for line in content])


async def read_pieces(content):
    return b"".join([piece async for piece in content.iter_chunked(3)])


async def read_any(content):
    return b"".join([piece async for piece in content.iter_any()])


async def read_chunks(content):
    return b"".join([chunk async for chunk, _ in content.iter_chunks()])


async def read_now(content):
    await content.wait_eof()
    return content.read_nowait(5) + content.read_nowait()


READERS = {
    "lines": read_lines,
    "pieces": read_pieces,
    "any": read_any,
    "chunks": read_chunks,
    "now": read_now,
    "all": lambda content: content.read(),
    "exactly": lambda content: content.readexactly(10),
    "until": lambda content: content.readuntil(b"st-last"),
}


@pytest.mark.parametrize("reader", READERS)
async def test_a_body_can_be_read_in_every_way(session, server, breaker, reader):
    async with session.get(server.url("/stream")) as response:
        assert not response.content.is_eof()
        assert isinstance(response.content, aiohttp.StreamReader)
        reading = asyncio.create_task(READERS[reader](response.content))
        await asyncio.sleep(0)
        assert outcomes(breaker) == (0, 0, 0, 0)
        server.go_on.set()
        assert await reading == b"first-last"
        assert response.content.at_eof()
        assert response.content.total_bytes == 10
    assert outcomes(breaker) == (1, 0, 0, 0)


@pytest.mark.parametrize("reader", READERS)
async def test_a_body_that_is_cut_is_a_failure_however_it_is_read(session, server, breaker, reader):
    with pytest.raises(aiohttp.ClientError):
        async with session.get(server.url("/cut")) as response:
            await READERS[reader](response.content)
    assert outcomes(breaker) == (0, 1, 0, 0)


async def test_a_body_that_is_cut_is_a_failure_though_nobody_reads_it(session, server, breaker):
    response = await session.get(server.url("/cut"))
    while response.content.exception() is None:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0)
    response.close()
    del response
    gc.collect()
    assert outcomes(breaker) == (0, 1, 0, 0)


async def test_a_response_that_is_dropped_settles_when_its_connection_ends(
    session, server, breaker, clock
):
    for _ in range(3):
        breaker.acquire().fail()
    clock.advance(60)
    response = await session.get(server.url("/stream"))
    del response
    gc.collect()
    with pytest.raises(RequestRejectedError):
        await session.get(server.url("/ok"))
    server.go_on.set()
    while breaker.retry_after:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0)
    assert breaker.snapshot().successes == 1


async def test_a_response_that_is_never_closed_loses_its_place_in_time(
    session, server, breaker, clock
):
    for _ in range(3):
        breaker.acquire().fail()
    clock.advance(60)
    response = await session.get(server.url("/stream"))
    clock.advance(60)
    async with session.get(server.url("/ok")) as second:
        assert second.status == 200
    response.close()


async def test_a_body_is_what_it_was_otherwise(session, server):
    async with session.get(server.url("/stream")) as response:
        content = response.content
        assert repr(content) == "<StreamReader 5 bytes>"
        assert content.get_read_buffer_limits() == content._body.get_read_buffer_limits()
        if hasattr(aiohttp.StreamReader, "set_read_chunk_size"):  # not in every version
            content.set_read_chunk_size(2**20)
            assert content._body.get_read_buffer_limits()[0] == 2**20
        data = await content.readany()
        with pytest.warns(DeprecationWarning, match="unread_data"):
            content.unread_data(data)
        assert await content.readexactly(5) == b"first"


async def test_a_body_can_be_sent_on(session, server, breaker):
    received = asyncio.get_running_loop().create_future()

    async def keep(request):
        received.set_result(await request.read())
        return aiohttp.web.Response()

    app = aiohttp.web.Application()
    app.router.add_post("/", keep)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    async with session.get(server.url("/stream")) as response:
        server.go_on.set()
        target = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with session.post(target, data=response.content) as answer:
            assert answer.status == 200
    assert await received == b"first-last"
    await runner.cleanup()


async def test_a_total_timeout_in_the_body_is_a_failure(registry, server, breaker):
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with region_session(registry=registry, timeout=timeout) as session:
        with pytest.raises(TimeoutError):
            async with session.get(server.url("/slow-body")) as response:
                await response.read()
    assert outcomes(breaker) == (0, 1, 0, 0)


class LoopbackResolver(AbstractResolver):
    """Every host is one server."""

    def __init__(self, port):
        self._port = port

    async def resolve(self, host, *_, **__):
        found = {"hostname": host, "host": "127.0.0.1", "port": self._port, "proto": 0, "flags": 0}
        return [{**found, "family": socket.AF_INET}]

    async def close(self):
        pass


class HangingResolver(AbstractResolver):
    async def resolve(self, *_, **__):
        await asyncio.Event().wait()

    async def close(self):
        pass


async def test_a_total_timeout_while_connecting_is_a_failure(registry):
    timeout = aiohttp.ClientTimeout(total=0.1)
    connector = aiohttp.TCPConnector(resolver=HangingResolver())
    async with region_session(registry=registry, timeout=timeout, connector=connector) as session:
        with pytest.raises(TimeoutError):
            await session.get("http://api.example.com/")
        assert outcomes(registry.get("api.example.com")) == (0, 1, 0, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):  # of the caller, who gives up in the same place
                await session.get("http://api.example.com/", timeout=aiohttp.ClientTimeout())
        assert outcomes(registry.get("api.example.com")) == (0, 1, 0, 1)


async def test_a_total_timeout_in_a_full_pool_says_nothing(registry, server, breaker):
    connector = aiohttp.TCPConnector(limit=1)
    async with region_session(registry=registry, connector=connector) as session:
        held = await session.get(server.url("/stream"))
        with pytest.raises(TimeoutError):
            await session.get(server.url("/ok"), timeout=aiohttp.ClientTimeout(total=0.05))
        held.close()
    assert outcomes(breaker) == (0, 0, 1, 1)


async def test_a_request_of_another_kind_has_no_timer(registry):
    request = SimpleNamespace(url=URL("https://api.example.com/"))
    response = SimpleNamespace(status=503, content=SimpleNamespace(is_eof=lambda: False))

    async def answer(_):
        return response

    assert await RegionMiddleware(registry)(request, answer) is response
    assert outcomes(registry.get("api.example.com")) == (0, 1, 0, 0)


async def test_a_timeout_of_the_user_while_the_body_is_there_is_nobodys(session, server, breaker):
    with pytest.raises(TimeoutError, match="of something else"):
        async with session.get(server.url("/stream")):
            raise TimeoutError("of something else")
    assert outcomes(breaker) == (0, 0, 1, 0)


async def test_a_websocket_is_a_call_until_it_is_connected(session, server, breaker):
    async with session.ws_connect(server.url("/socket")) as socket:
        assert outcomes(breaker) == (1, 0, 0, 0)
        assert (await socket.receive_str()) == "hello"
    assert outcomes(breaker) == (1, 0, 0, 0)


@pytest.mark.skipif(
    "if resp is not None" not in inspect.getsource(aiohttp.ClientSession._request),
    reason="older versions keep the connection, and the response with it",
)
async def test_an_own_check_of_the_response_leaves_an_answer(registry, server, breaker):
    async def refuse(response):
        raise KeyError("of the check")

    async with region_session(registry=registry, raise_for_status=refuse) as session:
        with pytest.raises(KeyError):
            await session.get(server.url("/stream"))
    assert outcomes(breaker) == (0, 0, 1, 0)


async def test_a_proxy_is_not_the_region(session, server, registry):
    server.port.refuse()
    with pytest.raises(aiohttp.ClientError):
        await session.get("http://api.example.com/", proxy=server.url(""))
    assert outcomes(registry.get("api.example.com")) == (0, 1, 0, 0)
    server.port.open()
    async with session.get("http://api.example.com/ok", proxy=server.url("")) as response:
        assert await response.read() == b"ok"
    assert outcomes(registry.get("api.example.com")) == (1, 1, 0, 0)
    assert len(list(registry)) == 1


async def test_a_host_with_other_letters_is_the_region_that_is_sent(registry, server):
    resolver = LoopbackResolver(server.port.number)
    connector = aiohttp.TCPConnector(resolver=resolver)
    async with region_session(registry=registry, connector=connector) as session:
        for host in ("bücher.example", "BÜCHER.example", "xn--bcher-kva.example."):
            async with session.get(f"http://{host}/ok") as response:
                assert response.status == 200
    assert [breaker.region for breaker in registry] == ["xn--bcher-kva.example"]


async def test_raise_for_status_counts_once(registry, server, breaker):
    async with region_session(registry=registry, raise_for_status=True) as session:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(server.url("/status/503"))
    assert outcomes(breaker) == (0, 1, 0, 0)


async def test_the_second_attempt_of_aiohttp_is_a_call_too(session, server, breaker):
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.get(server.url("/drop"))
    assert server.requests["/drop"] == breaker.snapshot().failures == 2


async def test_what_another_middleware_repeats_is_rejected_too(registry, server, breaker):
    async def repeat(request, handler):
        for _ in range(9):
            response = await handler(request)
            if response.status != 503:
                break
        return response

    async with region_session(registry=registry, middlewares=[repeat]) as session:
        with pytest.raises(RequestRejectedError):
            await session.get(server.url("/status/503"))
    assert server.requests["/status/503"] == 3
    assert breaker.state is OPEN


async def test_a_request_that_a_probe_makes_of_its_region_is_part_of_it(
    registry, server, breaker, clock
):
    protection = RegionMiddleware(registry)

    async def log_in(request, handler):
        async with request.session.get(server.url("/ok"), middlewares=[protection]) as response:
            assert response.status == 200
        return await handler(request)

    for _ in range(3):
        breaker.acquire().fail()
    clock.advance(60)
    async with aiohttp.ClientSession(middlewares=[protection, log_in]) as session:
        async with session.get(server.url("/ok")) as response:
            assert response.status == 200
    assert server.requests["/ok"] == 2
    assert breaker.snapshot().probes == 1


async def test_a_full_pool_says_nothing_about_the_region(registry, server, breaker):
    connector = aiohttp.TCPConnector(limit=1)
    timeout = aiohttp.ClientTimeout(connect=0.05)
    async with region_session(registry=registry, connector=connector, timeout=timeout) as session:
        held = await session.get(server.url("/stream"))
        with pytest.raises(TimeoutError):
            await session.get(server.url("/ok"))
        held.close()
    assert outcomes(breaker) == (0, 0, 1, 1)


async def test_two_middlewares_follow_the_same_body(registry, server, breaker):
    other = CircuitBreakerRegistry()
    session = region_session(registry=registry, middlewares=[RegionMiddleware(other)])
    async with session, session.get(server.url("/stream")) as response:
        server.go_on.set()
        assert await response.read() == b"first-last"
    assert outcomes(breaker) == outcomes(other.get(server.region)) == (1, 0, 0, 0)


async def test_a_base_url_is_the_first_argument_as_always(registry):
    async with FakeGenesys(require_token=False) as genesys:
        async with region_session(genesys.url, registry=registry) as session:
            async with session.post("/oauth/token") as response:
                assert response.status == 401
        assert registry.get(f"127.0.0.1:{genesys.port}").snapshot().answered == 1


async def test_the_default_registry_is_the_default():
    assert RegionMiddleware()._protection._registry is default_registry


async def test_hosts_of_genesys_are_their_regions(registry):
    async def refuse(request, handler):
        raise aiohttp.ClientConnectionError

    async with region_session(registry=registry) as session:
        for url in ("https://api.mypurecloud.de/api/v2", "https://login.mypurecloud.de:443/"):
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(url, middlewares=[RegionMiddleware(registry), refuse])
    assert [breaker.region for breaker in registry] == ["eu-central-1"]
    assert registry.get("eu-central-1").snapshot().failures == 2


async def test_a_registry_that_is_not_a_keyword_is_an_error_that_says_so(registry):
    with pytest.raises(TypeError, match="region_session takes the registry by keyword: registry="):
        region_session(registry)
