"""The adapter for requests: retries inside of it, raw bodies, and what a session may do with it."""

import asyncio
import copy
import io
import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    default_registry,
    scope,
)
from resilience.integrations.requests import RegionAdapter, RequestRejectedError
from tests.support.odd_server import odd_server

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
TIMEOUT = 5


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)


@pytest.fixture
async def server():
    async with odd_server() as server:
        yield server


@pytest.fixture
def breaker(registry, server):
    return registry.get(server.region)


def session_with(registry, **options):
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", RegionAdapter(registry, **options))
    return session


async def get(session, url, **options):
    return await asyncio.to_thread(lambda: session.get(url, timeout=TIMEOUT, **options))


def outcomes(breaker):
    snapshot = breaker.snapshot()
    return snapshot.successes, snapshot.failures, snapshot.answered, snapshot.ignored


# Retries of urllib3


RETRIES = Retry(3, status_forcelist=[503], backoff_factor=0)


async def test_a_request_with_retries_is_one_call(registry, server, breaker):
    server.sequence = [503, 503]
    with session_with(registry, max_retries=RETRIES) as session:
        assert (await get(session, server.url("/sequence"))).status_code == 200
    assert server.requests["/sequence"] == 3
    assert outcomes(breaker) == (1, 0, 0, 0)


async def test_retries_that_are_used_up_are_one_failure(registry, server, breaker):
    with session_with(registry, max_retries=RETRIES) as session:
        with pytest.raises(requests.exceptions.RetryError):
            await get(session, server.url("/status/503"))
    assert server.requests["/status/503"] == 4
    assert outcomes(breaker) == (0, 1, 0, 0)
    assert breaker.snapshot().streak == 1


async def test_connections_that_are_refused_are_one_failure(registry, server, breaker):
    server.port.refuse()
    with session_with(registry, max_retries=2) as session:
        with pytest.raises(requests.ConnectionError):
            await get(session, server.url("/ok"))
    assert outcomes(breaker) == (0, 1, 0, 0)


async def test_a_probe_is_sent_once(registry, server, breaker, clock):
    with session_with(registry, max_retries=RETRIES) as session:
        for _ in range(3):
            breaker.acquire().fail()
        clock.advance(60)
        with pytest.raises(requests.exceptions.RetryError, match="503"):
            await get(session, server.url("/status/503"))
        assert server.requests["/status/503"] == 1
        assert breaker.state is OPEN
        clock.advance(60)
        server.port.refuse()
        with pytest.raises(requests.ConnectionError):
            await get(session, server.url("/ok"))
    assert breaker.state is OPEN


async def test_a_probe_whose_answer_may_be_returned_returns_it(registry, server, breaker, clock):
    retries = Retry(3, status_forcelist=[503], raise_on_status=False)
    for _ in range(3):
        breaker.acquire().fail()
    clock.advance(60)
    with session_with(registry, max_retries=retries) as session:
        assert (await get(session, server.url("/status/503"))).status_code == 503
    assert server.requests["/status/503"] == 1
    assert breaker.state is OPEN


async def test_no_retry_is_sent_after_the_circuit_has_opened(registry, server, breaker):
    class OpensTheCircuit(Retry):
        def increment(self, *args, **kwargs):
            breaker.force_open("maintenance")
            return super().increment(*args, **kwargs)

    retries = OpensTheCircuit(3, status_forcelist=[503])
    with session_with(registry, max_retries=retries) as session:
        with pytest.raises(requests.exceptions.RetryError):
            await get(session, server.url("/status/503"))
    assert server.requests["/status/503"] == 1


@pytest.mark.parametrize("path", ["/status/503", "/drop"])
async def test_a_retry_that_waits_is_woken_when_the_circuit_opens(registry, server, breaker, path):
    retries = Retry(3, status_forcelist=[503], backoff_factor=1000, backoff_max=1000)
    retries = retries.increment("GET", path, error=OSError())  # the first wait would be none
    with session_with(registry, max_retries=retries) as session:
        request = asyncio.create_task(get(session, server.url(path)))
        while breaker not in scope.sleepers:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.001)
        breaker.force_open("maintenance")
        with pytest.raises(RequestRejectedError) as caught:
            await request
    assert server.requests[path] == 1
    assert isinstance(caught.value, requests.RequestException)
    assert caught.value.__cause__ is not None
    assert breaker.snapshot().failures == 0


async def test_what_the_server_asks_for_is_waited_for(registry, server, breaker):
    retries = Retry(3, status_forcelist=[503])
    adapter = RegionAdapter(registry, max_retries=retries)
    answer = SimpleNamespace(headers={"Retry-After": "25"})
    slept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilience.scope.sleep_in_thread", lambda seconds, _: slept.append(seconds))
        with breaker.acquire():
            adapter.max_retries.sleep(answer)
            answer.headers = {}
            adapter.max_retries.sleep(answer)
            adapter.max_retries.sleep()
    adapter.max_retries.sleep()  # outside of every call, it waits for nobody
    assert slept == [25]


def test_a_retry_configuration_keeps_its_class():
    class Own(Retry):
        pass

    adapter = RegionAdapter(max_retries=Own(total=7, connect=2))
    assert isinstance(adapter.max_retries, Own)
    assert (adapter.max_retries.total, adapter.max_retries.connect) == (7, 2)
    assert RegionAdapter().max_retries.total == 0


# Raw bodies


async def raw(session, url):
    response = await get(session, url, stream=True)
    return response, response.raw


def takes_negative_amounts():
    """Whether this version of urllib3 does; without this package, too."""
    body = urllib3.HTTPResponse(io.BytesIO(b"body"), preload_content=False)
    try:
        return body.read(-1) == b"body"
    except RuntimeError:
        return False


async def test_the_raw_body_can_be_read_in_every_way(registry, server, breaker):
    server.go_on.set()
    readers = {
        "read": lambda body: body.read(),
        "amounts": lambda body: b"".join(iter(lambda: body.read(3), b"")),
        "read1": lambda body: b"".join(iter(lambda: body.read1(3), b"")),
        "stream": lambda body: b"".join(body.stream(3)),
        "lines": b"".join,
        "readline": lambda body: body.readline() + body.read(),
        "readlines": lambda body: b"".join(body.readlines()),
        "to the end": lambda body: body.read(-1),
        "data": lambda body: body.data,
        "buffered": lambda body: io.BufferedReader(body).read(10),
    }
    if not hasattr(urllib3.HTTPResponse, "read1"):  # not in every version
        del readers["read1"]
    if not takes_negative_amounts():
        del readers["to the end"]
    with session_with(registry) as session:
        for number, (name, read) in enumerate(readers.items(), 1):
            _, body = await raw(session, server.url("/stream"))
            assert body.readable()
            assert await asyncio.to_thread(read, body) == b"first-last", name
            assert outcomes(breaker) == (number, 0, 0, 0), name
            assert body.tell() == 10


async def test_a_chunked_body_can_be_read_by_its_chunks(registry, server, breaker):
    with session_with(registry) as session:
        _, body = await raw(session, server.url("/chunks"))
        assert body.headers["Transfer-Encoding"] == "chunked"
        assert await asyncio.to_thread(lambda: list(body.read_chunked())) == [b"one", b"two"]
        assert outcomes(breaker) == (1, 0, 0, 0)
        if takes_negative_amounts():
            _, body = await raw(session, server.url("/chunks"))
            assert await asyncio.to_thread(body.read, -1) == b"onetwo"
            assert outcomes(breaker) == (2, 0, 0, 0)


async def test_the_raw_body_can_be_read_as_json(registry, server, breaker):
    with session_with(registry) as session:
        _, body = await raw(session, server.url("/json"))
        assert await asyncio.to_thread(body.json) == {"id": 7}
    assert outcomes(breaker) == (1, 0, 0, 0)


@pytest.mark.skipif(not hasattr(urllib3.HTTPResponse, "read1"), reason="not in every version")
async def test_what_is_there_is_not_the_end(registry, server, breaker):
    with session_with(registry) as session:
        response, body = await raw(session, server.url("/stream"))
        assert await asyncio.to_thread(body.read1) == b"first"
        assert outcomes(breaker) == (0, 0, 0, 0)
        server.go_on.set()
        assert await asyncio.to_thread(body.read1) == b"-last"
        assert outcomes(breaker) == (1, 0, 0, 0)
        response, body = await raw(session, server.url("/cut"))
        assert b"".join([await asyncio.to_thread(body.read1) for _ in range(2)]) == b"half"
        response.close()
    assert outcomes(breaker) == (1, 0, 1, 0)  # urllib3 does not notice it this way


async def test_a_raw_body_that_is_cut_is_a_failure(registry, server, breaker):
    with session_with(registry) as session:
        _, body = await raw(session, server.url("/cut"))
        with pytest.raises(Exception, match="IncompleteRead"):
            await asyncio.to_thread(body.read)
    assert outcomes(breaker) == (0, 1, 0, 0)


async def test_a_raw_body_is_what_it_was_otherwise(registry, server):
    with session_with(registry) as session:
        response, body = await raw(session, server.url("/stream"))
        assert (body.status, body.reason) == (200, "OK")
        assert body.fileno() > 0
        assert not body.closed
        response.close()
        assert body.closed


async def test_reading_nothing_is_not_the_end(registry, server, breaker):
    with session_with(registry) as session:
        response, body = await raw(session, server.url("/stream"))
        assert await asyncio.to_thread(body.read, 0) == b""
        assert outcomes(breaker) == (0, 0, 0, 0)
        response.close()


# The call_timeout


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, "connect=None, read=None, total=5"),
        (3, "connect=3, read=3, total=5"),
        (60, "connect=60, read=60, total=5"),
        ((None, 60), "connect=None, read=60, total=5"),
        (urllib3.Timeout(60, connect=1, read=None), "connect=1, read=None, total=5"),
        (urllib3.Timeout(2, connect=1, read=9), "connect=1, read=9, total=2"),
    ],
    ids=str,
)
def test_no_timeout_is_longer_than_the_call_timeout(clock, given, sent):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=5), clock=clock)
    timeouts = []

    def send(_adapter, _request, _stream, timeout, *_args, **_kwargs):
        timeouts.append(str(timeout))
        return requests.Response()

    request = requests.Request("GET", "https://api.example.com/").prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", send)
        adapter = RegionAdapter(registry, result_classifier=lambda _: None)
        adapter.send(request, timeout=given)
        registry.configure(policy=BreakerPolicy(call_timeout=5, mode="observe"))
        adapter.send(request, timeout=given)
        registry.configure(policy=BreakerPolicy())
        adapter.send(request, timeout=given)
    assert timeouts == [f"Timeout({sent})", str(given), str(given)]


def test_a_wrong_timeout_is_explained_by_requests(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=5), clock=clock)
    with session_with(registry) as session, pytest.raises(ValueError, match="Invalid timeout"):
        session.get("http://127.0.0.1:9/", timeout=(1, 2, 3))


# Sessions


def test_the_default_registry_is_the_default():
    adapter = RegionAdapter()
    assert adapter._protection._registry is default_registry


async def test_one_adapter_serves_both_schemes_and_all_copies(registry, server):
    adapter = RegionAdapter(registry)
    assert copy.copy(adapter) is copy.deepcopy(adapter) is adapter
    with pytest.raises(TypeError, match="mount a new one in the other process"):
        pickle.dumps(adapter)
    assert isinstance(adapter, HTTPAdapter)


async def test_a_url_without_a_port_is_its_host_alone(registry, server):
    prepared = requests.Request("GET", "https://API.mypurecloud.ie/api/v2/users").prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", lambda *_, **__: requests.Response())
        for url in (
            prepared.url,
            "http://api.example.com:80/",
            "http://API.Example.com./",
            "https://[::1]:8443/",
        ):
            prepared.url = url
            RegionAdapter(registry, result_classifier=lambda _: None).send(prepared)
    regions = {breaker.region for breaker in registry}
    assert regions == {"eu-west-1", "api.example.com", "[::1]:8443"}


async def test_a_proxy_is_not_the_region(registry, server):
    with session_with(registry) as session:
        proxies = {"http": server.url("")}
        response = await get(session, "http://api.example.com/ok", proxies=proxies)
        assert response.text == "ok"
        server.port.refuse()
        with pytest.raises(requests.exceptions.ProxyError):
            await get(session, "http://api.example.com/ok", proxies=proxies)
    assert [breaker.region for breaker in registry] == ["api.example.com"]
    assert outcomes(registry.get("api.example.com")) == (1, 1, 0, 0)


async def test_a_url_that_cannot_be_sent_is_explained_by_the_library(registry):
    with session_with(registry) as session:
        for url in ("/relative", "http://", "http:///path", "http://host:port/", "ftp://host/"):
            with pytest.raises(requests.RequestException):
                session.get(url)
    assert not list(registry)


async def test_a_host_with_other_letters_is_the_region_that_is_sent(registry):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", lambda *_, **__: requests.Response())
        adapter = RegionAdapter(registry, result_classifier=lambda _: None)
        for host in ("bücher.example", "BÜCHER.example:80", "xn--bcher-kva.example."):
            adapter.send(requests.Request("GET", f"http://{host}/").prepare())
    assert [breaker.region for breaker in registry] == ["xn--bcher-kva.example"]


async def test_a_rejection_has_no_request_and_no_response(registry, server, breaker):
    breaker.force_open("maintenance")
    with session_with(registry) as session:
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await get(session, server.url("/ok"))
    assert caught.value.request is None
    assert caught.value.response is None
    assert caught.value.errno is None


async def test_a_pool_that_is_full_says_nothing_about_the_region(registry, server, breaker):
    adapter = RegionAdapter(registry, pool_connections=1, pool_maxsize=1, pool_block=True)
    find_pool = adapter.get_connection_with_tls_context

    def find_impatient_pool(*args, **kwargs):  # requests itself waits without end
        pool = find_pool(*args, **kwargs)
        pool.urlopen = partial(type(pool).urlopen, pool, pool_timeout=0.01)
        return pool

    adapter.get_connection_with_tls_context = find_impatient_pool
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    with session:
        held = await get(session, server.url("/stream"), stream=True)
        with pytest.raises(Exception, match="Pool is empty"):
            await get(session, server.url("/ok"))
        held.close()
    assert outcomes(breaker) == (0, 0, 1, 1)
