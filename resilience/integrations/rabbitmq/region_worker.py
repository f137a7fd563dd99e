"""RegionWorker: one queue with messages of one region, and when each of them is attempted.

The worker runs a loop. Each step reads the circuit and does what is to be done now: let in as many
messages as may be attempted, start those that are due, give back those that were unacked for too
long. Whatever happens elsewhere only wakes the loop, and nothing depends on the order of events.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from aio_pika.abc import AbstractIncomingMessage

from resilience.breaker import CircuitBreaker
from resilience.circuit import CircuitState
from resilience.classify import root_error
from resilience.integrations.rabbitmq.amqp import ConsumerError, acknowledge, return_to_queue
from resilience.integrations.rabbitmq.concurrency import (
    ConcurrencyLimit,
    Slot,
    attach_to_limit,
)
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.disposition import Disposition, rejection_in
from resilience.integrations.rabbitmq.handler import Attempt, MessageHandler
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.unacked import Delivery, Unacked
from resilience.integrations.rabbitmq.worker import Worker
from resilience.requested_delay import requested_delay

# Seconds that a probe waits for a new message before it takes one that has failed.
_GRACE_PERIOD = 0.25
# The most seconds that a message waits which was rejected while other code holds the probe's place.
_LONGEST_WAIT_FOR_PLACE = 1.0


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
            connection, queue, breaker.region, self._on_message, self._on_lost
        )
        self._warnings = ConsumerWarnings(queue)
        self._unacked = Unacked()
        self._delivered = 0
        # The deliveries whose attempt is running: they are not in `_unacked` meanwhile.
        self._attempting: set[Delivery] = set()
        # The tasks that wait for a slot.
        self._waiting: set[asyncio.Task[None]] = set()
        # When the prefetch was set, or an attempt ended, last: new messages may come since then.
        self._accepting_since = 0.0
        self._was_closed = True
        # Whether the next attempt should be one of a new message rather than of a failed one.
        self._new_is_next = False

    # The loop

    def attach(self) -> None:
        """Begin to follow the region's circuit."""
        self._limit, self._detach = attach_to_limit(
            self._breaker, self._settings.prefetch, self.wake
        )

    async def run(self) -> None:
        """Run the loop until `stop` is called."""
        try:
            while not self.stopping:
                self.awake.clear()
                began = self.now()
                self._note_recovery()
                await self._adjust_prefetch()
                self._request_slots()
                await self._return_messages()
                await self.sleep(self._seconds_to_next_step(began))
        finally:
            for task in self._waiting:
                task.cancel()
            try:
                await self._finish()
            finally:
                self._detach()

    def _note_recovery(self) -> None:
        """Make the failed messages due when the circuit has closed."""
        closed = self._breaker.state is CircuitState.CLOSED
        if closed and not self._was_closed:
            for delivery in self._unacked:
                delivery.region_recovered(self.now())
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

    async def _finish(self) -> None:
        """End the running calls, and give all other messages back."""
        with suppress(ConsumerError):
            await self._subscription.set_prefetch(0)
        await self.end_tasks()
        await return_to_queue(delivery.message for delivery in self._unacked)
        await self._subscription.close()

    # Letting messages in

    async def _adjust_prefetch(self) -> None:
        prefetch = self._wanted_prefetch()
        if prefetch != self._subscription.prefetch or (prefetch and self._is_stuck()):
            await self._subscription.set_prefetch(prefetch)
            self._accepting_since = self.now()

    def _wanted_prefetch(self) -> int:
        """Return how many messages may be let in."""
        state = self._breaker.state
        if state is CircuitState.OPEN:
            return 0
        if state is CircuitState.CLOSED:
            return min(self._settings.prefetch, self._limit.max_calls)
        if not self._may_let_in_more():
            return 0
        return min(self._settings.prefetch, self._breaker.policy.half_open_probes)

    def _may_let_in_more(self) -> bool:
        """Whether the failed messages leave room for new ones."""
        if self._new_is_next and self._breaker.state is CircuitState.HALF_OPEN:
            # If all that are held always fail, no other message would ever be attempted.
            return True
        failed = len(self._unacked.failed)
        failed += sum(delivery.attempted for delivery in self._attempting)
        has_room = failed < self._settings.max_failed_held
        if not has_room:
            self._warnings.warn(
                "full",
                f"holds {failed} messages that have failed (max_failed_held): "
                "fewer new ones are let in, until some of them have succeeded",
            )
        return has_room

    def _is_stuck(self) -> bool:
        """Whether failed messages take up so much of the prefetch that few new ones can come."""
        tag = self._subscription.consumer_tag
        failed = sum(delivery.message.consumer_tag == tag for delivery in self._unacked.failed)
        return 2 * failed >= self._subscription.prefetch and self._may_let_in_more()

    def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._delivered += 1
        self._unacked.add(Delivery(message, self._delivered, self.now()))
        self.wake()

    def _on_lost(self) -> None:
        self._unacked.drop_lost()
        self.wake()

    # Giving messages back

    async def _return_messages(self) -> None:
        """Give back the messages that were unacked for too long, or cannot be attempted now."""
        excess: list[Delivery] = []
        if self._breaker.state is CircuitState.OPEN and not self.running:
            # The circuit has opened: only as many new messages as there are probes stay.
            excess = self._unacked.new[self._breaker.policy.half_open_probes :]
        received_before = self.now() - self._settings.max_unacked
        returned = [
            delivery
            for delivery in self._unacked
            if delivery.received_at <= received_before or delivery in excess
        ]
        for delivery in returned:
            self._unacked.remove(delivery)
        await return_to_queue(delivery.message for delivery in returned)
        for delivery in returned:
            self._unacked.add(delivery)  # Only those that the broker did not take.

    # Which message is attempted next

    def _request_slots(self) -> None:
        """Wait for as many slots as there are messages to be attempted."""
        wanted = min(len(self._attemptable()), self._settings.prefetch)
        for _ in range(len(self._waiting), wanted):
            task = asyncio.create_task(self._attempt_next())
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def _attemptable(self) -> list[Delivery]:
        """Return the messages that may be attempted now, in the order of the attempts."""
        state, now = self._breaker.state, self.now()
        if state is CircuitState.OPEN:
            return []
        new = [delivery for delivery in self._unacked.new if delivery.due <= now]
        if state is CircuitState.CLOSED:
            failed = self._unacked.failed_due(now, probing=False)
            # In turn: several that always fail would open the circuit again.
            return new + failed if self._new_is_next else failed + new
        # A probe takes a new message: one that always fails must not keep the circuit from closing.
        if not self._expects_new():
            new += self._unacked.failed_due(now, probing=True)
        return new

    def _expects_new(self) -> bool:
        """Whether a new message may still be delivered for the next probe."""
        if not self._may_let_in_more():
            return False
        waited = self.now() - self._accepting_since
        return not self._subscription.prefetch or waited < _GRACE_PERIOD

    async def _attempt_next(self) -> None:
        """Wait for a slot, and attempt the message whose turn it is then."""
        slot = await self._limit.acquire()
        delivery: Delivery | None = None
        try:
            delivery = self._take_next()
        finally:
            if delivery is None:
                slot.release()
        if delivery is not None:
            self._attempting.add(delivery)
            self.run_task(self._attempt(delivery, slot))

    def _take_next(self) -> Delivery | None:
        attemptable = [] if self.stopping else self._attemptable()
        if not attemptable:
            return None
        delivery = attemptable[0]
        self._new_is_next = delivery.attempted
        self._unacked.remove(delivery)
        return delivery

    # One attempt

    async def _attempt(self, delivery: Delivery, slot: Slot) -> None:
        stays_unacked = True  # A message whose attempt is cancelled is given back with the others.
        try:
            attempt = await self._handler.attempt(self._breaker, delivery.message)
            if attempt.disposition is Disposition.ON_ERROR:
                slot.release()  # To publish a dead letter can take as long as an alarm lasts.
            stays_unacked = await self._settle(delivery, attempt)
        finally:
            self._attempting.discard(delivery)
            if stays_unacked:
                self._unacked.add(delivery)
            self._accepting_since = self.now()
            slot.release()

    async def _settle(self, delivery: Delivery, attempt: Attempt) -> bool:
        """Do with a message what its attempt calls for.

        Returns:
            Whether the message may stay unacked.
        """
        disposition, error = attempt
        if disposition in (Disposition.ACK, Disposition.ON_ERROR):
            self._limit.record_success()
        if disposition is Disposition.ACK:
            if self._breaker.state is CircuitState.HALF_OPEN:
                # A failed message might end the run of successes that closes the circuit.
                self._new_is_next = True
            await acknowledge(delivery.message)
            return False  # Even if the ack was not sent: what is done is not done again.
        if disposition is Disposition.ON_ERROR and isinstance(error, Exception):
            await self._handler.handle_error(
                self.region, delivery.message, error, from_wait_queue=self._is_wait_queue
            )
        self._postpone(delivery, attempt)
        return True

    def _postpone(self, delivery: Delivery, attempt: Attempt) -> None:
        """Set when a message that stays unacked is attempted again."""
        disposition, error = attempt
        closed = self._breaker.state is CircuitState.CLOSED
        at_least = requested_delay(root_error(error)) or 0.0
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
        delivery.attempted = True
        delivery.waits_for_region = disposition is Disposition.REGION_FAILED or (
            disposition is Disposition.REJECTED and not closed
        )
        if delivery.waits_for_region and not closed:
            delivery.due = self.now()  # The circuit decides when.
        else:
            delivery.postpone(self.now(), at_least)
