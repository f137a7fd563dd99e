"""hold_when_open: what happens to a message whose call has failed, against a real RabbitMQ."""

import asyncio
import sys

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from resilience import default_registry
from resilience.integrations.rabbitmq import DeadLetterTo, hold_when_open
from tests.support.pages import run_page
from tests.support.rabbitmq_support import KINDS, Region, make_registry, settle_down, until

MODULE = "resilience.integrations.rabbitmq.hold_when_open"


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(sys.modules[MODULE], "_SHORTEST_PAUSE", 0.01)


def held(handler, registry, **settings):
    settings = {"region_of": lambda _: "eu-west-1", "registry": registry, **settings}
    return hold_when_open(**settings)(handler)


class Consumer:
    """A consumer as aio-pika has it, with nothing around the handler but a count."""

    def __init__(self, bench, queue, handler, prefetch=1):
        self.bench, self.queue, self.handler, self.prefetch = bench, queue, handler, prefetch
        self.deliveries = 0

    async def __aenter__(self):
        self.channel = await self.bench.connection.channel()
        await self.channel.set_qos(self.prefetch)
        queue = await self.channel.get_queue(self.queue.name, ensure=False)
        await queue.consume(self._on_message)
        return self

    async def __aexit__(self, *_):
        await self.channel.close()

    async def _on_message(self, message):
        self.deliveries += 1
        await self.handler(message)


@pytest.fixture
def forgotten_regions():
    """The examples of the page use the default registry."""
    yield
    default_registry.clear()


@pytest.mark.usefixtures("short_pauses", "forgotten_regions")
async def test_the_example_of_the_page_outlives_a_region_that_fails_once(bench, mocked_http):
    page = run_page("how-to/message-workers.md", without=["faststream", "celery", "StubBroker"])
    url = "https://api.eu-west-1.example/messages"
    for status in [503, *[200] * 5]:
        mocked_http.post(url, status=status, reason="")
    queue = await bench.queue()
    await bench.publish(queue, *range(5), headers={"region": "eu-west-1"})
    async with (
        aiohttp.ClientSession() as session,
        Consumer(bench, queue, page["make_callback"](session)) as consumer,
    ):
        await until(lambda: consumer.deliveries == 5)
        await until(lambda: sum(map(len, mocked_http.requests.values())) == 6)
        await settle_down()
    assert await bench.drain(queue) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_an_outage_costs_no_delivery_however_many_probes_fail(bench, kind):
    limit = 20
    registry = make_registry(threshold=1, recovery=0.01)
    region = Region(registry)
    dead = await bench.queue()
    settings = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": dead.name}
    if kind == "quorum":
        settings["x_delivery_limit"] = limit
    queue = await bench.queue(kind, **settings)
    await bench.publish(queue, *range(3))
    region.error = ConnectionError()
    async with Consumer(bench, queue, held(region, registry)) as consumer:
        await until(lambda: region.total > 2 * limit)
        assert consumer.deliveries == 1
        region.error = None
        await until(lambda: len(region.done) == 3)
    assert consumer.deliveries == 3
    assert await bench.drain(queue) == await bench.drain(dead) == []


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("status", [503, 429, 408])
async def test_a_message_that_fails_while_the_circuit_is_closed_is_attempted_again(
    bench, http_error, status
):
    registry = make_registry(threshold=100)
    region, queue = Region(registry), await bench.queue()
    await bench.publish(queue, "again")
    region.error = http_error(status)
    async with Consumer(bench, queue, held(region, registry)) as consumer:
        await until(lambda: region.total == 4)
        region.error = None
        await until(lambda: region.done == ["again"])
    assert consumer.deliveries == 1
    assert await bench.drain(queue) == []


async def test_the_pauses_between_its_attempts_grow(bench, registry, region, monkeypatch):
    registry = make_registry(threshold=100)
    region, queue, pauses = Region(registry), await bench.queue(), []
    sleep = asyncio.sleep

    async def short_sleep(seconds):
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    await bench.publish(queue, "again")
    region.error = ConnectionError()
    message = await queue.get()
    region.takes = 0
    monkeypatch.setattr(asyncio, "sleep", short_sleep)
    task = asyncio.create_task(held(region, registry, max_unacked=10_000)(message))
    while len(pauses) < 9:
        await sleep(0)
    region.error = None
    await task
    for pause, planned in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=False):
        assert planned <= pause <= 1.25 * planned


async def test_a_message_that_keeps_failing_goes_back_after_max_unacked(bench):
    registry = make_registry(threshold=100)
    region, queue = Region(registry), await bench.queue()
    await bench.publish(queue, "again")
    region.error = ConnectionError()
    async with Consumer(bench, queue, held(region, registry, max_unacked=0.1)) as consumer:
        await until(lambda: consumer.deliveries == 3)
    assert region.total <= consumer.deliveries
    assert len(await bench.drain(queue)) == 1


async def test_what_the_server_asks_for_in_retry_after_is_kept(bench, registry, http_error):
    queue, error = await bench.queue(), http_error(429)
    error.headers = CIMultiDictProxy(CIMultiDict({"Retry-After": "60"}))
    region = Region(registry)
    region.error = error
    await bench.publish(queue, "later")
    async with Consumer(bench, queue, held(region, registry, max_unacked=2)) as consumer:
        await until(lambda: consumer.deliveries == 2)
    assert region.total == consumer.deliveries


# Errors that another attempt would not cure


async def test_any_other_error_is_raised_and_the_message_goes_back_after_max_unacked(
    bench, registry
):
    queue, errors = await bench.queue(), []

    async def handler(message):
        raise LookupError

    decorated = held(handler, registry, max_unacked=0.1)

    async def on_message(message):
        try:
            await decorated(message)
        except LookupError as error:
            errors.append(error)

    await bench.publish(queue, "bad")
    async with Consumer(bench, queue, on_message) as consumer:
        await until(lambda: consumer.deliveries == 3)
    assert len(errors) >= 2
    assert len(await bench.drain(queue)) == 1


async def test_a_caller_may_settle_the_message_of_an_error_that_was_raised(bench, registry):
    queue, rejected = await bench.queue(), asyncio.Event()

    async def handler(message):
        raise LookupError

    decorated = held(handler, registry, max_unacked=0.05)

    async def on_message(message):
        with pytest.raises(LookupError):
            await decorated(message)
        await message.reject(requeue=False)
        rejected.set()

    await bench.publish(queue, "bad", "good")
    async with Consumer(bench, queue, on_message) as consumer:
        await until(lambda: consumer.deliveries == 2)
        await rejected.wait()
        end = asyncio.get_running_loop().time() + 0.05
        await until(lambda: asyncio.get_running_loop().time() > end)
    assert await bench.drain(queue) == []


async def test_with_on_error_nothing_is_raised(bench, registry, http_error):
    queue, region, got = await bench.queue(), Region(registry), []

    async def on_error(message, error):
        got.append((message.body, error))
        await message.ack()

    region.fails_for["bad"] = http_error(404)
    await bench.publish(queue, "bad", "good")
    async with Consumer(bench, queue, held(region, registry, on_error=on_error)):
        await until(lambda: region.done == ["good"])
    assert got == [(b"bad", region.fails_for["bad"])]
    assert await bench.drain(queue) == []


@pytest.mark.parametrize("how", ["raises", "forgets", "is cancelled"])
async def test_what_on_error_leaves_unsettled_goes_back_after_max_unacked(
    bench, registry, log, how
):
    queue = await bench.queue()

    async def handler(message):
        raise LookupError

    async def on_error(message, error):
        if how == "raises":
            raise ValueError
        if how == "is cancelled":
            raise asyncio.CancelledError

    decorated = held(handler, registry, on_error=on_error, max_unacked=0.1)
    await bench.publish(queue, "bad")
    async with Consumer(bench, queue, decorated) as consumer:
        await until(lambda: consumer.deliveries == 2)
    assert len(await bench.drain(queue)) == 1
    assert {"raises": "raised ValueError", "forgets": "left a message unsettled"}.get(
        how, "left a message unsettled"
    ) in log[0]["message"]


async def test_a_message_whose_region_is_unknown_is_not_unacked_for_ever(bench, registry):
    queue, errors = await bench.queue(), []

    def region_of(message):
        return message.headers["region"]

    async def on_error(message, error):
        errors.append(error)
        await message.ack()

    await bench.publish(queue, "no header")
    decorated = held(Region(registry), registry, region_of=region_of, on_error=on_error)
    async with Consumer(bench, queue, decorated):
        await until(lambda: errors)
    assert isinstance(errors[0], KeyError)
    assert await bench.drain(queue) == []


# Cancellation


@pytest.mark.parametrize("where", ["handler", "on_error"])
async def test_a_message_whose_call_is_cancelled_goes_back(bench, registry, where):
    queue, started = await bench.queue(), asyncio.Event()

    async def wait(*_):
        started.set()
        await asyncio.sleep(60)

    async def fail(message):
        raise LookupError

    await bench.publish(queue, "cancelled")
    message = await queue.get()
    handler = wait if where == "handler" else fail
    task = asyncio.create_task(held(handler, registry, on_error=wait)(message))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [again] = await bench.drain(queue)
    assert again.redelivered


@pytest.mark.usefixtures("short_pauses")
async def test_a_cancellation_that_nobody_asked_for_is_attempted_again(bench, registry, region):
    queue, tries = await bench.queue(), []

    async def handler(message):
        tries.append(message)
        if len(tries) == 1:
            raise asyncio.CancelledError
        await region(message)

    await bench.publish(queue, "again")
    async with Consumer(bench, queue, held(handler, registry)) as consumer:
        await until(lambda: region.done == ["again"])
    assert consumer.deliveries == 1


# Arguments


def test_a_queue_for_dead_letters_is_refused():
    with pytest.raises(TypeError, match="takes a message and an error, got a DeadLetterTo"):
        hold_when_open(region_of=str, on_error=DeadLetterTo("dead"))
