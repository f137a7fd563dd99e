"""A complete message worker: posts the messages of one queue to the region that it belongs to.

It declares its queues, delivers until it is told to stop, and ends without losing a message.
Everything that differs between installations comes from the environment:

    AMQP_URL   the broker, such as amqp://user:password@rabbitmq/
    REGION     the region, such as eu-west-1: the worker reads the queue outbound.eu-west-1
    API_URL    where messages are posted to
    API_TOKEN  the bearer token for it
"""

import asyncio
import os
import signal
import sys
from typing import Any

import aio_pika
import aiohttp
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from loguru import logger

from resilience import region_breaker
from resilience.integrations.rabbitmq import DeadLetterTo, RegionConsumer
from resilience.retry import transient_retry

PREFETCH = 20
# Below what a supervisor waits between SIGTERM and SIGKILL: 30 s in Kubernetes, 10 s in Docker.
STOP_TIMEOUT = 8.0
# The circuit breaker and the retries see a time-out of the client, but not one around the call.
TIMEOUT = aiohttp.ClientTimeout(sock_connect=5, sock_read=10)


@region_breaker(region_from="region")
@transient_retry(attempts=3)
async def post(
    session: aiohttp.ClientSession,
    region: str,  # noqa: ARG001 - the circuit breaker reads it
    url: str,
    body: bytes,
) -> None:
    """Post a message to its region."""
    headers = {"Content-Type": "application/json"}
    async with session.post(url, data=body, headers=headers) as response:
        await response.read()


async def declare_queues(channel: AbstractChannel, region: str) -> tuple[AbstractQueue, str]:
    """Declare the queue of the region, and one for its dead letters."""
    dead = f"outbound.{region}.dead"
    await channel.declare_queue(dead, durable=True, arguments={"x-queue-type": "quorum"})
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        # Each outage costs a message one delivery, and each 20 minutes that it is held another one.
        "x-delivery-limit": 100,
        # For messages that kill the worker again and again.
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
    }
    queue = await channel.declare_queue(f"outbound.{region}", durable=True, arguments=arguments)
    return queue, dead


async def work(stop: asyncio.Event) -> None:
    """Deliver messages until `stop` is set."""
    region, url = os.environ["REGION"], os.environ["API_URL"]
    async with (
        aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {os.environ['API_TOKEN']}"},
            # The prefetch limits the calls; a pool of the client would make them wait unseen.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=TIMEOUT,
            raise_for_status=True,
        ) as session,
        await aio_pika.connect_robust(os.environ["AMQP_URL"]) as connection,
    ):
        queue, dead = await declare_queues(await connection.channel(), region)

        async def handle(message: AbstractIncomingMessage) -> None:
            await post(session, region, url, message.body)

        consumer = RegionConsumer(
            queue,
            handle,
            region=region,
            on_error=DeadLetterTo(dead),
            prefetch=PREFETCH,
            max_attempts=20,
            stop_timeout=STOP_TIMEOUT,
        )
        async with consumer:
            logger.info("worker reads queue {}", queue.name)
            await stop.wait()
            logger.info("worker stops")
    logger.info("worker has stopped")


async def main() -> None:
    """Work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await work(stop)


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stdout, format="{time:HH:mm:ss} {level:8} {message}")
    asyncio.run(main())
