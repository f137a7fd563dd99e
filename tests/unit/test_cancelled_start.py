"""A consumer whose start is cancelled leaves nothing behind; on a stub broker."""

import asyncio

import pytest

from resilience import CircuitBreakerRegistry
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer, publisher
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
