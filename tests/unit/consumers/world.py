"""A broker in memory, tenants with limits, and both consumers, on virtual time."""

import asyncio
from collections import Counter, defaultdict

from aio_pika import Message

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time

REGION, QUEUE = "eu-west-1", "messages"
WAIT_QUEUE = f"wait.{REGION}"


class TooManyRequestsError(Exception):
    """What the client raises for a 429."""

    status = 429

    def __init__(self, wait):
        self.headers = {} if wait is None else {"Retry-After": str(wait)}


class World:
    """One region whose tenants may be limited to so many requests a second."""

    def __init__(self, *, shared=False, with_tenant_from=False, takes=0.1, **policy):
        self.clock = FakeClock()
        self.registry = CircuitBreakerRegistry(BreakerPolicy(**policy), clock=self.clock)
        self.breaker = self.registry.get(REGION)
        self.broker = StubBroker()
        self.broker.declare(QUEUE)
        self.shared, self.takes = shared, takes
        self.limits = {}  # tenant -> requests a second; 0: all are refused
        self.waits = 1  # what a 429 asks for, in seconds
        self.is_down = False
        self.errors = {}  # body -> what its call fails with
        self.requests = defaultdict(list)  # tenant -> when
        self.refused = Counter()
        self.done = []
        self.calls_of_the_handler = 0
        self._counts = Counter()
        more = {"tenant_from": "tenant"} if with_tenant_from else {}
        protect = region_breaker(region_from=lambda *_: REGION, registry=self.registry, **more)
        self._call = protect(self._request)

    async def _request(self, tenant, body):
        now = self.clock()
        self.requests[tenant].append(now)
        await asyncio.sleep(self.takes)
        if self.is_down:
            raise ConnectionError
        if body in self.errors:
            raise self.errors[body]
        second = tenant, int(now)
        self._counts[second] += 1
        if self._counts[second] > self.limits.get(tenant, 1_000_000):
            self.refused[tenant] += 1
            raise TooManyRequestsError(self.waits)

    async def handle(self, message):
        """Be the handler."""
        self.calls_of_the_handler += 1
        body = message.body.decode()
        await self._call(tenant_of(message) or "nobody", body)
        self.done.append(body)

    def publish(self, *bodies):
        """Publish messages of the tenants that they begin with."""
        for body in bodies:
            self.broker.publish(QUEUE, Message(body.encode()))

    def done_of(self, tenant):
        """Return what is done of a tenant."""
        return [body for body in self.done if body.split(".")[0] == tenant]

    async def consumer(self, **settings):
        """Make a consumer, whose wait queue is there."""
        settings = {
            "on_error": refuse,
            "tenant_of": tenant_of,
            "registry": self.registry,
            **settings,
        }
        queue = await self.broker.get_queue(QUEUE)
        if not self.shared:
            return RegionConsumer(queue, self.handle, region=REGION, **settings)
        consumer = SharedConsumer(
            queue, self.handle, region_of=lambda _: REGION, regions=[REGION], **settings
        )
        await consumer.declare()
        return consumer

    async def until(self, condition, seconds=3600):
        """Wait for something in virtual time."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)

    def run(self, story):
        """Run a coroutine with the broker in virtual time."""

        async def with_broker():
            async with self.broker:
                return await story()

        return run_in_virtual_time(with_broker(), self.clock)

    def left(self):
        """Return how many messages are in the queues."""
        names = [QUEUE, WAIT_QUEUE] if self.shared else [QUEUE]
        return sum(len(self.broker.messages(name)) for name in names)


def tenant_of(message):
    """Return what a message begins with."""
    return message.body.decode().split(".")[0] or None


def bodies(tenant, count, first=0):
    """Return the bodies of messages."""
    return [f"{tenant}.{number}" for number in range(first, first + count)]


async def refuse(message, error):
    """Be an `on_error` that nothing comes to."""
    raise AssertionError(f"{message.body!r}: {error!r}")
