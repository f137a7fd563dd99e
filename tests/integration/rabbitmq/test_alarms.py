"""A broker in an alarm: it takes no messages, and goes on delivering."""

import asyncio

import pytest

from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer, SharedConsumer
from tests.support.rabbitmq_support import (
    Region,
    bench_at,
    make_registry,
    refuse_errors,
    until,
)

REGIONS = ("up", "down")


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
async def alarm(own_broker):
    """Set an alarm off, and end it."""

    async def set_alarm(on):
        watermark = "0.00001" if on else "0.6"
        await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", watermark)

    yield set_alarm
    await set_alarm(on=False)


def share(bench, queue, handler, registry, **settings):
    settings = {"on_error": refuse_errors, "prefetch": 10, **settings}
    bench.forget(*(f"{queue.name}.wait.{name}" for name in REGIONS))
    return SharedConsumer(
        queue,
        handler,
        region_of=lambda message: message.headers["region"],
        regions=REGIONS,
        wait_queue=f"{queue.name}.wait.{{region}}",
        registry=registry,
        **settings,
    )


async def publish_in_turn(bench, queue, count):
    for number in range(count):
        for name in REGIONS:
            await bench.publish(queue, number, headers={"region": name})


def lines_about(queue, log):
    start = f"Consumer of queue {queue.name} "
    return [
        (record["level"].name, record["message"].removeprefix(start))
        for record in log
        if record["message"].startswith(start)
    ]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("started", ["before the alarm", "in the alarm"])
async def test_a_shared_queue_delivers_to_the_regions_that_are_up(
    own_broker, alarm, registry, log, *, started
):
    regions = {name: Region(registry, name, takes=0.001) for name in REGIONS}
    may_go_on = asyncio.Event()
    async with bench_at(own_broker.url) as bench:
        queue = await bench.queue()

        async def handler(message):
            await may_go_on.wait()
            await regions[message.headers["region"]](message)

        consumer = share(bench, queue, handler, registry)
        await consumer.declare()
        regions["down"].breaker.force_open("down")
        await publish_in_turn(bench, queue, 200)
        if started == "in the alarm":
            await alarm(on=True)
        async with consumer:
            await alarm(on=True)
            may_go_on.set()
            await until(lambda: len(regions["up"].done) == 200)
            assert [level for level, _ in lines_about(queue, log)] == ["WARNING"]
            await alarm(on=False)
            regions["down"].breaker.reset()
            await until(lambda: len(set(regions["down"].done)) == 200)
        assert await bench.drain(queue) == []
    (_, blocked), unblocked = lines_about(queue, log)
    assert blocked.startswith(
        "cannot publish, since the broker has blocked the connection: low on memory; "
    )
    assert unblocked == ("INFO", "can publish again: the broker has unblocked the connection")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("started", ["before the alarm", "in the alarm"])
async def test_messages_that_cannot_be_dead_lettered_hold_up_no_others(
    own_broker, alarm, registry, *, started
):
    region, may_go_on = Region(registry), asyncio.Event()
    async with bench_at(own_broker.url) as bench:
        queue, dead = await bench.queue(), await bench.queue()
        region.fails_for = {f"poison {number}": ValueError("a bug") for number in range(8)}
        await bench.publish(queue, *region.fails_for, *range(50))

        async def handler(message):
            await may_go_on.wait()
            await region(message)

        if started == "in the alarm":
            await alarm(on=True)
        async with RegionConsumer(
            queue,
            handler,
            region=region.region,
            on_error=DeadLetterTo(dead.name),
            prefetch=6,
            registry=registry,
        ):
            await alarm(on=True)
            may_go_on.set()
            await until(lambda: len(region.done) == 50)
            await alarm(on=False)

            async def are_dead():
                return (await bench.look(dead))[0] == 8

            await until(are_dead)
        letters = await bench.drain(dead)
    assert {letter.body.decode() for letter in letters} == set(region.fails_for)


@pytest.mark.timeout(180)
async def test_a_handler_that_publishes_over_the_consumers_connection_is_warned_of(
    own_broker, alarm, registry, log, monkeypatch
):
    monkeypatch.setattr("resilience.integrations.rabbitmq.connections._POLL_INTERVAL", 0.05)
    async with bench_at(own_broker.url) as bench:
        queue, results = await bench.queue(), await bench.queue()
        published = []

        async def handler(message):
            published.append(message.body)
            await bench.publish(results, "result")

        await bench.publish(queue, *range(3))
        await alarm(on=True)
        async with RegionConsumer(
            queue, handler, region="up", on_error=refuse_errors, registry=registry
        ):
            await until(lambda: len(lines_about(queue, log)) == 1)
            await alarm(on=False)
            await until(lambda: len(lines_about(queue, log)) == 2)

            async def is_empty():
                return await bench.look(queue) == (0, 1)

            await until(is_empty)
    (level, blocked), unblocked = lines_about(queue, log)
    assert level == "WARNING"
    assert blocked.startswith("cannot acknowledge messages, since the broker has blocked the ")
    assert unblocked[1].startswith("can acknowledge messages again")
    assert published
