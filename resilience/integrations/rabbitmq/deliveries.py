"""What is counted of the deliveries from one queue."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.metrics import QueueStats
from resilience.integrations.rabbitmq.evidence import was_delivered_before


@dataclass(slots=True)
class DeliveryCounts:
    """The deliveries from one queue, counted in the event loop and read in any thread.

    Args:
        queue: The queue's name.
        region: The region of its messages; empty if they are of several regions.
    """

    queue: str
    region: str
    deliveries: int = 0
    redeliveries: int = 0
    parked: int = 0
    _last: float | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def count(self, message: AbstractIncomingMessage, now: float) -> None:
        """Count a delivery.

        Args:
            message: The message.
            now: The event loop's time.
        """
        self.deliveries += 1
        self.redeliveries += was_delivered_before(message)
        self._last = now

    def stats(self, received_at: Iterable[float], *, failed: int) -> QueueStats:
        """Return the figures of the queue.

        Args:
            received_at: When each of the unacked messages was delivered.
            failed: How many of them have failed.
        """
        times, now = tuple(received_at), self._loop.time()
        return QueueStats(
            queue=self.queue,
            region=self.region,
            unacked=len(times),
            failed=failed,
            deliveries=self.deliveries,
            redeliveries=self.redeliveries,
            parked=self.parked,
            oldest_unacked_age=max(0.0, now - min(times, default=now)),
            last_delivery_age=None if self._last is None else max(0.0, now - self._last),
        )
