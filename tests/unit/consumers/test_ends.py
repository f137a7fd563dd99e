"""How calls of tenants end that neither succeed nor are refused."""

import asyncio

import pytest

from resilience import TenantThrottledError
from tests.unit.consumers.world import REGION, World, bodies


@pytest.mark.parametrize("shared", [False, True], ids=["region", "shared"])
def test_a_call_that_is_cancelled_at_the_end_leaves_its_message_in_the_queue(shared):
    world = World(shared=shared, takes=3600)

    async def story():
        world.publish(*bodies("A", 3))
        async with await world.consumer(stop_timeout=4.0):
            await asyncio.sleep(5)
            assert world.calls_of_the_handler == 3
        assert world.done == []
        assert world.left() == 3

    world.run(story)


def test_a_message_of_a_throttled_tenant_waits_also_where_the_consumer_knows_no_tenants():
    world = World(takes=0)
    world.errors["A.0"] = TenantThrottledError(REGION, "A", 30.0)

    async def story():
        world.publish("A.0")
        async with await world.consumer(tenant_of=None):
            await asyncio.sleep(20)
            assert world.calls_of_the_handler == 1
            world.errors.clear()
            await asyncio.sleep(20)
        assert world.done == ["A.0"]

    world.run(story)
