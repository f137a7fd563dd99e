"""Tenants in the consumers: one that is throttled holds up nobody, and nothing of it is lost."""

import asyncio
import re
from itertools import chain, pairwise

import pytest

from resilience import CircuitState
from resilience.integrations.rabbitmq.passing_over import PASSED_OVER
from resilience.limits import RateLimit
from tests.unit.consumers.world import QUEUE, WAIT_QUEUE, World, bodies

LAYOUTS = pytest.mark.parametrize("shared", [False, True], ids=["region", "shared"])
OTHERS = [f"T{number}" for number in range(25)]


def mixed(of_a, of_others):
    """Messages of A between those of all others, who have one each in each round."""
    a = iter(bodies("A", of_a))
    rounds = ([*(f"{one}.{number}" for one in OTHERS)] for number in range(of_others))
    per_round = of_a // of_others
    return list(chain.from_iterable([*(next(a) for _ in range(per_round)), *one] for one in rounds))


def time_of_others(world, messages, expected, **settings):
    """Return how long the messages of the others took."""

    async def story():
        world.publish(*messages)
        began = world.clock()
        async with await world.consumer(**settings):
            await world.until(lambda: len(world.done) - len(world.done_of("A")) == expected)
            took = world.clock() - began
            await world.until(lambda: not world.left())
        return took

    return world.run(story)


@LAYOUTS
@pytest.mark.parametrize("with_tenant_from", [False, True])
def test_a_throttled_tenant_leaves_the_others_their_throughput(shared, with_tenant_from):
    alone = World(shared=shared)
    without_a = time_of_others(alone, mixed(0, 20), 500)
    world = World(shared=shared, with_tenant_from=with_tenant_from)
    world.limits["A"] = 5
    with_a = time_of_others(world, mixed(200, 20), 500)
    assert with_a <= without_a / 0.95
    assert sorted(world.done) == sorted(mixed(200, 20))
    assert world.refused["A"] <= 25
    # It gets most of what it is allowed: 200 messages at 5 a second.
    assert world.requests["A"][-1] - world.requests["A"][0] <= 70


@LAYOUTS
@pytest.mark.parametrize("with_tenant_from", [False, True])
def test_a_tenant_waits_as_asked_and_one_message_is_the_probe(shared, with_tenant_from):
    world = World(shared=shared, with_tenant_from=with_tenant_from)
    world.limits["A"], world.waits = 0, 30

    async def story():
        world.publish(*bodies("A", 40))
        async with await world.consumer():
            await world.until(lambda: world.refused["A"])
            first = len(world.requests["A"])
            assert first <= 10  # those that had been started before the first answer
            await asyncio.sleep(29)
            assert len(world.requests["A"]) == first
            await asyncio.sleep(3)
            assert len(world.requests["A"]) == first + 1
            await asyncio.sleep(30)
            assert len(world.requests["A"]) == first + 2
            assert world.breaker.snapshot().throttled_tenants == 1
            world.limits.clear()
            await world.until(lambda: not world.left())
            assert world.breaker.snapshot().throttled_tenants == 0

    world.run(story)
    assert sorted(world.done) == sorted(bodies("A", 40))


@LAYOUTS
def test_what_is_known_from_elsewhere_is_followed(shared):
    world = World(shared=shared, with_tenant_from=True)

    async def story():
        world.breaker.tenants.throttle("A", 60)
        world.publish(*bodies("A", 5), *bodies("B", 5))
        async with await world.consumer():
            await world.until(lambda: len(world.done_of("B")) == 5)
            await asyncio.sleep(30)
            assert world.requests["A"] == []
            world.breaker.tenants.throttle("A", 0)
            await world.until(lambda: not world.left(), 5)

    world.run(story)
    assert len(world.done) == 10


def test_the_order_of_a_tenant_is_kept_while_it_waits():
    world = World()
    world.limits["A"] = 3

    async def story():
        world.publish(*mixed(40, 10))
        async with await world.consumer(prefetch=1):
            await world.until(lambda: not world.left())

    world.run(story)
    assert world.done_of("A") == bodies("A", 40)


def test_a_known_limit_is_used_without_further_refusals():
    world = World()
    world.limits["A"] = 5

    async def story():
        world.publish(*bodies("A", 300))
        async with await world.consumer(rate_limit=RateLimit(5, 1)):
            await world.until(lambda: not world.left())

    world.run(story)
    first_burst = 10
    assert world.refused["A"] <= first_burst
    later = world.requests["A"][first_burst + 1 :]
    assert all(after - before > 0.2 for before, after in pairwise(later))


@LAYOUTS
def test_more_than_a_few_messages_of_a_tenant_go_to_the_end_of_their_queue(shared):
    world = World(shared=shared)
    world.limits["A"], world.waits = 0, 60

    async def story():
        world.publish(*bodies("A", 60), *bodies("B", 20))
        async with await world.consumer(max_unacked_per_tenant=15):
            await world.until(lambda: len(world.done_of("B")) == 20, 30)
            queue = WAIT_QUEUE if shared else QUEUE
            await asyncio.sleep(5)
            before = world.broker.counts(queue)
            await asyncio.sleep(20)
            after = world.broker.counts(queue)
            # Those that have been round once are moved again rarely, however many there are.
            assert after.delivered - before.delivered <= 20 * 20 + 20
            passed_over = [m for m in world.broker.messages(queue) if PASSED_OVER in m.headers]
            assert len(passed_over) >= 30
            world.limits.clear()
            await world.until(lambda: not world.left())

    world.run(story)
    assert sorted(world.done) == sorted([*bodies("A", 60), *bodies("B", 20)])


def test_all_tenants_together_have_a_bound():
    world = World()
    world.waits = 3600
    tenants = [f"X{number}" for number in range(20)]
    world.limits = dict.fromkeys(tenants, 0)

    async def story():
        for tenant in tenants:
            world.publish(*bodies(tenant, 10))
        world.publish(*bodies("B", 10))
        async with await world.consumer(max_unacked_per_tenant=10, prefetch=5):
            await world.until(lambda: len(world.done_of("B")) == 10, 120)
            await asyncio.sleep(10)
            assert world.broker.counts(QUEUE).unacked <= 5 * 10 + 5 + 50

    world.run(story)


@LAYOUTS
def test_messages_of_throttled_tenants_are_given_back_in_the_end(shared):
    world = World(shared=shared)
    world.limits["A"], world.waits = 0, 3600

    async def story():
        world.publish(*bodies("A", 30))
        async with await world.consumer(max_unacked=100):
            await asyncio.sleep(150)
            queue = WAIT_QUEUE if shared else QUEUE
            counts = world.broker.counts(queue)
            assert counts.redelivered == 30
            assert counts.unacked == 30
        assert world.left() == 30
        assert world.broker.counts(queue).unacked == 0

    world.run(story)


def test_messages_are_held_again_when_the_channel_was_lost():
    world = World()
    world.limits["A"], world.waits = 0, 60

    async def story():
        world.publish(*bodies("A", 30))
        async with await world.consumer() as consumer:
            await asyncio.sleep(10)
            assert consumer.stats()[0].unacked == 30
            world.broker.stop()
            await asyncio.sleep(5)
            assert consumer.stats()[0].unacked == 0
            world.broker.start()
            world.limits.clear()
            await world.until(lambda: not world.left())

    world.run(story)
    assert sorted(set(world.done)) == sorted(bodies("A", 30))


def test_a_message_that_is_too_old_goes_to_on_error_although_its_tenant_waits():
    world = World()
    world.limits["A"], world.waits = 0, 20
    given_up = []

    async def on_error(message, error):
        given_up.append((message.body, type(error).__name__))
        await message.ack()

    async def story():
        world.publish("A.0")
        async with await world.consumer(max_age=60, on_error=on_error):
            for number in range(200):
                world.publish(f"B.{number}")
                await asyncio.sleep(1)

    world.run(story)
    assert given_up == [(b"A.0", "TooManyRequestsError")]


@LAYOUTS
def test_an_alarm_of_the_broker_loses_nothing(shared):
    world = World(shared=shared)
    world.limits["A"], world.waits = 0, 30

    async def story():
        world.publish(*bodies("A", 40))
        async with await world.consumer(max_unacked_per_tenant=5):
            world.broker.block("memory")
            await asyncio.sleep(20)
            world.broker.unblock()
            world.limits.clear()
            await world.until(lambda: not world.left())

    world.run(story)
    assert sorted(set(world.done)) == sorted(bodies("A", 40))


@LAYOUTS
@pytest.mark.parametrize("fault", ["raises", "returns an int"])
def test_a_broken_tenant_of_is_logged_and_harms_nobody(shared, fault, log):
    world = World(shared=shared)

    def broken(message):
        if fault == "raises":
            raise KeyError(message.body)
        return 7

    async def story():
        world.publish(*bodies("A", 5))
        async with await world.consumer(tenant_of=broken):
            await world.until(lambda: not world.left(), 10)

    world.run(story)
    assert len(world.done) == 5
    lines = [record["message"] for record in log if "tenant_of" in record["message"]]
    assert lines
    assert re.search("raised KeyError" if fault == "raises" else "returned .*int", lines[0])


@LAYOUTS
def test_a_message_without_tenant_waits_for_nobody(shared):
    world = World(shared=shared)
    world.breaker.tenants.throttle("A", 1000)

    async def story():
        world.publish(*bodies("A", 5), *bodies("", 5))
        async with await world.consumer():
            await world.until(lambda: len(world.done) == 5, 10)

    world.run(story)
    assert world.done_of("A") == []


@LAYOUTS
def test_a_probe_that_hangs_keeps_its_tenant_waiting_for_a_lease_only(shared):
    world = World(shared=shared, probe_timeout=20)
    world.limits["A"], world.waits = 0, 5

    async def story():
        world.publish(*bodies("A", 30))
        async with await world.consumer(stop_timeout=1):
            await world.until(lambda: world.refused["A"])
            await asyncio.sleep(1)
            world.limits.clear()
            world.takes, before = 100, len(world.requests["A"])
            await world.until(lambda: len(world.requests["A"]) == before + 1)
            world.takes = 0.1
            await asyncio.sleep(10)
            assert len(world.requests["A"]) == before + 1
            await world.until(lambda: world.done_of("A"), 20)  # before the one that hangs is done
            await world.until(lambda: len(world.done_of("A")) == 30, 200)

    world.run(story)


@LAYOUTS
def test_an_outage_in_between_does_not_mix_with_the_tenants(shared):
    world = World(shared=shared, recovery_timeout=10)
    world.limits["A"], world.waits = 2, 5

    async def story():
        world.publish(*mixed(20, 10))
        async with await world.consumer():
            await asyncio.sleep(0.5)
            world.is_down = True
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            await asyncio.sleep(30)
            world.is_down = False
            await world.until(lambda: not world.left())

    world.run(story)
    assert sorted(world.done) == sorted(mixed(20, 10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tenant_of": "header"}, "tenant_of must be a callable that takes a message"),
        ({"max_unacked_per_tenant": 0}, "max_unacked_per_tenant must be"),
        ({"rate_limit": 300}, "rate_limit must be"),
    ],
)
@LAYOUTS
def test_wrong_settings_are_named(shared, settings, message):
    world = World(shared=shared)

    async def story():
        with pytest.raises((TypeError, ValueError), match=message):
            await world.consumer(**settings)

    world.run(story)
