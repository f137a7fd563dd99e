"""The figures of consumers: as they are read, and as Prometheus and OpenTelemetry show them."""

import asyncio

import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from resilience.integrations.opentelemetry import observe_consumers
from resilience.integrations.prometheus import ConsumerCollector
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from tests.support.rabbitmq_support import Region, make_registry, refuse_errors, until

NAMES = (
    "unacked",
    "failed",
    "oldest_unacked_age",
    "last_delivery_age",
    "deliveries",
    "redeliveries",
    "parked",
)


def region_consumer(queue, region, registry, **settings):
    return RegionConsumer(
        queue,
        region,
        region=region.region,
        on_error=refuse_errors,
        registry=registry,
        **settings,
    )


def plain(stats):
    """Give the figures that do not depend on the time."""
    return stats.unacked, stats.failed, stats.deliveries, stats.redeliveries, stats.parked


async def test_a_region_consumer_counts_what_was_delivered_and_what_it_holds(bench):
    registry = make_registry(threshold=100)
    region, queue = Region(registry), await bench.queue()
    channel = await bench.connection.channel()
    await bench.publish(queue, "again")
    await (await channel.get_queue(queue.name)).get()
    await channel.close()  # It is redelivered.
    consumer = region_consumer(queue, region, registry)
    assert consumer.stats() == ()
    region.fails_for = {"bad": TimeoutError(), "worse": TimeoutError()}
    async with consumer:
        [before] = consumer.stats()
        assert before.last_delivery_age is None
        assert (before.queue, before.region) == (queue.name, "eu-west-1")
        await until(lambda: region.done == ["again"])
        await bench.publish(queue, "bad", "worse", "good")
        await until(lambda: plain(consumer.stats()[0])[:2] == (2, 2))
        [stats] = await asyncio.to_thread(consumer.stats)
        assert plain(stats) == (2, 2, 4, 1, 0)
        assert 0 < stats.last_delivery_age <= stats.oldest_unacked_age < 60
    [after] = consumer.stats()
    assert after.deliveries == 4


async def test_a_message_that_is_being_attempted_is_unacked(bench):
    registry = make_registry()
    region, queue = Region(registry, takes=60), await bench.queue()
    await bench.publish(queue, "slow")
    consumer = region_consumer(queue, region, registry, stop_timeout=0.1)
    async with consumer:
        await until(lambda: region.running)
        [stats] = consumer.stats()
        assert plain(stats) == (1, 0, 1, 0, 0)
        assert stats.oldest_unacked_age > 0


async def test_a_shared_consumer_counts_what_it_moves(bench):
    registry = make_registry(recovery=60)
    region, queue = Region(registry), await bench.queue()
    bench.forget(f"wait.{queue.name}.eu-west-1")
    region.breaker.force_open("for the test")
    consumer = SharedConsumer(
        queue,
        region,
        region_of=lambda _: "eu-west-1",
        regions=["eu-west-1"],
        on_error=refuse_errors,
        wait_queue=f"wait.{queue.name}.{{region}}",
        registry=registry,
    )
    await consumer.declare()
    async with consumer:
        await bench.publish(queue, *range(5))
        await until(lambda: plain(consumer.stats()[0]) == (0, 0, 5, 0, 5))
        shared, waiting = consumer.stats()
        assert (shared.queue, shared.region) == (queue.name, "")
        assert (waiting.queue, waiting.region) == (f"wait.{queue.name}.eu-west-1", "eu-west-1")


async def test_the_exporters_show_them(bench):
    registry = make_registry(threshold=100)
    region, queue = Region(registry), await bench.queue()
    region.fails_for = {"bad": TimeoutError()}
    consumer = region_consumer(queue, region, registry)
    exported, reader = prometheus_client.CollectorRegistry(), InMemoryMetricReader()
    exported.register(ConsumerCollector(consumer))
    provider = MeterProvider([reader])
    observe_consumers(consumer, meter_provider=provider)
    labels = {"queue": queue.name, "region": "eu-west-1"}

    def in_prometheus():
        suffixes = {"oldest_unacked_age": "_seconds", "last_delivery_age": "_seconds"}
        suffixes |= dict.fromkeys(("deliveries", "redeliveries", "parked"), "_total")
        names = {name: f"circuit_breaker_consumer_{name}{suffixes.get(name, '')}" for name in NAMES}
        return {name: exported.get_sample_value(full, labels) for name, full in names.items()}

    def in_opentelemetry():
        (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
        seen = {}
        for metric in scope.metrics:
            name = metric.name.removeprefix("circuit_breaker.consumer.")
            for point in metric.data.data_points:
                assert set(point.attributes.values()) == set(labels.values())
                seen[name] = point.value
        return {name: seen.get(name) for name in NAMES}

    async with consumer:
        for read in (in_prometheus, in_opentelemetry):
            figures = read()
            assert figures["last_delivery_age"] is None
            assert figures["deliveries"] == 0
        await bench.publish(queue, "good", "bad")
        await until(lambda: plain(consumer.stats()[0])[:2] == (1, 1))
        for read in (in_prometheus, in_opentelemetry):
            figures = read()
            assert figures.pop("oldest_unacked_age") > 0
            assert figures.pop("last_delivery_age") > 0
            assert figures == {
                "unacked": 1,
                "failed": 1,
                "deliveries": 2,
                "redeliveries": 0,
                "parked": 0,
            }
    provider.shutdown()
