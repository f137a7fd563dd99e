"""Router: consumes a shared queue all the time, and moves what cannot be attempted elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import ceil

from aio_pika.abc import AbstractIncomingMessage

from resilience.breaker import CircuitBreaker
from resilience.integrations.metrics import QueueStats
from resilience.integrations.rabbitmq.amqp import (
    MessageError,
    acknowledge,
    as_exception,
    is_unsettled,
    return_to_queue,
)
from resilience.integrations.rabbitmq.concurrency import ConcurrencyLimit, attach_to_limit
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.deliveries import DeliveryCounts
from resilience.integrations.rabbitmq.disposition import Disposition
from resilience.integrations.rabbitmq.evidence import Beginning
from resilience.integrations.rabbitmq.failure_record import FailureRecord, record_of
from resilience.integrations.rabbitmq.handler import Attempt, MessageHandler
from resilience.integrations.rabbitmq.pacing import PacedCall, Pacing, end_with
from resilience.integrations.rabbitmq.publisher import copy_of
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.tenant_lookup import TenantLookup
from resilience.integrations.rabbitmq.unreadable import check_readable
from resilience.integrations.rabbitmq.worker import Worker

# Seconds between two tries to settle a message which the broker, or `on_error`, left unsettled.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# The most messages that may wait in addition to those that are let in.
_MOST_WAITING = 1000
# The most seconds that a message waits for its turn in a drain before it is moved.
_LONGEST_WAIT_FOR_TURN = 2.0
# How many more messages are let in while messages of throttled tenants are moved, as a share of the
# prefetch, and the seconds for which this goes on afterwards.
_ROOM, _ROOM_KEPT = 0.5, 60.0


class Router(Worker):
    """The messages of a shared queue: attempted immediately, or moved to a wait queue.

    Args:
        connection: The connection to consume over.
        queue: The queue's name.
        handler: Called with the messages.
        settings: The consumer's settings.
        breaker_of: Returns the breaker of a message's region.
        wait_queues: The name of each region's wait queue.
    """

    def __init__(
        self,
        connection: ReadingConnection,
        queue: str,
        handler: MessageHandler,
        settings: ConsumerSettings,
        *,
        breaker_of: Callable[[AbstractIncomingMessage], CircuitBreaker],
        wait_queues: Mapping[CircuitBreaker, str],
    ) -> None:
        super().__init__("", settings.stop_timeout)
        self._queue, self._handler, self._settings = queue, handler, settings
        self._breaker_of, self._wait_queues = breaker_of, wait_queues
        self._subscription = Subscription(
            connection, queue, "", self._on_message, self.wake, settings=settings.subscription
        )
        # When they were delivered, in the order of delivery.
        self._unacked: dict[AbstractIncomingMessage, float] = {}
        # The messages that wait for the broker or `on_error` to take them, with the time from when
        # on they no longer count towards the prefetch.
        self._waiting: dict[AbstractIncomingMessage, float] = {}
        self._counts = DeliveryCounts(queue, "")
        self._tenants = TenantLookup(settings.tenant_of, ConsumerWarnings(queue))
        # Until when more messages are let in than the prefetch.
        self._has_room_until = 0.0
        # How many messages wait for their turn in a drain.
        self._pausing = 0
        self._limits: dict[CircuitBreaker, ConcurrencyLimit] = {}
        self._detach: list[Callable[[], None]] = []

    # The loop

    def attach(self) -> None:
        """Begin to follow the circuits of all regions."""
        for breaker in self._wait_queues:
            limit, detach = attach_to_limit(breaker, self._settings.prefetch, self.wake)
            limit.pacing.use(
                self._settings.rate_limit, tenants=self._settings.tenant_of is not None
            )
            self._limits[breaker] = limit
            self._detach.append(detach)

    def stats(self) -> QueueStats:
        """Return the figures of the queue; any thread may call this."""
        return self._counts.stats(tuple(self._unacked.values()), failed=0)

    async def run(self) -> None:
        """Keep the subscription running until `stop` is called."""
        try:
            while not self.stopping:
                self.awake.clear()
                prefetch = self._wanted_prefetch()
                if self._subscription.prefetch != prefetch or self._is_stuck():
                    await self._subscription.set_prefetch(prefetch)
                await self.sleep(self._seconds_to_next_step())
        finally:
            try:
                await self.finish(self._subscription, lambda: tuple(self._unacked))
            finally:
                for detach in self._detach:
                    detach()

    def _wanted_prefetch(self) -> int:
        """Return how many messages are let in: more while those of throttled tenants are moved.

        Each of them is unacked until the broker has its copy. The others keep their places.
        """
        usual = self._settings.prefetch
        return usual + ceil(usual * _ROOM) if self.now() < self._has_room_until else usual

    def _make_room(self) -> None:
        if self.now() >= self._has_room_until:
            self.wake()
        self._has_room_until = self.now() + _ROOM_KEPT

    def _is_stuck(self) -> bool:
        """Whether waiting messages take up so much of the prefetch that few others fit in.

        They may wait for as long as an alarm of the broker lasts. A new consumer has a prefetch of
        its own.
        """
        tag, now = self._subscription.consumer_tag, self.now()
        waiting = sum(
            message.consumer_tag == tag and since <= now for message, since in self._waiting.items()
        )
        return 2 * waiting >= self._settings.prefetch and len(self._waiting) < _MOST_WAITING

    def _seconds_to_next_step(self) -> float | None:
        due = [since for since in self._waiting.values() if since > self.now()]
        if self._has_room_until > self.now():
            due.append(self._has_room_until)
        if self._subscription.retry_at:
            due.append(self._subscription.retry_at)
        return max(0.0, min(due) - self.now()) if due else None

    def _on_message(self, message: AbstractIncomingMessage) -> None:
        now = self.now()
        self._counts.count(message, now)
        self._unacked[message] = now
        self.run_task(self._route(message))

    # One message

    async def _route(self, message: AbstractIncomingMessage) -> None:
        try:
            check_readable(message)
            breaker = self._breaker_of(message)
        # The user's function may raise anything; nothing is awaited here that could be cancelled.
        except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001
            error = as_exception(raised)
            failures = FailureRecord()
            failures.note(error)
            await self._handle_error(self._queue, message, error, failures)
        else:
            failures = record_of(message, breaker.now())
            if not await self._attempt(breaker, message, failures):
                await self._move_to_wait_queue(breaker, message, failures)
        if not is_unsettled(message):
            del self._unacked[message]

    async def _attempt(
        self, breaker: CircuitBreaker, message: AbstractIncomingMessage, failures: FailureRecord
    ) -> bool:
        """Call the handler if the region is at full rate.

        Returns:
            Whether the message is done with; if not, it has to wait.
        """
        limit, tenant = self._limits[breaker], self._tenants.find(message)
        pacing = limit.pacing
        if pacing.is_needed and not await self._wait_for_turn(pacing, tenant):
            self._make_room()
            return False
        slot = await limit.acquire_at_full_rate(paced=pacing.is_paced(tenant))
        if slot is None:
            return False
        try:
            if self.stopping:
                return False
            if not is_unsettled(message):
                return True  # Its channel fell while it waited: it will be delivered again.
            call = pacing.begin(tenant, live=True) if pacing.is_needed else None
            beginning = limit.evidence.begin(failures)
            attempt = await self._call_handler(breaker, message, call, beginning)
        finally:
            slot.release()
        disposition, error = attempt
        if isinstance(error, Exception) and disposition is not Disposition.REJECTED:
            failures.note(error)
            if disposition is not Disposition.ON_ERROR:
                counts = disposition is Disposition.REGION_FAILED
                limit.evidence.record_failure(failures, beginning, counts=counts)
        if disposition is Disposition.ON_ERROR and isinstance(error, Exception):
            await self._handle_error(breaker.region, message, error, failures)
        return disposition in (Disposition.ACK, Disposition.ON_ERROR)

    async def _call_handler(
        self,
        breaker: CircuitBreaker,
        message: AbstractIncomingMessage,
        call: PacedCall | None,
        beginning: Beginning,
    ) -> Attempt:
        """Call the handler, and acknowledge the message if it is done."""
        attempt = await end_with(call, self._handler.attempt(breaker, message))
        if attempt.disposition in (Disposition.ACK, Disposition.ON_ERROR):
            self._limits[breaker].record_end(attempt, beginning.position)
        if attempt.disposition is Disposition.ACK:
            await acknowledge(message)
        return attempt

    async def _wait_for_turn(self, pacing: Pacing, tenant: str) -> bool:
        """Wait for the turn of a message, if this takes a moment only.

        Returns:
            Whether it may be attempted; if not, it is moved, so that it is in nobody's way.
        """
        end = self.now() + _LONGEST_WAIT_FOR_TURN
        while (wait := pacing.wait(tenant, live=True)) > 0.0:
            is_patient = pacing.drain is not None and 2 * self._pausing < self._settings.prefetch
            if not is_patient or self.now() + wait > end or self.stopping:
                return False
            self._pausing += 1
            try:
                await self.pause(wait)
            finally:
                self._pausing -= 1
        return True

    async def _move_to_wait_queue(
        self, breaker: CircuitBreaker, message: AbstractIncomingMessage, failures: FailureRecord
    ) -> None:
        """Publish a copy to the wait queue, and acknowledge only when the broker has it."""

        async def move() -> None:
            copy = copy_of(message)
            copy.headers.update(failures.headers())
            if await self._handler.publisher.publish(copy, self._wait_queues[breaker]):
                self._counts.parked += 1
                await acknowledge(message)

        try:
            await self._until_settled(message, move)
        except MessageError as error:
            await self._handle_error(breaker.region, message, error, failures)

    async def _handle_error(
        self,
        region: str,
        message: AbstractIncomingMessage,
        error: Exception,
        failures: FailureRecord,
    ) -> None:
        async def handle() -> None:
            headers = failures.dead_letter_headers(error)
            await self._handler.handle_error(
                region, message, error, from_wait_queue=False, headers=headers
            )

        await self._until_settled(message, handle)

    async def _until_settled(
        self, message: AbstractIncomingMessage, settle: Callable[[], Awaitable[None]]
    ) -> None:
        """Try again until a message is settled; give it back when it was unacked for too long."""
        end = self.now() + self._settings.max_unacked
        pause = _FIRST_PAUSE
        self._waiting[message] = self.now() + (0.0 if self._handler.publisher.blocked else pause)
        self.wake()
        try:
            while is_unsettled(message) and not self.stopping:
                if self.now() >= end:
                    await return_to_queue([message])
                    return
                await settle()
                if is_unsettled(message):
                    await self.pause(min(pause, end - self.now()))
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            del self._waiting[message]
