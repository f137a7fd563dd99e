"""T10's acceptance criteria, line by line, with real HTTP to a local Genesys."""

import asyncio
from dataclasses import dataclass

import aiohttp
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_none

from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.testing import FakeGenesys

ATTEMPTS = 2  # of the retries inside the breaker, for every call that fails


@dataclass
class Credentials:
    region: str
    genesys: FakeGenesys
    tenant: str = "one"


@pytest.fixture
async def ireland():
    async with FakeGenesys() as genesys:
        yield Credentials("eu-west-1", genesys)


@pytest.fixture
async def frankfurt():
    async with FakeGenesys() as genesys:
        yield Credentials("eu-central-1", genesys)


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)  # T10's numbers


@pytest.fixture
async def post():
    """Post one message, the way a worker does, and raise for an answer that is an error."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as session:

        async def post_message(credentials, text, **options):
            sender = {"id": "+353123", "idType": "Phone"}
            channel = {"from": sender, "time": "2026-11-23T12:00:00Z", "messageId": "m-1"}
            token = credentials.genesys.issue_token()
            async with session.post(
                credentials.genesys.message_url(),
                json={"channel": channel, "text": text},
                headers={"Authorization": f"Bearer {token}"},
                **options,
            ) as response:
                return await response.json()

        yield post_message


@pytest.fixture
def send(registry, post):
    @region_breaker(region_from="credentials.region", registry=registry)
    @retry(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_none(),
        retry=retry_if_exception_type(aiohttp.ClientResponseError),
        reraise=True,
    )
    async def send_inbound_message(credentials, text):
        return await post(credentials, text)

    return send_inbound_message


async def expect_failures(send, credentials, calls):
    for _ in range(calls):
        with pytest.raises(aiohttp.ClientResponseError):
            await send(credentials, "hello")


async def open_the_circuit(send, credentials):
    credentials.genesys.fail(503)
    await expect_failures(send, credentials, 10)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_after_10_consecutive_5xx_errors_circuit_opens(registry, send, ireland, status):
    ireland.genesys.fail(status)
    breaker = registry.get(ireland.region)

    await expect_failures(send, ireland, 9)
    assert breaker.state is CircuitState.CLOSED
    await expect_failures(send, ireland, 1)
    assert breaker.state is CircuitState.OPEN
    assert ireland.genesys.requests == 10 * ATTEMPTS


async def test_while_open_no_http_calls_are_made_to_genesys_fast_fail(send, ireland, clock):
    await open_the_circuit(send, ireland)
    ireland.genesys.reset_counts()
    ireland.genesys.up()

    for _ in range(100):
        with pytest.raises(CircuitBreakerOpenError):
            await send(ireland, "hello")
    rejections = await asyncio.gather(
        *[send(ireland, "hello") for _ in range(100)], return_exceptions=True
    )
    assert {type(rejection) for rejection in rejections} == {CircuitBreakerOpenError}
    clock.advance(59.9)
    with pytest.raises(CircuitBreakerOpenError):
        await send(ireland, "hello")
    assert ireland.genesys.requests == 0


async def test_after_60_seconds_circuit_enters_half_open(registry, send, ireland, clock):
    await open_the_circuit(send, ireland)
    breaker = registry.get(ireland.region)
    ireland.genesys.reset_counts()
    ireland.genesys.up()

    clock.advance(59.5)
    assert breaker.state is CircuitState.OPEN
    clock.advance(0.5)
    assert breaker.state is CircuitState.HALF_OPEN
    results = await asyncio.gather(
        *[send(ireland, "hello") for _ in range(100)], return_exceptions=True
    )
    assert breaker.state is CircuitState.HALF_OPEN
    assert sum(isinstance(result, CircuitBreakerOpenError) for result in results) == 99
    assert ireland.genesys.requests == 1


async def test_three_consecutive_successes_close_the_circuit(registry, send, ireland, clock):
    await open_the_circuit(send, ireland)
    breaker = registry.get(ireland.region)
    clock.advance(60)
    ireland.genesys.reset_counts()
    ireland.genesys.up()

    states = []
    for _ in range(3):
        await send(ireland, "hello")
        states.append(breaker.state)
    assert states == [CircuitState.HALF_OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED]
    await asyncio.gather(*[send(ireland, "hello") for _ in range(50)])
    assert len(ireland.genesys.messages) == 53


@pytest.mark.parametrize("successes_before", [0, 1, 2])
async def test_one_failure_in_half_open_reopens_the_circuit(
    registry, send, ireland, clock, successes_before
):
    await open_the_circuit(send, ireland)
    breaker = registry.get(ireland.region)
    clock.advance(60)
    ireland.genesys.up()
    for _ in range(successes_before):
        await send(ireland, "hello")
    assert breaker.state is CircuitState.HALF_OPEN

    ireland.genesys.fail(503)
    await expect_failures(send, ireland, 1)
    assert breaker.state is CircuitState.OPEN
    ireland.genesys.reset_counts()
    clock.advance(59.5)
    with pytest.raises(CircuitBreakerOpenError):
        await send(ireland, "hello")
    assert ireland.genesys.requests == 0
    clock.advance(0.5)
    assert breaker.state is CircuitState.HALF_OPEN


async def test_each_genesys_region_has_its_own_circuit_breaker(registry, send, ireland, frankfurt):
    await open_the_circuit(send, ireland)
    ireland.genesys.reset_counts()

    await send(frankfurt, "hello")
    with pytest.raises(CircuitBreakerOpenError):
        await send(Credentials(ireland.region, ireland.genesys, tenant="another"), "hello")
    assert registry.get(ireland.region).state is CircuitState.OPEN
    assert registry.get(frankfurt.region).state is CircuitState.CLOSED
    assert (ireland.genesys.requests, frankfurt.genesys.requests) == (0, 1)


async def test_circuit_state_change_is_logged_with_region_and_reason(send, ireland, clock, log):
    await open_the_circuit(send, ireland)
    clock.advance(60)
    ireland.genesys.up()
    for _ in range(3):
        await send(ireland, "hello")

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


# What T10 says beside its list about what counts.


@pytest.fixture
def send_once(registry, post):
    """Send without a retry, and give up when the caller says so."""

    @region_breaker(region_from="credentials.region", registry=registry)
    async def send_inbound_message(credentials, text, patience):
        return await post(credentials, text, timeout=aiohttp.ClientTimeout(total=patience))

    return send_inbound_message


TROUBLES = {  # how long a caller waits, in seconds, and what the circuit gives as its reason
    "drop": (30, "ServerDisconnectedError"),
    "garbage": (30, "ClientResponseError 400"),
    "hang": (0.01, "TimeoutError"),
    "refuse": (30, "ClientConnectorError"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_timeouts_and_connection_errors_open_the_circuit(
    registry, send_once, ireland, trouble
):
    patience, reason = TROUBLES[trouble]
    getattr(ireland.genesys, trouble)()
    breaker = registry.get(ireland.region)

    for _ in range(10):
        assert breaker.state is CircuitState.CLOSED
        with pytest.raises((aiohttp.ClientError, TimeoutError)):
            await send_once(ireland, "hello", patience)
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send_once(ireland, "hello", patience)
    assert rejected.value.reason == reason


@pytest.mark.parametrize("status", [400, 401, 404, 408])
async def test_4xx_errors_never_open_the_circuit(registry, send, ireland, status):
    ireland.genesys.fail(status)
    await expect_failures(send, ireland, 30)
    assert registry.get(ireland.region).state is CircuitState.CLOSED
    assert ireland.genesys.requests == 30 * ATTEMPTS


async def test_the_rate_limit_never_opens_the_circuit(registry, send, ireland):
    ireland.genesys.rate_limit()
    await expect_failures(send, ireland, 30)
    assert registry.get(ireland.region).state is CircuitState.CLOSED


async def test_no_error_that_leaves_the_breaker_holds_a_tenant_s_token(send, ireland, log):
    await open_the_circuit(send, ireland)
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(ireland, "hello")
    told = f"{rejected.value} {rejected.value!r} {vars(rejected.value)} {log}"
    assert "Bearer" not in told
    assert rejected.value.__cause__ is None
    assert rejected.value.__context__ is None
