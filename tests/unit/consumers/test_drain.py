"""The backlog of an outage, worked off by the real consumers on virtual time."""

import asyncio
from dataclasses import asdict
from statistics import mean

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.drain.consumer import ConsumerWorld, Settings
from benchmarks.drain.world import Plan
from resilience import CircuitBreakerRegistry, CircuitState
from resilience.integrations.opentelemetry import observe
from resilience.integrations.prometheus import CircuitCollector
from resilience.integrations.rabbitmq import RegionConsumer
from resilience.integrations.status_page.state import PageState
from resilience.limits import DrainEstimate, RateLimit
from tests.unit.consumers.world import REGION, World, bodies, refuse

LAYOUTS = pytest.mark.parametrize("shared", [False, True], ids=["region", "shared"])
PLAN = Plan(outage=300.0)


def lines_of(log):
    return [one["message"] for one in log if one["message"].startswith("Drain")]


# What it is for


@pytest.mark.parametrize(
    "settings",
    [Settings(rate_limit=PLAN.limit), Settings(observes=True)],
    ids=["limit by hand", "limit learned"],
)
def test_a_backlog_is_worked_off_at_the_limit_and_live_messages_do_not_wait(settings):
    figures = ConsumerWorld(PLAN, settings).play()
    assert figures.refused <= 0.001 * figures.requests
    assert figures.of_the_least(PLAN) <= 1.1
    assert mean(figures.live) <= 2 * PLAN.answer
    assert max(figures.live) <= 10 * PLAN.answer


def test_a_region_queue_is_worked_off_at_the_limit():
    figures = ConsumerWorld(PLAN, Settings(rate_limit=PLAN.limit, is_shared=False)).play()
    assert figures.refused <= 0.001 * figures.requests
    assert figures.of_the_least(PLAN) <= 1.1


@LAYOUTS
def test_where_nobody_knows_the_limit_few_requests_are_refused(shared):
    figures = ConsumerWorld(PLAN, Settings(is_shared=shared)).play()
    assert 0 < figures.refused <= 0.1 * figures.requests
    assert figures.of_the_least(PLAN) <= 1.1


# The story that it tells


def outage(world, **settings):
    """Play an outage with 100 messages, and give what the snapshot showed during the drain."""

    async def story():
        seen = []
        world.is_down = True
        async with await world.consumer(**{"tenant_of": None, **settings}):
            await asyncio.sleep(1)  # It finds an empty queue.
            world.publish(*bodies("A", 100))
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            world.is_down = False
            while world.left():
                await asyncio.sleep(1)
                if (drain := world.breaker.snapshot().drain) is not None:
                    seen.append(drain)
            await asyncio.sleep(15)
        return seen

    return world.run(story)


@LAYOUTS
def test_the_log_says_when_a_drain_begins_and_what_it_took(shared, log):
    world = World(shared=shared, recovery_timeout=10)
    seen = outage(world, rate_limit=RateLimit(300, 60))
    begins, ends = lines_of(log)
    assert begins == (
        f"Drain for region {REGION} begins: 97 messages, at 4.75 requests a second, at least 20 s"
    )
    assert ends.startswith(f"Drain for region {REGION} is done, after 2")
    assert ends.endswith("requests, 0 refused")
    assert world.breaker.snapshot().drain is None
    backlogs = [drain.backlog for drain in seen]
    assert backlogs == sorted(backlogs, reverse=True)
    assert backlogs[0] >= 80
    assert all(drain.rate == pytest.approx(4.75) for drain in seen)
    assert seen[0].eta == pytest.approx(len(seen), abs=6)


@LAYOUTS
def test_a_drain_whose_limit_nobody_knows_is_measured(shared, log):
    world = World(shared=shared, recovery_timeout=10)
    outage(world)
    begins, ends = lines_of(log)
    assert begins.endswith("messages, as fast as it gets")
    assert "is done, after" in ends


def test_tenants_are_paced_by_themselves_in_a_drain(log):
    world = World(recovery_timeout=10)
    tenants = [f"T{number}" for number in range(4)]

    async def story():
        world.is_down = True
        for number in range(20):
            world.publish(*(f"{tenant}.{number}" for tenant in tenants))
        async with await world.consumer(rate_limit=RateLimit(2, 1), prefetch=20):
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            world.is_down = False
            await world.until(lambda: not world.left())
            await asyncio.sleep(15)

    world.run(story)
    assert sorted(world.done) == sorted(f"{t}.{n}" for t in tenants for n in range(20))
    for tenant in tenants:
        times = world.requests[tenant][-15:]
        assert times[-1] - times[0] >= 14 / 2
        assert times[-1] - times[0] <= 14 / 1.5
    assert "as fast as it gets" in lines_of(log)[0]


def test_without_a_backlog_there_is_no_drain(log):
    world = World(failure_threshold=3, recovery_timeout=10)

    async def story():
        world.is_down = True
        world.publish(*bodies("A", 3))
        async with await world.consumer(prefetch=1):
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            world.is_down = False
            await world.until(lambda: not world.left())
            await asyncio.sleep(15)

    world.run(story)
    assert lines_of(log) == []


def test_a_drain_ends_when_the_region_goes_down_again(log):
    world = World(recovery_timeout=10)

    async def story():
        world.is_down = True
        async with await world.consumer(tenant_of=None, rate_limit=RateLimit(5, 1)):
            await asyncio.sleep(1)
            world.publish(*bodies("A", 200))
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            world.is_down = False
            await world.until(lambda: len(world.done) > 20)
            world.is_down = True
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            await asyncio.sleep(1)
            assert world.breaker.snapshot().drain is None
            world.is_down = False
            await world.until(lambda: not world.left())
            await asyncio.sleep(15)

    world.run(story)
    assert sorted(world.done) == sorted(bodies("A", 200))
    lines = lines_of(log)
    assert len(lines) == 4
    assert f"for region {REGION} has stopped: the circuit is OPEN, after" in lines[1]
    assert "is done" in lines[3]


def test_a_drain_is_over_when_nobody_works_on_its_backlog_any_more(log):
    world = World(recovery_timeout=10)
    world.broker.declare("other")

    async def story():
        world.is_down = True
        world.publish(*bodies("A", 200))
        other = RegionConsumer(
            await world.broker.get_queue("other"),
            world.handle,
            region=REGION,
            on_error=refuse,
            registry=world.registry,
        )
        async with other:
            async with await world.consumer(tenant_of=None):
                await world.until(lambda: world.breaker.state is CircuitState.OPEN)
                world.is_down = False
                await world.until(lambda: len(world.done) > 20)
                await asyncio.sleep(0.1)
                assert world.breaker.snapshot().drain.backlog > 100
            assert world.breaker.snapshot().drain is None

    world.run(story)
    assert "has stopped: its consumer has stopped, after" in lines_of(log)[1]


def test_a_consumer_that_starts_with_a_backlog_paces_it_if_it_was_told_the_limit(log):
    world = World()
    world.limits["A"] = 10

    async def story():
        world.publish(*bodies("A", 200))
        async with await world.consumer(tenant_of=None, rate_limit=RateLimit(600, 60)):
            await world.until(lambda: not world.left())
            await asyncio.sleep(15)

    world.run(story)
    assert world.refused["A"] == 0
    assert "begins: 200" in lines_of(log)[0]


def test_a_drain_is_slowed_down_by_failures_where_the_limit_is_unknown():
    world = World(recovery_timeout=10, failure_threshold=1000)
    world.waits = None

    async def story():
        world.publish(*bodies("A", 300))
        async with await world.consumer(tenant_of=None, prefetch=20):
            world.breaker.force_open("test")
            await asyncio.sleep(1)
            world.breaker.reset()
            world.limits["A"] = 5
            await world.until(lambda: world.refused["A"])
            world.errors = {f"A.{number}": ConnectionError() for number in range(50, 60)}
            await asyncio.sleep(20)
            world.errors.clear()
            await world.until(lambda: not world.left())

    world.run(story)
    assert len(world.done) == 300


def test_the_broker_may_be_away_while_the_backlog_is_counted(log):
    world = World(recovery_timeout=10)

    async def story():
        world.is_down = True
        async with await world.consumer(tenant_of=None, rate_limit=RateLimit(5, 1)):
            await asyncio.sleep(1)
            world.publish(*bodies("A", 200))
            await world.until(lambda: world.breaker.state is CircuitState.OPEN)
            world.is_down = False
            await world.until(lambda: len(world.done) > 20)
            world.broker.stop()
            await asyncio.sleep(25)
            world.broker.start()
            await world.until(lambda: not world.left())
            await asyncio.sleep(15)

    world.run(story)
    assert sorted(set(world.done)) == sorted(bodies("A", 200))
    assert "is done" in lines_of(log)[-1]


# Where it is shown


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)


@pytest.mark.parametrize("eta", [120.0, None])
def test_the_exporters_and_the_status_page_show_it(registry, eta):
    breaker = registry.get(REGION)
    drain = DrainEstimate(backlog=500, rate=4.75, arrivals=2.0, eta=eta)
    breaker.drain = drain
    assert asdict(breaker.snapshot())["drain"] == asdict(drain)
    assert PageState(registry).circuits()[REGION]["drain"] == asdict(drain)
    scraped = prometheus_client.CollectorRegistry()
    scraped.register(CircuitCollector(registry))

    def value(name):
        return scraped.get_sample_value(f"circuit_breaker_{name}", {"region": REGION})

    assert (value("drain_backlog"), value("drain_rate")) == (500, 4.75)
    assert value("drain_eta_seconds") == (None if eta is None else 120)
    reader = InMemoryMetricReader()
    observe(registry, MeterProvider([reader]))
    (resource,) = reader.get_metrics_data().resource_metrics
    points = {
        metric.name: [point.value for point in metric.data.data_points]
        for metric in resource.scope_metrics[0].metrics
    }
    assert points["circuit_breaker.drain.backlog"] == [500]
    assert points["circuit_breaker.drain.rate"] == [4.75]
    assert points.get("circuit_breaker.drain.eta") == (None if eta is None else [120])


def test_without_a_drain_nothing_is_shown(registry):
    registry.get(REGION)
    assert PageState(registry).circuits()[REGION]["drain"] is None
    scraped = prometheus_client.CollectorRegistry()
    scraped.register(CircuitCollector(registry))
    labels = {"region": REGION}
    assert scraped.get_sample_value("circuit_breaker_drain_backlog", labels) is None
