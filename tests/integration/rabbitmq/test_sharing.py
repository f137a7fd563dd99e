"""Message workers of several processes that share their circuits through a store."""

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.rabbitmq import RegionConsumer
from resilience.integrations.redis import RedisSharing
from tests.support.rabbitmq_support import Region, refuse_errors, until
from tests.support.stores import serving


@pytest.fixture
def store(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.fixture
def fleet(store):
    """Make registries that know of each other only through the store."""
    registries = []

    def make():
        policy = BreakerPolicy(failure_threshold=3, recovery_timeout=0.5, success_threshold=2)
        registry = CircuitBreakerRegistry(policy, sharing=RedisSharing(store.url))
        registries.append(registry)
        return registry

    yield make
    for registry in registries:
        registry.close()


async def test_the_worker_with_messages_probes_for_the_one_whose_queue_is_empty(bench, fleet):
    mine, idle = fleet(), fleet()
    region, other = Region(mine, "eu"), Region(idle, "eu")
    queue, empty = await bench.queue(), await bench.queue()
    await bench.publish(queue, *range(10))
    region.error = ConnectionError()
    settings = {"region": "eu", "on_error": refuse_errors, "prefetch": 5}
    async with (
        RegionConsumer(queue, region, registry=mine, **settings),
        RegionConsumer(empty, other, registry=idle, **settings),
    ):
        await until(lambda: other.breaker.state is not CircuitState.CLOSED)
        await until(lambda: region.breaker.snapshot().probes >= 2)
        region.error = None
        await until(lambda: len(region.done) == 10)
        await until(lambda: other.breaker.state is CircuitState.CLOSED)
    assert other.total == 0
