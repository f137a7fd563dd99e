"""Message workers of several processes that share who is throttled through a store."""

import asyncio
from collections import Counter

import pytest

from resilience import CircuitBreakerRegistry, region_breaker
from resilience.integrations.rabbitmq import RegionConsumer
from resilience.integrations.redis import RedisSharing
from tests.support.rabbitmq_support import refuse_errors, until
from tests.support.stores import serving

REGION = "eu-west-1"


class TooManyRequestsError(Exception):
    status = 429

    def __init__(self):
        self.headers = {"Retry-After": "2"}


class Region:
    """Both processes call it. It answers each call when it is told to, and says what they were."""

    def __init__(self):
        self.requests = Counter()
        self.refuses = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.done = 0

    async def answer(self, who):
        self.requests[who] += 1
        await self.gate.wait()
        if self.refuses:
            raise TooManyRequestsError
        self.done += 1


class Process:
    """A registry that knows of others only through the store, and its handler."""

    def __init__(self, who, url, region, *, with_decorator):
        sharing = RedisSharing(url, poll_interval=300.0)
        self.registry = CircuitBreakerRegistry(sharing=sharing)
        self.breaker = self.registry.get(REGION)

        async def send(region_name, tenant):
            await region.answer(who)

        if with_decorator:
            send = region_breaker(
                region_from="region_name", tenant_from="tenant", registry=self.registry
            )(send)
        self._send = send

    async def __call__(self, message):
        await self._send(REGION, "acme")

    def consumer(self, queue):
        return RegionConsumer(
            queue, self, region=REGION, registry=self.registry, on_error=refuse_errors,
            tenant_of=lambda _: "acme", prefetch=4,
        )  # fmt: skip

    def waits(self):
        return self.breaker.tenants.wait_of("acme") > 0

    def is_shared(self):
        table = self.breaker.circuit.tenant_table
        return table is not None and table.shared


@pytest.fixture
def store(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.mark.parametrize("with_decorator", [False, True], ids=["plain handler", "decorated"])
async def test_one_message_of_all_processes_is_the_probe(bench, store, with_decorator):
    region = Region()
    first, second = (
        Process(who, store.url, region, with_decorator=with_decorator) for who in ("one", "two")
    )
    queues = [await bench.queue(), await bench.queue()]
    async with first.consumer(queues[0]), second.consumer(queues[1]):
        await until(lambda: first.is_shared() and second.is_shared(), "both share")
        await bench.publish(queues[0], *range(10), headers={"tenant": "acme"})
        await until(second.waits, "the other process waits")
        region.gate.clear()
        asked = region.requests["one"]
        assert asked <= 4
        await bench.publish(queues[1], *range(10), headers={"tenant": "acme"})
        await until(lambda: region.requests.total() > asked, "the probe")
        await until(lambda: table_of(first)._leases and table_of(second)._leases, "both know")
        assert region.requests.total() == asked + 1
        region.refuses = False
        region.gate.set()
        await until(lambda: region.done == 20, "all go on")
        assert region.requests.total() == asked + 20
    first.registry.close()
    second.registry.close()


def table_of(process):
    return process.breaker.circuit.tenant_table
