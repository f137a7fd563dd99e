"""Backlog: how many messages of a region's queue wait, counted while an outage is worked off."""

import asyncio

from resilience.integrations.rabbitmq.pacing import Pacing
from resilience.integrations.rabbitmq.region_drain import RegionDrain
from resilience.integrations.rabbitmq.region_messages import RegionMessages
from resilience.integrations.rabbitmq.subscription import Subscription


class Backlog:
    """The part of one queue in the drains of its region.

    Args:
        subscription: The subscription to the queue.
        pacing: The pace of the region's messages.
        messages: The messages that were delivered.
    """

    def __init__(
        self, subscription: Subscription, pacing: Pacing, messages: RegionMessages
    ) -> None:
        self._subscription, self._pacing, self._messages = subscription, pacing, messages
        # When it is counted again while there is a drain, in the event loop's time.
        self._count_at = 0.0

    @property
    def count_at(self) -> float | None:
        """The event loop's time of the next count; None outside of a drain."""
        return None if self._pacing.drain is None else self._count_at

    def begin(self) -> None:
        """Take part in the drain after an outage."""
        self._pacing.begin_drain().expect(self._subscription.queue)
        self._count_at = asyncio.get_running_loop().time()

    async def count(self, drain: RegionDrain) -> None:
        """Count the messages that wait, and end a drain in which none does."""
        queue, unacked = self._subscription.queue, self._messages.unacked
        ready = await self._subscription.count_ready()
        if ready is not None:
            failed = len(unacked.failed)
            waiting = ready + len(unacked) - failed + len(self._messages.held)
            # The drain does not wait for those that have failed: some never succeed.
            drain.measure(queue, waiting, len(self._messages.attempting) + failed)
        self._count_at = asyncio.get_running_loop().time() + drain.next_look()
        if drain.is_over:
            self._pacing.end_drain(drain)

    def leave(self) -> None:
        """Take the queue out of a drain that goes on without it."""
        drain = self._pacing.drain
        if drain is not None:
            drain.forget(self._subscription.queue)
            if drain.is_over:
                self._pacing.end_drain(drain, why="its consumer has stopped")
