"""The acceptance criteria, line by line: on real HTTP to a local Genesys, and on a mocked HTTP.

The clock of the first is a FakeClock. The second has the system's clock, frozen and moved.
"""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aioresponses import CallbackResult
from freezegun import freeze_time
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_none

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.testing import FakeClock, FakeGenesys

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
IRELAND, FRANKFURT = "eu-west-1", "eu-central-1"
ATTEMPTS = 2  # of the retries inside the breaker, for every call that fails


class Credentials:
    def __init__(self, region, tenant="one"):
        self.region, self.tenant = region, tenant


class RealHttp:
    """Two regions that answer on loopback."""

    def __init__(self, ireland, frankfurt):
        self.genesys = {IRELAND: ireland, FRANKFURT: frankfurt}
        self.clock = FakeClock()
        self.registry = CircuitBreakerRegistry(clock=self.clock)
        self.advance = self.clock.advance

    @classmethod
    @asynccontextmanager
    async def set_up(cls, _):
        async with FakeGenesys() as ireland, FakeGenesys() as frankfurt:
            yield cls(ireland, frankfurt)

    def answer(self, status, region=IRELAND):
        """Let a region answer with this status from now on."""
        if status == 200:
            self.genesys[region].up()
        else:
            self.genesys[region].fail(status)

    def requests(self, region=IRELAND):
        return self.genesys[region].requests

    def target(self, region):
        genesys = self.genesys[region]
        return genesys.message_url(), {"Authorization": f"Bearer {genesys.issue_token()}"}


class MockedHttp:
    """Two regions that answer without a network."""

    def __init__(self, mocked, frozen):
        self._frozen = frozen
        self.registry = CircuitBreakerRegistry()
        self.advance = frozen.tick
        self._statuses = {IRELAND: 200, FRANKFURT: 200}
        self._requests = {IRELAND: 0, FRANKFURT: 0}
        for region in self._statuses:
            mocked.post(self._url(region), callback=self._respond(region), repeat=True)

    @classmethod
    @asynccontextmanager
    async def set_up(cls, request):
        mocked = request.getfixturevalue("mocked_http")
        # pytest measures with the real clock, or its report of the slowest tests makes no sense.
        ignore = ["_pytest.timing"]
        with freeze_time("2026-11-23 12:00:00", real_asyncio=True, ignore=ignore) as frozen:
            yield cls(mocked, frozen)

    def answer(self, status, region=IRELAND):
        """Let a region answer with this status from now on."""
        self._statuses[region] = status

    def requests(self, region=IRELAND):
        return self._requests[region]

    def target(self, region):
        return self._url(region), {}

    def _url(self, region):
        return f"https://api.{region}.test/api/v2/conversations/messages/4e1/inbound/open/message"

    def _respond(self, region):
        async def respond(_, **__):
            self._requests[region] += 1
            await asyncio.sleep(0)  # others run while an answer is on its way
            status = self._statuses[region]
            return CallbackResult(status=status, payload={"id": "a1"}, reason="the test says so")

        return respond


@pytest.fixture(params=[RealHttp, MockedHttp])
async def world(request):
    async with request.param.set_up(request) as world:
        yield world


@pytest.fixture
async def session():
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as session:
        yield session


@pytest.fixture
def post(world, session):
    """Post one message, the way a worker does, and raise for an answer that is an error."""

    async def post_message(region, text, **options):
        sender = {"id": "+353123", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-11-23T12:00:00Z", "messageId": "m-1"}
        body = {"channel": channel, "text": text}
        url, headers = world.target(region)
        async with session.post(url, json=body, headers=headers, **options) as response:
            return await response.json()

    return post_message


@pytest.fixture
def send(world, post):
    @region_breaker(region_from="credentials.region", registry=world.registry)
    @retry(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_none(),
        retry=retry_if_exception_type(aiohttp.ClientResponseError),
        reraise=True,
    )
    async def send_inbound_message(credentials, text):
        return await post(credentials.region, text)

    return send_inbound_message


async def succeed(send, calls=1, region=IRELAND):
    for _ in range(calls):
        assert "id" in await send(Credentials(region), "hello")


async def fail(send, calls=1, region=IRELAND):
    for _ in range(calls):
        with pytest.raises(aiohttp.ClientResponseError):
            await send(Credentials(region), "hello")


async def be_rejected(send, region=IRELAND, tenant="one"):
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await send(Credentials(region, tenant), "hello")
    return caught.value


@pytest.fixture
async def opened(world, send):
    """The circuit of Ireland, which has just opened; the region is up again."""
    world.answer(503)
    await fail(send, calls=10)
    world.answer(200)
    return world.registry.get(IRELAND)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_after_10_consecutive_5xx_errors_circuit_opens(world, send, status):
    world.answer(status)
    breaker = world.registry.get(IRELAND)

    await fail(send, calls=9)
    assert breaker.state is CLOSED
    await fail(send)
    assert breaker.state is OPEN
    assert world.requests() == 10 * ATTEMPTS


async def test_while_open_no_http_calls_are_made_to_genesys_fast_fail(world, send, opened):
    before = world.requests()
    for _ in range(100):
        await be_rejected(send)
    calls = [send(Credentials(IRELAND), "hello") for _ in range(100)]
    rejections = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(rejection) for rejection in rejections} == {CircuitBreakerOpenError}
    world.advance(59.875)
    await be_rejected(send)
    assert world.requests() == before


async def test_after_60_seconds_circuit_enters_half_open(world, send, opened):
    before = world.requests()
    world.advance(59.875)
    assert opened.state is OPEN
    world.advance(0.125)
    assert opened.state is HALF_OPEN
    calls = [send(Credentials(IRELAND), "hello") for _ in range(100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert opened.state is HALF_OPEN
    assert sum(isinstance(result, CircuitBreakerOpenError) for result in results) == 99
    assert world.requests() == before + 1


async def test_three_consecutive_successes_close_the_circuit(world, send, opened):
    world.advance(60)
    states = []
    for _ in range(3):
        await succeed(send)
        states.append(opened.state)
    assert states == [HALF_OPEN, HALF_OPEN, CLOSED]
    before = world.requests()
    await asyncio.gather(*[send(Credentials(IRELAND), "hello") for _ in range(50)])
    assert world.requests() == before + 50


@pytest.mark.parametrize("successes_before", [0, 1, 2])
async def test_one_failure_in_half_open_reopens_the_circuit(world, send, opened, successes_before):
    world.advance(60)
    await succeed(send, calls=successes_before)
    assert opened.state is HALF_OPEN

    world.answer(503)
    await fail(send)
    assert opened.state is OPEN
    before = world.requests()
    world.advance(59.875)
    await be_rejected(send)
    assert world.requests() == before
    world.advance(0.125)
    assert opened.state is HALF_OPEN


async def test_each_genesys_region_has_its_own_circuit_breaker(world, send, opened):
    before = world.requests()
    await succeed(send, region=FRANKFURT)
    await be_rejected(send, tenant="another")
    assert opened.state is OPEN
    assert world.registry.get(FRANKFURT).state is CLOSED
    assert (world.requests(), world.requests(FRANKFURT)) == (before, 1)


async def test_circuit_state_change_is_logged_with_region_and_reason(world, send, log, opened):
    world.advance(60)
    await succeed(send, calls=3)

    region = "for region eu-west-1"
    assert [(record["level"].name, record["message"]) for record in log] == [
        ("ERROR", f"Circuit breaker OPEN {region} after 10 failures: ClientResponseError 503"),
        ("WARNING", f"Circuit breaker HALF_OPEN {region}: recovery timeout of 60 s elapsed"),
        ("INFO", f"Circuit breaker CLOSED {region} — recovered"),
    ]
    assert [(record["extra"]["region"], record["extra"]["reason"]) for record in log] == [
        ("eu-west-1", "ClientResponseError 503"),
        ("eu-west-1", "recovery timeout of 60 s elapsed"),
        ("eu-west-1", "3 consecutive successes"),
    ]


# What counts


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429])
async def test_4xx_errors_and_the_rate_limit_never_open_the_circuit(world, send, status):
    world.answer(status)
    await fail(send, calls=30)
    assert world.registry.get(IRELAND).state is CLOSED
    assert world.requests() == 30 * ATTEMPTS


async def test_a_success_between_failures_starts_the_count_again(world, send):
    for status in (503, 200, 503):
        world.answer(status)
        if status == 200:
            await succeed(send)
        else:
            await fail(send, calls=9)
    assert world.registry.get(IRELAND).state is CLOSED


async def test_a_call_that_a_retry_saved_is_a_success(world, post):
    @region_breaker(region_from="region", registry=world.registry)
    @retry(stop=stop_after_attempt(2), wait=wait_none())
    async def send(region):
        world.answer(503 if world.requests() % 2 == 0 else 200)
        return await post(region, "hello")

    for _ in range(20):
        assert "id" in await send(IRELAND)
    snapshot = world.registry.get(IRELAND).snapshot()
    assert (snapshot.failures, snapshot.successes) == (0, 20)
    assert world.requests() == 40


async def test_no_error_that_leaves_the_breaker_holds_a_tenants_token(send, opened, log):
    rejection = await be_rejected(send)
    shown = f"{rejection} {rejection!r} {vars(rejection)} {log}"
    assert "Bearer" not in shown
    assert rejection.__cause__ is None
    assert rejection.__context__ is None


# What only a real server does


TROUBLES = {  # seconds that a caller waits, and what the circuit gives as its reason
    "drop": (30, "ServerDisconnectedError"),
    "garbage": (30, "ClientResponseError 400"),
    "hang": (0.01, "TimeoutError"),
    "refuse": (30, "ClientConnectorError"),
}


@pytest.mark.parametrize("world", [RealHttp], indirect=True)
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_timeouts_and_connection_errors_open_the_circuit(world, post, trouble):
    patience, reason = TROUBLES[trouble]
    getattr(world.genesys[IRELAND], trouble)()

    @region_breaker(region_from="region", registry=world.registry)
    async def send(region):
        return await post(region, "hello", timeout=aiohttp.ClientTimeout(total=patience))

    for _ in range(10):
        assert world.registry.get(IRELAND).state is CLOSED
        with pytest.raises((aiohttp.ClientError, TimeoutError)):
            await send(IRELAND)
    assert world.registry.get(IRELAND).state is OPEN
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(IRELAND)
    assert rejected.value.reason == reason
