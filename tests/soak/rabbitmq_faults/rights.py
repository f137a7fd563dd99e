"""A user that lacks a right which a consumer needs."""

import asyncio

from tests.soak.rabbitmq_faults.site import EU, LIMIT, Errors, Seen, run, share, within
from tests.support.rabbitmq_support import Region, bench_at, make_registry

# Configure, write, read.
NO_DEFAULT_EXCHANGE = (".*", r"^(?!amq\.default$).*", ".*")
NOTHING_TO_CONFIGURE = ("^$", ".*", ".*")


async def no_right_to_publish(site):
    registry = make_registry()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.workers_url) as mine, site.log() as log:
        queue = await bench.queue("quorum", x_delivery_limit=LIMIT)
        await bench.publish(queue, *range(60))
        region.breaker.force_open("down")
        read = await mine.channel.get_queue(queue.name)
        consumer = share(bench, read, region, registry, on_error=Errors())
        await consumer.declare()
        async with site.restricted(*NO_DEFAULT_EXCHANGE):
            _, error = await run(consumer, lambda: asyncio.sleep(150))
        left = len(await bench.drain(queue)) + len(await bench.drain(f"{queue.name}.wait.{EU}"))
    lost, lines = 60 - left, sum("ACCESS_REFUSED" in line for line in log)
    if error is None:
        return Seen(f"{lost} of 60 lost in 150 s, {lines} lines say why", kept=False)
    reported = "ACCESS_REFUSED" in str(error)
    words = "with the server's text" if reported else "without the server's text"
    text = f"{lost} of 60 lost; `{type(error).__name__}` {words}"
    return Seen(text, kept=lost == 0 and reported)


async def no_right_to_configure(site):
    registry = make_registry()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.workers_url) as mine, site.log() as log:
        queue = await bench.queue()
        await share(bench, queue, region, registry, on_error=Errors()).declare()
        await bench.publish(queue, *range(10))
        read = await mine.channel.get_queue(queue.name)
        consumer = share(bench, read, region, registry, on_error=Errors())
        async with site.restricted(*NOTHING_TO_CONFIGURE):
            _, error = await run(
                consumer,
                lambda: within(10 * site.patience, lambda: len(region.done) == 10),
            )
    done, lines = len(region.done), sum("no right to configure" in line for line in log)
    text = f"{done} of 10 delivered"
    text += (
        f", {lines} line in the log"
        if error is None
        else f"; `{type(error).__name__}` at the start"
    )
    return Seen(text, kept=(done, lines, error) == (10, 1, None))
