"""The retry storm: what the loops do that are already running when the circuit opens."""

import asyncio

import aiohttp
import pytest
import tenacity
from tenacity import stop_after_attempt, wait_fixed, wait_none

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.retry import gate, transient_retry
from resilience.testing import FakeGenesys
from tests.support.virtual_time import run_in_virtual_time

OPEN = CircuitState.OPEN
EU = "eu-west-1"


class Storm:
    """50 tasks that start 5 ms apart; the backend takes 10 ms and always fails."""

    def __init__(self, retries):
        self.registry = CircuitBreakerRegistry()
        self.requests = 0
        self.started_after_open = 0
        self.send = retries(self.request)

    async def request(self, region):
        self.requests += 1
        self.started_after_open += self.registry.get(EU).state is OPEN
        await asyncio.sleep(0.010)
        raise TimeoutError

    async def task(self, number):
        await asyncio.sleep(number * 0.005)
        return await self.send(EU)

    async def run(self):
        tasks = [self.task(number) for number in range(50)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    def protect(self, retries):
        self.send = region_breaker(region_from="region", registry=self.registry)(
            retries(self.request)
        )
        return self


FIVE = {"stop": stop_after_attempt(5), "wait": wait_fixed(0.02), "reraise": True}


def test_without_a_breaker_it_is_250_requests():
    storm = Storm(tenacity.retry(**FIVE))
    run_in_virtual_time(storm.run())
    assert storm.requests == 250


def test_loops_that_know_nothing_go_on_after_the_circuit_opened():
    storm = Storm(lambda fn: fn).protect(tenacity.retry(**FIVE))
    run_in_virtual_time(storm.run())
    assert storm.started_after_open > 50


@pytest.mark.parametrize(
    ("retries", "most"),
    [
        pytest.param(transient_retry(wait=wait_fixed(0.02)), 130, id="call"),
        pytest.param(transient_retry(wait=wait_fixed(0.02), count_per="attempt"), 20, id="attempt"),
        pytest.param(lambda fn: gate(tenacity.retry(**FIVE)(fn)), 130, id="gate"),
    ],
)
def test_no_request_starts_after_the_circuit_opened(retries, most):
    storm = Storm(lambda fn: fn).protect(retries)
    results = run_in_virtual_time(storm.run())
    assert storm.started_after_open == 0
    assert 10 <= storm.requests <= most
    assert {type(result) for result in results} == {TimeoutError, CircuitBreakerOpenError}
    snapshot = storm.registry.get(EU).snapshot()
    assert (snapshot.failures, snapshot.trips) == (10, 1), "what ended by the gate is no failure"


# On real HTTP


@pytest.fixture
async def genesys():
    async with FakeGenesys(require_token=False) as genesys:
        yield genesys


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        yield session


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)


@pytest.fixture
def send(genesys, session, registry):
    @region_breaker(region_from="region", registry=registry)
    @transient_retry(wait=wait_fixed(3600))
    async def send(region):
        send.started += 1
        body = {"channel": {"from": {"id": "1", "idType": "Phone"}, "time": "", "messageId": "1"}}
        async with session.post(genesys.message_url(), json={**body, "text": "hello"}):
            pass

    send.started = 0
    return send


async def test_on_real_http_nothing_arrives_after_the_open_event(genesys, session, registry):
    genesys.fail(503)
    seen = []

    @region_breaker(region_from="region", registry=registry)
    @transient_retry(wait=wait_none())
    async def send(region):
        seen.append(registry.get(EU).state)
        async with session.post(genesys.message_url(), json={}):
            pass

    await asyncio.gather(*(send(EU) for _ in range(50)), return_exceptions=True)
    assert registry.get(EU).state is OPEN
    assert set(seen) == {CircuitState.CLOSED}, "no request started after the OPEN event"
    assert genesys.requests == len(seen), "and only started ones arrived"
    at_rest = genesys.requests
    await asyncio.gather(*(send(EU) for _ in range(50)), return_exceptions=True)
    assert genesys.requests == at_rest


async def open_circuit(genesys, send, registry):
    genesys.fail(503)
    tasks = [asyncio.create_task(send(EU)) for _ in range(5)]
    while genesys.requests < 5:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0)
    registry.get(EU).force_open("the test says so")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    registry.get(EU).reset()
    return results


async def test_sleeping_loops_end_without_their_backoff(genesys, send, registry):
    results = await open_circuit(genesys, send, registry)
    assert send.started == genesys.requests == 5
    ended = {type(result) for result in results}
    assert ended <= {CircuitBreakerOpenError, aiohttp.ClientResponseError}


async def fail(send, times):
    for _ in range(times):
        with pytest.raises(aiohttp.ClientResponseError):
            await send(EU)


@pytest.fixture
async def due(genesys, session, registry, clock):
    """A circuit that is open, and may be probed now."""
    genesys.fail(503)

    @region_breaker(region_from="region", registry=registry)
    async def fail_once(region):
        async with session.post(genesys.message_url(), json={}):
            pass

    await fail(fail_once, 3)
    genesys.reset_counts()
    clock.advance(60)
    return registry.get(EU)


async def test_100_waiting_tasks_with_retries_make_one_request(genesys, send, due):
    results = await asyncio.gather(*(send(EU) for _ in range(100)), return_exceptions=True)
    assert genesys.requests == 1
    errors = [type(result) for result in results]
    assert errors.count(aiohttp.ClientResponseError) == 1
    assert errors.count(CircuitBreakerOpenError) == 99


async def test_a_failing_probe_with_retries_opens_the_circuit_again(genesys, send, due):
    await fail(send, 1)
    assert genesys.requests == 1
    assert due.state is OPEN
    assert due.retry_after == 60


async def test_a_probe_of_a_token_and_a_message_each_in_a_loop_can_close(
    genesys, session, registry, due
):
    genesys.up()

    @transient_retry(wait=wait_fixed(3600))
    async def fetch_token():
        return genesys.issue_token()

    @transient_retry(wait=wait_fixed(3600))
    async def post():
        async with session.get(genesys.url, raise_for_status=False):
            pass

    @region_breaker(region_from="region", registry=registry)
    @gate
    async def send(region):
        await fetch_token()
        await post()

    for _ in range(3):
        await send(EU)
    assert due.state is CircuitState.CLOSED
