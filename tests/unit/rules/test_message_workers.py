"""Message workers under a policy with a mode or a ramp of its own."""

import asyncio

import pytest
from aio_pika import Message

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer
from resilience.limits import RateLimit
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time
from tests.support.driving import ServerError, trip

REGION = "eu-west-1"


class World:
    """A queue, a handler that a test can let fail, and a worker."""

    def __init__(self, **policy):
        self.clock = FakeClock()
        self.rules = {"failure_threshold": 3, "success_threshold": 1, **policy}
        self.registry = CircuitBreakerRegistry(BreakerPolicy(**self.rules), clock=self.clock)
        self.breaker = self.registry.get(REGION)
        self.broker = StubBroker()
        self.broker.declare("eu")
        self.broker.declare("failed")
        self.is_down = False
        self.handled = []
        self.attempts = 0
        self.running = self.most_running = 0
        # How many attempts were running when each of them began, itself included.
        self.running_at_start = []

    def publish(self, *bodies):
        for body in bodies:
            self.broker.publish("eu", Message(body))

    async def handle(self, message):
        self.attempts += 1
        self.running += 1
        self.running_at_start.append(self.running)
        self.most_running = max(self.most_running, self.running)
        try:
            with self.breaker.acquire():
                await asyncio.sleep(0.01)
                if self.is_down or message.body == b"poison":
                    raise ServerError
        finally:
            self.running -= 1
        self.handled.append(message.body)

    def set_mode(self, mode):
        self.registry.configure(policy=BreakerPolicy(**{**self.rules, "mode": mode}))

    def run(self, story, **settings):
        async def running():
            async with self.broker:
                consumer = RegionConsumer(
                    await self.broker.get_queue("eu"),
                    self.handle,
                    region=REGION,
                    on_error=DeadLetterTo("failed"),
                    registry=self.registry,
                    **settings,
                )
                async with consumer:
                    await story()

        run_in_virtual_time(running(), self.clock)


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_where_nobody_is_rejected_an_outage_loses_no_message(mode):
    world = World(mode=mode)
    world.publish(*(b"%d" % number for number in range(5)))

    async def story():
        world.is_down = True
        await asyncio.sleep(120)
        assert world.breaker.state is CircuitState.CLOSED
        assert world.handled == []
        assert 5 < world.attempts < 1000
        world.is_down = False
        await asyncio.sleep(120)

    world.run(story)
    assert len(world.handled) == 5
    assert world.broker.messages("failed") == []


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_where_nobody_is_rejected_a_message_that_always_fails_has_an_end(mode):
    world = World(mode=mode)
    world.publish(b"poison")

    async def story():
        for number in range(300):
            world.publish(b"%d" % number)
            await asyncio.sleep(2)

    world.run(story, max_attempts=5)
    assert len(world.handled) == 300
    assert [letter.body for letter in world.broker.messages("failed")] == [b"poison"]


@pytest.mark.parametrize("rate_limit", [None, RateLimit(10**9, 60)])
def test_the_slow_start_of_a_worker_follows_the_ramp(rate_limit):
    world = World(ramp=(3, 2))
    world.publish(*(b"%d" % number for number in range(100)))
    running = []

    async def story():
        world.breaker.force_open("maintenance")
        await asyncio.sleep(1)
        world.breaker.reset()
        await asyncio.sleep(0.005)
        for _ in range(3):
            running.append(world.running)
            await asyncio.sleep(0.01)

    world.run(story, prefetch=50, rate_limit=rate_limit)
    assert running == [3, 6, 12]


def test_an_opening_that_is_only_observed_slows_nothing_down():
    world = World(mode="observe")
    world.publish(*(b"%d" % number for number in range(100)))

    async def story():
        world.breaker.force_open("maintenance")
        await asyncio.sleep(0.005)
        assert world.most_running == 50

    world.run(story, prefetch=50)


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_a_worker_that_was_stopped_goes_on_at_full_rate_where_nobody_is_rejected_any_more(mode):
    world = World()
    world.publish(*(b"%d" % number for number in range(400)))

    async def story():
        world.breaker.force_open("maintenance")
        await asyncio.sleep(1)
        assert world.running == 0
        world.registry.configure(policy=BreakerPolicy(mode=mode))
        await asyncio.sleep(2)
        assert world.most_running == 50
        assert len(world.handled) == 400

    world.run(story, prefetch=50)


@pytest.mark.parametrize("first", ["enforce", "observe", "off"])
@pytest.mark.parametrize("second", ["observe", "off"])
def test_after_an_opening_that_kept_nobody_away_a_worker_waits_and_starts_slowly(first, second):
    world = World()
    world.publish(*(b"%d" % number for number in range(5000)))

    async def story():
        world.set_mode(first)
        await asyncio.sleep(0.5)
        world.set_mode("observe" if first == "off" else first)
        trip(world.breaker)
        world.set_mode(second)
        await asyncio.sleep(3.005)
        assert world.running == 8
        world.set_mode("enforce")
        await asyncio.sleep(1)
        assert (world.breaker.state, world.running) == (CircuitState.OPEN, 0)
        attempts = len(world.running_at_start)
        await asyncio.sleep(60)
        # A probe; then steps of one call at a time, of two, and so on.
        assert world.running_at_start[attempts : attempts + 4] == [1, 1, 1, 2]
        assert world.most_running == 8

    world.run(story, prefetch=8)


def test_a_worker_that_waited_for_its_first_message_in_enforce_again_starts_slowly():
    world = World(mode="observe")

    async def story():
        trip(world.breaker)
        await asyncio.sleep(3)
        world.set_mode("enforce")
        await asyncio.sleep(70)
        world.publish(*(b"%d" % number for number in range(100)))
        await asyncio.sleep(5)
        assert world.running_at_start[:4] == [1, 1, 1, 2]
        assert len(world.handled) == 100

    world.run(story, prefetch=8)
