"""hold_when_open against a real RabbitMQ: held, called again, or NACKed in the end."""

import asyncio
import functools
import time
from types import SimpleNamespace

import aio_pika
import pytest

from resilience import CircuitBreakerOpenError, CircuitState
from resilience.integrations.rabbitmq import hold_when_open
from tests.support.rabbitmq_support import KINDS, Region, make_registry, settle_down, until


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


def held(handler, registry, **settings):
    settings = {"region_of": lambda _: "eu-west-1", "registry": registry, **settings}
    return hold_when_open(**settings)(handler)


class Reader:
    """A consumer of the user's own."""

    def __init__(self, bench, queue, handler, prefetch=10):
        self.bench, self.queue, self.handler, self.prefetch = bench, queue, handler, prefetch
        self.times = []  # of the deliveries
        self.errors = []

    async def __aenter__(self):
        self.channel = await self.bench.connection.channel()
        await self.channel.set_qos(self.prefetch)
        queue = await self.channel.get_queue(self.queue.name, ensure=False)
        await queue.consume(self._on_message)
        return self

    async def __aexit__(self, *_):
        await self.channel.close()

    @property
    def deliveries(self):
        return len(self.times)

    async def _on_message(self, message):
        self.times.append(time.monotonic())
        try:
            await self.handler(message)
        except Exception as error:
            self.errors.append(error)
            if not message.processed:
                await message.reject(requeue=False)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_is_held_while_the_region_is_down_and_not_delivered_again(
    bench, registry, region, kind
):
    queue = await bench.queue(kind)
    await bench.publish(queue, *range(20))
    for _ in range(3):
        region.breaker.acquire().fail()
    region.error = ConnectionError()
    async with Reader(bench, queue, held(region, registry)) as reader:
        await until(lambda: region.breaker.snapshot().probes >= 3)
        # A failed probe's error is the user's own, as ever; the others are still held.
        assert reader.deliveries <= 10 + region.total
        region.error = None
        await until(lambda: len(region.done) + len(reader.errors) == 20)
    assert reader.deliveries == 20
    assert await bench.drain(queue) == []


async def test_an_open_circuit_keeps_the_handler_from_being_called_at_all(bench, registry, region):
    queue = await bench.queue()
    calls = []

    async def handler(message):
        calls.append(message)

    region.breaker.force_open("by hand")
    await bench.publish(queue, "held")
    async with Reader(bench, queue, held(handler, registry)) as reader:
        await until(lambda: reader.deliveries)
        await settle_down()
        assert calls == []
        region.breaker.reset()
        await until(lambda: calls)


async def test_after_max_unacked_it_is_nacked_and_comes_back(bench, registry, region):
    queue = await bench.queue("quorum")
    await bench.publish(queue, "again")
    seen = []

    async def handler(message):
        seen.append(message.headers["x-delivery-count"])

    region.breaker.force_open("by hand")
    async with Reader(bench, queue, held(handler, registry, max_unacked=0.2)) as reader:
        await until(lambda: len(reader.times) == 3)
        assert reader.times[2] - reader.times[0] >= 2 * 0.9 * 0.2
        region.breaker.reset()
        await until(lambda: seen)
    assert seen[0] >= 2


async def test_the_hold_ends_with_a_nack_when_it_is_cancelled(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "held")
    region.breaker.force_open("by hand")
    message = await queue.get()
    task = asyncio.create_task(held(region, registry)(message))
    await settle_down()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [again] = await bench.drain(queue)
    assert again.redelivered
    assert region.total == 0


async def test_a_channel_that_closes_meanwhile_ends_the_hold(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "held")
    region.breaker.force_open("by hand")
    channel = await bench.connection.channel()
    message = await (await channel.get_queue(queue.name)).get()
    task = asyncio.create_task(held(region, registry)(message))
    await settle_down()
    await channel.close()
    region.breaker.reset()
    await task
    assert region.total == 0
    cancelled = asyncio.create_task(held(region, registry)(message))
    region.breaker.force_open("once more")
    await settle_down()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert len(await bench.drain(queue)) == 1


async def test_a_message_whose_call_is_rejected_is_held(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "late")
    tries = []

    async def handler(message):
        tries.append(message)
        if len(tries) == 1:
            region.breaker.force_open("just now")
        await region(message)

    async with Reader(bench, queue, held(handler, registry)) as reader:
        await until(lambda: tries)
        region.breaker.reset()
        await until(lambda: region.done == ["late"])
    assert reader.deliveries == 1


async def test_another_circuit_that_rejects_does_not_make_it_spin(bench, registry):
    queue = await bench.queue()
    await bench.publish(queue, "token first")
    tries = []

    async def handler(message):
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise CircuitBreakerOpenError("login", CircuitState.OPEN, "down", 0.1)

    async with Reader(bench, queue, held(handler, registry)):
        await until(lambda: len(tries) == 2)
    assert tries[1] - tries[0] >= 1.0


async def test_another_circuit_that_rejects_for_longer_than_max_unacked_ends_in_a_nack(
    bench, registry
):
    queue = await bench.queue()
    await bench.publish(queue, "token first")

    async def handler(message):
        raise CircuitBreakerOpenError("login", CircuitState.OPEN, "down", None)

    async with Reader(bench, queue, held(handler, registry, max_unacked=0.1)) as reader:
        await until(lambda: reader.deliveries == 2)


async def test_a_handler_that_settles_its_message_is_left_alone(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "mine")

    async def handler(message):
        await message.ack()

    async with Reader(bench, queue, held(handler, registry)) as reader:
        await until(lambda: reader.deliveries)
    assert reader.errors == []


async def test_a_message_that_process_has_rejected_cannot_be_held(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "too late")

    async def handler(message):
        async with message.process():
            region.breaker.force_open("in the middle")
            await region(message)

    async with Reader(bench, queue, held(handler, registry)) as reader:
        await until(lambda: reader.errors)
    assert isinstance(reader.errors[0], CircuitBreakerOpenError)


async def test_any_other_error_goes_through(bench, registry):
    queue = await bench.queue()
    await bench.publish(queue, "bad")

    async def handler(message):
        raise LookupError

    async with Reader(bench, queue, held(handler, registry)) as reader:
        await until(lambda: reader.errors)
    assert isinstance(reader.errors[0], LookupError)


async def test_it_decorates_methods_too(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "hello")

    class Worker:
        """With a handler that is a method."""

        @hold_when_open(region_of=lambda _: "eu-west-1", registry=registry)
        async def on_message(self, message):
            """Say hello."""
            await region(message)

    async with Reader(bench, queue, Worker().on_message):
        await until(lambda: region.done == ["hello"])
    assert Worker.on_message.__doc__ == "Say hello."


async def test_a_call_without_a_message_is_rejected(registry, region):
    on_message = held(region.call, registry)
    with pytest.raises(TypeError, match=r"needs a message of aio_pika or of FastStream.*got str"):
        await on_message("text")
    with pytest.raises(TypeError, match="got str"):
        await on_message(message="text")
    with pytest.raises(TypeError, match="got nothing"):
        await on_message()


async def test_a_message_may_be_given_by_name_or_wrapped(bench, registry):
    queue = await bench.queue()
    await bench.publish(queue, "1", "2", "3")
    done = []

    async def handle(*args, **kwargs):
        done.append((args, kwargs))

    on_message = held(handle, registry)
    first, second, third = [await queue.get() for _ in range(3)]
    wrapped = SimpleNamespace(raw_message=second)
    await on_message(message=first)
    await on_message(body="2", message=wrapped)
    await on_message("self", SimpleNamespace(raw_message=third))
    assert done[:2] == [((), {"message": first}), ((), {"body": "2", "message": wrapped})]
    assert all(message.processed for message in (first, second, third))


def handler_of(annotations):
    namespace = {"IncomingMessage": aio_pika.IncomingMessage}
    exec(f"async def handle({annotations}): ...", namespace)
    return namespace["handle"]


@pytest.mark.parametrize(
    "annotations", ["body: dict", "body: dict[str, int]", "a: bytes, *, b: list[str]", "a: 'str'"]
)
def test_a_handler_that_can_take_no_message_is_rejected(registry, annotations):
    with pytest.raises(TypeError, match=r"handle.* needs a message.*`message: RabbitMessage`"):
        held(handler_of(annotations), registry)


@pytest.mark.parametrize(
    "annotations",
    [
        "message",
        "message: object",
        "message: IncomingMessage",
        "body: dict, message",
        "body: dict, message: IncomingMessage",
        "message: 'unknown'",
        "body: dict | None",
    ],
)
def test_a_handler_that_may_take_a_message_is_accepted(registry, annotations):
    held(handler_of(annotations), registry)


def test_a_callable_without_code_of_its_own_is_accepted(registry):
    class Handler:
        count: int

        async def __call__(self, message): ...

    held(Handler(), registry)
    held(functools.partial(handler_of("body: dict, message: dict"), {}), registry)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"region_of": "region"}, TypeError, "region_of must be a callable"),
        (
            {"max_unacked": 0},
            ValueError,
            "max_unacked must be a finite number of seconds > 0, got 0",
        ),
        ({"registry": "all"}, TypeError, "registry must be a CircuitBreakerRegistry, got str"),
    ],
)
def test_wrong_arguments_are_rejected_when_decorating(settings, error, text):
    with pytest.raises(error, match=text):
        hold_when_open(**{"region_of": str, **settings})


@pytest.mark.parametrize("handler", [len, "text", print])
def test_a_handler_that_cannot_be_awaited_is_rejected(handler):
    with pytest.raises(TypeError, match="must be an async def that takes a message, got"):
        hold_when_open(region_of=str)(handler)


# Delivery limits


OFTEN = 30  # more than the delivery limit allows


class Outage:
    """A region that is down until its messages have come back often."""

    def __init__(self, registry):
        self.registry, self.breaker = registry, registry.get("eu-west-1")
        self.counts, self.done, self.deliveries = [], [], 0
        self.breaker.force_open("down")

    async def __call__(self, message):
        with self.breaker.acquire():
            self.done.append(message.body)

    def wrap(self, **settings):
        handler = held(self, self.registry, max_unacked=0.01, **settings)

        async def on_message(message):
            self.deliveries += 1
            self.counts.append(message.headers.get("x-delivery-count", 0))
            await handler(message)

        return on_message


@pytest.mark.parametrize("how", ["declared", "by name", "given"])
@pytest.mark.parametrize("prefetch", [1, 10])
async def test_an_outage_of_any_length_ends_no_message_at_a_delivery_limit(
    bench, registry, how, prefetch
):
    dead, outage = await bench.queue(), Outage(registry)
    arguments = {"x_delivery_limit": 20, "x_dead_letter_exchange": ""}
    queue = await bench.queue("quorum", **arguments, x_dead_letter_routing_key=dead.name)
    channel = bench.channel
    if how != "declared":
        plain = await aio_pika.connect(str(bench.connection.url))
        channel = await plain.channel()
    await bench.publish(queue, *range(2), headers={"CC": []} if how == "given" else None)
    await channel.set_qos(prefetch)
    handler = outage.wrap(queue=queue.name if how == "given" else None)
    consumed = queue if how == "declared" else await channel.get_queue(queue.name)
    await consumed.consume(handler)
    await until(lambda: outage.deliveries >= 2 * 3 * OFTEN)
    registry.get("eu-west-1").reset()
    await until(lambda: len(outage.done) == 2)
    assert max(outage.counts) <= 10
    assert await bench.drain(dead) == []
    if how != "declared":
        await plain.close()


async def test_a_queue_that_is_unknown_is_named_in_a_warning(bench, registry, log):
    outage = Outage(registry)
    queue = await bench.queue("quorum", x_delivery_limit=20)
    await bench.publish(queue, 1, headers={"CC": []})
    plain = await aio_pika.connect(str(bench.connection.url))
    channel = await plain.channel()
    await (await channel.get_queue(queue.name)).consume(outage.wrap())
    await until(lambda: outage.deliveries == 14)
    await plain.close()
    lines = [record["message"] for record in log]
    (line,) = [line for line in lines if "delivery limit" in line]
    assert "has come back 10 times" in line
    assert "pass the name of the queue" in line
