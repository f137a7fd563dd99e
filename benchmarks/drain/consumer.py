"""Plays the outage with the consumer itself, on a broker in memory and on virtual time."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from benchmarks.drain.server import Server
from benchmarks.drain.world import Figures, Plan
from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from resilience.limits import RateLimit
from resilience.testing import FakeClock, StubBroker, run_in_virtual_time

REGION, QUEUE = "eu-west-1", "messages"
_LAST_SECOND = 4 * 3600.0
_SAMPLED_EVERY = 30.0
# What the recovery timeout adds, at most, until the region is probed.
_RECOVERY_TIMEOUT = 10.0
_MINUTE = 60.0  # the window of Genesys Cloud, whose headers do not name it


class RefusedError(Exception):
    """What the client raises for a 429.

    Args:
        wait: What the server asks for, in seconds.
        limit: What its headers say that it allows; None: they say nothing.
    """

    status = 429

    def __init__(self, wait: float, limit: RateLimit | None) -> None:
        self.headers = {"Retry-After": str(max(1, round(wait + 0.5)))}
        if limit is not None and limit.window == _MINUTE:
            self.headers["inin-ratelimit-allowed"] = f"{limit.allowed:.0f}"
        super().__init__("429")


@dataclass
class Settings:
    """How the consumer is set up.

    Args:
        rate_limit: Given to the consumer; None: nobody has said it.
        observes: Whether each answer is reported to the breaker, with its headers.
        is_shared: Whether the queue is shared: live messages then pass the backlog.
    """

    rate_limit: RateLimit | None = None
    observes: bool = False
    is_shared: bool = True


class ConsumerWorld:
    """One run with a real consumer.

    Args:
        plan: What happens.
        settings: How the consumer is set up.
    """

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan, self.settings = plan, settings
        self.clock = FakeClock()
        policy = BreakerPolicy(recovery_timeout=_RECOVERY_TIMEOUT)
        self.registry = CircuitBreakerRegistry(policy, clock=self.clock)
        self.figures = Figures()
        self._chance = random.Random(plan.seed)  # noqa: S311 - not a secret
        self._server = Server(plan.limit, self._chance.uniform(0, plan.limit.window))
        self._broker = StubBroker()
        self._broker.declare(QUEUE)
        self._back_at = self.clock() + plan.outage
        # When each message arrived that is not done.
        self._arrived: dict[str, float] = {}
        self._left = 0

    def play(self) -> Figures:
        """Play the outage, and the time until the backlog is gone."""
        run_in_virtual_time(self._run(), self.clock)
        return self.figures

    async def _run(self) -> None:
        self._gone = asyncio.Event()
        async with self._broker:
            queue = await self._broker.get_queue(QUEUE)
            consumer = self._consumer(queue)
            if isinstance(consumer, SharedConsumer):
                await consumer.declare()
            async with consumer:
                tasks = [asyncio.create_task(self._arrive()), asyncio.create_task(self._sample())]
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.plan.outage + _LAST_SECOND):
                        await self._gone.wait()
                    self.figures.seconds = self.clock() - self._back_at
                self.figures.requests = self._server.requests
                self.figures.refused = self._server.refused
                for task in tasks:
                    task.cancel()

    def _consumer(self, queue: AbstractQueue) -> RegionConsumer | SharedConsumer:
        if not self.settings.is_shared:
            return RegionConsumer(
                queue,
                self._handle,
                region=REGION,
                on_error=_refuse,
                prefetch=self.plan.workers,
                registry=self.registry,
                rate_limit=self.settings.rate_limit,
            )
        return SharedConsumer(
            queue,
            self._handle,
            region_of=lambda _: REGION,
            regions=[REGION],
            on_error=_refuse,
            prefetch=self.plan.workers,
            registry=self.registry,
            rate_limit=self.settings.rate_limit,
        )

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        breaker = self.registry.get(REGION)
        with breaker.acquire():
            if self.clock() < self._back_at:
                raise ConnectionError
            reading = self._server.request(self.clock())
            await asyncio.sleep(self.plan.answer)
            limit = self.plan.limit if self.settings.observes else None
            if reading.is_throttled:
                error = RefusedError(reading.wait or 0.0, limit)
                if limit is not None:
                    breaker.observe(error)
                raise error
            if limit is not None:
                breaker.observe(RefusedError(0.0, limit))
        self._done(self._arrived.pop(message.message_id or ""))

    def _done(self, arrived: float) -> None:
        if arrived >= self._back_at:
            self.figures.live.append(self.clock() - arrived)
            return
        self._left -= 1
        if not self._left and self.clock() >= self._back_at:
            self._gone.set()

    async def _arrive(self) -> None:
        number = 0
        while True:
            number += 1
            name = str(number)
            self._arrived[name] = self.clock()
            is_live = self.clock() >= self._back_at
            self._left += not is_live
            self.figures.arrived += is_live
            self._broker.publish(QUEUE, Message(b"{}", message_id=name))
            await asyncio.sleep(self._chance.expovariate(self.plan.arrivals))

    async def _sample(self) -> None:
        await asyncio.sleep(self._back_at - self.clock())
        while True:
            self.figures.backlog.append((self.clock() - self._back_at, self._left))
            await asyncio.sleep(_SAMPLED_EVERY)


async def _refuse(message: AbstractIncomingMessage, error: Exception) -> None:
    raise AssertionError(message.body) from error
