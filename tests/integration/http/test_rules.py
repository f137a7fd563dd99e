"""The opt-in rules of a policy against a region on real HTTP that is half broken, or slow.

The failures are drawn with a seed, and what is counted are calls and requests. A clock that the
test moves stands for the traffic: one call a second.
"""

import asyncio
import random

import aiohttp
import pytest
from tenacity import wait_none

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
)
from resilience.retry import transient_retry
from resilience.testing import FakeGenesys

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
MESSAGE = {
    "channel": {
        "from": {"id": "+15551234", "idType": "Phone"},
        "time": "2026-11-23T10:00:00.000Z",
        "messageId": "1",
    },
    "text": "Hello",
}
RATE = {"failure_rate_threshold": 0.4, "minimum_calls": 20, "window": 60}
SEEDS = [1, 2, 3]


@pytest.fixture
async def genesys():
    async with FakeGenesys(require_token=False) as server:
        yield server


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        yield session


async def calls_until_open(breaker, call, clock, *, most):
    """Make calls, one a second, and return how many the circuit admitted before it opened."""
    for count in range(most):
        try:
            await call()
        except aiohttp.ClientResponseError:
            pass
        except CircuitBreakerOpenError:
            return count
        clock.advance(1)
    return None


@pytest.mark.parametrize("seed", SEEDS)
async def test_half_of_the_answers_are_errors(genesys, session, clock, seed):
    genesys.flaky(0.5, seed)
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(**RATE), clock=clock)

    @breaker
    async def send():
        async with session.post(genesys.message_url(), json=MESSAGE) as response:
            return response.status

    count = await calls_until_open(breaker, send, clock, most=2 * RATE["window"])
    assert count is not None
    assert genesys.requests == count
    assert "failure rate" in breaker.snapshot().reason


@pytest.mark.parametrize("seed", SEEDS)
async def test_half_of_the_attempts_fail_below_a_retry_loop(genesys, session, clock, seed):
    """By the call, one in 32 fails: the rate of the attempts shows what is going on."""
    genesys.flaky(0.5, seed)
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(**RATE), clock=clock)

    @breaker
    @transient_retry(attempts=5, wait=wait_none(), count_per="attempt")
    async def send():
        async with session.post(genesys.message_url(), json=MESSAGE) as response:
            return response.status

    count = await calls_until_open(breaker, send, clock, most=2 * RATE["window"])
    assert count is not None


def outcomes_of(breaker, clock, *, share, attempts, calls, seed):
    """Make calls to a function whose attempts fail by chance, as `flaky` lets requests fail."""
    chance = random.Random(seed)

    @breaker
    def send():
        if all(chance.random() < share for _ in range(attempts)):
            raise ConnectionError

    for count in range(calls):
        try:
            send()
        except ConnectionError:
            pass
        except CircuitBreakerOpenError:
            return count
        clock.advance(1)
    return None


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_rate_half_of_the_attempts_never_trip(clock, seed):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    assert outcomes_of(breaker, clock, share=0.5, attempts=5, calls=100_000, seed=seed) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_five_percent_never_trip_the_rate(clock, seed):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(**RATE), clock=clock)
    assert outcomes_of(breaker, clock, share=0.05, attempts=1, calls=100_000, seed=seed) is None
    assert breaker.snapshot().failures > 4_000


async def test_slow_answers_trip(genesys, session):
    genesys.slow(0.05)
    policy = BreakerPolicy(slow_call_duration=0.04, slow_call_rate_threshold=0.5, minimum_calls=5)
    breaker = CircuitBreaker("eu-west-1", policy)

    @breaker
    async def send():
        async with session.get(genesys.url, raise_for_status=False) as response:
            return response.status

    for _ in range(5):
        assert breaker.state is CLOSED
        await send()
    assert breaker.state is OPEN
    assert genesys.requests == 5
    assert "slow call rate 100 % of 5 calls" in breaker.snapshot().reason


# Regions that swallow requests


async def test_a_black_hole_trips_by_stranded_calls_and_all_of_them_end(genesys, session):
    genesys.hang()
    policy = BreakerPolicy(stranded_after=0.1, cancel_stranded=True)
    breaker = CircuitBreaker("eu-west-1", policy)

    @breaker
    async def send():
        async with session.post(genesys.message_url(), json=MESSAGE):
            pytest.fail("a black hole has answered")

    calls = [asyncio.ensure_future(send()) for _ in range(20)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {CircuitBreakerOpenError}
    with pytest.raises(CircuitBreakerOpenError, match="stranded"):
        await send()
    snapshot = breaker.snapshot()
    assert (snapshot.trips, snapshot.failures) == (1, 10)
    assert genesys.requests <= 20
    assert not breaker.running_calls


async def test_a_black_hole_trips_by_abandoned_calls_after_exactly_the_threshold(genesys, session):
    genesys.hang()
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(abandoned_threshold=7))

    @breaker
    async def send():
        async with session.post(genesys.message_url(), json=MESSAGE):
            pytest.fail("a black hole has answered")

    calls = 0
    while breaker.state is CLOSED:
        calls += 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await send()
    assert calls == 7
    assert "7 calls in a row were abandoned" in breaker.snapshot().reason


async def test_a_black_hole_trips_by_the_timeout_of_the_breaker(genesys, session):
    genesys.hang()
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=3, call_timeout=0.05))

    @breaker
    @transient_retry()
    async def send():
        async with session.post(genesys.message_url(), json=MESSAGE):
            pytest.fail("a black hole has answered")

    for _ in range(3):
        with pytest.raises(TimeoutError, match="call_timeout"):
            await send()
    assert breaker.snapshot().reason == "no answer within 0.05 s (call_timeout)"


# Coming back


async def test_the_ramp_holds_at_the_server(genesys, session, clock):
    policy = BreakerPolicy(failure_threshold=1, success_threshold=1, ramp=(2, 2))
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    running, seen, done = 0, [], 0

    @breaker
    async def send():
        nonlocal running, done
        running += 1
        seen.append((done, running))
        try:
            async with session.post(genesys.message_url(), json=MESSAGE) as response:
                assert response.status == 200
                done += 1
        finally:
            running -= 1

    async def worker():
        while True:
            try:
                return await send()
            except CircuitBreakerOpenError:
                await asyncio.sleep(0.002)

    genesys.latency = 0.01
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().succeed()
    await asyncio.gather(*(worker() for _ in range(100)))
    assert genesys.requests == done == 100
    for before, at_once in seen:
        # Steps of 2, 4, 8, ... end after that many answers.
        limit = max(step for step in (2, 4, 8, 16, 32, 64) if step - 2 <= before)
        assert at_once <= limit
    assert max(at_once for _, at_once in seen) > 8
