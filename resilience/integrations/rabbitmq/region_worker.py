"""RegionWorker: one queue with messages of one region, and when each of them is attempted.

An attempt starts as soon as there is a message whose turn it is, and a slot. The worker also runs a
loop. Each step reads the circuit and does what is to be done now: let in as many messages as may be
attempted, start those that are due, give back those that were unacked for too long. Whatever
happens elsewhere only wakes the loop, and nothing depends on the order of events.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from itertools import chain

from aio_pika.abc import AbstractIncomingMessage

from resilience.answers import requested_delay
from resilience.breaker import CircuitBreaker
from resilience.circuit import CircuitState
from resilience.classify import root_error
from resilience.errors import TenantThrottledError
from resilience.integrations.metrics import QueueStats
from resilience.integrations.rabbitmq.amqp import acknowledge, is_unsettled, return_to_queue
from resilience.integrations.rabbitmq.concurrency import (
    ConcurrencyLimit,
    Slot,
    attach_to_limit,
)
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.deliveries import DeliveryCounts
from resilience.integrations.rabbitmq.disposition import Disposition, rejection_in
from resilience.integrations.rabbitmq.handler import Attempt, MessageHandler
from resilience.integrations.rabbitmq.held import HeldMessages
from resilience.integrations.rabbitmq.pacing import (
    NO_TENANT,
    PacedCall,
    Pacing,
    end_with,
    wait_asked_by,
)
from resilience.integrations.rabbitmq.passing_over import PassingOver
from resilience.integrations.rabbitmq.region_drain import RegionDrain
from resilience.integrations.rabbitmq.returned_failures import ReturnedFailures
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.tenant_lookup import TenantLookup
from resilience.integrations.rabbitmq.turns import Kind, Turns
from resilience.integrations.rabbitmq.unacked import Delivery, Unacked, delivered, next_due
from resilience.integrations.rabbitmq.worker import Worker

# Seconds that a probe waits for a new message before it takes one that has failed.
_GRACE_PERIOD = 0.25
# The most seconds that a message waits which was rejected while other code holds the probe's place.
_LONGEST_WAIT_FOR_PLACE = 1.0
# Seconds after which `on_error` is taken to wait for something, such as the end of an alarm.
_LONG_ON_ERROR = 1.0
# The new messages that the second probe chooses from; each further one chooses from twice as many.
_FIRST_CHOICE = 10
_MAX_DOUBLINGS = 16
# How many more messages are let in beside those that wait for tenants, as a share of the prefetch.
# With more, a consumer would keep messages in hand that another one could attempt.
_ROOM = 0.5
# The most messages that wait for tenants in all, as a multiple of those of one tenant.
_MOST_HELD = 5
# Seconds for which that room is kept when no message waits any more.
_ROOM_KEPT = 60.0


class RegionWorker(Worker):
    """The messages of one region in one queue.

    Args:
        connection: The connection to consume over.
        queue: The queue's name.
        breaker: The region's breaker.
        handler: Called with the messages.
        settings: The consumer's settings.
        is_wait_queue: Whether the messages are copies in a wait queue.
    """

    _limit: ConcurrencyLimit
    _pacing: Pacing
    # The messages that wait for their tenants. They are not in `_unacked` meanwhile.
    _held: HeldMessages
    _detach: Callable[[], None]

    def __init__(
        self,
        connection: ReadingConnection,
        queue: str,
        breaker: CircuitBreaker,
        handler: MessageHandler,
        settings: ConsumerSettings,
        *,
        is_wait_queue: bool = False,
    ) -> None:
        super().__init__(breaker.region, settings.stop_timeout)
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
        self._unacked = Unacked()
        self._turns = Turns(breaker.policy.failure_threshold)
        self._counts = DeliveryCounts(queue, breaker.region)
        self._returned_failures = ReturnedFailures()
        # The deliveries whose attempt is running: they are not in `_unacked` meanwhile.
        self._attempting: set[Delivery] = set()
        self._tenants = TenantLookup(settings.tenant_of, self._warnings)
        self._passing_over = PassingOver(
            queue, handler.publisher, self._warnings, is_wait_queue=is_wait_queue
        )
        # Until when more messages are let in than the prefetch.
        self._has_room_until = 0.0
        # When the backlog is counted again while there is a drain.
        self._count_at = 0.0
        self._counting: asyncio.Task[None] | None = None
        # The task that waits for a slot.
        self._waiting: asyncio.Task[None] | None = None
        # When the prefetch was set, or an attempt ended, last: new messages may come since then.
        self._accepting_since = 0.0
        self._was_closed = True
        # The probes with new messages that have failed since the circuit was CLOSED.
        self._failed_probes = 0

    # The loop

    def attach(self) -> None:
        """Begin to follow the region's circuit."""
        self._limit, self._detach = attach_to_limit(
            self._breaker, self._settings.prefetch, self.wake
        )
        self._pacing = self._limit.pacing
        self._pacing.use(self._settings.rate_limit, tenants=self._settings.tenant_of is not None)
        self._held = HeldMessages(self._pacing)
        self._was_closed = self._limit.is_closed and self._settings.rate_limit is None

    def stats(self) -> QueueStats:
        """Return the figures of the queue; any thread may call this."""
        unacked = (*self._unacked, *tuple(self._held), *tuple(self._attempting))
        failed = len(self._unacked.failed)
        return self._counts.stats((one.received_at for one in unacked), failed=failed)

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
                await self._return_messages()
                await self.sleep(self._seconds_to_next_step(began))
        finally:
            if self._waiting is not None:
                self._waiting.cancel()
            try:
                await self.finish(
                    self._subscription,
                    lambda: [delivery.message for delivery in chain(self._unacked, self._held)],
                )
            finally:
                self._leave_drain()
                self._detach()

    def _note_recovery(self) -> None:
        """Make the failed messages due when the circuit has closed."""
        closed = self._limit.is_closed
        if closed and not self._was_closed:
            self._failed_probes = 0
            for delivery in self._unacked:
                delivery.region_recovered(self.now())
            self._pacing.begin_drain().expect(self._subscription.queue)
            self._count_at = self.now()
        self._was_closed = closed

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
        yield self._accepting_since + _GRACE_PERIOD
        for delivery in self._unacked:
            yield delivery.due
            yield delivery.received_at + self._settings.max_unacked
        if self._held.look_at is not None:
            yield self._held.oldest + self._settings.max_unacked
            yield self._held.look_at
            yield self._passing_over.repeats_at
        if self._pacing.drain is not None:
            yield self._count_at
        for delivery in self._attempting:
            if delivery.in_on_error_since is not None:
                yield delivery.in_on_error_since + _LONG_ON_ERROR

    # Letting messages in

    async def _adjust_prefetch(self) -> None:
        prefetch = self._wanted_prefetch()
        if prefetch != self._subscription.prefetch or (prefetch and self._is_stuck()):
            self._accepting_since = self.now()  # Messages may come before this has ended.
            await self._subscription.set_prefetch(prefetch)
            self._accepting_since = self.now()

    def _wanted_prefetch(self) -> int:
        """Return how many messages may be let in."""
        state = self._breaker.state
        if state is CircuitState.OPEN:
            return 0
        if state is CircuitState.CLOSED:
            return self._prefetch_beside_held()
        if not self._may_let_in_more():
            return 0
        choice = self._probes_choose_from()
        if 0 < self._subscription.prefetch <= choice:
            return self._subscription.prefetch
        return max(0, choice - len(self._unacked.new))

    def _prefetch_beside_held(self) -> int:
        """Return how many messages are let in, so that those that wait for tenants block none.

        Each new consumer has a prefetch of its own. That of the running one stays until the waiting
        messages leave less than the usual prefetch to the others.
        """
        usual = min(self._settings.prefetch, self._limit.max_calls)
        if self._held.count:
            self._has_room_until = self.now() + _ROOM_KEPT
        if self.now() >= self._has_room_until:
            return usual
        return usual + math.ceil(usual * _ROOM)

    def _leaves_little_room(self) -> bool:
        """Whether messages that wait for tenants take up the room of the others."""
        if not self._held.count or self._held_too_many():
            return False
        usual = min(self._settings.prefetch, self._limit.max_calls)
        held = self._held.count_of(self._subscription.consumer_tag)
        return self._subscription.prefetch - held < usual

    def _held_too_many(self) -> bool:
        return self._held.count >= _MOST_HELD * self._settings.max_unacked_per_tenant

    def _probes_choose_from(self) -> int:
        """Return how many new messages a probe chooses from.

        It is more with each probe that fails. In an outage this changes nothing. But if the
        messages at the head of the queue always fail, the probes get past them.
        """
        probes = min(self._settings.prefetch, self._breaker.policy.half_open_probes)
        if not self._failed_probes:
            return probes
        doublings = min(self._failed_probes - 1, _MAX_DOUBLINGS)
        return max(probes, min(_FIRST_CHOICE << doublings, self._settings.max_failed_held))

    def _may_let_in_more(self) -> bool:
        """Whether the failed messages leave room for new ones."""
        if self._turns.new_is_next and self._breaker.state is CircuitState.HALF_OPEN:
            # If all that are held always fail, no other message would ever be attempted.
            return True
        held, attempting = self._unacked, self._attempting
        failed = len(held.failed)
        failed += sum(one.kind is Kind.FAILED or self._waits_in_on_error(one) for one in attempting)
        suspect = len(held.redelivered)
        suspect += sum(one.kind is Kind.REDELIVERED for one in attempting)
        if failed >= self._settings.max_failed_held:
            self._warnings.warn(
                "full",
                f"holds {failed} messages that have failed (max_failed_held): "
                "fewer new ones are let in, until some of them have succeeded",
            )
        return failed + suspect < self._settings.max_failed_held

    def _is_stuck(self) -> bool:
        """Whether failed messages take up so much of the prefetch that few new ones can come.

        A new consumer has a prefetch of its own.
        """
        if self._limit.is_closed and self._leaves_little_room():
            return True
        tag = self._subscription.consumer_tag
        deliveries = chain(self._unacked.failed, filter(self._waits_in_on_error, self._attempting))
        if self._limit.is_closed:
            # Probes use them, but here they make way for new ones.
            deliveries = chain(deliveries, self._unacked.redelivered)
        failed = sum(delivery.message.consumer_tag == tag for delivery in deliveries)
        return 2 * failed >= self._subscription.prefetch and self._may_let_in_more()

    def _waits_in_on_error(self, delivery: Delivery) -> bool:
        """Whether a message may have to wait for as long as an alarm of the broker lasts."""
        since = delivery.in_on_error_since
        return since is not None and self.now() - since >= _LONG_ON_ERROR

    def _on_message(self, message: AbstractIncomingMessage) -> None:
        now = self.now()
        self._counts.count(message, now)
        delivery = delivered(
            message, self._counts.deliveries, now=now, breaker_now=self._breaker.now()
        )
        delivery.tenant = self._tenants.find(message)
        if delivery.kind is not Kind.NEW:
            self._note_known_failures(delivery)
        slot = self._slot_immediately(delivery)
        if slot is not None:
            self._start(delivery, slot)
            return
        self._unacked.add(delivery)
        self._start_attempts()
        if delivery not in self._attempting:
            self.wake()

    def _note_known_failures(self, delivery: Delivery) -> None:
        """Go on with what is known of a message that was delivered before."""
        known = self._returned_failures.take(delivery.message)
        if known is not None:
            delivery.kind, delivery.failures = Kind.FAILED, known
        if delivery.kind is Kind.FAILED:
            self._limit.evidence.adopt(delivery.failures)

    def _slot_immediately(self, delivery: Delivery) -> Slot | None:
        """Return a slot for a message that nothing else comes before: so it is nearly always."""
        if delivery.kind is not Kind.NEW or len(self._unacked) or self.stopping:
            return None
        if self._pacing.is_needed and self._held.must_wait(delivery):
            return None
        if not self._limit.is_closed:
            return None
        return self._limit.try_acquire(paced=self._pacing.is_paced(delivery.tenant))

    def _on_lost(self) -> None:
        everything = chain(self._unacked, self._held)
        self._returned_failures.keep(one for one in everything if not is_unsettled(one.message))
        self._unacked.drop_lost()
        self._held.drop_lost()
        self.wake()

    # Giving messages back

    async def _return_messages(self) -> None:
        """Give back the messages that were unacked for too long, or cannot be attempted now."""
        excess: list[Delivery] = []
        if self._breaker.state is CircuitState.OPEN and not self._attempting:
            # The circuit has opened: only as many new messages stay as the probes choose from.
            excess = self._unacked.new[self._probes_choose_from() :]
        received_before = self.now() - self._settings.max_unacked
        returned = [
            delivery
            for delivery in self._unacked
            if delivery.received_at <= received_before or delivery in excess
        ]
        await self._give_back(self._unacked, returned)
        if self._held.oldest <= received_before:
            held = [one for one in self._held if one.received_at <= received_before]
            await self._give_back(self._held, held)

    async def _give_back(self, kept: Unacked | HeldMessages, returned: list[Delivery]) -> None:
        """Give messages back to their queue, and keep those that the broker did not take."""
        for delivery in returned:
            kept.remove(delivery)
        self._returned_failures.keep(returned)  # They may come back before the last one is sent.
        await return_to_queue(delivery.message for delivery in returned)
        for delivery in returned:
            kept.add(delivery)  # Only if it is not settled.

    def _pass_over(self) -> None:
        """Move the messages to the end of the queue of which a tenant has too many here."""
        most = self._settings.max_unacked_per_tenant
        for delivery in self._held.excess(most, in_all=_MOST_HELD * most):
            if self._passing_over.may_move(delivery.message):
                self._held.remove(delivery)
                self._attempting.add(delivery)
                self.run_task(self._move(delivery))

    async def _move(self, delivery: Delivery) -> None:
        try:
            await self._passing_over.move(delivery.message, delivery.failures)
        finally:
            self._attempting.discard(delivery)
            self._held.add(delivery)  # Only if it is not settled.
            self.wake()

    # Which message is attempted next

    def _start_attempts(self) -> None:
        """Attempt messages for as long as there are some whose turn it is, and slots."""
        while not self.stopping and (delivery := self._next_ready()) is not None:
            slot = self._limit.try_acquire(paced=self._pacing.is_paced(delivery.tenant))
            if slot is None:
                self._wait_for_slot()
                return
            self._unacked.remove(delivery)
            self._start(delivery, slot)

    def _wait_for_slot(self) -> None:
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._attempt_next())

    async def _attempt_next(self) -> None:
        """Wait for a slot, and attempt the message whose turn it is then."""
        slot = await self._limit.acquire()
        delivery = None if self.stopping else self._next_ready()
        if delivery is None:
            slot.release()
            return
        self._unacked.remove(delivery)
        self._start(delivery, slot)
        self._waiting = None
        self._start_attempts()

    def _start(self, delivery: Delivery, slot: Slot) -> None:
        self._turns.begin(delivery.kind)
        delivery.started_at = self.now()
        self._attempting.add(delivery)
        call = None
        if self._pacing.is_needed:
            call = self._pacing.begin(delivery.tenant)
            self._held.look_again(delivery.tenant)
        self.run_task(self._attempt(delivery, slot, call))

    def _next_ready(self) -> Delivery | None:
        """Return the message whose turn it is, once those that wait for tenants are put aside."""
        if not self._pacing.is_needed and not len(self._held):
            return self._next()
        for delivery in self._held.release(self.now()):
            self._unacked.add(delivery)
        chosen = self._next()
        while chosen is not None and self._held.must_wait(chosen):
            self._unacked.remove(chosen)
            self._held.add(chosen)
            chosen = self._next()
        return chosen

    def _next(self) -> Delivery | None:
        """Return the message whose turn it is; None if none may be attempted now."""
        if not len(self._unacked):
            return None
        now = self.now()
        if not self._limit.is_closed:
            is_open = self._breaker.state is CircuitState.OPEN
            return None if is_open else self._next_probe(now)
        new = next_due(self._unacked.new, now, newest=False)
        if self._unacked.redelivered:
            redelivered = next_due(self._unacked.redelivered, now, newest=False)
            if redelivered is not None and self._may_attempt(Kind.REDELIVERED, new):
                new = redelivered
        if self._unacked.failed and self._may_attempt(Kind.FAILED, new):
            return self._unacked.next_failed(now) or new
        return new

    def _may_attempt(self, kind: Kind, new: Delivery | None) -> bool:
        return self._turns.may_attempt(
            kind, new_is_there=new is not None, new_may_come=self._waits_for_deliveries()
        )

    def _next_probe(self, now: float) -> Delivery | None:
        """Return the message to probe with.

        It is a new one: one that always fails must not keep the circuit from closing.
        """
        # The oldest ones may be of the same kind as those that have failed.
        has_choice = self._failed_probes > 0
        expects_new = self._expects_new()
        if has_choice and expects_new:
            return None
        new = next_due(self._unacked.new, now, newest=has_choice)
        if new is not None or expects_new:
            return new
        if self._probes_with_new():
            return None  # If it goes well, what fails afterwards fails because of itself.
        redelivered = next_due(self._unacked.redelivered, now, newest=has_choice)
        return redelivered or self._unacked.next_failed_probe(now)

    def _probes_with_new(self) -> bool:
        """Whether a probe with a new message is under way, within its lease."""
        since = self.now() - self._breaker.policy.probe_lease
        return any(
            one.kind is Kind.NEW and one.in_on_error_since is None and one.started_at > since
            for one in self._attempting
        )

    def _expects_new(self) -> bool:
        """Whether a new message may still be delivered for the next probe."""
        if len(self._unacked.new) >= self._probes_choose_from() or not self._may_let_in_more():
            return False
        return self._waits_for_deliveries()

    def _waits_for_deliveries(self) -> bool:
        """Whether the broker has not had the time yet to deliver what it has."""
        waited = self.now() - self._accepting_since
        return not self._subscription.prefetch or waited < _GRACE_PERIOD

    # One attempt

    async def _attempt(self, delivery: Delivery, slot: Slot, call: PacedCall | None) -> None:
        kind = delivery.kind
        stays_unacked = True  # A message whose attempt is cancelled is given back with the others.
        try:
            stays_unacked = await self._call_handler(delivery, slot, call)
        finally:
            self._attempting.discard(delivery)
            if stays_unacked:
                self._unacked.add(delivery)
            self._turns.end(kind)
            self._accepting_since = self.now()
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
        evidence = self._limit.evidence
        began, success = evidence.next_event(), evidence.success_since(delivery.failures)
        is_probe = self._is_half_open()
        attempting = self._handler.attempt(
            self._breaker, delivery.message, ignore_failures=delivery.failures.fails_by_itself
        )
        attempt = await end_with(call, attempting)
        disposition, error = attempt
        if disposition is Disposition.ACK:
            self._note_success(delivery, attempt, began)
            slot.release()  # The next message may be here before the ack was sent.
            await acknowledge(delivery.message)
            return False  # Even if the ack was not sent: what is done is not done again.
        if disposition is Disposition.ON_ERROR and isinstance(error, Exception):
            slot.release()  # To publish a dead letter can take as long as an alarm lasts.
            self._limit.record_end(attempt, began)
            delivery.failures.note(error)
            await self._handle_error(delivery, error)
        else:
            self._note_failure(delivery, attempt, success, is_probe=is_probe)
        self._postpone(delivery, attempt)
        return True

    def _is_half_open(self) -> bool:
        return not self._limit.is_closed and self._breaker.state is CircuitState.HALF_OPEN

    def _note_success(self, delivery: Delivery, attempt: Attempt, began: int) -> None:
        self._turns.succeeded(delivery.kind)
        if self._is_half_open():
            # A failed message might end the run of successes that closes the circuit.
            self._turns.new_is_next = True
        if delivery.failures.fails_by_itself:
            self._limit.evidence.doubt_known()
            self._limit.record_success()
        else:
            self._limit.record_end(attempt, began)

    def _note_failure(
        self, delivery: Delivery, attempt: Attempt, success: int, *, is_probe: bool
    ) -> None:
        """Note an attempt that has failed, unless a circuit rejected it.

        Args:
            delivery: The message.
            attempt: What came of the attempt.
            success: What had shown, before it began, that the region was working.
            is_probe: Whether it was a probe.
        """
        disposition, error = attempt
        region_failed = disposition is Disposition.REGION_FAILED
        if not isinstance(error, Exception) or disposition is Disposition.REJECTED:
            return
        if not self._waits_for_tenant(delivery, error):
            self._turns.failed(delivery.kind)
        self._failed_probes += is_probe and region_failed and delivery.kind is not Kind.FAILED
        delivery.failures.note(error)
        delivery.is_given_up = False
        self._limit.evidence.record_failure(
            delivery.failures, counts=region_failed, success=success
        )

    def _waits_for_tenant(self, delivery: Delivery, error: BaseException | None) -> bool:
        """Whether a message is as good as it was, and only its tenant has to wait."""
        return delivery.tenant != NO_TENANT and wait_asked_by(error) is not None

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
        if self._settings.max_attempts is None and self._settings.max_age is None:
            return
        for delivery in (*self._unacked.failed, *self._held):
            error = delivery.failures.error
            if error is None or delivery.is_given_up or not self._is_spent(delivery):
                continue
            (self._held if delivery in self._held else self._unacked).remove(delivery)
            self._attempting.add(delivery)
            self.run_task(self._give_up(delivery, error))

    def _is_spent(self, delivery: Delivery) -> bool:
        return delivery.failures.is_spent(self._settings.max_attempts, self._settings.max_age)

    async def _give_up(self, delivery: Delivery, error: Exception) -> None:
        try:
            delivery.is_given_up = True
            await self._handle_error(delivery, error)
        finally:
            self._attempting.discard(delivery)
            self._unacked.add(delivery)  # Only if it is not settled.
            self.wake()

    # When a message is attempted again

    def _postpone(self, delivery: Delivery, attempt: Attempt) -> None:
        """Set when a message that stays unacked is attempted again."""
        disposition, error = attempt
        if self._waits_for_tenant(delivery, error):
            return
        closed = self._limit.is_closed
        at_least = requested_delay(root_error(error)) or 0.0
        if isinstance(error, TenantThrottledError):
            at_least = error.retry_after
        rejection = rejection_in(error) if disposition is Disposition.REJECTED else None
        if rejection is not None and rejection.__cause__ is None:
            # It was not attempted.
            at_least = rejection.retry_after or 0.0
            if not closed:
                # It is as new as it was. Other code may hold the probe's place.
                wait = min(max(at_least, _GRACE_PERIOD), _LONGEST_WAIT_FOR_PLACE)
                delivery.due = self.now() + wait
                return
            # Another circuit, inside the handler, has rejected it.
        delivery.kind = Kind.FAILED
        delivery.waits_for_region = not delivery.failures.fails_by_itself and (
            disposition is Disposition.REGION_FAILED
            or (disposition is Disposition.REJECTED and not closed)
        )
        if delivery.waits_for_region and not closed:
            delivery.due = self.now()  # The circuit decides when.
        else:
            delivery.postpone(self.now(), at_least)

    # The backlog of an outage

    def _count_backlog(self) -> None:
        """Count the messages that wait, now and then, while there is a drain."""
        drain = self._pacing.drain
        is_counting = self._counting is not None and not self._counting.done()
        if drain is not None and not is_counting and self.now() >= self._count_at:
            self._counting = self.run_task(self._measure(drain))

    async def _measure(self, drain: RegionDrain) -> None:
        queue = self._subscription.queue
        ready = await self._subscription.count_ready()
        if ready is not None:
            failed = len(self._unacked.failed)
            waiting = ready + len(self._unacked) - failed + len(self._held)
            # The drain does not wait for those that have failed: some never succeed.
            drain.measure(queue, waiting, len(self._attempting) + failed)
        self._count_at = self.now() + drain.next_look()
        if drain.is_over:
            self._pacing.end_drain(drain)
        self.wake()

    def _leave_drain(self) -> None:
        """Take the queue out of a drain that goes on without it."""
        drain = self._pacing.drain
        if drain is not None:
            drain.forget(self._subscription.queue)
            if drain.is_over:
                self._pacing.end_drain(drain, why="its consumer has stopped")
