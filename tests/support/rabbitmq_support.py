"""What the tests of the RabbitMQ workers share: queues of their own, and a region to call."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count
from uuid import uuid4

import aio_pika

from resilience import BreakerPolicy, CircuitBreakerRegistry

WATCHDOG = 30.0
KINDS = ("classic", "quorum")


def make_registry(threshold=3, recovery=0.2, successes=1, **more):
    policy = BreakerPolicy(
        failure_threshold=threshold,
        recovery_timeout=recovery,
        success_threshold=successes,
        **more,
    )
    return CircuitBreakerRegistry(policy)


class Bench:
    """A connection with queues that are deleted at the end."""

    def __init__(self, connection, channel):
        self.connection, self.channel = connection, channel
        self._names, self._made = count(), []
        self._prefix = uuid4().hex[:8]

    def name(self, stem="q"):
        return f"{stem}.{self._prefix}.{next(self._names)}"

    async def queue(self, kind="classic", *, name=None, **arguments):
        name = name or self.name()
        self._made.append(name)
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        return await self.channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": kind, **arguments}
        )

    def forget(self, *names):
        self._made += names

    async def publish(self, queue, *bodies, **properties):
        properties = {"delivery_mode": aio_pika.DeliveryMode.PERSISTENT, **properties}
        exchange = self.channel.default_exchange
        messages = [aio_pika.Message(str(body).encode(), **properties) for body in bodies]
        # In this order: each is written before the first of them is confirmed.
        await asyncio.gather(
            *(exchange.publish(message, str(queue), mandatory=True) for message in messages)
        )

    async def drain(self, queue):
        """Take out all that is ready, and give it."""
        channel = await self.connection.channel()
        reader = await channel.get_queue(str(queue), ensure=False)
        taken = []
        while (message := await reader.get(fail=False)) is not None:
            await message.ack()
            taken.append(message)
        await channel.close()
        return taken

    async def look(self, queue):
        """Give (ready, consumers) of a queue; `ready` of a quorum queue may be a second old."""
        channel = await self.connection.channel()
        seen = await (await channel.get_underlay_channel()).queue_declare(str(queue), passive=True)
        await channel.close()
        return seen.message_count, seen.consumer_count

    async def close(self):
        for name in self._made:
            channel = await self.connection.channel()
            await channel.queue_delete(name)
            await channel.close()


@asynccontextmanager
async def bench_at(url, connect=aio_pika.connect_robust):
    connection = await connect(url)
    async with connection:
        bench = Bench(connection, await connection.channel())
        yield bench
        await bench.close()


class Region:
    """What the handler calls: it works, or fails as it is told."""

    def __init__(self, registry, region="eu-west-1", takes=0.0):
        self.breaker = registry.get(region)
        self.region, self.takes = region, takes
        self.error = None  # or what every call fails with
        self.fails_for = {}  # body -> what its call fails with
        self.done, self.order, self.calls = [], [], Counter()
        self.running = self.most = 0
        self.finished = asyncio.Event()
        self.protected = self.breaker(self.call)

    async def __call__(self, message):
        await self.protected(message.body.decode())

    async def call(self, body):
        self.calls[body] += 1
        self.order.append(body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.takes)
            error = self.fails_for.get(body, self.error)
            if error is not None:
                raise error
            self.done.append(body)
        finally:
            self.running -= 1

    @property
    def total(self):
        return sum(self.calls.values())


def numbers(count):
    return [str(number) for number in range(count)]


async def until(condition, what="it"):
    """Wait for a condition, plain or to be awaited, under a watchdog."""
    end = time.monotonic() + WATCHDOG
    while True:
        fulfilled = condition()
        if asyncio.iscoroutine(fulfilled):
            fulfilled = await fulfilled
        if fulfilled:
            return
        assert time.monotonic() < end, f"{what} did not happen within {WATCHDOG:g} s"
        await asyncio.sleep(0.01)


async def settle_down():
    """Let all tasks run until they wait for something that happens elsewhere."""
    for _ in range(100):
        await asyncio.sleep(0)


async def refuse_errors(message, error):
    """An `on_error` for tests in which nothing may come to it."""
    raise AssertionError(f"{message.body!r}: {error!r}")
