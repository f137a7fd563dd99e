"""A user that lacks a right, and a broker that allows or takes less than it did."""

import asyncio

import pytest

from resilience.integrations.rabbitmq import (
    ConsumerError,
    DeadLetterTo,
    MessageError,
    RegionConsumer,
    SharedConsumer,
    hold_when_open,
)
from tests.support import rabbitmq_broker
from tests.support.needs import needs
from tests.support.rabbitmq_support import (
    Region,
    bench_at,
    make_registry,
    refuse_errors,
    until,
)
from tests.support.rabbitmq_wire import Wire

REGION = "eu-west-1"
EVERYTHING = (".*", ".*", ".*")  # configure, write, read
NOTHING_TO_CONFIGURE = ("^$", ".*", ".*")
NO_DEFAULT_EXCHANGE = (".*", r"^(?!amq\.default$).*", ".*")
REFUSED = r"ACCESS_REFUSED - (access to|.*) exchange 'amq\.default' in vhost '/' refused"


@pytest.fixture(scope="module")
def broker_with_rights():
    """A broker with a user whose rights the tests change."""
    needs("rabbitmq-server of its own")
    broker = rabbitmq_broker.started_broker()
    broker.ctl("add_user", "worker", "secret")
    yield broker
    broker.close()


@pytest.fixture
async def bench(broker_with_rights):
    async with bench_at(broker_with_rights.url) as bench:
        yield bench


@pytest.fixture
def url(broker_with_rights):
    """Where the user with fewer rights finds the broker."""
    return broker_with_rights.url.replace("guest:guest", "worker:secret")


@pytest.fixture
def allow(broker_with_rights):
    async def allow(rights):
        arguments = ("set_permissions", "worker", *rights)
        await asyncio.to_thread(broker_with_rights.ctl, *arguments)

    return allow


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


def share(queue, handler, registry, **settings):
    settings = {"on_error": refuse_errors, **settings}
    return SharedConsumer(
        queue,
        handler,
        region_of=lambda _: REGION,
        regions=[REGION],
        wait_queue=f"{queue.name}.wait.{{region}}",
        registry=registry,
        **settings,
    )


async def is_ready(bench, queue, count=1):
    return (await bench.look(queue))[0] == count


# Publishing


async def test_without_the_right_to_publish_a_shared_consumer_does_not_start(
    bench, url, allow, registry, region
):
    queue = await bench.queue("quorum", x_delivery_limit=20)
    bench.forget(f"{queue.name}.wait.{REGION}")
    await bench.publish(queue, *range(60))
    region.breaker.force_open("down")
    await allow(EVERYTHING)
    async with bench_at(url) as mine:
        consumer = share(await mine.channel.get_queue(queue.name), region, registry)
        await consumer.declare()
        await allow(NO_DEFAULT_EXCHANGE)
        with pytest.raises(ConsumerError, match=REFUSED):
            async with consumer:
                pytest.fail("it has started")
    await until(lambda: is_ready(bench, queue, 60))


async def test_without_the_right_to_publish_no_dead_letters_can_be_promised(
    bench, url, allow, registry, region
):
    queue, dead = await bench.queue(), await bench.queue()
    await allow(NO_DEFAULT_EXCHANGE)
    await bench.publish(queue, "hello")
    async with bench_at(url) as mine:
        read = await mine.channel.get_queue(queue.name)
        settings = {"region": REGION, "registry": registry}
        with pytest.raises(ConsumerError, match=REFUSED):
            async with RegionConsumer(read, region, on_error=DeadLetterTo(dead.name), **settings):
                pytest.fail("it has started")
        # A consumer that publishes nothing needs no such right.
        async with RegionConsumer(read, region, on_error=refuse_errors, **settings):
            await until(lambda: region.done == ["hello"])


@pytest.mark.timeout(180)
async def test_a_right_that_is_taken_away_ends_the_consumer_and_loses_nothing(
    bench, url, allow, registry, region
):
    queue = await bench.queue("quorum", x_delivery_limit=20)
    wait_queue = f"{queue.name}.wait.{REGION}"
    bench.forget(wait_queue)
    await allow(EVERYTHING)
    await bench.publish(queue, *range(60))
    region.breaker.force_open("down")
    async with Wire(url) as wire, bench_at(wire.url) as mine:
        consumer = share(await mine.channel.get_queue(queue.name), region, registry)
        await consumer.declare()
        with pytest.raises(ConsumerError, match=REFUSED):
            async with consumer:
                await until(lambda: is_ready(bench, wait_queue, 60))
                await allow(NO_DEFAULT_EXCHANGE)
                # The broker asks for the rights of a channel once; a new channel asks again.
                await consumer._publisher._channel.close()
                # The first message may end the block before the last one is published.
                publishing = asyncio.create_task(bench.publish(queue, *range(60, 120)))
                await asyncio.sleep(60)
        await publishing
        assert wire.acked_too_early == []
        assert wire.most_deliveries() <= 2
    await until(lambda: is_ready(bench, queue, 60))
    await allow(EVERYTHING)


@pytest.mark.timeout(180)
async def test_a_broker_that_allows_no_further_connection_is_reported_at_the_start(
    bench, broker_with_rights, url, allow, *, registry, region
):
    queue, dead = await bench.queue(), await bench.queue()
    await allow(EVERYTHING)
    async with bench_at(url) as mine:
        read = await mine.channel.get_queue(queue.name)
        limits = ("set_user_limits", "worker", '{"max-connections": 1}')
        await asyncio.to_thread(broker_with_rights.ctl, *limits)
        with pytest.raises(ConsumerError, match="a connection of its own, to publish copies"):
            async with RegionConsumer(
                read,
                region,
                region=REGION,
                on_error=DeadLetterTo(dead.name),
                registry=registry,
            ):
                pytest.fail("it has started")
    await asyncio.to_thread(broker_with_rights.ctl, "clear_user_limits", "worker", "all")


# Messages that the broker refuses


@pytest.fixture
async def set_largest_message(broker_with_rights):
    async def set_size(size):
        setting = f"application:set_env(rabbit, max_message_size, {size}), "
        setting += f"persistent_term:put(max_message_size, {size})."  # where RabbitMQ 4 keeps it
        await asyncio.to_thread(broker_with_rights.ctl, "eval", setting)

    yield set_size
    await set_size(128 * 1024**2)


@pytest.mark.timeout(180)
async def test_a_message_that_has_become_too_large_goes_to_on_error_and_no_other(
    bench, set_largest_message, registry, region
):
    queue, seen = await bench.queue(), []
    bench.forget(f"{queue.name}.wait.{REGION}")

    async def on_error(message, error):
        seen.append((message.body, error))
        await message.ack()

    await bench.publish(queue, *range(5), "x" * 5000, *range(5, 10))
    region.breaker.force_open("down")
    await set_largest_message(1000)
    consumer = share(queue, region, registry, on_error=on_error, prefetch=20)
    await consumer.declare()
    async with consumer:
        await until(lambda: seen)
        region.breaker.reset()
        await until(lambda: set(region.done) == set(map(str, range(10))))
    ((body, error),) = seen
    assert body == b"x" * 5000
    assert isinstance(error, MessageError)
    assert "PRECONDITION_FAILED - message size 5000" in str(error)


@pytest.mark.timeout(180)
async def test_a_dead_letter_that_has_become_too_large_stays_and_is_logged_once(
    bench, set_largest_message, registry, region, log
):
    queue, dead = await bench.queue(), await bench.queue()
    large = "x" * 5000
    await bench.publish(queue, large, *range(3))
    region.fails_for = {large: ValueError("a bug")}
    await set_largest_message(1000)
    async with RegionConsumer(
        queue, region, region=REGION, on_error=DeadLetterTo(dead.name), registry=registry
    ):
        await until(lambda: len(region.done) == 3 and region.calls[large] >= 2)
    (line,) = [record["message"] for record in log if record["level"].name == "WARNING"]
    assert line.startswith(
        f"Consumer of queue {queue.name} cannot dead-letter a message, which stays unacked: "
        "the broker refuses a copy of the message: PRECONDITION_FAILED - message size 5000"
    )
    assert [len(message.body) for message in await bench.drain(queue)] == [5000]


# Configuring


@pytest.mark.timeout(180)
async def test_wait_queues_that_exist_need_no_right_to_configure(
    bench, url, allow, *, registry, region, log
):
    queue = await bench.queue()
    wait_queue = f"{queue.name}.wait.{REGION}"
    await share(queue, region, registry).declare()
    bench.forget(wait_queue)
    await allow(NOTHING_TO_CONFIGURE)
    await bench.publish(queue, "hello")
    async with bench_at(url) as mine:
        consumer = share(await mine.channel.get_queue(queue.name), region, registry)
        await consumer.declare()
        async with consumer:
            await until(lambda: region.done == ["hello"])
    lines = [record["message"] for record in log if record["level"].name == "WARNING"]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"Consumer of queue {queue.name} uses wait queue {wait_queue} without knowing its "
        "arguments, since it has no right to configure it: ACCESS_REFUSED - "
    )


@pytest.mark.timeout(180)
async def test_a_wait_queue_that_does_not_exist_needs_the_right_to_configure(
    bench, url, allow, registry, region
):
    queue = await bench.queue()
    await allow(NOTHING_TO_CONFIGURE)
    async with bench_at(url) as mine:
        consumer = share(await mine.channel.get_queue(queue.name), region, registry)
        with pytest.raises(ConsumerError, match="cannot be declared: ACCESS_REFUSED"):
            await consumer.declare()
        with pytest.raises(ConsumerError, match="there is no queue"):
            async with consumer:
                pytest.fail("it has started")


async def test_a_message_that_may_not_be_copied_to_its_queue_is_returned(bench, allow, url, log):
    registry = make_registry()
    registry.get(REGION).force_open("down")
    region = Region(registry)
    queue = await bench.queue("quorum", x_delivery_limit=20)
    await bench.publish(queue, 1)
    await allow(NO_DEFAULT_EXCHANGE)
    counts = []

    async with bench_at(url) as theirs:
        consumed = await theirs.channel.get_queue(queue.name)
        held = hold_when_open(region_of=lambda _: REGION, registry=registry, max_unacked=0.01)

        async def on_message(message):
            counts.append(message.headers.get("x-delivery-count", 0))
            await held(region)(message)

        await consumed.consume(on_message)
        await until(lambda: max(counts, default=0) == 13)
        registry.get(REGION).reset()
        await until(lambda: len(region.done) == 1)
    (line,) = [one["message"] for one in log if "has come back 10 times" in one["message"]]
    assert "a delivery limit may end it" in line
    assert "ACCESS_REFUSED" in line
