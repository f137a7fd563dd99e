"""The broker, a connection, a channel or a queue goes away under a worker."""

import asyncio
from types import SimpleNamespace

import aio_pika
import pytest

from resilience import CircuitState
from resilience.integrations.rabbitmq import ConsumerError, RegionConsumer, SharedConsumer
from tests.support.rabbitmq_support import (
    KINDS,
    Region,
    bench_at,
    make_registry,
    refuse_errors,
    until,
)


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


def consume(queue, handler, registry, **settings):
    settings = {"region": "eu-west-1", "on_error": refuse_errors, **settings}
    return RegionConsumer(queue, handler, registry=registry, **settings)


def channel_of(consumer):
    queue = consumer._workers[0]._subscription._queue
    return None if queue is None else queue.channel


@pytest.mark.timeout(240)
async def test_a_broker_that_is_killed_in_an_outage_costs_nothing_but_time(own_broker):
    registry = make_registry()
    region, other = Region(registry, "down"), Region(registry, "up")
    async with bench_at(f"{own_broker.url}?reconnect_interval=1") as bench:
        mine = await bench.queue("quorum", x_delivery_limit=20)
        shared = await bench.queue("classic")

        async def handler(message):
            await {"down": region, "up": other}[message.headers["region"]](message)

        sharing = SharedConsumer(
            shared,
            handler,
            region_of=lambda message: message.headers["region"],
            regions=["down", "up"],
            on_error=refuse_errors,
            registry=registry,
        )
        await sharing.declare()
        await bench.publish(mine, *range(20))
        await bench.publish(shared, *range(100, 110), headers={"region": "down"})
        await bench.publish(shared, *range(200, 210), headers={"region": "up"})
        region.error = ConnectionError()
        async with consume(mine, region, registry, region="down"), sharing:
            await until(lambda: region.breaker.snapshot().trips == 1)
            await asyncio.to_thread(own_broker.settle)
            own_broker.kill()
            await asyncio.to_thread(own_broker.start)
            region.error = None
            await until(lambda: len(set(region.done)) == 30, "the backlog of the region")
            await until(lambda: len(set(other.done)) == 10, "the other region's messages")


@pytest.mark.parametrize("what", ["channel", "connection"])
async def test_a_lost_channel_is_opened_again_and_its_messages_are_redelivered(
    bench, registry, region, what
):
    queue = await bench.queue()
    running = asyncio.Event()
    go_on = asyncio.Event()

    async def handler(message):
        running.set()
        await go_on.wait()
        await region(message)

    await bench.publish(queue, *range(5))
    async with consume(queue, handler, registry, prefetch=2) as consumer:
        await running.wait()
        before = channel_of(consumer)
        underlay = await channel_of(consumer).get_underlay_channel()
        if what == "channel":
            await underlay.basic_ack(delivery_tag=4711)  # which the broker does not know
        else:
            await bench.connection.transport.connection.close(ConnectionError())
        await until(lambda: channel_of(consumer) is not before)
        go_on.set()
        await until(lambda: len(set(region.done)) == 5)
        assert (await bench.look(queue))[1] == 1
    # The two that were running could not be acked any more.
    assert len(region.done) in {5, 7}


async def test_a_consumer_that_was_cancelled_stays_so_when_the_connection_is_opened_again(broker):
    registry = make_registry(threshold=1, recovery=60)
    region = Region(registry)
    async with bench_at(f"{broker.url}?reconnect_interval=0.1") as bench:
        queue = await bench.queue()
        await bench.publish(queue, *range(3))
        region.error = ConnectionError()
        async with consume(queue, region, registry, prefetch=1):
            await until(lambda: region.breaker.state is CircuitState.OPEN)
            await bench.connection.transport.connection.close(ConnectionError())
            await until(lambda: not bench.connection.connected.is_set())
            await until(bench.connection.connected.is_set)
            await bench.channel.ready()
            assert await bench.look(queue) == (3, 0)
    assert region.total == 1


async def test_failed_messages_are_forgotten_with_their_channel(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, *range(3))
    region.error = ConnectionError()
    async with consume(queue, region, registry) as consumer:
        await until(lambda: region.breaker.snapshot().trips == 1)
        await until(lambda: len(consumer._workers[0]._messages.unacked.failed) == 3)
        underlay = await channel_of(consumer).get_underlay_channel()
        await underlay.basic_ack(delivery_tag=4711)
        await until(lambda: consumer._workers[0]._messages.unacked.failed == [])
        region.error = None
        await until(lambda: len(region.done) == 3)
    assert await bench.drain(queue) == []


async def test_a_plain_connection_that_is_lost_ends_the_consumer(broker, registry, region):
    async with bench_at(broker.url) as bench:
        queue = await bench.queue()
        connection = await aio_pika.connect(broker.url)
        channel = await connection.channel()
        with pytest.raises(ConsumerError, match="connect_robust would be opened again"):
            async with consume(await channel.get_queue(queue.name), region, registry):
                await connection.transport.connection.close(ConnectionError())
                await asyncio.sleep(60)
        with pytest.raises(ConsumerError, match="the connection to the broker is not open"):
            async with consume(await_queue(channel, queue.name), region, registry):
                pass
        await connection.close()


def await_queue(channel, name):
    return aio_pika.Queue(channel, name, True, False, False, None)


async def test_the_end_of_a_consumer_that_was_replaced_changes_nothing(bench, registry, region):
    queue = await bench.queue()
    async with consume(queue, region, registry) as consumer:
        subscription = consumer._workers[0]._subscription
        await until(lambda: subscription.consumer_tag)
        subscription._on_cancel(SimpleNamespace(consumer_tag="of long ago"))
        assert subscription.consumer_tag is not None
        await bench.publish(queue, "still read")
        await until(lambda: region.done == ["still read"])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_circuit_that_flaps_loses_nothing(bench, kind):
    """Consumers are ended and begun all the time, with messages on the wire."""
    registry = make_registry(threshold=2, recovery=0.05)
    region = Region(registry, takes=0.001)
    queue = await bench.queue(kind)
    await bench.publish(queue, *range(240))

    async def handler(message):
        # Down after every 40 messages, until the circuit has opened once more.
        trips_due = len(region.done) // 40 + 1
        region.error = ConnectionError() if region.breaker.snapshot().trips < trips_due else None
        await region(message)

    async with consume(queue, handler, registry, prefetch=10):
        await until(lambda: len(region.done) >= 240)
    assert region.breaker.snapshot().trips >= 6
    assert sorted(map(int, region.done)) == list(range(240))
    assert await bench.drain(queue) == []
