"""A decorator with a classifier of its own: consumers go by the outcome that it recorded."""

import asyncio

import pytest

from resilience import CircuitState, classify_error, failures, region_breaker
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer, SharedConsumer
from tests.support.rabbitmq_support import make_registry, until

REGION = "eu-west-1"


class QuotaError(Exception):
    """An error of the user's own, which no rule knows."""


class OnError:
    """An `on_error` that remembers what it was called with."""

    def __init__(self):
        self.seen = []

    async def __call__(self, message, error):
        self.seen.append((message.body, type(error)))
        await message.ack()


@pytest.fixture
def on_error():
    return OnError()


def sender(registry, classifier):
    """A decorated function that fails with an error of the user's own, until it is told not to."""

    @region_breaker(region_from="region", registry=registry, classifier=classifier)
    async def send(region, body):
        send.calls.append(body)
        if send.fails:
            raise QuotaError

    send.calls, send.fails = [], True
    return send


async def direct(send, body):
    await send(REGION, body)


async def in_a_task_group(send, body):
    async with asyncio.TaskGroup() as group:
        group.create_task(send(REGION, body))


async def wrapped_by_the_handler(send, body):
    try:
        await send(REGION, body)
    except QuotaError as error:
        raise RuntimeError from error


@pytest.fixture(params=[direct, in_a_task_group, wrapped_by_the_handler])
def call(request):
    return request.param


def consume(queue, call, send, registry, on_error):
    async def handler(message):
        await call(send, message.body.decode())

    return RegionConsumer(queue, handler, region=REGION, on_error=on_error, registry=registry)


async def test_an_error_that_only_the_decorator_counts_is_one_of_the_region(bench, on_error, call):
    registry = make_registry(threshold=1, recovery=60)
    send = sender(registry, failures(QuotaError))
    queue = await bench.queue()
    await bench.publish(queue, "kept")
    async with consume(queue, call, send, registry, on_error) as consumer:
        [worker] = consumer._workers
        await until(lambda: worker._messages.unacked.failed or on_error.seen)
        assert on_error.seen == []
        assert registry.get(REGION).state is CircuitState.OPEN
        assert worker._messages.unacked.failed[0].waits_for_region
        send.fails = False
        registry.reset()
        await until(lambda: len(send.calls) == 2)
    assert send.calls == ["kept", "kept"]
    assert await bench.drain(queue) == []


async def test_an_error_that_only_the_decorator_ignores_goes_to_on_error(bench, on_error, call):
    registry = make_registry(threshold=1, recovery=60)
    registry.configure(classifier=failures(QuotaError, RuntimeError))
    send = sender(registry, classify_error)
    queue = await bench.queue()
    await bench.publish(queue, "given up")
    async with consume(queue, call, send, registry, on_error) as consumer:
        [worker] = consumer._workers
        await until(lambda: worker._messages.unacked.failed or on_error.seen)
        assert [body for body, _ in on_error.seen] == [b"given up"]
        assert registry.get(REGION).state is CircuitState.CLOSED
    assert await bench.drain(queue) == []


async def test_in_a_shared_queue_such_an_error_moves_the_message_to_the_wait_queue(bench):
    registry = make_registry(threshold=1, recovery=60)
    send = sender(registry, failures(QuotaError))
    queue, dead = await bench.queue(), await bench.queue()
    await bench.publish(queue, "kept")
    bench.forget(f"wait.{queue.name}.{REGION}")

    async def handler(message):
        await send(REGION, message.body.decode())

    consumer = SharedConsumer(
        queue,
        handler,
        region_of=lambda _: REGION,
        regions=[REGION],
        on_error=DeadLetterTo(dead.name),
        wait_queue=f"wait.{queue.name}.{{region}}",
        registry=registry,
    )
    await consumer.declare()
    async with consumer:
        await until(lambda: registry.get(REGION).state is CircuitState.OPEN)

        async def is_moved():
            ready = [(await bench.look(name))[0] for name in (queue, dead)]
            waiting, _ = await bench.look(f"wait.{queue.name}.{REGION}")
            # It may have been delivered just before the subscription was cancelled.
            held = len(consumer._workers[1]._messages.unacked)
            return ready == [0, 0] and waiting + held == 1

        await until(is_moved)
        send.fails = False
        registry.reset()
        await until(lambda: len(send.calls) == 2)
    assert await bench.drain(dead) == []
