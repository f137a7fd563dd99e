"""Tenant A is answered 429 by a real server, beside B to Z, from a queue of a real broker."""

import asyncio
from collections import Counter

import aiohttp
import pytest

from resilience import CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from resilience.testing import FakeGenesys
from tests.support.rabbitmq_support import KINDS, refuse_errors, until

REGION = "eu-west-1"
OTHERS = [chr(letter) for letter in range(ord("B"), ord("Z") + 1)]
LAYOUTS = pytest.mark.parametrize("layout", ["region", "shared"])


def tenant_of(message):
    return message.headers["tenant"]


class Client:
    """The handler, which calls the fake Genesys, and counts."""

    def __init__(self, genesys, session):
        self.registry = CircuitBreakerRegistry()
        self.genesys, self._session = genesys, session
        self.requests, self.done = Counter(), Counter()
        self._send = region_breaker(region_from="region", registry=self.registry)(self._post)

    async def _post(self, region, tenant):
        self.requests[tenant] += 1
        url = self.genesys.message_url(tenant)
        body = {
            "channel": {
                "from": {"id": "+1", "idType": "Phone"},
                "time": "2026-11-25T12:00:00Z",
                "messageId": f"{tenant} {self.requests[tenant]}",
            },
            "text": "hello",
        }
        headers = {"Authorization": f"Bearer {self.genesys.issue_token()}"}
        async with self._session.post(url, json=body, headers=headers) as response:
            response.raise_for_status()

    async def __call__(self, message):
        tenant = tenant_of(message)
        await self._send(REGION, tenant)
        self.done[tenant] += 1

    def done_by_others(self):
        return sum(self.done.values()) - self.done["A"]


@pytest.fixture
async def genesys():
    async with FakeGenesys() as fake:
        yield fake


@pytest.fixture(params=KINDS)
async def queue(bench, request):
    return await bench.queue(request.param)


@pytest.fixture
async def client(genesys):
    async with aiohttp.ClientSession() as session:
        yield Client(genesys, session)


async def consumer_of(bench, queue, client, layout, **settings):
    settings = {
        "on_error": refuse_errors,
        "registry": client.registry,
        "tenant_of": tenant_of,
        **settings,
    }
    if layout == "region":
        return RegionConsumer(queue, client, region=REGION, **settings)
    bench.forget(f"wait.{queue.name}.{REGION}")
    consumer = SharedConsumer(
        queue,
        client,
        region_of=lambda _: REGION,
        regions=[REGION],
        wait_queue=f"wait.{queue.name}.{{region}}",
        **settings,
    )
    await consumer.declare()
    return consumer


async def publish(bench, queue, of_a, of_others):
    """Publish the messages of A in front of those of all others."""
    await bench.publish(queue, *range(of_a), headers={"tenant": "A"})
    for tenant in OTHERS:
        await bench.publish(queue, *range(of_others), headers={"tenant": tenant})


@LAYOUTS
@pytest.mark.parametrize("most", [5, 2000])
async def test_a_throttled_tenant_holds_up_nobody(bench, queue, client, layout, most):
    genesys = client.genesys
    await publish(bench, queue, 60, 4)
    path = genesys.message_url("A").removeprefix(genesys.url)
    genesys.rate_limit(3600, paths=path)
    settings = {"max_unacked_per_tenant": most}
    consumer = await consumer_of(bench, queue, client, layout, **settings)
    async with consumer:
        await until(lambda: client.done_by_others() == 4 * len(OTHERS))
        assert client.done["A"] == 0
        asked = client.requests["A"]
        assert asked <= 10  # the first prefetch, before there was an answer
        assert client.registry.get(REGION).state is CircuitState.CLOSED
        assert client.registry.get(REGION).snapshot().throttled_tenants == 1
        genesys.up()
        client.registry.get(REGION).tenants.throttle("A", 0)
        # It is paced by the limit that its answers named: 300 a minute.
        await until(lambda: client.done["A"] >= 5)
        assert client.requests["A"] == pytest.approx(asked + client.done["A"], abs=2)
        deliveries = sum(stats.deliveries for stats in consumer.stats())
    # What is not done is in the queues, and nothing was delivered again and again.
    left = len(await bench.drain(queue))
    if layout == "shared":
        left += len(await bench.drain(f"wait.{queue.name}.{REGION}"))
    assert left + client.done["A"] == 60
    assert deliveries <= 2 * 60 + 4 * len(OTHERS) + 20 * 30


@LAYOUTS
async def test_two_consumers_of_the_same_process_send_one_probe(
    bench, queue, genesys, client, layout
):
    path = genesys.message_url("A").removeprefix(genesys.url)
    genesys.rate_limit(1, paths=path)
    await publish(bench, queue, 40, 0)
    first = await consumer_of(bench, queue, client, layout, prefetch=4)
    second = await consumer_of(bench, queue, client, layout, prefetch=4)
    async with first, second:
        await until(lambda: client.requests["A"] >= 4)
        await asyncio.sleep(0.2)
        asked = client.requests["A"]
        assert asked <= 8
        await until(lambda: client.requests["A"] > asked)
        await asyncio.sleep(0.2)  # A second probe would have followed.
        assert client.requests["A"] == asked + 1
