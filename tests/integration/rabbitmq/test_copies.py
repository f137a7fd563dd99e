"""Properties that are hard to copy, or that aio-pika cannot even decode."""

import asyncio
import struct
from datetime import UTC, datetime
from decimal import Decimal

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from resilience.integrations.rabbitmq import (
    ConsumerError,
    DeadLetterTo,
    MessageError,
    RegionConsumer,
    SharedConsumer,
    publisher,
)
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from tests.support import rabbitmq_raw as raw
from tests.support.rabbitmq_support import Region, bench_at, make_registry, refuse_errors, until

REGION = "eu-west-1"
_EU = raw.text(REGION.encode())


def nested_value(depth):
    value = True
    for _ in range(depth):
        value = {"n": value}
    return value


# What aio-pika delivers, and what other libraries must therefore find in a copy.
READABLE = {
    "Latin-1": (raw.text(b"M\xfcller"), b"M\xfcller"),
    "a double": (b"d" + struct.pack(">d", 1e300), 1e300),
    "a double with all digits": (b"d" + struct.pack(">d", 0.1), 0.1),
    "a float": (b"f" + struct.pack(">f", 0.5), 0.5),
    "seconds": (raw.timestamp(1_700_000_000), datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
    "milliseconds": (
        raw.timestamp(1_700_000_000_123),
        datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC),
    ),
    "the year 9999": (
        raw.timestamp(253_402_300_799_000),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ),
    "a decimal": (b"D\x02" + struct.pack(">i", -150), Decimal("-1.50")),
    "bytes": (b"x" + struct.pack(">I", 2) + b"\xff\x00", bytearray(b"\xff\x00")),
    "nothing": (b"V", None),
    "a large number": (b"l" + struct.pack(">q", -(2**63)), -(2**63)),
    "a table": (
        b"F" + raw.table(a=raw.text(b"\xff"), d=b"d" + struct.pack(">d", 1e39)),
        {"a": b"\xff", "d": 1e39},
    ),
    "an array": (
        b"A" + struct.pack(">I", 11) + raw.text(b"\xff") + b"t\x01" + b"b\x07" + b"V",
        [b"\xff", True, 7, None],
    ),
    "a deep table": (raw.nested(300), nested_value(300)),
    "much": (raw.text(b"x" * 100_000), "x" * 100_000),
}
# RabbitMQ 4 delivers headers sorted by name.
UNREADABLE = {
    "the name of a header": raw.headers(Müller=raw.text(b"x"), region=_EU),
    "a timestamp": raw.headers(at=raw.timestamp(2**63 - 1), region=_EU),
    "the largest timestamp": raw.headers(at=raw.timestamp(2**64 - 1), region=_EU),
    "a deep table": raw.headers(deep=raw.nested(2000), region=_EU),
    "a name in a table": raw.headers(deep=b"F" + raw.table(ü=b"V"), region=_EU),
    "the message id": struct.pack(">H", raw.MESSAGE_ID) + raw.short(b"\xfc"),
    "the time": struct.pack(">H", raw.TIMESTAMP) + struct.pack(">Q", 2**63 - 1),
}


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


def share(bench, queue, handler, registry, **settings):
    settings = {"on_error": refuse_errors, "prefetch": 3, **settings}
    wait_queue = f"{queue.name}.wait.{{region}}"
    bench.forget(f"{queue.name}.wait.{REGION}")
    return SharedConsumer(
        queue,
        handler,
        region_of=lambda _: REGION,
        regions=[REGION],
        wait_queue=wait_queue,
        registry=registry,
        **settings,
    )


class Errors:
    """An `on_error` that remembers, and acknowledges."""

    def __init__(self):
        self.seen = []

    async def __call__(self, message, error):
        self.seen.append((message, error))
        await message.ack()


@pytest.mark.parametrize("name", READABLE)
async def test_a_copy_in_a_wait_queue_keeps_the_value_of_a_header(bench, registry, region, name):
    encoded, value = READABLE[name]
    queue = await bench.queue()
    await raw.publish_raw(bench, queue, b"hello", raw.headers(value=encoded))
    seen = []

    async def handler(message):
        seen.append((message.routing_key, message.headers["value"]))
        await region(message)

    consumer = share(bench, queue, handler, registry)
    await consumer.declare()
    region.breaker.force_open("down")
    async with consumer:
        await until(lambda: is_empty(bench, queue))
        await until(lambda: is_ready(bench, f"{queue.name}.wait.{REGION}"))
        region.breaker.reset()
        await until(lambda: region.done == ["hello"])
    assert seen == [(f"{queue.name}.wait.{REGION}", value)]


async def is_empty(bench, queue):
    return (await bench.look(queue))[0] == 0


async def is_ready(bench, queue):
    return (await bench.look(queue))[0] == 1


@pytest.mark.parametrize("name", READABLE)
async def test_a_dead_letter_keeps_the_value_of_a_header(bench, registry, region, name):
    encoded, value = READABLE[name]
    queue, dead = await bench.queue(), await bench.queue()
    await raw.publish_raw(bench, queue, b"hello", raw.headers(value=encoded))
    region.error = ValueError("a bug")
    async with RegionConsumer(
        queue, region, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
    ):
        await until(lambda: is_ready(bench, dead))
    (letter,) = await bench.drain(dead)
    assert letter.headers["value"] == value


async def test_a_copy_keeps_the_time_and_a_long_name(bench, registry, region):
    queue, dead = await bench.queue(), await bench.queue()
    flags = struct.pack(">H", raw.HEADERS | raw.TIMESTAMP)
    long_name = "n" * 200
    table = raw.table(**{long_name: b"t\x01"})
    encoded = flags + table + struct.pack(">Q", 1_700_000_000_123)
    await raw.publish_raw(bench, queue, b"hello", encoded)
    region.error = ValueError("a bug")
    async with RegionConsumer(
        queue, region, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
    ):
        await until(lambda: is_ready(bench, dead))
    (letter,) = await bench.drain(dead)
    assert letter.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert letter.headers[long_name] is True


# Messages that aio-pika cannot decode


@pytest.mark.parametrize("connect", [aio_pika.connect, aio_pika.connect_robust])
@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_unreadable_message_goes_to_on_error_and_the_others_to_the_handler(
    broker, bench, registry, region, *, name, connect
):
    queue, errors = await bench.queue(), Errors()
    await bench.publish(queue, 1, 2)
    await raw.publish_raw(bench, queue, b"unreadable", UNREADABLE[name])
    await bench.publish(queue, 3, 4)
    connection = await connect(broker.url)
    async with connection, asyncio.timeout(60):
        mine = await (await connection.channel()).get_queue(queue.name)
        async with RegionConsumer(
            mine, region, region=REGION, on_error=errors, registry=registry, prefetch=2
        ):
            await until(lambda: {"1", "2", "3", "4"} <= set(region.done))
            await until(lambda: errors.seen)
    ((message, error),) = errors.seen
    assert message.body == b"unreadable"
    assert isinstance(error, MessageError)
    assert message.headers["x-unreadable"] == UNREADABLE[name]
    assert message.headers.get("region", REGION) == REGION  # What can be read is there.
    assert await bench.drain(queue) == []


@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_unreadable_message_in_a_shared_queue_can_be_dead_lettered(
    broker, bench, registry, region, *, name, log
):
    queue, dead = await bench.queue(), await bench.queue()
    await raw.publish_raw(bench, queue, b"unreadable", UNREADABLE[name])
    await bench.publish(queue, 1, 2)
    async with bench_at(broker.url) as mine:
        shared = await mine.channel.get_queue(queue.name)
        consumer = share(bench, shared, region, registry, on_error=DeadLetterTo(dead.name))
        await consumer.declare()
        async with consumer:
            await until(lambda: set(region.done) == {"1", "2"})
            await until(lambda: is_ready(bench, dead))
    (letter,) = await bench.drain(dead)
    assert letter.body == b"unreadable"
    assert letter.headers["x-unreadable"] == UNREADABLE[name]
    assert letter.headers["x-original-routing-key"] == queue.name
    lines = [record["message"] for record in log if "cannot decode" in record["message"]]
    assert len(lines) == 1
    assert lines[0].startswith(f"Consumer of queue {queue.name} has received a message")


async def test_an_unreadable_message_ends_no_connection_twice(broker, bench, registry, region):
    """A second one comes over the connection of the consumer's own."""
    queue, errors = await bench.queue(), Errors()
    async with bench_at(f"{broker.url}?reconnect_interval=0.1") as mine:
        lost = []
        mine.connection.close_callbacks.add(lambda *_: lost.append(True))
        shared = await mine.channel.get_queue(queue.name)
        async with RegionConsumer(
            shared, region, region=REGION, on_error=errors, registry=registry
        ):
            for count, encoded in enumerate(UNREADABLE.values(), start=1):
                await raw.publish_raw(bench, queue, b"unreadable", encoded)
                await until(lambda count=count: len(errors.seen) == count)
        assert len(lost) == 1


async def test_a_connection_of_its_own_is_opened_again(broker, bench, registry, region):
    queue, errors = await bench.queue(), Errors()
    async with bench_at(broker.url) as mine:
        read = await mine.channel.get_queue(queue.name)
        async with RegionConsumer(
            read, region, region=REGION, on_error=errors, registry=registry
        ) as consumer:
            await raw.publish_raw(bench, queue, b"", UNREADABLE["the message id"])
            await until(lambda: errors.seen)
            own = consumer._reading._own
            channel = consumer._workers[0]._subscription._queue.channel
            underlay = await channel.get_underlay_channel()
            await underlay.basic_ack(delivery_tag=4711)  # which the broker does not know
            await bench.publish(queue, "over another channel")
            await until(lambda: region.done == ["over another channel"])
            assert consumer._reading._own is own
            await own.transport.connection.close(ConnectionError())
            await bench.publish(queue, "over another connection")
            await until(lambda: region.done[1:] == ["over another connection"])
            assert consumer._reading._own is not own


async def refuse_message(message):
    raise AssertionError(message)


async def test_the_reason_is_known_before_any_channel_has_reported_it(broker, bench):
    queue, lost = await bench.queue(), asyncio.Event()
    connection = await aio_pika.connect(broker.url)
    reading = ReadingConnection(connection, ConsumerWarnings(queue.name))
    assert not reading.is_lost
    connection.close_callbacks.add(lambda *_: lost.set())
    mine = await (await connection.channel()).get_queue(queue.name)
    await mine.consume(refuse_message)
    await raw.publish_raw(bench, queue, b"", UNREADABLE["the message id"])
    await lost.wait()
    assert not reading.is_lost
    channel = await reading.open_channel()
    assert await (await channel.get_queue(queue.name)).get() is not None
    await reading.close()
    await connection.close()


async def test_a_connection_that_was_lost_for_another_reason_is_lost(broker):
    connection = await aio_pika.connect(broker.url)
    reading = ReadingConnection(connection, ConsumerWarnings("queue"))
    await connection.transport.connection.close(ConnectionError())
    await until(lambda: not connection.connected.is_set())
    assert reading.is_lost
    await connection.close()
    assert reading.is_lost  # There is no transport any more.


async def test_a_plain_connection_that_the_user_closes_ends_the_consumer_all_the_same(
    broker, bench, registry, region
):
    queue, errors = await bench.queue(), Errors()
    connection = await aio_pika.connect(broker.url)
    read = await (await connection.channel()).get_queue(queue.name)
    with pytest.raises(ConsumerError, match="is closed for good"):
        async with RegionConsumer(
            read, region, region=REGION, on_error=errors, registry=registry
        ) as consumer:
            await raw.publish_raw(bench, queue, b"", UNREADABLE["the message id"])
            await until(lambda: errors.seen)
            await connection.close()
            await consumer._reading._own.transport.connection.close(ConnectionError())
            await asyncio.sleep(60)


async def test_a_routing_key_that_is_not_utf_8_does_no_harm(broker, bench, registry, region):
    queue, keys = await bench.queue(), []
    exchange = await bench.channel.declare_exchange(bench.name(), "topic", auto_delete=True)
    await queue.bind(exchange, "#")
    await bench.publish(queue, "before")
    key = raw.Latin1("m\xfcnchen")
    await raw.publish_raw(
        bench, queue, b"hello", raw.headers(), exchange=exchange.name, routing_key=key
    )
    await bench.publish(queue, "behind")

    async def handler(message):
        keys.append(message.routing_key)
        await region(message)

    async with bench_at(broker.url) as mine:
        read = await mine.channel.get_queue(queue.name)
        async with RegionConsumer(
            read, handler, region=REGION, on_error=refuse_errors, registry=registry
        ):
            await until(lambda: {"before", "hello", "behind"} <= set(region.done))
    assert r"m\xfcnchen" in keys


# Messages that the broker does not take


def headers_that_fill_a_frame():
    """Encode headers that leave less room than those need that a copy has in addition."""
    return raw.headers(small=raw.text(b"kept"), large=raw.text(b"x" * 131_000))


async def test_a_message_without_room_for_more_headers_goes_to_on_error(bench, registry, region):
    queue, errors = await bench.queue(name=bench.name("q" * 100)), Errors()
    await raw.publish_raw(bench, queue, b"full", headers_that_fill_a_frame())
    await bench.publish(queue, "after it")
    consumer = share(bench, queue, region, registry, on_error=errors)
    await consumer.declare()
    region.breaker.force_open("down")
    async with consumer:
        await until(lambda: errors.seen)
        await until(lambda: is_ready(bench, f"{queue.name}.wait.{REGION}"))
    ((message, error),) = errors.seen
    assert message.body == b"full"
    assert isinstance(error, MessageError)
    assert str(error).startswith("the message cannot be copied: its properties take 13")


async def test_a_dead_letter_without_room_for_more_headers_loses_the_largest(
    bench, registry, region, log
):
    queue, dead = await bench.queue(name=bench.name("q" * 100)), await bench.queue()
    await raw.publish_raw(bench, queue, b"full", headers_that_fill_a_frame())
    region.error = ValueError("a bug")
    async with RegionConsumer(
        queue, region, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
    ):
        await until(lambda: is_ready(bench, dead))
    (letter,) = await bench.drain(dead)
    assert letter.headers["small"] == "kept"
    assert "large" not in letter.headers
    assert letter.headers["x-original-routing-key"] == queue.name
    (line,) = [record["message"] for record in log if record["level"].name == "WARNING"]
    assert line == (
        f"Consumer of queue {queue.name} has left out headers of a message for queue {dead.name}, "
        "since they cannot be published: large"
    )


async def test_headers_that_the_handler_has_put_there_are_left_out(bench, registry, region):
    queue, dead = await bench.queue(), await bench.queue()
    await bench.publish(queue, "hello", headers={"kept": "yes"})

    async def handler(message):
        message.headers["mine"] = object()
        raise ValueError("a bug")

    async with RegionConsumer(
        queue, handler, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
    ):
        await until(lambda: is_ready(bench, dead))
    (letter,) = await bench.drain(dead)
    assert letter.headers["kept"] == "yes"
    assert "mine" not in letter.headers


async def test_a_time_without_a_zone_that_the_handler_has_put_there_is_utc(bench, registry, region):
    queue, dead = await bench.queue(), await bench.queue()
    await bench.publish(queue, "hello")

    async def handler(message):
        message.headers["at"] = datetime(2023, 11, 14, 22, 13, 20)  # noqa: DTZ001 - that is it
        raise ValueError("a bug")

    async with RegionConsumer(
        queue, handler, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
    ):
        await until(lambda: is_ready(bench, dead))
    (letter,) = await bench.drain(dead)
    assert letter.headers["at"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


async def test_a_copy_that_was_refused_with_its_channel_is_published_again(
    bench, registry, region, monkeypatch
):
    """The channel has fallen over a right; the next one shows that it is there."""
    queue = await bench.queue()
    await bench.publish(queue, "hello")
    refusals = [ChannelAccessRefused("ACCESS_REFUSED - a token has run out")]
    send = publisher._send

    async def send_or_refuse(channel, body, *properties):
        if body and refusals:
            await channel.close()
            raise refusals.pop()
        await send(channel, body, *properties)

    monkeypatch.setattr(publisher, "_send", send_or_refuse)
    consumer = share(bench, queue, region, registry)
    await consumer.declare()
    region.breaker.force_open("down")
    async with consumer:
        await until(lambda: is_ready(bench, f"{queue.name}.wait.{REGION}"))
    assert refusals == []


async def test_an_unreadable_copy_that_comes_back_ends_the_consumer(
    broker, bench, registry, region
):
    queue, dead = await bench.queue(), await bench.queue()
    async with bench_at(broker.url) as mine:
        read = await mine.channel.get_queue(queue.name)
        with pytest.raises(ConsumerError, match=f"there is no queue '{dead.name}'"):
            async with RegionConsumer(
                read, region, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
            ):
                await (await bench.connection.channel()).queue_delete(dead.name)
                await raw.publish_raw(bench, queue, b"", UNREADABLE["the message id"])
                await asyncio.sleep(60)
