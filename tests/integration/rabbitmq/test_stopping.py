"""Stopping has one deadline, also where the broker does not answer any more."""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager

import aio_pika
import pytest
from yarl import URL

from resilience.circuit_states import CircuitState
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer, SharedConsumer
from resilience.integrations.rabbitmq.stop_schedule import StopSchedule, complete_by
from tests.support import rabbitmq_raw as raw
from tests.support.chaos_proxy import ChaosProxy
from tests.support.rabbitmq_support import (
    Region,
    bench_at,
    make_registry,
    refuse_errors,
    settle_down,
    until,
)

STOP_TIMEOUT = 1.0
# A watchdog: a single request that nobody answers was waited for ten seconds.
STOPPED_WITHIN = 8.0


@asynccontextmanager
async def through_proxy(broker):
    """Give a proxy in front of the broker, and a connection through it."""
    proxy = ChaosProxy(URL(broker.url).port)
    connection = await aio_pika.connect(str(URL(broker.url).with_port(proxy.port)))
    try:
        yield proxy, connection
    finally:
        proxy.black_hole = False
        proxy.reset()
        await connection.close()
        proxy.close()


class Handler:
    """Calls that wait until they are let go."""

    def __init__(self, region):
        self.region, self.running = region, 0
        self.let_go = asyncio.Event()

    async def __call__(self, message):
        self.running += 1
        await self.let_go.wait()
        await self.region(message)


def make_consumer(layout, queue, handler, registry, on_error=refuse_errors):
    common = {"on_error": on_error, "registry": registry, "stop_timeout": STOP_TIMEOUT}
    if layout == "region":
        return RegionConsumer(queue, handler, region="eu-west-1", **common)
    return SharedConsumer(
        queue,
        handler,
        region_of=lambda _: "eu-west-1",
        regions=["eu-west-1"],
        wait_queue=f"wait.{queue}.{{region}}",
        **common,
    )


async def bodies_in(bench, *queues):
    return {message.body.decode() for queue in queues for message in await bench.drain(queue)}


class Stop:
    """Measures how long a consumer takes to stop."""

    def __init__(self):
        self.began = 0.0

    def begin(self):
        self.began = time.monotonic()

    def check(self):
        assert time.monotonic() - self.began < STOPPED_WITHIN


@pytest.mark.parametrize("layout", ["region", "shared"])
@pytest.mark.parametrize("busy", ["idle", "running calls", "circuit has opened", "call that ended"])
async def test_it_stops_in_time_in_a_black_hole(broker, bench, layout, busy, log):
    registry = make_registry(threshold=1, recovery=60)
    region, stop = Region(registry), Stop()
    handler = Handler(region)
    queue = await bench.queue()
    bench.forget(f"wait.{queue}.eu-west-1")
    async with through_proxy(broker) as (proxy, connection):
        channel = await connection.channel()
        consumer = make_consumer(layout, await channel.get_queue(queue.name), handler, registry)
        if layout == "shared":
            await consumer.declare()
        async with consumer:
            if busy == "idle":
                await until(lambda: consumer._workers[0]._subscription.consumer_tag)
            else:
                await bench.publish(queue, *range(20))
                await until(lambda: handler.running == 10)
            proxy.black_hole = True
            if busy == "circuit has opened":
                region.error = ConnectionError()
            if busy in {"circuit has opened", "call that ended"}:
                handler.let_go.set()
            await settle_down()
            assert region.breaker.state is (
                CircuitState.OPEN if region.error else CircuitState.CLOSED
            )
            stop.begin()
        stop.check()
    assert "has stopped without a reply of the broker" in log[-1]["message"]
    if busy != "idle":
        await until(lambda: all_are_ready(bench, queue, 20))


async def all_are_ready(bench, queue, count):
    return (await bench.look(queue))[0] == count


async def test_a_dead_letter_that_is_not_confirmed_does_not_hold_it_up(broker, bench, http_error):
    registry = make_registry()
    region, stop = Region(registry), Stop()
    handler, region.error = Handler(region), http_error(404)
    queue, dead = await bench.queue(), await bench.queue()
    await bench.publish(queue, "bad")
    async with through_proxy(broker) as (proxy, connection):
        channel = await connection.channel()
        given = await channel.get_queue(queue.name)
        async with make_consumer("region", given, handler, registry, DeadLetterTo(dead.name)):
            await until(lambda: handler.running)
            proxy.black_hole = True
            handler.let_go.set()
            await settle_down()
            stop.begin()
        stop.check()
    await until(lambda: all_are_ready(bench, queue, 1))


async def test_a_channel_for_copies_that_is_not_closed_does_not_hold_it_up(broker, bench):
    registry = make_registry(threshold=1, recovery=60)
    region, stop = Region(registry), Stop()
    handler, region.error = Handler(region), ConnectionError()
    handler.let_go.set()
    queue = await bench.queue()
    waiting = f"wait.{queue}.eu-west-1"
    bench.forget(waiting)
    await bench.publish(queue, *range(20))
    async with through_proxy(broker) as (proxy, connection):
        channel = await connection.channel()
        consumer = make_consumer("shared", await channel.get_queue(queue.name), handler, registry)
        await consumer.declare()
        async with consumer:
            await until(lambda: all_are_ready(bench, waiting, 20))
            await settle_down()
            proxy.black_hole = True
            stop.begin()
        stop.check()


async def acknowledge(message, _error):
    await message.ack()


async def test_a_connection_of_its_own_to_read_over_does_not_hold_it_up(broker, bench):
    registry, stop = make_registry(), Stop()
    region = Region(registry)
    queue = await bench.queue()
    await raw.publish_raw(bench, queue, b"unreadable", raw.headers(**{raw.Latin1("\xfc"): b"t\1"}))
    async with through_proxy(broker) as (proxy, connection):
        given = await (await connection.channel()).get_queue(queue.name)
        async with make_consumer("region", given, region, registry, acknowledge) as consumer:
            await until(lambda: consumer._reading._own)
            await bench.publish(queue, "hello")
            await until(lambda: region.done == ["hello"])
            proxy.black_hole = True
            stop.begin()
        stop.check()
    assert consumer._watch.cancelled()


async def test_a_cancellation_does_not_wait_for_a_black_hole_either(broker, bench):
    registry, stop = make_registry(), Stop()
    queue = await bench.queue()
    async with through_proxy(broker) as (proxy, connection):
        channel = await connection.channel()
        given, stopping = await channel.get_queue(queue.name), asyncio.Event()

        async def work():
            settings = {"region": "eu-west-1", "on_error": refuse_errors, "stop_timeout": 60}
            async with RegionConsumer(
                given, Handler(None), registry=registry, **settings
            ) as consumer:
                await until(lambda: consumer._workers[0]._subscription.consumer_tag)
                proxy.black_hole = True
                stopping.set()

        worker = asyncio.create_task(work())
        await stopping.wait()
        await settle_down()
        stop.begin()
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        stop.check()


@asynccontextmanager
async def frozen(broker):
    """The broker does not get the processor."""
    os.kill(broker._server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker._server.pid, signal.SIGCONT)


@asynccontextmanager
async def alarmed(broker):
    """The broker does not read from connections that publish."""
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.0000001")
    try:
        yield
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")


@pytest.mark.parametrize("silent", [frozen, alarmed])
async def test_it_stops_in_time_while_the_broker_confirms_no_copy(own_broker, silent):
    registry = make_registry(threshold=1, recovery=60)
    region, stop = Region(registry), Stop()
    handler = Handler(region)
    async with bench_at(own_broker.url) as bench:
        queue = await bench.queue()
        waiting = f"wait.{queue}.eu-west-1"
        bench.forget(waiting)
        await bench.publish(queue, *range(20))
        connection = await aio_pika.connect(own_broker.url)
        given = await (await connection.channel()).get_queue(queue.name)
        consumer = make_consumer("shared", given, handler, registry)
        await consumer.declare()
        async with consumer:
            await until(lambda: handler.running == 10)
            stack = silent(own_broker)
            await stack.__aenter__()
            region.error = ConnectionError()
            handler.let_go.set()
            await until(lambda: region.breaker.state is CircuitState.OPEN)
            await settle_down()
            stop.begin()
        stop.check()
        await stack.__aexit__(None, None, None)
        await connection.close()
        assert await bodies_in(bench, queue, waiting) == {str(number) for number in range(20)}


def test_each_step_has_half_of_the_time_that_is_left():
    assert StopSchedule.begin(100.0, 30.0) == StopSchedule(126.0, 128.0, 129.0, 129.5, 130.0)
    assert StopSchedule.begin(100.0, 1.0) == StopSchedule(100.5, 100.75, 100.875, 100.9375, 101.0)


def test_calls_that_have_to_end_now_leave_the_time_for_the_rest():
    schedule = StopSchedule.begin(100.0, 30.0)
    assert schedule.without_calls(110.0) == StopSchedule(110.0, 112.0, 113.0, 113.5, 114.0)
    assert schedule.without_calls(127.0) is schedule


async def test_the_error_of_what_is_waited_for_is_raised():
    async def fail():
        raise LookupError

    now = asyncio.get_running_loop().time()
    with pytest.raises(LookupError):
        await complete_by(now + 60, fail())
    assert not await complete_by(now - 1, asyncio.sleep(60))
