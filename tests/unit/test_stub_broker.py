"""StubBroker: what users test their handlers with, an outage, a redelivery and a park included."""

import asyncio

import pytest
from aio_pika import Message
from aio_pika.exceptions import AMQPError, ChannelClosed

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.rabbitmq import (
    ConsumerError,
    DeadLetterTo,
    RegionConsumer,
    SharedConsumer,
)
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time
from resilience.testing.rabbitmq import QueueCounts, StubMessage

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 20}


class World:
    """A broker, a clock and regions that a test can let fail."""

    def __init__(self):
        self.clock = FakeClock()
        self.registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=self.clock)
        self.broker = StubBroker()
        self.down = set()
        self.handled = []

    async def handle(self, message):
        region = message.headers.get("region", "eu-west-1")
        with self.registry.get(region).acquire():
            if region in self.down:
                raise ConnectionError(region)
        self.handled.append(message.body)

    def publish(self, queue, *bodies, **headers):
        for body in bodies:
            self.broker.publish(queue, Message(body, headers=headers))

    def run(self, story):
        async def closing():
            async with self.broker:
                await story()

        run_in_virtual_time(closing(), self.clock)


@pytest.fixture
def world():
    return World()


# With the consumers


def test_an_outage_of_a_region_loses_nothing_and_spins_nothing(world):
    world.broker.declare("eu", arguments=QUORUM)
    world.broker.declare("failed")
    world.publish("eu", *(b"%d" % number for number in range(30)))

    async def story():
        world.down.add("eu-west-1")
        consumer = RegionConsumer(
            await world.broker.get_queue("eu"),
            world.handle,
            region="eu-west-1",
            on_error=DeadLetterTo("failed"),
            registry=world.registry,
        )
        async with consumer:
            await asyncio.sleep(600)
            assert world.registry.get("eu-west-1").state is CircuitState.OPEN
            assert world.handled == []
            world.down.clear()
            await asyncio.sleep(180)

    world.run(story)
    assert sorted(world.handled, key=int) == [b"%d" % number for number in range(30)]
    counts = world.broker.counts("eu")
    assert (counts.ready, counts.unacked, counts.acked, counts.dead_lettered) == (0, 0, 30, 0)
    assert counts.delivered == 30 + counts.redelivered
    assert world.broker.messages("failed") == []


def test_a_message_that_cannot_be_handled_is_dead_lettered(world):
    world.broker.declare("eu")
    world.broker.declare("failed")
    world.publish("eu", b"bad", own="header")

    async def refuse(message):
        raise ValueError(message.body)

    async def story():
        queue = await world.broker.get_queue("eu")
        async with RegionConsumer(
            queue,
            refuse,
            region="eu-west-1",
            on_error=DeadLetterTo("failed"),
            registry=world.registry,
        ):
            await asyncio.sleep(1)

    world.run(story)
    (letter,) = world.broker.messages("failed")
    assert (letter.body, letter.deliveries, letter.unacked) == (b"bad", 0, False)
    assert letter.headers["own"] == "header"


def test_a_shared_queue_parks_the_messages_of_a_region_that_is_down(world):
    world.broker.declare("all", arguments=QUORUM)
    world.broker.declare("failed")
    world.publish("all", *(b"%d" % number for number in range(10)), region="eu-west-1")
    world.publish("all", *(b"us%d" % number for number in range(10)), region="us-east-1")

    async def story():
        world.down.add("eu-west-1")
        consumer = SharedConsumer(
            await world.broker.get_queue("all"),
            world.handle,
            region_of=lambda message: message.headers["region"],
            regions=["eu-west-1", "us-east-1"],
            on_error=DeadLetterTo("failed"),
            registry=world.registry,
        )
        await consumer.declare()
        async with consumer:
            await asyncio.sleep(30)
            assert len(world.handled) == 10
            assert len(world.broker.messages("wait.eu-west-1")) == 10
            assert all(body.startswith(b"us") for body in world.handled)
            world.down.clear()
            await asyncio.sleep(180)

    world.run(story)
    assert len(world.handled) == 20
    assert world.broker.counts("all").ready == 0


def test_a_broker_that_restarts_delivers_again_what_was_unacked(world):
    world.broker.declare("eu", arguments=QUORUM)
    world.broker.declare("failed")
    world.publish("eu", b"1")
    started = []

    async def slow(message):
        started.append(message.redelivered)
        await asyncio.sleep(20)

    async def story():
        queue = await world.broker.get_queue("eu")
        async with RegionConsumer(
            queue,
            slow,
            region="eu-west-1",
            on_error=DeadLetterTo("failed"),
            registry=world.registry,
        ):
            await asyncio.sleep(5)
            assert world.broker.messages("eu")[0].unacked
            world.broker.stop()
            assert not world.broker.messages("eu")[0].unacked
            await asyncio.sleep(15)
            world.broker.start()
            await asyncio.sleep(60)

    world.run(story)
    assert started == [False, True]
    assert world.broker.counts("eu").acked == 1


def test_dead_letters_wait_for_the_end_of_an_alarm(world):
    world.broker.declare("eu")
    world.broker.declare("failed")

    async def refuse(message):
        raise ValueError(message.body)

    async def story():
        queue = await world.broker.get_queue("eu")
        async with RegionConsumer(
            queue,
            refuse,
            region="eu-west-1",
            on_error=DeadLetterTo("failed"),
            registry=world.registry,
        ):
            world.broker.block("memory")
            world.publish("eu", b"1")
            await asyncio.sleep(60)
            assert world.broker.messages("failed") == []
            assert len(world.broker.messages("eu")) == 1
            world.broker.unblock()
            await asyncio.sleep(120)

    world.run(story)
    assert [letter.body for letter in world.broker.messages("failed")] == [b"1"]
    assert world.broker.messages("eu") == []


@pytest.mark.parametrize("auto_delete", [True, False])
def test_a_queue_that_was_deleted_is_looked_at_again_when_it_is_back(world, auto_delete):
    world.broker.declare("eu")
    world.broker.declare("failed")

    async def consume(channel):
        async with RegionConsumer(
            await world.broker.get_queue("eu"),
            world.handle,
            region="eu-west-1",
            on_error=DeadLetterTo("failed"),
            registry=world.registry,
        ):
            await asyncio.sleep(5)
            world.broker.delete("eu")
            await asyncio.sleep(5)
            await channel.declare_queue("eu", durable=True, auto_delete=auto_delete)
            world.publish("eu", b"1")
            await asyncio.sleep(60)

    async def story():
        channel = await (await world.broker.connect()).channel()
        if auto_delete:
            with pytest.raises(ConsumerError, match="'eu' is an auto-delete queue"):
                await consume(channel)
            assert len(world.broker.messages("eu")) == 1
        else:
            await consume(channel)
            assert world.handled == [b"1"]

    world.run(story)


def test_a_queue_that_deletes_itself_is_refused_as_on_a_real_broker(world):
    async def story():
        channel = await (await world.broker.connect()).channel()
        queue = await channel.declare_queue("eu", durable=True, auto_delete=True)
        with pytest.raises(ConsumerError, match="auto-delete"):
            async with RegionConsumer(
                queue,
                world.handle,
                region="eu-west-1",
                on_error=DeadLetterTo("failed"),
                registry=world.registry,
            ):
                pass

    world.run(story)


# The broker by itself


def test_a_connection_may_send_a_frame_in_pieces_and_close_twice(world):
    async def story():
        connection = await world.broker.connect()
        reader, writer = await connection.kwargs["transport_factory"].create(connection.url)
        writer.write(b"AMQP")
        writer.write(b"\0\0\x09")
        writer.write(b"\x01")
        assert await reader.readexactly(1) == b"\x01"
        writer.close()
        writer.close()
        await writer.wait_closed()
        writer.write(b"too late")

    world.run(story)


def test_what_is_sent_during_an_alarm_is_done_after_it(world):
    world.broker.declare("q")

    async def story():
        channel = await (await world.broker.connect()).channel()
        world.broker.block()
        publishing = asyncio.create_task(channel.default_exchange.publish(Message(b"1"), "q"))
        await asyncio.sleep(1)
        declaring = asyncio.create_task(channel.declare_queue("q", passive=True))
        await asyncio.sleep(10)
        assert not publishing.done()
        assert not declaring.done()
        world.broker.unblock()
        await publishing
        await declaring

    world.run(story)


def test_counts_and_messages_say_what_has_happened(world):
    world.broker.declare("q", arguments=QUORUM)
    world.publish("q", b"1", b"2", n=1)

    async def story():
        queue = await world.broker.get_queue("q")
        await (await queue.get()).nack()
        await (await queue.get()).ack()
        await queue.get()
        await asyncio.sleep(0)
        assert world.broker.counts("q") == QueueCounts(
            ready=0,
            unacked=1,
            consumers=0,
            delivered=3,
            redelivered=1,
            acked=1,
            dead_lettered=0,
        )
        assert world.broker.messages("q") == [
            StubMessage(b"2", {"n": 1}, None, deliveries=1, unacked=True)
        ]

    world.run(story)


def test_a_restart_forgets_what_is_not_durable(world):
    async def story():
        channel = await (await world.broker.connect()).channel()
        await channel.declare_queue("kept", durable=True)
        await channel.declare_queue("lost", durable=False)

    world.run(story)
    world.broker.stop()
    world.broker.start()
    assert world.broker.messages("kept") == []
    with pytest.raises(ValueError, match=r"a queue of the broker \('kept'\), got 'lost'"):
        world.broker.messages("lost")


def test_a_restart_costs_a_message_one_delivery_however_many_consumers_there_are(world):
    world.broker.declare("q", arguments={"x-queue-type": "quorum", "x-delivery-limit": 1})
    world.publish("q", b"1")

    async def never_settle(_):
        await asyncio.sleep(1000)

    async def story():
        for _ in range(4):
            queue = await world.broker.get_queue("q")
            await queue.channel.set_qos(1)
            await queue.consume(never_settle)
        await asyncio.sleep(1)
        world.broker.stop()

    world.run(story)
    counts = world.broker.counts("q")
    assert (counts.ready, counts.delivered, counts.dead_lettered) == (1, 1, 0)


def test_a_stopped_broker_refuses_connections(world):
    world.broker.declare("q")
    world.broker.stop()

    async def story():
        with pytest.raises(ConnectionError):
            await world.broker.get_queue("q")

    world.run(story)


def test_a_deleted_queue_ends_its_consumers(world):
    world.broker.declare("q")
    world.broker.declare("other")

    async def story():
        channel = await (await world.broker.connect()).channel()
        cancelled = []
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(cancelled.append)

        async def ignore(message): ...

        for name in ("q", "other"):
            await (await channel.get_queue(name)).consume(ignore, consumer_tag=name)
        world.broker.delete("q")
        await asyncio.sleep(1)
        assert [frame.consumer_tag for frame in cancelled] == ["q"]

    world.run(story)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda channel: channel.declare_exchange("x"),
        lambda channel: channel.set_qos(prefetch_count=1, global_=True),
    ],
)
def test_a_request_that_it_does_not_know_is_refused(world, request_of):
    async def story():
        channel = await (await world.broker.connect()).channel()
        with pytest.raises((AMQPError, ChannelClosed, RuntimeError), match="NOT_IMPLEMENTED"):
            await request_of(channel)

    world.run(story)


def test_settling_twice_ends_the_channel(world):
    world.broker.declare("q")
    world.publish("q", b"1")

    async def story():
        channel = await (await world.broker.connect()).channel()
        underlay = await channel.get_underlay_channel()
        await asyncio.gather(underlay.basic_ack(77), underlay.basic_ack(78))
        await asyncio.sleep(1)
        assert underlay.is_closed

    world.run(story)


def test_both_sides_may_close_a_channel_at_the_same_time(world):
    async def story():
        channel = await (await world.broker.connect()).channel()
        underlay = await channel.get_underlay_channel()
        await asyncio.gather(underlay.basic_ack(77), underlay.close(), return_exceptions=True)
        await asyncio.sleep(1)
        assert underlay.is_closed

    world.run(story)


def test_wrong_arguments_say_what_was_expected(world):
    world.broker.declare("q")
    world.broker.declare("q")
    with pytest.raises(ValueError, match="queue 'q' exists with other arguments: PRECONDITION"):
        world.broker.declare("q", arguments={"x-max-length": 1})
    with pytest.raises(TypeError, match="name must be"):
        world.broker.declare(7)
    with pytest.raises(TypeError, match="arguments must be a Mapping, got int"):
        world.broker.declare("r", arguments=7)
    with pytest.raises(TypeError, match="message must be a Message, got bytes"):
        world.broker.publish("q", b"1")
    with pytest.raises(TypeError, match="message must have properties that AMQP can encode"):
        world.broker.publish("q", Message(b"1", headers={"x": object()}))
    with pytest.raises(ValueError, match=r"queue must be a queue of the broker \('q'\), got 'p'"):
        world.broker.publish("p", Message(b"1"))
    with pytest.raises(TypeError, match="reason must be"):
        world.broker.block(7)
    with pytest.raises(ValueError, match="got list"):
        world.broker.delete(["q"])


def test_a_connection_that_is_silent_for_days_is_not_taken_for_lost(world, caplog):
    world.broker.declare("q")

    async def story():
        queue = await world.broker.get_queue("q")
        await asyncio.sleep(7 * 86_400)
        await queue.channel.default_exchange.publish(Message(b"1"), "q")

    async def closing():
        async with world.broker:
            await story()

    run_in_virtual_time(closing(), world.clock, limit=1e6)
    assert len(world.broker.messages("q")) == 1
    assert caplog.records == []


def test_a_dead_letter_says_where_it_has_been(world):
    """As RabbitMQ writes it: one entry for each queue and reason, the latest first."""
    world.broker.declare(
        "q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "retry"}
    )
    world.broker.declare(
        "retry", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    )
    world.broker.publish("q", Message(b"1", headers={"own": 1}))

    async def story():
        for name in ("q", "retry", "q"):
            queue = await world.broker.get_queue(name)
            await (await queue.get()).reject()
            await asyncio.sleep(1)

    world.run(story)
    (letter,) = world.broker.messages("retry")
    seen = [(one["queue"], one["reason"], one["count"]) for one in letter.headers["x-death"]]
    assert seen == [("q", "rejected", 2), ("retry", "rejected", 1)]
    assert letter.headers["x-death"][0]["routing-keys"] == ["q"]
    assert letter.headers["x-first-death-queue"] == "q"
    assert letter.headers["own"] == 1


def test_a_message_whose_channel_falls_while_it_waits_for_a_slot_is_not_attempted(world):
    """It is delivered again, and would be attempted twice."""
    for name in ("eu", "all", "failed"):
        world.broker.declare(name)
    world.publish("eu", b"slow 1", b"slow 2")
    attempted = []

    async def handle(message):
        attempted.append(message.body)
        await asyncio.sleep(20 if message.body.startswith(b"slow") else 0)

    async def story():
        settings = {"on_error": DeadLetterTo("failed"), "registry": world.registry, "prefetch": 2}
        shared = SharedConsumer(
            await world.broker.get_queue("all"),
            handle,
            region_of=lambda _: "eu-west-1",
            regions=["eu-west-1"],
            **settings,
        )
        await shared.declare()
        eu = await world.broker.get_queue("eu")
        async with RegionConsumer(eu, handle, region="eu-west-1", **settings), shared:
            await asyncio.sleep(1)
            world.publish("all", b"waits 1", b"waits 2")
            await asyncio.sleep(1)
            world.broker.stop()
            world.broker.start()
            await asyncio.sleep(120)

    world.run(story)
    assert sorted(body for body in attempted if body.startswith(b"waits")) == [
        b"waits 1",
        b"waits 2",
    ]
