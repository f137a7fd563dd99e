"""A call inside a probe of the same circuit is part of that probe, whatever the two look like."""

import asyncio
import contextlib
import contextvars
import threading

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)

REGION = "eu-west-1"


class UnavailableError(Exception):
    status = 503


class World:
    """A region that is down or up, and functions that call it."""

    def __init__(self, clock, **policy):
        self.clock, self.up, self.requests = clock, False, 0
        settings = {"failure_threshold": 1, "recovery_timeout": 60, "success_threshold": 3}
        self.registry = CircuitBreakerRegistry(BreakerPolicy(**settings | policy), clock=clock)
        self.protect = region_breaker(region_from="region", registry=self.registry)
        self.breaker = self.registry.get(REGION)

    def request(self):
        self.requests += 1
        if not self.up:
            raise UnavailableError

    def recover(self):
        """Trip the circuit, let the region come back and the recovery timeout pass."""
        with contextlib.suppress(UnavailableError), self.breaker.acquire():
            self.request()
        assert self.breaker.state is CircuitState.OPEN
        self.up = True
        self.clock.advance(60)


@pytest.fixture
def world(clock):
    return World(clock)


def async_in_async(world):
    @world.protect
    async def token(region):
        world.request()

    @world.protect
    async def send(region):
        await token(region)

    return lambda: asyncio.run(send(REGION))


def sync_in_sync(world):
    @world.protect
    def token(region):
        world.request()

    @world.protect
    def send(region):
        token(region)

    return lambda: send(REGION)


def sync_in_async(world):
    @world.protect
    def token(region):
        world.request()

    @world.protect
    async def send(region):
        token(region)

    return lambda: asyncio.run(send(REGION))


def three_deep(world):
    @world.protect
    async def first(region):
        world.request()

    @world.protect
    async def second(region):
        await first(region)

    @world.protect
    async def third(region):
        await second(region)
        await first(region)

    return lambda: asyncio.run(third(REGION))


def gathered(world):
    @world.protect
    async def token(region):
        world.request()

    @world.protect
    async def send(region):
        await asyncio.gather(*(token(region) for _ in range(3)))

    return lambda: asyncio.run(send(REGION))


def in_a_block(world):
    @world.protect
    def token(region):
        world.request()

    def send():
        with world.breaker.acquire():
            token(REGION)

    return send


def block_in_a_block(world):
    def send():
        with world.breaker.acquire(), world.breaker.acquire():
            world.request()

    return send


def by_breaker_call(world):
    async def request():
        world.request()

    async def send():
        await world.breaker.call(request)

    return lambda: asyncio.run(world.breaker.call(send))


def in_a_context_manager(world):
    @contextlib.contextmanager
    def protected():
        with world.breaker.acquire():
            yield

    @world.protect
    def token(region):
        world.request()

    def send():
        with protected():
            token(REGION)

    return send


def another_decorator(world):
    @world.breaker
    async def token():
        world.request()

    @world.protect
    async def send(region):
        await token()

    return lambda: asyncio.run(send(REGION))


def plain_function_that_returns_an_awaitable(world):
    async def request():
        world.request()

    @world.protect
    def token(region):
        return request()

    @world.protect
    async def send(region):
        await token(region)

    return lambda: asyncio.run(send(REGION))


SHAPES = [
    async_in_async,
    sync_in_sync,
    sync_in_async,
    three_deep,
    gathered,
    in_a_block,
    block_in_a_block,
    by_breaker_call,
    in_a_context_manager,
    another_decorator,
    plain_function_that_returns_an_awaitable,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_circuit_closes_after_three_calls_and_counts_each_once(world, shape):
    send = shape(world)
    world.recover()
    for probes in (1, 2, 3):
        send()
        assert world.breaker.snapshot().probes == probes
    assert world.breaker.state is CircuitState.CLOSED
    assert world.breaker.snapshot().successes == 3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_nested_failure_opens_the_circuit_again_once(world, shape):
    send = shape(world)
    world.recover()
    world.up = False
    with pytest.raises(UnavailableError):
        send()
    snapshot = world.breaker.snapshot()
    assert (snapshot.state, snapshot.failures, snapshot.trips) == (CircuitState.OPEN, 2, 1)


def test_a_failure_that_the_outer_call_survives_does_not_count(world):
    @world.protect
    def token(region):
        raise UnavailableError

    @world.protect
    def send(region):
        with contextlib.suppress(UnavailableError):
            token(region)

    world.recover()
    for _ in range(3):
        send(REGION)
    assert world.breaker.state is CircuitState.CLOSED


def test_a_nested_call_of_another_region_asks_its_own_circuit(world):
    @world.protect
    def token(region):
        world.request()

    @world.protect
    def send(region):
        token("us-east-1")

    world.registry.get("us-east-1").force_open("maintenance")
    world.recover()
    with pytest.raises(CircuitBreakerOpenError, match="us-east-1"):
        send(REGION)


def test_a_call_beside_the_probe_is_rejected(world):
    world.recover()
    outside = contextvars.copy_context()
    with world.breaker.acquire(), pytest.raises(CircuitBreakerOpenError):
        outside.run(world.breaker.acquire)


def test_a_call_in_a_thread_of_its_own_is_rejected(world):
    world.recover()
    rejected = []

    def call():
        try:
            world.breaker.acquire()
        except CircuitBreakerOpenError as error:
            rejected.append(error)

    with world.breaker.acquire():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert len(rejected) == 1


def test_a_call_that_outlives_the_probe_is_not_part_of_it(world):
    world.recover()
    with world.breaker.acquire() as permit:
        permit.succeed()
        context = contextvars.copy_context()
    with world.breaker.acquire(), pytest.raises(CircuitBreakerOpenError):
        context.run(world.breaker.acquire)


def test_after_the_lease_a_nested_call_takes_the_place(world):
    world.recover()
    with world.breaker.acquire():
        world.clock.advance(60)
        world.breaker.acquire().succeed()
    assert world.breaker.snapshot().probes == 2
    assert world.breaker.snapshot().successes == 1


async def test_a_generator_left_open_lets_no_other_task_in(world):
    async def stream():
        with world.breaker.acquire():
            yield 1
            yield 2

    world.recover()
    chunks = stream()
    await anext(chunks)

    async def call():
        with world.breaker.acquire():
            world.request()

    before = world.requests
    results = await asyncio.gather(*(call() for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {CircuitBreakerOpenError}
    assert world.requests == before
    await chunks.aclose()


async def test_a_function_that_awaits_nested_tasks_is_one_probe(world):

    @world.protect
    async def token(region):
        world.request()

    @world.protect
    async def outer(region):
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(token(region))

    world.recover()
    await outer(REGION)
    assert world.breaker.snapshot().probes == 1
