"""FastStream on a real RabbitMQ: its queues with our consumers, its handlers held by ours."""

import asyncio
from uuid import uuid4

import pytest
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue

from resilience import CircuitState, default_registry
from resilience.integrations.rabbitmq import hold_when_open
from tests.support.pages import run_page
from tests.support.rabbitmq_support import make_registry, until

REGION = "eu-west-1"


@pytest.fixture
async def faststream(broker):
    faststream = RabbitBroker(broker.url, default_channel=Channel(prefetch_count=5))
    yield faststream
    await faststream.stop()


@pytest.fixture
def queue():
    return RabbitQueue(f"faststream.{uuid4().hex[:8]}", durable=True)


@pytest.fixture
def registry():
    return make_registry(threshold=2)


async def left_in(faststream, queue):
    declared = await faststream.declare_queue(queue)
    return (await declared.declare()).message_count


@pytest.fixture
def page(broker):
    """What the page of the docs defines, which uses the default registry."""
    yield run_page(
        "how-to/message-workers.md", without=["celery", "StubBroker"], url=str(broker.url)
    )
    default_registry.clear()


async def test_a_region_consumer_reads_a_queue_of_faststream(bench, faststream, page):
    queue = await bench.queue(name="inbound.eu-west-1")
    await bench.queue(name="inbound.dead")
    await bench.publish(queue, "1")
    done, stopped = [], asyncio.Event()

    async def handle(message):
        done.append(message.body)
        stopped.set()

    await page["consume_beside"](faststream, stopped, handle)
    assert done == [b"1"]


async def test_the_subscriber_of_the_page_gets_its_message(bench, page):
    queue = await bench.queue(name="inbound.eu-west-1")
    await bench.publish(queue, '{"a": 1}', headers={"region": "eu-west-1"})
    await page["faststream_broker"].start()
    await until(lambda: len(default_registry) == 1)

    await page["faststream_broker"].stop()
    assert await bench.drain(queue) == []


@pytest.mark.parametrize("policy", [AckPolicy.REJECT_ON_ERROR, AckPolicy.NACK_ON_ERROR])
async def test_its_messages_are_held_while_the_region_is_down(faststream, queue, registry, policy):
    breaker = registry.get(REGION)
    is_down, calls, done = True, [], []

    @faststream.subscriber(queue, ack_policy=policy)
    @hold_when_open(region_of=lambda message: message.headers["region"], registry=registry)
    async def handle(body: dict[str, int], message: RabbitMessage) -> None:
        calls.append(body["number"])
        with breaker.acquire():
            if is_down:
                raise ConnectionError
        done.append(body["number"])

    await faststream.start()
    for number in range(20):
        await faststream.publish({"number": number}, queue, headers={"region": REGION})
    await until(lambda: breaker.state is CircuitState.OPEN)
    await until(lambda: breaker.snapshot().probes >= 2)
    assert done == []
    is_down = False
    await until(lambda: len(done) == 20)
    assert sorted(done) == list(range(20))
    assert await left_in(faststream, queue) == 0


def test_a_handler_that_takes_only_the_body_is_refused(faststream, queue, registry):
    with pytest.raises(TypeError, match="take one as a parameter: `message: RabbitMessage`"):

        @faststream.subscriber(queue)
        @hold_when_open(region_of=lambda message: REGION, registry=registry)
        async def handle(body: dict[str, int]) -> None: ...
