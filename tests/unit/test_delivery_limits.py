"""Long outages, in virtual time, on queues with the delivery limit that RabbitMQ 4 sets."""

import asyncio

import pytest
from aio_pika import Message

from resilience import CircuitBreakerRegistry
from resilience.integrations.rabbitmq import (
    DeadLetterTo,
    RegionConsumer,
    SharedConsumer,
    hold_when_open,
)
from resilience.integrations.rabbitmq.delivery_limit import most_returns
from resilience.integrations.rabbitmq.publisher import Publisher
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time

REGION = "eu-west-1"
HOUR = 3600.0
LIMITED = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "dead",
}


class World:
    """A region that is down, and a queue with a few messages for it."""

    def __init__(self):
        self.clock = FakeClock()
        self.registry = CircuitBreakerRegistry(clock=self.clock)
        self.broker = StubBroker()
        self.broker.declare("q", arguments=LIMITED)
        self.broker.declare("dead")
        self.is_down, self.done = True, []

    async def handle(self, message):
        with self.registry.get(REGION).acquire():
            if self.is_down:
                raise ConnectionError
        self.done.append(message.body)

    async def consume(self, kind, prefetch):
        """Return a context in which the queue is consumed."""
        queue = await self.broker.get_queue("q")
        if kind == "hold":
            await queue.channel.set_qos(prefetch_count=prefetch)
            held = hold_when_open(region_of=lambda _: REGION, registry=self.registry)
            await queue.consume(held(self.handle))
            return queue.channel
        settings = {
            "on_error": DeadLetterTo("dead"),
            "prefetch": prefetch,
            "registry": self.registry,
        }
        if kind == "region":
            return RegionConsumer(queue, self.handle, region=REGION, **settings)
        consumer = SharedConsumer(
            queue,
            self.handle,
            region_of=lambda _: REGION,
            regions=[REGION],
            wait_arguments=LIMITED,
            **settings,
        )
        await consumer.declare()
        return consumer

    def run(self, story):
        async def closing():
            async with self.broker:
                await story

        run_in_virtual_time(closing(), self.clock, limit=1e6)


@pytest.mark.parametrize(
    ("kind", "prefetch"), [("hold", 1), ("hold", 10), ("region", 1), ("shared", 1)]
)
def test_an_outage_of_nine_hours_ends_no_message_at_a_delivery_limit(kind, prefetch):
    world = World()

    async def story():
        for number in range(3):
            world.broker.publish("q", Message(b"%d" % number, expiration=10 * 24 * HOUR))
        async with await world.consume(kind, prefetch):
            await asyncio.sleep(9 * HOUR)
            world.is_down = False
            await asyncio.sleep(HOUR)

    world.run(story())
    assert sorted(world.done) == [b"0", b"1", b"2"]
    assert world.broker.messages("dead") == []


def test_the_queue_is_found_beside_what_else_listens_to_the_channel():
    world = World()

    async def story():
        world.broker.publish("q", Message(b"1", expiration=10 * 24 * HOUR))
        async with await world.consume("hold", 1) as channel:
            (await channel.get_underlay_channel()).on_return_callbacks.add(print)
            await asyncio.sleep(9 * HOUR)
            world.is_down = False
            await asyncio.sleep(HOUR)

    world.run(story())
    assert world.done == [b"1"]
    assert world.broker.messages("dead") == []


@pytest.mark.parametrize("kind", ["hold", "region"])
def test_a_message_is_returned_while_an_alarm_lets_no_copy_be_published(kind):
    world = World()

    async def story():
        world.broker.publish("q", Message(b"1"))
        async with await world.consume(kind, 1):
            world.broker.block()
            await asyncio.sleep(5 * HOUR)
            (message,) = world.broker.messages("q")
            assert message.headers["x-delivery-count"] > 10
            world.broker.unblock()
            await asyncio.sleep(2 * HOUR)
            world.is_down = False
            await asyncio.sleep(HOUR)

    world.run(story())
    assert world.done == [b"1"]
    assert world.broker.messages("dead") == []


def test_a_message_that_fails_while_the_circuit_is_closed_reaches_its_delivery_limit():
    world = World()

    async def fail(message):
        with world.registry.get(REGION).acquire() as permit:
            permit.ignore()
        raise ConnectionError(message.body)

    async def story():
        world.handle = fail
        world.broker.publish("q", Message(b"1"))
        async with await world.consume("hold", 1):
            await asyncio.sleep(8 * HOUR)

    world.run(story())
    assert len(world.broker.messages("dead")) == 1


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (None, 10),
        ({}, 10),
        ({"x-delivery-limit": 20}, 10),
        ({"x-delivery-limit": 5}, 2),
        ({"x-delivery-limit": "many"}, 10),
    ],
)
def test_a_message_is_copied_when_half_of_the_limit_is_reached(arguments, most):
    assert most_returns(arguments) == most


def test_without_a_limit_no_message_is_copied():
    assert most_returns({"x-delivery-limit": -1}) > 1_000_000


@pytest.mark.parametrize("ends_by", ["time", "cancellation"])
def test_a_message_whose_copy_is_never_confirmed_goes_back(monkeypatch, ends_by):
    world = World()

    async def never(*_, **__):
        await asyncio.sleep(1000)

    async def story():
        world.broker.publish("q", Message(b"1"))
        queue = await world.broker.get_queue("q")
        for _ in range(11):
            await (await queue.get()).nack()
        world.registry.get(REGION).force_open("down")
        held = hold_when_open(
            region_of=lambda _: REGION, registry=world.registry, max_unacked=10, queue="q"
        )
        handling = asyncio.create_task(held(world.handle)(await queue.get()))
        await asyncio.sleep(20)
        assert world.broker.messages("q")[0].unacked
        if ends_by == "cancellation":
            handling.cancel()
            await asyncio.sleep(1)
        else:
            await asyncio.sleep(30)
        (message,) = world.broker.messages("q")
        assert not message.unacked
        assert message.headers["x-delivery-count"] == 12

    monkeypatch.setattr(Publisher, "publish", never)
    world.run(story())


def test_hold_when_open_needs_the_name_of_a_queue_as_a_string():
    with pytest.raises(TypeError, match="queue must be a str, got int"):
        hold_when_open(region_of=lambda _: REGION, queue=7)
