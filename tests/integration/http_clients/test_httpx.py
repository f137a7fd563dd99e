"""The transports for httpx and httpx2: other transports inside, and how they are closed."""

import asyncio
import re

import httpx
import httpx2
import pytest
import trio

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState, default_registry
from resilience.integrations import httpx as for_httpx
from resilience.integrations import httpx2 as for_httpx2
from tests.support.http_clients import closes_before_it_raises
from tests.support.odd_server import odd_server

OPEN = CircuitState.OPEN
BOTH = pytest.mark.parametrize(
    ("library", "integration"), [(httpx, for_httpx), (httpx2, for_httpx2)], ids=["httpx", "httpx2"]
)


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)


def outcomes(breaker):
    snapshot = breaker.snapshot()
    return snapshot.successes, snapshot.failures, snapshot.answered, snapshot.ignored


@BOTH
def test_a_response_that_is_there_already_is_counted_by_its_status(library, integration, registry):
    statuses = iter([200, 204, 301, 404, 503])
    inner = library.MockTransport(lambda _: library.Response(next(statuses), content=b"body"))
    with library.Client(transport=integration.RegionTransport(inner, registry)) as client:
        for _ in range(5):
            client.get("https://api.mypurecloud.ie/api/v2/users")
    assert outcomes(registry.get("eu-west-1")) == (3, 1, 1, 0)


@BOTH
async def test_the_same_in_async_code(library, integration, registry):
    inner = library.MockTransport(lambda _: library.Response(503))
    transport = integration.AsyncRegionTransport(inner, registry)
    async with library.AsyncClient(transport=transport) as client:
        for _ in range(3):
            assert (await client.get("https://api.example.com:8443/")).status_code == 503
        with pytest.raises(library.TransportError) as caught:
            await client.get("https://api.example.com:8443/")
    assert caught.value.region == "api.example.com:8443"
    assert caught.value.request.url == "https://api.example.com:8443/"


@BOTH
async def test_a_url_that_cannot_be_sent_is_explained_by_the_library(
    library, integration, registry
):
    with library.Client(transport=integration.RegionTransport(None, registry)) as client:
        with pytest.raises(library.UnsupportedProtocol):
            client.get("/relative")
    async with library.AsyncClient(
        transport=integration.AsyncRegionTransport(None, registry)
    ) as client:
        with pytest.raises(library.UnsupportedProtocol):
            await client.get("/relative")
    assert not list(registry)


class Closing:
    """Notes how a transport is used."""

    def __init__(self):
        self.told = []

    def handle_request(self, request):
        self.told.append("send")

    async def handle_async_request(self, request):
        self.told.append("send")

    def __enter__(self):
        self.told.append("enter")

    def __exit__(self, *_):
        self.told.append("exit")

    def close(self):
        self.told.append("close")

    async def __aenter__(self):
        self.told.append("enter")

    async def __aexit__(self, *_):
        self.told.append("exit")

    async def aclose(self):
        self.told.append("close")


@BOTH
async def test_the_other_transport_is_entered_and_closed(library, integration):
    inner = Closing()
    transport = integration.RegionTransport(inner)
    with library.Client(transport=transport):
        assert inner.told == ["enter"]
    transport.close()
    assert inner.told == ["enter", "exit", "close"]
    inner = Closing()
    transport = integration.AsyncRegionTransport(inner)
    async with library.AsyncClient(transport=transport):
        assert inner.told == ["enter"]
    await transport.aclose()
    assert inner.told == ["enter", "exit", "close"]


@BOTH
def test_the_default_registry_is_the_default(library, integration):
    for transport in (integration.RegionTransport(), integration.AsyncRegionTransport()):
        assert transport._protection._registry is default_registry


@BOTH
async def test_a_full_pool_says_nothing_about_the_region(library, integration, registry):
    limits = library.Limits(max_connections=1)
    timeout = library.Timeout(5, pool=0.05)
    inner = library.AsyncHTTPTransport(limits=limits)
    transport = integration.AsyncRegionTransport(inner, registry)
    async with (
        odd_server() as server,
        library.AsyncClient(transport=transport, timeout=timeout) as client,
    ):
        async with client.stream("GET", server.url("/stream")):
            with pytest.raises(library.PoolTimeout):
                await client.get(server.url("/ok"))
        assert outcomes(registry.get(server.region)) == (0, 0, 1, 1)


@BOTH
async def test_a_reader_that_stops_leaves_its_answer(library, integration, registry):
    transport = integration.AsyncRegionTransport(None, registry)
    async with odd_server() as server, library.AsyncClient(transport=transport) as client:
        async with client.stream("GET", server.url("/stream")) as response:
            async for _ in response.aiter_bytes():
                break
        assert outcomes(registry.get(server.region)) == (0, 0, 1, 0)


@BOTH
def test_trio_and_anyio_can_use_it_too(library, integration, registry):

    async def main():
        inner = library.MockTransport(lambda _: library.Response(200))
        transport = integration.AsyncRegionTransport(inner, registry)
        async with library.AsyncClient(transport=transport) as client:
            await client.get("https://api.example.com/")

    trio.run(main)
    assert outcomes(registry.get("api.example.com")) == (1, 0, 0, 0)


@BOTH
def test_what_cannot_send_requests_is_refused_when_the_transport_is_made(
    library, integration, registry
):
    for make, method, wrong in (
        (integration.RegionTransport, "handle_request", registry),
        (integration.RegionTransport, "handle_request", library.AsyncHTTPTransport()),
        (integration.AsyncRegionTransport, "handle_async_request", registry),
        (integration.AsyncRegionTransport, "handle_async_request", library.HTTPTransport()),
    ):
        expected = f"transport must have the method {method}(), got {type(wrong).__name__}"
        with pytest.raises(TypeError, match=re.escape(expected)):
            make(wrong)
    with pytest.raises(TypeError, match="got the class HTTPTransport"):
        integration.RegionTransport(library.HTTPTransport)


# What the library does with a response


@BOTH
async def test_a_hook_that_raises_leaves_an_answer(library, integration, registry):
    def raise_for_status(response):
        response.raise_for_status()
        raise KeyError("of the hook")

    async def raise_in_async(response):
        raise_for_status(response)

    async with odd_server() as server:
        breaker = registry.get(server.region)
        transport = integration.RegionTransport(None, registry)
        hooks = {"response": [raise_for_status]}
        with library.Client(transport=transport, event_hooks=hooks) as client:
            for path, error in (("/stream", KeyError), ("/status/503", library.HTTPStatusError)):
                with pytest.raises(error):
                    await asyncio.to_thread(client.get, server.url(path))
        assert outcomes(breaker) == (0, 1, 1, 0)
        transport = integration.AsyncRegionTransport(None, registry)
        hooks = {"response": [raise_in_async]}
        async with library.AsyncClient(transport=transport, event_hooks=hooks) as client:
            with pytest.raises(KeyError):
                await client.get(server.url("/stream"))
        assert outcomes(breaker) == (0, 1, 2, 0)


@BOTH
def test_a_hook_that_raises_before_the_request_is_no_call(library, integration, registry):
    def refuse(request):
        raise KeyError("of the hook")

    transport = integration.RegionTransport(None, registry)
    with library.Client(transport=transport, event_hooks={"request": [refuse]}) as client:
        with pytest.raises(KeyError):
            client.get("https://api.example.com/")
    assert not list(registry)


@BOTH
async def test_only_what_the_decoder_says_about_this_body_counts(library, integration, registry):
    transport = integration.AsyncRegionTransport(None, registry)
    async with odd_server() as server, library.AsyncClient(transport=transport) as client:
        elsewhere = library.DecodingError("of another", request=library.Request("GET", "http://a"))
        for error in (elsewhere, library.ReadTimeout("of another"), KeyError("of the reader")):
            with pytest.raises(type(error)):
                async with client.stream("GET", server.url("/stream")):
                    raise error
        assert outcomes(registry.get(server.region)) == (0, 0, 3, 0)
        with pytest.raises(library.DecodingError):
            async with client.stream("GET", server.url("/broken-gzip")) as response:
                async for _ in response.aiter_bytes():
                    pass
        failures = 0 if closes_before_it_raises(library) else 1
        assert outcomes(registry.get(server.region)) == (0, failures, 4 - failures, 0)


@BOTH
def test_a_host_with_other_letters_is_the_region_that_is_sent(library, integration, registry):
    inner = library.MockTransport(lambda _: library.Response(200))
    with library.Client(transport=integration.RegionTransport(inner, registry)) as client:
        for host in ("bücher.example", "API.BÜCHER.example:443", "xn--bcher-kva.example."):
            client.get(f"https://{host}/")
    regions = {breaker.region for breaker in registry}
    assert regions == {"xn--bcher-kva.example", "api.xn--bcher-kva.example"}


@BOTH
def test_a_proxy_is_not_the_region(library, integration, registry):
    transport = integration.RegionTransport(
        library.HTTPTransport(proxy="http://127.0.0.1:9"), registry
    )
    with library.Client(transport=transport) as client:
        with pytest.raises(library.TransportError):
            client.get("http://api.example.com/")
    assert outcomes(registry.get("api.example.com")) == (0, 1, 0, 0)


# The call_timeout in sync code, where nothing can end a call


@BOTH
def test_no_timeout_of_the_client_is_longer(library, integration, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=5), clock=clock)
    seen = []

    def answer(request):
        seen.append(request.extensions["timeout"])
        headers = {"location": "https://api.example.com/"} if len(seen) == 1 else {}
        return library.Response(302 if headers else 200, headers=headers)

    transport = integration.RegionTransport(library.MockTransport(answer), registry)
    timeout = library.Timeout(10, read=None, pool=1)
    options = {"transport": transport, "timeout": timeout, "follow_redirects": True}
    with library.Client(**options) as client:
        response = client.get("https://api.example.com/")
    assert seen == [{"connect": 5, "read": 5, "write": 5, "pool": 1}] * 2
    assert response.request.extensions["timeout"] == timeout.as_dict()
    registry.configure(policy=BreakerPolicy(call_timeout=5, mode="observe"))
    with library.Client(**options) as client:
        client.get("https://api.example.com/")
    assert seen[2:] == [timeout.as_dict()]


@BOTH
def test_a_request_without_timeouts_gets_them(library, integration, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=5), clock=clock)
    seen = []

    def answer(request):
        seen.append(request.extensions["timeout"])
        raise library.ReadTimeout("of the client")

    transport = integration.RegionTransport(library.MockTransport(answer), registry)
    request = library.Request("GET", "https://api.example.com/")
    with pytest.raises(library.ReadTimeout):
        transport.handle_request(request)
    assert seen == [dict.fromkeys(("connect", "read", "write", "pool"), 5)]
    assert "timeout" not in request.extensions


@BOTH
def test_outside_of_asyncio_there_is_no_call_timeout(library, integration):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=5))

    class Pieces(library.AsyncByteStream):
        async def __aiter__(self):
            yield b"ok"

    async def main():
        inner = library.MockTransport(lambda _: library.Response(200, stream=Pieces()))
        transport = integration.AsyncRegionTransport(inner, registry)
        async with library.AsyncClient(transport=transport) as client:
            assert (await client.get("https://api.example.com/")).content == b"ok"

    trio.run(main)
    assert outcomes(registry.get("api.example.com")) == (1, 0, 0, 0)
