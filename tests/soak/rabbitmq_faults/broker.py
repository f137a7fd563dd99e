"""A broker that is in an alarm, or silent, or that an operator should look after."""

import asyncio
import time
from contextlib import asynccontextmanager

import aio_pika
from yarl import URL

from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer
from tests.soak.rabbitmq_faults.site import EU, US, Errors, Seen, ending, run, share, within
from tests.support.chaos_proxy import ChaosProxy
from tests.support.rabbitmq_support import Region, bench_at, make_registry

STOP_TIMEOUT = 1.0  # seconds


# In an alarm


async def memory_alarm(site):
    count, enough = 330, 15 * site.patience
    registry, may_go_on = make_registry(), asyncio.Event()
    regions = {name: Region(registry, name, takes=0.001) for name in (EU, US)}
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue()
        in_turn = [*regions] * count
        publishing = (bench.publish(queue, "", headers={"region": name}) for name in in_turn)
        await asyncio.gather(*publishing)

        def region_of(message):
            return message.headers["region"]

        async def handler(message):
            await may_go_on.wait()
            await regions[region_of(message)](message)

        consumer = share(
            bench,
            await mine.channel.get_queue(queue.name),
            handler,
            registry,
            on_error=Errors(),
            regions=tuple(regions),
            region_of=region_of,
        )
        await consumer.declare()
        regions[EU].breaker.force_open("down")

        async def work():
            async with site.alarm():
                may_go_on.set()
                took = await within(enough, lambda: len(regions[US].done) == count)
                return len(regions[US].done), took

        seen, error = await run(consumer, work)
    done, took = seen or (len(regions[US].done), None)
    text = f"{done} of {count} delivered in {took or enough:.1f} s{ending(error)}"
    return Seen(text, kept=(done, error) == (count, None))


# Stopping


async def stopping(site):
    black_hole, alarm = await _stop_in_a_black_hole(site), await _stop_in_an_alarm(site)
    text = f"{black_hole:.1f} s in a black hole, {alarm:.1f} s in an alarm"
    return Seen(text, kept=max(black_hole, alarm) < 2 * site.patience)


async def _stop_in_a_black_hole(site):
    """Let the broker go silent while a call runs that opens the circuit."""
    registry, running = make_registry(threshold=1, recovery=60), asyncio.Event()
    region = Region(registry)
    region.error = ConnectionError()

    async def handler(message):
        running.set()
        await asyncio.sleep(0.2)
        await region(message)

    async with bench_at(site.url) as bench, _silent_proxy(site.url) as (proxy, connection):
        queue = await bench.queue()
        await bench.publish(queue, *range(20))
        read = await (await connection.channel()).get_queue(queue.name)
        settings = {"on_error": Errors(), "registry": registry, "stop_timeout": STOP_TIMEOUT}
        consumer = RegionConsumer(read, handler, region=EU, **settings)

        async def work():
            await running.wait()
            proxy.black_hole = True
            await asyncio.sleep(0.5)
            return time.monotonic()

        return await _seconds_to_stop(consumer, work)


@asynccontextmanager
async def _silent_proxy(url):
    """Give a proxy in front of the broker that may swallow everything, and a connection."""
    proxy = ChaosProxy(URL(url).port)
    connection = await aio_pika.connect(str(URL(url).with_port(proxy.port)))
    try:
        yield proxy, connection
    finally:
        proxy.black_hole = False
        proxy.reset()
        await connection.close()
        proxy.close()


async def _stop_in_an_alarm(site):
    """Let messages wait for the alarm to end, so that they can be moved."""
    registry = make_registry(threshold=1, recovery=60)
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue()
        await bench.publish(queue, *range(20))
        read = await mine.channel.get_queue(queue.name)
        settings = {"on_error": Errors(), "stop_timeout": STOP_TIMEOUT}
        consumer = share(bench, read, region, registry, **settings)
        await consumer.declare()
        region.breaker.force_open("down")

        async def work():
            await asyncio.sleep(1)
            return time.monotonic()

        async with site.alarm():
            return await _seconds_to_stop(consumer, work)


async def _seconds_to_stop(consumer, work):
    """Run a consumer; return how long it takes to stop once the work has returned the time."""
    began = time.monotonic()

    async def note_the_time():
        nonlocal began
        began = await work()

    await run(consumer, note_the_time)
    return time.monotonic() - began


# What an operator should know of: each is provoked, and has one line in the log


async def conditions(site):
    logged = 0
    for condition, word in CONDITIONS.items():
        logged += await _is_logged_once(site, condition, word)
    total = len(CONDITIONS)
    return Seen(f"{logged} of {total} have one line in the log", kept=logged == total)


async def _is_logged_once(site, condition, word):
    registry = make_registry()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.url) as mine, site.log() as log:
        queue = await bench.queue()
        await bench.publish(queue, *range(20))

        def lines():
            return sum(queue.name in line and word in line for line in log)

        async def work():
            # The connection is looked at every five seconds.
            await within(12 * site.patience, lines)
            await within(1, lambda: lines() > 1)

        async with condition(site, bench, mine, region) as (handler, settings):
            read = await mine.channel.get_queue(queue.name)
            common = {"on_error": Errors(), "registry": registry}
            await run(RegionConsumer(read, handler, region=EU, **{**common, **settings}), work)
        return lines() == 1


@asynccontextmanager
async def _full_queue(_site, bench, _mine, region):
    dead = await bench.queue(x_max_length=1, x_overflow="reject-publish")
    region.error = ValueError("a bug")
    yield region, {"on_error": DeadLetterTo(dead.name)}


@asynccontextmanager
async def _long_call(_site, _bench, _mine, region):
    async def handler(message):
        await asyncio.sleep(60)
        await region(message)

    yield handler, {"max_unacked": 0.1, "stop_timeout": STOP_TIMEOUT}


@asynccontextmanager
async def _closed_channel(_site, _bench, _mine, region):
    closed = []

    async def handler(message):
        if not closed:
            closed.append(message)
            await message.channel.basic_ack(delivery_tag=4711)  # which the broker does not know
        await region(message)

    yield handler, {}


@asynccontextmanager
async def _full_hand(_site, _bench, _mine, region):
    region.error = ConnectionError()
    yield region, {"max_failed_held": 2, "prefetch": 2}


@asynccontextmanager
async def _blocked_connection(site, bench, mine, region):
    results = await bench.queue()

    async def handler(message):
        await mine.publish(results, "over the consumer's connection")
        await region(message)

    async with site.alarm():
        yield handler, {"stop_timeout": STOP_TIMEOUT}


@asynccontextmanager
async def _settled_by_the_handler(_site, _bench, _mine, region):
    region.error = ConnectionError()

    async def handler(message):
        async with message.process():
            await region(message)

    yield handler, {}


# Each condition, and a word that a line about it has.
CONDITIONS = {
    _full_queue: "full",
    _long_call: "still running",
    _closed_channel: "unknown delivery tag",
    _full_hand: "max_failed_held",
    _blocked_connection: "blocked",
    _settled_by_the_handler: "settled",
}
