"""The messages of one queue that were delivered and are not settled yet.

A new one has not been attempted. A failed one has, and is attempted again without going back to
the queue: on a quorum queue each return counts towards the delivery limit.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.rabbitmq.amqp import is_unsettled

_LONGEST_PAUSE = 60.0  # seconds between two attempts, unless the server asks for more
_MAX_DOUBLINGS = 6


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
    #: Whether the handler was called with it, and failed.
    attempted: bool = False
    #: When it may be attempted, in the event loop's time.
    due: float = 0.0
    #: Whether it is due as soon as the region has recovered. A rate limit has to run out instead.
    waits_for_region: bool = True
    _doublings: int = 0

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


@dataclass(slots=True)
class Unacked:
    """The unacked messages of one queue, except for those that are being attempted."""

    new: list[Delivery] = field(default_factory=list[Delivery])
    failed: list[Delivery] = field(default_factory=list[Delivery])

    def __iter__(self) -> Iterator[Delivery]:
        """Iterate over all of them in the order of delivery."""
        return iter(sorted(self.new + self.failed, key=_number))

    def add(self, delivery: Delivery) -> None:
        """Add a delivery at its position in the order, unless it can no longer be settled."""
        if is_unsettled(delivery.message):
            deliveries = self.failed if delivery.attempted else self.new
            deliveries.append(delivery)
            deliveries.sort(key=_number)

    def remove(self, delivery: Delivery) -> None:
        """Remove a delivery."""
        deliveries = self.failed if delivery in self.failed else self.new
        deliveries.remove(delivery)

    def drop_lost(self) -> None:
        """Forget the messages of channels that are gone: they are in the queue again."""
        self.new = [delivery for delivery in self.new if is_unsettled(delivery.message)]
        self.failed = [delivery for delivery in self.failed if is_unsettled(delivery.message)]

    def failed_due(self, now: float, *, probing: bool) -> list[Delivery]:
        """Return the failed messages that may be attempted again, the longest due first.

        Args:
            now: The event loop's time.
            probing: Whether the attempt is a probe: those that wait for the region are due then.
        """
        due = [
            delivery
            for delivery in self.failed
            if delivery.due <= now or (probing and delivery.waits_for_region)
        ]
        return sorted(due, key=lambda delivery: delivery.due)


def _number(delivery: Delivery) -> int:
    return delivery.number
