"""A queue that cannot be consumed for a while, or for good."""

import asyncio

import aio_pika
import pytest
from aio_pika.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity

from resilience.integrations.rabbitmq import ConsumerError, RegionConsumer, SharedConsumer
from resilience.integrations.rabbitmq import unavailability as module
from resilience.integrations.rabbitmq.unavailability import Unavailability
from tests.support.rabbitmq_support import Region, make_registry, refuse_errors, until

FORMER_LIMIT = 10  # refusals, about one a second


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.05)


def consume(queue, region, registry, **settings):
    settings = {"region": "eu-west-1", "on_error": refuse_errors, **settings}
    return RegionConsumer(queue, region, registry=registry, **settings)


def share(queue, region, registry, **settings):
    settings = {"region_of": lambda _: "eu-west-1", "regions": ["eu-west-1"], **settings}
    settings = {"on_error": refuse_errors, "wait_queue": f"wait.{queue}.{{region}}", **settings}
    return SharedConsumer(queue, region, registry=registry, **settings)


async def refused(consumer, times):
    """Wait until the broker has refused the consumer's first subscription this many times."""
    subscription, seen = consumer._workers[0]._subscription, set()

    def is_enough():
        seen.add(subscription.retry_at)
        return len(seen) > times

    await until(is_enough, f"being refused {times} times")


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("layout", [consume, share])
async def test_a_queue_that_is_away_for_long_is_consumed_when_it_is_back(
    bench, registry, region, log, layout
):
    name = bench.name()
    queue = await bench.queue(name=name)
    consumer = layout(queue, region, registry)
    if layout is share:
        await consumer.declare()
        bench.forget(f"wait.{name}.eu-west-1")
    async with consumer:
        await until(lambda: consumer._workers[0]._subscription.consumer_tag)
        await bench.channel.queue_delete(name)
        await refused(consumer, 2 * FORMER_LIMIT)
        queue = await bench.queue(name=name)
        await bench.publish(queue, "hello again")
        await until(lambda: region.done == ["hello again"])
    of_region = "" if layout is share else " for region eu-west-1"
    lines = [(one["level"].name, one["message"]) for one in log]
    assert [level for level, _ in lines] == ["WARNING", "INFO"]
    whose = f"Consumer of queue {name}{of_region}"
    assert f"{whose} cannot read it: NOT_FOUND - no queue '{name}'" in lines[0][1]
    assert lines[1][1] == f"{whose} can read it again"


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("layout", [consume, share])
async def test_after_unavailable_timeout_the_consumer_ends(bench, registry, region, layout):
    name = bench.name()
    queue = await bench.channel.declare_queue(name, durable=True)
    consumer = layout(queue, region, registry, unavailable_timeout=0.2)
    if layout is share:
        await consumer.declare()
        bench.forget(f"wait.{name}.eu-west-1")
    text = f"'{name}' has been unavailable for longer than unavailable_timeout, 0.2 s: NOT_FOUND"
    with pytest.raises(ConsumerError, match=text):
        async with consumer:
            await until(lambda: consumer._workers[0]._subscription.consumer_tag)
            await bench.channel.queue_delete(name)
            await asyncio.sleep(60)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("layout", [consume, share])
@pytest.mark.parametrize(
    "case",
    [
        ({"auto_delete": True}, "is an auto-delete queue"),
        ({"arguments": {"x-expires": 60_000}}, "has x-expires"),
        ({"arguments": {"x-queue-type": "stream"}, "durable": True}, "is a stream"),
    ],
)
async def test_a_queue_that_comes_back_as_one_that_loses_messages_ends_the_consumer(
    bench, registry, region, layout, case
):
    name, (declaration, text) = bench.name(), case
    queue = await bench.queue(name=name)
    consumer = layout(queue, region, registry)
    if layout is share:
        await consumer.declare()
        bench.forget(f"wait.{name}.eu-west-1")
    with pytest.raises(ConsumerError, match=f"queue '{name}' {text}"):
        async with consumer:
            await until(lambda: consumer._workers[0]._subscription.consumer_tag)
            await bench.channel.queue_delete(name)
            await refused(consumer, 1)
            channel = await bench.connection.channel()  # The other one knows the first declaration.
            await channel.declare_queue(name, **declaration)
            await asyncio.sleep(60)
    assert await bench.look(name) == (0, 0)


@pytest.mark.usefixtures("short_pauses")
async def test_a_queue_that_somebody_else_has_for_itself_for_a_while_is_waited_for(
    broker, bench, registry, region, log
):
    name = bench.name()
    queue = await bench.queue(name=name)
    async with consume(queue, region, registry) as consumer:
        await until(lambda: consumer._workers[0]._subscription.consumer_tag)
        await bench.channel.queue_delete(name)
        async with await aio_pika.connect(broker.url) as connection:
            await (await connection.channel()).declare_queue(name, exclusive=True)
            await until(lambda: [one for one in log if "RESOURCE_LOCKED" in one["message"]])
        await bench.queue(name=name)
        await bench.publish(name, "done")
        await until(lambda: region.done == ["done"])


REFUSED = ChannelNotFoundEntity("NOT_FOUND - no queue 'q'")
NOT_CONNECTED = ChannelInvalidStateError("not connected")


def pauses_after(unavailability, *errors):
    pauses, now = [], 0.0
    for error in errors:
        unavailability.record_failure(now, error)
        pauses.append(unavailability.retry_at - now)
        now = unavailability.retry_at
    return pauses


def test_the_pauses_grow_up_to_a_bound_and_are_not_the_same_for_all():
    pauses = pauses_after(Unavailability("q", "", None), *[REFUSED] * 20)
    for pause, planned in zip(pauses, [1, 2, 4, 8, 16, *[30] * 15], strict=True):
        assert 0.75 * planned <= pause <= 1.25 * planned
    assert len(set(pauses)) == 20


def test_a_connection_that_is_lost_does_not_make_them_grow():
    errors = [REFUSED, TimeoutError(), REFUSED, *[NOT_CONNECTED] * 3, REFUSED]
    pauses = pauses_after(Unavailability("q", "", None), *errors)
    assert max(pauses[4:]) <= 1.25


def test_the_last_pause_ends_with_the_timeout():
    unavailability = Unavailability("q", "", 20.0)
    assert sum(pauses_after(unavailability, *[REFUSED] * 8)) == 20.0
    assert not unavailability.has_timed_out(19.9)
    assert unavailability.has_timed_out(20.0)


def test_the_time_in_which_nobody_wants_to_consume_it_does_not_count():
    unavailability = Unavailability("q", "", 10.0)
    unavailability.record_failure(0.0, REFUSED)
    unavailability.record_failure(100.0, REFUSED)
    assert 100.75 <= unavailability.retry_at <= 101.25
    assert not unavailability.has_timed_out(109.0)
    assert unavailability.has_timed_out(110.0)


def test_each_reason_is_logged_once_until_the_queue_can_be_consumed(log):
    unavailability = Unavailability("q", "eu", 60.0)
    assert not unavailability.has_timed_out(0.0)
    for error in [REFUSED, NOT_CONNECTED, REFUSED, NOT_CONNECTED]:
        unavailability.record_failure(0.0, error)
    unavailability.record_success()
    assert unavailability.retry_at == 0.0
    unavailability.record_success()
    unavailability.record_failure(0.0, REFUSED)
    reasons = [one["message"].partition(": ")[2].partition(";")[0] for one in log]
    assert reasons == [str(REFUSED), str(NOT_CONNECTED), "", str(REFUSED)]
    assert "tries again for 60 s, with pauses of 1 s to 30 s" in log[0]["message"]


def test_an_error_without_words_is_logged_by_its_type(log):
    Unavailability("q", "", None).record_failure(0.0, ChannelNotFoundEntity())
    assert "queue q cannot read it: ChannelNotFoundEntity;" in log[0]["message"]


def test_reasons_that_are_never_the_same_are_not_all_remembered():
    unavailability = Unavailability("q", "", None)
    for port in range(10_000):
        unavailability.record_failure(0.0, ChannelInvalidStateError(f"port {port}"))
    kept = sum(len(one) for one in vars(unavailability).values() if hasattr(one, "__len__"))
    assert kept < 100
