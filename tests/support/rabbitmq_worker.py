"""One worker in a process of its own, as the scenarios start, watch, stop and kill it.

Over one pipe it is told to go and to stop, and tells what happens in it. Where the pipe ends, it
ends.
"""

import asyncio
import logging
import os
import time
import traceback
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import aiohttp
from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    region_breaker,
)
from resilience.integrations import rabbitmq

CHANNEL = {"from": {"id": "+353-1-555-0100", "idType": "Phone"}, "time": "2026-11-25T12:00:00Z"}


class Worker:
    """What every layout needs: the queue, the circuits and the call.

    Args:
        settings: What the scenario says.
        session: For the calls.
        tell: Takes what has happened, and to which region.
    """

    def __init__(self, settings, session, tell):
        self.settings, self._session = settings, session
        self.registry = CircuitBreakerRegistry(BreakerPolicy(recovery_timeout=settings["recovery"]))
        self.registry.listen(lambda event: tell(event.new, event.region))
        self.send = region_breaker(region_from="region", registry=self.registry)(self._send)

    async def _send(self, region, name):
        channel = {**CHANNEL, "messageId": name}
        url = self.settings["regions"][region].format(name)
        async with self._session.post(url, json={"channel": channel, "text": "hello"}) as response:
            await response.read()

    async def handle(self, message):
        """Handle one message: what a user writes."""
        await self.send(region_of(message), message.message_id)

    def open_circuits(self):
        """Have the circuits open that are to be open at the start."""
        for region in self.settings["open"]:
            breaker = self.registry.get(region)
            for _ in range(breaker.policy.failure_threshold):
                breaker.acquire().fail()


def region_of(message):
    return message.headers["region"]


# The layouts


def region_consumer(worker, queue):
    settings = worker.settings
    return rabbitmq.RegionConsumer(
        queue,
        worker.handle,
        region=settings["region"],
        on_error=rabbitmq.DeadLetterTo(settings["dead"]),
        prefetch=settings["prefetch"],
        registry=worker.registry,
    )


def shared_consumer(worker, queue):
    settings = worker.settings
    return rabbitmq.SharedConsumer(
        queue,
        worker.handle,
        region_of=region_of,
        regions=list(settings["regions"]),
        on_error=rabbitmq.DeadLetterTo(settings["dead"]),
        wait_queue=settings["wait_queue"],
        prefetch=settings["prefetch"],
        registry=worker.registry,
    )


@asynccontextmanager
async def literal_way(worker, queue):
    """The decorator for handlers that exist already."""

    @rabbitmq.hold_when_open(
        region_of=region_of, max_unacked=worker.settings["max_unacked"], registry=worker.registry
    )
    async def on_message(message):
        try:
            await worker.handle(message)
        except aiohttp.ClientResponseError:
            await message.nack(requeue=True)
        else:
            await message.ack()

    tag = await queue.consume(on_message)
    yield
    await queue.cancel(tag)


@asynccontextmanager
async def naive_loop(worker, queue):
    """The obvious way: back to the queue immediately."""

    async def on_message(message):
        try:
            await worker.handle(message)
        except (CircuitBreakerOpenError, aiohttp.ClientResponseError):
            await message.nack(requeue=True)
        else:
            await message.ack()

    tag = await queue.consume(on_message)
    yield
    await queue.cancel(tag)


LAYOUTS = {
    "region": region_consumer,
    "shared": shared_consumer,
    "literal": literal_way,
    "naive": naive_loop,
}


async def work(settings, orders, tell):
    """Work from the first order to the second."""
    connection = await aio_pika.connect_robust(settings["url"], reconnect_interval=0.5)
    async with connection, aiohttp.ClientSession(raise_for_status=True) as session:
        worker = Worker(settings, session, tell)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=settings["prefetch"])
        queue = await channel.get_queue(settings["queue"])
        tell("ready")
        await orders.get()
        worker.open_circuits()
        async with LAYOUTS[settings["layout"]](worker, queue):
            tell("started")
            await orders.get()
    tell("stopped")


def run(settings, pipe):
    """Be the worker.

    Args:
        settings: What the scenario says.
        pipe: A `multiprocessing` connection to the scenario.
    """
    logging.disable()
    logger.remove()
    # What the log costs is part of what the worker costs.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        logger.add(nowhere)
        asyncio.run(follow_orders(settings, pipe))


async def follow_orders(settings, pipe):
    orders, me = asyncio.Queue(), asyncio.current_task()

    def tell(what, region=None):
        pipe.send({"at": time.monotonic(), "what": what, "region": region})

    def read():
        try:
            orders.put_nowait(pipe.recv())
        except EOFError:
            me.cancel()

    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), read)
    try:
        await work(settings, orders, tell)
    except BaseException:
        tell(traceback.format_exc())
        raise
    finally:
        loop.remove_reader(pipe.fileno())
