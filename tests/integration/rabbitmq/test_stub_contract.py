"""What the stub broker promises to do as RabbitMQ does: the same tests run on both."""

import asyncio
from itertools import count
from uuid import uuid4

import aio_pika
import pytest
from aio_pika import Message
from aio_pika.exceptions import (
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    QueueEmpty,
)

from resilience.testing import StubBroker
from tests.support.rabbitmq_support import until

_names = count()


@pytest.fixture(params=["stub", "RabbitMQ"])
async def connection(request):
    if request.param == "stub":
        async with StubBroker() as stub:
            yield await stub.connect()
    else:
        broker = request.getfixturevalue("broker")
        async with await aio_pika.connect_robust(broker.url) as connection:
            yield connection


@pytest.fixture
async def channel(connection):
    return await connection.channel(publisher_confirms=True, on_return_raises=True)


@pytest.fixture
async def declare(channel):
    declared = []

    async def declare(arguments=None, **settings):
        name = f"contract.{uuid4().hex[:8]}.{next(_names)}"
        settings = {"durable": True, **settings}
        declared.append(await channel.declare_queue(name, arguments=arguments, **settings))
        return declared[-1]

    yield declare
    for queue in declared:
        opened = await channel.connection.channel() if hasattr(channel, "connection") else channel
        await opened.queue_delete(queue.name)


async def publish(channel, queue, *bodies, **properties):
    for body in bodies:
        message = Message(body, **properties)
        await channel.default_exchange.publish(message, queue.name)


async def take(queue, many):
    """Consume until this many messages have come."""
    taken = []

    async def keep(message):
        taken.append(message)

    tag = await queue.consume(keep)
    await until(lambda: len(taken) >= many)
    await queue.cancel(tag)
    return taken


async def test_messages_come_in_their_order_and_are_gone_when_they_are_acked(channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2", b"3", message_id="m", headers={"a": "b", "n": 7})
    taken = await take(queue, 3)
    assert [message.body for message in taken] == [b"1", b"2", b"3"]
    assert taken[0].headers == {"a": "b", "n": 7}
    assert (taken[0].message_id, taken[0].routing_key) == ("m", queue.name)
    assert not taken[0].redelivered
    for message in taken:
        await message.ack()
    with pytest.raises(QueueEmpty):
        await queue.get()


async def test_a_large_body_comes_in_several_frames(channel, declare):
    queue = await declare()
    body = bytes(range(256)) * 2_000
    await publish(channel, queue, body)
    (message,) = await take(queue, 1)
    assert message.body == body


async def test_prefetch_bounds_what_is_unacked(channel, declare):
    queue = await declare()
    await publish(channel, queue, *(b"%d" % number for number in range(5)))
    await channel.set_qos(prefetch_count=2)
    taken = []

    async def keep(message):
        taken.append(message)

    await queue.consume(keep)
    await until(lambda: len(taken) == 2)
    underlay = await channel.get_underlay_channel()
    assert (await underlay.queue_declare(queue.name, passive=True)).message_count == 3
    await taken[0].ack()
    await until(lambda: len(taken) == 3)


async def test_what_is_returned_comes_again_from_its_place(channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2", b"3")
    first, second, third = await take(queue, 3)
    await third.nack(requeue=True)
    await first.reject(requeue=True)
    again = await take(queue, 2)
    assert [message.body for message in again] == [b"1", b"3"]
    assert all(message.redelivered for message in again)
    await second.ack()
    await again[1].ack(multiple=True)


async def test_a_channel_that_closes_returns_what_is_unacked(connection, channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2")
    other = await connection.channel()
    await take(await other.get_queue(queue.name), 2)
    await other.close()
    again = await take(queue, 2)
    assert [message.body for message in again] == [b"1", b"2"]


async def test_several_are_settled_at_once(channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2", b"3")
    taken = await take(queue, 3)
    await taken[1].nack(requeue=True, multiple=True)
    again = await take(queue, 2)
    assert [message.body for message in again] == [b"1", b"2"]


async def test_consumers_take_turns_and_the_priority_comes_first(connection, channel, declare):
    queue = await declare()
    got = {"low": [], "high": []}

    def keep(name):
        async def callback(message):
            got[name].append(message)

        return callback

    for name, priority in (("low", 0), ("high", 5)):
        other = await connection.channel()
        await other.set_qos(prefetch_count=2)
        consumed = await other.get_queue(queue.name)
        await consumed.consume(keep(name), arguments={"x-priority": priority})
    await publish(channel, queue, b"1", b"2", b"3")
    await until(lambda: sum(map(len, got.values())) == 3)
    assert [message.body for message in got["high"]] == [b"1", b"2"]
    assert [message.body for message in got["low"]] == [b"3"]


async def test_no_ack_takes_at_once(channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2")
    assert (await queue.get(no_ack=True)).body == b"1"
    second = await queue.get()
    assert second.body == b"2"
    await second.ack()
    assert await queue.get(fail=False) is None


async def test_a_quorum_queue_counts_and_drops_at_its_limit(channel, declare):
    dead = await declare()
    queue = await declare(
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead.name,
        }
    )
    await publish(channel, queue, b"1", headers={"own": "header"})
    for expected in (None, 1):
        (message,) = await take(queue, 1)
        assert message.headers.get("x-delivery-count") == expected
        await message.nack(requeue=True)
    (letter,) = await take(dead, 1)
    assert letter.body == b"1"
    assert letter.headers["own"] == "header"
    assert letter.headers["x-first-death-queue"] == queue.name
    assert letter.headers["x-first-death-reason"] == "delivery_limit"


async def test_what_is_rejected_goes_where_the_queue_says(channel, declare):
    dead = await declare()
    queue = await declare({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name})
    await publish(channel, queue, b"1", b"2")
    first, second = await take(queue, 2)
    await first.reject(requeue=False)
    await second.nack(requeue=False)
    letters = await take(dead, 2)
    assert {letter.headers["x-first-death-reason"] for letter in letters} == {"rejected"}


async def test_what_is_rejected_is_dropped_where_the_queue_says_nothing(channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1")
    (message,) = await take(queue, 1)
    await message.reject(requeue=False)
    assert await queue.get(fail=False) is None


async def test_a_message_for_no_queue_is_returned(channel):
    with pytest.raises(DeliveryError):
        await channel.default_exchange.publish(Message(b""), f"nowhere-{uuid4().hex}")


async def test_a_queue_that_is_not_there_ends_the_channel(connection):
    channel = await connection.channel()
    name = f"nowhere-{uuid4().hex}"
    with pytest.raises(ChannelNotFoundEntity) as caught:
        await channel.declare_queue(name, passive=True)
    assert str(caught.value) == f"NOT_FOUND - no queue '{name}' in vhost '/'"


@pytest.mark.parametrize(
    ("declared", "again", "difference"),
    [
        ({}, {"durable": False}, "'durable' * received 'false' but current is 'true'"),
        ({}, {"auto_delete": True}, "'auto_delete' * received 'true' but current is 'false'"),
        (
            {},
            {"arguments": {"x-max-length": 5}},
            "'x-max-length' * received the value '5' of type 'byte' but current is none",
        ),
        (
            {"arguments": {"x-max-length": 500}},
            {"arguments": {"x-max-length": 100_000}},
            "'x-max-length' * received '100000' but current is '500'",
        ),
        (
            {"arguments": {"x-dead-letter-exchange": "a"}},
            {"arguments": {"x-dead-letter-exchange": "b"}},
            "'x-dead-letter-exchange' * received 'b' but current is 'a'",
        ),
        (
            {"arguments": {"x-max-length": 500}},
            {},
            "'x-max-length' * received none but current is the value '500' of type 'short'",
        ),
        (
            {"arguments": {"x-expires": 1_000_000}},
            {},
            "'x-expires' * received none but current is the value '1000000' of type 'signedint'",
        ),
        (
            {"arguments": {"x-single-active-consumer": True}},
            {},
            "'x-single-active-consumer' * but current is the value 'true' of type 'bool'",
        ),
        (
            {"arguments": {"x-queue-mode": "lazy"}},
            {},
            "'x-queue-mode' * received none but current is the value 'lazy' of type 'longstr'",
        ),
    ],
)
async def test_a_queue_that_is_declared_otherwise_says_what_differs(
    connection, declare, declared, again, difference
):
    queue = await declare(**declared)
    channel = await connection.channel()
    with pytest.raises(ChannelPreconditionFailed) as caught:
        await channel.declare_queue(queue.name, **{"durable": True, **again})
    argument, _, rest = difference.partition(" * ")
    assert str(caught.value).startswith(
        f"PRECONDITION_FAILED - inequivalent arg {argument} for queue '{queue.name}' in vhost '/'"
    )
    assert str(caught.value).endswith(rest)


async def test_an_exchange_that_is_not_there_ends_the_channel(connection):
    channel = await connection.channel()
    name = f"nowhere-{uuid4().hex}"
    exchange = await channel.get_exchange(name, ensure=False)
    with pytest.raises(ChannelNotFoundEntity, match=f"no exchange '{name}' in vhost '/'"):
        await exchange.publish(Message(b""), "key")


async def test_a_deleted_queue_ends_its_consumers(connection, channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2")
    other = await connection.channel()
    underlay = await other.get_underlay_channel()
    cancelled = asyncio.Event()
    underlay.on_consumer_cancel_callbacks.add(lambda frame: cancelled.set())
    await take(await other.get_queue(queue.name), 2)

    async def ignore(message): ...

    await (await other.get_queue(queue.name)).consume(ignore)
    await channel.queue_delete(queue.name)
    await asyncio.wait_for(cancelled.wait(), 30)
    assert await channel.queue_delete(queue.name) is not None


async def test_a_consumer_that_is_gone_can_be_cancelled(channel, declare):
    await declare()
    underlay = await channel.get_underlay_channel()
    assert await underlay.basic_cancel("unknown") is not None


async def test_without_confirms_nothing_is_confirmed(connection, declare):
    queue = await declare()
    channel = await connection.channel(publisher_confirms=False)
    assert await channel.default_exchange.publish(Message(b"1"), queue.name) is None
    (message,) = await take(queue, 1)
    assert message.body == b"1"


async def test_dead_letters_for_no_queue_are_dropped(channel, declare):
    queue = await declare({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "nowhere"})
    await publish(channel, queue, b"1")
    (message,) = await take(queue, 1)
    await message.reject(requeue=False)
    assert await queue.get(fail=False) is None


async def test_purge_removes_what_is_ready(channel, declare):
    queue = await declare()
    await publish(channel, queue, b"1", b"2")
    assert (await queue.purge()).message_count == 2
    assert await queue.get(fail=False) is None
