"""A consumer whose start is cancelled leaves nothing behind; on a stub broker."""

import asyncio

import pytest

from resilience import CircuitBreakerRegistry
from resilience.integrations.rabbitmq import (
    DeadLetterTo,
    RegionConsumer,
    SharedConsumer,
    publisher,
)
from resilience.integrations.rabbitmq.amqp import finish_closing, finish_opening
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time


def test_a_start_that_is_cancelled_leaves_no_connection_open(monkeypatch):
    async def wait_for_ever(*_, **__):
        await asyncio.sleep(1000)

    async def handle(message):
        """Do nothing."""

    async def story():
        async with StubBroker() as broker:
            broker.declare("eu")
            broker.declare("dead")
            consumer = RegionConsumer(
                await broker.get_queue("eu"),
                handle,
                region="eu",
                on_error=DeadLetterTo("dead"),
                registry=CircuitBreakerRegistry(),
            )
            before = len(asyncio.all_tasks())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5), consumer:
                    raise AssertionError
            assert len(asyncio.all_tasks()) == before

    monkeypatch.setattr(publisher, "open_channel", wait_for_ever)
    run_in_virtual_time(story(), FakeClock())


def test_a_start_that_is_cancelled_at_any_moment_leaves_no_task_running():
    moment = 0
    while cancelled_start(moment):
        moment += 2  # A task was left behind for two steps of the event loop, or more.
    assert moment > 100


def cancelled_start(moment):
    """Cancel the start of a consumer after some steps of the event loop; return whether it was."""
    was_cancelled = True

    async def handle(message):
        """Do nothing."""

    async def story():
        nonlocal was_cancelled
        async with StubBroker() as broker:
            broker.declare("all")
            broker.declare("dead")
            consumer = SharedConsumer(
                await broker.get_queue("all"),
                handle,
                region_of=lambda _: "eu",
                regions=["eu"],
                on_error=DeadLetterTo("dead"),
                registry=CircuitBreakerRegistry(),
            )
            await consumer.declare()
            before = asyncio.all_tasks()
            start = asyncio.create_task(consumer.__aenter__())
            for _ in range(moment):
                await asyncio.sleep(0)
            was_cancelled = start.cancel()
            await asyncio.wait([start])
            if not was_cancelled:
                await consumer.__aexit__(None, None, None)
            await asyncio.sleep(60)
            assert asyncio.all_tasks() == before

    run_in_virtual_time(story(), FakeClock())
    return was_cancelled


@pytest.mark.parametrize("ends", [True, False])
def test_an_opening_that_is_given_up_ends_with_the_broker_or_after_a_while(ends):
    async def opening():
        await asyncio.sleep(5 if ends else 1000)
        raise ConnectionError

    async def close():
        raise AssertionError

    async def story():
        before = asyncio.all_tasks()
        giving_up = asyncio.create_task(finish_opening(opening(), close))
        await asyncio.sleep(1)
        giving_up.cancel()
        await asyncio.sleep(30)
        assert asyncio.all_tasks() == before

    run_in_virtual_time(story(), FakeClock())


def test_a_closing_that_the_broker_does_not_answer_ends_after_a_while():
    async def story():
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            await finish_closing(asyncio.sleep(1000), 3.0)
        await asyncio.sleep(1)
        assert asyncio.all_tasks() == before

    run_in_virtual_time(story(), FakeClock())
