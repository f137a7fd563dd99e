"""Queues that are away, that delete themselves, or that count each return."""

import asyncio
import time
from contextlib import suppress

import aio_pika

from resilience.integrations.rabbitmq import RegionConsumer, hold_when_open
from tests.soak.rabbitmq_faults.site import EU, LIMIT, Errors, Seen, run, within
from tests.support.rabbitmq_support import Region, bench_at, make_registry


async def held_failures(site):
    registry = make_registry(threshold=1, recovery=0.1)
    region = Region(registry)
    async with bench_at(site.url) as bench:
        dead = await bench.queue()
        dead_letters = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": dead.name}
        queue = await bench.queue("quorum", x_delivery_limit=LIMIT, **dead_letters)
        await bench.publish(queue, *range(10))
        region.error = ConnectionError()
        await bench.channel.set_qos(prefetch_count=1)

        @hold_when_open(region_of=lambda _: EU, registry=registry)
        async def on_message(message):
            await region(message)

        tag = await queue.consume(on_message)
        await within(10 * site.patience, lambda: region.total > 2 * LIMIT)
        failed, region.error = region.total, None
        await within(15 * site.patience, lambda: len(region.done) == 10)
        await queue.cancel(tag)
        buried = len(await bench.drain(dead))
    done = len(region.done)
    text = (
        f"{done} of 10 delivered after {failed} failed calls, {buried} dead-lettered, "
        f"{10 - done - buried} stay unacked"
    )
    return Seen(text, kept=(done, buried) == (10, 0))


async def queue_away(site):
    registry, away = make_registry(), 2.0 if site.quick else 15.0
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue("quorum")
        read = await mine.channel.get_queue(queue.name)
        consumer = RegionConsumer(read, region, region=EU, on_error=Errors(), registry=registry)

        async def work():
            await bench.publish(queue, "before")
            await within(10 * site.patience, lambda: region.done)
            await bench.channel.queue_delete(queue.name)
            await asyncio.sleep(away)
            await bench.queue("quorum", name=queue.name)
            await bench.publish(queue, *range(10))
            return await within(40 * site.patience, lambda: len(region.done) == 11)

        began = time.monotonic()
        took, error = await run(consumer, work)
        lasted = time.monotonic() - began
    text = f"{len(region.done) - 1} of 10 delivered"
    if error is not None:
        text += f"; ended by `{type(error).__name__}` after {lasted:.0f} s"
    elif took is not None:
        text += f" {took:.0f} s after the queue was back"
    return Seen(text, kept=took is not None)


async def queue_that_deletes_itself(site):
    found, refused, count = 0, 0, 100
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        for how in ({"auto_delete": True}, {"arguments": {"x-expires": 1000}}):
            registry = make_registry(recovery=60)
            region = Region(registry)
            region.error = ConnectionError()
            queue = await mine.channel.declare_queue(bench.name(), durable=True, **how)
            await bench.publish(queue, *range(count))
            consumer = RegionConsumer(
                queue, region, region=EU, on_error=Errors(), registry=registry
            )
            # The circuit opens, and the consumer pauses.
            _, error = await run(consumer, lambda: asyncio.sleep(4))
            refused += error is not None and not region.total
            with suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                found += (await bench.look(queue))[0]
                await bench.channel.queue_delete(queue.name)
    text = f"{2 * count - found} of {2 * count} lost; {refused} of 2 queues refused at the start"
    return Seen(text, kept=(found, refused) == (2 * count, 2))
