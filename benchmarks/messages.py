"""How many messages a consumer gets through, next to plain aio-pika, on a real RabbitMQ in one run.

make bench-messages                  both kinds of calls, into docs/how-to/message-workers.md
make bench-messages ARGS=--profile   where the time of a RegionConsumer goes, printed only

The consumers take turns, round by round, and each starts with a queue that is full. The best round
of each is compared, since the machine and the broker disturb a round only in one direction.
"""

import asyncio
import cProfile
import gc
import pstats
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustConnection
from loguru import logger

from benchmarks import report
from resilience import CircuitBreakerRegistry, region_breaker
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from tests.support import rabbitmq_broker

COMMAND = "make bench-messages"
PAGE = "docs/how-to/message-workers.md"
PREFETCH, MESSAGES, ROUNDS = 100, 3000, 9
REGION = "eu-west-1"
CALLS = {"20 ms": 0.02, "nothing": 0.0}
HEAD = ("", "messages per second", "of plain aio-pika", "CPU time per message, µs")


class Broker(Protocol):
    """A RabbitMQ."""

    url: str

    def close(self) -> None:
        """Stop it, if it was started here."""


open_broker: Callable[[], Broker] = rabbitmq_broker.open_broker


@dataclass(slots=True)
class Work:
    """What the handlers do.

    Args:
        seconds: How long a call takes.
    """

    seconds: float
    done: int = 0
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self) -> None:
        """Make a call."""
        if self.seconds:
            await asyncio.sleep(self.seconds)

    def count(self) -> None:
        """Note that a message is done."""
        self.done += 1
        if self.done == MESSAGES:
            self.finished.set()


@asynccontextmanager
async def plain(queue: AbstractQueue, work: Work) -> AsyncGenerator[None]:
    """Consume as the manual of aio-pika does, without any breaker."""

    async def handle(message: AbstractIncomingMessage) -> None:
        await work.call()
        await message.ack()
        work.count()

    await queue.channel.set_qos(prefetch_count=PREFETCH)
    tag = await queue.consume(handle)
    yield
    await queue.cancel(tag)


@asynccontextmanager
async def region_consumer(queue: AbstractQueue, work: Work) -> AsyncGenerator[None]:
    """Consume a queue of one region."""
    registry = CircuitBreakerRegistry()
    handle = protected_handler(registry, work)
    consumer = RegionConsumer(
        queue, handle, region=REGION, on_error=refuse, prefetch=PREFETCH, registry=registry
    )
    async with consumer:
        yield


@asynccontextmanager
async def shared_consumer(queue: AbstractQueue, work: Work) -> AsyncGenerator[None]:
    """Consume a shared queue."""
    registry = CircuitBreakerRegistry()
    consumer = SharedConsumer(
        queue,
        protected_handler(registry, work),
        region_of=lambda _: REGION,
        regions=[REGION],
        on_error=refuse,
        wait_queue=f"{queue.name}.wait.{{region}}",
        prefetch=PREFETCH,
        registry=registry,
    )
    await consumer.declare()
    async with consumer:
        yield
    await queue.channel.queue_delete(f"{queue.name}.wait.{REGION}")


def protected_handler(
    registry: CircuitBreakerRegistry, work: Work
) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
    """Return a handler that calls the region through its breaker."""

    @region_breaker(region_from="region", registry=registry)
    async def call(region: str) -> None:  # noqa: ARG001 - The decorator reads it.
        await work.call()

    async def handle(_: AbstractIncomingMessage) -> None:
        await call(REGION)
        work.count()

    return handle


async def refuse(message: AbstractIncomingMessage, error: Exception) -> None:
    """Be the `on_error` that no message comes to."""
    raise AssertionError(message.body) from error


Consume = Callable[[AbstractQueue, Work], AbstractAsyncContextManager[None]]
CONSUMERS: dict[str, Consume] = {
    "plain aio-pika": plain,
    "`RegionConsumer`": region_consumer,
    "`SharedConsumer`": shared_consumer,
}


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has taken, in seconds."""

    elapsed: float
    cpu: float


async def play(connection: AbstractRobustConnection, consume: Consume, seconds: float) -> Round:
    """Fill a queue, and time a consumer until the last message is done."""
    async with connection.channel() as channel:
        queue = await channel.declare_queue(f"bench.{uuid4().hex}", durable=True)
        messages = (aio_pika.Message(b"{}") for _ in range(MESSAGES))
        exchange = channel.default_exchange
        await asyncio.gather(*(exchange.publish(one, queue.name) for one in messages))
        work = Work(seconds)
        gc.collect()
        gc.disable()
        began, cpu_began = time.perf_counter(), time.process_time()
        try:
            async with consume(queue, work):
                await work.finished.wait()
                ended, cpu_ended = time.perf_counter(), time.process_time()
        finally:
            gc.enable()
        await queue.delete()
    return Round(ended - began, cpu_ended - cpu_began)


async def compare(url: str) -> list[str]:
    """Return a table for each kind of call."""
    parts: list[str] = []
    async with await aio_pika.connect_robust(url) as connection:
        for what, seconds in CALLS.items():
            rounds: dict[str, list[Round]] = {name: [] for name in CONSUMERS}
            for _ in range(ROUNDS):
                for name, consume in CONSUMERS.items():
                    rounds[name].append(await play(connection, consume, seconds))
            parts += [f"The handler's call takes {what}:", table(rounds)]
    return parts


def table(rounds: dict[str, list[Round]]) -> str:
    """Lay out the best round of each consumer."""
    best = {name: min(one.elapsed for one in timed) for name, timed in rounds.items()}
    base = best["plain aio-pika"]
    rows = [
        (
            name,
            f"{MESSAGES / best[name]:,.0f}",
            f"{base / best[name]:.2f}",
            f"{min(one.cpu for one in timed) / MESSAGES * 1e6:,.0f}",
        )
        for name, timed in rounds.items()
    ]
    return report.table(HEAD, rows)


async def profile(url: str) -> None:
    """Print where the time of a RegionConsumer goes whose calls do nothing."""
    async with await aio_pika.connect_robust(url) as connection:
        profiler = cProfile.Profile()
        profiler.enable()
        await play(connection, region_consumer, 0.0)
        profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def main() -> None:
    """Start a broker, or use that of `AMQP_URL`, and measure."""
    logger.remove()
    broker = open_broker()
    try:
        if "--profile" in sys.argv:
            asyncio.run(profile(broker.url))
            return
        parts = asyncio.run(compare(broker.url))
    finally:
        broker.close()
    how = f"Measured with a prefetch of {PREFETCH}, the best of {ROUNDS} rounds,"
    origin = report.origin(COMMAND, "aio-pika", how=how)
    report.write_section(PAGE, COMMAND, *parts, origin)


if __name__ == "__main__":
    main()
