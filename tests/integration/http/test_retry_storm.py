"""The retry storm on real HTTP: what reaches a region that is down, counted by the region."""

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest
import tenacity
from tenacity import wait_fixed, wait_none

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.retry import gate, transient_retry
from resilience.testing import FakeGenesys
from tests.support.retrying import cancel, settle

OPEN, CLOSED = CircuitState.OPEN, CircuitState.CLOSED
TASKS = 50


async def until(condition):
    """Let everything run until it is so, or the watchdog ends the test."""
    while not condition():  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0)


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
        if event.new is OPEN:
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
        assert self.breaker.state is OPEN


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


# It opens


RETRIES = {
    "call": transient_retry(wait=wait_none()),
    "attempt": transient_retry(wait=wait_none(), count_per="attempt"),
    "plain tenacity": tenacity.retry(stop=tenacity.stop_after_attempt(5), reraise=True),
}


@pytest.mark.parametrize("retries", RETRIES.values(), ids=RETRIES)
@pytest.mark.parametrize("trouble", ["fail", "drop", "garbage", "refuse"])
async def test_nothing_is_received_after_open_beyond_what_is_on_the_wire(world, trouble, retries):
    getattr(world.genesys, trouble)()
    send = world.protect(retries(world.message))
    await asyncio.gather(*(send("eu-west-1") for _ in range(TASKS)), return_exceptions=True)
    ((started, on_the_wire, received),) = world.at_open
    assert world.started == started
    assert world.genesys.requests - received <= on_the_wire
    assert world.on_the_wire == 0
    at_rest = world.genesys.requests
    await asyncio.gather(*(send("eu-west-1") for _ in range(TASKS)), return_exceptions=True)
    assert world.genesys.requests == at_rest


@pytest.mark.parametrize("decorate", [transient_retry, tenacity.retry])
async def test_loops_that_sleep_send_nothing_after_open(world, decorate):
    world.genesys.fail(503)
    patient = world.protect(decorate(wait=wait_fixed(3600))(world.message))
    hasty = world.protect(world.message)
    tasks = [asyncio.create_task(patient("eu-west-1")) for _ in range(TASKS)]
    await until(lambda: world.genesys.requests == TASKS and not world.on_the_wire)
    for _ in range(10):
        with pytest.raises(aiohttp.ClientResponseError):
            await hasty("eu-west-1")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {CircuitBreakerOpenError}
    assert world.genesys.requests == TASKS + 10


# It is due


async def test_at_the_half_open_instant_100_waiting_tasks_send_exactly_1_request(world, clock):
    await world.open()
    world.genesys.fail(503)
    send = world.protect(transient_retry(wait=wait_none())(world.message))

    async def wait_and_send():
        await world.breaker.wait_until_ready()
        await send("eu-west-1")

    waiting = [asyncio.create_task(wait_and_send()) for _ in range(100)]
    await settle()
    clock.advance(60)
    results = await asyncio.gather(*(send("eu-west-1") for _ in range(100)), return_exceptions=True)
    assert world.genesys.requests == 1
    assert world.breaker.state is OPEN
    kinds = Counter(type(result) for result in results)
    assert kinds == {CircuitBreakerOpenError: 99, aiohttp.ClientResponseError: 1}
    await cancel(*waiting)
    assert world.genesys.requests == 1


async def test_a_hundred_tasks_that_wait_for_the_region_send_1_request_when_it_is_due(world, clock):
    await world.open()
    world.genesys.hang()
    send = world.protect(transient_retry(wait=wait_none())(world.message))

    async def wait_and_send():
        await world.breaker.wait_until_ready()
        await send("eu-west-1")

    waiting = [asyncio.create_task(wait_and_send()) for _ in range(100)]
    await settle()
    clock.advance(60)
    await until(lambda: world.genesys.requests)
    await settle()
    assert (world.started, world.genesys.requests) == (1, 1)
    await cancel(*waiting)


@pytest.mark.parametrize("count_per", ["call", "attempt"])
async def test_a_failing_probe_with_retries_opens_it_again(world, clock, count_per):
    await world.open()
    world.genesys.fail(503)
    send = world.protect(transient_retry(count_per=count_per)(world.message))
    for requests in (1, 2, 3):
        clock.advance(60)
        with pytest.raises(aiohttp.ClientResponseError):
            await send("eu-west-1")
        assert world.breaker.state is OPEN
        assert world.breaker.retry_after == 60
        assert world.genesys.requests == requests


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
    assert world.breaker.state is CLOSED
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
    assert world.breaker.state is CLOSED
    assert world.breaker.snapshot().probes == 3
    assert (world.genesys.requests, len(world.genesys.messages)) == (6, 3)


# It limits


async def test_a_rate_limit_is_waited_out_and_moves_no_circuit(clock, world):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            world.genesys.up()

    world.genesys.rate_limit(7)
    send = world.protect(transient_retry(sleep=sleep)(world.message))
    await send("eu-west-1")
    assert len(slept) == 2
    assert all(7 <= seconds <= 7 * 1.2 for seconds in slept)
    snapshot = world.breaker.snapshot()
    assert (snapshot.state, snapshot.failures, snapshot.successes) == (CLOSED, 0, 1)
