"""hold_when_open in virtual time, on a stub broker."""

import asyncio
import gc

import pytest
from aio_pika import IncomingMessage, Message

from resilience import CircuitBreakerRegistry, TenantThrottledError
from resilience.integrations.rabbitmq import hold_when_open
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time


class World:
    """A decorated handler that consumes a queue, as aio-pika lets it."""

    def __init__(self):
        self.clock = FakeClock()
        self.registry = CircuitBreakerRegistry(clock=self.clock)
        self.broker = StubBroker()
        self.broker.declare("eu")

    def hold(self, handler, **settings):
        return hold_when_open(region_of=lambda _: "eu", registry=self.registry, **settings)(handler)

    def run(self, callback, *, messages=1, seconds=60, at_the_end=lambda: None, no_ack=False):
        for _ in range(messages):
            self.broker.publish("eu", Message(b"x"))

        async def story():
            async with self.broker:
                queue = await self.broker.get_queue("eu")
                await queue.channel.set_qos(5)
                await queue.consume(callback, no_ack=no_ack)
                await asyncio.sleep(seconds)
                at_the_end()

        run_in_virtual_time(story(), self.clock)


@pytest.fixture
def world():
    return World()


def messages_in_memory():
    gc.collect()
    return sum(type(one) is IncomingMessage for one in gc.get_objects())


async def fail(_):
    raise LookupError


async def acknowledge(message, _=None):
    await message.ack()


@pytest.mark.parametrize("who", ["on_error", "the caller"])
def test_a_message_that_somebody_else_has_settled_is_not_kept_in_memory(world, who):
    if who == "on_error":
        callback = world.hold(fail, on_error=acknowledge)
    else:
        decorated = world.hold(fail)

        async def callback(message):
            with pytest.raises(LookupError):
                await decorated(message)
            await message.ack()

    before, kept = messages_in_memory(), []
    world.run(callback, messages=50, at_the_end=lambda: kept.append(messages_in_memory()))
    assert world.broker.counts("eu").acked == 50
    assert kept == [before]


def test_a_message_of_a_throttled_tenant_waits_as_long_as_the_tenant_has_to(world):
    attempts = []

    async def throttled(message):
        attempts.append(world.clock())
        if len(attempts) == 1:
            raise TenantThrottledError("eu", "acme", 200.0)

    world.run(world.hold(throttled), seconds=400)
    assert 200 <= attempts[1] - attempts[0] <= 250
    assert world.broker.counts("eu").acked == 1


def test_a_handler_that_settles_messages_whose_calls_failed_is_logged_once(world, log):
    async def process(message):
        async with message.process():
            raise ConnectionError

    decorated, raised = world.hold(process), []

    async def callback(message):
        with pytest.raises(ConnectionError) as caught:
            await decorated(message)
        raised.append(caught.value)

    world.run(callback, messages=3)
    assert len(raised) == 3
    [line] = [one["message"] for one in log if "settled a message itself" in one["message"]]
    assert "hold_when_open of" in line
    assert "process has a handler" in line
    assert "(ConnectionError)" in line


def test_messages_that_are_settled_already_are_handled_and_logged_once(world, log):
    """Such as those of a consumer with no_ack: they would be lost without a call."""
    handled, raised = [], []

    async def handle(message):
        handled.append(message.body)
        if len(handled) == 2:
            raise LookupError

    decorated = world.hold(handle)

    async def callback(message):
        try:
            await decorated(message)
        except LookupError as error:
            raised.append(error)

    world.run(callback, messages=3, no_ack=True)
    assert (len(handled), len(raised)) == (3, 1)
    [line] = [one["message"] for one in log if "settled already" in one["message"]]
    assert "hold_when_open of" in line


def test_a_call_of_a_message_that_is_settled_already_is_awaited_if_the_handler_returns_it(world):
    handled = []

    async def handle(message):
        handled.append(message.body)

    async def forgetful(message):
        return handle(message)

    world.run(world.hold(forgetful), messages=2, no_ack=True)
    assert len(handled) == 2


@pytest.mark.parametrize("error", [asyncio.CancelledError, LookupError])
def test_a_region_of_that_raises_sends_its_message_to_on_error(world, error):
    errors = []

    def region_of(_):
        raise error

    async def on_error(message, raised):
        errors.append(raised)
        await message.ack()

    world.run(hold_when_open(region_of=region_of, on_error=on_error)(acknowledge))
    assert len(errors) == 1
    assert world.broker.counts("eu").acked == 1


def test_a_call_that_the_handler_returns_instead_of_awaiting_it_is_awaited(world):
    handled = []

    async def call(message):
        handled.append(message.body)

    async def forgetful(message):
        return call(message)

    world.run(world.hold(forgetful))
    assert handled == [b"x"]
    assert world.broker.counts("eu").acked == 1
