"""Consumer tag, priority and arguments: passed on to the broker, and checked beforehand."""

import asyncio

import pytest

from resilience.integrations.rabbitmq import ConsumerError, RegionConsumer, SharedConsumer
from resilience.integrations.rabbitmq.subscription_settings import checked_subscription_settings
from tests.support.rabbitmq_support import Region, make_registry, refuse_errors, until


@pytest.fixture
def registry():
    return make_registry()


def consume(queue, handler, registry, **settings):
    settings = {"region": "eu-west-1", "on_error": refuse_errors, **settings}
    return RegionConsumer(queue, handler, registry=registry, **settings)


async def test_each_subscription_has_a_tag_of_its_own_that_begins_as_named(bench, registry):
    queue, tags = await bench.queue(), []
    region = Region(registry)

    async def handler(message):
        tags.append(message.consumer_tag)
        await region(message)

    consumer = SharedConsumer(
        queue,
        handler,
        region_of=lambda _: "eu-west-1",
        regions=["eu-west-1"],
        on_error=refuse_errors,
        wait_queue=f"wait.{queue}.{{region}}",
        registry=registry,
        consumer_tag="worker 7",
    )
    await consumer.declare()
    bench.forget(f"wait.{queue}.eu-west-1")
    region.error = ConnectionError()
    async with consumer:
        await bench.publish(queue, "shared, then from the wait queue")
        await until(lambda: len(tags) >= 2)
        region.error = None
        await until(lambda: region.done)
    assert all(tag.startswith("worker 7.") for tag in tags)
    assert len(set(tags)) >= 2


@pytest.mark.parametrize("settings", [{"priority": 5}, {"arguments": {"x-priority": 5}}])
async def test_the_broker_prefers_the_consumer_with_the_higher_priority(bench, registry, settings):
    queue, got = await bench.queue(), []

    def handler_named(name):
        async def handler(message):
            got.append(name)

        return handler

    async with (
        consume(queue, handler_named("low"), registry) as low,
        consume(queue, handler_named("high"), registry, **settings) as high,
    ):
        await until(lambda: all(one._workers[0]._subscription.consumer_tag for one in (low, high)))
        for number in range(10):
            await bench.publish(queue, number)
            await until(lambda number=number: len(got) > number)
    assert got == ["high"] * 10


async def test_arguments_that_the_broker_does_not_accept_end_the_consumer(bench, registry):
    queue = await bench.queue()
    settings = {"arguments": {"x-stream-offset": "nonsense"}}
    with pytest.raises(ConsumerError, match="cannot be consumed: PRECONDITION_FAILED - invalid"):
        async with consume(queue, Region(registry), registry, **settings):
            await asyncio.sleep(60)


def checked(**settings):
    names = ("unavailable_timeout", "consumer_tag", "priority", "arguments")
    return checked_subscription_settings(**{**dict.fromkeys(names), **settings})


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"consumer_tag": 7}, TypeError, "consumer_tag must be a str, got int"),
        ({"consumer_tag": ""}, ValueError, "consumer_tag must not be empty"),
        ({"consumer_tag": "é" * 118}, ValueError, "consumer_tag must be at most 235 bytes long"),
        ({"priority": "5"}, TypeError, "priority must be an int, got a str"),
        ({"priority": True}, TypeError, "priority must be an int, got a bool"),
        ({"priority": 2**63}, ValueError, "priority must fit into 64 bits"),
        ({"arguments": [1]}, TypeError, "arguments must be a Mapping, got list"),
        (
            {"arguments": {7: 1}},
            TypeError,
            "the name of an argument in arguments must be a str, got int",
        ),
        ({"arguments": {"x": object()}}, TypeError, "what AMQP can encode: TypeError"),
        ({"arguments": {"x-priority": "5"}}, TypeError, "x-priority must be an int, got a str"),
        (
            {"arguments": {"x-priority": 5}, "priority": 5},
            TypeError,
            "give only one of them",
        ),
        ({"unavailable_timeout": 0}, ValueError, "unavailable_timeout must be a finite number"),
        ({"unavailable_timeout": "1"}, TypeError, "unavailable_timeout must be a finite number"),
    ],
)
def test_wrong_settings_are_refused(settings, error, text):
    with pytest.raises(error, match=text):
        checked(**settings)


def test_the_arguments_are_a_copy():
    arguments = {"x-any": 1}
    settings = checked(arguments=arguments, priority=-3)
    arguments["x-any"] = 2
    assert settings.arguments == {"x-any": 1, "x-priority": -3}
