"""SharedConsumer against a real RabbitMQ: what is moved, what is copied, what can go wrong."""

import asyncio
from datetime import UTC, datetime

import aio_pika
import pytest

from resilience import CircuitBreakerOpenError, CircuitState
from resilience.integrations.rabbitmq import ConsumerError, DeadLetterTo, SharedConsumer
from tests.support.rabbitmq_support import (
    KINDS,
    Region,
    make_registry,
    refuse_errors,
    settle_down,
    until,
)


class Regions:
    """Two regions, one of which may be down, and the handler that calls them."""

    def __init__(self, **policy):
        self.registry = make_registry(**policy)
        self.down, self.up = Region(self.registry, "down"), Region(self.registry, "up")
        self.seen = []

    async def __call__(self, message):
        self.seen.append(message)
        await getattr(self, region_of(message))(message)


def region_of(message):
    return message.headers["region"]


@pytest.fixture
def regions():
    return Regions()


def consume(bench, queue, regions, **settings):
    pattern = settings.pop("wait_queue", f"wait.{queue.name}.{{region}}")
    bench.forget(f"wait.{queue.name}.up", f"wait.{queue.name}.down")
    settings = {"region_of": region_of, "on_error": refuse_errors, **settings}
    settings = {"regions": ["down", "up"], "registry": regions.registry, **settings}
    handler = settings.pop("handler", regions)
    return SharedConsumer(queue, handler, wait_queue=pattern, **settings)


async def publish(bench, queue, region, *bodies, **properties):
    headers = {"region": region, **properties.pop("headers", {})}
    await bench.publish(queue, *bodies, headers=headers, **properties)


def wait_queue(queue, region="down"):
    return f"wait.{queue.name}.{region}"


# What it does


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefetch", [1, 10])
async def test_a_region_that_is_down_does_not_block_the_others(bench, regions, kind, prefetch):
    queue = await bench.queue(kind)
    await publish(bench, queue, "down", *range(10))
    await publish(bench, queue, "up", *range(10, 20))
    regions.down.error = ConnectionError()
    consumer = consume(bench, queue, regions, prefetch=prefetch)
    await consumer.declare()
    async with consumer:
        await until(lambda: len(regions.up.done) == 10)
        assert regions.down.done == []
        await until(lambda: regions.down.breaker.snapshot().trips == 1)
        regions.down.error = None
        await until(lambda: len(regions.down.done) == 10)
    for name in (queue, wait_queue(queue), wait_queue(queue, "up")):
        assert await bench.drain(name) == []


async def test_messages_of_two_regions_are_moved(bench, regions):
    queue = await bench.queue()
    await publish(bench, queue, "down", *range(5))
    await publish(bench, queue, "up", *range(5, 10))
    regions.down.breaker.force_open("both")
    regions.up.breaker.force_open("both")
    consumer = consume(bench, queue, regions)
    await consumer.declare()
    async with consumer:

        async def all_are_moved():
            return await bench.look(queue) == (0, 1)

        await until(all_are_moved)
        regions.registry.reset()
        await until(lambda: len(regions.down.done) == len(regions.up.done) == 5)


async def test_no_message_of_a_healthy_region_is_moved(bench, regions):
    queue = await bench.queue()
    consumer = consume(bench, queue, regions)
    await consumer.declare()
    async with consumer:
        await publish(bench, queue, "up", *range(10))
        await until(lambda: len(regions.up.done) == 10)
    assert {message.routing_key for message in regions.seen} == {queue.name}


async def test_during_a_slow_start_a_region_is_called_from_its_wait_queue(bench):
    regions = Regions(threshold=1)
    queue = await bench.queue()
    consumer = consume(bench, queue, regions, prefetch=8)
    await consumer.declare()
    regions.down.takes = 0.02
    async with consumer:
        regions.down.breaker.force_open("for a moment")
        regions.down.breaker.reset()
        await settle_down()
        await publish(bench, queue, "down", *range(20))
        await until(lambda: len(regions.down.done) == 20)
        assert {message.routing_key for message in regions.seen[:3]} == {wait_queue(queue)}
        await publish(bench, queue, "down", 20)
        await until(lambda: len(regions.down.done) == 21)
    assert regions.seen[-1].routing_key == queue.name
    assert regions.down.most <= 8


@pytest.mark.parametrize("status", [429, 503])
async def test_a_message_that_failed_is_moved_and_attempted_again_from_the_wait_queue(
    bench, regions, http_error, status
):
    queue = await bench.queue()
    await publish(bench, queue, "up", "again")
    regions.up.error = http_error(status)
    consumer = consume(bench, queue, regions)
    await consumer.declare()
    async with consumer:
        await until(lambda: regions.up.total == 2)
        regions.up.error = None
        await until(lambda: regions.up.done == ["again"])
    assert [m.routing_key for m in regions.seen[:2]] == [queue.name, wait_queue(queue, "up")]


async def test_any_other_error_goes_to_on_error(bench, regions, http_error):
    queue = await bench.queue()
    await publish(bench, queue, "up", "bad")
    regions.up.error = http_error(400)
    seen = []

    async def on_error(message, error):
        seen.append((message.body, error.status))
        await message.ack()

    consumer = consume(bench, queue, regions, on_error=on_error)
    await consumer.declare()
    async with consumer:
        await until(lambda: seen)
    assert seen == [(b"bad", 400)]


async def test_a_message_that_on_error_does_not_settle_is_passed_to_it_again(
    bench, regions, http_error
):
    queue = await bench.queue()
    await publish(bench, queue, "up", "bad")
    regions.up.error = http_error(400)
    seen = []

    async def on_error(message, error):
        seen.append(message.body)
        if len(seen) == 2:
            await message.ack()

    consumer = consume(bench, queue, regions, on_error=on_error)
    await consumer.declare()
    async with consumer:
        await until(lambda: len(seen) == 2)
    assert await bench.drain(queue) == []


@pytest.mark.parametrize(
    ("headers", "error"), [({}, KeyError), ({"region": "elsewhere"}, ValueError)]
)
async def test_a_message_of_an_unknown_region_goes_to_on_error(bench, regions, headers, error):
    queue = await bench.queue()
    await bench.publish(queue, "whose?", headers=headers)
    seen = []

    async def on_error(message, fault):
        seen.append(fault)
        await message.ack()

    consumer = consume(bench, queue, regions, on_error=on_error)
    await consumer.declare()
    async with consumer:
        await until(lambda: seen)
    assert isinstance(seen[0], error)
    assert len(regions.registry) == 2  # Anybody may have sent the header.


async def test_a_message_that_the_handler_settled_is_not_moved(bench, regions):
    queue = await bench.queue()
    await publish(bench, queue, "up", "mine")
    seen = []

    async def handler(message):
        await message.ack()
        seen.append(message)
        raise ConnectionError

    consumer = consume(bench, queue, regions, handler=handler)
    await consumer.declare()
    async with consumer:
        await until(lambda: seen)
        await publish(bench, queue, "up", "mine too")
        await until(lambda: len(seen) == 2)
    assert await bench.drain(wait_queue(queue, "up")) == []


# What comes along


async def test_a_copy_equals_the_original_except_for_what_binds_it_to_its_queue(bench, regions):
    queue, carbon = await bench.queue(), await bench.queue()
    exchange = await bench.channel.declare_exchange(bench.name("x"), auto_delete=True)
    await queue.bind(exchange, "messages.de")
    when = datetime(2026, 11, 25, 12, tzinfo=UTC)
    properties = {
        "content_type": "application/json", "content_encoding": "identity", "priority": 3,
        "correlation_id": "c", "reply_to": "r", "message_id": "m", "timestamp": when,
        "type": "t", "app_id": "a", "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
    }  # fmt: skip
    headers = {"region": "down", "tenant": 7, "x-delivery-count": 5, "CC": [carbon.name]}
    headers["x-death"] = [{"queue": "old"}]
    await exchange.publish(
        aio_pika.Message(b"{}", headers=headers, user_id="guest", expiration=600, **properties),
        "messages.de",
    )
    regions.down.breaker.force_open("down")
    # Of another type it would write a delivery count of its own.
    consumer = consume(bench, queue, regions, wait_arguments={"x-queue-type": "classic"})
    await consumer.declare()
    async with consumer:

        async def is_moved():
            return (await bench.look(wait_queue(queue)))[0] == 1

        await until(is_moved)
    [copy] = await bench.drain(wait_queue(queue))
    assert copy.body == b"{}"
    assert {name: getattr(copy, name) for name in properties} == properties
    assert (copy.user_id, copy.expiration) == (None, None)
    assert copy.headers == {
        "region": "down",
        "tenant": 7,
        "x-original-exchange": exchange.name,
        "x-original-routing-key": "messages.de",
    }
    assert await bench.drain(carbon) == []


async def test_a_dead_letter_from_a_wait_queue_still_names_its_origin(bench, regions, http_error):
    queue, dead = await bench.queue(), await bench.queue()
    await publish(bench, queue, "down", "bad")
    regions.down.breaker.force_open("down")
    regions.down.error = http_error(400)
    consumer = consume(bench, queue, regions, on_error=DeadLetterTo(dead.name))
    await consumer.declare()
    async with consumer:

        async def is_moved():
            return (await bench.look(wait_queue(queue)))[0] == 1

        await until(is_moved)
        regions.down.breaker.reset()
        await until(lambda: regions.down.total)
    [message] = await bench.drain(dead)
    assert message.headers["x-original-routing-key"] == queue.name


# What can go wrong


async def test_without_its_wait_queues_it_does_not_start(bench, regions):
    queue = await bench.queue()
    with pytest.raises(ConsumerError, match=rf"there is no queue '{wait_queue(queue)}'"):
        async with consume(bench, queue, regions):
            pass


async def test_a_wait_queue_that_vanishes_ends_it_and_loses_nothing(bench, regions):
    queue = await bench.queue()
    regions.down.breaker.force_open("down")
    consumer = consume(bench, queue, regions)
    await consumer.declare()
    with pytest.raises(ConsumerError, match="create it, or call declare"):
        async with consumer:
            await bench.channel.queue_delete(wait_queue(queue))
            # Two with the same id: aio-pika would take one of them for confirmed.
            await publish(bench, queue, "down", "1", "2", message_id="same")
            await asyncio.sleep(60)
    assert [message.body for message in await bench.drain(queue)] == [b"1", b"2"]


@pytest.mark.parametrize(
    "wrong", [{"x_message_ttl": 1000}, {"x_dead_letter_exchange": ""}, {"x_expires": 100_000}]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_queue_that_moves_or_loses_messages_is_rejected(bench, regions, kind, wrong):
    queue = await bench.queue()
    consumer = consume(bench, queue, regions)
    [name] = (argument.replace("_", "-") for argument in wrong)
    await bench.queue(kind, name=wait_queue(queue), **wrong)
    await bench.queue(kind, name=wait_queue(queue, "up"))
    with pytest.raises(ConsumerError, match=f"not what it must be .*{name}"):
        async with consumer:
            pass


@pytest.mark.parametrize("kind", KINDS)
async def test_wait_queues_of_either_type_are_accepted(bench, regions, kind):
    queue = await bench.queue()
    consumer = consume(bench, queue, regions)
    for region in ("up", "down"):
        await bench.queue(kind, name=wait_queue(queue, region))
    async with consumer:
        pass


@pytest.mark.parametrize(
    ("version", "arguments", "warns"),
    [
        ("3.10.8", {"x_queue_type": "quorum"}, False),
        ("3.13.7", {"x_queue_type": "quorum"}, False),
        ("4.0.5", {"x_queue_type": "quorum"}, True),
        ("4.3.0", {"x_queue_type": "quorum"}, True),
        ("4.0.5", {"x_queue_type": "quorum", "x_delivery_limit": 50}, False),
        ("4.0.5", {"x_queue_type": "classic"}, False),
    ],
)
async def test_a_wait_queue_with_the_brokers_own_delivery_limit_is_logged_once(
    bench, regions, log, *, version, arguments, warns
):
    queue = await bench.queue()
    wanted = {name.replace("_", "-"): value for name, value in arguments.items()}
    consumer = consume(bench, queue, regions, wait_arguments=wanted)
    await consumer.declare()
    properties = bench.connection.transport.connection.server_properties
    properties["version"] = version
    async with consumer:
        pass
    name = wait_queue(queue)
    lines = [one["message"] for one in log if f"wait queue {name}" in one["message"]]
    expected = (
        f"Consumer of queue {queue} uses wait queue {name}, which has no x-delivery-limit: "
        f"RabbitMQ {version} drops a message from it that has been returned 20 times, "
        "unless a policy sets another limit"
    )
    assert lines == [expected] * warns


async def test_the_wait_queues_of_declare_keep_what_is_returned_often(bench, regions):
    queue = await bench.queue()
    await consume(bench, queue, regions).declare()
    name = wait_queue(queue)
    await bench.publish(name, "often")
    channel = await bench.connection.channel()
    reader = await channel.get_queue(name)
    for _ in range(50):
        await until(lambda: is_ready(bench, name))
        message = await reader.get()
        await message.nack(requeue=True)
    await channel.close()
    assert [message.body for message in await bench.drain(name)] == [b"often"]


async def is_ready(bench, queue):
    return (await bench.look(queue))[0] == 1


async def test_wait_queues_with_arguments_are_accepted_if_they_are_named(bench, regions):
    queue = await bench.queue()
    arguments = {"x-queue-type": "classic", "x-max-length": 1000}
    consumer = consume(bench, queue, regions, wait_arguments=arguments)
    await consumer.declare()
    async with consumer:
        pass
    with pytest.raises(ConsumerError, match="x-max-length"):
        async with consume(bench, queue, regions):
            pass


async def test_declaring_twice_changes_nothing_and_a_different_queue_is_an_error(bench, regions):
    queue = await bench.queue()
    consumer = consume(bench, queue, regions)
    await consumer.declare()
    await consumer.declare()
    other = consume(bench, queue, regions, wait_arguments={"x-queue-type": "classic"})
    with pytest.raises(ConsumerError, match="cannot be declared"):
        await other.declare()


async def test_a_wait_queue_that_may_not_be_declared_is_an_error(bench, regions):
    queue = await bench.queue()
    consumer = consume(bench, queue, regions, wait_queue="amq.{region}")
    with pytest.raises(ConsumerError, match=r"'amq.down' cannot be declared.*reserved prefix"):
        await consumer.declare()


async def test_a_wait_queue_that_is_full_keeps_messages_where_they_are(bench, regions):
    queue = await bench.queue()
    arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    consumer = consume(bench, queue, regions, wait_arguments=arguments)
    await consumer.declare()
    regions.down.breaker.force_open("down")
    await publish(bench, queue, "down", *range(4))
    async with consumer:

        async def is_full():
            return (await bench.look(wait_queue(queue)))[0] == 1

        await until(is_full)
        regions.down.breaker.reset()
        await until(lambda: len(regions.down.done) == 4)
    assert await bench.drain(queue) == []


async def test_a_publishing_channel_that_dies_is_opened_again(bench, regions):
    queue = await bench.queue()
    consumer = consume(bench, queue, regions)
    await consumer.declare()
    regions.down.breaker.force_open("down")
    async with consumer:
        await publish(bench, queue, "down", "first")

        async def are_moved(count):
            return (await bench.look(wait_queue(queue)))[0] == count

        await until(lambda: are_moved(1))
        await consumer._publisher._channel.close()
        await publish(bench, queue, "down", "second")
        await until(lambda: are_moved(2))


async def test_messages_that_arrive_while_it_stops_go_back(bench, regions):
    queue = await bench.queue()
    regions.up.takes = 0.2
    await publish(bench, queue, "up", *range(10))
    consumer = consume(bench, queue, regions, prefetch=2)
    await consumer.declare()
    async with consumer:
        await until(lambda: regions.up.running == 2)
    left = [int(message.body) for message in await bench.drain(queue)]
    assert sorted(map(int, regions.up.done)) + left == list(range(10))


async def test_a_message_whose_call_is_rejected_is_moved(bench, regions):
    queue = await bench.queue()
    tries = []

    async def handler(message):
        tries.append(message.routing_key)
        if len(tries) == 1:
            raise CircuitBreakerOpenError("up", CircuitState.OPEN, "just now", 0.1)

    await publish(bench, queue, "up", "late")
    consumer = consume(bench, queue, regions, handler=handler)
    await consumer.declare()
    async with consumer:
        await until(lambda: len(tries) == 2)
    assert tries == [queue.name, wait_queue(queue, "up")]


async def test_a_message_that_cannot_be_moved_goes_back_after_max_unacked(bench, regions):
    queue = await bench.queue()
    arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    seen = []

    def note_region(message):
        seen.append((message.body, message.redelivered))
        return region_of(message)

    settings = {"wait_arguments": arguments, "max_unacked": 0.2, "region_of": note_region}
    consumer = consume(bench, queue, regions, **settings)
    await consumer.declare()
    regions.down.breaker.force_open("down")
    await publish(bench, queue, "down", "moved", "no room")
    async with consumer:
        await until(lambda: (b"no room", True) in seen)
    assert [message.body for message in await bench.drain(queue)] == [b"no room"]


async def test_it_stops_immediately_while_a_message_cannot_be_moved(bench, regions):
    queue = await bench.queue()
    arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    consumer = consume(bench, queue, regions, wait_arguments=arguments, stop_timeout=60)
    await consumer.declare()
    regions.down.breaker.force_open("down")
    await publish(bench, queue, "down", "moved", "no room")
    async with asyncio.timeout(30), consumer:

        async def is_full():
            return (await bench.look(wait_queue(queue)))[0] == 1

        await until(is_full)
    assert [message.body for message in await bench.drain(queue)] == [b"no room"]


async def test_a_message_that_waits_for_a_slot_when_it_stops_goes_back(bench, regions):
    """Another queue of the same region has all the slots."""
    queue, other = await bench.queue(), await bench.queue()
    consumer, busy = (consume(bench, one, regions, prefetch=1) for one in (queue, other))
    await consumer.declare()
    await busy.declare()
    go_on = asyncio.Event()

    async def hang(body):
        await Region.call(regions.up, body)
        await go_on.wait()

    regions.up.protected = regions.up.breaker(hang)
    async with busy:
        await publish(bench, other, "up", "busy")
        await until(lambda: regions.up.total == 1)
        async with asyncio.timeout(30):
            async with consumer:
                await publish(bench, queue, "up", "waits")

                async def is_delivered():
                    return (await bench.look(queue))[0] == 0

                await until(is_delivered)
                asyncio.get_running_loop().call_later(0.1, go_on.set)
    assert [message.body for message in await bench.drain(queue)] == [b"waits"]


async def test_a_wait_queue_that_is_full_holds_up_no_other_region(bench, regions, monkeypatch):
    monkeypatch.setattr("resilience.integrations.rabbitmq.router._FIRST_PAUSE", 0.05)
    queue = await bench.queue()
    arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    consumer = consume(bench, queue, regions, wait_arguments=arguments, prefetch=2)
    await consumer.declare()
    regions.down.breaker.force_open("down")
    await publish(bench, queue, "down", *range(10))
    await publish(bench, queue, "up", *range(10))
    async with consumer:
        await until(lambda: len(regions.up.done) == 10)
        assert (await bench.look(wait_queue(queue)))[0] == 1
    assert regions.down.total == 0
