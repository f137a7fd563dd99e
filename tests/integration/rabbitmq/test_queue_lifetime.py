"""Queues that delete themselves are refused, however the consumer gets to know them."""

import asyncio

import aio_pika
import pytest

from resilience.integrations.rabbitmq import (
    ConsumerError,
    RegionConsumer,
    SharedConsumer,
    queue_lifetime,
)
from resilience.integrations.rabbitmq.queue_lifetime import check_lifetime
from tests.support.rabbitmq_support import Region, bench_at, make_registry, refuse_errors, until

DURABLE = {"durable": True}
MORTAL = [
    ({"auto_delete": True}, "is an auto-delete queue"),
    ({"auto_delete": True, **DURABLE}, "is an auto-delete queue"),
    ({"arguments": {"x-expires": 60_000}}, "has x-expires"),
    ({"arguments": {"x-expires": 60_000, "x-max-length": 9}, **DURABLE}, "has x-expires"),
    (
        {"arguments": {"x-expires": 60_000, "x-queue-type": "quorum"}, **DURABLE},
        "has x-expires",
    ),
    ({"exclusive": True}, "is an exclusive queue"),
]
LASTING = [
    {},
    DURABLE,
    {"arguments": {"x-message-ttl": 60_000, "x-max-priority": 3}, **DURABLE},
    {"arguments": {"x-queue-type": "quorum", "x-delivery-limit": 20}, **DURABLE},
]


@pytest.fixture
def region():
    return Region(make_registry())


def consume(queue, region):
    return RegionConsumer(
        queue, region, region="eu-west-1", on_error=refuse_errors, registry=make_registry()
    )


def share(queue, region):
    return SharedConsumer(
        queue,
        region,
        region_of=lambda _: "eu-west-1",
        regions=["eu-west-1"],
        on_error=refuse_errors,
        registry=make_registry(),
    )


async def declared(bench, known, declaration):
    """Give the queue as the declaration, or as `get_queue` gives it."""
    name = bench.name()
    bench.forget(name)
    queue = await bench.channel.declare_queue(name, **declaration)
    if known == "declared":
        return queue
    channel = await bench.connection.channel()  # The other one remembers the declaration.
    return await channel.get_queue(name, ensure=known == "ensured")


@pytest.mark.parametrize("layout", [consume, share])
@pytest.mark.parametrize("known", ["declared", "ensured", "by name"])
@pytest.mark.parametrize("case", MORTAL)
async def test_a_queue_that_deletes_itself_is_refused(bench, layout, known, case):
    region, (declaration, text) = Region(make_registry()), case
    queue = await declared(bench, known, declaration)
    await bench.publish(queue, "kept")
    with pytest.raises(ConsumerError, match=f"queue '{queue.name}' {text}: RabbitMQ"):
        async with layout(queue, region):
            pass
    assert await bench.look(queue) == (1, 0)


@pytest.mark.parametrize("layout", [consume, share])
@pytest.mark.parametrize("known", ["declared", "ensured", "by name"])
@pytest.mark.parametrize("more", [{}, {"x-max-age": "1h"}])
async def test_a_stream_is_refused(bench, region, layout, known, more):
    """It would go on with what is published later each time that the circuit has closed."""
    arguments = {"x-queue-type": "stream", **more}
    queue = await declared(bench, known, {"arguments": arguments, **DURABLE})
    with pytest.raises(ConsumerError, match=f"queue '{queue.name}' is a stream: RabbitMQ"):
        async with layout(queue, region):
            pass


@pytest.mark.parametrize("known", ["declared", "ensured", "by name"])
@pytest.mark.parametrize("declaration", LASTING)
async def test_a_queue_that_lasts_is_accepted(bench, region, known, declaration):
    queue = await declared(bench, known, declaration)
    await bench.publish(queue, "done")
    async with consume(queue, region):
        await until(lambda: region.done == ["done"])


async def test_asking_does_not_create_a_queue_that_has_gone_meanwhile(bench):
    name = bench.name()
    queue = await bench.channel.get_queue(name, ensure=False)
    await check_lifetime(bench.connection, queue)
    channel = await bench.connection.channel()
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await channel.get_queue(name)


async def test_a_broker_that_refuses_nothing_is_believed(bench, monkeypatch):
    monkeypatch.setattr(queue_lifetime, "_IMPOSSIBLE", {})
    queue = await declared(bench, "ensured", DURABLE)
    await check_lifetime(bench.connection, queue)


async def test_without_a_connection_nothing_can_be_asked(broker):
    connection = await aio_pika.connect(broker.url)
    queue = await (await connection.channel()).get_queue("any", ensure=False)
    await connection.close()
    with pytest.raises(ConsumerError, match="'any' cannot be checked: the connection"):
        await check_lifetime(connection, queue)


async def test_without_the_right_to_configure_a_queue_is_believed(own_broker, region):
    for command in (
        ("add_user", "reader", "secret"),
        ("set_permissions", "reader", "^$", ".*", ".*"),
    ):
        await asyncio.to_thread(own_broker.ctl, *command)
    async with bench_at(own_broker.url) as bench:
        queue = await bench.queue()
        mortal = await bench.channel.declare_queue("mortal", auto_delete=True)
        await bench.publish(queue, "done")
        url = own_broker.url.replace("guest:guest", "reader:secret")
        async with await aio_pika.connect_robust(url) as connection:
            channel = await connection.channel()
            async with consume(await channel.get_queue(queue.name), region):
                await until(lambda: region.done == ["done"])
            # What the user has declared is known all the same.
            mortal.channel = channel
            with pytest.raises(ConsumerError, match="is an auto-delete queue"):
                async with consume(mortal, region):
                    pass
