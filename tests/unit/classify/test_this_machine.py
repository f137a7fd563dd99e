"""Trouble of this machine and of this program, whichever client wraps it."""

import asyncio
import errno
import os
import socket

import aiohttp
import httpcore
import httpx
import pytest
import redis
from aiohttp import web
from urllib3.exceptions import EmptyPoolError, MaxRetryError, NewConnectionError

from resilience import CircuitBreakerRegistry, classify_error, region_breaker
from tests.support.classifying import FAILURE, IGNORED, KEY, POOL, caused, error_of, type_of

EXHAUSTED = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]


def os_error(number):
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", EXHAUSTED, ids=errno.errorcode.get)
class TestALackOf:
    def test_alone(self, number):
        assert classify_error(os_error(number)) is IGNORED

    def test_inside_the_wrappers_of_clients(self, number):
        own = os_error(number)
        core = caused(httpcore.ConnectError(str(own)), own)
        wrappers = [
            aiohttp.ClientConnectorError(KEY, own),
            caused(httpx.ConnectError(str(core)), core),
            caused(NewConnectionError(POOL, "failed"), own),
            MaxRetryError(POOL, "/", caused(NewConnectionError(POOL, "failed"), own)),
            error_of("pymysql.err.OperationalError", 2003, "failed", original_exception=own),
            error_of("azure.core.exceptions.ServiceRequestError", inner_exception=own),
            error_of("botocore.exceptions.ConnectionError", kwargs={"error": own}),
            error_of("cassandra.cluster.NoHostAvailable", "none", errors={"host": own}),
            error_of("elastic_transport.ConnectionError", "failed", errors=(own,)),
            caused(
                error_of("openai.APIConnectionError", "failed"), caused(httpx.ConnectError(""), own)
            ),
        ]
        assert [classify_error(error) for error in wrappers] == [IGNORED] * len(wrappers)

    def test_in_the_text_of_an_error_that_has_nothing_else(self, number):
        text = os.strerror(number)
        errors = [
            redis.ConnectionError(f"Error {number} connecting to localhost:6379. {text}."),
            error_of("pika.exceptions.AMQPConnectionError", f"OSError({number}, {text!r})"),
            error_of("primp.ConnectError", f"tcp connect error > {text} (os error {number})"),
            error_of("pymongo.errors.ConnectionFailure", f"localhost: [Errno {number}] {text}"),
            error_of("nats.errors.NoServersError", f"errno: {number}"),
        ]
        assert [classify_error(error) for error in errors] == [IGNORED] * len(errors)

    def test_in_the_text_of_what_the_program_itself_raises_says_nothing(self, number):
        assert classify_error(RuntimeError(os.strerror(number))) is IGNORED
        assert classify_error(caused(RuntimeError(os.strerror(number)), TimeoutError())) is FAILURE


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
NO_ADDRESS = os_error(errno.EADDRNOTAVAIL)


@pytest.mark.parametrize(
    ("tried", "outcome"),
    [
        ([NO_ADDRESS], IGNORED),
        ([NO_ADDRESS, os_error(errno.EADDRNOTAVAIL)], IGNORED),
        ([NO_ADDRESS, REFUSED], FAILURE),
        ([REFUSED, NO_ADDRESS], FAILURE),
        ([NO_ADDRESS, TimeoutError()], FAILURE),
        ([REFUSED, os_error(errno.EMFILE)], IGNORED),
    ],
    ids=repr,
)
def test_an_address_that_cannot_be_used_counts_if_all_are_so(tried, outcome):
    group = ExceptionGroup("multiple connection attempts failed", tried)
    assert classify_error(caused(httpx.ConnectError("all failed"), group)) is outcome
    assert classify_error(caused(aiohttp.ClientConnectionError("all failed"), group)) is outcome


def joined(*errors):
    """What asyncio raises where a name has several addresses."""
    return OSError("Multiple exceptions: " + ", ".join(str(error) for error in errors))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (joined(REFUSED, REFUSED), FAILURE),
        (joined(REFUSED, NO_ADDRESS), FAILURE),
        (joined(os_error(errno.EHOSTUNREACH), NO_ADDRESS), FAILURE),
        (joined(NO_ADDRESS, NO_ADDRESS), IGNORED),
        (joined(REFUSED, os_error(errno.EMFILE)), IGNORED),
        (joined(FileNotFoundError(errno.ENOENT, "No such file")), IGNORED),
        (OSError("Multiple exceptions"), IGNORED),
    ],
    ids=str,
)
def test_the_errors_of_several_addresses_may_be_joined_in_a_text(error, outcome):
    assert classify_error(error) is outcome


def test_a_number_in_the_text_of_an_error_that_is_known_otherwise_does_not_count():
    class MyOsError(OSError):
        pass

    assert classify_error(MyOsError("[Errno 111] of something")) is IGNORED


def test_a_proxy_that_wants_credentials_of_this_side_is_not_the_region():
    reason = OSError("Tunnel connection failed: 407 Proxy Authentication Required")
    error = MaxRetryError(
        POOL, "/", caused(error_of("urllib3.exceptions.ProxyError", "no"), reason)
    )
    assert classify_error(error) is IGNORED
    assert classify_error(httpx.ProxyError("407 Proxy Authentication Required")) is IGNORED
    assert classify_error(httpx.ProxyError("502 Bad Gateway")) is FAILURE


# No free connection in the pool of a client


@pytest.mark.parametrize(
    "error",
    [
        httpx.PoolTimeout("slow"),
        httpcore.PoolTimeout("slow"),
        EmptyPoolError(POOL, "Pool is empty."),
        MaxRetryError(POOL, "/", EmptyPoolError(POOL, "Pool is empty.")),
        redis.exceptions.MaxConnectionsError("Too many connections"),
        redis.ConnectionError("No connection available."),
        caused(error_of("openai.APITimeoutError"), httpx.PoolTimeout("slow")),
        caused(
            type_of("openai.APITimeoutError", type_of("openai.APIConnectionError"))(),
            httpx.PoolTimeout(""),
        ),
        error_of("sqlalchemy.exc.TimeoutError", "QueuePool limit of size 5 overflow 10 reached"),
        error_of("psycopg_pool.PoolTimeout", "couldn't get a connection after 30.00 sec"),
        error_of(
            "tornado.httpclient.HTTPClientError", code=599, message="Timeout in request queue"
        ),
    ],
    ids=repr,
)
def test_a_pool_without_a_free_connection_is_ignored(error):
    assert classify_error(error) is IGNORED


async def wait_for(awaitable):
    await asyncio.wait_for(awaitable, 0.02)


async def in_a_block(awaitable):
    async with asyncio.timeout(0.02):
        await awaitable


async def by_itself(awaitable):
    await awaitable


AIOHTTP = {
    "connect": (aiohttp.ClientTimeout(connect=0.02), by_itself),
    "total": (aiohttp.ClientTimeout(total=0.02), by_itself),
    "wait_for": (aiohttp.ClientTimeout(), wait_for),
    "asyncio.timeout": (aiohttp.ClientTimeout(), in_a_block),
}
HTTPX = {
    "pool": (httpx.Timeout(None, pool=0.02), by_itself),
    "wait_for": (httpx.Timeout(None), wait_for),
    "asyncio.timeout": (httpx.Timeout(None), in_a_block),
}


@pytest.fixture
async def regions():
    """Two regions behind real servers: one hangs, the other is healthy."""

    async def hang(request):
        await asyncio.sleep(3600)

    async def answer(request):
        return web.Response()

    app = web.Application()
    app.router.add_get("/hangs", hang)
    app.router.add_get("/healthy", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"
    await runner.cleanup()


async def failures_of(get, url, limit):
    """Let the region that hangs fill the pool; then call the healthy one, and it again."""
    registry = CircuitBreakerRegistry()

    @region_breaker(region_from="region", registry=registry)
    async def call(region, limited):
        await limited(get(url + region))

    filling = [asyncio.create_task(call("hangs", by_itself)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for _ in range(2):
        with pytest.raises((TimeoutError, httpx.PoolTimeout)):
            await call("healthy", limit)
    for task in filling:
        task.cancel()
    await asyncio.gather(*filling, return_exceptions=True)
    with pytest.raises(TimeoutError):
        await call("hangs", in_a_block)
    return {snapshot.region: snapshot.failures for snapshot in registry.snapshots()}


@pytest.mark.parametrize("limit", AIOHTTP)
async def test_a_region_that_fills_the_pool_of_aiohttp_leaves_the_others_alone(limit, regions):
    timeout, wrap = AIOHTTP[limit]
    connector = aiohttp.TCPConnector(limit=2)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get(url):
            forever = aiohttp.ClientTimeout(total=None)
            limit = timeout if url.endswith("healthy") else forever
            async with session.get(url, timeout=limit):
                pass

        assert await failures_of(get, regions, wrap) == {"hangs": 1, "healthy": 0}


@pytest.mark.parametrize("limit", HTTPX)
async def test_a_region_that_fills_the_pool_of_httpx_leaves_the_others_alone(limit, regions):
    timeout, wrap = HTTPX[limit]
    limits = httpx.Limits(max_connections=2)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def get(url):
            await client.get(url, timeout=timeout if url.endswith("healthy") else None)

        assert await failures_of(get, regions, wrap) == {"hangs": 1, "healthy": 0}


POOL_OF_ASYNCPG = """
import asyncio

async def _acquire_impl(queue, connect):
    connection = await queue.get()
    await connect(connection)
"""


@pytest.mark.parametrize(("is_full", "outcome"), [(True, IGNORED), (False, FAILURE)])
async def test_a_pool_that_also_connects_is_ignored_only_while_it_waits(is_full, outcome):
    module = {"__name__": "asyncpg.pool"}
    exec(POOL_OF_ASYNCPG, module)
    queue = asyncio.Queue()
    if not is_full:
        queue.put_nowait("a place")
    hang = module["_acquire_impl"](queue, lambda _: asyncio.sleep(3600))
    with pytest.raises(TimeoutError) as caught:
        await wait_for(hang)
    assert classify_error(caught.value) is outcome


# A mistake of the caller, in the connection error of an SDK


def test_a_request_that_was_never_sent_is_ignored_whatever_wraps_it():
    bad = httpx.UnsupportedProtocol("Request URL has an unsupported protocol 'nonsense://'.")
    assert classify_error(caused(error_of("openai.APIConnectionError", "failed"), bad)) is IGNORED
    cut = httpx.RemoteProtocolError("Server disconnected")
    assert classify_error(caused(error_of("openai.APIConnectionError", "failed"), cut)) is FAILURE


# A session that is closed already


async def test_a_closed_session_is_ignored():
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(RuntimeError) as caught:
        await session.get("http://127.0.0.1:9/")
    assert classify_error(caught.value) is IGNORED
    client = httpx.AsyncClient()
    await client.aclose()
    with pytest.raises(RuntimeError) as caught:
        await client.get("http://127.0.0.1:9/")
    assert classify_error(caught.value) is IGNORED


async def test_a_closed_connector_is_ignored():
    connector = aiohttp.TCPConnector()
    await connector.close()
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises((RuntimeError, aiohttp.ClientConnectionError)) as caught:
            await session.get("http://127.0.0.1:9/")
    assert classify_error(caught.value) is IGNORED


# The look-up of a name


def not_found(number):
    return socket.gaierror(number, "the look-up failed")


LOOK_UPS = [
    *((number, FAILURE) for number in (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_NONAME)),
    *((number, IGNORED) for number in (socket.EAI_BADFLAGS, socket.EAI_FAMILY)),
    *((number, IGNORED) for number in (socket.EAI_SERVICE, socket.EAI_SOCKTYPE)),
    (socket.EAI_MEMORY, IGNORED),
]


@pytest.mark.parametrize(("number", "outcome"), LOOK_UPS)
def test_a_look_up_that_no_server_could_answer_is_ignored(number, outcome):
    error = not_found(number)
    assert classify_error(error) is outcome
    assert classify_error(aiohttp.ClientConnectorDNSError(KEY, error)) is outcome
    assert classify_error(caused(httpx.ConnectError(str(error)), error)) is outcome


def test_a_port_of_a_name_that_does_not_exist_is_ignored():
    with pytest.raises(socket.gaierror) as caught:
        socket.create_connection(("127.0.0.1", "no-such-service"))
    assert classify_error(caught.value) is IGNORED
