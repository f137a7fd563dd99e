"""RegionWorker: one queue with messages of one region, from their delivery to their end.

An attempt starts as soon as there is a message whose turn it is, and a slot. The worker also runs a
loop. Each step reads the circuit and does what is to be done now: let in as many messages as may be
attempted, start those that are due, give back those that were unacked for too long. Whatever
happens elsewhere only wakes the loop, and nothing depends on the order of events.
"""

import asyncio
from collections.abc import Callable, Iterator

from aio_pika.abc import AbstractIncomingMessage

from resilience.breaker import CircuitBreaker
from resilience.integrations.metrics import QueueStats
from resilience.integrations.rabbitmq.amqp import acknowledge
from resilience.integrations.rabbitmq.attempt_results import AttemptResults
from resilience.integrations.rabbitmq.backlog import Backlog
from resilience.integrations.rabbitmq.concurrency import (
    ConcurrencyLimit,
    Slot,
    attach_to_limit,
)
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.deliveries import DeliveryCounts
from resilience.integrations.rabbitmq.disposition import Disposition
from resilience.integrations.rabbitmq.giving_back import Copies, GivingBack
from resilience.integrations.rabbitmq.handler import MessageHandler
from resilience.integrations.rabbitmq.held import HeldMessages
from resilience.integrations.rabbitmq.next_message import GRACE_PERIOD, NextMessage
from resilience.integrations.rabbitmq.pacing import PacedCall, Pacing, end_with
from resilience.integrations.rabbitmq.passing_over import PassingOver
from resilience.integrations.rabbitmq.prefetch_choice import MOST_HELD, PrefetchChoice
from resilience.integrations.rabbitmq.probing import Probing
from resilience.integrations.rabbitmq.region_messages import RegionMessages
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.tenant_lookup import TenantLookup
from resilience.integrations.rabbitmq.turns import Kind, Turns
from resilience.integrations.rabbitmq.unacked import Delivery, delivered
from resilience.integrations.rabbitmq.worker import Worker


class RegionWorker(Worker):
    """The messages of one region in one queue.

    Args:
        connection: The connection to consume over.
        queue: The queue's name.
        breaker: The region's breaker.
        handler: Called with the messages.
        settings: The consumer's settings.
        is_wait_queue: Whether the messages are copies in a wait queue.
        most_returns: How often a message is returned before it is copied.
    """

    _limit: ConcurrencyLimit
    _detach: Callable[[], None]
    _pacing: Pacing
    _messages: RegionMessages
    # What decides: how many messages are let in, and which is next; what an attempt shows; which
    # messages go back; how many there are.
    _prefetch: PrefetchChoice
    _next: NextMessage
    _results: AttemptResults
    _giving_back: GivingBack
    _backlog: Backlog

    def __init__(
        self,
        connection: ReadingConnection,
        queue: str,
        breaker: CircuitBreaker,
        handler: MessageHandler,
        settings: ConsumerSettings,
        *,
        is_wait_queue: bool = False,
        most_returns: int,
    ) -> None:
        super().__init__(breaker.region, settings.stop_timeout)
        self._most_returns = most_returns
        self._breaker, self._handler, self._settings = breaker, handler, settings
        self._is_wait_queue = is_wait_queue
        self._subscription = Subscription(
            connection,
            queue,
            breaker.region,
            self._on_message,
            self._on_lost,
            settings=settings.subscription,
        )
        self._warnings = ConsumerWarnings(queue)
        self._turns = Turns(breaker.policy.failure_threshold)
        self._probing = Probing(settings.prefetch, settings.max_failed_held)
        self._counts = DeliveryCounts(queue, breaker.region)
        self._tenants = TenantLookup(settings.tenant_of, self._warnings)
        self._passing_over = PassingOver(
            queue, handler.publisher, self._warnings, is_wait_queue=is_wait_queue
        )
        # The task that waits for a slot.
        self._waiting: asyncio.Task[None] | None = None
        # The task that counts the backlog.
        self._counting: asyncio.Task[None] | None = None
        self._was_closed = True

    # The loop

    def attach(self) -> None:
        """Begin to follow the region's circuit."""
        settings = self._settings
        self._limit, self._detach = attach_to_limit(self._breaker, settings.prefetch, self.wake)
        self._pacing = self._limit.pacing
        self._pacing.use(settings.rate_limit, tenants=settings.tenant_of is not None)
        self._was_closed = self._limit.is_closed and settings.rate_limit is None
        self._make_parts()

    def _make_parts(self) -> None:
        """Make what decides for the worker, now that the limit of the region is known."""
        settings = self._settings
        self._messages = RegionMessages(HeldMessages(self._pacing))
        self._prefetch = PrefetchChoice(
            self._breaker,
            self._limit,
            settings,
            self._subscription,
            messages=self._messages,
            turns=self._turns,
            probing=self._probing,
            warnings=self._warnings,
        )
        self._next = NextMessage(
            self._breaker,
            self._limit,
            self._subscription,
            messages=self._messages,
            turns=self._turns,
            probing=self._probing,
            prefetch=self._prefetch,
        )
        self._results = AttemptResults(self._breaker, self._limit, self._turns, self._probing)
        self._giving_back = GivingBack(
            self._subscription.queue,
            self._breaker,
            self._messages,
            prefetch=self._prefetch,
            copies=Copies(
                self._handler.publisher, self._warnings, self.run_task, self._most_returns
            ),
            max_unacked=settings.max_unacked,
        )
        self._backlog = Backlog(self._subscription, self._pacing, self._messages)

    def stats(self) -> QueueStats:
        """Return the figures of the queue; any thread may call this."""
        failed = len(self._messages.unacked.failed)
        return self._counts.stats(self._messages.received_at(), failed=failed)

    async def run(self) -> None:
        """Run the loop until `stop` is called."""
        try:
            while not self.stopping:
                self.awake.clear()
                began = self.now()
                self._note_recovery()
                self._give_up_spent()
                self._pass_over()
                await self._adjust_prefetch()
                self._start_attempts()
                self._count_backlog()
                await self._giving_back.return_due()
                await self.sleep(self._seconds_to_next_step(began))
        finally:
            if self._waiting is not None:
                self._waiting.cancel()
            try:
                await self.finish(
                    self._subscription,
                    lambda: [delivery.message for delivery in self._messages.waiting()],
                )
            finally:
                self._backlog.leave()
                self._detach()

    def _note_recovery(self) -> None:
        """Make the failed messages due when the circuit has closed."""
        self._limit.notice_opening()
        closed = self._limit.is_closed
        if closed and not self._was_closed:
            self._probing.failed = 0
            for delivery in self._messages.unacked:
                delivery.region_recovered(self.now())
            self._backlog.begin()
        self._was_closed = closed

    async def _adjust_prefetch(self) -> None:
        prefetch = self._prefetch.wanted()
        if prefetch != self._subscription.prefetch or (prefetch and self._prefetch.is_stuck()):
            self._next.accepting_since = self.now()  # Messages may come before this has ended.
            await self._subscription.set_prefetch(prefetch)
            self._next.accepting_since = self.now()

    def _count_backlog(self) -> None:
        """Count the messages that wait, now and then, while there is a drain."""
        drain, count_at = self._pacing.drain, self._backlog.count_at
        is_counting = self._counting is not None and not self._counting.done()
        if drain is None or count_at is None or is_counting or self.now() < count_at:
            return

        async def count() -> None:
            await self._backlog.count(drain)
            self.wake()

        self._counting = self.run_task(count())

    def _seconds_to_next_step(self, began: float) -> float | None:
        """Return the seconds until something is due that does not wake the loop.

        Args:
            began: When the current step began: it has done all that was due by then.
        """
        now = self.now()
        pending = [time for time in self._due_times() if time > began]
        return max(0.0, min(pending) - now) if pending else None

    def _due_times(self) -> Iterator[float]:
        yield self._subscription.retry_at
        yield self._next.accepting_since + GRACE_PERIOD
        yield from self._messages.due_times(self._settings.max_unacked)
        if len(self._messages.held):
            yield self._passing_over.repeats_at
        count_at = self._backlog.count_at
        if count_at is not None:
            yield count_at

    # Deliveries

    def _on_message(self, message: AbstractIncomingMessage) -> None:
        now = self.now()
        self._counts.count(message, now)
        delivery = delivered(
            message, self._counts.deliveries, now=now, breaker_now=self._breaker.now()
        )
        delivery.tenant = self._tenants.find(message)
        if delivery.kind is not Kind.NEW and not self._giving_back.recall(delivery):
            self._limit.evidence.adopt(delivery.failures)
        slot = self._slot_immediately(delivery)
        if slot is not None:
            self._start(delivery, slot)
            return
        self._messages.unacked.add(delivery)
        self._start_attempts()
        if delivery not in self._messages.attempting:
            self.wake()

    def _slot_immediately(self, delivery: Delivery) -> Slot | None:
        """Return a slot for a message that nothing else comes before: so it is nearly always."""
        if delivery.kind is not Kind.NEW or len(self._messages.unacked) or self.stopping:
            return None
        if self._pacing.is_needed and self._messages.held.must_wait(delivery):
            return None
        if not self._limit.is_closed:
            return None
        return self._limit.try_acquire(paced=self._pacing.is_paced(delivery.tenant))

    def _on_lost(self) -> None:
        self._giving_back.drop_lost()
        self.wake()

    # Starting attempts

    def _start_attempts(self) -> None:
        """Attempt messages for as long as there are some whose turn it is, and slots."""
        while not self.stopping and (delivery := self._next.choose()) is not None:
            slot = self._limit.try_acquire(paced=self._pacing.is_paced(delivery.tenant))
            if slot is None:
                self._wait_for_slot()
                return
            self._messages.unacked.remove(delivery)
            self._start(delivery, slot)

    def _wait_for_slot(self) -> None:
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._attempt_next())

    async def _attempt_next(self) -> None:
        """Wait for a slot, and attempt the message whose turn it is then."""
        slot = await self._limit.acquire()
        delivery = None if self.stopping else self._next.choose()
        if delivery is None:
            slot.release()
            return
        self._messages.unacked.remove(delivery)
        self._start(delivery, slot)
        self._waiting = None
        self._start_attempts()

    def _start(self, delivery: Delivery, slot: Slot) -> None:
        self._turns.begin(delivery.kind)
        delivery.started_at = self.now()
        self._messages.attempting.add(delivery)
        call = None
        if self._pacing.is_needed:
            call = self._pacing.begin(delivery.tenant)
            self._messages.held.look_again(delivery.tenant)
        self.run_task(self._attempt(delivery, slot, call))

    # One attempt

    async def _attempt(self, delivery: Delivery, slot: Slot, call: PacedCall | None) -> None:
        kind = delivery.kind
        stays_unacked = True  # A message whose attempt is cancelled is given back with the others.
        try:
            stays_unacked = await self._call_handler(delivery, slot, call)
        finally:
            self._messages.attempting.discard(delivery)
            if stays_unacked:
                self._messages.unacked.add(delivery)
            self._turns.end(kind)
            self._next.accepting_since = self.now()
            slot.release()
            self._start_attempts()
            if stays_unacked or kind is not Kind.NEW or not self._limit.is_closed:
                self.wake()

    async def _call_handler(self, delivery: Delivery, slot: Slot, call: PacedCall | None) -> bool:
        """Call the handler with a message, and do with the message what this calls for.

        Args:
            delivery: The message.
            slot: Its slot.
            call: What its tenant's pace is told; None: nothing.

        Returns:
            Whether the message may stay unacked.
        """
        beginning = self._results.begin(delivery)
        attempting = self._handler.attempt(
            self._breaker, delivery.message, ignore_failures=delivery.failures.fails_by_itself
        )
        attempt = await end_with(call, attempting)
        disposition, error = attempt
        if disposition is Disposition.ACK:
            self._results.note_success(delivery, attempt, beginning)
            slot.release()  # The next message may be here before the ack was sent.
            await acknowledge(delivery.message)
            return False  # Even if the ack was not sent: what is done is not done again.
        if disposition is Disposition.ON_ERROR and isinstance(error, Exception):
            slot.release()  # To publish a dead letter can take as long as an alarm lasts.
            self._results.note_error(delivery, attempt, beginning)
            delivery.failures.note(error)
            await self._handle_error(delivery, error)
        else:
            self._results.note_failure(delivery, attempt, beginning)
        self._results.postpone(delivery, attempt)
        return True

    async def _handle_error(self, delivery: Delivery, error: Exception) -> None:
        delivery.in_on_error_since = self.now()
        self.wake()  # The loop looks again if this takes long.
        try:
            await self._handler.handle_error(
                self.region,
                delivery.message,
                error,
                from_wait_queue=self._is_wait_queue,
                headers=delivery.failures.dead_letter_headers(error),
            )
        finally:
            delivery.in_on_error_since = None

    # Messages that have an end

    def _give_up_spent(self) -> None:
        """Pass the messages to `on_error` that have had all their attempts, or all their time."""
        most, longest = self._settings.max_attempts, self._settings.max_age
        if most is None and longest is None:
            return
        unacked, held = self._messages.unacked, self._messages.held
        for delivery in (*unacked.failed, *held):
            error = delivery.failures.error
            if error is None or delivery.is_given_up:
                continue
            if delivery.failures.is_spent(most, longest):
                (held if delivery in held else unacked).remove(delivery)
                self._messages.attempting.add(delivery)
                self.run_task(self._give_up(delivery, error))

    async def _give_up(self, delivery: Delivery, error: Exception) -> None:
        try:
            delivery.is_given_up = True
            await self._handle_error(delivery, error)
        finally:
            self._messages.attempting.discard(delivery)
            self._messages.unacked.add(delivery)  # Only if it is not settled.
            self.wake()

    # Messages that make way for others

    def _pass_over(self) -> None:
        """Move the messages to the end of the queue of which a tenant has too many here."""
        held, most = self._messages.held, self._settings.max_unacked_per_tenant
        for delivery in held.excess(most, in_all=MOST_HELD * most):
            if self._passing_over.may_move(delivery.message):
                held.remove(delivery)
                self._messages.attempting.add(delivery)
                self.run_task(self._move(delivery))

    async def _move(self, delivery: Delivery) -> None:
        try:
            await self._passing_over.move(delivery.message, delivery.failures)
        finally:
            self._messages.attempting.discard(delivery)
            self._messages.held.add(delivery)  # Only if it is not settled.
            self.wake()
