"""Messages that are trouble themselves: hard to copy, always failing, or told to wait."""

import inspect
import struct

from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from tests.soak.rabbitmq_faults.site import (
    EU,
    LIMIT,
    WATCHDOG,
    Errors,
    Seen,
    ending,
    http_error,
    run,
    share,
    within,
)
from tests.support import rabbitmq_raw as raw
from tests.support.rabbitmq_support import Region, bench_at, make_registry


async def cannot_be_copied(site):
    hard = (
        raw.headers(name=raw.text(b"M\xfcller")),  # which is not UTF-8
        raw.headers(value=b"d" + struct.pack(">d", 1e300)),  # which no float of 32 bits can hold
        struct.pack(">H", raw.MESSAGE_ID) + raw.short(b"\xfc"),  # which aio-pika cannot decode
    )
    registry, errors = make_registry(), Errors()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue()
        for number, encoded in enumerate(hard):
            await raw.publish_raw(bench, queue, f"hard {number}".encode(), encoded)
        await bench.publish(queue, *range(20))
        region.breaker.force_open("down")
        read = await mine.channel.get_queue(queue.name)
        consumer = share(bench, read, region, registry, on_error=errors)
        await consumer.declare()

        async def are_moved():
            return (await bench.look(f"{queue.name}.wait.{EU}"))[0] >= 22

        async def work():
            await within(10 * site.patience, lambda: errors.bodies)
            await within(10 * site.patience, are_moved)
            region.breaker.reset()
            await within(10 * site.patience, lambda: len(set(region.done)) == 22)

        _, error = await run(consumer, work)
    done = len(set(region.done))
    text = f"{done} of 22 delivered, {len(errors.bodies)} of 1 to `on_error`{ending(error)}"
    return Seen(text, kept=(done, len(errors.bodies), error) == (22, 1, None))


async def poison(site):
    recovery, patience = BreakerPolicy().recovery_timeout, 1
    if site.quick:
        recovery, patience = 0.5, 20
    enough = 3 * recovery * patience
    registry = CircuitBreakerRegistry(BreakerPolicy(recovery_timeout=recovery))
    region, errors = Region(registry, takes=0.001), Errors()
    region.fails_for = {f"poison {number}": http_error(500) for number in range(15)}
    good = [str(number) for number in range(1985)]
    has_an_end = "max_attempts" in inspect.signature(SharedConsumer).parameters
    settings = {"max_attempts": 3} if has_an_end else {}
    async with bench_at(site.url) as bench:
        queue = await bench.queue("quorum", x_delivery_limit=LIMIT)
        await bench.publish(queue, *good[:36], *region.fails_for, *good[36:])
        consumer = share(bench, queue, region, registry, on_error=errors, **settings)
        await consumer.declare()

        async def work():
            took = await within(enough, lambda: len(set(region.done)) == len(good))
            if has_an_end:
                await within(2 * enough, lambda: len(errors.bodies) == 15)
            return took

        took, error = await run(consumer, work, within=3 * enough + WATCHDOG)
    done, given_up = len(set(region.done)), len(set(errors.bodies))
    text = (
        f"{done:,} of {len(good):,} good ones delivered in {took or enough:.0f} s, "
        f"{given_up} of 15 to `on_error`{ending(error)}"
    )
    return Seen(text, kept=(done, given_up, error) == (len(good), 15, None))


async def told_to_wait(site):
    registry, enough = CircuitBreakerRegistry(BreakerPolicy()), 30 * site.patience
    region = Region(registry, takes=0.001)
    waits = http_error(429, **{"Retry-After": "60"})
    region.fails_for = {f"waits {number}": waits for number in range(30)}
    async with bench_at(site.url) as bench:
        queue = await bench.queue()
        await bench.publish(queue, *region.fails_for, *range(300))
        consumer = RegionConsumer(
            queue, region, region=EU, on_error=Errors(), registry=registry, prefetch=10
        )
        took, error = await run(consumer, lambda: within(enough, lambda: len(region.done) == 300))
    text = f"{len(region.done)} of 300 delivered in {took or enough:.1f} s{ending(error)}"
    return Seen(text, kept=(len(region.done), error) == (300, None))
