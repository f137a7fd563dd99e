"""The unacked messages that wait for their tenants, so that they are in nobody's way."""

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from resilience.integrations.rabbitmq.amqp import is_unsettled
from resilience.integrations.rabbitmq.pacing import NO_TENANT, Pacing
from resilience.integrations.rabbitmq.unacked import Delivery


@dataclass(slots=True)
class HeldMessages:
    """The messages of one queue that wait for their tenants, each tenant's in its order.

    Args:
        pacing: When the messages of a tenant may go on.
    """

    pacing: Pacing
    _by_tenant: dict[str, list[Delivery]] = field(default_factory=dict[str, list[Delivery]])
    # How many of them have a tenant, in all and by the consumer that they were delivered to.
    _of_tenants: int = 0
    _by_consumer: Counter[str | None] = field(default_factory=Counter[str | None])
    # What `release` has seen last, and when it has to look again at the latest.
    _seen: int = -1
    _look_at: float = 0.0
    # The tenants of which a message was released and not attempted yet, with when that was.
    _released: dict[str, float] = field(default_factory=dict[str, float])

    def __iter__(self) -> Iterator[Delivery]:
        """Iterate over all of them; any thread may do so while the event loop changes them."""
        for deliveries in tuple(self._by_tenant.values()):
            yield from tuple(deliveries)

    def __len__(self) -> int:
        """Return the number of all of them."""
        return sum(map(len, self._by_tenant.values()))

    @property
    def look_at(self) -> float | None:
        """When the next of them may go on, in the event loop's time; None if there are none."""
        return self._look_at if self._by_tenant else None

    def must_wait(self, delivery: Delivery) -> bool:
        """Whether a message has to wait for its tenant, or for earlier ones of the same tenant."""
        held = self._by_tenant.get(delivery.tenant)
        if held and held[0].number < delivery.number:
            return True
        return self.pacing.wait(delivery.tenant) > 0.0

    def add(self, delivery: Delivery) -> None:
        """Hold a message, unless it can no longer be settled."""
        if is_unsettled(delivery.message):
            insort(self._by_tenant.setdefault(delivery.tenant, []), delivery, key=_number)
            self._count(delivery, 1)
            self.look_again(delivery.tenant)

    def look_again(self, tenant: str) -> None:
        """Take note that nothing of a tenant is on its way any more."""
        self._released.pop(tenant, None)
        self._look_at = 0.0

    def remove(self, delivery: Delivery) -> None:
        """Remove a message."""
        held = self._by_tenant[delivery.tenant]
        held.remove(delivery)
        self._count(delivery, -1)
        if not held:
            del self._by_tenant[delivery.tenant]

    def drop_lost(self) -> None:
        """Forget the messages of channels that are gone: they are in the queue again."""
        lost = [delivery for delivery in self if not is_unsettled(delivery.message)]
        for delivery in lost:
            self.remove(delivery)

    def release(self, now: float) -> list[Delivery]:
        """Remove and return the messages that may go on: one of a tenant that is paced.

        Args:
            now: The event loop's time.
        """
        if not self._by_tenant or (now < self._look_at and self._seen == self.pacing.changes):
            return []
        self._seen = self.pacing.changes
        self._look_at = now + _LONGEST_PAUSE
        released: list[Delivery] = []
        for tenant, held in self._by_tenant.items():
            if now - self._released.get(tenant, -_LONGEST_PAUSE) < _LONGEST_PAUSE:
                continue
            wait = self.pacing.wait(tenant)
            if wait > 0.0:
                self._look_at = min(self._look_at, now + wait)
            elif self.pacing.holds_back(tenant):
                released.append(held[0])
                self._released[tenant] = now
            else:
                released += held
        for delivery in released:
            self.remove(delivery)
        return released

    @property
    def oldest(self) -> float:
        """When the message was delivered that waits for the longest, in the event loop's time."""
        firsts = (held[0].received_at for held in self._by_tenant.values())
        return min(firsts, default=math.inf)

    # Those of tenants

    @property
    def count(self) -> int:
        """How many messages wait that have a tenant."""
        return self._of_tenants

    def count_of(self, consumer_tag: str | None) -> int:
        """Return how many of them this consumer was delivered."""
        return self._by_consumer[consumer_tag]

    def _count(self, delivery: Delivery, change: int) -> None:
        if delivery.tenant != NO_TENANT:
            self._of_tenants += change
            self._by_consumer[delivery.message.consumer_tag] += change
            if not self._of_tenants:
                self._by_consumer.clear()

    def excess(self, most: int, *, in_all: int) -> list[Delivery]:
        """Return the latest messages of tenants that have too many of them here.

        Args:
            most: The most messages of one tenant.
            in_all: The most messages of all tenants, of which each has the same share.
        """
        if not self._by_tenant:
            return []
        most = min(most, max(1, in_all // len(self._by_tenant)))
        return [
            delivery
            for tenant, held in self._by_tenant.items()
            if tenant != NO_TENANT
            for delivery in held[most:]
        ]


_LONGEST_PAUSE = 1.0  # seconds


def _number(delivery: Delivery) -> int:
    return delivery.number
