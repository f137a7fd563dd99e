"""T10's acceptance criteria, line by line, with a pretended HTTP and a clock that is moved."""

from types import SimpleNamespace

import aiohttp
import pytest
from freezegun import freeze_time
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_none

from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)

ATTEMPTS = 2  # of the retries inside the breaker, for every call that fails
IRELAND = SimpleNamespace(region="mypurecloud.ie")
FRANKFURT = SimpleNamespace(region="mypurecloud.de")


def inbound_url(credentials):
    return (
        f"https://api.{credentials.region}/api/v2/conversations/messages/"
        "4e1e0a5c/inbound/open/message"
    )


class Genesys:
    """Answers for both regions, and a count of the requests that were made."""

    def __init__(self, mocked_http):
        self._mocked = mocked_http

    def answers(self, *statuses, credentials=IRELAND):
        for status in statuses:
            self._mocked.post(
                inbound_url(credentials),
                status=status,
                reason="as the test says",
                payload={"id": "a1"},
            )

    def fails(self, calls, *, status=503, credentials=IRELAND):
        """Let so many calls fail, with every attempt that their retries make."""
        self.answers(*[status] * calls * ATTEMPTS, credentials=credentials)

    @property
    def requests(self):
        return sum(len(calls) for calls in self._mocked.requests.values())


@pytest.fixture
def genesys(mocked_http):
    return Genesys(mocked_http)


@pytest.fixture
def frozen():
    # pytest measures with the real clock, or its report of the slowest tests makes no sense
    stop = freeze_time("2026-11-23 12:00:00", real_asyncio=True, ignore=["_pytest.timing"])
    with stop as time:
        yield time


@pytest.fixture
def registry(frozen):
    return CircuitBreakerRegistry()  # T10's numbers and the system's clock


@pytest.fixture
async def send(registry):
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        @region_breaker(region_from="credentials.region", registry=registry)
        @retry(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_none(),
            retry=retry_if_exception_type(aiohttp.ClientResponseError),
            reraise=True,
        )
        async def send_inbound_message(credentials, text):
            async with session.post(inbound_url(credentials), json={"text": text}) as response:
                return await response.json()

        yield send_inbound_message


async def expect_failures(send, calls, credentials=IRELAND):
    for _ in range(calls):
        with pytest.raises(aiohttp.ClientResponseError):
            await send(credentials, "hello")


async def open_the_circuit(send, genesys, credentials=IRELAND):
    genesys.fails(10, credentials=credentials)
    await expect_failures(send, 10, credentials)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_after_10_consecutive_5xx_errors_circuit_opens(genesys, registry, send, status):
    genesys.fails(10, status=status)
    breaker = registry.get(IRELAND.region)

    await expect_failures(send, 9)
    assert breaker.state is CircuitState.CLOSED
    await expect_failures(send, 1)
    assert breaker.state is CircuitState.OPEN
    assert genesys.requests == 10 * ATTEMPTS


async def test_while_open_no_http_calls_are_made_to_genesys_fast_fail(genesys, frozen, send):
    await open_the_circuit(send, genesys)
    before = genesys.requests
    genesys.answers(200)

    for _ in range(100):
        with pytest.raises(CircuitBreakerOpenError):
            await send(IRELAND, "hello")
    frozen.tick(59.999)
    with pytest.raises(CircuitBreakerOpenError):
        await send(IRELAND, "hello")
    assert genesys.requests == before


async def test_after_60_seconds_circuit_enters_half_open(genesys, frozen, registry, send):
    await open_the_circuit(send, genesys)
    breaker = registry.get(IRELAND.region)
    before = genesys.requests

    frozen.tick(59.999)
    assert breaker.state is CircuitState.OPEN
    frozen.tick(0.001)
    assert breaker.state is CircuitState.HALF_OPEN
    genesys.answers(200)
    assert await send(IRELAND, "hello") == {"id": "a1"}
    assert breaker.state is CircuitState.HALF_OPEN
    assert genesys.requests == before + 1


async def test_three_consecutive_successes_close_the_circuit(genesys, frozen, registry, send):
    await open_the_circuit(send, genesys)
    breaker = registry.get(IRELAND.region)
    frozen.tick(60)
    genesys.answers(200, 200, 200)

    states = []
    for _ in range(3):
        await send(IRELAND, "hello")
        states.append(breaker.state)
    assert states == [CircuitState.HALF_OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED]


@pytest.mark.parametrize("successes_before", [0, 1, 2])
async def test_one_failure_in_half_open_reopens_the_circuit(
    genesys, frozen, registry, send, successes_before
):
    await open_the_circuit(send, genesys)
    breaker = registry.get(IRELAND.region)
    frozen.tick(60)
    genesys.answers(*[200] * successes_before)
    for _ in range(successes_before):
        await send(IRELAND, "hello")
    assert breaker.state is CircuitState.HALF_OPEN

    genesys.fails(1)
    await expect_failures(send, 1)
    assert breaker.state is CircuitState.OPEN
    frozen.tick(59.999)
    assert breaker.state is CircuitState.OPEN
    frozen.tick(0.001)
    assert breaker.state is CircuitState.HALF_OPEN


async def test_each_genesys_region_has_its_own_circuit_breaker(genesys, registry, send):
    await open_the_circuit(send, genesys, IRELAND)
    genesys.answers(200, credentials=FRANKFURT)

    assert await send(FRANKFURT, "hello") == {"id": "a1"}
    with pytest.raises(CircuitBreakerOpenError):
        await send(SimpleNamespace(region=IRELAND.region, tenant="another"), "hello")
    assert registry.get(IRELAND.region).state is CircuitState.OPEN
    assert registry.get(FRANKFURT.region).state is CircuitState.CLOSED


async def test_circuit_state_change_is_logged_with_region_and_reason(genesys, frozen, send, log):
    await open_the_circuit(send, genesys)
    frozen.tick(60)
    genesys.answers(200, 200, 200)
    for _ in range(3):
        await send(IRELAND, "hello")

    region = "for region mypurecloud.ie"
    assert [(record["level"].name, record["message"]) for record in log] == [
        ("ERROR", f"Circuit breaker OPEN {region} after 10 failures: ClientResponseError 503"),
        ("WARNING", f"Circuit breaker HALF_OPEN {region}: recovery timeout of 60 s elapsed"),
        ("INFO", f"Circuit breaker CLOSED {region} — recovered"),
    ]
    assert [(r["extra"]["region"], r["extra"]["reason"]) for r in log] == [
        ("mypurecloud.ie", "ClientResponseError 503"),
        ("mypurecloud.ie", "recovery timeout of 60 s elapsed"),
        ("mypurecloud.ie", "3 consecutive successes"),
    ]


# What T10 says beside its list about what counts.


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429])
async def test_4xx_errors_and_the_rate_limit_never_open_the_circuit(
    genesys, registry, send, status
):
    genesys.fails(30, status=status)
    await expect_failures(send, 30)
    assert registry.get(IRELAND.region).state is CircuitState.CLOSED


async def test_a_success_between_failures_starts_the_count_again(genesys, registry, send):
    genesys.fails(9)
    genesys.answers(200)
    genesys.fails(9)

    await expect_failures(send, 9)
    await send(IRELAND, "hello")
    await expect_failures(send, 9)
    assert registry.get(IRELAND.region).state is CircuitState.CLOSED


async def test_a_call_that_a_retry_saved_is_a_success(genesys, registry, send):
    for _ in range(20):
        genesys.answers(503, 200)
        await send(IRELAND, "hello")
    assert registry.get(IRELAND.region).snapshot().failures == 0
    assert genesys.requests == 40
