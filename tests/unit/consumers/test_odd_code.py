"""Handlers, look-ups and headers of others that are odd: none may lose a message or a worker."""

import asyncio
from types import SimpleNamespace

import pytest
from aio_pika import Message

from resilience.integrations.rabbitmq import DeadLetterTo, SharedConsumer
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.held import HeldMessages
from resilience.integrations.rabbitmq.publisher import Publisher, copy_of
from resilience.integrations.rabbitmq.unacked import Delivery
from resilience.testing import FakeClock, run_in_virtual_time
from tests.unit.consumers.world import QUEUE, REGION, TooManyRequestsError, World, bodies

LAYOUTS = pytest.mark.parametrize("shared", [False, True], ids=["region", "shared"])
LARGEST = 2**63 - 1  # the largest number that a header may have


def lines_of(log):
    return [one["message"] for one in log]


# Handlers


@LAYOUTS
@pytest.mark.parametrize("how", ["a coroutine", "a task", "a coroutine that returns one"])
def test_a_call_that_the_handler_returns_instead_of_awaiting_it_is_awaited(shared, how):
    """Otherwise a message would be acknowledged of which nothing has happened."""
    world = World(shared=shared)
    handle = world.handle

    async def forgetful(message):
        if how == "a task":
            return asyncio.create_task(handle(message))
        if how == "a coroutine":
            return handle(message)

        async def outer():
            return handle(message)

        return outer()

    world.handle = forgetful
    world.errors["A.1"] = ConnectionError()

    async def story():
        world.publish(*bodies("A", 2))
        async with await world.consumer():
            await asyncio.sleep(10)
            assert world.done == ["A.0"]
            assert world.left() == 1
            world.errors.clear()
            await world.until(lambda: world.done == ["A.0", "A.1"])

    world.run(story)


# on_error


@LAYOUTS
def test_an_on_error_that_hangs_holds_up_nobody_and_is_logged(shared, log):
    world = World(shared=shared)
    world.errors["A.0"] = LookupError()

    async def hang(message, error):
        await asyncio.Event().wait()

    async def story():
        world.publish(*bodies("A", 5))
        async with await world.consumer(
            on_error=hang, prefetch=1, max_unacked=60, stop_timeout=4, tenant_of=None
        ):
            await asyncio.sleep(50)
            assert world.done == bodies("A", 4, first=1)
            assert lines_of(log) == []
            await asyncio.sleep(20)

    world.run(story)
    assert [line for line in lines_of(log) if "has an on_error that is still running" in line]


# Look-ups


def cancelled(_):
    """Ask for the result of something that was cancelled."""
    raise asyncio.CancelledError


def test_a_region_of_that_raises_a_cancellation_sends_its_message_to_on_error():
    world, errors = World(), {}

    async def on_error(message, error):
        errors[message.body] = error
        await message.ack()

    async def story():
        world.publish(*bodies("A", 3))
        consumer = SharedConsumer(
            await world.broker.get_queue(QUEUE),
            world.handle,
            region_of=lambda one: cancelled(one) if one.body == b"A.0" else REGION,
            regions=[REGION],
            on_error=on_error,
            prefetch=1,
            registry=world.registry,
        )
        await consumer.declare()
        async with consumer:
            await world.until(lambda: world.done == ["A.1", "A.2"], seconds=60)

    world.run(story)
    [error] = errors.values()
    assert str(error) == "a function of the consumer raised CancelledError"
    assert isinstance(error.__cause__, asyncio.CancelledError)


@LAYOUTS
def test_a_tenant_of_that_raises_a_cancellation_costs_the_message_its_tenant_only(shared, log):
    world = World(shared=shared)

    async def story():
        world.publish(*bodies("A", 2))
        async with await world.consumer(tenant_of=cancelled):
            await world.until(lambda: len(world.done) == 2, seconds=60)

    world.run(story)
    assert [line for line in lines_of(log) if "raised CancelledError" in line]


# Headers of others


@LAYOUTS
@pytest.mark.parametrize("number", [LARGEST, -LARGEST, True])
def test_numbers_that_somebody_else_has_written_send_no_message_to_on_error(shared, number):
    """They are counted up, and have to fit into a header again."""
    world = World(shared=shared, failure_threshold=3)
    headers = {
        "x-resilience-attempts": number,
        "x-resilience-counted-attempts": number,
        "x-resilience-first-failed-at": "2026-11-29T00:00:00+00:00",
        "x-passed-over": number,
        "x-delivery-count": number,
    }

    async def story():
        for body in bodies("A", 3):
            world.broker.publish(QUEUE, Message(body.encode(), headers=headers))
        world.is_down = True
        async with await world.consumer():
            await asyncio.sleep(600)
            world.is_down = False
            await world.until(lambda: len(world.done) == 3)

    world.run(story)


def test_throttled_messages_whose_count_is_full_are_moved_all_the_same(log):
    world = World()
    world.limits["A"] = 0
    world.waits = 1000

    async def story():
        for body in bodies("A", 4):
            world.broker.publish(QUEUE, Message(body.encode(), headers={"x-passed-over": LARGEST}))
        world.publish("B.0")
        async with await world.consumer(prefetch=1, max_unacked_per_tenant=1):
            await world.until(lambda: world.done == ["B.0"], seconds=300)

    world.run(story)
    assert [line for line in lines_of(log) if "cannot move" in line] == []


def test_what_is_pending_of_an_earlier_copy_is_not_copied():
    """It would count again each time that a message of a throttled tenant is moved."""
    headers = {"x-resilience-pending": "a 1 2 pending", "x-resilience-attempts": 1}
    copy = copy_of(Message(b"", headers=headers), from_wait_queue=True)
    assert copy.headers == {"x-resilience-attempts": 1}


# Other threads


def test_figures_can_be_read_while_a_tenant_goes_on():
    """A thread of the metrics may be stopped at any place."""
    message = SimpleNamespace(
        processed=False, channel=SimpleNamespace(is_closed=False), consumer_tag="1"
    )
    held = HeldMessages(None)
    deliveries = [
        Delivery(message, number, 0.0, tenant=tenant) for number, tenant in enumerate("AABC")
    ]
    for delivery in deliveries:
        held.add(delivery)
    reading = iter(held)
    seen = [next(reading)]
    for delivery in deliveries[:3]:
        held.remove(delivery)
    assert {*seen, *reading} >= {deliveries[0], deliveries[3]}


# Confirms


class Channel:
    """A channel over which nothing is confirmed."""

    is_closed = False

    async def get_underlay_channel(self):
        tune = SimpleNamespace(frame_max=0)
        return SimpleNamespace(
            connection=SimpleNamespace(connection_tune=tune), basic_publish=self.publish
        )

    async def publish(self, *_, **__):
        await asyncio.sleep(100)


def test_a_copy_that_is_not_confirmed_is_logged_once(log, monkeypatch):
    async def story():
        publisher = Publisher(None, ConsumerWarnings("q"))

        async def open_channel():
            return Channel()

        monkeypatch.setattr(publisher, "_open", open_channel)
        copies = [publisher.publish(Message(b""), "dead") for _ in range(3)]
        assert await asyncio.gather(*copies) == [True] * 3

    run_in_virtual_time(story(), FakeClock())
    [line] = lines_of(log)
    assert "waits for the broker to confirm a message for queue dead" in line


def test_a_queue_for_dead_letters_is_not_one_that_is_consumed():
    world = World(shared=True)

    async def story():
        with pytest.raises(ValueError, match="on_error must name another queue than 'messages'"):
            await world.consumer(on_error=DeadLetterTo(QUEUE))
        with pytest.raises(ValueError, match=f"another queue than 'wait.{REGION}'"):
            await world.consumer(on_error=DeadLetterTo(f"wait.{REGION}"))

    world.run(story)


@LAYOUTS
@pytest.mark.parametrize("with_tenant_from", [False, True])
def test_a_limit_without_end_in_an_answer_ends_no_worker(shared, with_tenant_from):
    world = World(shared=shared, with_tenant_from=with_tenant_from)
    world.errors["A.0"] = TooManyRequestsError(wait=1)
    world.errors["A.0"].headers["inin-ratelimit-allowed"] = "9" * 400

    async def story():
        world.publish(*bodies("A", 2), *bodies("B", 2))
        async with await world.consumer():
            await asyncio.sleep(10)
            assert sorted(world.done_of("B")) == bodies("B", 2)
            world.errors.clear()
            await world.until(lambda: sorted(world.done_of("A")) == bodies("A", 2))

    world.run(story)
