"""Where a fault is provoked: a broker, a user with fewer rights, and a consumer that is watched."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from loguru import logger
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from resilience.integrations.rabbitmq import SharedConsumer

EU, US = "eu-west-1", "us-east-1"
LIMIT = 20  # x-delivery-limit
WATCHDOG = 180.0  # seconds, for a consumer that should have ended long before
EVERYTHING = (".*", ".*", ".*")  # configure, write, read


@dataclass(frozen=True)
class Seen:
    """What has been seen of a fault: in words, and whether it is as promised."""

    text: str
    kept: bool


class Site:
    """A broker of its own, with a user whose rights change, and the log of the package.

    Args:
        broker: The broker, newly made.
        quick: Whether to take less time, where only the code before would show a difference.
    """

    def __init__(self, broker, *, quick=False):
        self._broker, self.quick = broker, quick
        # How much longer than in the soak is waited for what the code as it is does soon.
        self.patience = 4 if quick else 1
        self.url = broker.url
        self.workers_url = broker.url.replace("guest:guest", "worker:secret")
        broker.ctl("add_user", "worker", "secret")
        broker.ctl("set_permissions", "worker", *EVERYTHING)

    async def ctl(self, *arguments):
        return await asyncio.to_thread(self._broker.ctl, *arguments)

    @asynccontextmanager
    async def restricted(self, *rights):
        """Leave the worker only some rights; then give it all of them again."""
        await self.ctl("set_permissions", "worker", *rights)
        try:
            yield
        finally:
            await self.ctl("set_permissions", "worker", *EVERYTHING)

    @asynccontextmanager
    async def alarm(self):
        """Set off a memory alarm, and end it."""
        await self.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            yield
        finally:
            await self.ctl("set_vm_memory_high_watermark", "0.6")

    @asynccontextmanager
    async def log(self):
        """Collect the warnings of the package."""
        lines = []
        sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")
        try:
            yield lines
        finally:
            logger.remove(sink)


class Errors:
    """An `on_error` that remembers, and acknowledges."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, message, _error):
        self.bodies.append(message.body)
        await message.ack()


def share(bench, queue, handler, registry, *, on_error, regions=(EU,), region_of=None, **settings):
    """Make a consumer of a shared queue, whose wait queues are deleted at the end."""
    bench.forget(*(f"{queue.name}.wait.{name}" for name in regions))
    return SharedConsumer(
        queue,
        handler,
        region_of=region_of or (lambda _: EU),
        regions=regions,
        wait_queue=f"{queue.name}.wait.{{region}}",
        on_error=on_error,
        registry=registry,
        **settings,
    )


async def run(consumer, work, within=WATCHDOG):
    """Let a consumer run until some work is done.

    Returns:
        What the work has returned, and None; or None, and the error that has ended the consumer.
    """
    try:
        async with asyncio.timeout(within), consumer:
            return await work(), None
    except Exception as error:
        return None, error


def ending(error):
    """Describe how a worker has ended, if it has."""
    return "" if error is None else f"; ended by `{type(error).__name__}`"


async def within(seconds, condition):
    """Wait for a condition; return the seconds that it took, or None if it has not come true."""
    began = time.monotonic()
    while (now := time.monotonic()) <= began + seconds:
        fulfilled = condition()
        if asyncio.iscoroutine(fulfilled):
            fulfilled = await fulfilled
        if fulfilled:
            return now - began
        await asyncio.sleep(0.01)
    return None


def http_error(status, **headers):
    """Make the error that aiohttp raises for an answer with this status."""
    url = URL("https://api.mypurecloud.ie/api/v2")
    request = aiohttp.RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict()), url)
    headers = CIMultiDictProxy(CIMultiDict(headers))
    return aiohttp.ClientResponseError(request, (), status=status, headers=headers)
