"""The messages of one queue that were delivered and are not settled yet.

A new one has not been attempted. A failed one has, and is attempted again without going back to
the queue: on a quorum queue each return counts towards the delivery limit. A message that was
delivered before may have failed then.
"""

import math
import random
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.rabbitmq.amqp import is_unsettled
from resilience.integrations.rabbitmq.failure_record import (
    FailureRecord,
    record_of,
    was_delivered_before,
)
from resilience.integrations.rabbitmq.turns import Kind

_LONGEST_PAUSE = 60.0  # seconds between two attempts, unless the server asks for more
_MAX_DOUBLINGS = 6
# Seconds after which `on_error` is taken to wait for something.
_LONG_ON_ERROR = 1.0


@dataclass(eq=False, slots=True)
class Delivery:
    """One unacked message.

    Args:
        message: The message as it was delivered.
        number: Its position in the order of deliveries.
        received_at: When it was delivered, in the event loop's time.
    """

    message: AbstractIncomingMessage
    number: int
    received_at: float
    #: What is known about it.
    kind: Kind = Kind.NEW
    #: When it may be attempted, in the event loop's time.
    due: float = 0.0
    #: Whether it is due as soon as the region has recovered. A rate limit has to run out instead.
    waits_for_region: bool = True
    #: When its last attempt began, in the event loop's time.
    started_at: float = -math.inf
    #: Whether it was passed to `on_error`, which has not settled it, since it failed last.
    is_given_up: bool = False
    #: Since when `on_error` has it, in the event loop's time; None if it has not.
    in_on_error_since: float | None = None
    failures: FailureRecord = field(default_factory=FailureRecord)
    #: The tenant of the message; empty if it has none.
    tenant: str = ""
    _doublings: int = 0

    @property
    def long_in_on_error_at(self) -> float:
        """When `on_error` is taken to wait for something, such as the end of an alarm."""
        since = self.in_on_error_since
        return math.inf if since is None else since + _LONG_ON_ERROR

    def postpone(self, now: float, at_least: float = 0.0) -> None:
        """Put off the next attempt, for longer each time.

        Args:
            now: The event loop's time.
            at_least: Seconds that must pass before the next attempt. Up to a fifth is added, so
                that messages with the same request are not attempted at the same moment.
        """
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
        pause = min(2.0**self._doublings, _LONGEST_PAUSE) * jitter
        spread = random.uniform(0, 0.2 * at_least)  # noqa: S311 - the same
        self.due = now + max(pause, at_least) + spread
        self._doublings = min(self._doublings + 1, _MAX_DOUBLINGS)

    def region_recovered(self, now: float) -> None:
        """Make the next attempt due now, and its pauses short again."""
        if self.waits_for_region:
            self.due = min(self.due, now)
            self._doublings = 0


def delivered(
    message: AbstractIncomingMessage, number: int, *, now: float, breaker_now: float
) -> Delivery:
    """Return the delivery of a message, with what is known of earlier attempts.

    Args:
        message: The message as it was delivered.
        number: Its position in the order of deliveries.
        now: The event loop's time.
        breaker_now: The time of the breaker's clock.
    """
    delivery = Delivery(message, number, now)
    if was_delivered_before(message):
        delivery.failures = record_of(message, breaker_now)
        delivery.kind = Kind.FAILED if delivery.failures.attempts else Kind.REDELIVERED
    return delivery


@dataclass(slots=True)
class Unacked:
    """The unacked messages of one queue, except for those that are being attempted."""

    new: list[Delivery] = field(default_factory=list[Delivery])
    redelivered: list[Delivery] = field(default_factory=list[Delivery])
    failed: list[Delivery] = field(default_factory=list[Delivery])

    def __iter__(self) -> Iterator[Delivery]:
        """Iterate over all of them in the order of delivery."""
        return iter(sorted(chain(self.new, self.redelivered, self.failed), key=_number))

    def __len__(self) -> int:
        """Return the number of all of them."""
        return len(self.new) + len(self.redelivered) + len(self.failed)

    def add(self, delivery: Delivery) -> None:
        """Add a delivery at its position in the order, unless it can no longer be settled."""
        if is_unsettled(delivery.message):
            insort(self._of_kind(delivery.kind), delivery, key=_number)

    def remove(self, delivery: Delivery) -> None:
        """Remove a delivery."""
        self._of_kind(delivery.kind).remove(delivery)

    def drop_lost(self) -> None:
        """Forget the messages of channels that are gone: they are in the queue again."""
        for deliveries in (self.new, self.redelivered, self.failed):
            deliveries[:] = [one for one in deliveries if is_unsettled(one.message)]

    def next_failed(self, now: float) -> Delivery | None:
        """Return the failed message that has been due for the longest; None if none is."""
        earliest = min(self.failed, key=_due, default=None)
        return earliest if earliest is not None and earliest.due <= now else None

    def next_failed_probe(self, now: float) -> Delivery | None:
        """Return the failed message to probe with; None if none is due.

        Those that wait for the region are due. Those that are known to fail because of themselves
        come last: their failure shows nothing.
        """
        due = [one for one in self.failed if one.due <= now or one.waits_for_region]
        return min(due, key=_probe_order, default=None)

    def _of_kind(self, kind: Kind) -> list[Delivery]:
        if kind is Kind.NEW:
            return self.new
        return self.failed if kind is Kind.FAILED else self.redelivered


def next_due(deliveries: Sequence[Delivery], now: float, *, newest: bool) -> Delivery | None:
    """Return the first delivery that is due; None if there is none.

    Args:
        deliveries: The deliveries in their order.
        now: The event loop's time.
        newest: Whether to return the last one instead.
    """
    ordered = reversed(deliveries) if newest else iter(deliveries)
    return next((delivery for delivery in ordered if delivery.due <= now), None)


def _number(delivery: Delivery) -> int:
    return delivery.number


def _due(delivery: Delivery) -> float:
    return delivery.due


def _probe_order(delivery: Delivery) -> tuple[bool, float]:
    return delivery.failures.fails_by_itself, delivery.due
