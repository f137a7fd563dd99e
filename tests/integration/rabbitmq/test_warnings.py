"""What consumers warn of: one line for each condition, with the broker's own words."""

import asyncio

import pytest

from resilience import CircuitState
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.log import log_consumer
from tests.support.rabbitmq_support import Region, make_registry, refuse_errors, until

REGION = "eu-west-1"


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


@pytest.fixture
def lines(log):
    """Give the lines about the consumer of a queue, with their levels."""

    def about(queue):
        start = f"Consumer of queue {queue} "
        return [
            (record["level"].name, record["message"].removeprefix(start))
            for record in log
            if record["message"].startswith(start)
        ]

    return about


def consume(queue, handler, registry, **settings):
    settings = {"region": REGION, "on_error": refuse_errors, **settings}
    return RegionConsumer(queue, handler, registry=registry, **settings)


async def test_a_full_queue_is_logged_once(bench, registry, region, lines):
    queue = await bench.queue()
    dead = await bench.queue(x_max_length=1, x_overflow="reject-publish")
    await bench.publish(queue, *range(8))
    region.error = ValueError("a bug")
    async with consume(queue, region, registry, on_error=DeadLetterTo(dead.name)):
        await until(lambda: region.total >= 10)  # Some have been attempted again.
        await bench.drain(dead)  # There is room for one more.
        await until(lambda: region.total >= 20)
    ((level, text),) = lines(queue)
    assert level == "WARNING"
    assert text == (
        f"cannot publish to queue {dead}: the broker has nacked a message, since the queue is full "
        "or not available; the messages wait unacked"
    )


async def test_calls_that_take_too_long_are_logged_once(bench, registry, region, lines):
    queue = await bench.queue()
    go_on = asyncio.Event()

    async def handler(message):
        await go_on.wait()
        await region(message)

    await bench.publish(queue, *range(3))
    async with consume(queue, handler, registry, max_unacked=0.05):
        await until(lambda: lines(queue))
        await asyncio.sleep(0.1)
        go_on.set()
        await until(lambda: len(region.done) == 3)
    ((level, text),) = lines(queue)
    assert level == "WARNING"
    assert text.startswith("has a call that is still running after 0.05 s (max_unacked); ")


async def test_a_channel_that_the_broker_closes_is_logged_with_the_reason(
    bench, registry, region, lines
):
    queue = await bench.queue()
    await bench.publish(queue, *range(3))
    go_on = asyncio.Event()

    async def handler(message):
        if not lines(queue):
            await message.channel.basic_ack(delivery_tag=4711)  # which the broker does not know
            await go_on.wait()
        await region(message)

    async with consume(queue, handler, registry):
        await until(lambda: lines(queue))
        go_on.set()
        await until(lambda: len(set(region.done)) == 3)
    ((level, text),) = lines(queue)
    assert level == "WARNING"
    assert text == (
        "has lost its channel, and all messages on it: "
        "PRECONDITION_FAILED - unknown delivery tag 4711"
    )


async def test_a_channel_that_the_consumer_closes_is_not_logged(bench, registry, region, lines):
    queue = await bench.queue()
    await bench.publish(queue, 1)
    async with consume(queue, region, registry):
        await until(lambda: region.done)
    assert lines(queue) == []


async def test_a_full_hand_is_logged_once(bench, region, lines, registry):
    queue = await bench.queue()
    region.error = ConnectionError()
    await bench.publish(queue, *range(20))
    async with consume(queue, region, registry, max_failed_held=2, prefetch=2):
        await until(lambda: lines(queue))
        await until(lambda: region.total > 8)
        assert region.breaker.state is not CircuitState.CLOSED
    ((level, text),) = lines(queue)
    assert level == "WARNING"
    assert text.startswith("holds ")
    assert "messages that have failed (max_failed_held)" in text


@pytest.mark.parametrize("error", [ConnectionError(), ValueError("a bug")])
async def test_a_message_that_is_settled_although_its_call_failed_is_logged_once(
    bench, registry, region, lines, *, error
):
    queue = await bench.queue()
    await bench.publish(queue, *range(2))
    region.error = error

    async def handler(message):
        async with message.process():
            await region(message)

    async with consume(queue, handler, registry):
        await until(lambda: region.total == 2)
    ((level, text),) = lines(queue)
    assert level == "WARNING"
    assert text == (
        "has a handler that settled a message itself although its call failed "
        f"({type(error).__name__}): the message can neither be held nor go to on_error; leave out "
        "`message.process()`"
    )


async def test_a_handler_that_settles_a_message_itself_is_not_logged(
    bench, registry, region, lines
):
    queue = await bench.queue()
    await bench.publish(queue, 1)

    async def handler(message):
        async with message.process():
            await region(message)

    async with consume(queue, handler, registry):
        await until(lambda: region.done)
    assert lines(queue) == []


async def test_a_condition_that_goes_on_is_logged_again_after_a_while(log, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    warnings = ConsumerWarnings("inbound\nforged")
    for now[0] in (0.0, 599.0, 600.0, 601.0):
        warnings.warn("full", f"is full at {now[0]:g}")
    warnings.end("full")
    warnings.end("full", "is never logged")
    warnings.warn("full", "is full again")
    assert [record["message"] for record in log] == [
        rf"Consumer of queue inbound\nforged {text}"
        for text in ("is full at 0", "is full at 600", "is full again")
    ]


async def test_braces_in_the_words_of_a_broker_are_logged_as_they_are(log):
    ConsumerWarnings("inbound {}").warn("full", "is full: {} of {1}")
    log_consumer("INFO", "inbound", "can read {} again", "eu {}")
    assert [record["message"] for record in log] == [
        "Consumer of queue inbound {} is full: {} of {1}",
        "Consumer of queue inbound for region eu {} can read {} again",
    ]
    assert log[1]["extra"] == {"queue": "inbound", "region": "eu {}"}
