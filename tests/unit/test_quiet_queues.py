"""Messages that always fail in queues in which good ones are rare: hours in virtual time."""

import asyncio
import random
from itertools import count

import pytest
from aio_pika import Message

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer, SharedConsumer
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time

REGION = "eu-west-1"
HOUR = 3600.0


class AnsweredError(Exception):
    """A server's answer."""

    def __init__(self, status):
        super().__init__()
        self.status = status


# What a call fails with: a server's answer, a connection that is lost, or no answer in time.
ERRORS = (AnsweredError, ConnectionError, TimeoutError)
TIMEOUT = 10.0  # seconds


class World:
    """A queue, and a region in which the calls with some messages always fail.

    Args:
        duration: Seconds that a call takes, unless it times out.
        settings: The consumer's settings.
        kind: The class of the consumer.
        policy: The breaker's policy.
        error: What a call fails with.
    """

    def __init__(
        self, kind=RegionConsumer, duration=0.0, policy=None, error=AnsweredError, **settings
    ):
        random.seed(15)  # the pauses between the attempts of a message
        self.clock = FakeClock()
        self.registry = CircuitBreakerRegistry(BreakerPolicy(**policy or {}), clock=self.clock)
        self.breaker = self.registry.get(REGION)
        self.broker = StubBroker()
        self.broker.declare("q", arguments={"x-queue-type": "quorum"})
        self.kind, self.duration = kind, duration
        self.settings = {"max_attempts": 5, "on_error": self.give_up, **settings}
        self.sent, self.done, self.ended = {}, {}, {}
        self.numbers = count()
        self.error = error
        self.answers = lambda body: 500 if body.startswith(b"bad") else 200

    async def handle(self, message):
        with self.breaker.acquire():
            status = self.answers(message.body)
            fails = status != 200
            await asyncio.sleep(TIMEOUT if fails and self.error is TimeoutError else self.duration)
            if fails:
                raise self.error(status)
        self.done[message.body] = self.clock()

    async def give_up(self, message, error):
        self.ended[message.body] = error
        await message.ack()

    def publish(self, kind):
        body = b"%s %d" % (kind.encode(), next(self.numbers))
        self.sent[body] = self.clock()
        self.broker.publish("q", Message(body))

    async def publish_good(self, every, hours):
        """Publish a good message now and then."""
        end = self.clock() + hours * HOUR
        while self.clock() < end:
            await asyncio.sleep(every() if callable(every) else every)
            self.publish("good")

    async def consumer(self):
        queue, settings = await self.broker.get_queue("q"), dict(self.settings)
        if self.kind is RegionConsumer:
            return RegionConsumer(
                queue, self.handle, region=REGION, registry=self.registry, **settings
            )
        consumer = SharedConsumer(
            queue,
            self.handle,
            region_of=lambda _: REGION,
            regions=[REGION],
            registry=self.registry,
            **settings,
        )
        await consumer.declare()
        return consumer

    def run(self, story):
        async def closing():
            async with self.broker:
                await story

        run_in_virtual_time(closing(), self.clock, limit=1e6)

    @property
    def longest_wait(self):
        return max(
            self.done.get(body, self.clock()) - sent
            for body, sent in self.sent.items()
            if body.startswith(b"good")
        )


def assert_poison_has_ended(world, poisons):
    assert len(world.ended) == poisons
    assert all(body.startswith(b"bad") for body in world.ended)
    assert world.breaker.state is CircuitState.CLOSED
    # One that comes while the circuit is OPEN waits for the next probe, and without an answer it is
    # not clear at first that it is not the region.
    assert world.longest_wait < (61 if world.error is AnsweredError else 121)


@pytest.mark.parametrize(
    ("every", "poisons", "settings"),
    [
        (30, 3, {}),
        (300, 1, {}),
        (300, 3, {"prefetch": 1}),
        (300, 2, {"prefetch": 20, "duration": 1.0, "policy": {"half_open_probes": 3}}),
        (300, 3, {"policy": {"success_threshold": 1}}),
        (300, 1, {"kind": SharedConsumer}),
        (300, 3, {"kind": SharedConsumer, "prefetch": 1, "policy": {"success_threshold": 1}}),
        (3000, 1, {}),
        (3000, 3, {"kind": SharedConsumer, "duration": 1.0}),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("error", ERRORS)
def test_poison_in_a_quiet_queue_has_an_end_and_the_circuit_closes(
    every, poisons, settings, is_first, error
):
    world = World(error=error, **settings)

    async def story():
        async with await world.consumer():
            if not is_first:
                world.publish("good")
                await asyncio.sleep(1)
            for _ in range(poisons):
                world.publish("bad")
            await world.publish_good(every, hours=max(12 * every, 1200) / HOUR)
            await asyncio.sleep(70)

    world.run(story())
    assert_poison_has_ended(world, poisons)
    assert {type(last) for last in world.ended.values()} == {error}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("settings", [{}, {"policy": {"success_threshold": 1}}])
def test_poison_without_an_end_does_not_keep_the_circuit_open(error, settings):
    world = World(error=error, max_attempts=None, **settings)

    async def story():
        async with await world.consumer():
            world.publish("bad")
            await world.publish_good(300, hours=1)
            trips = world.breaker.snapshot().trips
            await world.publish_good(300, hours=3)
            assert world.breaker.snapshot().trips == trips

    world.run(story())
    assert world.ended == {}
    assert world.breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", [RegionConsumer, SharedConsumer])
def test_poison_in_a_quiet_queue_has_an_end_after_a_restart_of_the_consumer(kind, error):
    world = World(kind, error=error)

    async def story():
        world.publish("bad")
        for hours in (0.2, 0.2, 2):
            async with await world.consumer():
                await world.publish_good(300, hours)
                await asyncio.sleep(70)

    world.run(story())
    assert_poison_has_ended(world, 1)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", [RegionConsumer, SharedConsumer])
def test_poison_has_an_end_also_if_every_third_message_is_poison(kind, error):
    world = World(kind, error=error)

    async def story():
        async with await world.consumer():
            for _ in range(20):
                for message in ("good", "good", "bad"):
                    await asyncio.sleep(300)
                    world.publish(message)
            await world.publish_good(300, hours=2)
            await asyncio.sleep(70)

    world.run(story())
    assert_poison_has_ended(world, 20)


def test_a_region_whose_good_answers_are_all_refusals_ends_poison_too():
    world = World()
    world.answers = lambda body: 500 if body.startswith(b"bad") else 404

    async def story():
        async with await world.consumer():
            world.publish("bad")
            await asyncio.sleep(2)
            world.publish("refused")
            await asyncio.sleep(HOUR / 2)

    world.run(story())
    assert [error.status for error in world.ended.values()] == [404, 500]


# Outages


@pytest.mark.parametrize(
    ("kind", "share", "every"),
    [(RegionConsumer, 0.02, 30), (RegionConsumer, 0.1, 900), (SharedConsumer, 0.02, 300)],
)
@pytest.mark.parametrize("error", [AnsweredError, ConnectionError])
def test_single_good_answers_of_a_region_that_is_down_cost_no_message_its_end(
    kind, share, every, error
):
    world = World(kind, error=error)
    rolls = random.Random(7)
    is_up = False
    world.answers = lambda _: 200 if is_up or rolls.random() < share else 503

    async def story():
        nonlocal is_up
        async with await world.consumer():
            await world.publish_good(every, hours=6)
            is_up = True
            await asyncio.sleep(2 * HOUR)

    world.run(story())
    assert world.ended == {}
    assert world.done.keys() == world.sent.keys()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("probes", [1, 3])
def test_an_outage_of_any_length_ends_no_message(probes, error, seed):
    """Nor does one that is too short to open the circuit, or that ends while probes run."""
    rolls = random.Random(seed)
    every = rolls.choice([20, 60, 300])
    world = World(
        rolls.choice([RegionConsumer, SharedConsumer]),
        duration=rolls.choice([0.0, 0.5, 3.0]),
        policy={"half_open_probes": probes, "success_threshold": rolls.choice([1, 3])},
        error=error,
        max_attempts=2,
    )
    is_up = True
    world.answers = lambda _: 200 if is_up else 503

    async def break_down():
        nonlocal is_up
        for length in (5, 40, 150, 250, 600, 5000):
            await asyncio.sleep(rolls.uniform(900, 1200))
            is_up = False
            await asyncio.sleep(length * rolls.uniform(0.7, 1.3))
            is_up = True

    async def story():
        async with await world.consumer():
            breaking_down = asyncio.create_task(break_down())
            while not breaking_down.done():
                await world.publish_good(lambda: rolls.expovariate(1 / every), hours=0.1)
            await asyncio.sleep(HOUR)

    world.run(story())
    assert world.ended == {}
    assert world.done.keys() == world.sent.keys()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("up", "down", "every"), [(60, 60, 60), (5, 60, 30)])
def test_a_region_that_flaps_sends_no_good_message_to_on_error(up, down, every, error):
    rolls = random.Random(1)
    world = World(duration=0.5, error=error)
    is_up = True
    world.answers = lambda _: 200 if is_up else 503

    async def flap():
        nonlocal is_up
        while True:
            await asyncio.sleep(rolls.expovariate(1 / (up if is_up else down)))
            is_up = not is_up

    async def story():
        nonlocal is_up
        async with await world.consumer():
            flapping = asyncio.create_task(flap())
            await world.publish_good(lambda: rolls.expovariate(1 / every), hours=2)
            flapping.cancel()
            is_up = True
            await asyncio.sleep(HOUR)

    world.run(story())
    assert world.ended == {}
    assert world.done.keys() == world.sent.keys()


def test_a_message_that_fails_in_two_outages_only_and_is_moved_meanwhile_has_no_end():
    """Its call ends after the circuit has opened, and it is delivered again when it is CLOSED."""
    world = World(SharedConsumer, prefetch=10, max_attempts=2, policy={"failure_threshold": 5})

    async def handle(message):
        with world.breaker.acquire():
            await asyncio.sleep(1.5 if message.body == b"late" and world.clock() < 10 else 1.0)
            if world.clock() < 50 or len(world.done) == 30:
                raise AnsweredError(500)
        world.done[message.body] = world.clock()

    world.handle = handle

    async def story():
        world.broker.publish("q", Message(b"late"))
        for _ in range(30):
            world.publish("good")
        async with await world.consumer():
            await asyncio.sleep(2000)

    world.run(story())
    assert len(world.done) == 30
    assert not world.ended


def test_a_dead_letter_from_a_wait_queue_has_all_its_attempts_before_it():
    world = World(SharedConsumer, on_error=DeadLetterTo("dead"))
    world.broker.declare("dead")

    async def story():
        async with await world.consumer():
            world.publish("good")
            world.publish("bad")
            await world.publish_good(every=5, hours=0.2)
        [letter] = world.broker.messages("dead")
        assert letter.headers["x-resilience-attempts"] > 1
        names = ("x-resilience-counted-attempts", "x-resilience-pending")
        assert not any(name in letter.headers for name in names)

    world.run(story())
