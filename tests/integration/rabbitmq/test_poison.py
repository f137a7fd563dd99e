"""Messages that always fail, in numbers, on a real RabbitMQ; the time is stepped.

No time passes while the broker has something to say, so that none of this depends on the machine.
"""

import asyncio
import random
import time
from functools import partial

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer, SharedConsumer
from tests.support.rabbitmq_support import KINDS, WATCHDOG, Region, bench_at, numbers
from tests.support.stepped_time import advance, run_in_stepped_time, until

POLICY = BreakerPolicy()
RECOVERY = POLICY.recovery_timeout
# Seconds that pass when nothing happens: the grace period of a probe, or more while there is none.
STEP, STEP_WHILE_OPEN = 0.25, 2.0
COUNT = 2000
PLACES = {
    "at the head": range(15),
    "in one block": range(700, 715),
    "spread out": range(5, COUNT, COUNT // 15),
    "anywhere": random.Random(7).sample(range(COUNT), 15),
}


class World:
    """A queue, a region, and a clock that the test steps."""

    def __init__(self, bench, round_trip, policy=POLICY):
        self.bench, self.round_trip = bench, round_trip
        self.now = asyncio.get_running_loop().time
        self.registry = CircuitBreakerRegistry(policy, clock=self.now)
        self.region = Region(self.registry)
        self.given_up = {}

    async def on_error(self, message, error):
        self.given_up[message.body.decode()] = error
        await message.ack()

    def consume(self, queue, **settings):
        settings = {"region": "eu-west-1", "on_error": self.on_error, **settings}
        return RegionConsumer(queue, self.region, registry=self.registry, **settings)

    async def share(self, queue, handler=None, **settings):
        """Give a consumer of a shared queue, whose wait queues exist."""
        self.bench.forget(f"wait.{queue.name}.eu-west-1")
        settings = {"on_error": self.on_error, **settings}
        consumer = SharedConsumer(
            queue,
            handler or self.region,
            region_of=lambda _: "eu-west-1",
            regions=["eu-west-1"],
            wait_queue=f"wait.{queue.name}.{{region}}",
            wait_arguments={"x-queue-type": "classic"},
            registry=self.registry,
            **settings,
        )
        await consumer.declare()
        return consumer

    def _progress(self):
        breaker = self.region.breaker
        return self.region.total, len(self.region.done), len(self.given_up), breaker.state

    async def let_finish(self, consumer):
        """Wait for the attempts, and for `on_error`, while no time passes."""
        for _ in range(4):
            await self.round_trip()
        await until(lambda: all(one.unacked == one.failed for one in consumer.stats()))

    async def until(self, condition, within, *, while_closed=True):
        """Let time pass until it is so; return the seconds that it took.

        Args:
            condition: What is waited for.
            within: The seconds that it may take.
            while_closed: Whether it takes time also while the circuit is CLOSED.
        """
        began, watchdog = self.now(), time.monotonic() + WATCHDOG
        while not condition():
            assert self.now() - began <= within, self._progress()
            assert time.monotonic() < watchdog, self._progress()
            quiet = 0
            while quiet < 4 and not condition():
                before = self._progress()
                # What the broker has sent meanwhile has arrived.
                await self.round_trip()
                quiet = quiet + 1 if self._progress() == before else 0
            state = self.region.breaker.state
            if not condition() and (while_closed or state is not CircuitState.CLOSED):
                await advance(STEP_WHILE_OPEN if state is CircuitState.OPEN else STEP)
        return self.now() - began


def play(broker, scenario, **settings):
    async def run():
        async with bench_at(f"{broker.url}?heartbeat=0") as bench:
            queue = await bench.queue()
            underlay = await bench.channel.get_underlay_channel()
            round_trip = partial(underlay.queue_declare, queue.name, passive=True)
            await scenario(World(bench, round_trip, **settings))

    run_in_stepped_time(run())


# Fifteen of two thousand


@pytest.mark.parametrize(
    ("place", "prefetch"),
    [*((place, 10) for place in PLACES), ("at the head", 1), ("at the head", 100)],
)
def test_a_few_poison_messages_hold_up_nobody_and_have_an_end(broker, http_error, place, prefetch):
    poison = {str(number) for number in PLACES[place]}

    async def scenario(world):
        queue = await world.bench.queue()
        await world.bench.publish(queue, *range(COUNT))
        world.region.fails_for = {body: http_error(500) for body in poison}
        async with world.consume(queue, prefetch=prefetch, max_attempts=3):
            good = COUNT - len(poison)
            await world.until(
                lambda: len(world.region.done) == good, within=3 * RECOVERY, while_closed=False
            )
            await world.until(lambda: world.given_up.keys() == poison, within=10 * RECOVERY)
        assert {error.status for error in world.given_up.values()} == {500}
        assert min(world.region.calls[body] for body in poison) >= 3
        assert sorted(world.region.done, key=int) == [
            body for body in numbers(COUNT) if body not in poison
        ]
        assert await world.bench.drain(queue) == []

    play(broker, scenario)


@pytest.mark.parametrize("place", PLACES)
def test_a_few_poison_messages_of_a_shared_queue_hold_up_nobody_either(broker, http_error, place):
    poison = {str(number) for number in PLACES[place]}

    async def scenario(world):
        queue = await world.bench.queue()
        await world.bench.publish(queue, *range(COUNT))
        world.region.fails_for = {body: http_error(500) for body in poison}
        async with await world.share(queue, max_attempts=3):
            good = COUNT - len(poison)
            await world.until(
                lambda: len(world.region.done) == good, within=3 * RECOVERY, while_closed=False
            )
            await world.until(lambda: world.given_up.keys() == poison, within=20 * RECOVERY)
        assert {error.status for error in world.given_up.values()} == {500}
        assert min(world.region.calls[body] for body in poison) >= 3
        assert await world.bench.drain(queue) == []

    play(broker, scenario)


def test_poison_alone_has_an_end_when_others_succeed_again(broker, http_error):
    """Nobody can tell it from an outage before."""

    async def scenario(world):
        queue = await world.bench.queue()
        poison = set(numbers(15))
        await world.bench.publish(queue, *poison)
        world.region.fails_for = {body: http_error(500) for body in poison}
        async with world.consume(queue, max_attempts=2):
            breaker = world.region.breaker
            await world.until(lambda: breaker.snapshot().probes >= 20, within=30 * RECOVERY)
            assert world.given_up == {}
            await world.bench.publish(queue, *range(100, 1100))
            await world.until(lambda: len(world.region.done) == 1000, within=2 * RECOVERY)
            await world.until(lambda: world.given_up.keys() == poison, within=10 * RECOVERY)
            assert breaker.state is CircuitState.CLOSED

    play(broker, scenario)


def test_known_poison_does_not_open_the_circuit(broker, http_error):
    async def scenario(world):
        queue = await world.bench.queue()
        poison = set(numbers(15))
        world.region.fails_for = {body: http_error(500) for body in poison}
        async with world.consume(queue):
            for good, number in enumerate(poison, 1):  # Each fails while others succeed.
                await world.bench.publish(queue, number, *range(100, 110))
                await world.until(
                    lambda good=10 * good: len(world.region.done) == good, within=RECOVERY
                )
            before = world.region.total
            await world.until(lambda: world.region.total >= before + 100, within=30 * RECOVERY)
            snapshot = world.region.breaker.snapshot()
        assert (snapshot.state, snapshot.trips) == (CircuitState.CLOSED, 0)
        assert snapshot.ignored >= 100

    play(broker, scenario)


# Outages


@pytest.mark.parametrize("limits", [{"max_attempts": 1}, {"max_age": 0.001}])
def test_outages_send_nothing_to_on_error(broker, limits):
    async def scenario(world):
        queue = await world.bench.queue()
        async with world.consume(queue, **limits):
            for outage in range(5):
                world.region.error = ConnectionError()
                await world.bench.publish(queue, *range(100 * outage, 100 * outage + 50))
                rounds = 2 + 3 * outage
                probes = world.region.breaker.snapshot().probes + rounds
                await world.until(
                    lambda least=probes: world.region.breaker.snapshot().probes >= least,
                    within=2 * rounds * RECOVERY,
                )
                world.region.error = None
                good = 50 * (outage + 1)
                await world.until(
                    lambda count=good: len(world.region.done) == count, within=3 * RECOVERY
                )
        assert world.given_up == {}

    play(broker, scenario)


def test_a_failure_that_nothing_follows_but_the_opening_counts_against_nobody(broker):
    """Late successes of calls that began before it prove nothing."""

    async def scenario(world):
        queue = await world.bench.queue()
        late = asyncio.Event()

        async def call(body):
            if body.startswith("late"):
                await late.wait()
            return await Region.call(world.region, body)

        world.region.protected = world.region.breaker(call)
        world.region.fails_for = {body: ConnectionError() for body in numbers(3)}
        async with world.consume(queue, max_attempts=1):
            await world.bench.publish(queue, "late 1", "late 2", *range(3))
            await world.until(lambda: world.region.total == 3, within=RECOVERY)
            late.set()
            await world.until(lambda: len(world.region.done) == 2, within=RECOVERY)
            assert world.given_up == {}
            await world.bench.publish(queue, "proof")
            await world.until(lambda: len(world.given_up) == 3, within=RECOVERY)

    play(broker, scenario)


# What is known of a message that was elsewhere


def test_messages_that_were_delivered_before_are_attempted_one_at_a_time(broker, http_error):
    """After a restart of the worker, fifteen at the head do not open the circuit again."""

    async def scenario(world):
        queue = await world.bench.queue()
        await world.bench.publish(queue, *range(300))
        channel = await world.bench.connection.channel()
        reader = await channel.get_queue(queue.name)
        for _ in range(15):
            await reader.get()
        await channel.close()  # as if its worker had ended
        world.region.fails_for = {body: http_error(500) for body in numbers(15)}
        async with world.consume(queue):
            await world.until(lambda: len(world.region.done) == 285, within=0, while_closed=False)
            assert world.region.breaker.snapshot().trips == 0

    play(broker, scenario)


def test_a_parked_message_is_known_to_have_failed(broker, http_error):
    async def scenario(world):
        queue, dead = await world.bench.queue(), await world.bench.queue()
        headers = []

        async def handler(message):
            if message.body == b"bad":
                headers.append(dict(message.headers))
            await world.region(message)

        async def consume():
            return await world.share(
                queue, handler, on_error=DeadLetterTo(dead.name), max_attempts=2
            )

        world.region.fails_for = {"bad": http_error(500)}
        for restarted in (False, True):
            async with await consume():
                if not restarted:
                    await world.bench.publish(queue, "bad")
                enough = len(headers) + 2
                await world.until(lambda least=enough: len(headers) >= least, within=9)
        letters = []
        async with await consume() as consumer:
            while not letters:
                number = str(len(world.region.done))
                await world.bench.publish(queue, number)
                await world.until(lambda body=number: body in world.region.done, within=RECOVERY)
                # No request to the broker is under way when its time-out passes.
                await world.let_finish(consumer)
                letters = await world.bench.drain(dead)
                await advance(60)
        [letter] = letters
        assert "x-resilience-attempts" not in headers[0]
        assert {one["x-resilience-attempts"] for one in headers[1:]} == {1}
        first_failed_at = {one["x-resilience-first-failed-at"] for one in headers[1:]}
        assert letter.headers["x-resilience-first-failed-at"] in first_failed_at
        assert letter.headers["x-resilience-error"] == "ClientResponseError 500"
        assert letter.headers["x-resilience-attempts"] >= 3

    play(broker, scenario)


# A message that waits for its own sake


@pytest.mark.parametrize("kind", KINDS)
def test_messages_that_are_answered_429_hold_up_nobody(broker, http_error, kind):
    async def scenario(world):
        limited = http_error(429)
        limited.headers = {"Retry-After": "100"}
        queue = await world.bench.queue(kind)
        waiting = numbers(30)
        await world.bench.publish(queue, *waiting, *range(100, 400))
        world.region.fails_for = dict.fromkeys(waiting, limited)
        async with world.consume(queue):
            await world.until(lambda: len(world.region.done) == 300, within=0, while_closed=False)
            assert all(world.region.calls[body] == 1 for body in waiting)
            world.region.fails_for = {}
            await world.until(lambda: len(world.region.done) == 330, within=200)

    play(broker, scenario)


def test_a_worker_that_can_hold_no_more_waiting_messages_is_logged_once(broker, http_error, log):
    async def scenario(world):
        limited = http_error(429)
        limited.headers = {"Retry-After": "20"}
        queue = await world.bench.queue()
        waiting = numbers(30)
        await world.bench.publish(queue, *waiting, *range(100, 120))
        world.region.fails_for = dict.fromkeys(waiting, limited)
        async with world.consume(queue, prefetch=2, max_failed_held=10):
            await world.until(lambda: world.region.total >= 20, within=60)
            world.region.fails_for = {}
            await world.until(lambda: len(world.region.done) == 50, within=600)
        return queue.name

    play(broker, scenario)
    [line] = [record["message"] for record in log if "max_failed_held" in record["message"]]
    assert "holds 10 messages that have failed" in line


def test_a_message_that_is_always_answered_429_ends_after_max_age(broker, http_error):
    async def scenario(world):
        queue = await world.bench.queue()
        world.region.fails_for = {"limited": http_error(429)}
        async with world.consume(queue, max_attempts=1, max_age=30):
            await world.bench.publish(queue, "limited")
            for number in range(20):
                await world.bench.publish(queue, number)
                await world.until(lambda n=number: len(world.region.done) > n, within=RECOVERY)
                assert (world.now() > 30) >= bool(world.given_up)
                await advance(5)
            await world.until(lambda: world.given_up, within=RECOVERY)

    play(broker, scenario)
