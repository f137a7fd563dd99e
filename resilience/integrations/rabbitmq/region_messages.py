"""RegionMessages: the messages of one queue that were delivered and are not settled."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from resilience.integrations.rabbitmq.held import HeldMessages
from resilience.integrations.rabbitmq.turns import Kind
from resilience.integrations.rabbitmq.unacked import Delivery, Unacked


@dataclass(slots=True)
class RegionMessages:
    """The messages of one queue with messages of one region. Each is in one of three places.

    Args:
        held: Those that wait for their tenants.
    """

    held: HeldMessages
    #: Those that wait for their turn, or for their next attempt.
    unacked: Unacked = field(default_factory=Unacked)
    #: Those that are being attempted, are with `on_error`, or are being moved.
    attempting: set[Delivery] = field(default_factory=set[Delivery])

    def waiting(self) -> Iterator[Delivery]:
        """Iterate over those with which nothing is done at present."""
        return chain(self.unacked, self.held)

    def received_at(self) -> Iterator[float]:
        """Return when each of them was delivered; any thread may call this."""
        everything = (*self.unacked, *tuple(self.held), *tuple(self.attempting))
        return (delivery.received_at for delivery in everything)

    def count_failed(self, now: float) -> int:
        """Return how many have failed, or are with `on_error` for long.

        Args:
            now: The event loop's time.
        """
        attempting = sum(
            one.kind is Kind.FAILED or one.long_in_on_error_at <= now for one in self.attempting
        )
        return len(self.unacked.failed) + attempting

    def count_redelivered(self) -> int:
        """Return how many may have failed before they were delivered."""
        attempting = sum(one.kind is Kind.REDELIVERED for one in self.attempting)
        return len(self.unacked.redelivered) + attempting

    def count_in_the_way(
        self, consumer_tag: str | None, now: float, *, of_redelivered: bool
    ) -> int:
        """Return how many take up the prefetch of a consumer although others should be attempted.

        Args:
            consumer_tag: The consumer.
            now: The event loop's time.
            of_redelivered: Whether those count that may have failed before they were delivered.
        """
        with_on_error = (one for one in self.attempting if one.long_in_on_error_at <= now)
        redelivered = self.unacked.redelivered if of_redelivered else ()
        deliveries = chain(self.unacked.failed, with_on_error, redelivered)
        return sum(delivery.message.consumer_tag == consumer_tag for delivery in deliveries)

    def probes_with_new(self, since: float) -> bool:
        """Whether a new message is being attempted.

        Args:
            since: When its attempt must have begun at the earliest, in the event loop's time.
        """
        return any(
            one.kind is Kind.NEW and one.in_on_error_since is None and one.started_at > since
            for one in self.attempting
        )

    def due_times(self, max_unacked: float) -> Iterator[float]:
        """Yield when something has to be done with each of them, in the event loop's time.

        Args:
            max_unacked: Seconds after which an unacked message goes back to its queue.
        """
        for delivery in self.unacked:
            yield delivery.due
            yield delivery.received_at + max_unacked
        if self.held.look_at is not None:
            yield self.held.oldest + max_unacked
            yield self.held.look_at
        for delivery in self.attempting:
            if delivery.in_on_error_since is not None:
                yield delivery.long_in_on_error_at

    def drop_lost(self) -> None:
        """Forget the messages of channels that are gone: they are in the queue again."""
        self.unacked.drop_lost()
        self.held.drop_lost()
