"""The retry storm: what reaches a region that is down, counted in order, not in time."""

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest
import tenacity
from tenacity import stop_after_attempt, wait_fixed, wait_none

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.retry import gate, is_transient, transient_retry
from resilience.testing import FakeGenesys
from tests.support.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.timeout(60)

TASKS, APART, BACKEND, PAUSE, ATTEMPTS = 50, 0.005, 0.010, 0.020, 5


class ServerError(Exception):
    status = 503


async def until(condition):
    """Let everything run until it is so; only the watchdog ends it when it never is."""
    while not condition():  # noqa: ASYNC110 - nobody rings: the server is a stranger
        await asyncio.sleep(0)


@dataclass
class Storm:
    started: int = 0
    started_open: int = 0
    on_the_wire: int = 0
    results: Counter = field(default_factory=Counter)


async def storm(decorate, breaker):
    """Fifty tasks 5 ms apart against a backend that takes 10 ms to say 503."""
    seen = Storm()

    async def send():
        seen.started += 1
        seen.started_open += breaker.state is not CircuitState.CLOSED
        await asyncio.sleep(BACKEND)
        raise ServerError

    protected = decorate(send)

    async def task(number):
        await asyncio.sleep(number * APART)
        try:
            await protected()
        except Exception as error:
            seen.results[type(error)] += 1

    await asyncio.gather(*(task(number) for number in range(TASKS)))
    return seen


def own(**more):
    return tenacity.retry(
        stop=stop_after_attempt(ATTEMPTS), wait=wait_fixed(PAUSE), reraise=True, **more
    )


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)  # T10's numbers


def test_without_a_breaker_the_storm_is_250_requests(breaker):
    assert run_in_virtual_time(storm(own(), breaker)).started == 250


def test_retries_that_do_not_know_their_circuit_go_on_after_it_opened(breaker):
    seen = run_in_virtual_time(storm(lambda send: breaker(own()(send)), breaker))
    assert seen.started_open > 40
    assert seen.started > 150


STORMS = {
    "transient_retry": transient_retry(attempts=ATTEMPTS, wait=wait_fixed(PAUSE)),
    "gate": lambda send: gate(own(retry=is_transient)(send)),
}


@pytest.mark.parametrize("retries", STORMS.values(), ids=STORMS)
def test_the_storm_starts_0_requests_after_open_and_at_most_130_in_all(breaker, retries):
    seen = run_in_virtual_time(storm(lambda send: breaker(retries(send)), breaker))
    assert seen.started_open == 0
    assert seen.started <= 130
    assert seen.results.total() == TASKS
    assert seen.results[CircuitBreakerOpenError] > 0


def test_the_storm_counted_per_attempt_is_at_most_20_requests(breaker):
    retries = transient_retry(attempts=ATTEMPTS, wait=wait_fixed(PAUSE), count_per="attempt")
    seen = run_in_virtual_time(storm(lambda send: breaker(retries(send)), breaker))
    assert (seen.started_open, seen.started <= 20) == (0, True)


def test_an_outage_costs_50_requests_per_call_and_10_per_attempt(clock):
    for count_per, requests in (("call", 50), ("attempt", 10)):
        breaker, made = CircuitBreaker("eu-west-1", clock=clock), []

        def send(made=made):
            made.append(True)
            raise ServerError

        protected = breaker(transient_retry(wait=wait_none(), count_per=count_per)(send))
        while breaker.state is CircuitState.CLOSED:
            with pytest.raises(ServerError):
                protected()
        assert len(made) == requests


def test_an_outage_ends_after_15_seconds_of_backoff_at_least():
    async def main():
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker("eu-west-1", clock=loop.time)

        @breaker
        @transient_retry()
        async def send():
            raise ServerError

        await asyncio.gather(*(send() for _ in range(10)), return_exceptions=True)
        assert breaker.state is CircuitState.OPEN
        return loop.time()

    assert 15 <= run_in_virtual_time(main()) <= 19


async def test_fifty_tasks_that_sleep_an_hour_are_released_by_the_circuit(breaker):
    made = []

    @breaker
    @transient_retry(wait=wait_fixed(3600))
    async def send():
        made.append(True)
        raise ServerError

    tasks = [asyncio.create_task(send()) for _ in range(TASKS)]
    await until(lambda: len(made) == TASKS)
    for _ in range(10):
        breaker.acquire().fail()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {CircuitBreakerOpenError}
    assert {type(result.__cause__) for result in results} == {ServerError}
    assert len(made) == TASKS


# On real HTTP


@dataclass
class World:
    genesys: FakeGenesys
    session: aiohttp.ClientSession
    registry: CircuitBreakerRegistry
    started: int = 0
    on_the_wire: int = 0
    at_open: list = field(default_factory=list)

    @property
    def breaker(self):
        return self.registry.get("eu-west-1")

    def opened(self, event):
        if event.new is CircuitState.OPEN:
            self.at_open.append((self.started, self.on_the_wire, self.genesys.requests))

    async def post(self, url, **options):
        self.started += 1
        self.on_the_wire += 1
        try:
            async with self.session.post(url, **options) as response:
                return await response.json()
        finally:
            self.on_the_wire -= 1

    async def message(self, region):
        token = self.genesys.issue_token()
        sender = {"id": "+353123", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-11-23T12:00:00Z", "messageId": "m-1"}
        return await self.post(
            self.genesys.message_url(),
            json={"channel": channel, "text": "hello"},
            headers={"Authorization": f"Bearer {token}"},
        )

    async def token(self):
        login = f"{self.genesys.client_id}:{self.genesys.client_secret}".encode()
        return await self.post(
            self.genesys.token_url,
            data={"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {base64.b64encode(login).decode()}"},
        )

    def protect(self, send):
        return region_breaker(region_from="region", registry=self.registry)(send)

    async def open(self):
        for _ in range(10):
            self.breaker.acquire().fail()
        assert self.breaker.state is CircuitState.OPEN


@pytest.fixture
async def world(clock):
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        FakeGenesys() as genesys,
        aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as session,
    ):
        world = World(genesys, session, CircuitBreakerRegistry(clock=clock))
        world.registry.listen(world.opened)
        yield world


@pytest.mark.parametrize("count_per", ["call", "attempt"])
@pytest.mark.parametrize("trouble", ["fail", "drop", "garbage", "refuse"])
async def test_on_http_nothing_is_received_after_open_beyond_what_is_on_the_wire(
    world, trouble, count_per
):
    getattr(world.genesys, trouble)()
    send = world.protect(transient_retry(wait=wait_none(), count_per=count_per)(world.message))
    await asyncio.gather(*(send("eu-west-1") for _ in range(TASKS)), return_exceptions=True)
    ((started, on_the_wire, received),) = world.at_open
    assert world.started == started
    assert world.genesys.requests - received <= on_the_wire
    assert world.on_the_wire == 0


async def test_on_http_loops_that_sleep_send_nothing_after_open(world):
    world.genesys.fail(503)
    patient = world.protect(transient_retry(wait=wait_fixed(3600))(world.message))
    hasty = world.protect(world.message)
    tasks = [asyncio.create_task(patient("eu-west-1")) for _ in range(TASKS)]
    await until(lambda: world.genesys.requests == TASKS and not world.on_the_wire)
    for _ in range(10):
        with pytest.raises(aiohttp.ClientResponseError):
            await hasty("eu-west-1")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {CircuitBreakerOpenError}
    assert world.genesys.requests == TASKS + 10


async def test_at_the_half_open_instant_100_waiting_tasks_send_exactly_1_request(world, clock):
    await world.open()
    world.genesys.fail(503)
    send = world.protect(transient_retry(wait=wait_none())(world.message))

    async def wait_and_send():
        await world.breaker.wait_until_ready()
        await send("eu-west-1")

    waiting = [asyncio.create_task(wait_and_send()) for _ in range(100)]
    for _ in range(20):
        await asyncio.sleep(0)
    clock.advance(60)
    results = await asyncio.gather(*(send("eu-west-1") for _ in range(100)), return_exceptions=True)
    assert world.genesys.requests == 1
    assert world.breaker.state is CircuitState.OPEN
    kinds = Counter(type(result) for result in results)
    assert kinds == {CircuitBreakerOpenError: 99, aiohttp.ClientResponseError: 1}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert world.genesys.requests == 1


async def test_a_hundred_tasks_that_wait_for_the_region_send_1_request_when_it_is_due(world, clock):
    await world.open()
    world.genesys.hang()
    send = world.protect(transient_retry(wait=wait_none())(world.message))

    async def wait_and_send():
        await world.breaker.wait_until_ready()
        await send("eu-west-1")

    waiting = [asyncio.create_task(wait_and_send()) for _ in range(100)]
    for _ in range(20):
        await asyncio.sleep(0)
    clock.advance(60)
    await until(lambda: world.genesys.requests)
    for _ in range(200):
        await asyncio.sleep(0)
    assert (world.started, world.genesys.requests) == (1, 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_probe_of_a_token_and_a_message_in_a_loop_each_can_close(world, clock):
    await world.open()
    clock.advance(60)
    token = transient_retry()(world.token)
    message = transient_retry()(world.message)

    @world.protect
    @gate
    async def send(region):
        await token()
        return await message(region)

    for _ in range(3):
        await send("eu-west-1")
    assert world.breaker.state is CircuitState.CLOSED
    assert (world.genesys.requests, len(world.genesys.messages)) == (6, 3)


async def test_a_probe_of_a_token_and_a_message_that_are_protected_themselves_can_close(
    world, clock
):
    await world.open()
    clock.advance(60)

    @world.protect
    @transient_retry()
    async def token(region):
        return await world.token()

    message = world.protect(transient_retry()(world.message))

    @world.protect
    @gate
    async def send(region):
        await token(region)
        return await message(region)

    for _ in range(3):
        await send("eu-west-1")
    assert world.breaker.state is CircuitState.CLOSED
    assert world.breaker.snapshot().probes == 3
    assert (world.genesys.requests, len(world.genesys.messages)) == (6, 3)


@pytest.mark.parametrize("count_per", ["call", "attempt"])
async def test_a_failing_probe_with_retries_opens_it_again(world, clock, count_per):
    await world.open()
    world.genesys.fail(503)
    send = world.protect(transient_retry(count_per=count_per)(world.message))
    for requests in (1, 2, 3):
        clock.advance(60)
        with pytest.raises(aiohttp.ClientResponseError):
            await send("eu-west-1")
        assert world.breaker.state is CircuitState.OPEN
        assert world.breaker.retry_after == 60
        assert world.genesys.requests == requests


async def test_a_rate_limit_on_http_is_waited_out_and_moves_no_circuit(clock, world):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            world.genesys.up()

    world.genesys.rate_limit(7)
    send = world.protect(transient_retry(sleep=sleep)(world.message))
    await send("eu-west-1")
    assert slept == [7, 7]
    snapshot = world.breaker.snapshot()
    assert (snapshot.state, snapshot.failures, snapshot.successes) == (CircuitState.CLOSED, 0, 1)


def test_a_policy_of_one_failure_stops_a_storm_at_once(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    retries = transient_retry(attempts=ATTEMPTS, wait=wait_fixed(PAUSE), count_per="attempt")
    seen = run_in_virtual_time(storm(lambda send: breaker(retries(send)), breaker))
    assert (seen.started_open, seen.started) == (0, 2)
